package conformance

import (
	"crypto/tls"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"

	"wsgate/internal/rawpeer"
)

// hub is the backend of a run. All cases share its address; a case is told by
// its token, which stands in all that it sends: in paths, and in a field where
// the path is no path.
type hub struct {
	be  *rawpeer.Backend
	tls *backendTLS // nil in cleartext

	mu     sync.Mutex
	claims map[string]*claim
}

var tokenPattern = regexp.MustCompile(`wc[0-9a-f]{6}n[0-9]+z`)

// fence is the path, behind the token, of a request that the hub answers itself.
const fence = "/fence"

// claim is a case's hold on what carries its token.
type claim struct {
	token  string
	conns  chan *rawpeer.BackendConn
	record atomic.Pointer[recorder] // serves instead of handing out
	joined func(*rawpeer.BackendConn)
}

func newHub(addr string, b *backendTLS) (*hub, error) {
	var config *tls.Config
	if b != nil {
		config = b.config()
	}
	be, err := rawpeer.NewBackend(addr, config)
	if err != nil {
		return nil, err
	}
	h := &hub{be: be, tls: b, claims: make(map[string]*claim)}
	go h.accept()
	return h, nil
}

func (h *hub) close() { h.be.Close() }

// accept hands connections to their cases until the hub is closed.
func (h *hub) accept() {
	for {
		c, err := h.be.Accept()
		if err != nil {
			return
		}
		go h.route(c)
	}
}

// route waits for the head of the first request, which says whose it is. A
// connection that brings no whole head is its case's too, once a token came.
func (h *hub) route(c *rawpeer.BackendConn) {
	head, err := c.AwaitHead()
	token := tokenPattern.FindString(head.Raw)
	h.mu.Lock()
	cl := h.claims[token]
	h.mu.Unlock()
	if cl == nil {
		c.Close()
		return
	}
	if err == nil && strings.Contains(head.Line, token+fence) {
		_ = c.Write(answer("200 OK", "fence"))
		c.Close()
		return
	}
	cl.joined(c)
	if r := cl.record.Load(); r != nil {
		r.serve(c)
		return
	}
	select {
	case cl.conns <- c:
	default:
		c.Close()
	}
}

// claim begins to collect what carries token; joined is called for each
// connection.
func (h *hub) claim(token string, joined func(*rawpeer.BackendConn)) *claim {
	cl := &claim{token: token, conns: make(chan *rawpeer.BackendConn, 4096), joined: joined}
	h.mu.Lock()
	h.claims[token] = cl
	h.mu.Unlock()
	return cl
}

func (h *hub) release(cl *claim) {
	h.mu.Lock()
	delete(h.claims, cl.token)
	h.mu.Unlock()
}

// answer is a whole answer behind which the backend's connection ends.
func answer(status, content string, fields ...rawpeer.Field) []byte {
	var more strings.Builder
	for _, f := range fields {
		more.WriteString(f.Name + ": " + f.Value + "\r\n")
	}
	return fmt.Appendf(nil, "HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n%s\r\n%s", status, len(content), &more, content)
}
