// Command kvwire serves a key-value store over several networks, loads it, and measures what the network
// costs. This package is flags and wiring: the only place that names all transports.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/spf13/pflag"
)

// version is set by the Makefile through the linker, which cannot set a variable that a function call initializes. Otherwise it is the
// module's version, where the Go tool knows one (go install …@v1.2.3).
var version string

func init() {
	if version == "" {
		version = moduleVersion()
	}
}

// noVersion is the version of a program that was built in a checkout without the Makefile.
const noVersion = "unknown"

func moduleVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	return noVersion
}

// revision is version, or empty for a bare build, whose revision the Go tool may know.
func revision() string {
	if version == noVersion {
		return ""
	}
	return version
}

func usagef(format string, args ...any) error { return exit.Usagef(format, args...) }

// command is one subcommand.
type command struct {
	name, short string // without a short one, users need not know it
	run         func(ctx context.Context, args []string) error
}

var commands []command

func init() {
	commands = []command{
		{"run", "run an experiment: fresh processes in each generation, table, CSV and report.html", runCommand},
		{"experiments", "list the experiments that are part of the program", experimentsCommand},
		{"compare", "compare two folders of results, cell by cell", compareCommand},
		{"report", "rewrite report.html and its files from a folder of results", reportCommand},
		{"verify-claims", "compare an experiment's figures with what others claimed", claimsCommand},
		{"bench", "one measured run against a server of its own, or --target", benchCommand},
		{"serve", "serve a store", serveCommand},
		{"load", "fill a store with records", loadCommand},
		{"check", "look for damage in a store's files, without changing them", checkCommand},
		{"stat", "what is in a store's files, and the memory that it takes to serve them", statCommand},
		{"host", "start servers for a kvwire on another machine", hostCommand},
		{"instrument", "test how far results can be trusted, with experiments whose answers are known", instrumentCommand},
		{"calibrate", "what a system call, a message, a wake-up and a copy cost here", calibrateCommand},
		{"doctor", "what works on this machine and, where not, why and what to do", doctorCommand},
		{"version", "version, build and what is compiled in", versionCommand},
		{"completion", "print a script by which bash, zsh or fish completes commands and flags", completionCommand},
		{"man", "write the manual pages", manCommand},
		{"complete", "", completeCommand},
		{"columns", "", columnsCommand},
		{"launched", "", launchedCommand},
		{"loadhost", "", loadhostCommand},
		{"variant", "", variantCommand},
	}
}

func main() { os.Exit(realMain(os.Args[1:])) }

func realMain(args []string) int {
	if len(args) == 2 && args[0] == "help" {
		args = []string{args[1], "--help"}
	}
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" || args[0] == "-h" {
		usage()
		if len(args) == 0 {
			return exit.Usage
		}
		return exitCode(outputError(nil))
	}
	if args[0] == "--version" {
		args[0] = "version"
	}
	for _, c := range commands {
		if c.name == args[0] {
			ctx := interruptible()
			err := c.run(ctx, args[1:])
			return exitCode(interrupted(ctx, outputError(err)))
		}
	}
	return exitCode(usagef("%q is no command of kvwire (%s)", args[0], commandNames()))
}

// errInterrupted is the end of a command that has written what there was.
var errInterrupted = errors.New("interrupted")

// interrupted gives the end of a command exit.Interrupted, where a signal has ended it early and it has no code of its own.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() == nil || saysStop.Load() || exit.Code(err) > exit.Failed {
		return err
	}
	if err == nil {
		err = errInterrupted
	}
	return exit.With(exit.Interrupted, err)
}

// exitCode prints an error as one line and gives its exit code.
func exitCode(err error) int {
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return exit.OK
	}
	if !errors.Is(err, errInterrupted) && !unread(err) {
		fmt.Fprintln(os.Stderr, "kvwire:", quote.Line(quote.URLs(err.Error())))
	}
	return exit.Code(err)
}

// interruptible ends with the first ^C, TERM or HUP; the second ends the process at once.
func interruptible() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signalled := make(chan chan bool)
	stopSignals = func() bool {
		signal.Stop(signals) // what came is in the channel when it returns
		back := make(chan bool)
		signalled <- back
		return <-back
	}
	heard := false
	first := func() {
		heard = true
		if saysStop.Load() {
			cancel()
			return
		}
		terminal.Stderr().Erase() // a line that is written over, and the terminal's ^C behind it
		fmt.Fprintln(os.Stderr, "kvwire: stopping; what there is will be written (again to stop at once)")
		cancel()
	}
	go func() {
		for {
			select {
			case <-signals:
				if heard {
					exit.Abort()
					os.Exit(exit.Interrupted)
				}
				first()
			case back := <-signalled:
				select {
				case <-signals: // the other case was as ready
					heard = true
				default:
				}
				back <- heard
			}
		}
	}()
	return ctx
}

// saysStop is set by a command that says itself that it stops.
var saysStop atomic.Bool

// stopSignals leaves signals to what they do by themselves, which is to end the process, and says whether one has come before that. It is called
// before the process becomes another one, which would not know of it; nil: nobody listens.
var stopSignals func() bool

func commandNames() string {
	s := ""
	for _, c := range commands {
		if c.short == "" {
			continue
		}
		if s != "" {
			s += ", "
		}
		s += c.name
	}
	return s
}

func usage() {
	fmt.Fprintln(stdout, `Examples:
  kvwire run experiments/quick          every transport that works here, table and CSV
  kvwire bench --transport uring --backend mem --conns 64 --depth 16

kvwire measures what the network costs a key-value store, and where the time goes.

Commands:`)
	for _, c := range commands {
		if c.short == "" {
			continue
		}
		fmt.Fprintf(stdout, "  %-13s %s\n", c.name, c.short)
	}
	fmt.Fprintln(stdout, `
kvwire COMMAND --help has the common flags, --help-all every flag.
Results go to stdout, everything else to stderr.
Exit codes: 0 ok, 1 failed, 2 usage, 3 a required transport is missing, 4 wrong data,
6 thresholds missed, 130 ended early by ^C, TERM or HUP.`)
}
