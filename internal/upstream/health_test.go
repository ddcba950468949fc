package upstream

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestEjection: failures in a row take a server out, whatever they are, and a
// handshake that goes well lets it in again.
func TestEjection(t *testing.T) {
	for name, spoil := range map[string]func(http.ResponseWriter){
		"503": func(w http.ResponseWriter) { w.WriteHeader(503) },
		"cut": func(w http.ResponseWriter) { panic(http.ErrAbortHandler) },
		"bad 101": func(w http.ResponseWriter) {
			c, _, _ := w.(http.Hijacker).Hijack()
			c.Write([]byte("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
			c.Close()
		},
	} {
		a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
		r := newRig(t, Config{Servers: servers(a, b), Passive: Passive{Failures: 3, BaseTime: 100 * time.Millisecond}})
		b.set(func(b *backend) { b.web = func(w http.ResponseWriter, _ *http.Request) { spoil(w) } })
		r.first(b.addr)
		failed := 0
		for b.asked.Load() < 3 {
			if _, _, err := r.try(); err != nil {
				failed++
			}
		}
		r.event("app " + b.addr + " ejected")
		for range 5 {
			if got := r.open(); got.server != a.addr {
				t.Errorf("%s: got %s, want %s while the other is out", name, got.server, a.addr)
			}
		}
		if failed != 3 {
			t.Errorf("%s: got %d failures at clients, want 3", name, failed)
		}
		b.set(func(b *backend) { b.web = nil })
		until(t, "return of the server", func() bool { return r.open().server == b.addr })
		r.event("app " + b.addr + " up")
		if st := r.up.Load().Status(); st[1].State != Up || st[1].LastFailure != "" || !st[1].EjectedUntil.IsZero() {
			t.Errorf("%s: got %+v, want up", name, st[1])
		}
	}
}

// TestNoEjection: what a client brings about itself, and what a server says on
// purpose, ejects nobody.
func TestNoEjection(t *testing.T) {
	a := serve(t, "127.0.0.2")
	r := newRig(t, Config{Servers: servers(a), Passive: Passive{Failures: 1}})
	for _, status := range []int{200, 302, 401, 403, 404, 426, 500} {
		a.set(func(a *backend) { a.web = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) } })
		if _, res, err := r.try(); err == nil || res == nil || res.StatusCode != status {
			t.Errorf("got %v, %v, want %d", res, err, status)
		}
	}
	hold := make(chan bool)
	defer close(hold)
	a.set(func(a *backend) { a.hold = hold })
	client, err := rawHandshake(r.addr)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "a handshake", func() bool { return r.stats().Pending == 1 })
	client.(*net.TCPConn).SetLinger(0)
	client.Close()
	until(t, "its end", func() bool { return r.stats().Pending == 0 })
	if st := r.up.Load().Status()[0]; st.State != Up {
		t.Errorf("got %+v, want up", st)
	}
}

// TestNeverAll: when every server is ejected all are used, that is told once, and
// once again when one works.
func TestNeverAll(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	r := newRig(t, Config{Servers: servers(a, b), Passive: Passive{Failures: 1, BaseTime: time.Minute}})
	sick := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }
	a.set(func(a *backend) { a.web = sick })
	b.set(func(b *backend) { b.web = sick })
	for range 20 {
		r.try()
	}
	if n, m := a.asked.Load(), b.asked.Load(); n+m != 20 || n == 0 || m == 0 {
		t.Errorf("got %d and %d handshakes, want 20 at both together", n, m)
	}
	b.set(func(b *backend) { b.web = nil })
	until(t, "a tunnel", func() bool { c, _, err := r.try(); return err == nil && c.Close() == nil })
	for range 5 {
		if got := r.open(); got.server != b.addr {
			t.Errorf("got %s, want %s, which is the only one that is fit", got.server, b.addr)
		}
	}
	got := r.drainEvents()
	slices.Sort(got)
	want := []string{"app " + a.addr + " ejected", "app " + b.addr + " ejected", "app " + b.addr + " up", "app panic false", "app panic true"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("events: got %q, want %q", got, want)
	}
}

func (r *rig) drainEvents() (all []string) {
	for len(r.events) > 0 {
		all = append(all, <-r.events)
	}
	return all
}

// checks makes a configuration with a quick check.
func checks(a Active, s ...ServerConfig) Config {
	a.Interval, a.Rise, a.Fall = 5*time.Millisecond, 2, 2
	if a.Timeout == 0 {
		a.Timeout = 5 * time.Second
	}
	return Config{Servers: s, Active: &a, TLS: &tls.Config{InsecureSkipVerify: true}}
}

