package store

// A class is a slot size. The table is part of the file format: class sizes are in file names.
type class struct {
	bytes   int // a slot's size
	perPage int // slots in a page; no item crosses a page boundary. 0: a slot has whole pages
	pages   int // pages of one slot; 1 if it shares a page
}

// classes is sorted by size. Up to a page, the steps waste about a quarter at most. Larger slots have 2^n or 1.5 × 2^n pages, plus one page for
// header and key, since the lengths of values are often powers of two.
var classes = makeClasses()

// smallClasses is the number of classes whose slots lie within one page.
const smallClasses = 17

func makeClasses() []class {
	var c []class
	for _, bytes := range [smallClasses]int{64, 80, 96, 128, 160, 200, 256, 312, 408, 512, 584, 680, 816, 1024, 1360, 2048, 4096} {
		c = append(c, class{bytes: bytes, perPage: pageBytes / bytes, pages: 1})
	}
	add := func(pages int) { c = append(c, class{bytes: pages * pageBytes, pages: pages}) }
	most := (itemBytes(KeyBytesMax, ValueBytesMax) + pageBytes - 1) / pageBytes
	for p := 1; p+1 <= most; p *= 2 {
		add(p + 1)
		if p > 1 && p+p/2+1 < most {
			add(p + p/2 + 1)
		}
	}
	return c
}

// smallClass has the class for an item of up to a page, by its length in units of 8 bytes, rounded up.
var smallClass = func() (t [pageBytes/8 + 1]uint8) {
	c := 0
	for i := range t {
		if i*8 > classes[c].bytes {
			c++
		}
		t[i] = uint8(c)
	}
	return t
}()

// classOf returns the smallest class whose slots hold an item of n bytes, n up to the largest item.
func classOf(n int) uint8 {
	if n <= pageBytes {
		return smallClass[(n+7)/8]
	}
	c := smallClasses
	for classes[c].bytes < n {
		c++
	}
	return uint8(c)
}

// place is a slot of a partition.
type place struct {
	class uint8
	slot  uint32
}

// large reports whether the slot has whole pages of its own.
func (p place) large() bool { return classes[p.class].perPage == 0 }

// page returns the number of the slot's first page in its file.
func (p place) page() uint32 {
	c := &classes[p.class]
	if c.perPage == 0 {
		return p.slot * uint32(c.pages)
	}
	return p.slot / uint32(c.perPage)
}

// offset returns the position of the slot in its page, in bytes.
func (p place) offset() int {
	c := &classes[p.class]
	if c.perPage == 0 {
		return 0
	}
	return int(p.slot%uint32(c.perPage)) * c.bytes
}

// nth returns the slot's number in its page.
func (p place) nth() uint { return uint(p.offset() / classes[p.class].bytes) }

// pageID is a page of a partition: its class, and its number in that class's file.
type pageID uint64

func (p place) id() pageID { return pageID(p.class)<<32 | pageID(p.page()) }

func (id pageID) class() uint8  { return uint8(id >> 32) }
func (id pageID) offset() int64 { return int64(uint32(id)) * pageBytes }
