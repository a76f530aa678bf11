package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"

	"github.com/kvwire/kvwire/kv"
)

func TestHeaderRoundTrip(t *testing.T) {
	for _, h := range []Header{
		{Op: kv.OpGet, KeyBytes: 24, ID: 1<<64 - 1, ValueBytes: 4096},
		{Op: kv.OpPut, KeyBytes: 1024, ID: 7, ValueBytes: 1 << 20},
		{Op: kv.OpScan, KeyBytes: 0, ID: 7, ValueBytes: 1 << 16, Arg: 100},
		{Op: kv.OpGet, Flags: FlagReply, Status: kv.StatusTooSmall, ID: 9, Arg: 5000},
		{Op: kv.OpGet, Flags: FlagReply, ID: 9, ValueBytes: 100},
		{Op: kv.OpGet, Flags: FlagTimes, KeyBytes: 24, ID: 9},
		{Op: kv.OpGet, Flags: FlagReply | FlagTimes, ID: 9, ValueBytes: 100},
		{Flags: FlagReply | FlagRefuse, Arg: uint32(RefusedDepth)},
	} {
		for _, bare := range []bool{false, true} {
			var b [HeaderBytes]byte
			h.EncodeAs(b[:], bare)
			var got Header
			if err := got.DecodeAs(b[:], bare); err != nil || got != h {
				t.Errorf("%+v came back as %+v (%v)", h, got, err)
			}
			if err := got.DecodeAs(b[:], !bare); err == nil {
				t.Errorf("%+v, bare %v, passes as the other kind", h, bare)
			}
		}
	}
}

// The client gets the outcome of a request as the server had it; other fields of the outcome are cleared.
func TestOutcomesRoundTrip(t *testing.T) {
	for _, c := range []struct{ server, client kv.Request }{
		{kv.Request{Op: kv.OpGet, Status: kv.StatusTooSmall, Need: 5000, More: true}, kv.Request{Op: kv.OpGet, Status: kv.StatusTooSmall, Need: 5000}},
		{kv.Request{Op: kv.OpGet, Need: 5000, More: true}, kv.Request{Op: kv.OpGet}},
		{kv.Request{Op: kv.OpScan, More: true}, kv.Request{Op: kv.OpScan, More: true}},
		{kv.Request{Op: kv.OpScan, Need: 7}, kv.Request{Op: kv.OpScan}},
		{kv.Request{Op: kv.OpScan, Status: kv.StatusCorrupt, More: true}, kv.Request{Op: kv.OpScan, Status: kv.StatusCorrupt}},
		{kv.Request{Op: kv.OpScan, Status: kv.StatusTooSmall, Need: ScanMore}, kv.Request{Op: kv.OpScan, Status: kv.StatusTooSmall, Need: ScanMore}},
	} {
		got := kv.Request{Op: c.server.Op, Need: 9, More: true}
		h := Header{Op: c.server.Op, Status: c.server.Status, Arg: ArgOf(&c.server)}
		if h.Outcome(&got); !reflect.DeepEqual(got, c.client) {
			t.Errorf("%+v came back as %+v", c.server, got)
		}
	}
}

func TestHeaderRefusesEveryFlippedBit(t *testing.T) {
	h := Header{Op: kv.OpPut, KeyBytes: 24, ID: 77, ValueBytes: 512}
	var b [HeaderBytes]byte
	h.Encode(b[:])
	for i := range HeaderBytes * 8 {
		b[i/8] ^= 1 << (i % 8)
		if new(Header).Decode(b[:]) == nil {
			t.Errorf("bit %d flipped and the header still passes", i)
		}
		b[i/8] ^= 1 << (i % 8)
	}
}

