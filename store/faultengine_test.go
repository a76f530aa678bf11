package store

// What faultDisk has besides as a disk: it counts no system calls, and needs nobody to hand over.

func (d *faultDisk) flush() error  { return nil }
func (d *faultDisk) calls() uint64 { return 0 }
