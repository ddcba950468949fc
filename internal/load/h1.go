package load

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"wsgate/internal/rawpeer"
)

// h1 is a session of HTTP/1.1: one connection, one tunnel (RFC 6455 section 4.1),
// or one request after the other.
type h1 struct {
	*link
	upgrade, request []byte
	t                *tunnel
	head             bool // an answer's head is to come
	left             int  // of an answer's content
}

func newH1(l *link, target *Target) *h1 {
	s := &h1{link: l}
	s.wire = s
	var b strings.Builder
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", target.Path, target.authority())
	s.request = []byte(b.String() + "\r\n")
	b.WriteString("Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: " + rawpeer.Key + "\r\n")
	for _, f := range handshakeFields(target) {
		fmt.Fprintf(&b, "%s: %s\r\n", f[0], f[1])
	}
	s.upgrade = []byte(b.String() + "\r\n")
	return s
}

func (s *h1) open(t *tunnel) { s.ask(t, s.upgrade) }
func (s *h1) get(t *tunnel)  { s.ask(t, s.request) }

func (s *h1) ask(t *tunnel, head []byte) {
	t.s, s.t, s.head = s, t, true
	s.out = append(s.out, head...)
}

func (s *h1) send(_ *tunnel, p []byte) { s.out = append(s.out, p...) }

// finish leaves the end to the peer: a client answers a Close and waits (RFC
// 6455 section 7.1.1).
func (s *h1) finish(*tunnel) {}

func (s *h1) lost(err error) {
	if s.t == nil {
		return
	}
	if s.t.said && err != nil && s.t.stage == opened {
		err = nil // behind its Close frame the peer may close
	}
	s.t.ended(err)
}

func (s *h1) feed(p []byte) ([]byte, error) {
	for len(p) > 0 {
		switch {
		case s.t == nil || s.t.stage == over:
			return nil, fmt.Errorf("got %d octets that nobody asked for", len(p))
		case s.head:
			n, err := s.answer(p)
			if n == 0 || err != nil {
				return p, err
			}
			p = p[n:]
		case s.t.plain:
			n := min(len(p), s.left)
			s.content(p[:n])
			p = p[n:]
		default:
			return nil, s.t.octets(p)
		}
	}
	return nil, nil
}

// answer reads the head of an answer and returns its length; 0 if it is not
// complete.
func (s *h1) answer(p []byte) (int, error) {
	end := bytes.Index(p, []byte("\r\n\r\n"))
	if end < 0 {
		if len(p) > 64<<10 {
			return 0, fmt.Errorf("the head of the answer is longer than %d octets", len(p))
		}
		return 0, nil
	}
	s.head = false
	line, rest, _ := strings.Cut(string(p[:end]), "\r\n")
	status := ""
	if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[0], "HTTP/1.") {
		status = f[1]
	}
	var accept, length string
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, "\r\n")
		name, value, _ := strings.Cut(field, ":")
		switch value = strings.TrimSpace(value); strings.ToLower(name) {
		case "sec-websocket-accept":
			accept = value
		case "content-length":
			length = value
		}
	}
	switch {
	case s.t.plain:
		return end + 4, s.page(status, length)
	case status != "101":
		s.t.ended(fmt.Errorf("%w: the answer is %q", errRefused, line))
		return end + 4, errRefused
	case accept != rawpeer.AcceptFor(rawpeer.Key):
		return end + 4, fmt.Errorf("the answer's Sec-WebSocket-Accept is %q", accept)
	}
	s.t.answered()
	return end + 4, nil
}

// page begins the content of an ordinary answer.
func (s *h1) page(status, length string) error {
	n, err := strconv.Atoi(length)
	if err != nil || n < 0 {
		return fmt.Errorf("the answer's Content-Length is %q; others than of known length are not read", length)
	}
	if status != "200" {
		s.t.ended(fmt.Errorf("%w: the answer's status is %s", errRefused, status))
		return errRefused
	}
	s.t.answered()
	s.left = n
	s.content(nil)
	return nil
}

func (s *h1) content(p []byte) {
	if len(p) > 0 {
		s.t.play.payload(s.t, p)
	}
	if s.left -= len(p); s.left == 0 {
		s.t.ended(nil)
	}
}
