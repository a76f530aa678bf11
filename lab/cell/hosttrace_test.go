package cell

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/bench"
)

// pieces are the commands that send content, of so many bytes each.
func pieces(name string, content []byte, each int, o bench.TraceOptions) (all []*traceChunk) {
	for len(content) > each {
		all = append(all, &traceChunk{Name: name, Options: o, Content: content[:each]})
		content = content[each:]
	}
	return append(all, &traceChunk{Name: name, Options: o, Content: content, End: true})
}

func TestATraceThatArrivesInPiecesIsTheFiles(t *testing.T) {
	var text strings.Builder
	text.WriteString("time,op,key,size\n")
	for i := range 3000 {
		fmt.Fprintf(&text, "%d,%s,key%d,%d\n", i, []string{"get", "put", "delete"}[i%3], i*7%101, i%900)
	}
	plain := []byte(text.String())
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	o := bench.TraceOptions{Unit: bench.Microseconds}
	for name, content := range map[string][]byte{"a.csv": plain, "a.csv.gz": packed.Bytes()} {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		want, err := bench.ReadTrace(t.Context(), path, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, each := range []int{97, len(content), len(content) / 2, traceChunkBytes} {
			h := &loadHostProcess{}
			for _, c := range pieces(name, content, each, o) {
				r, err := h.receive(t.Context(), c)
				if err != nil || (r.Trace == want.Name()) != c.End || (r.Trace != "") != c.End {
					t.Fatalf("%s in pieces of %d: %+v, %v", name, each, r, err)
				}
			}
			least, most := h.trace.ValueBytes()
			if l, m := want.ValueBytes(); h.arrive != nil || h.trace.Rows() != want.Rows() || h.trace.Keys() != want.Keys() || h.trace.Records() != want.Records() || h.trace.Mix() != want.Mix() || l != least || m != most {
				t.Errorf("%s in pieces of %d: %d rows of %d", name, each, h.trace.Rows(), want.Rows())
			}
		}
	}
}

func TestATraceThatCannotBeReadEndsTheLoadHost(t *testing.T) {
	for name, c := range map[string]struct{ content, want string }{
		"a wrong line": {"time,op,key,size\n0,incr,a,1\n", `t.csv:2: op "incr" is not replayed`},
		"nothing":      {"", "t.csv: the file is empty"},
	} {
		h := &loadHostProcess{}
		var err error
		for _, p := range pieces("t.csv", []byte(c.content), 5, bench.TraceOptions{}) {
			if _, err = h.receive(t.Context(), p); err != nil {
				break
			}
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if h.arrive != nil {
			h.arrive.abandon()
		}
	}
	h := &loadHostProcess{}
	if _, err := h.receive(t.Context(), &traceChunk{Name: "t.csv", Options: bench.TraceOptions{Format: 99}, End: true}); err == nil || !strings.Contains(err.Error(), "trace format 99") {
		t.Errorf("an unknown format: %v", err)
	}
}

// A load host whose input ends within a trace waits for nothing.
func TestATraceThatIsCutOffIsAbandoned(t *testing.T) {
	h := &loadHostProcess{}
	if _, err := h.receive(context.Background(), &traceChunk{Name: "t.csv", Content: []byte("time,op,key,size\n0,get,a,")}); err != nil {
		t.Fatal(err)
	}
	a := h.arrive
	a.abandon()
	if err := a.write([]byte("1\n")); err == nil {
		t.Error("more of it was read")
	}
}
