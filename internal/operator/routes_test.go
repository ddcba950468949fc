package operator

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// TestRoutes: every condition of a match, at the wire.
func TestRoutes(t *testing.T) {
	names := []string{"exact", "wild", "prefix", "segment", "header", "socket", "post", "two", "rest"}
	var up strings.Builder
	for i, n := range names {
		s := serve(t, n, fmt.Sprintf("127.0.0.%d", i+2))
		fmt.Fprintf(&up, "  %s: {servers: 'ws://%s'}\n", n, s.addr)
	}
	r := run(t, `
listeners:
  - {address: "127.0.0.1:0"}
upstreams:
`+up.String()+`
routes:
  - {match: {hosts: [a.test], path: /exact}, upstream: exact}
  - {match: {hosts: ["*.test"]}, upstream: wild}
  - {match: {hosts: [a.test], prefix: /chat}, upstream: prefix}
  - {match: {hosts: [a.test], path: "/chat/*/room"}, upstream: segment}
  - {match: {hosts: [a.test], prefix: /chat, headers: {X-Tenant: blue}}, upstream: header}
  - {match: {hosts: [a.test], prefix: /kind, kind: websocket}, upstream: socket}
  - {match: {hosts: [a.test], prefix: /up, methods: [POST]}, upstream: post}
  - {match: {hosts: [a.test], prefix: /version, http: [2]}, upstream: two}
  - {match: {hosts: [a.test]}, upstream: rest}
`)
	blue := http.Header{"X-Tenant": {"blue"}}
	for _, c := range []struct {
		a    ask
		want string
	}{
		{ask{host: "a.test", path: "/exact"}, "exact"},
		{ask{host: "A.TEST:8080", path: "/exact?x=1"}, "exact"},
		{ask{host: "b.test", path: "/exact"}, "wild"},
		{ask{host: "b.c.test", path: "/"}, "wild"},
		{ask{host: "a.test", path: "/chat/1"}, "prefix"},
		{ask{host: "a.test", path: "/chatter"}, "rest"},
		{ask{host: "a.test", path: "/chat/7/room"}, "segment"},
		{ask{host: "a.test", path: "/chat/7%2F8/room"}, "segment"},
		{ask{host: "a.test", path: "/chat/7/8/room"}, "prefix"},
		{ask{host: "a.test", path: "/chat/1", fields: blue}, "header"},
		{ask{host: "a.test", path: "/version"}, "rest"},
	} {
		if got := r.open(c.a).server; got != c.want {
			t.Errorf("socket %s%s: got %q, want %q", c.a.host, c.a.path, got, c.want)
		}
		if _, got := r.get(c.a); got != c.want {
			t.Errorf("request %s%s: got %q, want %q", c.a.host, c.a.path, got, c.want)
		}
	}
	if got := r.open(ask{host: "a.test", path: "/kind"}).server; got != "socket" {
		t.Errorf("a socket by kind: got %q", got)
	}
	if _, got := r.get(ask{host: "a.test", path: "/kind"}); got != "rest" {
		t.Errorf("a request by kind: got %q", got)
	}
	if _, got := r.get(ask{host: "a.test", path: "/up", method: "POST"}); got != "post" {
		t.Errorf("by method: got %q", got)
	}
	c := r.h2(0, false, "")
	id := c.Headers(rawpeer.ConnectFields("http", "a.test", "/version"), false)
	if f, err := c.WantStatus(id, 200); err != nil || f.Get("x-server") != "two" {
		t.Errorf("by HTTP version: got %v, %v", f, err)
	}
	// 404 if the host is known, 421 if it is not (row 203).
	for host, want := range map[string]int{"other.example": 421} {
		if a, body := r.get(ask{host: host, path: "/"}); a.StatusCode != want || !strings.Contains(body, "misdirected") {
			t.Errorf("%s: got %d %q, want %d", host, a.StatusCode, body, want)
		}
		if _, a := r.dial(ask{host: host, path: "/"}); a.StatusCode != want {
			t.Errorf("a socket to %s: got %d, want %d", host, a.StatusCode, want)
		}
	}
	r.log.wants(t, `route="a.test /chat/**"`)
}

