package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/spf13/pflag"

	"github.com/kvwire/kvwire/internal/probe"
	"github.com/kvwire/kvwire/internal/testenv"
	"github.com/kvwire/kvwire/lab/experiment"
)

// The documentation is tested: TestDocumentedCommandsRun runs the blocks of language sh and python (with -short only those of README.md and
// examples), and the other tests check flags, make targets, YAML and links. A new command is run, unless notRun has a reason.

const checkout = "../.."

// notRun are the commands that are not run, with the reasons. Their flags, make targets and files are checked all the same.
var notRun = []struct{ pattern, reason string }{
	{`^make `, "it takes minutes, installs packages, or needs root"},
	{`^(KVWIRE_(UPDATE|LONG)=1 )?go (test|build) `, "it is this test, or takes as long"},
	{`^test/vm/vm\.sh `, "it needs qemu"},
	{`redis-cli |redis-benchmark |redis://`, "it needs Redis's programs; testdata/script/redis.txtar runs them"},
	{`valkey-|serve .*--transport rdma `, "it needs an RDMA device; testdata/script/rdma_resp.txtar runs it"},
	{`--search `, "whether a rate keeps its bound depends on the machine"},
	{`^ip (netns|-n) `, "it needs root and changes the machine's network"},
	{`-launch |^ssh `, "it needs other hosts; testdata/script/launch.txtar runs launchers"},
	{`^(docker|limactl) `, "it needs a container or a virtual machine"},
	{`^(git clone|cd kvwire|go install|apt-get)\b`, "it downloads; TestGoInstall in setup tries go install"},
	{`^(sha256sum -c --ignore-missing|tar|kvwire-v[^ ]*) `, "it needs the archives of a release, which setup/release_test.go tries"},
	{`[ >]/usr/local/`, "it writes to the system's folders; testdata/script/completion.txtar writes elsewhere"},
	{`^jq `, "it needs Podman's profile"},
	{`^tshark `, "it captures until it is ended, and needs root"},
}

// foreignFlags are flags in the documentation that belong to other programs.
var foreignFlags = map[string]string{
	"security-opt": "docker", "ulimit": "docker", "device": "docker", "network": "docker", "cpuset-cpus": "docker", "cpus": "docker",
	"rdma": "valkey-cli", "loadmodule": "valkey-server",
	"short-circuit-reads": "protostore", "num-tcp-threads": "protostore", "num-aio-threads": "protostore", "max-io-depth": "protostore",
	"help": "every command", "help-all": "every command",
}

var (
	// guides are the documents whose commands are run.
	guides = []string{"README.md", "SECURITY.md", "CONTRIBUTING.md", "docs/*.md", "examples/README.md", "examples/*/README.md"}
	// records are documents of what was measured and decided. Their commands are checked, but not run: they take long, or belong to an earlier version.
	records = []string{"experiments/*/README.md", "docs/adr/*.md", "docs/results/*.md", "docs/results/*/README.md"}
)

// documents returns the names of the files that match a pattern.
func documents(t *testing.T, patterns []string) (names []string) {
	t.Helper()
	for _, pattern := range patterns {
		found, err := fs.Glob(os.DirFS(checkout), pattern)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, found...)
	}
	return names
}

// A block is the text between two fences.
type block struct {
	file     string
	line     int // of its first line
	language string
	lines    []string
}

// blocksOf returns the fenced blocks of a document, and the rest of its lines; the lines of blocks are empty there.
func blocksOf(file, text string) (blocks []block, prose []string) {
	open := false
	for i, l := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(strings.TrimSpace(l), "```")
		switch {
		case isFence && !open:
			blocks = append(blocks, block{file: file, line: i + 2, language: fence})
			open = true
		case isFence:
			open = false
		case open:
			b := &blocks[len(blocks)-1]
			b.lines = append(b.lines, l)
		default:
			prose = append(prose, l)
			continue
		}
		prose = append(prose, "")
	}
	return blocks, prose
}

// A shellLine is one line of a block of language sh, with the lines that continue it.
type shellLine struct {
	at   string // file:line
	text string
}

func (b block) commands() (all []shellLine) {
	continued := false
	for i, l := range b.lines {
		if l = strings.TrimSpace(l); l == "" || strings.HasPrefix(l, "#") {
			continue
		}
		rest, goesOn := strings.CutSuffix(l, "\\")
		if continued {
			all[len(all)-1].text += rest
		} else {
			all = append(all, shellLine{fmt.Sprintf("%s:%d", b.file, b.line+i), rest})
		}
		continued = goesOn
	}
	return all
}

