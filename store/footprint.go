package store

// FileBytes estimates the most disk space that a store's slabs need after items keys of keyBytes each were loaded, spread over that many
// shards. sample has the lengths of values, each as often as its share. changed adds the quarter of slots that a store grows by when its
// items are changed (spareShift).
func FileBytes(items int64, keyBytes int, sample []int, shards int, changed bool) int64 {
	share := map[uint8]int64{} // of sample
	for _, value := range sample {
		share[classOf(itemBytes(keyBytes, value))]++
	}
	sum := int64(shards) * extentMin // room for tombstones
	for c, n := range share {
		s := newSlab(c)
		slots := (items*n + int64(len(sample)) - 1) / int64(len(sample))
		bytes := (slots + int64(s.free.perUnit) - 1) / int64(s.free.perUnit) * s.unitBytes()
		if changed {
			bytes += bytes >> spareShift
		}
		ahead := min(max(extentOne, bytes/int64(shards)/16), extentMax) // see nextExtent
		ahead = max(ahead, s.unitBytes())
		sum += bytes + int64(shards)*(ahead+ahead/4) // it grows when a quarter of the last extent is left
	}
	return sum
}
