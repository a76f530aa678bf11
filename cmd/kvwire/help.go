package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/manual"
)

// helpText is the text that a command's --help begins with: an annotation of its flag --help-all.
const helpText = "help"

// newFlags makes the flags of a command; help is what --help begins with.
func newFlags(name, help string) *pflag.FlagSet {
	set := pflag.NewFlagSet("kvwire "+name, pflag.ContinueOnError)
	set.SortFlags = false
	set.Bool(factor.HelpAll, false, "list all flags")
	set.Lookup(factor.HelpAll).Annotations = map[string][]string{helpText: {help}}
	_ = set.MarkHidden(factor.HelpAll)
	set.Usage = func() { printUsage(set, false) }
	return set
}

func printUsage(set *pflag.FlagSet, all bool) {
	fmt.Fprintf(stdout, "%s\n\n", set.Lookup(factor.HelpAll).Annotations[helpText][0])
	factor.Usage(stdout, set, all)
}

// flagsWanted receives the flags of the next command that parses its arguments. The command then ends, as with --help.
var flagsWanted func(set *pflag.FlagSet)

// parseFlags parses a command's arguments. pflag.ErrHelp: the user asked for help, which is printed.
func parseFlags(set *pflag.FlagSet, args []string) error {
	if flagsWanted != nil {
		flagsWanted(set)
		return pflag.ErrHelp
	}
	if err := set.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return err
		}
		return exit.Usagef("%v (see %s --help)", factor.Mistake(err), set.Name())
	}
	if all, err := set.GetBool(factor.HelpAll); err == nil && all {
		printUsage(set, true)
		return pflag.ErrHelp
	}
	return nil
}

// allCommands returns the commands that users see, with their flags.
func allCommands(ctx context.Context) (all []manual.Command, err error) {
	defer func() { flagsWanted = nil }()
	for _, c := range commands {
		if c.short == "" {
			continue
		}
		d := manual.Command{Name: c.name, Short: c.short}
		flagsWanted = func(set *pflag.FlagSet) { d.Flags, d.Help = set, set.Lookup(factor.HelpAll).Annotations[helpText][0] }
		if err := c.run(ctx, nil); !errors.Is(err, pflag.ErrHelp) || d.Flags == nil {
			return nil, fmt.Errorf("kvwire %s: its flags are not known: %v", c.name, err)
		}
		all = append(all, d)
	}
	return all, nil
}

const completionHelp = `Usage: kvwire completion bash|zsh|fish

Examples:
  source <(kvwire completion bash)
  kvwire completion zsh > "${fpath[1]}/_kvwire"
  kvwire completion fish > ~/.config/fish/completions/kvwire.fish

Prints a script by which the shell completes commands, flags and the values of flags.`

func completionCommand(_ context.Context, args []string) error {
	set := newFlags("completion", completionHelp)
	if err := parseFlags(set, args); err != nil {
		return err
	}
	script, ok := manual.Completion[set.Arg(0)]
	if set.NArg() != 1 || !ok {
		return exit.Usagef("completion needs the name of a shell: bash, zsh or fish")
	}
	_, err := fmt.Fprint(stdout, script)
	return err
}

// completeCommand prints what the last argument can be completed to: the scripts of kvwire completion call it.
func completeCommand(ctx context.Context, args []string) error {
	all, err := allCommands(ctx)
	if err != nil {
		return err
	}
	for _, c := range manual.Complete(all, args) {
		fmt.Fprintln(stdout, c)
	}
	return nil
}

const manHelp = `Usage: kvwire man DIR

Examples:
  kvwire man /usr/local/share/man/man1

Writes the manual pages kvwire.1, kvwire-bench.1 and so on into DIR: the text of --help-all.`

func manCommand(ctx context.Context, args []string) error {
	set := newFlags("man", manHelp)
	if err := parseFlags(set, args); err != nil {
		return err
	}
	if set.NArg() != 1 {
		return exit.Usagef("man needs one folder (kvwire man DIR)")
	}
	all, err := allCommands(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(set.Arg(0), 0o755); err != nil {
		return err
	}
	for name, text := range manual.Pages(all, version) {
		if err := os.WriteFile(filepath.Join(set.Arg(0), name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