// comment is the end of a line that the shell leaves out.
var comment = regexp.MustCompile(`\s#\s.*$`)

// parts are the commands of a line that are joined by && outside of brackets and quotes, without comments.
func parts(line string) []string {
	line = strings.TrimSpace(comment.ReplaceAllString(line, ""))
	if strings.HasPrefix(line, "(") {
		return []string{line}
	}
	all := strings.Split(line, " && ")
	if slices.ContainsFunc(all, func(part string) bool { return strings.Count(part, "'")%2 == 1 }) {
		return []string{line}
	}
	return all
}

// docs checks documents. It has what they may refer to.
type docs struct {
	root     fs.FS
	flags    map[string]map[string]bool // of each command
	makefile string
}

func newDocs(t *testing.T) docs {
	t.Helper()
	d := docs{root: os.DirFS(checkout), flags: map[string]map[string]bool{}}
	for _, c := range commands {
		d.flags[c.name] = map[string]bool{"help": true, "help-all": true}
	}
	all, err := allCommands(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		c.Flags.VisitAll(func(f *pflag.Flag) { d.flags[c.Name][f.Name] = true })
	}
	text, err := fs.ReadFile(d.root, "Makefile")
	if err != nil {
		t.Fatal(err)
	}
	d.makefile = string(text)
	return d
}

var (
	call     = regexp.MustCompile("(?:^|[\\s'\"(`/])kvwire ([a-z][a-z-]*)($|[\\s'\")|;&>`][^|;>#`]*)")
	quoted   = regexp.MustCompile(`(--[a-z-]+) '[^']*'`)
	flagName = regexp.MustCompile(`(?:^|[\s\[(])--([a-z][a-z0-9-]*[a-z0-9])`)
	span     = regexp.MustCompile("`([^`]+)`")
)

// calls checks the flags of all kvwire commands in a text.
func (d docs) calls(text string) (problems []string) {
	for _, m := range call.FindAllStringSubmatch(text, -1) {
		if m[1] == "kvwire" { // an image of that name
			problems = append(problems, d.calls(m[1]+m[2])...)
			continue
		}
		known, ok := d.flags[m[1]]
		if !ok {
			problems = append(problems, fmt.Sprintf("%q is no command of kvwire", m[1]))
			continue
		}
		for _, f := range flagName.FindAllStringSubmatch(quoted.ReplaceAllString(m[2], "$1"), -1) {
			if !known[f[1]] {
				problems = append(problems, fmt.Sprintf("kvwire %s has no flag --%s", m[1], f[1]))
			}
		}
		if words := strings.Fields(m[2]); m[1] == "run" && len(words) > 0 && regexp.MustCompile(`^[a-z-]+$`).MatchString(words[0]) && !strings.HasPrefix(words[0], "-") {
			if !slices.Contains(experiment.BuiltIn(), words[0]) {
				problems = append(problems, fmt.Sprintf("%s is none of the experiments of kvwire", words[0]))
			}
		}
	}
	return problems
}

// prose checks the flags and commands that stand in a line of text.
func (d docs) prose(line string) (problems []string) {
	for _, m := range span.FindAllStringSubmatch(line, -1) {
		code := strings.ReplaceAll(m[1], `\|`, "|")
		if call.MatchString(code) {
			problems = append(problems, d.calls(code)...)
			continue
		}
		if !strings.HasPrefix(code, "-") { // another program's
			continue
		}
		for _, f := range flagName.FindAllStringSubmatch(code, -1) {
			known := foreignFlags[f[1]] != "" || strings.Contains(code, f[1]+"-…")
			for _, flags := range d.flags {
				known = known || flags[f[1]]
			}
			if !known {
				problems = append(problems, "no command of kvwire has a flag --"+f[1]+" (another program's: foreignFlags)")
			}
		}
	}
	return problems
}

// command checks what a command refers to.
func (d docs) command(text string) (problems []string) {
	problems = d.calls(comment.ReplaceAllString(text, ""))
	for _, part := range parts(text) {
		words := strings.Fields(part)
		for len(words) > 1 && regexp.MustCompile(`^[A-Z_]+=`).MatchString(words[0]) {
			words = words[1:]
		}
		switch first := words[0]; {
		case first == "make":
			problems = append(problems, d.make(words[1:])...)
		case first == "go":
			problems = append(problems, d.goTool(part)...)
		case strings.Contains(first, "/") && !strings.HasPrefix(first, "(") && !strings.HasSuffix(first, "bin/kvwire"):
			if _, err := fs.Stat(d.root, path.Clean(first)); err != nil {
				problems = append(problems, fmt.Sprintf("there is no %s", first))
			}
		}
	}
	return problems
}

