package store

import "testing"

// The footprint of a real store is tested with kvwire load, in cmd/kvwire.
func TestFileBytesFollowsTheClassesOfSlots(t *testing.T) {
	const mib = 1 << 20
	ahead := int64(mib + mib/4)            // of the first extent
	large := int64(8<<10) * 17 * pageBytes // 64 KiB take 17 pages
	for name, c := range map[string]struct {
		items   int64
		key     int
		sample  []int
		shards  int
		changed bool
		want    int64
	}{
		"32 slots of 128 B in a page":       {32 * 100, 16, []int{64}, 1, false, 100*pageBytes + ahead},
		"a page and its neighbour":          {10, 16, []int{4096}, 1, false, 10*2*pageBytes + ahead},
		"a part of a page is a page":        {1, 16, []int{64}, 1, false, pageBytes + ahead},
		"a quarter more where changed":      {32 * 100, 16, []int{64}, 1, true, 125*pageBytes + ahead},
		"each shard grows by itself":        {32 * 100, 16, []int{64}, 4, false, 100*pageBytes + 4*ahead},
		"two sizes, two slabs":              {64, 16, []int{64, 4096}, 1, false, pageBytes + 32*2*pageBytes + 2*ahead},
		"no larger than the largest slot":   {1, 16, []int{2 * mib}, 1, false, 513*pageBytes + 513*pageBytes*5/4},
		"a large slab grows by a 16th":      {8 << 10, 16, []int{64 << 10}, 1, false, large + large/16 + large/64},
		"but by no more than 64 MiB a go":   {64 << 10, 16, []int{64 << 10}, 1, false, 8*large + 80*mib},
		"and nothing takes as good as none": {0, 16, []int{64}, 1, false, ahead},
	} {
		got := FileBytes(c.items, c.key, c.sample, c.shards, c.changed)
		if want := c.want + int64(c.shards)*extentMin; got != want { // each shard has room for tombstones
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}
