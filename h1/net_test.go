package h1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	"github.com/gorilla/websocket"

	"wsgate/bridge"
	"wsgate/internal/exchange"
	"wsgate/internal/loop"
)

// gateway is a Server and a Backend over real sockets on one real loop.
type gateway struct {
	addr    string
	loop    *loop.Loop
	server  *Server
	refused chan error // causes of refusals
}

func newGateway(t *testing.T, b *Backend, edit func(*Server)) *gateway {
	t.Helper()
	l, err := loop.New(loop.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() { l.Run(); close(ended) }()
	t.Cleanup(func() { l.Stop(); <-ended })

	g := &gateway{loop: l, refused: make(chan error, 100)}
	br := new(bridge.Bridge)
	service := &bridge.Service{Backend: b}
	br.Trace.Refused = func(_ *bridge.Tunnel, r *bridge.Refusal) {
		g.refused <- fmt.Errorf("%d %s: %w", r.Status, r.Code, errors.Join(r.Cause))
	}
	g.server = &Server{
		Offer: func(o bridge.Offer) { br.Serve(o, service) },
		Exchange: &exchange.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(w, r.Body)
		})},
	}
	if edit != nil {
		edit(g.server)
	}
	lc := loop.ListenConfig(0)
	ln, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = ln.Addr().String()
	local := netip.MustParseAddrPort(g.addr)
	ready := make(chan error)
	l.Post(func() {
		_, err := l.Accept(ln.(*net.TCPListener), func(a loop.Accepted) {
			if c, err := l.Adopt(a); err == nil {
				g.server.Serve(l, c, &bridge.Client{Remote: a.RemoteAddr(), Local: local})
			}
		}, nil)
		ready <- err
	})
	if err := <-ready; err != nil {
		t.Fatal(err)
	}
	return g
}

// gorillaEcho and coderEcho are backends that speak chat and deflate.
func gorillaEcho(w http.ResponseWriter, r *http.Request) {
	u := websocket.Upgrader{Subprotocols: []string{"chat"}, EnableCompression: true, CheckOrigin: func(*http.Request) bool { return true }}
	c, err := u.Upgrade(w, r, http.Header{"Set-Cookie": {"a=1", "b=2"}})
	if err != nil {
		return
	}
	defer c.Close()
	for {
		kind, p, err := c.ReadMessage()
		if err != nil {
			return // its close handler has answered the Close frame
		}
		c.WriteMessage(kind, p)
	}
}

func coderEcho(w http.ResponseWriter, r *http.Request) {
	c, err := coder.Accept(w, r, &coder.AcceptOptions{Subprotocols: []string{"chat"}, InsecureSkipVerify: true, CompressionMode: coder.CompressionContextTakeover})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	for {
		kind, p, err := c.Read(r.Context())
		if err != nil {
			return
		}
		c.Write(r.Context(), kind, p)
	}
}

var bigMessage = bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB

// gorillaTalk opens a tunnel, echoes small and large, and closes it in order.
func gorillaTalk(t *testing.T, url string) {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"chat"}, EnableCompression: true}
	c, res, err := d.Dial(url, nil)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer c.Close()
	if got := c.Subprotocol(); got != "chat" {
		t.Errorf("got subprotocol %q, want chat", got)
	}
	if res.Header.Get("Content-Length") != "" || res.Header.Get("Transfer-Encoding") != "" {
		t.Errorf("got framing on the 101: %v", res.Header)
	}
	for _, m := range [][]byte{[]byte("hello"), bigMessage} {
		sent := make(chan error, 1)
		go func() { sent <- c.WriteMessage(websocket.BinaryMessage, m) }()
		_, got, err := c.ReadMessage()
		if err != nil || !bytes.Equal(got, m) {
			t.Fatalf("got %d octets and %v, want %d back", len(got), err, len(m))
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4001, "bye"))
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, 4001) {
		t.Errorf("got %v, want close code 4001", err)
	}
}

