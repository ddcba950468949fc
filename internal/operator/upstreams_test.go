package operator

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"wsgate/internal/gateway"
)

// names is a DNS server with A records over UDP.
type names struct {
	mu    sync.Mutex
	addrs map[string][]netip.Addr
}

func (n *names) set(name string, addrs ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addrs[name] = nil
	for _, a := range addrs {
		n.addrs[name] = append(n.addrs[name], netip.MustParseAddr(a))
	}
}

// serveNames starts a DNS server and returns it with a resolver that asks it.
func serveNames(t *testing.T) (*names, *net.Resolver) {
	t.Helper()
	n := &names{addrs: make(map[string][]netip.Addr)}
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		for p := make([]byte, 4096); ; {
			k, from, err := pc.ReadFrom(p)
			if err != nil {
				return
			}
			pc.WriteTo(n.answer(p[:k]), from)
		}
	}()
	return n, &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// answer makes the answer to a query (RFC 1035 section 4.1).
func (n *names) answer(query []byte) []byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	var m dnsmessage.Message
	if m.Unpack(query) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	out := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true}, Questions: m.Questions}
	for _, a := range n.addrs[strings.TrimSuffix(q.Name.String(), ".")] {
		if q.Type == dnsmessage.TypeA {
			out.Answers = append(out.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: a.As4()},
			})
		}
	}
	p, _ := out.Pack() // a short name always fits
	return p
}

// upstreamOf is a file whose one upstream is given by its lines.
func upstreamOf(lines string) string {
	return "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \":0\"}\nupstreams:\n  app:\n    " + strings.ReplaceAll(strings.TrimSpace(lines), "\n", "\n    ") + "\n"
}

// opens opens n tunnels and counts them by server.
func (r *rig) opens(n int, fields http.Header) map[string]int {
	r.t.Helper()
	got := map[string]int{}
	for range n {
		got[r.open(ask{host: "h.test", path: "/", fields: fields}).server]++
	}
	return got
}

// TestUnixServer: ordinary requests and tunnels to a unix socket.
func TestUnixServer(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: "unix", asked: make(chan *http.Request, 100), closes: make(chan int, 100)}
	go http.Serve(ln, s)
	t.Cleanup(func() { ln.Close() })
	r := run(t, upstreamOf("servers: unix://"+path))
	r.open(ask{host: "h.test", path: "/"}).echo("hello")
	if _, body := r.get(ask{host: "h.test", path: "/"}); body != "unix" {
		t.Errorf("got %q", body)
	}
}

// TestNames: every address of a name is a server; they are looked up again.
func TestNames(t *testing.T) {
	one := serve(t, "one", "127.0.0.2")
	_, port, _ := net.SplitHostPort(one.addr)
	two := &server{name: "two", asked: make(chan *http.Request, 100), closes: make(chan int, 100)}
	ln, err := net.Listen("tcp", "127.0.0.3:"+port)
	if err != nil {
		t.Fatal(err)
	}
	two.http = &http.Server{Handler: two}
	go two.http.Serve(ln)
	t.Cleanup(func() { two.http.Close() })
	dns, resolver := serveNames(t)
	dns.set("app.test", "127.0.0.2")
	r := run(t, upstreamOf("servers: ws://app.test:"+port+"\ndns: {interval: 20ms}\nbalance: round_robin"), func(o *gateway.Options) { o.Resolver = resolver })
	old := r.open(ask{host: "h.test", path: "/"})
	if got := r.opens(3, nil); got["one"] != 3 {
		t.Errorf("one address: got %v", got)
	}
	dns.set("app.test", "127.0.0.2", "127.0.0.3")
	eventually(t, "the second address is used", func() bool { return r.opens(2, nil)["two"] == 1 })
	dns.set("app.test", "127.0.0.3")
	eventually(t, "the first is not any more", func() bool { return r.opens(2, nil)["two"] == 2 })
	old.echo("its address has left the DNS")
	r.log.wants(t, "msg=name ")
}

// TestBalance: each policy of the file does what it says.
func TestBalance(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	servers := fmt.Sprintf("servers: [{address: 'ws://%s', weight: 3}, 'ws://%s']\n", one.addr, two.addr)
	for policy, want := range map[string]map[string]int{
		"least_tunnels": {"one": 30, "two": 10}, "round_robin": {"one": 30, "two": 10},
	} {
		if got := run(t, upstreamOf(servers+"balance: "+policy)).opens(40, nil); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", policy, got, want)
		}
	}
	if got := run(t, upstreamOf(servers+"balance: random_two")).opens(40, nil); got["one"] < 20 || got["two"] < 4 {
		t.Errorf("random_two: got %v, want some 30 and 10", got)
	}
	// The servers' ports are in the hash, so where a user goes is another thing in
	// each run. Ten tunnels to a gateway at most: beyond them a server that has more
	// than its share is passed over.
	servers = fmt.Sprintf("servers: ['ws://%s', 'ws://%s']\n", one.addr, two.addr)
	for on, field := range map[string]func(int) http.Header{
		"header, name: X-User": func(i int) http.Header { return http.Header{"X-User": {fmt.Sprint(i)}} },
		"cookie, name: user":   func(i int) http.Header { return http.Header{"Cookie": {fmt.Sprintf("a=b; user=%d", i)}} },
	} {
		used := map[string]int{}
		for user := 0; user < 50; user += 5 {
			r := run(t, upstreamOf(servers+"balance: hash\nhash: {on: "+on+"}"))
			for i := user; i < user+5; i++ {
				got := r.opens(2, field(i))
				if len(got) != 1 {
					t.Errorf("hash on %s: user %d got %v, want one server", on, i, got)
				}
				for s := range got {
					used[s]++
				}
			}
		}
		if len(used) != 2 {
			t.Errorf("hash on %s: got %v, want both servers for fifty users", on, used)
		}
	}
}

