package operator

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// oneServer is a file with one route to one server.
func oneServer(addr, more string) string {
	return `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: ":0"}
upstreams: {app: {servers: "ws://` + addr + `"}}
routes: [{name: app, upstream: app}]
` + more
}

// admin asks the admin listener and returns the status.
func (r *rig) admin(path string) int {
	r.t.Helper()
	a, err := http.Get("http://" + r.gw.AdminAddress() + path)
	if err != nil {
		r.t.Fatal(err)
	}
	defer a.Body.Close()
	io.Copy(io.Discard, a.Body)
	return a.StatusCode
}

// drain begins a drain and returns what is closed when it is over.
func (r *rig) drain() <-chan bool {
	over := make(chan bool)
	go func() {
		r.gw.Drain(context.Background())
		close(over)
	}()
	return over
}

func (r *rig) wantOver(over <-chan bool) {
	r.t.Helper()
	select {
	case <-over:
	case <-time.After(wait):
		r.t.Fatal("the drain does not end")
	}
}

// TestDrain: not ready first, then no new connections; tunnels get the Close
// that the file says, or their route.
func TestDrain(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	r := run(t, `
listeners: [{address: "127.0.0.1:0"}]
admin: {address: ":0"}
drain: {time: 3s, delay: 300ms, code: 1012, reason: see you}
upstreams: {app: {servers: "ws://`+s.addr+`"}}
routes:
  - {name: app, upstream: app}
  - {name: own, match: {path: /own}, upstream: app, drain: {code: 4000, reason: later}}
`)
	if host, _, _ := net.SplitHostPort(r.gw.AdminAddress()); host != "127.0.0.1" {
		t.Errorf("admin listener without a host: got %s, want loopback", r.gw.AdminAddress())
	}
	if r.admin("/ready") != 200 || r.admin("/live") != 200 {
		t.Error("not ready before the drain")
	}
	c, own := r.open(ask{host: "h.test", path: "/"}), r.open(ask{host: "h.test", path: "/own"})
	over := r.drain()
	eventually(t, "/ready is 503", func() bool { return r.admin("/ready") == 503 })
	if r.admin("/live") != 200 {
		t.Error("not live while it drains")
	}
	r.open(ask{host: "h.test", path: "/"}).Close() // during the delay all goes on
	if reason := c.wantClose(1012); reason != "see you" {
		t.Errorf("reason: got %q, want %q", reason, "see you")
	}
	if reason := own.wantClose(4000); reason != "later" {
		t.Errorf("reason of the route: got %q, want %q", reason, "later")
	}
	if _, err := net.Dial("tcp", r.at(0)); err == nil {
		t.Error("a new connection is accepted while it drains")
	}
	c.Close()
	own.Close()
	r.wantOver(over)
	at := map[int]bool{}
	for !at[1012] || !at[4000] {
		select {
		case code := <-s.closes:
			at[code] = true
		case <-time.After(wait):
			t.Fatalf("at the server: got Close codes %v, want 1012 and 4000 among them", at)
		}
	}
	r.log.wants(t, "msg=drained")
}

// TestDrainDeadline: who does not answer is cut at the deadline; the progress is
// in the log.
func TestDrainDeadline(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	r := run(t, oneServer(s.addr, "drain: {time: 2s}\n"))
	c := r.h2(0, false, "")
	id := c.Connect("/")
	if _, err := c.WantStatus(id, 200); err != nil {
		t.Fatal(err)
	}
	over := r.drain()
	r.wantOver(over)
	r.log.wants(t, "by=gateway why=drain reset=true")
	r.log.wants(t, "msg=draining")
}

// TestGoaway: graceful tells at once, late only when the last tunnel of a
// connection has ended (row 137).
func TestGoaway(t *testing.T) {
	for policy, late := range map[string]bool{"graceful": false, "late": true} {
		s := serve(t, "a", "127.0.0.2")
		r := run(t, oneServer(s.addr, "drain: {time: 2s, goaway: "+policy+"}\n"))
		c, idle := r.h2(0, false, ""), r.h2(0, false, "")
		id := c.Connect("/")
		if _, err := c.WantStatus(id, 200); err != nil {
			t.Fatal(err)
		}
		if _, err := idle.WantStatus(idle.Get("/"), 200); err != nil {
			t.Fatal(err)
		}
		if err := c.WantData(id, []byte("\x81\x01a")); err != nil {
			t.Fatal(err)
		}
		over := r.drain()
		if err := idle.WantGoAway(http2.ErrCodeNo); err != nil {
			t.Errorf("%s: a connection without tunnels: %v", policy, err)
		}
		if err := c.WantData(id, []byte{0x88, 2, 1001 >> 8, 1001 & 0xff}); err != nil {
			t.Fatalf("%s: the Close: %v", policy, err)
		}
		if got := len(c.GoAways()) > 0; got == late {
			t.Errorf("%s: GOAWAY before the tunnel has ended: got %v, want %v", policy, got, !late)
		}
		// The answer, masked with zeros, and the end.
		if err := c.Data(id, []byte{0x88, 0x82, 0, 0, 0, 0, 1001 >> 8, 1001 & 0xff}, true); err != nil {
			t.Fatal(err)
		}
		if err := c.WantEnd(id); err != nil {
			t.Errorf("%s: %v", policy, err)
		}
		if err := c.WantGoAway(http2.ErrCodeNo); err != nil {
			t.Errorf("%s: after the tunnel: %v", policy, err)
		}
		r.wantOver(over)
	}
}

