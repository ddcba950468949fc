// Package operator tests what an operator does with a gateway: configuration
// files, routes, upstreams, reloads and drains, with real WebSocket servers
// behind it.
package operator

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsgate/internal/config"
	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// wait is how long something may take that is not under test.
const wait = 20 * time.Second

// server is a real WebSocket server of HTTP/1.1 that says its name.
type server struct {
	name string
	addr string
	http *http.Server

	tunnels atomic.Int64
	opened  atomic.Int64
	asked   chan *http.Request // handshakes and requests, as long as there is room
	closes  chan int           // Close codes that clients sent
}

// serve starts a server on an address of the loopback range.
func serve(t testing.TB, name, host string) *server {
	t.Helper()
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: name, addr: ln.Addr().String(), asked: make(chan *http.Request, 10_000), closes: make(chan int, 10_000)}
	s.http = &http.Server{Handler: s}
	go s.http.Serve(ln)
	t.Cleanup(func() { s.http.Close() })
	return s
}

// ServeHTTP echoes behind a first message with the server's name, and answers
// ordinary requests with it.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.asked <- r:
	default:
	}
	if !websocket.IsWebSocketUpgrade(r) {
		fmt.Fprint(w, s.name)
		return
	}
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, Subprotocols: []string{"chat"}, EnableCompression: true}
	c, err := up.Upgrade(w, r, http.Header{"X-Server": {s.name}})
	if err != nil {
		return
	}
	defer c.Close()
	s.opened.Add(1)
	s.tunnels.Add(1)
	defer s.tunnels.Add(-1)
	c.WriteMessage(websocket.TextMessage, []byte(s.name))
	for {
		kind, p, err := c.ReadMessage()
		if err != nil {
			if e, ok := err.(*websocket.CloseError); ok {
				select {
				case s.closes <- e.Code:
				default:
				}
			}
			return
		}
		if c.WriteMessage(kind, p) != nil {
			return
		}
	}
}

// log is a log that a test may read while it is written.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// wants waits for a text in the log.
func (l *log) wants(t testing.TB, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%q in the log", text), func() bool { return strings.Contains(l.String(), text) })
}

// eventually waits for something that no event tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(wait)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", wait, what)
		}
		time.Sleep(5 * time.Millisecond) // a poll, bounded by the deadline
	}
}

// rig is a running gateway with a configuration that a test may change.
type rig struct {
	t    testing.TB
	gw   *gateway.Gateway
	log  *log
	file atomic.Pointer[string]
}

// run starts a gateway by the text of a file.
func run(t testing.TB, file string, edit ...func(*gateway.Options)) *rig {
	t.Helper()
	r := &rig{t: t, log: new(log)}
	r.file.Store(&file)
	load := func() (*config.Config, error) { return config.Parse("wsgate.yaml", []byte(*r.file.Load())) }
	c, err := load()
	if err != nil {
		t.Fatal(err)
	}
	c.Loops = 2
	o := gateway.Options{Log: r.log, Load: load}
	for _, f := range edit {
		f(&o)
	}
	if r.gw, err = gateway.Run(c, o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.gw.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the gateway:\n%.10000s", r.log)
		}
	})
	return r
}

// reload puts another file in the place of the present one.
func (r *rig) reload(file string) gateway.Report {
	r.t.Helper()
	r.file.Store(&file)
	rep, err := r.gw.Reload(context.Background(), false)
	if err != nil {
		r.t.Fatal(err)
	}
	return rep
}

// at is the address of the listener with that index.
func (r *rig) at(i int) string { return r.gw.Addresses()[i].String() }

// ask is a request of a test.
type ask struct {
	listener int
	secure   bool
	host     string
	path     string
	method   string
	fields   http.Header
	name     string // for SNI, if not that of host
}

// conn is a client's tunnel over HTTP/1.1.
type conn struct {
	*websocket.Conn
	t      testing.TB
	server string // that greeted
	answer *http.Response
}

// dial opens a tunnel over HTTP/1.1; without one it returns the answer.
func (r *rig) dial(a ask) (*conn, *http.Response) {
	r.t.Helper()
	d := websocket.Dialer{
		NetDialContext:  func(ctx context.Context, _, _ string) (net.Conn, error) { return net.Dial("tcp", r.at(a.listener)) },
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}, ServerName: a.name},
	}
	scheme := "ws"
	if a.secure {
		scheme = "wss"
	}
	c, answer, err := d.Dial(scheme+"://"+a.host+a.path, a.fields)
	if err != nil {
		if answer == nil {
			r.t.Fatalf("%s%s: %v", a.host, a.path, err)
		}
		return nil, answer
	}
	r.t.Cleanup(func() { c.Close() })
	x := &conn{Conn: c, t: r.t, answer: answer}
	x.server = x.read()
	return x, answer
}

// open is dial that has to give a tunnel.
func (r *rig) open(a ask) *conn {
	r.t.Helper()
	c, answer := r.dial(a)
	if c == nil {
		r.t.Fatalf("%s%s: got status %d, want a tunnel", a.host, a.path, answer.StatusCode)
	}
	return c
}

func (c *conn) read() string {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(wait))
	_, p, err := c.ReadMessage()
	if err != nil {
		c.t.Fatalf("read: %v", err)
	}
	return string(p)
}

// echo sends a message and wants it back.
func (c *conn) echo(text string) {
	c.t.Helper()
	if err := c.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
	if got := c.read(); got != text {
		c.t.Errorf("echo: got %q, want %q", got, text)
	}
}

// wantClose reads until a Close frame and returns its reason.
func (c *conn) wantClose(code int) string {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(wait))
	for {
		_, _, err := c.ReadMessage()
		if err == nil {
			continue
		}
		e, ok := err.(*websocket.CloseError)
		if !ok || e.Code != code {
			c.t.Fatalf("end: got %v, want Close %d", err, code)
		}
		return e.Text
	}
}

// get sends an ordinary request over HTTP/1.1 on a connection of its own.
func (r *rig) get(a ask) (*http.Response, string) {
	r.t.Helper()
	scheme := "http"
	if a.secure {
		scheme = "https"
	}
	if a.method == "" {
		a.method = http.MethodGet
	}
	req, err := http.NewRequest(a.method, scheme+"://"+a.host+a.path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for k, v := range a.fields {
		req.Header[k] = v
	}
	one := new(http.Protocols)
	one.SetHTTP1(true)
	tr := &http.Transport{
		Protocols: one, DisableKeepAlives: true,
		DialContext:     func(context.Context, string, string) (net.Conn, error) { return net.Dial("tcp", r.at(a.listener)) },
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: a.name},
	}
	answer, err := tr.RoundTrip(req)
	if err != nil {
		r.t.Fatalf("%s %s%s: %v", a.method, a.host, a.path, err)
	}
	defer answer.Body.Close()
	var b bytes.Buffer
	b.ReadFrom(answer.Body)
	return answer, b.String()
}

// h2 connects by HTTP/2 to the listener with that index.
func (r *rig) h2(listener int, secure bool, name string) *rawpeer.H2 {
	r.t.Helper()
	var conf *tls.Config
	if secure {
		conf = &tls.Config{InsecureSkipVerify: true, ServerName: name}
	}
	c, err := rawpeer.DialH2(r.at(listener), conf)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// tunnels counts those of the gateway.
func (r *rig) tunnels() int64 { return r.gw.Counters().Tunnels }

// wantTunnels waits until there are n.
func (r *rig) wantTunnels(n int64) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d tunnels", n), func() bool { return r.tunnels() == n })
}