// TestHealth: servers that do not work are found, by a handshake or by what
// happens to clients; changes are logged.
func TestHealth(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	// A server that takes connections and answers, but is none of WebSocket.
	ln, err := net.Listen("tcp", "127.0.0.4:0")
	if err != nil {
		t.Fatal(err)
	}
	page := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "a page") })}
	go page.Serve(ln)
	t.Cleanup(func() { page.Close() })
	r := run(t, upstreamOf(fmt.Sprintf("servers: ['ws://%s', 'ws://%s', 'ws://%s']\nhealth: {active: {kind: websocket, interval: 20ms, fall: 1, rise: 1}}", one.addr, two.addr, ln.Addr())))
	r.log.wants(t, "server="+ln.Addr().String())
	eventually(t, "the page is out", func() bool {
		got := r.opens(1, nil)
		return strings.Contains(r.log.String(), "state=down") && got["one"]+got["two"] == 1
	})
	two.http.Close()
	eventually(t, "two is down", func() bool {
		for line := range strings.Lines(r.log.String()) {
			if strings.Contains(line, two.addr) && strings.Contains(line, "state=down") {
				return true
			}
		}
		return false
	})
	if got := r.opens(4, nil); got["one"] != 4 {
		t.Errorf("with two down: got %v", got)
	}
}

// TestPassive: failures in a row eject a server; retries meanwhile go to the
// other one.
func TestPassive(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	r := run(t, upstreamOf(fmt.Sprintf("servers: ['ws://%s', 'ws://%s']\nbalance: round_robin\nhealth: {passive: {failures: 2, eject: 1h, max_eject: 1h}}", one.addr, two.addr)))
	two.http.Close()
	if got := r.opens(10, nil); got["one"] != 10 {
		t.Errorf("with two down: got %v", got)
	}
	r.log.wants(t, "state=ejected")
}

// TestUpstreamLimits: of the upstream, of a server, and the queue.
func TestUpstreamLimits(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	r := run(t, upstreamOf(fmt.Sprintf("servers: [{address: 'ws://%s', max_tunnels: 1}, 'ws://%s']\nlimits: {tunnels: 3}", one.addr, two.addr)))
	if got := r.opens(3, nil); got["one"] != 1 || got["two"] != 2 {
		t.Errorf("with a limit of one: got %v", got)
	}
	_, a := r.dial(ask{host: "h.test", path: "/"})
	if a == nil || a.StatusCode != 503 || a.Header.Get("Retry-After") == "" {
		t.Errorf("over the limit: got %v, want 503 with Retry-After", a)
	}

	r = run(t, upstreamOf(fmt.Sprintf("servers: 'ws://%s'\nlimits: {tunnels: 1, queue: 1, queue_time: 1h}", one.addr)))
	first := r.open(ask{host: "h.test", path: "/"})
	second := make(chan string)
	go func() {
		c, a := r.dial(ask{host: "h.test", path: "/"})
		if c == nil {
			second <- a.Status
		} else {
			second <- c.server
		}
	}()
	eventually(t, "one waits", func() bool { return r.gw.Counters().Upstreams["app"].Waiting == 1 })
	if _, a := r.dial(ask{host: "h.test", path: "/"}); a.StatusCode != 503 {
		t.Errorf("over the queue: got %d, want 503", a.StatusCode)
	}
	first.Close()
	select {
	case got := <-second:
		if got != "one" {
			t.Errorf("the one that waited: got %s", got)
		}
	case <-time.After(wait):
		t.Error("the one that waited is not served")
	}
	r = run(t, upstreamOf(fmt.Sprintf("servers: 'ws://%s'\nlimits: {tunnels: 1, queue: 1, queue_time: 50ms}", one.addr)))
	r.open(ask{host: "h.test", path: "/"})
	if _, a := r.dial(ask{host: "h.test", path: "/"}); a.StatusCode != 503 {
		t.Errorf("after the time of the queue: got %d, want 503", a.StatusCode)
	}
	r.log.wants(t, "reason=queue-timeout")
}

// TestSources: connections come from the addresses of the file, in turn.
func TestSources(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	r := run(t, upstreamOf("servers: 'ws://"+s.addr+"'\nsource_addresses: [127.0.0.50, 127.0.0.51]"))
	r.opens(4, nil)
	r.get(ask{host: "h.test", path: "/"})
	got := map[string]int{}
	for range 5 {
		host, _, _ := net.SplitHostPort((<-s.asked).RemoteAddr)
		got[host]++
	}
	if got["127.0.0.50"]+got["127.0.0.51"] != 5 || got["127.0.0.50"] == 0 || got["127.0.0.51"] == 0 {
		t.Errorf("got %v, want both addresses and no other", got)
	}
}

// TestHostHeader: the client's Host, or the server's own.
func TestHostHeader(t *testing.T) {
	s := serve(t, "a", "127.0.0.2")
	for policy, want := range map[string]string{"client": "h.test", "backend": s.addr} {
		r := run(t, upstreamOf("servers: 'ws://"+s.addr+"'\nhost: "+policy))
		r.open(ask{host: "h.test", path: "/"})
		r.get(ask{host: "h.test", path: "/"})
		for range 2 {
			if got := (<-s.asked).Host; got != want {
				t.Errorf("%s: got %q, want %q", policy, got, want)
			}
		}
	}
}
