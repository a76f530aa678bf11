// Command kvwire serves a key-value store over several networks, loads it, and measures what the network
// costs. This package binds flags, calls the package of each command, and prints.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/interrupt"
	"github.com/kvwire/kvwire/internal/names"
	"github.com/kvwire/kvwire/internal/quote"
	"github.com/kvwire/kvwire/internal/terminal"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// stdout receives the results of commands. It belongs to the main goroutine. A write error makes the command fail (outputError).
var stdout = &terminal.Output{}

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
		{"bench", "measure one run, with a server of its own or the one at --target", benchCommand},
		{"serve", "serve a store", serveCommand},
		{"load", "fill a store with records", loadCommand},
		{"check", "look for damage in a store's files, without changing them", checkCommand},
		{"stat", "print the contents of a store's files, and the memory of its index", statCommand},
		{"host", "start servers for a kvwire on another machine", hostCommand},
		{"instrument", "test how far results can be trusted, with trials whose true ratios are known", instrumentCommand},
		{"calibrate", "measure the unit costs of a system call, a message, a wake-up and a copy", calibrateCommand},
		{"doctor", "list what works on this machine, and for the rest the reason and the remedy", doctorCommand},
		{"version", "print version, build, and the features that are compiled in", versionCommand},
		{"completion", "print the completion script of commands and flags for bash, zsh or fish", completionCommand},
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
			ctx := interrupt.Context()
			program().Context = ctx
			err := c.run(ctx, args[1:])
			return exitCode(interrupt.With(ctx, outputError(err)))
		}
	}
	list := commandNames()
	meant := ""
	if best := names.Nearest(args[0], list); best != "" {
		meant = fmt.Sprintf("; do you mean %s?", best)
	}
	return exitCode(exit.Usagef("%q is no command of kvwire%s (%s)", args[0], meant, strings.Join(list, ", ")))
}

// exitCode prints an error as one line and gives its exit code.
func exitCode(err error) int {
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return exit.OK
	}
	if !errors.Is(err, interrupt.Err) && !unread(err) {
		fmt.Fprintln(os.Stderr, "kvwire:", quote.Line(quote.URLs(err.Error())))
	}
	return exit.Code(err)
}

// outputError returns err, the result of a command, or the write error if the command itself had none.
func outputError(err error) error {
	if (err == nil || errors.Is(err, pflag.ErrHelp)) && stdout.Err() != nil {
		return fmt.Errorf("the output was not written: %w (free some space, or send it elsewhere)", stdout.Err())
	}
	return err
}

// unread reports whether a command failed because the reader of its output has gone (| head). This needs no message.
func unread(err error) bool {
	return errors.Is(stdout.Err(), unix.EPIPE) && errors.Is(err, unix.EPIPE)
}

// commandNames are the commands that users see.
func commandNames() (all []string) {
	for _, c := range commands {
		if c.short != "" {
			all = append(all, c.name)
		}
	}
	return all
}

func usage() {
	fmt.Fprintln(stdout, `Examples:
  kvwire run experiments/quick          tcp, uring and rdma, as far as they work here: table and CSV
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