// TestDrainOrders: a server or a route is taken out of a running gateway, and in
// again.
func TestDrainOrders(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	r := run(t, twoServers(one.addr, two.addr, "  - {name: other, match: {hosts: [b.test]}, upstream: app}\nadmin: {address: \":0\"}\n"))
	order := func(target string, q url.Values) (d gateway.Drained, err error) {
		err = gateway.Ask(r.gw.AdminAddress(), target+"?"+q.Encode(), &d)
		return d, err
	}
	tunnels := map[string]*conn{}
	for range 2 {
		c := r.open(ask{host: "a.test", path: "/"})
		tunnels[c.server] = c
	}
	d, err := order("/drain/server", url.Values{"server": {one.addr}, "upstream": {"app"}})
	if err != nil || !d.Drained || d.Tunnels != 1 {
		t.Errorf("drain of a server: got %+v, %v; want 1 tunnel", d, err)
	}
	tunnels["one"].wantClose(1001)
	tunnels["two"].echo("still here")
	for range 4 {
		if c := r.open(ask{host: "a.test", path: "/"}); c.server != "two" {
			t.Errorf("a new tunnel: got server %q, want two", c.server)
		}
	}
	r.reload(*r.file.Load()) // does not change orders
	if c := r.open(ask{host: "a.test", path: "/"}); c.server != "two" {
		t.Errorf("after a reload: got server %q, want two", c.server)
	}
	if _, err = order("/drain/server", url.Values{"server": {one.addr}, "undo": {"1"}}); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range 4 {
		seen[r.open(ask{host: "a.test", path: "/"}).server] = true
	}
	if !seen["one"] {
		t.Error("after undo the server gets nothing")
	}

	b := r.open(ask{host: "b.test", path: "/"})
	if d, err = order("/drain/route", url.Values{"route": {"other"}}); err != nil || d.Tunnels != 1 {
		t.Errorf("drain of a route: got %+v, %v; want 1 tunnel", d, err)
	}
	b.wantClose(1001)
	if _, a := r.dial(ask{host: "b.test", path: "/"}); a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("a socket on a drained route: got %d, want 503 with Retry-After", a.StatusCode)
	}
	if a, body := r.get(ask{host: "b.test", path: "/"}); a.StatusCode != 503 || !strings.Contains(body, "route-drained") {
		t.Errorf("a request on a drained route: got %d %q, want 503", a.StatusCode, body)
	}
	tunnels["two"].echo("on another route")
	if _, err = order("/drain/route", url.Values{"route": {"other"}, "undo": {"1"}}); err != nil {
		t.Fatal(err)
	}
	r.open(ask{host: "b.test", path: "/"})
	if _, err = order("/drain/route", url.Values{"route": {"othre"}}); err == nil || !strings.Contains(err.Error(), "other") {
		t.Errorf("an unknown route: got %v, want an error that names the known ones", err)
	}
	if _, err = order("/drain/server", url.Values{"server": {"nobody"}}); err == nil || !strings.Contains(err.Error(), one.addr) {
		t.Errorf("an unknown server: got %v, want an error that names the known ones", err)
	}
	// A browser cannot be made to give orders.
	a, err := http.Post("http://"+r.gw.AdminAddress()+"/reload", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != 403 {
		t.Errorf("an order without its field: got %d, want 403", a.StatusCode)
	}
}

// TestLateOffer: HTTP/2 clients over a drain get 503 for what comes late.
func TestLateOffer(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	r := run(t, oneServer(s.addr, "drain: {time: 2s, goaway: late}\n"))
	c := r.h2(0, false, "")
	id := c.Connect("/")
	if _, err := c.WantStatus(id, 200); err != nil {
		t.Fatal(err)
	}
	over := r.drain()
	r.log.wants(t, "msg=drain ")
	late := c.Headers(rawpeer.ConnectFields("http", "h.test", "/"), false)
	if f, err := c.WantStatus(late, 503); err != nil || f.Get("retry-after") == "" {
		t.Errorf("an offer during a drain: got %v, %v; want 503 with Retry-After", f, err)
	}
	c.Cut()
	r.wantOver(over)
}
