package load

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// recorder is a scenario that writes down what it is told.
type recorder struct {
	got   []string
	piece []byte
}

func (r *recorder) opened(*tunnel)              { r.got = append(r.got, "opened") }
func (r *recorder) payload(_ *tunnel, p []byte) { r.piece = append(r.piece, p...) }
func (r *recorder) message(*tunnel) {
	r.got = append(r.got, fmt.Sprintf("message of %d", len(r.piece)))
	r.piece = nil
}
func (r *recorder) ended(_ *tunnel, err error) { r.got = append(r.got, fmt.Sprint("ended: ", err)) }

// mute is a session that keeps what was sent.
type mute struct {
	link
	sent []byte
}

func (m *mute) open(*tunnel)             {}
func (m *mute) get(*tunnel)              {}
func (m *mute) send(_ *tunnel, p []byte) { m.sent = append(m.sent, p...) }
func (m *mute) finish(*tunnel)           {}

func wantStrings(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

// TestFrames: what a server sends is read alike in all pieces.
func TestFrames(t *testing.T) {
	var in []byte
	for _, n := range []int{0, 1, 125, 126, 65535, 65536} {
		in = append(appendHead(in, 0x82, n), make([]byte, n)...)
	}
	in = append(in, 0x02, 1, 'a', 0x89, 2, 'h', 'i', 0x80, 1, 'b') // a Ping between two fragments
	in = append(in, 0x88, 2, 3, 0xe8)
	want := []string{
		"message of 0", "message of 1", "message of 125", "message of 126", "message of 65535", "message of 65536", "message of 2",
	}
	for _, size := range []int{1, 2, 3, 7, 1000, len(in)} {
		rec, s := &recorder{}, &mute{}
		tun := &tunnel{s: s, play: rec}
		for p := range slices.Chunk(in, size) {
			if err := tun.in.feed(p, tun); err != nil {
				t.Fatalf("pieces of %d: got %v, want no error", size, err)
			}
		}
		wantStrings(t, fmt.Sprintf("pieces of %d", size), rec.got, want)
		if pong := []byte{0x8a, 0x82, 0, 0, 0, 0, 'h', 'i'}; !bytes.Equal(s.sent, pong) {
			t.Errorf("pieces of %d: got the answer % x, want the Pong % x", size, s.sent, pong)
		}
		if !tun.said {
			t.Errorf("pieces of %d: got no Close, want one seen", size)
		}
	}
}

func TestFramesOfNoServer(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"\x82\x81abcdx", "which begin no frame of a server"}, // masked
		{"\xf2\x01x", "which begin no frame of a server"},     // RSV bits
		{"\x89\x7e\x00\x7e", "a control frame of 126 octets"},
	} {
		tun := &tunnel{s: &mute{}, play: &recorder{}}
		err := tun.in.feed([]byte(c.in), tun)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got error %v, want %q in it", c.in, err, c.want)
		}
	}
}

// TestMask: pieces of any length at any place are masked as RFC 6455 section 5.3
// says.
func TestMask(t *testing.T) {
	key := [4]byte{1, 2, 3, 4}
	for from := range 9 {
		for size := range 40 {
			p, want := make([]byte, size), make([]byte, size)
			for i := range p {
				p[i] = byte(i * 7)
				want[i] = p[i] ^ key[(from+i)%4]
			}
			if mask(p, key, from); !bytes.Equal(p, want) {
				t.Fatalf("%d octets at %d: got % x, want % x", size, from, p, want)
			}
		}
	}
}

// TestMirror: what the echo server answers does not depend on the pieces.
func TestMirror(t *testing.T) {
	key := [4]byte{0xa, 0xb, 0xc, 0xd}
	in := []byte("GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	want := append([]byte(nil), page...)
	want = append(want, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"...)
	for _, n := range []int{0, 5, 125, 126, 300, 70000} {
		p := bytes.Repeat([]byte("0123456789"), n/10+1)[:n]
		in = appendFrame(in, opBinary, key, p)
		want = append(appendHead(want, 0x82, n), p...)
	}
	in = appendFrame(in, opPing, key, []byte("ho"))
	want = append(want, 0x8a, 2, 'h', 'o')
	in = appendFrame(in, opPong, key, []byte("unasked"))
	in = appendFrame(in, opClose, key, []byte{3, 0xe8})
	want = append(want, 0x88, 2, 3, 0xe8)
	in = appendFrame(in, opBinary, key, []byte("behind the Close"))
	for _, size := range []int{1, 2, 5, 13, 4096, len(in)} {
		m, got := &mirror{}, []byte(nil)
		for p := range slices.Chunk(in, size) {
			got = m.feed(got, p)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("pieces of %d: got %d octets, want the %d that they answer", size, len(got), len(want))
		}
		if !m.over {
			t.Errorf("pieces of %d: got a connection that goes on, want its end behind the Close", size)
		}
	}
}

func TestMirrorAllocates(t *testing.T) {
	m, out := &mirror{up: true}, make([]byte, 0, 4096)
	in := appendFrame(nil, opBinary, [4]byte{1, 2, 3, 4}, make([]byte, 64))
	if n := testing.AllocsPerRun(100, func() { out = m.feed(out[:0], in) }); n != 0 {
		t.Errorf("got %v allocations for a message, want 0", n)
	}
}

func TestQueue(t *testing.T) {
	var q queue
	next, want := int64(1), int64(1)
	for round := range 2000 {
		for range round % 7 {
			q.push(next)
			next++
		}
		for q.len() > round%5 {
			if got := q.oldest(); got != want {
				t.Fatalf("got %d as the oldest, want %d", got, want)
			}
			if got := q.pop(); got != want {
				t.Fatalf("got %d, want %d", got, want)
			}
			want++
		}
	}
	if cap(q.a) > 300 {
		t.Errorf("got room for %d, want what is taken given back", cap(q.a))
	}
}
