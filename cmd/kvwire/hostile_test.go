package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/kvwire/kvwire/transport/access"
	"github.com/kvwire/kvwire/wire"
	"github.com/rogpeppe/go-internal/testscript"
)

// hostileText clears a terminal, names its window, turns the direction of writing, and begins a line that looks like kvwire's own.
const hostileText = "\x1b[2J\x1b]0;owned\a\u202e\nkvwire: all is well\r"

// hostileServers answer a connection with hostileText, each in a place of its own.
var hostileServers = map[string]func(c net.Conn){
	"hello": func(c net.Conn) {
		if _, err := c.Read(make([]byte, wire.MaxHelloBytes)); err == nil {
			_, _ = c.Write((&wire.ServerHello{Version: wire.Version, Code: wire.RefusedAccess, Reason: hostileText}).Append(nil))
		}
	},
	"auth": func(c net.Conn) {
		redisRepeats(c, "-ERR unknown command 'AUTH', with args beginning with: 'ann' 's3cre\r\n")
	},
	"whole": func(c net.Conn) { redisRepeats(c, "-ERR no command: AUTH ann s3cret\r\n") },
	"ping":  func(c net.Conn) { redisSays(c, "-ERR "+oneLine+"\r\n", "", "") },
	"info":  func(c net.Conn) { redisSays(c, "+PONG\r\n", bulk("db0:keys="+oneLine+"\r\n"), "") },
	"get": func(c net.Conn) {
		redisSays(c, "+PONG\r\n", bulk("used_cpu_user:1\r\n"), "-ERR "+oneLine+strings.Repeat("x", 1000)+"\r\n")
	},
	"tls": func(c net.Conn) {
		now := time.Now()
		pem, key, err := access.Certificate(&x509.Certificate{DNSNames: []string{"\x1b[2Jevil.example"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)})
		if err != nil {
			panic(err)
		}
		pair, err := tls.X509KeyPair(pem, key)
		if err != nil {
			panic(err)
		}
		_ = tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}}).Handshake()
	},
}

// oneLine is hostileText as far as a line of Redis's protocol may have it.
var oneLine = strings.NewReplacer("\r", "", "\n", "").Replace(hostileText)

func bulk(s string) string { return "$" + strconv.Itoa(len(s)) + "\r\n" + s + "\r\n" }

// redisSays answers PING, INFO and GET.
func redisSays(c net.Conn, ping, info, get string) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		answer := map[string]string{"PING": ping, "INFO": info, "GET": get}[strings.TrimSpace(line)]
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// redisRepeats answers the first command, and closes.
func redisRepeats(c net.Conn, answer string) {
	if _, err := c.Read(make([]byte, 512)); err == nil {
		_, _ = io.WriteString(c, answer)
	}
}

// hostile KIND VAR: starts such a server until the end of the script, and sets VAR to its address.
func hostile(ts *testscript.TestScript, _ bool, args []string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { _ = l.Close() })
	answer := hostileServers[args[0]]
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(patience))
			go func() {
				defer c.Close()
				answer(c)
			}()
		}
	}()
	ts.Setenv(args[1], l.Addr().String())
}

// shows FILE…: these files, or stdout and stderr, contain no characters on which a terminal acts, and stderr has no line over 1 KiB.
func shows(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		text := ts.ReadFile(name)
		for i, r := range text {
			if r != '\n' && !strconv.IsPrint(r) {
				ts.Fatalf("%s has %q: %q", name, r, text[max(0, i-40):min(len(text), i+40)])
			}
		}
		for line := range bytes.Lines([]byte(text)) {
			if name == "stderr" && len(line) > 1024 {
				ts.Fatalf("%s has a line of %d bytes: %.200q", name, len(line), line)
			}
		}
	}
}
