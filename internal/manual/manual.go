// Package manual describes a program's commands for a shell's completion and for manual pages. Both come from the flags of the commands.
package manual

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kvwire/kvwire/factor"
)

// Command is one command of kvwire.
type Command struct {
	Name, Short string
	Help        string   // what its --help begins with: usage, examples and a description
	Arguments   []string // what a word that is no flag can be completed to; none: file names
	Flags       *pflag.FlagSet
}

// Completion has the script of each shell. A script calls `kvwire complete WORD…`, and completes file names where that prints nothing.
var Completion = map[string]string{
	"bash": `_kvwire() {
    local IFS=$'\n' cur=${COMP_WORDS[COMP_CWORD]}
    [[ $cur != "=" ]] || cur= # bash makes three words of --flag=value
    COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1)" -- "$cur"))
}
complete -o default -F _kvwire kvwire
`,
	"zsh": `#compdef kvwire
_kvwire() {
    local -a found
    local line
    for line in ${(f)"$(${words[1]} complete ${words[2,CURRENT]} 2>/dev/null)"}; do
        found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    done
    if ((${#found})); then _describe kvwire found; else _files; fi
}
if [[ $funcstack[1] == _kvwire ]]; then _kvwire; else compdef _kvwire kvwire; fi
`,
	"fish": `function __kvwire
    set -l words (commandline -opc) (commandline -ct)
    set -l found ($words[1] complete $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path $words[-1]
    end
end
complete -c kvwire -f -a '(__kvwire)'
`,
}

// Complete returns what the last of the words can be completed to, each with its description behind a tab. The words are those behind the
// program's name. Nothing: a file name, or anything.
func Complete(all []Command, words []string) (found []string) {
	last := ""
	if len(words) > 0 {
		last = words[len(words)-1]
		words = words[:len(words)-1]
	}
	add := func(word, about string) {
		if strings.HasPrefix(word, last) {
			about, _, _ = strings.Cut(about, "\n")
			found = append(found, word+"\t"+about)
		}
	}
	if n := len(words); last == "=" && n > 0 && strings.HasPrefix(words[n-1], "--") { // bash makes three words of --flag=value
		last = ""
	} else if n > 1 && words[n-1] == "=" && strings.HasPrefix(words[n-2], "--") {
		words = words[:n-1]
	}
	if len(words) == 0 {
		for _, c := range all {
			add(c.Name, c.Short)
		}
		return found
	}
	i := slices.IndexFunc(all, func(c Command) bool { return c.Name == words[0] })
	if i < 0 {
		return nil
	}
	flags := all[i].Flags
	if name, is := strings.CutPrefix(words[len(words)-1], "--"); is && !strings.Contains(name, "=") {
		if g := flags.Lookup(name); g != nil && g.NoOptDefVal == "" { // its value is the next word
			for _, w := range valuesOf(name) {
				add(w, "")
			}
			return found
		}
	}
	if flag, _, is := strings.Cut(last, "="); is && strings.HasPrefix(flag, "--") {
		for _, w := range valuesOf(flag[len("--"):]) {
			add(flag+"="+w, "")
		}
		return found
	}
	if strings.HasPrefix(last, "-") {
		flags.VisitAll(func(g *pflag.Flag) {
			if !g.Hidden || g.Name == factor.HelpAll {
				add("--"+g.Name, g.Usage)
			}
		})
		add("--help", "list the common flags")
		return found
	}
	for _, a := range all[i].Arguments {
		add(a, "")
	}
	return found
}

// valuesOf returns the words that a flag accepts; none: it accepts others, or is no factor.
func valuesOf(flag string) []string {
	if f := factor.All.Find(flag); f != nil {
		return f.Words
	}
	return nil
}

// synopsis returns the lines of a command's usage, with which its help begins.
func synopsis(c Command) (lines []string) {
	usage, _, _ := strings.Cut(c.Help, "\n\n")
	usage, is := strings.CutPrefix(usage, "Usage: ")
	if !is {
		return []string{"kvwire " + c.Name + " [flags]"}
	}
	for line := range strings.Lines(usage) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// Pages returns the manual pages in troff (man(7)), by file name.
func Pages(all []Command, version string) map[string]string {
	pages := map[string]string{}
	var list strings.Builder
	for _, c := range all {
		fmt.Fprintf(&list, ".TP\n.B %s\n%s\n", escape(c.Name), escape(c.Short))
		var usage strings.Builder
		factor.Usage(&usage, c.Flags, true)
		p := header("kvwire-"+c.Name, c.Short, version)
		p += ".SH SYNOPSIS\n"
		for i, line := range synopsis(c) {
			if i > 0 {
				p += ".br\n"
			}
			name := "kvwire " + c.Name
			p += ".B " + escape(name) + "\n" + escape(strings.TrimSpace(strings.TrimPrefix(line, name))) + "\n"
		}
		p += ".SH DESCRIPTION\n" + verbatim(c.Help) + ".SH OPTIONS\n" + verbatim(usage.String()) + ".SH SEE ALSO\n.BR kvwire (1)\n"
		pages["kvwire-"+c.Name+".1"] = p
	}
	p := header("kvwire", "measure what the network costs a key-value store", version)
	p += ".SH SYNOPSIS\n.B kvwire\n.I COMMAND\n[flags]\n.SH COMMANDS\n" + list.String()
	p += ".SH EXIT STATUS\n0 ok, 1 failed, 2 usage, 3 a required transport is missing, 4 wrong data, 6 thresholds missed, 130 interrupted.\n"
	pages["kvwire.1"] = p
	return pages
}

// Write writes the pages into dir, which it makes.
func Write(dir string, all []Command, version string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("folder for the manual pages: %w (name another one)", err)
	}
	for name, text := range Pages(all, version) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func header(name, short, version string) string {
	return fmt.Sprintf(".TH %s 1 \"\" \"kvwire %s\"\n.SH NAME\n%s \\- %s\n", strings.ToUpper(escape(name)), escape(version), escape(name), escape(short))
}

// verbatim shows text as it is, without filling its lines.
func verbatim(text string) string {
	var b strings.Builder
	b.WriteString(".nf\n")
	for line := range strings.Lines(text) {
		line = escape(strings.TrimSuffix(line, "\n"))
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		b.WriteString(line + "\n")
	}
	return b.String() + ".fi\n"
}

// escape replaces what troff would interpret: backslashes, and hyphens, which it would print as dashes.
func escape(text string) string { return strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text) }
