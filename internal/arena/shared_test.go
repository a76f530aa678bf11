package arena

import (
	"bytes"
	"testing"
)

// Shared memory is handed out without overlap, comes back as zeroes, and is whole again when all of it is free.
func TestSharedMemoryIsUsedAgain(t *testing.T) {
	fd, mem, err := Share()
	if err != nil {
		t.Fatal(err)
	}
	if again, same, err := Share(); err != nil || again != fd || &same[0] != &mem[0] {
		t.Fatalf("a second call of Share: descriptor %d, %v; want %d", again, err, fd)
	}
	sizes := []int{1, PageBytes, 3 * PageBytes, 1 << 20, 5000}
	for _, order := range [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {1, 3, 0, 2, 4}, {2, 0, 4, 1, 3}} {
		var all []*Arena
		for i, size := range sizes {
			a, err := NewShared(size)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Bytes()) < size || len(a.Bytes())%PageBytes != 0 || len(bytes.Trim(a.Bytes(), "\x00")) != 0 {
				t.Fatalf("%d B of shared memory: %d B, or not all zero", size, len(a.Bytes()))
			}
			for j := range a.Bytes() {
				a.Bytes()[j] = byte(i + 1)
			}
			all = append(all, a)
		}
		for i, a := range all {
			if len(bytes.Trim(a.Bytes(), string([]byte{byte(i + 1)}))) != 0 {
				t.Fatalf("arena %d was overwritten", i)
			}
		}
		for _, i := range order {
			if err := all[i].Close(); err != nil {
				t.Fatal(err)
			}
		}
		if s := shared.spans; len(s) != 1 || s[0] != (span{0, sharedBytes}) {
			t.Fatalf("freed in the order %v: %v", order, s)
		}
	}
	if _, err := NewShared(sharedBytes + 1); err == nil {
		t.Error("more shared memory than there is")
	}
	if _, err := NewShared(0); err == nil {
		t.Error("an arena of 0 B")
	}
}
