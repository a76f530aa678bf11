package verify

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/kvwire/kvwire/kv"
)

// checkMax bounds the time of the check of one key. A longer check is undecided.
const checkMax = 20 * time.Second

// ErrViolation means that no single copy of the data could have given these answers.
var ErrViolation = errors.New("not linearizable")

// ErrUndecided means that a check exceeded its time: neither a pass nor a violation.
var ErrUndecided = errors.New("undecided")

// Check checks the form of scans, and then searches, key by key, for an order of the operations that explains all answers, in which each
// operation has its effect at a moment between its start and its end. An error is ErrViolation or ErrUndecided. It describes the operations, and
// names the file in the folder out with a picture of them.
func (h *History) Check(out string) error {
	for _, o := range h.ops {
		if text := scanForm(o); text != "" {
			return fmt.Errorf("%w: %s: %s", ErrViolation, o, text)
		}
	}
	by := h.perKey()
	var undecided error
	for _, key := range slices.Sorted(maps.Keys(by)) {
		ops := by[key]
		result, info := porcupine.CheckOperationsVerbose(model, porcupineOps(ops), checkMax)
		switch result {
		case porcupine.Unknown:
			undecided = fmt.Errorf("%w: key %s: %d operations need more than %v to check: make histories shorter", ErrUndecided, key, len(ops), checkMax)
		case porcupine.Illegal:
			file := filepath.Join(out, "violation-"+key+".html")
			err := os.MkdirAll(out, 0o755)
			if err == nil {
				err = porcupine.VisualizePath(model, info, file)
			}
			if err != nil {
				file = "nothing: " + err.Error()
			}
			return fmt.Errorf("%w: %s\n(for a picture open %s)", ErrViolation, h.explain(key, ops), file)
		}
	}
	return undecided
}

// scanForm returns what is wrong with a scan's answer, independent of other operations; "": nothing. Keys must ascend, be in the range and not more than
// requested, and all fillers of the range must have their values.
func scanForm(o *operation) string {
	if o.call.Op != kv.OpScan || o.end == nil || o.end.Status != kv.StatusOK {
		return ""
	}
	if n := len(o.end.Items); n > o.call.Limit {
		return fmt.Sprintf("%d items", n)
	}
	filler := 0
	for filler < fillers && fillerKey(filler) < o.call.Key {
		filler++
	}
	for i, it := range o.end.Items {
		switch {
		case it.Key < o.call.Key:
			return fmt.Sprintf("%s is below the range", it.Key)
		case i > 0 && it.Key <= o.end.Items[i-1].Key:
			return fmt.Sprintf("%s follows %s", it.Key, o.end.Items[i-1].Key)
		case !strings.HasPrefix(it.Key, "z"):
		case filler == fillers || it.Key != fillerKey(filler):
			return fmt.Sprintf("%s comes where filler %d should be", it.Key, filler)
		case it.State != fillerState(filler):
			return fmt.Sprintf("%s has %s, which was never written", it.Key, it.State)
		default:
			filler++
		}
	}
	if filler < fillers && inRange(o, fillerKey(filler)) {
		return fmt.Sprintf("%s is missing", fillerKey(filler))
	}
	return ""
}

// model is the model of one key. Its state is stateOf its value, or absent.
var model = porcupine.Model{
	Init: func() any { return absent },
	Step: func(state, in, out any) (bool, any) {
		ok, next := step(state.(string), in.(*event), out.(*event))
		return ok, next
	},
	DescribeOperation: func(in, out any) string { return describe(in.(*event), out.(*event)) },
	DescribeState:     func(s any) string { return s.(string) },
}

// step reports whether a key in a state can give this answer to a call, and returns its next state. Without an end, every answer is possible.
func step(state string, call, end *event) (ok bool, next string) {
	status, got, next := kv.StatusOK, "", state
	there := state != absent
	switch call.Op {
	case kv.OpGet, kv.OpScan:
		if got = state; !there {
			status = kv.StatusNotFound
		}
	case kv.OpDelete:
		if next = absent; !there {
			status = kv.StatusNotFound
		}
	case kv.OpPut, kv.OpSwap:
		if call.Op == kv.OpSwap {
			got = state
		}
		switch {
		case there && call.If == kv.IfAbsent:
			status = kv.StatusExists
		case !there && call.If == kv.IfPresent:
			status, got = kv.StatusNotFound, ""
		default:
			next = call.Wrote
		}
	case kv.OpAppend:
		if next = call.Wrote; there {
			next = state + "+" + call.Wrote
		}
		got = next
	case kv.OpAdd:
		text, _ := strconv.Unquote(state)
		n, _ := strconv.ParseInt(text, 10, 64)
		next = counted(n + call.By)
		got = next
	}
	return end == nil || end.Status == status && end.Got == got, next
}