// TestEscapedPaths: octets of targets go through routing as they are.
func TestEscapedPaths(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	r := run(t, `
listeners: [{address: "127.0.0.1:0"}]
upstreams: {a: {servers: "ws://`+s.addr+`"}}
routes: [{match: {prefix: "/x%2Fy"}, upstream: a}]
`)
	for _, p := range []string{"/x%2Fy", "/x%2Fy/%41%2E/;a=b/~", "/x%2Fy//z?q=%20+&%"} {
		c := r.h2(0, false, "")
		if _, err := c.WantStatus(c.Headers(rawpeer.ConnectFields("http", "h.test", p), false), 200); err != nil {
			t.Fatalf("%s: %v", p, err)
		}
		if got := (<-s.asked).RequestURI; got != p {
			t.Errorf("target: got %q, want %q", got, p)
		}
	}
	for _, p := range []string{"/x/y", "/x%2fy"} {
		if _, a := r.dial(ask{host: "h.test", path: p}); a.StatusCode != 404 {
			t.Errorf("%s: got %d, want 404", p, a.StatusCode)
		}
	}
}

// TestActions: redirects, also of handshakes, and fixed answers.
func TestActions(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	r := run(t, `
listeners: [{address: "127.0.0.1:0"}]
upstreams: {a: {servers: "ws://`+s.addr+`"}}
routes:
  - {match: {hosts: [old.test]}, redirect: {scheme: https}}
  - {match: {hosts: [moved.test]}, redirect: {host: "new.test:8443", path: /here, status: 302}}
  - {match: {hosts: [port.test]}, redirect: {scheme: https, port: 8443}}
  - {match: {hosts: [closed.test]}, answer: {status: 503, body: "closed today", headers: {Retry-After: "3600"}}}
  - {match: {hosts: [soon.test]}, answer: {status: 200, body: "soon"}}
  - {upstream: a}
`)
	for _, c := range []struct {
		host, path, want string
		status           int
	}{
		{"old.test:8080", "/a%2Fb?c=d", "https://old.test/a%2Fb?c=d", 308},
		{"moved.test", "/a", "http://new.test:8443/here", 302},
		{"port.test:80", "/a", "https://port.test:8443/a", 308},
	} {
		a, _ := r.get(ask{host: c.host, path: c.path})
		if got := a.Header.Get("Location"); a.StatusCode != c.status || got != c.want {
			t.Errorf("%s: got %d %q, want %d %q", c.host, a.StatusCode, got, c.status, c.want)
		}
		_, a = r.dial(ask{host: c.host, path: c.path})
		if got := a.Header.Get("Location"); a.StatusCode != c.status || got != c.want {
			t.Errorf("a socket to %s: got %d %q, want %d %q", c.host, a.StatusCode, got, c.status, c.want)
		}
	}
	a, body := r.get(ask{host: "closed.test", path: "/"})
	if a.StatusCode != 503 || body != "closed today" || a.Header.Get("Retry-After") != "3600" || !strings.HasPrefix(a.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("fixed answer: got %d %q %v", a.StatusCode, body, a.Header)
	}
	if _, a := r.dial(ask{host: "closed.test", path: "/"}); a.StatusCode != 503 || a.Header.Get("Retry-After") != "3600" {
		t.Errorf("fixed answer to a socket: got %d %v", a.StatusCode, a.Header)
	}
	// On CONNECT a 2xx would mean that the tunnel is open (RFC 9110 section 9.3.6).
	c := r.h2(0, false, "")
	if _, err := c.WantStatus(c.Headers(rawpeer.ConnectFields("http", "soon.test", "/"), false), 502); err != nil {
		t.Error(err)
	}
	if len(s.asked) != 0 {
		t.Errorf("the server was asked %d times, want never", len(s.asked))
	}
}

