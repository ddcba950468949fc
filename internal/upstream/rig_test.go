package upstream

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsgate/bridge"
	"wsgate/h1"
	"wsgate/internal/exchange"
	"wsgate/internal/loop"
)

// rig is a gateway of one loop with an upstream behind it.
type rig struct {
	t       *testing.T
	addr    string
	loop    *loop.Loop
	up      atomic.Pointer[Upstream]
	refused chan string // "status code"
	events  chan string // of the upstream
}

// wait is how long something may take that is not under test.
const wait = 20 * time.Second

func newRig(t *testing.T, c Config, edit ...func(*Env)) *rig {
	t.Helper()
	r := &rig{t: t, refused: make(chan string, 1000), events: make(chan string, 1000)}
	l := startLoop(t)
	r.loop = l
	r.reload(c, edit...)
	t.Cleanup(func() { r.up.Load().Close() })

	br := new(bridge.Bridge)
	br.Trace.Refused = func(_ *bridge.Tunnel, f *bridge.Refusal) { r.refused <- fmt.Sprint(f.Status, " ", f.Code) }
	front := &h1.Server{
		Offer:    func(o bridge.Offer) { br.Serve(o, &bridge.Service{Backend: r.up.Load()}) },
		Exchange: &exchange.Config{Handler: http.NotFoundHandler()},
	}
	lc := loop.ListenConfig(0)
	port := "0"
	if os.Getenv("WSGATE_TEST_NETWORK") != "" {
		port = "9001" // none of those for outgoing connections
	}
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	r.addr = ln.Addr().String()
	ready := make(chan error)
	l.Post(func() {
		_, err := l.Accept(ln.(*net.TCPListener), func(a loop.Accepted) {
			if c, err := l.Adopt(a); err == nil {
				front.Serve(l, c, &bridge.Client{Remote: a.RemoteAddr(), Local: netip.MustParseAddrPort(r.addr)})
			}
		}, nil)
		ready <- err
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	return r
}

func startLoop(t testing.TB) *loop.Loop {
	t.Helper()
	l, err := loop.New(loop.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() { l.Run(); close(ended) }()
	t.Cleanup(func() { l.Stop(); <-ended })
	return l
}

// reload puts another generation in the place of the present one.
func (r *rig) reload(c Config, edit ...func(*Env)) *Upstream {
	r.t.Helper()
	if c.Name == "" {
		c.Name = "app"
	}
	env := Env{Events: r.tell()}
	for _, f := range edit {
		f(&env)
	}
	old := r.up.Load()
	u, err := New(c, env, old)
	if err != nil {
		r.t.Fatal(err)
	}
	u.Start()
	r.up.Store(u)
	if old != nil {
		old.Close()
	}
	return u
}

func (r *rig) tell() Events {
	return Events{
		State:          func(u, s string, to State, _ error) { r.events <- fmt.Sprint(u, " ", s, " ", to) },
		Panic:          func(u string, on bool) { r.events <- fmt.Sprint(u, " panic ", on) },
		PortsExhausted: func(u, s string, _ error) { r.events <- fmt.Sprint(u, " ports ", s) },
		Resolved: func(u, e string, added, gone []netip.Addr) {
			r.events <- fmt.Sprint(u, " ", e, " +", added, " -", gone)
		},
		NotResolved: func(u, e string, _ error) { r.events <- fmt.Sprint(u, " ", e, " not resolved") },
	}
}

// event waits for the next event.
func (r *rig) event(want string) {
	r.t.Helper()
	select {
	case got := <-r.events:
		if got != want {
			r.t.Errorf("event: got %q, want %q", got, want)
		}
	case <-time.After(wait):
		r.t.Fatalf("event: got none, want %q", want)
	}
}

// refusal waits for the next refusal in the trace.
func (r *rig) refusal(want string) {
	r.t.Helper()
	select {
	case got := <-r.refused:
		if got != want {
			r.t.Errorf("refusal: got %q, want %q", got, want)
		}
	case <-time.After(wait):
		r.t.Fatalf("refusal: got none, want %q", want)
	}
}

// conn is a client's tunnel.
type conn struct {
	*websocket.Conn
	t      *testing.T
	server string // which answered
	head   http.Header
}

// open opens a tunnel with those fields: name, value, and so on.
func (r *rig) open(fields ...string) *conn {
	r.t.Helper()
	c, res, err := r.try(fields...)
	if err != nil {
		status := 0
		if res != nil {
			status = res.StatusCode
		}
		r.t.Fatalf("open: got %v, status %d, want a tunnel", err, status)
	}
	r.t.Cleanup(func() { c.Close() })
	return &conn{c, r.t, res.Header.Get("X-Server"), res.Header}
}

func (r *rig) try(fields ...string) (*websocket.Conn, *http.Response, error) {
	h := http.Header{}
	path := "/"
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "path" {
			path = fields[i+1]
			continue
		}
		h.Add(fields[i], fields[i+1])
	}
	d := websocket.Dialer{HandshakeTimeout: wait}
	return d.Dial("ws://"+r.addr+path, h)
}

// said is what a handshake was answered with instead of a tunnel.
func said(r *http.Response) string {
	if r == nil {
		return "nothing"
	}
	content, _ := io.ReadAll(r.Body)
	return r.Status + ": " + string(content)
}

// echo sends a message there and back.
func (c *conn) echo(m string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(m)); err != nil {
		c.t.Fatal(err)
	}
	if _, got, err := c.ReadMessage(); err != nil || string(got) != m {
		c.t.Fatalf("echo: got %q, %v, want %q", got, err, m)
	}
}

// end closes the tunnel and waits until the server's place is free.
func (c *conn) end(r *rig) {
	c.t.Helper()
	before := r.up.Load().Stats().Tunnels
	c.leave()
	until(c.t, "a tunnel less", func() bool { return r.up.Load().Stats().Tunnels < before })
}

// until waits for what another goroutine does and no channel tells.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !ok(); time.Sleep(time.Millisecond) { // a poll: what is waited for is a counter
		if time.Now().After(end) {
			t.Fatalf("got no %s in %v", what, wait)
		}
	}
}

