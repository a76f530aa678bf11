package main

import "github.com/spf13/pflag"

// advancedFlags are flags that --help leaves out. They work like all others. No shipped experiment sweeps them: they need a NIC, or a disk with
// poll queues, or are sizes whose default suits every experiment here. README.md names them.
var advancedFlags = []string{"iopoll", "fixed-buffers", "tcp-zerocopy-bytes", "uring-buffer-bytes", "uring-zerocopy-bytes", "uring-napi",
	"rdma-slot-bytes", "rdma-mtu", "huge-pages"}

func hideAdvanced(s *pflag.FlagSet) {
	for _, name := range advancedFlags {
		if f := s.Lookup(name); f != nil {
			f.Hidden = true
		}
	}
}