func (d docs) make(words []string) (problems []string) {
	for _, w := range words {
		if name, _, isVariable := strings.Cut(w, "="); isVariable {
			if name == strings.ToUpper(name) && !regexp.MustCompile(`\b`+name+`\b`).MatchString(d.makefile) {
				problems = append(problems, "the Makefile has no variable "+name)
			}
			if strings.HasPrefix(w, name+"='") {
				break
			}
		} else if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(w) + `:`).MatchString(d.makefile) {
			problems = append(problems, "the Makefile has no target "+w)
		}
	}
	return problems
}

// goTool checks that packages are there, and that -run finds a test in one of them.
func (d docs) goTool(text string) (problems []string) {
	var sources strings.Builder
	for _, word := range strings.Fields(text) {
		dir, ok := strings.CutPrefix(word, "./")
		if !ok || dir == "..." {
			continue
		}
		files, err := fs.Glob(d.root, dir+"/*.go")
		if err != nil || len(files) == 0 {
			problems = append(problems, "there is no package "+word)
		}
		for _, f := range files {
			b, _ := fs.ReadFile(d.root, f)
			sources.Write(b)
		}
	}
	if m := regexp.MustCompile(`\s-run '?([^\s']+)`).FindStringSubmatch(text); m != nil {
		for _, alternative := range strings.Split(m[1], "|") {
			top, _, _ := strings.Cut(alternative, "/")
			if !regexp.MustCompile(`(?m)^func Test\w*` + regexp.QuoteMeta(strings.TrimSuffix(top, "$"))).MatchString(sources.String()) {
				problems = append(problems, fmt.Sprintf("-run %s finds no test", alternative))
			}
		}
	}
	return problems
}

// heading is a line of a document to which links go.
var heading = regexp.MustCompile(`^#{1,6}\s+(.*?)\s*#*$`)

// anchors are the anchors of a document, as GitHub makes them.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	_, prose := blocksOf("", text)
	for _, l := range prose {
		for _, m := range regexp.MustCompile(`(?:id|name)="([^"]+)"`).FindAllStringSubmatch(l, -1) {
			all[m[1]] = true
		}
		m := heading.FindStringSubmatch(l)
		if m == nil {
			continue
		}
		title := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(m[1], "$1")
		slug := strings.ReplaceAll(regexp.MustCompile(`[^\p{L}\p{N}\s_-]`).ReplaceAllString(strings.ToLower(title), ""), " ", "-")
		for name, n := slug, 1; ; name, n = fmt.Sprintf("%s-%d", slug, n), n+1 {
			if !all[name] {
				all[name] = true
				break
			}
		}
	}
	return all
}

var link = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()]*\))?)\)|(?:src|href)="([^"]+)"`)