func TestHeaderRefusesBadForm(t *testing.T) {
	for name, h := range map[string]Header{
		"request 0":           {},
		"unknown op":          {Op: 99},
		"unknown flag":        {Op: kv.OpGet, Flags: 0x80},
		"unknown status":      {Op: kv.OpGet, Flags: FlagReply, Status: 200},
		"reply with a key":    {Op: kv.OpGet, Flags: FlagReply, KeyBytes: 1},
		"request with status": {Op: kv.OpGet, Status: kv.StatusBusy},
		"refusal as request":  {Flags: FlagRefuse},
		"refusal with times":  {Flags: FlagRefuse | FlagReply | FlagTimes},
		"refusal with bytes":  {Flags: FlagRefuse | FlagReply, ValueBytes: 65536},
	} {
		var b [HeaderBytes]byte
		h.Encode(b[:])
		if err := new(Header).Decode(b[:]); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
		h.EncodeAs(b[:], true)
		if err := new(Header).DecodeAs(b[:], true); !errors.Is(err, ErrFormat) {
			t.Errorf("%s, bare: %v", name, err)
		}
	}
}

func TestHeaderRefusesReservedBytesThatAreNotZero(t *testing.T) {
	h := Header{Op: kv.OpPut, KeyBytes: 24, ID: 77, ValueBytes: 512}
	for _, i := range []int{6, 7, 24, 25, 26, 27} {
		var b [HeaderBytes]byte
		h.Encode(b[:])
		b[i] = 1
		binary.LittleEndian.PutUint32(b[28:], crc32.Checksum(b[:28], castagnoli))
		if err := new(Header).Decode(b[:]); !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	for _, i := range []int{6, 7, 24, 25, 26, 27, 28, 29, 30, 31} {
		var b [HeaderBytes]byte
		h.EncodeAs(b[:], true)
		b[i] = 1
		if err := new(Header).DecodeAs(b[:], true); !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d of a bare header: %v", i, err)
		}
	}
}