func coderTalk(t *testing.T, url string) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	c, _, err := coder.Dial(ctx, url, &coder.DialOptions{Subprotocols: []string{"chat"}, CompressionMode: coder.CompressionContextTakeover})
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	defer c.CloseNow()
	c.SetReadLimit(-1)
	if got := c.Subprotocol(); got != "chat" {
		t.Errorf("got subprotocol %q, want chat", got)
	}
	for _, m := range [][]byte{[]byte("hello"), bigMessage} {
		sent := make(chan error, 1)
		go func() { sent <- c.Write(ctx, coder.MessageText, m) }()
		_, got, err := c.Read(ctx)
		if err != nil || !bytes.Equal(got, m) {
			t.Fatalf("got %d octets and %v, want %d back", len(got), err, len(m))
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(4001, "bye"); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestRealClientsAndServers(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{"gorilla": gorillaEcho, "coder": coderEcho} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(h)
			defer s.Close()
			g := newGateway(t, &Backend{Address: s.Listener.Addr().String()}, nil)
			gorillaTalk(t, "ws://"+g.addr+"/x?y=z")
			coderTalk(t, "ws://"+g.addr+"/")
		})
	}
}

func TestUnixBackend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(gorillaEcho))
	s.Listener.Close()
	s.Listener = ln
	s.Start()
	defer s.Close()
	g := newGateway(t, &Backend{Network: "unix", Address: path}, nil)
	gorillaTalk(t, "ws://"+g.addr+"/")
}

// Row 99: TLS backends, right and wrong.
func TestTLSBackend(t *testing.T) {
	var alpn, sni string
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		alpn, sni = r.TLS.NegotiatedProtocol, r.TLS.ServerName
		gorillaEcho(w, r)
	}))
	s.Config.ErrorLog = discardLog()
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	addr := s.Listener.Addr().String()

	g := newGateway(t, &Backend{Address: addr, TLS: &tls.Config{RootCAs: roots, ServerName: "example.com"}, Slots: loop.NewSlots(1)}, nil)
	gorillaTalk(t, "ws://"+g.addr+"/")
	if alpn != "http/1.1" || sni != "example.com" {
		t.Errorf("got ALPN %q and SNI %q, want http/1.1 and example.com", alpn, sni)
	}
	// The certificate holds 127.0.0.1: the name comes from the address.
	g = newGateway(t, &Backend{Address: addr, TLS: &tls.Config{RootCAs: roots}}, nil)
	gorillaTalk(t, "ws://"+g.addr+"/")

	for name, c := range map[string]*tls.Config{
		"unknown CA": {},
		"wrong name": {RootCAs: roots, ServerName: "wrong.test"},
		"expired":    {RootCAs: roots, Time: func() time.Time { return time.Now().AddDate(200, 0, 0) }},
	} {
		g := newGateway(t, &Backend{Address: addr, TLS: c}, nil)
		if got, want := g.refusal(t), "502 tls-failed"; !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

// refusal sends a handshake and returns how it was refused.
func (g *gateway) refusal(t *testing.T) string {
	t.Helper()
	c := g.dial(t)
	defer c.Close()
	io.WriteString(c, crlf(up+"\n"))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	cause := (<-g.refused).Error()
	if got := fmt.Sprint(res.StatusCode); !strings.HasPrefix(cause, got) {
		t.Errorf("got status %s, want that of %q", got, cause)
	}
	return cause
}

func (g *gateway) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// closedPort is an address that refuses connections: bound, not listening for others.
func closedPort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// silent accepts connections and says nothing.
func silent(t *testing.T) (string, chan net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	conns := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	return ln.Addr().String(), conns
}

// Row 96: each failure has its status and code.
func TestBackendFailures(t *testing.T) {
	mute, conns := silent(t)
	short := 50 * time.Millisecond
	noDNS := &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("no name server") }}
	for _, tc := range []struct {
		name string
		b    *Backend
		want string
	}{
		{"refused", &Backend{Address: closedPort(t)}, "502 connect-failed"},
		{"refused, TLS", &Backend{Address: closedPort(t), TLS: &tls.Config{}}, "502 connect-failed"},
		{"no unix socket", &Backend{Network: "unix", Address: "/nonexistent/socket"}, "502 connect-failed"},
		{"no such name", &Backend{Address: "backend.invalid:80", Resolver: noDNS}, "502 dns-failed"},
		{"no port", &Backend{Address: "127.0.0.1"}, "502 dns-failed"},
		{"silent", &Backend{Address: mute, OpenTimeout: short}, "504 open-timeout"},
		{"silent, TLS", &Backend{Address: mute, TLS: &tls.Config{}, TLSTimeout: short}, "504 tls-timeout"},
	} {
		g := newGateway(t, tc.b, nil)
		if got := g.refusal(t); !strings.HasPrefix(got, tc.want) {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
	}
	// A connect that takes too long: no address here does that reliably.
	o := &opening{}
	a := &attempt{b: &Backend{}, l: newFakeLoop(), done: func(_ bridge.Side, _ bridge.Fields, err error) { o.calls, o.err = 1, err }}
	a.connectFailed(fmt.Errorf("dial: %w", context.DeadlineExceeded))
	if got, want := o.what(), "504 connect-timeout"; got != want {
		t.Errorf("connect timeout: got %q, want %q", got, want)
	}
	for range 2 {
		(<-conns).Close()
	}
}

