package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/plural"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/store"
)

// PrintDamage prints the damage in a store's shards, or all that is known of them as JSON. The error of a damaged store has the exit code Wrong.
func PrintDamage(w io.Writer, all []store.Inspected, asJSON bool) error {
	if asJSON {
		if err := json.NewEncoder(w).Encode(all); err != nil {
			return err
		}
	}
	var items, bad, pages, keys uint64
	unknown := 0
	for i := range all {
		d := &all[i].Damage
		items += all[i].Items
		bad += d.Corrupt + d.Unreadable
		pages += d.LostPages
		keys += d.LostKeys
		if d.Record != "" {
			unknown++
		}
		if !asJSON {
			printShardDamage(w, i, d)
		}
	}
	var wrong []string
	if bad > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %s in %s are damaged (put them again, or restore the folder from a backup)", bad, plural.Of(items, "item"), plural.Of(len(all), "shard")))
	}
	if pages > 0 {
		wrong = append(wrong, fmt.Sprintf("%s lost: up to %s may have an older value, be back although they were deleted, or be gone (restore the folder from a backup, or open it with what is left: kvwire serve --accept-loss)", plural.Are(pages, "page"), plural.Of(keys, "key")))
	}
	if unknown > 0 {
		wrong = append(wrong, fmt.Sprintf("in %d of %s it is not known whether pages were lost (restore the folder from a backup, or open it with what is there: kvwire serve --accept-loss)", unknown, plural.Of(len(all), "shard")))
	}
	if wrong != nil {
		return exit.With(exit.Wrong, errors.New(strings.Join(wrong, "; ")))
	}
	if !asJSON {
		fmt.Fprintf(w, "%s in %s, none damaged\n", plural.Of(items, "item"), plural.Of(len(all), "shard"))
	}
	return nil
}

// printShardDamage prints a shard's lost pages and damaged items.
func printShardDamage(w io.Writer, shard int, d *store.Damage) {
	named := uint64(0)
	for _, l := range d.Lost {
		fmt.Fprintf(w, "shard %d: lost: %v\n", shard, l)
		named += uint64(l.Pages)
	}
	if named < d.LostPages {
		fmt.Fprintf(w, "shard %d: … and %s more\n", shard, plural.Of(d.LostPages-named, "page"))
	}
	if d.Record != "" {
		fmt.Fprintf(w, "shard %d: %s, so it is not known whether pages were lost\n", shard, d.Record)
	}
	for _, c := range d.Items {
		what := "corrupt"
		if c.Key == "" {
			what = "unreadable"
		}
		fmt.Fprintf(w, "shard %d: %s: %v\n", c.Shard, what, c)
	}
	if n := uint64(len(d.Items)); n > 0 && n < d.Corrupt+d.Unreadable {
		fmt.Fprintf(w, "shard %d: … and %d more\n", shard, d.Corrupt+d.Unreadable-n)
	}
	if d.Unfinished > 0 {
		fmt.Fprintf(w, "shard %d: %d writes were interrupted by the end of a process; opening the store clears them\n", shard, d.Unfinished)
	}
}

// PrintStore prints how many items a store's shards have, what their slabs hold, and the memory that it takes to serve them.
func PrintStore(out io.Writer, all []store.Inspected) error {
	var sum store.Inspected
	slabs := map[int]store.SlabStats{}
	var sizes []int
	for i := range all {
		s := &all[i]
		sum.Items += s.Items
		sum.Tombstones += s.Tombstones
		sum.Stale += s.Stale
		sum.UsedBytes += s.UsedBytes
		sum.FileBytes += s.FileBytes
		sum.IndexBytes += s.IndexBytes
		sum.Duration = max(sum.Duration, s.Duration)
		sum.Damage.Corrupt += s.Damage.Corrupt + s.Damage.Unreadable
		sum.Damage.LostPages += s.Damage.LostPages
		for _, b := range s.Slabs {
			have, seen := slabs[b.SlotBytes]
			if !seen {
				sizes = append(sizes, b.SlotBytes)
			}
			b.Used += have.Used
			b.Free += have.Free
			b.Bytes += have.Bytes
			slabs[b.SlotBytes] = b
		}
	}
	fmt.Fprintf(out, "%s in %s, %s in %s of files (%.2f ×); %d damaged, %s lost\n", plural.Of(sum.Items, "item"), plural.Of(len(all), "shard"), Size(int64(sum.UsedBytes)), Size(int64(sum.FileBytes)),
		float64(sum.FileBytes)/max(float64(sum.UsedBytes), 1), sum.Damage.Corrupt, plural.Of(sum.Damage.LostPages, "page"))
	fmt.Fprintf(out, "%d tombstones, %d free slots with older copies; read in %v\n", sum.Tombstones, sum.Stale, sum.Duration.Round(time.Millisecond))
	fmt.Fprintf(out, "memory when it is served: index %s (%.1f B a key, the key included), the cache of --cache-bytes, and buffers\n\n",
		Size(int64(sum.IndexBytes)), float64(sum.IndexBytes)/max(float64(sum.Items), 1))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "slot bytes\tused\tfree\tfile\t")
	for _, n := range sizes {
		b := slabs[n]
		fmt.Fprintf(w, "%d\t%d\t%d\t%s\t\n", n, b.Used, b.Free, Size(int64(b.Bytes)))
	}
	return w.Flush()
}

// StoreProgress shows how much of a store's shards has been read.
type StoreProgress struct {
	line        *terminal.Line
	mu          sync.Mutex
	verb        string
	began       time.Time
	done, total map[int]int64 // bytes by shard
}

// NewStoreProgress returns a progress that begins now. verb is what is done with the store: opening, reading.
func NewStoreProgress(verb string) *StoreProgress {
	return &StoreProgress{line: terminal.Stderr(), verb: verb, began: time.Now(), done: map[int]int64{}, total: map[int]int64{}}
}

// Show sets how many bytes of a shard have been read. Any goroutine may call it.
func (p *StoreProgress) Show(shard, shards int, done, total int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done[shard], p.total[shard] = done, total
	var have, all int64
	for i := range p.total {
		have += p.done[i]
		all += p.total[i]
	}
	took := time.Since(p.began)
	if took < time.Second/2 || have == 0 {
		return
	}
	all = all / int64(len(p.total)) * int64(max(shards, len(p.total))) // those that have not begun are as large
	left := time.Duration(float64(took) * float64(all-have) / float64(have))
	p.line.Show("%s the store: %s of %s, %d %%, %v left", p.verb, Size(have), Size(all), 100*have/max(all, 1), left.Round(time.Second))
	if have >= all {
		p.line.Clear()
	}
}

// Clear removes the line, at the end.
func (p *StoreProgress) Clear() { p.line.Clear() }
