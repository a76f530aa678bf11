package terminal

import (
	"fmt"
	"os"
	"testing"
)

// The first error stays, whatever is written later.
func TestOutputKeepsTheFirstError(t *testing.T) {
	stdout := os.Stdout
	defer func() { os.Stdout = stdout }()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	closed, err := os.Open(os.DevNull) // read-only: writes fail
	if err != nil {
		t.Fatal(err)
	}
	defer closed.Close()

	var o Output
	os.Stdout = w
	fmt.Fprint(&o, "a")
	if o.Err() != nil {
		t.Fatal(o.Err())
	}
	os.Stdout = closed
	_, first := o.Write([]byte("b"))
	os.Stdout = w
	if _, err := o.Write([]byte("c")); err != nil {
		t.Fatal(err)
	}
	if first == nil || o.Err() != first {
		t.Errorf("the error is %v, the first was %v", o.Err(), first)
	}
	w.Close()
	b := make([]byte, 8)
	if n, _ := r.Read(b); string(b[:n]) != "ac" {
		t.Errorf("%q was written", b[:n])
	}
}
