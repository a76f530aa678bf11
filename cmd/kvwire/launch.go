package main

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"

	"github.com/kvwire/kvwire/lab"
	"github.com/spf13/pflag"
)

// launchers are lab.Launchers with their flags.
type launchers lab.Launchers

// loadHostsMax bounds the load hosts of a run.
const loadHostsMax = 256

func (l *launchers) add(s *pflag.FlagSet) {
	s.StringVar(&l.Server, "server-launch", "", "start the server behind this command, such as 'ssh lab1'; needs --server-addr (docs/hosts.md)")
	s.StringArrayVar(&l.Clients, "client-launch", nil, "start a load process behind this command; once for each load host, and each has --conns, --depth and --client-threads of its own (--target-per-s is for all)")
	s.StringVar(&l.Addr, "server-addr", "", "with these two: the address at which the server listens and is reached, without a port")
	s.StringVar(&l.Path, "launch-path", "", "where kvwire is on those hosts; default: where it is here")
}

// used says whether there are any.
func (l *launchers) used() bool { return l.Server != "" || len(l.Clients) > 0 }

// listen is where the server listens.
func (l *launchers) listen() string { return net.JoinHostPort(l.Addr, "0") }

// reached is where clients reach a server that listens there: by the user's own word for its host.
func (l *launchers) reached(listening string) (string, error) {
	_, port, err := net.SplitHostPort(listening)
	return net.JoinHostPort(l.Addr, port), err
}

// args are the flags that say the same.
func (l *launchers) args() (args []string) {
	if l.Server != "" {
		args = append(args, "--server-launch="+l.Server)
	}
	for _, c := range l.Clients {
		args = append(args, "--client-launch="+c)
	}
	if l.used() {
		args = append(args, "--server-addr="+l.Addr)
	}
	if l.Path != "" {
		args = append(args, "--launch-path="+l.Path)
	}
	return args
}

// plain is what goes through shells as it is: ssh hands its words to one on the other side.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// check refuses what cannot be.
func (l *launchers) check() error {
	if !l.used() {
		if l.Addr != "" || l.Path != "" {
			return usagef("--server-addr and --launch-path need --server-launch or --client-launch")
		}
		return nil
	}
	if len(l.Clients) > loadHostsMax {
		return usagef("--client-launch: %d load hosts: at most %d", len(l.Clients), loadHostsMax)
	}
	for _, c := range l.Clients {
		if err := checkPrefix("client-launch", c); err != nil {
			return err
		}
	}
	if l.Server != "" {
		if err := checkPrefix("server-launch", l.Server); err != nil {
			return err
		}
	}
	if l.Path != "" && !plain.MatchString(l.Path) {
		return usagef("--launch-path %q: shells on the way may change such a name: letters, digits and _./:@%%+=,- only", l.Path)
	}
	return l.checkAddr()
}

func (l *launchers) checkAddr() error {
	if l.Addr == "" {
		return usagef("--server-launch and --client-launch need --server-addr, the address at which the server listens and is reached (127.0.0.1 if all hosts are this one)")
	}
	_, _, err := net.SplitHostPort(l.Addr)
	ip, perr := netip.ParseAddr(l.Addr)
	switch {
	case err == nil:
		return usagef("--server-addr %s: without a port: the server picks one", l.Addr)
	case perr == nil && ip.IsUnspecified():
		return usagef("--server-addr %s: one address, at which its clients reach it", l.Addr)
	case !plain.MatchString(l.Addr):
		return usagef("--server-addr %q is no address", l.Addr)
	}
	return nil
}

// checkPrefix refuses an empty command, and quotes, which would be words like others: commands are split at blanks.
func checkPrefix(flag, prefix string) error {
	switch {
	case len(strings.Fields(prefix)) == 0:
		return usagef("--%s is empty: a command such as 'ssh lab1' (env, for a process here)", flag)
	case strings.ContainsAny(prefix, "'\"\\"):
		return usagef("--%s %s: a command is split at blanks, and quotes have no meaning in it: put it into a script, or ~/.ssh/config", flag, prefix)
	}
	return nil
}

// checkLaunch refuses launchers beside what contradicts them.
func (f *factors) checkLaunch() error {
	if err := f.launch.check(); err != nil || !f.launch.used() {
		return err
	}
	switch {
	case f.inProcess():
		return usagef("--server-launch and --client-launch need a network, not --transport %s", f.Server.Transport)
	case len(f.launch.Clients) > 0 && f.Load.Trace != "":
		return usagef("--trace %s is read here, and load hosts do not have it: leave --client-launch out", f.Load.Trace)
	case len(f.launch.Clients) > 0 && f.Load.Stages > 0:
		return usagef("--stages is for a load process here: leave --client-launch out")
	case f.target != "":
		return usagef("--target %s has a server: leave --server-launch and --client-launch out", f.target)
	case f.serverAt != "":
		return usagef("--server-at %s starts the server: leave --server-launch and --client-launch out", f.serverAt)
	}
	return nil
}

// checkRunLaunch is checkLaunch for a whole experiment, each of whose cells is looked at when it is run.
func (f *factors) checkRunLaunch(resume, vm string) error {
	if err := f.launch.check(); err != nil || !f.launch.used() {
		return err
	}
	switch {
	case resume != "":
		return usagef("--resume goes on with the launchers that %s was begun with: leave them out", resume)
	case vm != "":
		return usagef("--vm has its processes in guests: leave --server-launch and --client-launch out")
	case f.serverAt != "":
		return usagef("--server-at %s starts the servers: leave --server-launch and --client-launch out", f.serverAt)
	}
	return nil
}

// here are the networks that have to work on this machine.
func (l *launchers) here(server, client *network) (here []*network) {
	if l.Server == "" {
		here = append(here, server)
	}
	if len(l.Clients) == 0 {
		here = append(here, client)
	}
	return here
}

// machineID is the same for all processes under one running kernel, and different elsewhere; "" where it is not known.
func machineID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// behind names a process of a launcher in errors.
func behind(what, prefix string) string {
	return fmt.Sprintf("%s (behind %s)", what, strings.Join(strings.Fields(prefix), " "))
}
