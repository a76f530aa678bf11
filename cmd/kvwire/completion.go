package main

import (
	"context"
	"fmt"

	"github.com/kvwire/kvwire/internal/exit"
	"github.com/kvwire/kvwire/internal/manual"
)

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
