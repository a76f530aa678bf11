package main

import "github.com/kvwire/kvwire/factor"

// hostsGroup is the heading of the flags that place processes on other hosts.
const hostsGroup = "Other hosts (docs/hosts.md)"

// launchFlags are those of launchers.
func (f *factors) launchFlags() {
	s, l := f.set, &f.Launch
	s.StringVar(&l.Server, "server-launch", "", "start the server behind this command, such as 'ssh lab1'; needs --server-addr (docs/hosts.md)")
	s.StringArrayVar(&l.Clients, "client-launch", nil, "start a load process behind this command; once for each load host, and each has --conns, --depth and --client-threads of its own (--target-per-s is for all)")
	s.StringVar(&l.Addr, "server-addr", "", "with these two: the address at which the server listens and is reached, without a port")
	s.StringVar(&l.Path, "launch-path", "", "where kvwire is on those hosts; default: where it is here")
	factor.Group(s, hostsGroup, "server-launch", "client-launch", "server-addr", "launch-path")
}

// checkRunLaunch is checkLaunch for a whole experiment, each of whose cells is looked at when it is run.
func (f *factors) checkRunLaunch(resume, vm string) error {
	if err := f.Launch.Check(); err != nil || !f.Launch.Used() {
		return err
	}
	switch {
	case resume != "":
		return usagef("--resume goes on with the launchers that %s was begun with: leave them out", resume)
	case vm != "":
		return usagef("--vm has its processes in guests: leave --server-launch and --client-launch out")
	case f.ServerAt != "":
		return usagef("--server-at %s starts the servers: leave --server-launch and --client-launch out", f.ServerAt)
	}
	return nil
}
