// Package rawpeer is the raw peer of the tests and of the conformance suite: an HTTP/1.1 client, an HTTP/2 client and an HTTP/1.1
// backend that can say anything, also wrong things, and that see everything: each
// octet, each frame, and whether a connection ended by FIN or by RST.
//
// Peers speak in wants: WantStatus, WantReset, WantFIN. A want waits until it
// is fulfilled or can no longer be, Patience at the most, and returns a
// *Mismatch that says what was wanted and what was seen. All methods may be
// called from any goroutine unless they say otherwise.
//
// The package knows nothing of the gateway: an oracle shares no bug with the
// accused.
package rawpeer

import (
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"
)

// Patience is how long a want waits where its peer does not say otherwise.
const Patience = 5 * time.Second

// Mismatch is the answer to a want that was not fulfilled.
type Mismatch struct{ Want, Got string }

func (m *Mismatch) Error() string { return "want " + m.Want + ", got " + m.Got }

func mismatch(want, format string, args ...any) error {
	return &Mismatch{want, fmt.Sprintf(format, args...)}
}

// Field is a header field line.
type Field struct{ Name, Value string }

// Fields are field lines in order.
type Fields []Field

// F makes fields of names and values in turn.
func F(pairs ...string) Fields {
	f := make(Fields, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		f = append(f, Field{pairs[i], pairs[i+1]})
	}
	return f
}

// Get returns the first value of that name, compared without regard to case.
func (f Fields) Get(name string) string {
	for _, x := range f {
		if strings.EqualFold(x.Name, name) {
			return x.Value
		}
	}
	return ""
}

// Values returns all values of that name.
func (f Fields) Values(name string) []string {
	var v []string
	for _, x := range f {
		if strings.EqualFold(x.Name, name) {
			v = append(v, x.Value)
		}
	}
	return v
}

func (f Fields) String() string {
	var b strings.Builder
	for _, x := range f {
		fmt.Fprintf(&b, "%s: %s\n", x.Name, x.Value)
	}
	return b.String()
}

// brief is the fields in one line of a journal.
func (f Fields) brief() string {
	var b strings.Builder
	for i, x := range f {
		if i > 0 {
			b.WriteString(", ")
		}
		v := x.Value
		if len(v) > 200 {
			v = v[:100] + "…"
		}
		fmt.Fprintf(&b, "%q", x.Name+": "+v)
	}
	return "[" + b.String() + "]"
}

// AcceptFor is the Sec-WebSocket-Accept that answers key (RFC 6455 section 1.3).
func AcceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// dial opens a TCP or TLS connection.
func dial(addr string, config *tls.Config, proto string) (net.Conn, error) {
	c, err := net.DialTimeout("tcp", addr, Patience)
	if err != nil || config == nil {
		return c, err
	}
	config = config.Clone()
	if proto != "" {
		config.NextProtos = []string{proto}
	}
	tc := tls.Client(c, config)
	c.SetDeadline(time.Now().Add(Patience))
	if err := tc.Handshake(); err != nil {
		c.Close()
		return nil, err
	}
	c.SetDeadline(time.Time{})
	if got := tc.ConnectionState().NegotiatedProtocol; proto == "h2" && got != "h2" {
		c.Close()
		return nil, fmt.Errorf("ALPN chose %q, not %q", got, proto)
	}
	return tc, nil
}

// tcpOf returns the TCP connection under c.
func tcpOf(c net.Conn) *net.TCPConn {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	t, _ := c.(*net.TCPConn)
	return t
}

// cut closes a connection so that the peer sees a TCP RST.
func cut(c net.Conn) {
	if t := tcpOf(c); t != nil {
		_ = t.SetLinger(0)
		t.Close()
		return
	}
	c.Close()
}

// isReset reports whether err says that the peer sent a TCP RST.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