// Row 97: a refused connect is tried at the next address of the name.
func TestNextAddress(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(gorillaEcho))
	defer s.Close()
	for _, secure := range []bool{false, true} {
		b := &Backend{Address: "backend.test:80"}
		good := s.Listener.Addr().String()
		if secure {
			ts := httptest.NewTLSServer(http.HandlerFunc(gorillaEcho))
			defer ts.Close()
			good = ts.Listener.Addr().String()
			b.TLS = &tls.Config{InsecureSkipVerify: true}
		}
		b.names.Store(&addresses{
			list:  []netip.AddrPort{netip.MustParseAddrPort(closedPort(t)), netip.MustParseAddrPort(good)},
			until: time.Now().Add(time.Hour),
		})
		g := newGateway(t, b, nil)
		gorillaTalk(t, "ws://"+g.addr+"/")
	}
}

func TestNameIsLookedUp(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(gorillaEcho))
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	b := &Backend{Address: "localhost:" + port}
	g := newGateway(t, b, nil)
	for range 2 {
		gorillaTalk(t, "ws://"+g.addr+"/")
	}
	if b.known(time.Now()) == nil {
		t.Error("got no addresses kept, want those of localhost")
	}
}

// The client leaves before the answer: the backend's connection is reset.
func TestClientLeavesBeforeAnswer(t *testing.T) {
	addr, conns := silent(t)
	g := newGateway(t, &Backend{Address: addr}, nil)
	c := g.dial(t)
	io.WriteString(c, crlf(up+"\n"))
	far := <-conns
	defer far.Close()
	if _, err := http.ReadRequest(bufio.NewReader(far)); err != nil {
		t.Fatal(err)
	}
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	if n, err := far.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("got %d octets and %v at the backend, want a reset", n, err)
	}
}

