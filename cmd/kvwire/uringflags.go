package main

import (
	"strings"
	"time"

	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/uring"
)

// uringValues are the flags of the sides that are uring: the server's, the client's, or both, which have them alike.
type uringValues struct {
	receive       string
	buffers       int
	bufferBytes   bytesFlag
	bodyBytes     bytesFlag
	bundle        bool
	fixedFiles    bool
	large         string
	zeroCopyBytes bytesFlag
	napi          time.Duration
	options       uring.Options // what they say: plan fills it in
}

var uringFlags = []string{"uring-receive", "uring-buffers", "uring-buffer-bytes", "uring-body-bytes", "uring-bundle", "uring-fixed-files", "uring-large", "uring-zerocopy-bytes", "uring-napi"}

func (f *factors) uringFlags() {
	s, v := f.set, &f.uring
	d, _ := uring.Options{}.Defaults() // the zero value passes
	v.bufferBytes, v.bodyBytes, v.zeroCopyBytes = bytesFlag(d.BufferBytes), bytesFlag(d.BodyBytes), bytesFlag(d.ZeroCopyBytes)
	s.StringVar(&v.receive, "uring-receive", "single", "uring, this and what follows: an entry receives once, into its place (single), or again and again into provided buffers (multishot)")
	s.IntVar(&v.buffers, "uring-buffers", d.Buffers, "multishot: provided buffers of each loop, a power of two")
	s.Var(&v.bufferBytes, "uring-buffer-bytes", "multishot: size of each of them")
	s.Var(&v.bodyBytes, "uring-body-bytes", "the least rest of a value that is received into its place, by a receive of its own (which --uring-large says how)")
	s.BoolVar(&v.bundle, "uring-bundle", false, "one completion for several provided buffers, and sends whose pieces are such")
	s.BoolVar(&v.fixedFiles, "uring-fixed-files", false, "register sockets with the ring")
	s.StringVar(&v.large, "uring-large", d.Large.String(), "what becomes of a transfer that the kernel would end short: "+strings.Join(uring.Larges(), ", ")+" (the last takes it for the end of its request, which is an error)")
	s.Var(&v.zeroCopyBytes, "uring-zerocopy-bytes", "zerocopy: of the least send that is not copied")
	s.DurationVar(&v.napi, "uring-napi", 0, "how long a wait looks at the devices' queues (NAPI busy polling; not on loopback)")
}

// hasUring says whether one of the sides is uring.
func (f *factors) hasUring() bool { return f.transport == "uring" || f.clientTransport == "uring" }

// planUring checks the flags of uring, and keeps what they say.
func (f *factors) planUring() (err error) {
	v := &f.uring
	for _, name := range uringFlags {
		if f.sets(name) && !f.hasUring() {
			return usagef("--%s needs --transport uring, not %s", name, f.transport)
		}
	}
	o := uring.Options{Multishot: v.receive == "multishot", Buffers: v.buffers, BufferBytes: int(v.bufferBytes), BodyBytes: int(v.bodyBytes), Bundle: v.bundle,
		FixedFiles: v.fixedFiles, ZeroCopyBytes: int(v.zeroCopyBytes), NAPI: v.napi}
	if o.Large, err = uring.ParseLarge(v.large); err != nil {
		return usagef("--uring-large %v", err)
	}
	switch {
	case !o.Multishot && v.receive != "single":
		return usagef("--uring-receive %q is unknown (single or multishot)", v.receive)
	case !o.Multishot && (f.sets("uring-buffers") || f.sets("uring-buffer-bytes")):
		return usagef("--uring-buffers and --uring-buffer-bytes need --uring-receive multishot")
	case f.sets("uring-zerocopy-bytes") && o.Large != uring.ZeroCopy:
		return usagef("--uring-zerocopy-bytes needs --uring-large zerocopy, not %s", o.Large)
	case v.napi%time.Microsecond != 0:
		return usagef("--uring-napi %v: whole microseconds", v.napi)
	}
	if v.options, err = o.Defaults(); err != nil {
		return usagef("uring: %v", err)
	}
	return nil
}

// uringFactors are what was asked for.
func uringFactors(r *report.Row, flags map[string]string) {
	r.UringReceive, r.UringLarge = flags["uring-receive"], flags["uring-large"]
	r.UringBundle, r.UringFixedFiles = report.B(flags["uring-bundle"] == "true"), report.B(flags["uring-fixed-files"] == "true")
	r.UringBodyBytes = sizeOf(flags["uring-body-bytes"])
	if r.UringReceive == "multishot" {
		r.UringBuffers, r.UringBufferBytes = sizeOf(flags["uring-buffers"]), sizeOf(flags["uring-buffer-bytes"])
	}
	if r.UringLarge == uring.ZeroCopy.String() {
		r.UringZeroCopyBytes = sizeOf(flags["uring-zerocopy-bytes"])
	}
	if d, err := time.ParseDuration(flags["uring-napi"]); err == nil {
		r.UringNAPINs = report.I(int64(d))
	}
	r.SQPoll, r.Taskrun = report.B(flags["sqpoll"] == "true"), flags["taskrun"]
}

// uringApplies says whether a flag of uring has a meaning in a cell.
func uringApplies(name string, is func(flag, value string) bool) bool {
	switch name {
	case "uring-buffers", "uring-buffer-bytes":
		return hasUring(is) && is("uring-receive", "multishot")
	case "uring-zerocopy-bytes":
		return hasUring(is) && is("uring-large", uring.ZeroCopy.String())
	}
	return hasUring(is) || !strings.HasPrefix(name, "uring-")
}

// hasUring says whether one of a cell's sides is uring.
func hasUring(is func(flag, value string) bool) bool {
	return is("transport", "uring") || is("client-transport", "uring")
}
