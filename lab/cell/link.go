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
	"github.com/kvwire/kvwire/fleet"
	"github.com/kvwire/kvwire/internal/exit"
	"golang.org/x/sys/unix"
)

// link is a veth pair with the server at one end and a load host at the other. Both directions have a token bucket (TBF), which passes bits at a fixed rate; netem
// in front of it can lose packets. Each end has a network namespace. In a guest of vm.sh, whose network nobody else uses, both are in the first namespace instead,
// because soft-RoCE works in no other. Names and addresses are this process's own, so links of several variants do not meet.
type link struct{ ends [2]linkEnd } // the server's and the load host's; an end that was not made has no device

// linkEnd is one end of a link.
type linkEnd struct {
	space string // the network namespace; "": the first one
	dev   string
	addr  string
}

// at returns the command of the package iproute2 that acts in the end's namespace.
func (e linkEnd) at(tool string, args ...string) []string {
	if e.space == "" {
		return append([]string{tool}, args...)
	}
	return append([]string{tool, "-n", e.space}, args...)
}

// launcher starts a process at the end.
func (e linkEnd) launcher() string {
	if e.space == "" {
		return "env" // runs the rest of the command
	}
	return "ip netns exec " + e.space
}

// linkEnds are the ends of a process's link: the server's and the load host's.
func linkEnds(pid int, guest bool) [2]linkEnd {
	server, client := fmt.Sprintf("kvwlink%ds", pid), fmt.Sprintf("kvwlink%dc", pid)
	if !guest {
		return [2]linkEnd{{server, "kvwire", "10.231.0.1"}, {client, "kvwire", "10.231.0.2"}}
	}
	n := pid % (1 << 14) * 4 // each link has 4 of the addresses of linkNet
	return [2]linkEnd{{"", server, fmt.Sprintf("10.231.%d.%d", n>>8, n&255+1)}, {"", client, fmt.Sprintf("10.231.%d.%d", n>>8, n&255+2)}}
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
	ends := linkEnds(os.Getpid(), fleet.InGuest())
	f.Launch.Server, f.Launch.Clients, f.Launch.Addr = ends[0].launcher(), []string{ends[1].launcher()}, ends[0].addr
	f.linked = true
	return nil
}

// LinkWorks returns the reason why this machine cannot make a link; nil: it may be able to, or the settings ask for none.
func (f *Settings) LinkWorks() error {
	if !f.hasLink() {
		return nil
	}
	switch {
	case f.Server.Transport == "rdma" && f.RDMA.Modelled():
		return errors.New("the model of a device uses no link: leave --link-rate out, and set losses with --rdma-model loss=0.01")
	case f.Server.Transport == "rdma" && !fleet.InGuest():
		return errors.New("--link-rate makes network namespaces, and soft-RoCE works in the first one only: measure in a guest (kvwire run --vm), where both ends are in the first one")
	case os.Geteuid() != 0:
		return errors.New("--link-rate makes network namespaces, which needs root")
	}
	tools := []string{"ip", "tc"}
	if f.Server.Transport == "rdma" {
		tools = append(tools, "rdma")
	}
	for _, tool := range tools {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("--link-rate: %w (the package iproute2 has it)", err)
		}
	}
	return nil
}

