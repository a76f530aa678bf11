package interrupt

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/kvwire/kvwire/internal/exit"
)

func TestACanceledCommandWasInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := errors.New("the disk is full")
	for _, c := range []struct {
		err, want error
	}{
		{context.Canceled, errEarly},
		{errors.Join(fmt.Errorf("the server did not start: %w", context.Canceled), nil), errEarly},
		{exit.Usagef("trace: %w", context.Canceled), errEarly},
		{errors.Join(context.Canceled, other), other},
		{nil, Err},
	} {
		if got := With(ctx, c.err); !errors.Is(got, c.want) || exit.Code(got) != exit.Interrupted {
			t.Errorf("%v: %v, exit code %d", c.err, got, exit.Code(got))
		}
	}
	if got := With(t.Context(), other); got != other {
		t.Errorf("not interrupted: %v", got)
	}
}