// TestRouteRules: times, limits, pings and stripping of one route leave the
// others alone.
func TestRouteRules(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	r := run(t, `
listeners: [{address: "127.0.0.1:0"}]
upstreams: {a: {servers: "ws://`+s.addr+`"}}
routes:
  - {match: {path: /short}, upstream: a, timeouts: {idle: 100ms}}
  - {match: {path: /few}, upstream: a, limits: {tunnels: 1}}
  - {match: {path: /ping}, upstream: a, ping: 50ms}
  - {match: {path: /plain}, upstream: a, strip: [subprotocols, extensions]}
  - {upstream: a}
`)
	other := r.open(ask{host: "h.test", path: "/"})
	r.open(ask{host: "h.test", path: "/short"}).wantClose(1001)
	few := r.open(ask{host: "h.test", path: "/few"})
	if _, a := r.dial(ask{host: "h.test", path: "/few"}); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("over the limit: got %d %v, want 503 with Retry-After", a.StatusCode, a.Header)
	}
	few.echo("still here")
	pings := make(chan bool, 100)
	ping := r.open(ask{host: "h.test", path: "/ping"})
	ping.SetPingHandler(func(string) error { pings <- true; return nil })
	go ping.ReadMessage()
	select {
	case <-pings:
	case <-time.After(wait):
		t.Error("no ping on the route with pings")
	}
	for len(s.asked) > 0 {
		<-s.asked
	}
	for path, want := range map[string]string{"/plain": "", "/": "chat"} {
		c := r.h2(0, false, "")
		id := c.Headers(rawpeer.ConnectFields("http", "h.test", path, rawpeer.F("sec-websocket-protocol", "chat", "sec-websocket-extensions", "permessage-deflate")...), false)
		f, err := c.WantStatus(id, 200)
		if err != nil {
			t.Fatal(err)
		}
		q := <-s.asked
		if got := q.Header.Get("Sec-Websocket-Protocol"); got != want || f.Get("sec-websocket-protocol") != want || (q.Header.Get("Sec-Websocket-Extensions") != "") != (want != "") {
			t.Errorf("%s (row 69): the server got %v, the client %v, want subprotocol %q", path, q.Header, f, want)
		}
	}
	other.echo("nobody ended me")
}

// TestRouteTimes: a route's own times for handshakes and answers.
func TestRouteTimes(t *testing.T) {
	hold := make(chan bool)
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	slow := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/now" {
			<-hold
		}
		fmt.Fprint(w, "done")
	})}
	go slow.Serve(ln)
	t.Cleanup(func() { close(hold); slow.Close() })
	r := run(t, `
listeners: [{address: "127.0.0.1:0"}]
upstreams: {a: {servers: "ws://`+ln.Addr().String()+`"}}
routes:
  - {match: {path: /short}, upstream: a, timeouts: {response: 50ms, open: 50ms}}
  - {upstream: a}
`)
	if a, body := r.get(ask{host: "h.test", path: "/short"}); a.StatusCode != 504 || !strings.Contains(body, "response-timeout") {
		t.Errorf("a request: got %d %q, want 504", a.StatusCode, body)
	}
	if _, a := r.dial(ask{host: "h.test", path: "/short"}); a.StatusCode != 504 {
		t.Errorf("a socket: got %d, want 504", a.StatusCode)
	}
	if a, body := r.get(ask{host: "h.test", path: "/now"}); a.StatusCode != 200 || body != "done" {
		t.Errorf("another route: got %d %q", a.StatusCode, body)
	}
}

// TestAnnounce: extended CONNECT is announced on a listener only if a route can
// serve WebSocket there (RFC 8441 section 3; row 2), and what was announced on a
// connection holds for its life (row 3).
func TestAnnounce(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	file := func(kind string) string {
		return `
listeners:
  - {name: both, address: "127.0.0.1:0"}
  - {name: pages, address: "127.0.0.1:0"}
  - {name: old, address: "127.0.0.1:0"}
upstreams: {a: {servers: "ws://` + s.addr + `"}}
routes:
  - {match: {listeners: [both]` + kind + `}, upstream: a}
  - {match: {listeners: [pages], kind: http}, upstream: a}
  - {match: {listeners: [old], http: [1]}, upstream: a}
`
	}
	r := run(t, file(""))
	announced := func(i int) bool {
		v, _ := r.h2(i, false, "").Setting(http2.SettingEnableConnectProtocol)
		return v == 1
	}
	for i, want := range []bool{true, false, false} {
		if got := announced(i); got != want {
			t.Errorf("listener %d: got announced %v, want %v", i, got, want)
		}
	}
	c := r.h2(0, false, "")
	if _, err := c.WantStatus(c.Headers(rawpeer.ConnectFields("http", "h.test", "/"), false), 200); err != nil {
		t.Fatal(err)
	}
	r.reload(file(", kind: http"))
	if announced(0) {
		t.Error("after the reload: announced on a new connection")
	}
	if v, ok := c.Setting(http2.SettingEnableConnectProtocol); !ok || v != 1 {
		t.Errorf("after the reload: the old connection got the setting %d, want none after 1", v)
	}
	if _, err := c.WantStatus(c.Headers(rawpeer.ConnectFields("http", "h.test", "/"), false), 404); err != nil {
		t.Error(err)
	}
	r.reload(file("") + "requests: {websocket: false}\n")
	if _, err := c.WantStatus(c.Headers(rawpeer.ConnectFields("http", "h.test", "/"), false), 501); err != nil {
		t.Errorf("with WebSocket off: %v", err)
	}
}