// makeLink makes the ends and what joins them; rdma: each has a soft-RoCE device, in a guest. The caller closes the link.
func makeLink(bitsPerS, loss float64, frames, rdma bool) (*link, error) {
	removeDeadLinks()
	l := &link{}
	if err := l.build(linkEnds(os.Getpid(), fleet.InGuest()), bitsPerS, loss, frames, rdma); err != nil {
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

func (l *link) build(ends [2]linkEnd, bitsPerS, loss float64, frames, rdma bool) error {
	for i, e := range ends {
		if e.space == "" {
			continue
		}
		if err := run("ip", "netns", "add", e.space); err != nil {
			return err
		}
		l.ends[i] = e
		if err := run(e.at("ip", "link", "set", "lo", "up")...); err != nil {
			return err
		}
	}
	pair := ends[0].at("ip", "link", "add", ends[0].dev, "type", "veth", "peer", "name", ends[1].dev)
	if ends[1].space != "" {
		pair = append(pair, "netns", ends[1].space)
	}
	if err := run(pair...); err != nil {
		return err
	}
	l.ends = ends
	perMs := bitsPerS / 8 / 1000
	burst := max(linkBurstLeast, int(perMs*linkBurstMs))
	for _, e := range ends {
		bits := "24"
		if e.space == "" {
			bits = "32" // a route (see route) leads to the other end
		}
		at := []string{"root"}
		commands := [][]string{
			e.at("ip", "addr", "add", e.addr+"/"+bits, "dev", e.dev),
			e.at("ip", "link", "set", e.dev, "up"),
		}
		if frames {
			commands = append(commands, e.at("ip", "link", "set", e.dev, "gso_max_segs", "1"))
		}
		if loss > 0 {
			at = []string{"parent", "1:1"}
			commands = append(commands, e.at("tc", "qdisc", "add", "dev", e.dev, "root", "handle", "1:", "netem", "limit", strconv.Itoa(linkPackets),
				"loss", "random", strconv.FormatFloat(100*loss, 'f', -1, 64)+"%"))
		}
		commands = append(commands, e.at("tc", slices.Concat([]string{"qdisc", "add", "dev", e.dev}, at, []string{"handle", "2:", "tbf", "rate", strconv.FormatFloat(bitsPerS, 'f', 0, 64) + "bit",
			"burst", strconv.Itoa(burst), "limit", strconv.Itoa(burst + int(perMs*linkQueueMs))})...))
		for _, args := range commands {
			if err := run(args...); err != nil {
				return err
			}
		}
	}
	if ends[0].space != "" {
		return nil
	}
	return route(ends, rdma)
}

// The addresses of links in one namespace, the table of their routes, and the priorities of its rule and of the rule for the machine's own addresses.
const linkNet, linkTable, linkPref, localPref = "10.231.0.0/16", "231", "10", "1000"

// route makes packets between the two ends, whose addresses are both this namespace's own, cross the link: packets that are sent here are routed by the table of
// links before that of own addresses (ip-rule(8): iif lo), and those that arrive by the latter, as before. Neighbour entries are permanent, because the link
// may lose ARP requests.
func route(ends [2]linkEnd, rdma bool) error {
	_ = run("ip", "rule", "add", "pref", localPref, "lookup", "local") // fails where it is there
	_ = run("ip", "rule", "add", "pref", linkPref, "to", linkNet, "iif", "lo", "lookup", linkTable)
	rules, err := exec.Command("ip", "rule", "show", "pref", localPref).Output()
	if err != nil {
		return fmt.Errorf("link: ip rule show: %w", err)
	}
	if !strings.Contains(string(rules), "lookup local") {
		return fmt.Errorf("link: ip rule add did not add rule %s for the machine's own addresses", localPref)
	}
	_ = run("ip", "rule", "del", "pref", "0") // fails where it is gone
	for i, e := range ends {
		peer := ends[1-i]
		mac, err := os.ReadFile("/sys/class/net/" + peer.dev + "/address")
		if err != nil {
			return fmt.Errorf("link: %w", err)
		}
		if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+e.dev+"/accept_local", []byte("1"), 0); err != nil {
			return fmt.Errorf("link: accept packets from an own address: %w", err)
		}
		commands := [][]string{
			{"ip", "route", "add", peer.addr + "/32", "dev", e.dev, "src", e.addr, "table", linkTable},
			{"ip", "neigh", "replace", peer.addr, "lladdr", strings.TrimSpace(string(mac)), "dev", e.dev, "nud", "permanent"},
		}
		if rdma {
			commands = append(commands, []string{"rdma", "link", "add", e.dev, "type", "rxe", "netdev", e.dev})
		}
		for _, args := range commands {
			if err := run(args...); err != nil {
				return err
			}
		}
	}
	return nil
}

// close removes the namespaces, or, in a guest, one end of the veth pair. The kernel then removes the other end, the routes and the soft-RoCE devices. The processes at the ends
// have ended.
func (l *link) close() error {
	var errs []error
	for _, e := range l.ends {
		if e.space != "" {
			errs = append(errs, run("ip", "netns", "del", e.space))
		}
	}
	if e := l.ends[0]; e.dev != "" && e.space == "" {
		errs = append(errs, run("ip", "link", "del", e.dev))
	}
	l.ends = [2]linkEnd{}
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
	return makeLink(float64(f.Load.LinkRate), float64(f.Load.LinkLoss), f.Load.LinkFrames, f.Server.Transport == "rdma")
}
