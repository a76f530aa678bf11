package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/lab"
	"github.com/spf13/pflag"
)

// The arguments of a launcher are only the path of kvwire and "launched", because some launchers (ssh) pass their arguments to a shell. The process that it starts writes a line
// about its host, reads its role as one line of JSON, and executes that command. From then on the launcher's standard input and output are those of the command (launched.go).

// Launchers are the commands in front of a run's processes on other hosts.
type Launchers lab.Launchers

// HostsGroup is the heading of the flags that place processes on other hosts.
const HostsGroup = "Other hosts (docs/hosts.md)"

// Bind adds the flags of launchers.
func (l *Launchers) Bind(s *pflag.FlagSet) {
	s.StringVar(&l.Server, "server-launch", "", "start the server behind this command, such as 'ssh lab1'; needs --server-addr (docs/hosts.md)")
	s.StringArrayVar(&l.Clients, "client-launch", nil, "start a load process behind this command; repeat the flag for each load host. --conns, --depth and --client-threads are those of each load host, --target-per-s is the rate of all")
	s.StringVar(&l.Addr, "server-addr", "", "with these two flags: the address, without a port, at which the server listens and clients reach it")
	s.StringVar(&l.Path, "launch-path", "", "where kvwire is on those hosts; default: where it is here")
	factor.Group(s, HostsGroup, "server-launch", "client-launch", "server-addr", "launch-path")
}

// loadHostsMax bounds the load hosts of a run.
const loadHostsMax = 256

// Used reports whether there are launchers.
func (l *Launchers) Used() bool { return l.Server != "" || len(l.Clients) > 0 }

// Listen is the address at which the server listens.
func (l *Launchers) Listen() string { return net.JoinHostPort(l.Addr, "0") }

// Reached returns the address at which clients reach a server that listens at listening, with the host that the user gave.
func (l *Launchers) Reached(listening string) (string, error) {
	_, port, err := net.SplitHostPort(listening)
	return net.JoinHostPort(l.Addr, port), err
}

// Args are the flags for these launchers.
func (l *Launchers) Args() (args []string) {
	if l.Server != "" {
		args = append(args, "--server-launch="+l.Server)
	}
	for _, c := range l.Clients {
		args = append(args, "--client-launch="+c)
	}
	if l.Used() {
		args = append(args, "--server-addr="+l.Addr)
	}
	if l.Path != "" {
		args = append(args, "--launch-path="+l.Path)
	}
	return args
}

// plain matches text that shells do not change: ssh passes its arguments to a shell on the other side.
var plain = regexp.MustCompile(`^[A-Za-z0-9_./:@%+=,-]+$`)

// Check returns an error for launchers that cannot work.
func (l *Launchers) Check() error {
	if !l.Used() {
		if l.Addr != "" || l.Path != "" {
			return exit.Usagef("--server-addr and --launch-path need --server-launch or --client-launch")
		}
		return nil
	}
	if len(l.Clients) > loadHostsMax {
		return exit.Usagef("--client-launch: %d load hosts are more than %d", len(l.Clients), loadHostsMax)
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
		return exit.Usagef("--launch-path %q: shells on the way may change this name: use letters, digits and _./:@%%+=,- only", l.Path)
	}
	return l.checkAddr()
}

func (l *Launchers) checkAddr() error {
	if l.Addr == "" {
		return exit.Usagef("--server-launch and --client-launch need --server-addr, the address at which the server listens and is reached (127.0.0.1 if all hosts are this one)")
	}
	_, _, err := net.SplitHostPort(l.Addr)
	ip, perr := netip.ParseAddr(l.Addr)
	switch {
	case err == nil:
		return exit.Usagef("--server-addr %s: leave out the port, which the server picks", l.Addr)
	case perr == nil && ip.IsUnspecified():
		return exit.Usagef("--server-addr %s: give the one address at which clients reach the server", l.Addr)
	case !plain.MatchString(l.Addr):
		return exit.Usagef("--server-addr %q is not an address", l.Addr)
	}
	return nil
}

// checkPrefix refuses an empty command, and quotes: commands are split at blanks only.
func checkPrefix(flag, prefix string) error {
	switch {
	case len(strings.Fields(prefix)) == 0:
		return exit.Usagef("--%s is empty: give a command such as 'ssh lab1' (env for a process on this host)", flag)
	case strings.ContainsAny(prefix, "'\"\\"):
		return exit.Usagef("--%s %s: a command is split at blanks and cannot have quotes: put it into a script, or into ~/.ssh/config", flag, prefix)
	}
	return nil
}

// greetingLines bounds the lines that a shell or a launcher may write before kvwire's first.
const greetingLines = 100

// Launch starts kvwire behind the command prefix and makes it execute the command of its role. what is its name in errors. The caller stops it, unless there is an error.
func (l *Launchers) Launch(ctx context.Context, what, prefix, version string, r Role) (*Process, error) {
	name, path := fmt.Sprintf("%s (behind %s)", what, strings.Join(strings.Fields(prefix), " ")), l.Path
	if path == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, err
		}
		if path = exe; !plain.MatchString(path) {
			return nil, fmt.Errorf("%s: kvwire is at %q here, and shells on the way may change this name: give another path with --launch-path", name, path)
		}
	}
	words := append(strings.Fields(prefix), path, "launched")
	if _, err := exec.LookPath(words[0]); err != nil {
		return nil, exit.Usagef("start %s: there is no program %s here that this user may execute", name, words[0])
	}
	p, err := Start(name, exec.Command(words[0], words[1:]...), os.Stderr)
	if err != nil {
		return nil, err
	}
	if err = p.readHost(ctx, version); err == nil {
		err = p.Send(r)
	}
	if err != nil {
		p.Kill() // its exit status does not matter
		<-p.ended
		return nil, err
	}
	return p, nil
}

// readHost reads the line about the process's host. Shells and launchers may write other lines before it.
func (p *Process) readHost(ctx context.Context, version string) error {
	for range greetingLines {
		line, err := p.Next(ctx, Patience)
		if err != nil {
			return err
		}
		if json.Unmarshal(line, &p.Host) != nil || p.Host.Kvwire == "" {
			continue
		}
		quote.Strings(&p.Host)
		if p.Host.Kvwire != version {
			return fmt.Errorf("%s: kvwire has version %.100q there and %s here: copy this program there, or name it with --launch-path", p.Name, p.Host.Kvwire, version)
		}
		return nil
	}
	return fmt.Errorf("%s: none of the first %d lines is from kvwire (does the command start kvwire, and pass on its standard output?)", p.Name, greetingLines)
}
