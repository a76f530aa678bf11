package fleet

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/kvwire/kvwire/internal/exit"
)

// Run runs a kvwire command and returns its standard output; its standard error goes to log, with name in front. The end of ctx interrupts it. An error has the
// command's exit code, and the last line of its standard error.
func Run(ctx context.Context, name string, args []string, log io.Writer) ([]byte, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	tee := &stderrTee{name: name, to: log}
	cmd.Stdout, cmd.Stderr = &out, tee
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(os.Interrupt) })
	defer stop()
	if err = cmd.Wait(); err == nil {
		return out.Bytes(), nil
	}
	code := exit.Failed
	if status := new(exec.ExitError); errors.As(err, &status) {
		code = cmp.Or(max(status.ExitCode(), 0), exit.Failed)
	}
	if code == exit.Interrupted && ctx.Err() != nil && out.Len() > 0 {
		return out.Bytes(), nil // its output has the reason
	}
	return out.Bytes(), exit.With(code, fmt.Errorf("%w: %s", err, strings.TrimPrefix(tee.last(), "; its last line of standard error: ")))
}
