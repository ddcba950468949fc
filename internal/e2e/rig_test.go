// Package e2e tests the gateway from outside: raw peers at both ends, real
// sockets, TLS. The comments name rows of the case list that the conformance
// suite is made from.
package e2e

import (
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// rig is a gateway between a raw backend and raw clients.
type rig struct {
	t     *testing.T
	gw    *gateway.Gateway
	be    *rawpeer.Backend
	https string
	http  string
	log   *syncBuffer
}

// syncBuffer is a log that a test may read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// start makes a rig; edit may change the configuration.
func start(t *testing.T, edit func(*gateway.Config)) *rig {
	t.Helper()
	be, err := rawpeer.NewBackend("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	return startWith(t, be, "ws://"+be.Addr(), edit)
}

func startWith(t *testing.T, be *rawpeer.Backend, url string, edit func(*gateway.Config)) *rig {
	t.Helper()
	r := &rig{t: t, be: be, log: &syncBuffer{}}
	c := gateway.Default()
	c.Listen = []string{"https://127.0.0.1:0", "http://127.0.0.1:0"}
	c.SelfSigned = true
	c.Backend = url
	c.Loops = 2
	if edit != nil {
		edit(&c)
	}
	gw, err := gateway.Start(c, r.log)
	if err != nil {
		t.Fatal(err)
	}
	r.gw = gw
	t.Cleanup(gw.Close)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the gateway:\n%s", r.log)
		}
	})
	a := gw.Addresses()
	r.https, r.http = a[0].String(), a[1].String()
	// The gateway looks once whether its backend is up: that connection is not
	// one of the test's.
	if be != nil {
		c, err := be.Next()
		r.must(err)
		r.must(c.WantEnded())
		c.Close()
	}
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// check is must that goes on.
func (r *rig) check(what string, err error) {
	r.t.Helper()
	if err != nil {
		r.t.Errorf("%s: %v", what, err)
	}
}

var clientTLS = &tls.Config{InsecureSkipVerify: true}

// h2 connects over TLS.
func (r *rig) h2(settings ...http2.Setting) *rawpeer.H2 {
	r.t.Helper()
	c, err := rawpeer.DialH2(r.https, clientTLS, settings...)
	r.must(err)
	r.t.Cleanup(c.Close)
	r.t.Cleanup(func() {
		if r.t.Failed() {
			r.t.Logf("frames:\n%s", strings.Join(c.Lines(), "\n"))
		}
	})
	return c
}

// h1 connects in cleartext, or over TLS.
func (r *rig) h1(secure bool) *rawpeer.H1 {
	r.t.Helper()
	addr, config := r.http, (*tls.Config)(nil)
	if secure {
		addr, config = r.https, clientTLS
	}
	c, err := rawpeer.DialH1(addr, config)
	r.must(err)
	r.t.Cleanup(c.Close)
	return c
}

// next is the next connection at the backend.
func (r *rig) next() *rawpeer.BackendConn {
	r.t.Helper()
	c, err := r.be.Next()
	r.must(err)
	r.t.Cleanup(c.Close)
	return c
}

// open opens a tunnel on c.
func (r *rig) open(c *rawpeer.H2, more ...rawpeer.Field) (uint32, *rawpeer.BackendConn) {
	r.t.Helper()
	id := c.Connect("/chat", more...)
	b := r.next()
	_, err := b.AcceptUpgrade()
	r.must(err)
	_, err = c.WantStatus(id, 200)
	r.must(err)
	return id, b
}

// openH1 opens a tunnel over HTTP/1.1.
func (r *rig) openH1(secure bool) (*rawpeer.H1, *rawpeer.BackendConn) {
	r.t.Helper()
	c := r.h1(secure)
	r.must(c.WriteString(rawpeer.UpgradeRequest("/chat")))
	b := r.next()
	_, err := b.AcceptUpgrade()
	r.must(err)
	_, err = c.WantStatus("GET", 101)
	r.must(err)
	return c, b
}

// settle waits until a condition on the gateway's counters holds.
func (r *rig) settle(what string, ok func(gateway.Counters) bool) {
	r.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok(r.gw.Counters()) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: got %+v", what, r.gw.Counters())
		}
		runtime.Gosched()
	}
}

// empty waits until no tunnel, connection or loop entry but the listener is left.
func (r *rig) empty() {
	r.t.Helper()
	r.settle("an empty gateway", func(c gateway.Counters) bool {
		return c.Tunnels == 0 && c.Pending == 0 && c.H1Connections == 0 && c.H2Connections == 0 && c.Entries <= 1
	})
}

// frame builds a WebSocket frame; a mask of zeros if masked.
func frame(first byte, masked bool, payload []byte) []byte {
	b := []byte{first}
	bit := byte(0)
	if masked {
		bit = 0x80
	}
	switch n := len(payload); {
	case n < 126:
		b = append(b, bit|byte(n))
	case n < 1<<16:
		b = append(b, bit|126, byte(n>>8), byte(n))
	default:
		b = append(b, bit|127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	if masked {
		b = append(b, 0, 0, 0, 0)
	}
	return append(b, payload...)
}

func TestMain(m *testing.M) {
	if os.Getenv(backendEnv) != "" {
		backendProcess()
		return
	}
	code := m.Run()
	if binaryDir != "" {
		os.RemoveAll(binaryDir)
	}
	os.Exit(code)
}

// listenUnix makes a backend on a unix socket.
func listenUnix(t *testing.T, path string) *rawpeer.Backend {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	be := rawpeer.NewBackendOn(ln, nil)
	t.Cleanup(be.Close)
	return be
}