// Rows 172 and 227: a backend's own answer, by each framing, then the next
// request on the same connection.
func TestForeignAnswerOverSockets(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-A", "b")
		switch r.URL.Path {
		case "/length":
			w.WriteHeader(404)
			w.Write([]byte("hello"))
		case "/chunked":
			w.WriteHeader(200)
			for range 100 {
				w.Write(bigMessage[:10000])
				w.(http.Flusher).Flush()
			}
		case "/cut":
			w.Header().Set("Content-Length", "9")
			w.Write([]byte("hello"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	s.Config.ErrorLog = discardLog()
	defer s.Close()
	g := newGateway(t, &Backend{Address: s.Listener.Addr().String()}, nil)
	ask := func(path string) (*http.Response, []byte, error) {
		c := g.dial(t)
		defer c.Close()
		go io.WriteString(c, crlf(strings.Replace(up, "/chat", path, 1)+"\nPOST / HTTP/1.1\nHost: a\nContent-Length: 4\n\nnext"))
		in := bufio.NewReader(c)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(res.Body)
		if err != nil {
			return res, p, err
		}
		next, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if q, _ := io.ReadAll(next.Body); string(q) != "next" {
			t.Errorf("%s: next request got %q, want %q", path, q, "next")
		}
		return res, p, nil
	}
	if res, p, err := ask("/length"); res.StatusCode != 404 || string(p) != "hello" || res.Header.Get("X-A") != "b" || err != nil {
		t.Errorf("length: got %d %q %v", res.StatusCode, p, err)
	}
	if res, p, err := ask("/chunked"); res.StatusCode != 200 || len(p) != 1000000 || res.Header.Get("Upgrade") != "" || err != nil {
		t.Errorf("chunked: got %d, %d octets, %v", res.StatusCode, len(p), err)
	}
	if _, p, err := ask("/cut"); err == nil {
		t.Errorf("cut short: got %q and no error, want one", p)
	}
}

// Ordinary requests of net/http's client, kept alive.
func TestOrdinaryOverSockets(t *testing.T) {
	g := newGateway(t, &Backend{}, nil)
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}}
	defer client.CloseIdleConnections()
	for i, body := range []io.Reader{strings.NewReader("hello"), bytes.NewReader(bigMessage), io.MultiReader(bytes.NewReader(bigMessage))} {
		req, _ := http.NewRequest("POST", "http://"+g.addr+"/x", body)
		if i == 1 {
			req.Header.Set("Expect", "100-continue")
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(res.Body)
		if want := []int{5, len(bigMessage), len(bigMessage)}[i]; len(p) != want || err != nil {
			t.Errorf("request %d: got %d octets and %v, want %d", i, len(p), err, want)
		}
		res.Body.Close()
	}
	if got := g.server.Connections(); got != 1 {
		t.Errorf("got %d connections, want 1", got)
	}
}

// After every way to close, nothing of a tunnel is left on the loop: no
// descriptor, no timer.
func TestNothingIsLeft(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			http.NotFound(w, r)
			return
		}
		gorillaEcho(w, r)
	}))
	defer s.Close()
	mute, conns := silent(t)
	for _, tc := range []struct {
		name    string
		backend string
		play    func(g *gateway)
	}{
		{"orderly", s.Listener.Addr().String(), func(g *gateway) { gorillaTalk(t, "ws://"+g.addr+"/") }},
		{"client reset", s.Listener.Addr().String(), func(g *gateway) {
			c, _, err := websocket.DefaultDialer.Dial("ws://"+g.addr+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			c.NetConn().(*net.TCPConn).SetLinger(0)
			c.Close()
		}},
		{"refused", s.Listener.Addr().String(), func(g *gateway) {
			if _, _, err := websocket.DefaultDialer.Dial("ws://"+g.addr+"/refuse", nil); err == nil {
				t.Fatal("got a tunnel, want 404")
			}
		}},
		{"left while dialling", mute, func(g *gateway) {
			c := g.dial(t)
			io.WriteString(c, crlf(up+"\n"))
			defer (<-conns).Close()
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}},
		{"server closed", mute, func(g *gateway) {
			c := g.dial(t)
			defer c.Close()
			io.WriteString(c, crlf(up+"\n"))
			defer (<-conns).Close()
			g.server.Close()
			if n, err := c.Read(make([]byte, 1)); err == nil {
				t.Errorf("got %d octets, want the connection cut", n)
			}
		}},
	} {
		g := newGateway(t, &Backend{Address: tc.backend}, nil)
		tc.play(g)
		g.until(t, tc.name, func() bool {
			st := g.loop.Stats()
			return st.Entries == 1 && st.Timers == 0 && g.server.Connections() == 0 // the listener
		})
	}
}

// until waits for something that other ends bring about.
func (g *gateway) until(t *testing.T, name string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: got %+v and %d connections left", name, g.loop.Stats(), g.server.Connections())
		}
		turn := make(chan bool)
		g.loop.Post(func() { close(turn) })
		<-turn
	}
}
