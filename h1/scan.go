package h1

import (
	"bytes"
	"errors"
	"strings"

	"wsgate/bridge"
	"wsgate/internal/field"
)

// Errors of heads. What a peer sees of them is decided by who reads the head.
var (
	errBareLF    = errors.New("line end without CR")
	errBareCR    = errors.New("CR without LF")
	errStart     = errors.New("malformed start line")
	errLongLine  = errors.New("start line over its limit")
	errLongHead  = errors.New("head over its limit")
	errManyLines = errors.New("too many fields")
	errFold      = errors.New("folded field line")
	errName      = errors.New("malformed field name")
	errColon     = errors.New("white space before the colon of a field")
	errValue     = errors.New("control octet in a field value")
)

// memory is the part of a loop that lends buffers.
type memory interface {
	Buffer(n int) []byte
	Free(p []byte)
}

// scanner finds the end of a message head in octets that come in pieces. It
// finds the same end, and the same error, however the octets are cut. While no
// head is partial it holds no buffer.
type scanner struct {
	maxHead int  // octets of the head, its empty line included
	maxLine int  // octets of the start line, its line end included; 0: no own limit
	answer  bool // a response's head

	buf   []byte // a partial head, lent by the loop; nil if there is none
	line  int    // where the current line begins
	seen  int    // how far was searched
	lines int    // complete lines so far
	lead  uint8  // leading empty line of a request: 0 possible, 1 CR seen, 2 over
}

// feed takes octets of p until the head is complete. It returns how many were
// taken and, once complete, the head with its last empty line. The head lies in
// p or in the scanner's buffer: it is valid until release.
func (s *scanner) feed(mem memory, p []byte) (head []byte, n int, err error) {
	if n, err = s.skipEmptyLine(p); err != nil {
		return nil, n, err
	}
	p = p[n:]
	if len(p) == 0 {
		return nil, n, nil
	}
	have := len(s.buf)
	if over := have + len(p) - s.maxHead; over > 0 {
		p = p[:len(p)-over]
	}
	b := p
	if have > 0 {
		s.buf = grow(mem, s.buf, len(p))
		s.buf = append(s.buf, p...)
		b = s.buf
	}
	end, err := s.search(b)
	switch {
	case err != nil:
		return nil, n, err
	case end > 0:
		return b[:end], n + end - have, nil
	case len(b) >= s.maxHead:
		return nil, n, errLongHead
	}
	if have == 0 {
		s.buf = append(mem.Buffer(len(p)), p...)
	}
	return nil, n + len(p), nil
}

// skipEmptyLine drops one CRLF before a request line (RFC 9112 section 2.2)
// without keeping a buffer for it.
func (s *scanner) skipEmptyLine(p []byte) (int, error) {
	if s.answer || s.lead == 2 || len(p) == 0 {
		return 0, nil
	}
	n := 0
	if s.lead == 0 {
		if p[0] != '\r' {
			s.lead = 2
			return 0, nil
		}
		s.lead, n = 1, 1
	}
	if n < len(p) {
		if p[n] != '\n' {
			return n, errBareCR
		}
		s.lead = 2
		n++
	}
	return n, nil
}

// search goes on where it stopped and returns the length of the head in b, or
// 0 if its end is not there yet.
func (s *scanner) search(b []byte) (int, error) {
	if s.lines == 0 {
		if err := s.checkStart(b); err != nil {
			return 0, err
		}
	}
	for {
		i := bytes.IndexByte(b[s.seen:], '\n')
		end := s.seen + i
		if i < 0 {
			end = len(b)
		}
		if s.lines == 0 && s.maxLine > 0 && end >= s.maxLine {
			// Without one SP in it this is no request line at all.
			if bytes.IndexByte(b[:s.maxLine], ' ') < 0 {
				return 0, errStart
			}
			return 0, errLongLine
		}
		if i < 0 {
			s.seen = end
			return 0, nil
		}
		line := b[s.line:end]
		// RFC 9112 section 2.2: a line ends with CRLF. That a recipient may
		// take a single LF is not used, neither here nor in chunk lines, and
		// CR stands nowhere else.
		if len(line) == 0 || line[len(line)-1] != '\r' {
			return 0, errBareLF
		}
		line = line[:len(line)-1]
		if bytes.IndexByte(line, '\r') >= 0 {
			return 0, errBareCR
		}
		s.lines++
		s.line, s.seen = end+1, end+1
		if len(line) == 0 {
			if s.lines == 1 {
				return 0, errStart
			}
			return end + 1, nil
		}
	}
}

// checkStart refuses what can be no head from its first octets on, so that a
// peer of another protocol is told at once.
func (s *scanner) checkStart(b []byte) error {
	if s.answer {
		const name = "HTTP/" // RFC 9112 section 2.3
		if n := min(len(b), len(name)); string(b[:n]) != name[:n] {
			return errStart
		}
		return nil
	}
	// RFC 9112 section 3: a request begins with the token of its method.
	if b[0] != '\r' && b[0] != '\n' && !field.Token(string(b[:1])) {
		return errStart
	}
	return nil
}

// partial reports whether the octets of a head have begun to come.
func (s *scanner) partial() bool { return len(s.buf) > 0 }

// release gives the buffer back and makes the scanner ready for the next head.
func (s *scanner) release(mem memory) {
	if s.buf != nil {
		mem.Free(s.buf)
	}
	*s = scanner{maxHead: s.maxHead, maxLine: s.maxLine, answer: s.answer}
}

// grow sees to it that b has room for n octets more.
func grow(mem memory, b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	bigger := mem.Buffer(max(len(b)+n, 2*cap(b)))
	bigger = append(bigger, b...)
	if b != nil {
		mem.Free(b)
	}
	return bigger
}

// fieldRules says how lenient parseFields is.
type fieldRules struct {
	answer bool // a response: white space before a colon is removed
	max    int  // lines
}

// parseFields reads field lines, each with its CRLF (RFC 9112 section 5). The
// strings share s.
func parseFields(s string, r fieldRules) (bridge.Fields, error) {
	dst := make(bridge.Fields, 0, min(strings.Count(s, "\n"), r.max))
	for s != "" {
		i := strings.IndexByte(s, '\n')
		line := s[:i-1]
		s = s[i+1:]
		if line == "" {
			break
		}
		if len(dst) == r.max {
			return dst, errManyLines
		}
		// RFC 9112 section 5.2, and section 2.2 for the first line: a server
		// may answer 400 and a gateway 502 to a line that begins with white space.
		if line[0] == ' ' || line[0] == '\t' {
			return dst, errFold
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return dst, errName
		}
		if n := len(name); n > 0 && (name[n-1] == ' ' || name[n-1] == '\t') {
			// RFC 9112 section 5.1: refused in a request, removed from a response.
			if !r.answer {
				return dst, errColon
			}
			name = strings.TrimRight(name, " \t")
		}
		if !field.Token(name) {
			return dst, errName
		}
		value = field.Trim(value)
		if !field.Value(value) {
			return dst, errValue
		}
		dst = append(dst, bridge.Field{Name: name, Value: value})
	}
	return dst, nil
}
