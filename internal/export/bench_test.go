package export

import "testing"

func BenchmarkParse(b *testing.B) {
	t, err := New(16, 5000)
	if err != nil {
		b.Fatal(err)
	}
	key := []byte("a key of thirty-two bytes, really")
	t.Put(key, make([]byte, 4096))
	e := t.entry(key)
	b.SetBytes(4096)
	for b.Loop() {
		if _, err := Parse(e, key); err != nil {
			b.Fatal(err)
		}
	}
}
