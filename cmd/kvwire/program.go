package main

import (
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"

	"github.com/kvwire/kvwire/internal/logging"
	"github.com/kvwire/kvwire/lab/cell"
	"github.com/kvwire/kvwire/lab/run"
	"github.com/kvwire/kvwire/loop"
	"github.com/kvwire/kvwire/rdma"
	"github.com/kvwire/kvwire/report"
	"github.com/kvwire/kvwire/server"
	"github.com/kvwire/kvwire/server/serve"
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

// program has what lab/run and lab/cell do not import: the version, the networks and the functions that start servers. The main goroutine owns it.
var program = sync.OnceValue(func() *run.Program {
	return &run.Program{
		Program: &cell.Program{Version: version, Revision: revision(), Network: serve.FindNetwork, Granted: rdma.Granted,
			Plan: func(f *cell.Settings) (loop.Plan, error) { return serverOf(f).Plan() },
			Works: func(f *cell.Settings) error {
				s := serverOf(f)
				s.ChooseEngine()
				return s.EngineWorks()
			},
			Serve: func(f *cell.Settings) (*server.Server, error) {
				s := serverOf(f)
				s.Progress = report.NewStoreProgress("opening")
				return s.Start()
			},
			Note: note},
		Environment: func(links ...string) report.Env { return serve.Environment(revision(), links...) },
		Temporary:   serve.TemporaryParent,
	}
})

// serverOf returns the settings of the server of a cell.
func serverOf(f *cell.Settings) *serve.Settings {
	return &serve.Settings{Values: &f.Values, Given: f.Given, Log: (&logging.Options{Level: slog.LevelWarn}).New(os.Stderr)}
}

// note prints a line for the user.
func note(format string, args ...any) { fmt.Fprintf(os.Stderr, "kvwire: "+format+"\n", args...) }
