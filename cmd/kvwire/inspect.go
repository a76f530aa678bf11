package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/store"
)

const checkHelp = `Usage: kvwire check DIR

Examples:
  kvwire check /data/kv
  kvwire check --json /data/kv | jq '.[].damage'

Reads every slot of the store in DIR, verifies its checksums, and names what is damaged: shard, slab, slot and key. It also compares
each page with the account of pages that the store wrote when it was last closed or opened, and names lost pages. The last changes of the
keys on a lost page are gone: such a key may have an older value, or be back although it was deleted.
Nothing is changed; nobody may have the store open. Exit code 4: there are corrupt or unreadable items, or lost pages.`

const statHelp = `Usage: kvwire stat DIR

Examples:
  kvwire stat /data/kv
  kvwire stat --json /data/kv

Prints how many items the store in DIR has, what its slabs hold, and the memory that its index takes.
Nothing is changed; nobody may have the store open: ask a server that serves it with kvwire bench --target, or look at its CSV.`

// inspectFolder reads the arguments of check and stat, and looks at the store.
func inspectFolder(name, help string, args []string) (all []store.Inspected, asJSON bool, err error) {
	set := newFlags(name, help)
	set.BoolVar(&asJSON, "json", false, "everything, as JSON")
	if err := parseFlags(set, args); err != nil {
		return nil, false, err
	}
	if set.NArg() != 1 {
		return nil, false, usagef("%s needs one folder (kvwire %s DIR)", name, name)
	}
	p := newRecovery("reading")
	all, err = store.Inspect(set.Arg(0), p.show)
	p.Clear()
	return all, asJSON, err
}

func checkCommand(_ context.Context, args []string) error {
	all, asJSON, err := inspectFolder("check", checkHelp, args)
	if err != nil {
		return err
	}
	if asJSON {
		if err := json.NewEncoder(stdout).Encode(all); err != nil {
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
			printLost(i, d)
		}
		for n, c := range d.Items {
			if asJSON {
				break
			}
			what := "corrupt"
			if c.Key == "" {
				what = "unreadable"
			}
			fmt.Fprintf(stdout, "shard %d: %s: %v\n", c.Shard, what, c)
			if n+1 == len(d.Items) && uint64(len(d.Items)) < d.Corrupt+d.Unreadable {
				fmt.Fprintf(stdout, "shard %d: … and %d more\n", c.Shard, d.Corrupt+d.Unreadable-uint64(len(d.Items)))
			}
		}
		if d.Unfinished > 0 && !asJSON {
			fmt.Fprintf(stdout, "shard %d: %d writes that the end of a process cut short; opening the store clears them\n", i, d.Unfinished)
		}
	}
	var wrong []string
	if bad > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %d items in %d shards are damaged (put them again, or restore the folder from a backup)", bad, items, len(all)))
	}
	if pages > 0 {
		wrong = append(wrong, fmt.Sprintf("%d pages are lost: up to %d keys may have an older value, be back although they were deleted, or be gone (restore the folder from a backup, or open it with what is left: kvwire serve --accept-loss)", pages, keys))
	}
	if unknown > 0 {
		wrong = append(wrong, fmt.Sprintf("in %d of %d shards it is not known whether pages were lost (restore the folder from a backup, or open it with what is there: kvwire serve --accept-loss)", unknown, len(all)))
	}
	if wrong != nil {
		return exit.With(exit.Wrong, errors.New(strings.Join(wrong, "; ")))
	}
	if !asJSON {
		fmt.Fprintf(stdout, "%d items in %d shards, none damaged\n", items, len(all))
	}
	return nil
}

// printLost names a shard's lost pages.
func printLost(shard int, d *store.Damage) {
	named := uint64(0)
	for _, l := range d.Lost {
		fmt.Fprintf(stdout, "shard %d: lost: %v\n", shard, l)
		named += uint64(l.Pages)
	}
	if named < d.LostPages {
		fmt.Fprintf(stdout, "shard %d: … and %d pages more\n", shard, d.LostPages-named)
	}
	if d.Record != "" {
		fmt.Fprintf(stdout, "shard %d: %s, so it is not known whether pages were lost\n", shard, d.Record)
	}
}

func statCommand(_ context.Context, args []string) error {
	all, asJSON, err := inspectFolder("stat", statHelp, args)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(stdout).Encode(all)
	}
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
	fmt.Fprintf(stdout, "%d items in %d shards, %s in %s of files (%.2f ×); %d damaged, %d pages lost\n", sum.Items, len(all), report.Size(int64(sum.UsedBytes)), report.Size(int64(sum.FileBytes)),
		float64(sum.FileBytes)/max(float64(sum.UsedBytes), 1), sum.Damage.Corrupt, sum.Damage.LostPages)
	fmt.Fprintf(stdout, "%d tombstones, %d free slots with older copies; read in %v\n", sum.Tombstones, sum.Stale, sum.Duration.Round(time.Millisecond))
	fmt.Fprintf(stdout, "memory when it is served: index %s (%.1f B a key, the key included), cache as --cache-bytes says, and buffers\n\n",
		report.Size(int64(sum.IndexBytes)), float64(sum.IndexBytes)/max(float64(sum.Items), 1))
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "slot bytes\tused\tfree\tfile\t")
	for _, n := range sizes {
		b := slabs[n]
		fmt.Fprintf(w, "%d\t%d\t%d\t%s\t\n", n, b.Used, b.Free, report.Size(int64(b.Bytes)))
	}
	return w.Flush()
}

// recovery shows how far several shards have been read.
type recovery struct {
	*terminal.Line
	mu          sync.Mutex
	what        string
	began       time.Time
	done, total map[int]int64
}

func newRecovery(what string) *recovery {
	return &recovery{Line: terminal.Stderr(), what: what, began: time.Now(), done: map[int]int64{}, total: map[int]int64{}}
}

// show is store.Inspect's progress. Any goroutine may call it.
func (r *recovery) show(shard, shards int, done, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[shard], r.total[shard] = done, total
	var have, all int64
	for i := range r.total {
		have += r.done[i]
		all += r.total[i]
	}
	took := time.Since(r.began)
	if took < time.Second/2 || have == 0 {
		return
	}
	all = all / int64(len(r.total)) * int64(max(shards, len(r.total))) // those that have not begun are as large
	left := time.Duration(float64(took) * float64(all-have) / float64(have))
	r.Show("%s the store: %s of %s, %d %%, %v left", r.what, report.Size(have), report.Size(all), 100*have/max(all, 1), left.Round(time.Second))
	if have >= all {
		r.Clear()
	}
}