// TestChecks: the three kinds: who is taken out by the very first check, and
// comes back when it answers as it should.
func TestChecks(t *testing.T) {
	for _, x := range []struct {
		name  string
		check Active
		web   http.HandlerFunc // of the server, nil: a WebSocket server
		why   string           // it is down; "" if it is up
	}{
		{"tcp", Active{}, status(500), ""},
		{"http", Active{Kind: CheckHTTP, Path: "/health?x=1"}, func(w http.ResponseWriter, r *http.Request) {
			if r.RequestURI != "/health?x=1" || r.Method != "GET" || !strings.HasPrefix(r.Host, "127.0.0.2:") {
				w.WriteHeader(400)
			}
		}, ""},
		{"http host", Active{Kind: CheckHTTP, Host: "app.example"}, func(w http.ResponseWriter, r *http.Request) {
			if r.Host != "app.example" {
				w.WriteHeader(400)
			}
		}, ""},
		{"http 302", Active{Kind: CheckHTTP}, status(302), ""},
		{"http 404", Active{Kind: CheckHTTP, Path: "/x"}, status(404), "check of /x: status 404"},
		{"http 404 expected", Active{Kind: CheckHTTP, Statuses: []int{200, 404}}, status(404), ""},
		{"http 204 not expected", Active{Kind: CheckHTTP, Statuses: []int{200, 404}}, status(204), "check of /: status 204"},
		{"websocket", Active{Kind: CheckWebSocket, Path: "/chat"}, nil, ""},
		{"websocket 200", Active{Kind: CheckWebSocket, Path: "/chat"}, status(200), "check of /chat: status 200 and no WebSocket"},
		{"websocket 403", Active{Kind: CheckWebSocket}, status(403), "check of /: status 403 and no WebSocket"},
		{"websocket wrong accept", Active{Kind: CheckWebSocket}, fake("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: xxx\r\n"), "check of /: 101 with a wrong Sec-WebSocket-Accept"},
		{"websocket no upgrade", Active{Kind: CheckWebSocket}, fake("Connection: Upgrade\r\n"), "check of /: 101 without Upgrade: websocket"},
		{"websocket no connection", Active{Kind: CheckWebSocket}, fake("Upgrade: websocket\r\n"), "check of /: 101 without Connection: Upgrade"},
		{"no answer", Active{Kind: CheckHTTP, Timeout: 20 * time.Millisecond}, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "check of /: no answer in 20ms"},
	} {
		b := serve(t, "127.0.0.2")
		b.set(func(b *backend) { b.web = x.web })
		r := newRig(t, checks(x.check, servers(b)...))
		if x.why == "" {
			until(t, "three checks", func() bool { return b.asked.Load() >= 3 || x.name == "tcp" })
			if st := r.up.Load().Status()[0]; st.State != Up || len(r.drainEvents()) != 0 {
				t.Errorf("%s: got %+v, want up", x.name, st)
			}
			continue
		}
		r.event("app " + b.addr + " down")
		if st := r.up.Load().Status()[0]; st.State != Down || st.LastFailure != x.why {
			t.Errorf("%s: got %+v, want down: %s", x.name, st, x.why)
		}
		r.up.Load().choose(&want{}).exit(tunnel)
		r.event("app panic true")
		good := status(200)
		switch {
		case x.check.Kind == CheckWebSocket:
			good = nil
		case x.name == "http 204 not expected":
			good = status(404)
		}
		b.set(func(b *backend) { b.web = good })
		r.event("app " + b.addr + " up")
	}
}

func status(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) }
}

// fake answers 101 with those fields.
func fake(fields string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			c.Write([]byte("HTTP/1.1 101 x\r\n" + fields + "\r\n"))
			c.Close()
		}
	}
}

// TestCheckConnects: a server that refuses connections is down by any check, one
// with TLS has to shake hands; and clients go to the others.
func TestCheckConnects(t *testing.T) {
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	a := serve(t, "127.0.0.2")
	gone := dead(t, "127.0.0.3")
	r := newRig(t, checks(Active{},
		ServerConfig{Address: a.addr},
		ServerConfig{Address: gone},
		ServerConfig{Name: "secure", Address: secure.Listener.Addr().String(), TLS: true},
		ServerConfig{Name: "no TLS", Address: held(t, "127.0.0.4").addr, TLS: true},
	))
	got := []string{<-r.events, <-r.events}
	slices.Sort(got)
	want := []string{"app " + gone + " down", "app no TLS@" + r.up.Load().entries[3].Address + " down"}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("events: got %q, want %q", got, want)
	}
	r.first(a.addr)
	for range 3 {
		if got := r.open(); got.server != a.addr {
			t.Errorf("got %s, want %s", got.server, a.addr)
		}
	}
	if s := r.stats(); s.Retries != 0 {
		t.Errorf("got %d retries, want none: the checks knew", s.Retries)
	}
}

// TestRiseAndFall: a server that was up goes down by so many failures in a row,
// and up again by so many successes.
func TestRiseAndFall(t *testing.T) {
	b := newBench(t, Config{}, 1)
	b.config.Active = &Active{Rise: 2, Fall: 3}
	s := b.server("s0")
	bad := errWhatever
	for i, x := range []struct {
		err  error
		want State
	}{
		{nil, Up},
		{bad, Up},
		{bad, Up},
		{nil, Up},
		{bad, Up},
		{bad, Up},
		{bad, Down},
		{bad, Down},
		{nil, Down},
		{bad, Down},
		{nil, Down},
		{nil, Up},
		{bad, Up},
	} {
		s.checkedUp(b.Upstream, x.err)
		if got := s.state(b.clock.t); got != x.want {
			t.Errorf("check %d, %v: got %s, want %s", i, x.err, got, x.want)
		}
	}
	b = newBench(t, Config{}, 1)
	b.config.Active = &Active{Rise: 2, Fall: 3}
	s = b.server("s0")
	s.checkedUp(b.Upstream, bad)
	if got := s.state(b.clock.t); got != Down {
		t.Errorf("the very first check: got %s, want down", got)
	}
}

var errWhatever = net.ErrClosed