func TestCheckRequestHoldsTheLimits(t *testing.T) {
	l := kv.Limits{MaxKeyBytes: 16, MaxValueBytes: 100}
	for name, c := range map[string]struct {
		h  Header
		ok bool
	}{
		"at the limit":       {Header{Op: kv.OpPut, KeyBytes: 16, ValueBytes: 100}, true},
		"key over":           {Header{Op: kv.OpGet, KeyBytes: 17}, false},
		"value over":         {Header{Op: kv.OpPut, KeyBytes: 1, ValueBytes: 101}, false},
		"room may be larger": {Header{Op: kv.OpGet, KeyBytes: 1, ValueBytes: 1 << 30}, true},
		"a reply":            {Header{Op: kv.OpGet, Flags: FlagReply}, false},
	} {
		if err := c.h.CheckRequest(l); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHelloRoundTrip(t *testing.T) {
	for _, c := range []ClientHello{
		{Version: Version, Required: 1, Optional: 2, Depth: 16, Loop: AnyLoop},
		{Version: Version, Depth: 1, Params: bytes.Repeat([]byte{7}, MaxParams)},
		{Version: Version, Required: FeatureAccess, Depth: 1, Loop: 3, Name: "ann", Nonce: [NonceBytes]byte{1, NonceBytes - 1: 2}},
		{Version: Version, Optional: FeatureAccess, Depth: 1, Params: bytes.Repeat([]byte{7}, MaxParams), Name: strings.Repeat("n", MaxNameBytes)},
	} {
		b := c.Append(nil)
		var got ClientHello
		if err := got.Decode(b); err != nil || !reflect.DeepEqual(got, c) {
			t.Errorf("%+v came back as %+v (%v)", c, got, err)
		}
		for i := range b {
			if err := got.Decode(b[:i]); err == nil {
				t.Errorf("a hello cut at %d of %d bytes passes", i, len(b))
			}
		}
	}
	for _, s := range []ServerHello{
		{Version: Version, Depth: 16, MaxKeyBytes: 1024, MaxValueBytes: 1 << 20, StallMillis: 5000, Loop: 1, Loops: 2, Shards: []uint16{0, 1, 1}},
		{Version: Version, Depth: 16, MaxKeyBytes: 1, Loops: MaxShards, Shards: make([]uint16, MaxShards), Params: bytes.Repeat([]byte{7}, MaxParams)},
		{Version: Version, Code: RefusedBusy, Reason: "10000 connections are open"},
		{Version: Version, Code: Challenged, Params: bytes.Repeat([]byte{7}, NonceBytes)},
	} {
		b := s.Append(nil)
		if n, err := HelloBytes(b); n != len(b) || err != nil {
			t.Errorf("HelloBytes = %d, %v; want %d", n, err, len(b))
		}
		var got ServerHello
		if err := got.Decode(b); err != nil || !reflect.DeepEqual(got, s) {
			t.Errorf("%+v came back as %+v (%v)", s, got, err)
		}
		for i := range b {
			if err := got.Decode(b[:i]); err == nil {
				t.Errorf("a hello cut at %d of %d bytes passes", i, len(b))
			}
		}
	}
}

func TestProofRoundTrip(t *testing.T) {
	want := Proof{1, ProofBytes - 1: 2}
	b := want.Append([]byte("before"))[6:]
	var got Proof
	if n, err := HelloBytes(b); err != nil || n != len(b) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if err := got.Decode(b); err != nil || got != want {
		t.Errorf("%x came back as %x (%v)", want, got, err)
	}
	for i := range b {
		if got.Decode(b[:i]) == nil {
			t.Errorf("a proof cut at %d of %d bytes passes", i, len(b))
		}
	}
	if b[4]--; got.Decode(b) == nil {
		t.Error("a proof passes whose length is that of a shorter one")
	}
}

func TestSealedHelloRoundTrip(t *testing.T) {
	for _, h := range []ServerHello{
		{Version: Version, Features: FeatureAccess, Depth: 16, MaxKeyBytes: 1, Loops: 1},
		{Version: Version, Features: FeatureAccess, Depth: 16, MaxKeyBytes: 1, Loops: MaxShards, Shards: make([]uint16, MaxShards), Params: bytes.Repeat([]byte{7}, MaxParams)},
	} {
		proof := Proof{5, ProofBytes - 1: 6}
		var proved []byte
		b := h.AppendSealed(nil, func(said []byte) Proof { proved = bytes.Clone(said); return proof })
		if n, err := HelloBytes(b); err != nil || n != len(b) {
			t.Errorf("%d bytes of %d, %v", n, len(b), err)
		}
		said, p, err := Unseal(b)
		if err != nil || p != proof || !bytes.Equal(said, proved) {
			t.Errorf("unsealed: %x over %x, %v; want %x over %x", p, said, err, proof, proved)
		}
		var got ServerHello
		if err := got.Decode(b); err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v came back as %+v (%v)", h, got, err)
		}
	}
	if _, _, err := Unseal(make([]byte, 60)); err == nil {
		t.Error("60 bytes are a sealed hello")
	}
}

func TestHelloAcceptsALongerOne(t *testing.T) {
	b := (&ClientHello{Version: 2, Depth: 1}).Append(nil)
	b[4] += 8
	b = append(b, make([]byte, 8)...)
	var got ClientHello
	if err := got.Decode(b); err != nil || got.Version != 2 {
		t.Errorf("a hello with fields of a later version: %+v, %v", got, err)
	}
}

func TestHelloRefusesText(t *testing.T) {
	if _, err := HelloBytes([]byte("GET / HTTP/1.1\r\n")); !errors.Is(err, ErrMagic) {
		t.Errorf("an HTTP request: %v", err)
	}
	if _, err := HelloBytes([]byte{0xCB, 'k', 'v', 'w', 0xFF, 0xFF}); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a hello of 64 KiB: %v", err)
	}
}