// porcupineOps converts operations. In the picture each worker of each process has a line, and so has each operation without an outcome, since it has no end.
func porcupineOps(ops []*operation) (all []porcupine.Operation) {
	lines := map[[2]int]int{}
	for _, o := range ops {
		if o.hasOutcome() {
			lines[[2]int{o.process, o.call.Worker}] = 0
		}
	}
	for i, w := range slices.SortedFunc(maps.Keys(lines), func(a, b [2]int) int { return slices.Compare(a[:], b[:]) }) {
		lines[w] = i
	}
	open := len(lines)
	for _, o := range ops {
		p := porcupine.Operation{ClientId: lines[[2]int{o.process, o.call.Worker}], Input: &o.call, Call: o.call.At, Output: o.outcome(), Return: math.MaxInt64}
		if o.hasOutcome() {
			p.Return = o.end.At
		} else {
			p.ClientId = open
			open++
		}
		all = append(all, p)
	}
	return all
}

// outcome is the end of an operation whose outcome is known, else nil.
func (o *operation) outcome() *event {
	if o.hasOutcome() {
		return o.end
	}
	return nil
}

// explain finds the first operation, by its end, with which no order explains the answers, while those before it can be explained.
// (Every part of a linearizable history up to a moment is linearizable.)
func (h *History) explain(key string, ops []*operation) string {
	ends := slices.DeleteFunc(slices.Clone(ops), func(o *operation) bool { return !o.hasOutcome() })
	slices.SortFunc(ends, func(a, b *operation) int { return cmp.Compare(a.end.At, b.end.At) })
	upTo := func(n int) (part []*operation) { // the operations when the n-th has ended
		at := ends[n].end.At
		for _, o := range ops {
			switch {
			case o.call.At > at:
			case o.hasOutcome() && o.end.At <= at:
				part = append(part, o)
			case o.call.Op != kv.OpGet && o.call.Op != kv.OpScan:
				part = append(part, &operation{process: o.process, call: o.call})
			}
		}
		return part
	}
	first := sort.Search(len(ends), func(n int) bool {
		return porcupine.CheckOperationsTimeout(model, porcupineOps(upTo(n)), checkMax) == porcupine.Illegal
	})
	if first == len(ends) {
		return fmt.Sprintf("key %s: no order of its %d operations explains their answers", key, len(ops))
	}
	part, wrong := upTo(first), ends[first]
	from := slices.MinFunc(part, func(a, b *operation) int { return cmp.Compare(a.call.At, b.call.At) }).call.At
	var before []note
	for _, o := range part {
		if o != wrong {
			before = append(before, note{o.call.At, o.line(from)})
		}
	}
	for _, n := range h.notes {
		if n.at > from && n.at < wrong.end.At {
			before = append(before, note{n.at, fmt.Sprintf("%9s   %s", since(from, n.at), n.text)})
		}
	}
	slices.SortFunc(before, func(a, b note) int { return cmp.Compare(a.at, b.at) })
	var b strings.Builder
	fmt.Fprintf(&b, "key %s: no order of its first %d operations explains\n  %s\nThe last operations before it, in ms (…: the outcome is not known; it may be done at any time after its start):", key, len(part), wrong.line(from))
	for _, n := range before[max(0, len(before)-16):] {
		b.WriteString("\n  " + n.text)
	}
	return b.String()
}

// since is a time in ms.
func since(from, at int64) string { return fmt.Sprintf("%.3f", float64(at-from)/1e6) }

// line formats an operation with its times since from.
func (o *operation) line(from int64) string {
	until := "…"
	if o.hasOutcome() {
		until = since(from, o.end.At)
	}
	return fmt.Sprintf("%9s – %-9s %s", since(from, o.call.At), until, o)
}

// String formats the operation with its process and worker.
func (o *operation) String() string {
	return fmt.Sprintf("%d.%d: %s", o.process, o.call.Worker, describe(&o.call, o.outcome()))
}

func describe(call, end *event) string {
	s := call.Op.String()
	switch {
	case call.Op == kv.OpAdd:
		s += fmt.Sprintf(" %d", call.By)
	case call.Op == kv.OpScan:
		s += fmt.Sprintf(" from %s, %d at most", call.Key, call.Limit)
	case call.Wrote != "":
		s += " " + call.Wrote
	}
	s += [...]string{"", " if absent", " if present"}[call.If]
	switch {
	case end == nil:
		return s + ": no outcome"
	case end.Status != kv.StatusOK:
		s += ": " + end.Status.String()
	default:
		s += ": ok"
	}
	if end.Got != "" && end.Got != absent {
		s += ", " + end.Got
	}
	return s
}