// links checks that the files and anchors to which a document links are there.
func (d docs) links(file, text string) (problems []string) {
	_, prose := blocksOf(file, text)
	for i, l := range prose {
		for _, m := range link.FindAllStringSubmatch(l, -1) {
			target := m[1] + m[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			name, anchor, _ := strings.Cut(target, "#")
			if name = path.Join(path.Dir(file), name); strings.HasPrefix(target, "#") {
				name = file
			}
			if _, err := fs.Stat(d.root, name); err != nil {
				problems = append(problems, fmt.Sprintf("%s:%d: there is no %s", file, i+1, target))
				continue
			}
			if anchor == "" || path.Ext(name) != ".md" {
				continue
			}
			b, _ := fs.ReadFile(d.root, name)
			if !anchors(string(b))[anchor] {
				problems = append(problems, fmt.Sprintf("%s:%d: %s has no heading #%s", file, i+1, name, anchor))
			}
		}
	}
	return problems
}

// unmarked is a command in a block of no language. A line of a drawing (─) or of a table is none.
var unmarked = regexp.MustCompile(`^\s*(?:bin/)?(?:kvwire ([a-z-]+)|make [a-z-]+)( [^─]*)?$`)

// document checks all of a document but its links.
func (d docs) document(file, text string) (problems []string) {
	add := func(at string, found []string) {
		for _, p := range found {
			problems = append(problems, at+": "+p)
		}
	}
	blocks, prose := blocksOf(file, text)
	for i, l := range prose {
		add(fmt.Sprintf("%s:%d", file, i+1), d.prose(l))
	}
	for _, b := range blocks {
		switch b.language {
		case "sh":
			for _, c := range b.commands() {
				add(c.at, d.command(c.text))
			}
		case "yaml":
			add(fmt.Sprintf("%s:%d", file, b.line), checkYAML(strings.Join(b.lines, "\n")+"\n"))
		case "":
			for i, l := range b.lines {
				if m := unmarked.FindStringSubmatch(l); m != nil && (m[1] == "" || d.flags[m[1]] != nil) {
					add(fmt.Sprintf("%s:%d", file, b.line+i), []string{"a command in a block that is not of language sh"})
				}
			}
		}
	}
	return problems
}

// claimedCells is an experiment that has the cells of the claims in the documentation.
const claimedCells = `name: claimed
transport: inproc
backend: raw
disk-engine: [uring, uring-shared]
server-threads: [1, 4]
depth: [4, 16, 128]
`

// checkYAML reads an experiment or claims.
func checkYAML(text string) []string {
	var err error
	if strings.HasPrefix(text, "claims:") {
		var x *experiment.Experiment
		if x, err = experiment.Read("experiment.yaml", []byte(claimedCells), program().ExperimentFlags()); err == nil {
			_, err = experiment.ReadClaims("claims.yaml", []byte(text), x, program().ExperimentFlags())
		}
	} else {
		_, err = experiment.Read("experiment.yaml", []byte(text), program().ExperimentFlags())
	}
	if err != nil {
		return []string{err.Error()}
	}
	return nil
}

func TestDocumentationNamesWhatThereIs(t *testing.T) {
	d := newDocs(t)
	for _, name := range documents(t, slices.Concat(guides, records)) {
		text, err := fs.ReadFile(d.root, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range d.document(name, string(text)) {
			t.Error(p)
		}
	}
}

func TestLinksInDocumentationLead(t *testing.T) {
	d := newDocs(t)
	err := fs.WalkDir(d.root, ".", func(name string, e fs.DirEntry, err error) error {
		if e.IsDir() && name != "." && (strings.HasPrefix(e.Name(), ".git") || slices.Contains([]string{"bin", "results"}, name)) {
			return fs.SkipDir
		}
		if err != nil || path.Ext(name) != ".md" {
			return err
		}
		text, err := fs.ReadFile(d.root, name)
		for _, p := range d.links(name, string(text)) {
			t.Error(p)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// The experiment in README.md is the file that it names.
func TestTheExperimentOfREADMEIsInExamples(t *testing.T) {
	d := newDocs(t)
	text, err := fs.ReadFile(d.root, "README.md")
	if err != nil {
		t.Fatal(err)
	}
	file, err := fs.ReadFile(d.root, "examples/depth/experiment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	blocks, _ := blocksOf("README.md", string(text))
	i := slices.IndexFunc(blocks, func(b block) bool { return b.language == "yaml" })
	if i < 0 || !strings.HasSuffix(string(file), "\n"+strings.Join(blocks[i].lines, "\n")+"\n") {
		t.Error("examples/depth/experiment.yaml does not end with the experiment of README.md")
	}
}

func TestMistakesInDocumentationAreFound(t *testing.T) {
	d := newDocs(t)
	for _, c := range []struct{ text, want string }{
		{"```sh\nbin/kvwire bench --transport tcp --depht 4    # deep\n```\n", "a.md:2: kvwire bench has no flag --depht"},
		{"```sh\nkvwire serve --listen 10.0.0.1:7070 \\\n    --auth-fiel users &\n```\n", "a.md:2: kvwire serve has no flag --auth-fiel"},
		{"```sh\nbin/kvwire bensh --depth 4\n```\n", `a.md:2: "bensh" is no command of kvwire`},
		{"```sh\nmake vm CMD='kvwire doctor --dri /x'\n```\n", "a.md:2: kvwire doctor has no flag --dri"},
		{"```sh\nmake chek\n```\n", "a.md:2: the Makefile has no target chek"},
		{"```sh\nmake build && make soak TT=1h\n```\n", "a.md:2: the Makefile has no variable TT"},
		{"```sh\ngo test ./urring -v\n```\n", "a.md:2: there is no package ./urring"},
		{"```sh\ngo test ./loop -run 'LosesNoWakeUp|NoSuch'\n```\n", "a.md:2: -run NoSuch finds no test"},
		{"```sh\nbench/ekko.sh\n```\n", "a.md:2: there is no bench/ekko.sh"},
		{"```sh\nbin/kvwire run quik\n```\n", "a.md:2: quik is none of the experiments of kvwire"},
		{"```\nbin/kvwire doctor\n```\n", "a.md:2: a command in a block that is not of language sh"},
		{"```yaml\nname: a\ntransport: tcp\ndepht: 4\n```\n", `a.md:2: experiment.yaml:3:1: `},
		{"```yaml\nclaims:\n  - id: a\n    klaim: b\n```\n", "a.md:2: claims.yaml:3:5: "},
		{"Use `--durability` or `--duribility`.\n", "a.md:1: no command of kvwire has a flag --duribility "},
		{"It is `kvwire load --record 4`.\n", "a.md:1: kvwire load has no flag --record"},
	} {
		got := d.document("a.md", c.text)
		if len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%q\nfound %q\nwant  %q", c.text, got, c.want)
		}
	}
	for _, c := range []struct{ text, want string }{
		{"# A\nSee [it](b.md) and [that](README.md).\n", "docs/a.md:2: there is no b.md"},
		{"# A\n\nSee [it](#b), [this](#a).\n", "docs/a.md:3: docs/a.md has no heading #b"},
		{"[it](../README.md#commands), [that](../README.md#comands)\n", "docs/a.md:1: README.md has no heading #comands"},
		{"<img src=\"../nothing.svg\">\n", "docs/a.md:1: there is no ../nothing.svg"},
	} {
		d := docs{root: fstest.MapFS{"docs/a.md": {Data: []byte(c.text)}, "docs/README.md": {}, "README.md": {Data: []byte("## Commands\n")}}}
		got := d.links("docs/a.md", c.text)
		if len(got) != 1 || got[0] != c.want {
			t.Errorf("%q\nfound %q\nwant  %q", c.text, got, c.want)
		}
	}
}

// A documented command runs in a folder of its own, shortened: kvwire run gets --estimate, and loads have few records and operations.
const shortened = `#!/bin/sh
case " $* " in
*" --help "* | *" --resume "*) ;;
" run "*) set -- "$@" --estimate ;;
" bench "*--trace*) set -- "$@" --operations 100 --warmup 0s ;;
" bench "*) set -- "$@" --operations 500 --warmup 0s --records 1k ;;
" load "*) set -- "$@" --records 1k ;;
esac
exec env %s=1 %q "$@"
`

// measured is the experiment whose results the documented commands read.
const measured = `name: measured
transport: [inproc, codec]
backend: null
value-bytes: 64
generations: 6
warmup: 10ms
slice: 10ms
time: 1s
`

const measuredClaims = `claims:
  - {id: frames-cost, claim: Frames cost CPU time., source: a test, metric: cpu_ns_per_op, cells: {transport: codec}, beside: {transport: inproc}, expect: {direction: higher}}
`

// sandbox makes a folder like a checkout in which kvwire has run, with the program as bin/kvwire.
func sandbox(t *testing.T, results string) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "kvwire-docs-") // short: a unix socket's path has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "docs", "data", "run", "results", "tmp"} {
		must(os.Mkdir(filepath.Join(dir, name), 0o755))
	}
	for _, name := range []string{"examples", "experiments"} {
		must(os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(checkout, name))))
	}
	for _, name := range []string{"before", "after"} {
		must(os.CopyFS(filepath.Join(dir, "results", name), os.DirFS(results)))
	}
	must(os.Symlink("after", filepath.Join(dir, "results", "latest")))
	self, err := os.Executable()
	must(err)
	must(os.WriteFile(filepath.Join(dir, "bin", "kvwire"), fmt.Appendf(nil, shortened, asProgram, self), 0o755))
	return dir
}

// measure runs the experiment measured, and returns the folder of its results.
func measure(t *testing.T) (results string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"experiment.yaml": measured, "claims.yaml": measuredClaims} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	results = filepath.Join(dir, "results")
	if out, err := asKvwire(t.Context(), "run", filepath.Join(dir, "experiment.yaml"), "--output-dir", results).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return results
}