func FuzzHeader(f *testing.F) {
	var b [HeaderBytes]byte
	(&Header{Op: kv.OpPut, KeyBytes: 3, ValueBytes: 4, ID: 5}).Encode(b[:])
	f.Add(bytes.Clone(b[:]))
	(&Header{Op: kv.OpPut, KeyBytes: 3, ValueBytes: 4, ID: 5}).EncodeAs(b[:], true)
	f.Add(b[:])
	f.Fuzz(func(t *testing.T, in []byte) {
		if len(in) < HeaderBytes {
			return
		}
		var h Header
		bare := binary.LittleEndian.Uint32(in[28:]) == 0
		if h.DecodeAs(in, bare) != nil {
			return
		}
		var out [HeaderBytes]byte
		h.EncodeAs(out[:], bare)
		if string(out[:]) != string(in[:HeaderBytes]) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", in[:HeaderBytes], h, out)
		}
		if n := h.PayloadBytes(); n < 0 {
			t.Fatalf("%+v has a payload of %d bytes", h, n)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add((&ClientHello{Version: 1, Depth: 1}).Append(nil))
	f.Add((&ClientHello{Version: 1, Depth: 1, Required: FeatureAccess, Params: []byte("p"), Name: "ann"}).Append(nil))
	f.Add((&ServerHello{Version: 1, Depth: 1, Loops: 2, MaxKeyBytes: 1, Shards: []uint16{0, 1}, Reason: "x"}).Append(nil))
	f.Add((&ServerHello{Version: 1, Code: Challenged, Params: make([]byte, NonceBytes)}).Append(nil))
	f.Add((&ServerHello{Version: 1, Features: FeatureAccess, Depth: 1, Loops: 1, MaxKeyBytes: 1}).AppendSealed(nil, func([]byte) Proof { return Proof{} }))
	f.Add((&Proof{1}).Append(nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		n, err := HelloBytes(in)
		if err != nil || n == 0 || n > len(in) {
			return
		}
		var c ClientHello
		if c.Decode(in[:n]) == nil {
			var again ClientHello
			if err := again.Decode(c.Append(nil)); err != nil || !reflect.DeepEqual(c, again) || c.Depth == 0 {
				t.Fatalf("%+v came back as %+v (%v)", c, again, err)
			}
		}
		var p, same Proof
		if p.Decode(in[:n]) == nil && (same.Decode(p.Append(nil)) != nil || p != same) {
			t.Fatalf("%x came back as %x", p, same)
		}
		if said, p, err := Unseal(in[:n]); err == nil && string(said)+string(p[:]) != string(in[:n]) {
			t.Fatalf("%x unseals to %x and %x", in[:n], said, p)
		}
		var s ServerHello
		if s.Decode(in[:n]) != nil {
			return
		}
		var again ServerHello
		if err := again.Decode(s.Append(nil)); err != nil || !reflect.DeepEqual(s, again) {
			t.Fatalf("%+v came back as %+v (%v)", s, again, err)
		}
	})
}

func TestTimesRoundTrip(t *testing.T) {
	want := Times{Notify: 1, Queue: 2, Store: 3, Disk: timesMax - 1, Submit: 5, Arrived: 6, Host: 1<<64 - 1}
	var b [TimesBytes]byte
	want.Encode(b[:])
	var got Times
	if err := got.Decode(b[:]); err != nil || got != want {
		t.Errorf("%+v came back as %+v (%v)", want, got, err)
	}
	want.Disk = timesMax
	want.Encode(b[:])
	if err := got.Decode(b[:]); !errors.Is(err, ErrFormat) {
		t.Errorf("a disk of 36 years: %v", err)
	}
}

func FuzzTimes(f *testing.F) {
	f.Add(make([]byte, TimesBytes))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < TimesBytes {
			return
		}
		var got Times
		if got.Decode(b) != nil {
			return
		}
		var again [TimesBytes]byte
		if got.Encode(again[:]); !bytes.Equal(again[:], b[:TimesBytes]) {
			t.Errorf("%x came back as %x", b[:TimesBytes], again)
		}
		if int64(got.Server()) < 0 {
			t.Errorf("%+v sums to %d", got, int64(got.Server()))
		}
	})
}
