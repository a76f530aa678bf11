package main

import (
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/transport/stream"
)

// authEnv is the environment variable by which a run tells its servers and load hosts the secret that it has made for them: a line as
// in --auth-file. Arguments would be seen by all users of the machine.
const authEnv = "KVWIRE_AUTH"

// identity is who a client says that it is.
type identity struct {
	file, name string
	who        *access.Entry // nil: nobody
}

// identityFlags are the names of the flags that say so.
var identityFlags = []string{"auth-file", "auth-name"}

func (f *factors) identityFlags() {
	f.set.StringVar(&f.as.file, "auth-file", "", "with --target: a file of lines NAME rw|ro SECRET, one of which the server has, too")
	f.set.StringVar(&f.as.name, "auth-name", "", "which of its lines; default: the first")
}

// readIdentity finds out who this client is.
func (f *factors) readIdentity() (err error) {
	a := &f.as
	switch {
	case a.file == "" && a.name != "":
		return usagef("--auth-name needs --auth-file")
	case a.file != "" && f.target == "":
		return usagef("--auth-file needs --target: a server of the run's own lets in nobody else")
	case a.file != "" && a.who != nil:
		return usagef("--target names somebody: leave --auth-file out")
	}
	var list *access.List
	if a.file != "" {
		list, err = access.ReadFile(a.file)
	} else if a.who == nil && f.target != "" && !f.redis {
		list, err = inherited()
	}
	if err != nil || list == nil {
		return err
	}
	who, err := list.Named(a.name)
	if err != nil {
		return usagef("--auth-name: %v", err)
	}
	a.who = &who
	return nil
}

// inherited are those that the run which has started this process named; nil: there is no such run.
func inherited() (*access.List, error) {
	text, ok := os.LookupEnv(authEnv)
	if !ok {
		return nil, nil
	}
	list, err := access.Parse([]byte(text))
	if err != nil {
		return nil, usagef("%s: %v", authEnv, err)
	}
	return list, nil
}

// engage makes the secret that a server of the run's own and its clients share, and gives it as text.
func (f *factors) engage() string {
	who := access.Random("run")
	f.as.who = &who
	return f.as.text()
}

// text is what other clients of the run are told; "": nothing.
func (a *identity) text() string {
	if a.who == nil {
		return ""
	}
	return a.who.Text()
}

// withSecret is this process' environment, and in it such a text.
func withSecret(text string) []string {
	if text == "" {
		return os.Environ()
	}
	return append(os.Environ(), authEnv+"="+text)
}

// guard is who a server lets in.
type guard struct {
	file     string
	insecure bool
	list     *access.List // nil: anybody
}

func (f *factors) guardFlags() {
	f.set.StringVar(&f.guard.file, "auth-file", "", "who may connect: lines NAME rw|ro SECRET, in a file that is its owner's alone (chmod 600)")
	f.insecureFlag("let anybody connect who reaches --listen, from other machines, too; with --auth-file, let anybody read --metrics alone")
}

func (f *factors) insecureFlag(what string) {
	f.set.BoolVar(&f.guard.insecure, "insecure", false, what)
}

// readGuard reads who may connect. Where that is anybody, listen has to be on loopback, or --insecure given; so has --metrics, where nobody is asked.
func (f *factors) readGuard(listen string) (err error) {
	g := &f.guard
	open, err := reached(f.metrics)
	if err != nil {
		return fmt.Errorf("--metrics: %w", err)
	}
	switch {
	case open && !g.insecure:
		return usagef("--metrics %s is reached from other machines, and nobody is asked there who they are: let in anybody, with --insecure, or keep it on loopback (ssh -L brings it elsewhere)", f.metrics)
	case g.insecure && g.file != "" && !open:
		return usagef("--insecure lets anybody connect, and --auth-file does not: give one of them")
	case g.file != "":
		g.list, err = access.ReadFile(g.file)
	case !g.insecure:
		g.list, err = inherited()
	}
	if err != nil || g.list != nil {
		return err
	}
	return f.checkOpen(listen, "name who may connect, with --auth-file, or let in anybody, with --insecure")
}

// checkOpen refuses an address that other machines reach, where anybody may connect and nobody said so.
func (f *factors) checkOpen(listen, remedy string) error {
	open, err := reached(listen)
	if err == nil && open && !f.guard.insecure {
		err = usagef("--listen %s is reached from other machines: %s", listen, remedy)
	}
	return err
}

// reached says whether other machines reach an address, host:port; none is not reached.
func reached(addr string) (bool, error) {
	if addr == "" {
		return false, nil
	}
	at, err := stream.Resolve(addr)
	return err == nil && !at.IsLoopback(), err
}

// cutUser takes the user and password off what stands behind redis://.
func (f *factors) cutUser(at string) (rest string, err error) {
	i := strings.LastIndexByte(at, '@')
	if i < 0 {
		return at, nil
	}
	user, password, ok := strings.Cut(at[:i], ":")
	name, err := url.PathUnescape(user)
	secret, serr := url.PathUnescape(password)
	if err != nil || serr != nil || !ok || secret == "" {
		return "", usagef("--target %s…@%s: user:password, or :password, with %%40 for @ and the like", redisScheme, at[i+1:])
	}
	f.as.who = &access.Entry{Name: name, Secret: secret}
	return at[i+1:], nil
}