// shell returns a line for bash in the folder dir.
func shell(ctx context.Context, dir, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-c", line)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+filepath.Join(dir, "tmp"), "PATH="+filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	cmd.WaitDelay = time.Second
	return cmd
}

// serveLine starts a server, waits until it listens, and ends it when the test ends.
func serveLine(t *testing.T, dir, at, line string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	cmd := shell(ctx, dir, "exec "+line)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		defer cancel()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %s: %v: %s", at, line, err, &said)
		}
	})
	first := make([]byte, 1)
	if _, err := out.Read(first); err != nil {
		t.Errorf("%s: %s: it does not serve", at, line)
	}
}

// publishedFolder is a folder of results that a command may read.
var publishedFolder = regexp.MustCompile(`\bdocs/results/[0-9][\w-]+`)

func TestDocumentedCommandsRun(t *testing.T) {
	testenv.NotShort(t, "it runs the commands of all documents")
	t.Parallel()
	testenv.Need(t, "uring", probe.Uring(probe.Local()).Err())
	results := measure(t) // what docs/ reads is not all published
	used := map[string]bool{}
	for _, name := range documents(t, guides) {
		text, err := os.ReadFile(filepath.Join(checkout, name))
		if err != nil {
			t.Fatal(err)
		}
		var run []block
		blocks, _ := blocksOf(name, string(text))
		for _, b := range blocks {
			if b.language == "sh" || b.language == "python" {
				run = append(run, b)
			}
		}
		for _, b := range run {
			for _, c := range b.commands() {
				for _, part := range parts(c.text) {
					if i := exempt(part); i >= 0 {
						used[notRun[i].pattern] = true
					}
				}
			}
		}
		if len(run) > 0 {
			t.Run(strings.ReplaceAll(name, "/", "-"), func(t *testing.T) {
				t.Parallel()
				dir := sandbox(t, results)
				for _, name := range publishedFolder.FindAllString(string(text), -1) {
					if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(checkout, name))); err != nil && !errors.Is(err, fs.ErrExist) {
						t.Fatal(err)
					}
				}
				runBlocks(t, dir, run)
			})
		}
	}
	for _, x := range notRun {
		if !used[x.pattern] {
			t.Errorf("%s is in no document", x.pattern)
		}
	}
}

