package cell

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"golang.org/x/sys/unix"
)

// link is a network of two namespaces, one for the server and one for a load host, joined by a veth pair. Both directions have a token bucket
// (TBF), which passes bits at a fixed rate; netem in front of it can lose packets. The namespaces are this process's own, so links of several variants do not meet.
type link struct{ names []string }

// linkServer is the server's address on each link.
const linkServer, linkClient = "10.231.0.1", "10.231.0.2"

// linkNames are the namespaces of a process: the server's and the load host's.
func linkNames(pid int) [2]string {
	return [2]string{fmt.Sprintf("kvwlink%ds", pid), fmt.Sprintf("kvwlink%dc", pid)}
}

// hasLink reports whether the run makes a link of its own.
func (f *Settings) hasLink() bool { return f.Load.LinkRate > 0 }

// planLink sets the launchers that put the server and the client on the link. Open makes it.
func (f *Settings) planLink() error {
	switch {
	case (f.Load.LinkLoss > 0 || f.Load.LinkFrames) && !f.hasLink():
		return exit.Usagef("--link-loss and --link-frames need a link: --link-rate")
	case !f.hasLink() || f.linked:
		return nil
	case float64(f.Load.LinkRate) < linkRateLeast:
		return exit.Usagef("--link-rate must be 0, or from %d bits per second to %s", linkRateLeast, factor.All.Find("link-rate").Range.Most)
	case f.InProcess():
		return exit.Usagef("--link-rate needs a network, not --transport %s", f.Server.Transport)
	case f.Launch.Used() || f.Target != "" || f.ServerAt != "":
		return exit.Usagef("--link-rate starts the server and the client on a link of its own: leave --target, --server-at, --server-launch and --client-launch out")
	}
	n := linkNames(os.Getpid())
	f.Launch.Server, f.Launch.Clients, f.Launch.Addr = "ip netns exec "+n[0], []string{"ip netns exec " + n[1]}, linkServer
	f.linked = true
	return nil
}

// LinkWorks returns the reason why this machine cannot make a link; nil: it may be able to, or the settings ask for none.
func (f *Settings) LinkWorks() error {
	if !f.hasLink() {
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("--link-rate makes network namespaces, which needs root")
	}
	for _, tool := range []string{"ip", "tc"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("--link-rate: %w (the package iproute2 has it)", err)
		}
	}
	return nil
}

// makeLink makes the namespaces and what joins them. The caller closes the link.
func makeLink(bitsPerS, loss float64, frames bool) (*link, error) {
	removeDeadLinks()
	n := linkNames(os.Getpid())
	l := &link{}
	if err := l.build(n[0], n[1], bitsPerS, loss, frames); err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// Sizes of a token bucket: what it may pass at once, and the queue in front of it, both as a time at its rate. The first is at least a segment of
// a TCP socket (64 KiB) with its headers, or nothing would pass.
const (
	linkBurstMs, linkQueueMs = 1, 10
	linkBurstLeast           = 128 << 10
)

// linkPackets is the longest queue of a link with loss, in packets: the token bucket behind it has the bound in bytes.
const linkPackets = 100_000

// linkRateLeast is what a token bucket can do in bits per second: it counts the time of its burst in 32 bits.
const linkRateLeast = 8000

func (l *link) build(server, client string, bitsPerS, loss float64, frames bool) error {
	for _, name := range []string{server, client} {
		if err := run("ip", "netns", "add", name); err != nil {
			return err
		}
		l.names = append(l.names, name)
		if err := run("ip", "-n", name, "link", "set", "lo", "up"); err != nil {
			return err
		}
	}
	if err := run("ip", "-n", server, "link", "add", "kvwire", "type", "veth", "peer", "name", "kvwire", "netns", client); err != nil {
		return err
	}
	perMs := bitsPerS / 8 / 1000
	burst := max(linkBurstLeast, int(perMs*linkBurstMs))
	for name, addr := range map[string]string{server: linkServer, client: linkClient} {
		at := []string{"root"}
		commands := [][]string{
			{"ip", "-n", name, "addr", "add", addr + "/24", "dev", "kvwire"},
			{"ip", "-n", name, "link", "set", "kvwire", "up"},
		}
		if frames {
			commands = append(commands, []string{"ip", "-n", name, "link", "set", "kvwire", "gso_max_segs", "1"})
		}
		if loss > 0 {
			at = []string{"parent", "1:1"}
			commands = append(commands, []string{"tc", "-n", name, "qdisc", "add", "dev", "kvwire", "root", "handle", "1:", "netem", "limit", strconv.Itoa(linkPackets),
				"loss", "random", strconv.FormatFloat(100*loss, 'f', -1, 64) + "%"})
		}
		commands = append(commands, slices.Concat([]string{"tc", "-n", name, "qdisc", "add", "dev", "kvwire"}, at, []string{"handle", "2:", "tbf", "rate", strconv.FormatFloat(bitsPerS, 'f', 0, 64) + "bit",
			"burst", strconv.Itoa(burst), "limit", strconv.Itoa(burst + int(perMs*linkQueueMs))}))
		for _, args := range commands {
			if err := run(args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// close removes the namespaces, and with them the veth pair. Their processes have ended.
func (l *link) close() error {
	var errs []error
	for _, name := range l.names {
		errs = append(errs, run("ip", "netns", "del", name))
	}
	l.names = nil
	return errors.Join(errs...)
}

var linkName = regexp.MustCompile(`^kvwlink([0-9]+)[sc]$`)

// removeDeadLinks removes the namespaces of processes that were killed.
func removeDeadLinks() {
	all, err := filepath.Glob("/run/netns/kvwlink*")
	if err != nil {
		return
	}
	for _, path := range all {
		m := linkName.FindStringSubmatch(filepath.Base(path))
		if m == nil {
			continue
		}
		if pid, err := strconv.Atoi(m[1]); err == nil && errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
			_ = run("ip", "netns", "del", filepath.Base(path)) // the next link tries again
		}
	}
}

// run runs a command; its output is part of the error.
func run(args ...string) error {
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("link: %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// openLink makes the settings' link; nil: they have none.
func (f *Settings) openLink() (*link, error) {
	if !f.hasLink() {
		return nil, nil
	}
	if err := f.LinkWorks(); err != nil {
		return nil, exit.With(exit.Missing, err)
	}
	return makeLink(float64(f.Load.LinkRate), float64(f.Load.LinkLoss), f.Load.LinkFrames)
}
