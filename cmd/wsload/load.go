package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wsgate/internal/load"
)

// settings is what the command line says of one run.
type settings struct {
	load.Options
	url, from, group, ca, format string
	http, pid                    int
	insecure                     bool
}

// kind is one kind of run as a command.
type kind struct {
	name       load.Kind
	short, use string
	run        func(context.Context, *load.Target, load.Options) (*load.Result, error)
	flags      func(*pflag.FlagSet, *settings)
	defaults   settings
}

func kinds() []kind {
	size := func(f *pflag.FlagSet, s *settings) {
		f.IntVar(&s.Size, "size", s.Size, "octets of a message")
		f.BoolVar(&s.Verify, "verify", false, "make messages differ, mask them, and compare each that comes back")
	}
	messages := func(f *pflag.FlagSet, s *settings) {
		size(f, s)
		f.IntVar(&s.InFlight, "inflight", s.InFlight, "messages under way in each tunnel of a closed loop")
		f.Float64Var(&s.Rate, "rate", 0, "messages a second in all, sent on a schedule (open loop); 0: the next goes out when one has come back (closed loop)")
		duration(f, s)
	}
	base := settings{Options: load.Options{Conns: 50, Tunnels: 10, For: 10 * time.Second, InFlight: 1}}
	echo, bulk, open, idle := base, base, base, base
	echo.Size = 64
	bulk.Size, bulk.InFlight, bulk.Conns, bulk.Tunnels = 64<<10, 4, 4, 4
	open.Conns, open.Tunnels = 10, 5
	idle.Size, idle.Hold = 64, 10*time.Second
	shakes := base
	shakes.Conns, shakes.Tunnels = 64, 1
	return []kind{
		{load.KindEcho, "Messages there and back", "echo --url wss://127.0.0.1:8443/ --http 2 --conns 50 --tunnels 10 --size 64 --for 10s --insecure --pid 4711", load.Echo, messages, echo},
		{load.KindBulk, "Large messages there and back", "bulk --url wss://127.0.0.1:8443/ --http 2 --size 65536 --inflight 4 --for 10s", load.Echo, messages, bulk},
		{load.KindOpen, "Open and close tunnels", "open --url wss://127.0.0.1:8443/ --http 2 --conns 10 --tunnels 5 --for 10s", load.Open, duration, open},
		{load.KindIdle, "Hold tunnels that say nothing", "idle --url wss://127.0.0.1:8443/ --http 2 --conns 100 --tunnels 50 --hold 60s", load.Idle, func(f *pflag.FlagSet, s *settings) {
			size(f, s)
			f.DurationVar(&s.Hold, "hold", s.Hold, "how long to hold them")
		}, idle},
		{load.KindGet, "Ordinary GET requests", "get --url https://127.0.0.1:8443/ --http 2 --conns 50 --tunnels 10 --for 10s", load.Get, duration, base},
		{load.KindHandshakes, "Full TLS handshakes and nothing else", "handshakes --url wss://127.0.0.1:8443/ --conns 64 --for 10s", load.Handshakes, duration, shakes},
	}
}

func duration(f *pflag.FlagSet, s *settings) {
	f.DurationVar(&s.For, "for", s.For, "how long to measure")
	f.DurationVar(&s.WarmUp, "warm-up", 300*time.Millisecond, "load before that, which is not counted")
}

func loadCommand(k kind, out, errs io.Writer) *cobra.Command {
	s := k.defaults
	cmd := &cobra.Command{
		Use: string(k.name), Short: k.short, Example: "  wsload " + k.use, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.measure(cmd.Context(), k, out, errs) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&s.url, "url", "", "wss://, ws://, https:// or http://host:port/path of the target")
	f.IntVar(&s.http, "http", 2, "HTTP version: 1, 2 or 3; 2 with ws:// is with prior knowledge")
	f.IntVar(&s.Conns, "conns", s.Conns, "connections")
	f.IntVar(&s.Tunnels, "tunnels", s.Tunnels, "tunnels on each connection; over HTTP/1.1 there is one")
	k.flags(f, &s)
	f.DurationVar(&s.OpenTimeout, "open-timeout", 10*time.Second, "a tunnel without an answer for so long is silent")
	f.IntVar(&s.pid, "pid", 0, "process of the target: its CPU and memory, and those of the processes below it, are measured")
	f.BoolVar(&s.insecure, "insecure", false, "do not check the target's certificate")
	f.StringVar(&s.ca, "ca", "", "PEM certificates to check the target's against; default: the system's")
	f.StringVar(&s.group, "tls-group", "", "key exchange: X25519, P256 or X25519MLKEM768; default: what Go offers")
	f.StringVar(&s.from, "from", "", "prefix whose addresses connections come from in turn, say 127.0.0.0/8")
	f.StringVar(&s.format, "format", "text", "text or json")
	return cmd
}

