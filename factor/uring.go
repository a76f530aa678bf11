package factor

import (
	"fmt"
	"strings"
	"time"

	"github.com/kvwire/kvwire/uring"
)

const uringGroup = "io_uring sockets (--transport uring, --client-transport uring)"

var onUring = Where("transport", "uring").Or("client-transport", "uring")

// uringDefaults are the defaults of uring.Options. The zero value is always valid.
var uringDefaults, _ = uring.Options{}.Defaults()

var uringRows = []Factor{
	{Name: "ring", Group: uringGroup, Side: Server, Default: "shared", Words: []string{"shared", "separate"}, Owners: networks, At: func(v *Values) any { return &v.Uring.Ring },
		Help: "sockets and disk on one ring (shared), or on two (separate)",
		When: Where("transport", "uring")},
	{Name: "uring-receive", Group: uringGroup, Side: Server | Client | Alike, Default: uringDefaults.Receive.String(), Words: uring.Receives(), Owners: networks, At: func(v *Values) any { return &v.Uring.Receive },
		Help: "an entry receives once, into the final place of the bytes (single), or repeatedly, into provided buffers (multishot); auto: requests multishot, where the kernel has it, and answers single",
		When: onUring},
	{Name: "uring-buffers", Group: uringGroup, Side: Server | Client | Alike, Default: fmt.Sprint(uringDefaults.Buffers), Range: Span{"1", "32768"}, Owners: networks, At: func(v *Values) any { return &v.Uring.Buffers },
		Help: "multishot: number of provided buffers of each loop, a power of two",
		When: onUring.AndNot("uring-receive", "single")},
	{Name: "uring-buffer-bytes", Group: uringGroup, Side: Server | Client | Alike, Default: fmt.Sprint(uringDefaults.BufferBytes), Range: Span{"64", "1MiB"}, Hidden: true, Owners: networks, At: func(v *Values) any { return &v.Uring.BufferBytes },
		Help: "multishot: size of each provided buffer",
		When: onUring.AndNot("uring-receive", "single")},
	{Name: "uring-body-bytes", Group: uringGroup, Side: Server | Client | Alike, Default: fmt.Sprint(uringDefaults.BodyBytes), Range: Span{"1", "1GiB"}, Owners: networks, At: func(v *Values) any { return &v.Uring.BodyBytes },
		Help: "if this many bytes of a value or more are missing, a separate receive puts them into their final place; see --uring-large",
		When: onUring},
	{Name: "uring-bundle", Group: uringGroup, Side: Server | Client | Alike, Default: "false", Owners: networks, At: func(v *Values) any { return &v.Uring.Bundle },
		Help: "one completion for several provided buffers, in receives and in sends (bundles)",
		When: onUring},
	{Name: "uring-fixed-files", Group: uringGroup, Side: Server | Client | Alike, Default: "false", Owners: networks, At: func(v *Values) any { return &v.Uring.FixedFiles },
		Help:    "register sockets with the ring",
		Meaning: "sockets are registered with the ring",
		When:    onUring},
	{Name: "uring-large", Group: uringGroup, Side: Server | Client | Alike, Default: uringDefaults.Large.String(), Words: uring.Larges(), Owners: networks, At: func(v *Values) any { return &v.Uring.Large },
		Help: "how large values are transferred, for which one send or receive may not be enough: " + strings.Join(uring.Larges(), ", ") + " (once: its request fails)",
		When: onUring},
	{Name: "uring-chunk-bytes", Group: uringGroup, Side: Server | Client | Alike, Default: fmt.Sprint(uringDefaults.ChunkBytes), Range: Span{"4KiB", "1GiB"}, Hidden: true, Owners: networks, At: func(v *Values) any { return &v.Uring.ChunkBytes },
		Help: "linked: most bytes of each entry of a chain",
		When: onUring.And("uring-large", uring.Linked.String())},
	{Name: "uring-send-bytes", Group: uringGroup, Side: Server | Client | Alike, Default: "0", Range: Span{"0", "1GiB"}, Owners: networks, At: func(v *Values) any { return &v.Uring.SendBytes },
		Help: "send buffer of a connection; 0: the kernel sizes it",
		When: onUring},
	{Name: "uring-receive-bytes", Group: uringGroup, Side: Server | Client | Alike, Default: "0", Range: Span{"0", "1GiB"}, Owners: networks, At: func(v *Values) any { return &v.Uring.ReceiveBytes }, OffUnix: true,
		Help: "receive buffer of a connection; 0: the kernel sizes it",
		When: onUring},
	{Name: "uring-zerocopy-bytes", Group: uringGroup, Side: Server | Client | Alike, Default: fmt.Sprint(uringDefaults.ZeroCopyBytes), Range: Span{"1", "1GiB"}, Hidden: true, Owners: networks, At: func(v *Values) any { return &v.Uring.ZeroCopyBytes }, OffUnix: true,
		Help: "zerocopy: the smallest send that is not copied",
		When: onUring.And("uring-large", uring.ZeroCopy.String())},
	{Name: "uring-napi", Group: uringGroup, Side: Server | Client | Alike, Default: "0s", Range: Span{"0s", "1s"}, Hidden: true, Owners: networks, At: func(v *Values) any { return &v.Uring.NAPI }, OffUnix: true,
		Help: "how long a wait polls the devices' queues (NAPI busy polling; without effect on loopback)",
		When: onUring},
}

// OnUring reports whether one of the sides is uring.
func (v *Values) OnUring() bool { return onUring.Holds(All.Get(v)) }

// Check returns an error for values that contradict each other, or that package uring does not accept.
func (v *UringValues) Check() error {
	if v.NAPI%time.Microsecond != 0 {
		return fmt.Errorf("--uring-napi %v: must be whole microseconds", v.NAPI)
	}
	if v.Buffers&(v.Buffers-1) != 0 {
		return fmt.Errorf("--uring-buffers %d: must be a power of two", v.Buffers)
	}
	if large := v.options().Large; v.Bundle && (large == uring.Linked || large == uring.ZeroCopy) {
		return fmt.Errorf("--uring-bundle cannot be used with --uring-large %s: leave one of them out", large)
	}
	if _, err := v.options().Defaults(); err != nil {
		return fmt.Errorf("uring: %w", err)
	}
	return nil
}

// Options returns the options of package uring, for the sides that use it.
func (v *UringValues) Options() uring.Options {
	o, _ := v.options().Defaults() // Check has reported the error
	return o
}

func (v *UringValues) options() uring.Options {
	large, _ := uring.ParseLarge(v.Large) // CheckWords has checked it, and the next one
	receive, _ := uring.ParseReceive(v.Receive)
	return uring.Options{Large: large, Receive: receive, Buffers: v.Buffers, BufferBytes: int(v.BufferBytes), BodyBytes: int(v.BodyBytes), ChunkBytes: int(v.ChunkBytes),
		SendBytes: int(v.SendBytes), ReceiveBytes: int(v.ReceiveBytes), Bundle: v.Bundle,
		FixedFiles: v.FixedFiles, ZeroCopyBytes: int(v.ZeroCopyBytes), NAPI: v.NAPI}
}