// backend is a gorilla echo server.
type backend struct {
	addr   string
	ln     net.Listener
	server *http.Server
	asked  atomic.Int64 // requests and handshakes

	mu   sync.Mutex
	keys map[string]bool // of handshakes
	hold chan bool       // handshakes wait for it, if not nil
	web  http.HandlerFunc
}

// serve starts a backend at an address of the loopback net.
func serve(t *testing.T, address string) *backend {
	t.Helper()
	return serveNoted(t, address, func(*backend) {})
}

// serveNoted lets edit change the server before it serves.
func serveNoted(t *testing.T, address string, edit func(*backend)) *backend {
	t.Helper()
	if !strings.Contains(address, ":") {
		address += ":0"
	}
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	b := &backend{addr: ln.Addr().String(), ln: ln, keys: make(map[string]bool)}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	b.server = &http.Server{Handler: b, Protocols: p}
	edit(b)
	go b.server.Serve(ln)
	t.Cleanup(func() { b.server.Close() })
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.asked.Add(1)
	b.mu.Lock()
	hold, web := b.hold, b.web
	if k := r.Header.Get("Sec-WebSocket-Key"); k != "" {
		b.keys[k] = true
	}
	b.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if web != nil || !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("X-Server", b.addr)
		if web != nil {
			web(w, r)
		}
		return
	}
	u := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	c, err := u.Upgrade(w, r, http.Header{"X-Server": {b.addr}})
	if err != nil {
		return
	}
	defer c.Close()
	for {
		kind, p, err := c.ReadMessage()
		if err != nil {
			return
		}
		c.WriteMessage(kind, p)
	}
}

// servers are entries for backends.
func servers(all ...*backend) (out []ServerConfig) {
	for _, b := range all {
		out = append(out, ServerConfig{Address: b.addr})
	}
	return out
}

// again starts a backend anew at its address.
func (b *backend) again(t *testing.T) {
	t.Helper()
	var ln net.Listener
	var err error
	until(t, "free port", func() bool {
		ln, err = net.Listen("tcp", b.addr)
		return err == nil
	})
	b.ln = ln
	b.server = &http.Server{Handler: b, Protocols: b.server.Protocols}
	go b.server.Serve(ln)
	s := b.server
	t.Cleanup(func() { s.Close() })
}

// set changes how a backend answers.
func (b *backend) set(f func(*backend)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f(b)
}

// leave closes the tunnel in order and does not wait for the counters.
func (c *conn) leave() {
	c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(wait))
	c.ReadMessage()
	c.Close()
}

// rawHandshake sends a handshake and reads nothing.
func rawHandshake(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err == nil {
		_, err = fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n\r\n")
	}
	return c, err
}

func newRequest(t *testing.T) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr, r.RequestURI = "192.0.2.1:1", "/"
	return r
}

func addrs(all ...string) (out []netip.Addr) {
	for _, a := range all {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