// measure runs the load and prints its result. A run that was cancelled prints
// what was measured.
func (s *settings) measure(ctx context.Context, k kind, out, errs io.Writer) error {
	t, err := s.target()
	if err == nil {
		err = s.Check(t)
	}
	if err == nil && s.format != "text" && s.format != "json" {
		err = fmt.Errorf("--format %q is neither text nor json", s.format)
	}
	if err != nil {
		return usageError{err}
	}
	say := &line{w: errs, terminal: isTerminal(errs)}
	s.Progress, s.Notice = say.progress, say.notice
	r, err := k.run(ctx, t, s.Options)
	say.clear()
	if err != nil {
		if ctx.Err() != nil {
			return fmt.Errorf("interrupted before anything was measured")
		}
		return err
	}
	if s.format == "json" {
		err = r.WriteJSON(out, k.name)
		for _, w := range r.Trouble {
			say.notice(w)
		}
	} else {
		fmt.Fprintln(out, s.title(k.name))
		r.WriteText(out, k.name)
	}
	if err == nil && r.Errors+r.Refused > 0 {
		err = errTrouble
	}
	return err
}

// title says what was run.
func (s *settings) title(name load.Kind) string {
	b := fmt.Sprintf("%s %s HTTP/%d, %d x %d", name, s.url, s.http, s.Conns, s.Tunnels)
	switch {
	case s.Rate > 0:
		b += fmt.Sprintf(", %d octets, open loop at %g/s", s.Size, s.Rate)
	case name == load.KindEcho || name == load.KindBulk:
		b += fmt.Sprintf(", %d octets, closed loop with %d under way in each", s.Size, s.InFlight)
	case name == load.KindIdle:
		b += fmt.Sprintf(", %d octets at both ends of %v", s.Size, s.Hold)
	}
	return b
}

func (s *settings) target() (*load.Target, error) {
	if s.url == "" {
		return nil, fmt.Errorf("say where the target is, for example --url wss://127.0.0.1:8443/")
	}
	// http and https, ws and wss are the same here.
	t, err := load.ParseTarget(s.url, s.http)
	if err != nil {
		return nil, err
	}
	t.PID = s.pid
	if s.from != "" {
		if t.Sources, err = netip.ParsePrefix(s.from); err != nil || !t.Sources.Addr().Is4() || t.Sources.Bits() > 30 {
			return nil, fmt.Errorf("--from %q is no IPv4 prefix of at most 30 bits", s.from)
		}
	}
	if t.TLS == nil {
		return t, nil
	}
	t.TLS.InsecureSkipVerify = s.insecure
	if s.ca != "" {
		pem, err := os.ReadFile(s.ca)
		if err != nil {
			return nil, err
		}
		if t.TLS.RootCAs = x509.NewCertPool(); !t.TLS.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %q: no certificate in it", s.ca)
		}
	}
	groups := map[string]tls.CurveID{"x25519": tls.X25519, "p256": tls.CurveP256, "x25519mlkem768": tls.X25519MLKEM768}
	if s.group != "" {
		g, ok := groups[strings.ToLower(s.group)]
		if !ok {
			return nil, fmt.Errorf("--tls-group %q is none of X25519, P256, X25519MLKEM768", s.group)
		}
		t.TLS.CurvePreferences = []tls.CurveID{g}
	}
	return t, nil
}

// line is the progress on a terminal: one line that is written over. Any
// goroutine.
type line struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool
	shown    bool
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (l *line) progress(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.terminal {
		fmt.Fprintf(l.w, "\r\x1b[K%s", s)
		l.shown = true
	}
}

// notice is a line of its own, on a terminal and elsewhere.
func (l *line) notice(s string) {
	l.clear()
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.w, s)
}

func (l *line) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shown {
		fmt.Fprint(l.w, "\r\x1b[K")
		l.shown = false
	}
}
