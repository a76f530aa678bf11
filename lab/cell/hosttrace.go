package cell

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/kvwire/kvwire/bench"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/internal/textfile"
)

// A trace is a file on the host of the run. Load hosts get its content in pieces, a command for each, and read it as the run's process has read it. Each has all
// rows then, and replays those of its threads' keys.

// traceChunkBytes bounds the content in a command. With base64 it is 683 KiB, less than a line of commands may have.
const traceChunkBytes = 512 << 10

// traceChunk is a piece of the file, in a command to a load host.
type traceChunk struct {
	Name    string             `json:"name"` // of the file, without folders
	Options bench.TraceOptions `json:"options"`
	Content []byte             `json:"content"`
	End     bool               `json:"end,omitempty"` // it is the last piece
}

// received is a load host's reply to it.
type received struct {
	Trace string `json:"trace"` // the trace's name, which has the content's SHA-256; "" before the last piece
}

// sendTrace sends the trace to all hosts. Each replies to a piece before it gets the next one.
func (s *loadHosts) sendTrace(ctx context.Context) error {
	of, err := s.f.traceFile()
	if err != nil {
		return err
	}
	file, err := textfile.Open(of.path)
	if err != nil {
		return fmt.Errorf("trace: %w", err)
	}
	defer file.Close()
	piece := make([]byte, traceChunkBytes)
	for {
		n, err := io.ReadFull(file, piece)
		end := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !end {
			return fmt.Errorf("trace: %w", err)
		}
		c := command{Trace: &traceChunk{Name: filepath.Base(of.path), Options: of.options, Content: piece[:n], End: end}}
		all, err := s.do(ctx, func(int) command { return c }, "that it has received a piece of the trace", func(r *reply) bool { return r.Received != nil })
		if err != nil {
			return err
		}
		if !end {
			continue
		}
		for i, r := range all {
			if here := quote.Text(s.f.Replay.Name()); r.Received.Trace != here {
				return fmt.Errorf("%s has the trace %s, and not %s: the file has changed since it was read", s.hosts[i].Name, r.Received.Trace, here)
			}
		}
		return nil
	}
}

// receive takes a piece of a trace, and after the last one the trace.
func (h *loadHostProcess) receive(ctx context.Context, c *traceChunk) (*received, error) {
	if h.arrive == nil {
		h.arrive = startArrival(ctx, c)
	}
	err := h.arrive.write(c.Content)
	if err != nil || !c.End {
		return &received{}, err
	}
	h.trace, err = h.arrive.finish()
	if h.arrive = nil; err != nil {
		return nil, err
	}
	return &received{Trace: h.trace.Name()}, nil
}

// traceArrival is a trace that arrives in pieces. It belongs to the goroutine that calls its methods, and has one that reads the trace from the pieces.
type traceArrival struct {
	pieces *io.PipeWriter
	read   chan readTrace // one value
}

// readTrace is a trace that was read, or the reason why it could not be.
type readTrace struct {
	trace *bench.Trace
	err   error
}

func startArrival(ctx context.Context, first *traceChunk) *traceArrival {
	content, pieces := io.Pipe()
	a := &traceArrival{pieces: pieces, read: make(chan readTrace, 1)}
	go func() {
		t, err := bench.ReadTraceFrom(ctx, first.Name, content, first.Options)
		_ = content.CloseWithError(cmp.Or(err, io.ErrClosedPipe)) // nobody reads later pieces
		a.read <- readTrace{t, err}
	}()
	return a
}

// write hands on a piece. It returns the error of a trace that cannot be read.
func (a *traceArrival) write(piece []byte) error {
	_, err := a.pieces.Write(piece)
	return err
}

// finish waits for the trace after the last piece.
func (a *traceArrival) finish() (*bench.Trace, error) {
	_ = a.pieces.Close()
	r := <-a.read
	return r.trace, r.err
}

// abandon ends the reading of a trace whose last piece does not come.
func (a *traceArrival) abandon() {
	_ = a.pieces.CloseWithError(errors.New("the trace was cut off"))
	<-a.read
}
