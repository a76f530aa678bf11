package probe

// Doctor examines this machine: for each transport and each disk engine whether it works with a
// store in dirs, and then the causes. refused[name] is a transport's own reason why it does not work,
// with a Refusal for its remedy.
func Doctor(dirs []string, refused map[string]error) Report {
	return Local().Doctor(dirs, refused)
}

// Doctor is the function Doctor for any host.
func (h *Host) Doctor(dirs []string, refused map[string]error) Report {
	uring, rdma := Uring(h), RDMA(h)
	var disks Report
	var direct Finding // of the folder that is the worst for a disk engine
	usable := true
	for i, dir := range dirs {
		f, u := directIO(h, dir)
		if i == 0 || usable && (!u || direct.State == Available) {
			direct, usable = f, u
		}
		disks = append(disks, IOPoll(h, dir), f)
	}
	r := Report{
		{Name: "transport inproc", State: Available, Why: "always"},
		{Name: "transport tcp", State: Available, Why: "epoll, always"},
		as("transport uring", uring),
		as("transport rdma", rdma),
		{Name: "transport udp", State: Available, Why: "epoll, always"},
		engine("disk engine uring", uring, direct, usable),
		engine("disk engine aio", AIO(h), direct, usable),
		engine("disk engines sync, pool", Finding{State: Available, Why: "pread and pwrite, always"}, direct, usable),
	}
	for i, transport := range []string{"inproc", "tcp", "uring", "rdma", "udp"} {
		if err := refused[transport]; err != nil {
			r[i] = finding(r[i].Name, err)
		}
	}
	r = append(append(r, uring, Sockets(h), SQPoll(h)), disks...)
	return append(r, Memlock(h), Files(h), CPUs(h), Quota(h), rdma,
		Module(h, "ib_uverbs"), Module(h, "rdma_rxe"), NetNamespace(h))
}

// as returns a cause's finding under the name of what depends on it.
func as(name string, cause Finding) Finding {
	f := cause
	f.Name = name
	if f.State != Available {
		f.Why = cause.Name + ": " + cause.Why
	}
	return f
}

// engine returns the row of a disk engine that needs a feature of the kernel and a usable folder, and prefers direct IO.
func engine(name string, needs, direct Finding, usable bool) Finding {
	f := as(name, needs)
	if needs.State != Available || direct.State == Available {
		return f
	}
	f.Why, f.Remedy = NameDirect+": "+direct.Why, direct.Remedy
	if !usable {
		f.State = direct.State
	}
	return f
}
