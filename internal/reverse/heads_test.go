package reverse

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// pieces is a connection that gives its octets in pieces of one size.
type pieces struct {
	net.Conn
	left string
	size int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.size)], p.left)
	p.left = p.left[n:]
	return n, nil
}

// TestFilterHead: what is left of an answer, however it comes (rows 187, 194).
func TestFilterHead(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain":           {"HTTP/1.1 200 OK\nX-A: 1\n\nbody", "HTTP/1.1 200 OK\nX-A: 1\n\nbody"},
		"named":           {"HTTP/1.1 200 OK\nX-Hop: 1\nConnection: close, x-hop\nx-HOP: 2\n\nX-Hop: 3\n\n", "HTTP/1.1 200 OK\nConnection: close, x-hop\n\nX-Hop: 3\n\n"},
		"framing named":   {"HTTP/1.1 200 OK\nConnection: close, content-length\nContent-Length: 4\n\nbody", "HTTP/1.1 200 OK\nConnection: close, content-length\nContent-Length: 4\n\nbody"},
		"folded":          {"HTTP/1.1 200 OK\nConnection: close,\n x-hop\nX-Hop: 1\n\t2\nX-A: 3\n\n", "HTTP/1.1 200 OK\nConnection: close,\n x-hop\nX-A: 3\n\n"},
		"interim":         {"HTTP/1.1 103 x\nConnection: x-hop\nX-Hop: 1\n\nHTTP/1.1 200\nConnection: x-hop\nX-Hop: 1\n\nbody", "HTTP/1.1 103 x\nConnection: x-hop\n\nHTTP/1.1 200\nConnection: x-hop\n\nbody"},
		"both":            {"HTTP/1.1 200 OK\nContent-Length: 2\nTransfer-Encoding: chunked\n\n0\n\n", "error"},
		"coding in 1.0":   {"HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n0\n\n", "error"},
		"no head":         {"what?\n\nbody", "what?\n\nbody"},
		"cut":             {"HTTP/1.1 200 OK\nX-A", "HTTP/1.1 200 OK\nX-A"},
		"nothing":         {"", ""},
		"over the bound":  {"HTTP/1.1 200 OK\nX-A: " + strings.Repeat("a", 300), "HTTP/1.1 200 OK\nX-A: " + strings.Repeat("a", 300)},
		"a head as body":  {"HTTP/1.1 200 OK\n\nHTTP/1.1 200 OK\nConnection: x-hop\nX-Hop: 1\n\n", "HTTP/1.1 200 OK\n\nHTTP/1.1 200 OK\nConnection: x-hop\nX-Hop: 1\n\n"},
		"switch is final": {"HTTP/1.1 101 x\n\nHTTP/1.1 200\nConnection: x-hop\nX-Hop: 1\n\n", "HTTP/1.1 101 x\n\nHTTP/1.1 200\nConnection: x-hop\nX-Hop: 1\n\n"},
	} {
		for _, size := range []int{1, 7, 1 << 20} {
			for _, end := range []string{"\n", "\r\n"} {
				conn := &answerConn{Conn: &pieces{left: strings.ReplaceAll(c.in, "\n", end), size: size}, max: 256}
				conn.expect.Store(true)
				got, err := io.ReadAll(conn)
				want := strings.ReplaceAll(c.want, "\n", end)
				switch {
				case c.want == "error":
					if !errors.Is(err, errFraming) || len(got) != 0 {
						t.Errorf("%s, pieces of %d: got %q, %v; want %v", name, size, got, err, errFraming)
					}
				case err != nil || string(got) != want:
					t.Errorf("%s, pieces of %d: got %q, %v; want %q", name, size, got, err, want)
				}
			}
		}
	}
}
