package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kvwire/kvwire/factor"
	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/manual"
	"github.com/kvwire/kvwire/lab/experiment"
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
		return exit.Usagef("%v%s (see %s --help)", factor.Mistake(err), factor.Meant(set, err), set.Name())
	}
	if all, err := set.GetBool(factor.HelpAll); err == nil && all {
		printUsage(set, true)
		return pflag.ErrHelp
	}
	for i, arg := range set.Args() {
		if strings.TrimSpace(arg) == "" { // for example an unset variable of a shell
			return exit.Usagef("argument %d is empty (see %s --help)", i+1, set.Name())
		}
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
		if c.name == "run" {
			d.Arguments = experiment.BuiltIn()
		}
		all = append(all, d)
	}
	return all, nil
}