// exempt returns the number of the reason not to run a command; -1: there is none.
func exempt(text string) int {
	for i, x := range notRun {
		if regexp.MustCompile(x.pattern).MatchString(text) {
			return i
		}
	}
	return -1
}

// duration is a flag of bench that its shortened form does not have, since --operations ends the window.
var duration = regexp.MustCompile(` --duration \S+`)

// runBlocks runs a document's blocks, one after the other. What a block keeps under /data, and its servers, are its own.
func runBlocks(t *testing.T, dir string, blocks []block) {
	for i, b := range blocks {
		t.Run(fmt.Sprintf("line-%d", b.line), func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			if b.language == "python" {
				python(ctx, t, filepath.Join(dir, "results", "latest"), b)
				return
			}
			data := filepath.Join(dir, "data", fmt.Sprint(i))
			here := strings.NewReplacer("/data/", data+"/", "/run/user/1000/", filepath.Join(dir, "run")+"/", "10.0.0.1", "127.0.0.1",
				":7070", fmt.Sprint(":", freePort(t)), ":9400", fmt.Sprint(":", freePort(t)))
			if err := os.Mkdir(data, 0o755); err != nil {
				t.Fatal(err)
			}
			for _, c := range b.commands() {
				for _, part := range parts(c.text) {
					if exempt(part) >= 0 {
						continue
					}
					line := here.Replace(duration.ReplaceAllString(part, ""))
					if server, ok := strings.CutSuffix(line, "&"); ok {
						serveLine(t, dir, c.at, server)
					} else if missing(line) {
						t.Logf("%s: not run: %s is not installed", c.at, line)
					} else if out, err := shell(ctx, dir, line).CombinedOutput(); err != nil {
						t.Errorf("%s: %s: %v\n%s", c.at, c.text, err, out)
					}
				}
			}
		})
	}
}

// missing reports whether a line begins with a program that this machine lacks.
func missing(line string) bool {
	program, _, _ := strings.Cut(line, " ")
	if !slices.Contains([]string{"awk", "curl", "openssl", "python3"}, program) {
		return false
	}
	_, err := exec.LookPath(program)
	return err != nil
}

// python runs a program in a folder of results.
func python(ctx context.Context, t *testing.T, dir string, b block) {
	if missing("python3 ") {
		t.Skip("python3 is not installed")
	}
	cmd := exec.CommandContext(ctx, "python3", "-")
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(strings.Join(b.lines, "\n"))
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "codec") {
		t.Errorf("%s:%d: %v\n%s", b.file, b.line, err, out)
	}
}
