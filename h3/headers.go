package h3

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/quic-go/qpack"

	"wsgate/bridge"
	"wsgate/internal/field"
)

// blocksFactor: field sections that are not complete may hold so many times
// MaxHeader on a connection.
const blocksFactor = 16

// bombFactor: a field section that decodes to more than so many times MaxHeader
// ends the connection.
const bombFactor = 16

// headScratch collects a decoded field section. It is the shard's and holds one
// section until its request is made.
type headScratch struct {
	fields bridge.Fields
	dec    qpack.Decoder
}

// decode reads a field section (RFC 9204 section 4.5). over says that fields were
// left out because they are more than MaxHeader. The fields are the shard's and
// valid until the next one is decoded.
func (sh *shard) decode(c *conn, block []byte) (fields bridge.Fields, over bool, err error) {
	h := &sh.head
	h.fields = h.fields[:0]
	if block, err = withoutBase(block); err != nil {
		return nil, false, err
	}
	size := 0
	for next := h.dec.Decode(block); ; {
		f, err := next()
		if err == io.EOF { // itself, as the decoder says it
			break
		}
		if err != nil {
			return nil, false, connErr(errDecompression, err.Error()) // RFC 9204 section 2.2
		}
		// RFC 9114 section 4.2.2.
		if size += len(f.Name) + len(f.Value) + 32; size > sh.lim.header {
			over = true
			if size > bombFactor*sh.lim.header {
				sh.count.HeaderBomb.Add(1)
				return nil, true, connErr(errExcessiveLoad, "field section decodes to far too much")
			}
			continue
		}
		h.fields = append(h.fields, bridge.Field{Name: f.Name, Value: f.Value})
	}
	if over {
		err = c.calm(headerBomb)
	}
	return h.fields, over, err
}

// withoutBase judges the prefix of a field section (RFC 9204 section 4.5.1). A base
// is of no use without a dynamic table, and the decoder wants none.
func withoutBase(block []byte) ([]byte, error) {
	if len(block) >= 2 && block[0] == 0 && block[1] == 0 {
		return block, nil
	}
	if len(block) < 2 || block[0] != 0 {
		return nil, connErr(errDecompression, "field section refers to a dynamic table, which has no capacity")
	}
	if block[1]&0x80 != 0 {
		return nil, connErr(errDecompression, "negative base of a field section")
	}
	n := 2
	if block[1] == 0x7f {
		for n < len(block) && block[n]&0x80 != 0 {
			n++
		}
		if n++; n > len(block) || n > 2+10 {
			return nil, connErr(errDecompression, "base of a field section is no integer")
		}
	}
	return append([]byte{0, 0}, block[n:]...), nil
}

// encoder makes field sections with the static table alone.
type encoder struct {
	buf    bytes.Buffer
	enc    *qpack.Encoder
	second int64 // of date
	date   string
}

func (e *encoder) init() { e.enc = qpack.NewEncoder(&e.buf) }

// fresh starts a field section.
func (sh *shard) fresh() *encoder {
	e := &sh.enc
	e.buf.Reset()
	_ = e.enc.Close() // forgets the section before; it has no error
	return e
}

// begin starts a field section of an answer.
func (sh *shard) begin(status int) *encoder {
	e := sh.fresh()
	e.put(":status", strconv.Itoa(status))
	return e
}

func (e *encoder) put(name, value string) {
	_ = e.enc.WriteField(qpack.HeaderField{Name: name, Value: value}) // into memory
}

// add encodes one field; the name in any letter case. Fields that would be
// malformed are left out: what a backend sent is not trusted (RFC 9114 section
// 4.2).
func (e *encoder) add(name, value string) {
	if field.Token(name) && field.Value(value) {
		e.put(strings.ToLower(name), value)
	}
}

// addDate encodes Date (RFC 9110 section 6.6.1).
func (sh *shard) addDate() {
	e, now := &sh.enc, sh.loop.Now()
	if e.date == "" || e.second != now.Unix() {
		e.second, e.date = now.Unix(), now.UTC().Format(http.TimeFormat)
	}
	e.put("date", e.date)
}

// addFields encodes the end-to-end fields of an answer; framing belongs to this
// connection (RFC 9114 section 4.2, RFC 9110 section 9.3.6).
func (sh *shard) addFields(fields bridge.Fields) {
	dated := false
	for i := range fields {
		name := fields[i].Name
		if field.HopByHop(name) || field.Same(name, "content-length") {
			continue
		}
		dated = dated || field.Same(name, "date")
		sh.enc.add(name, fields[i].Value)
	}
	if !dated {
		sh.addDate()
	}
}

// addHeader encodes the fields of an ordinary answer.
func (sh *shard) addHeader(h http.Header) {
	for name, values := range h {
		if field.HopByHop(name) {
			continue
		}
		for _, v := range values {
			sh.enc.add(name, v)
		}
	}
}

// sendHead sends the field section that was made.
func (s *stream) sendHead(end bool) {
	sh := s.c.sh
	section := sh.enc.buf.Bytes()
	out := append(appendFrame(sh.out[:0], frameHeaders, len(section)), section...)
	s.q.write(out)
	sh.out = out
	if end {
		s.flags |= sentEnded
		s.q.end()
	}
}

// answer is an answer of our own: one plain line with the reason code.
func (s *stream) answer(status int, code string) {
	c := s.c
	if f := c.sh.srv.Rejected; f != nil {
		f(c.client, status, code)
	}
	body := fmt.Sprintf("%d %s: %s\n", status, strings.ToLower(http.StatusText(status)), code)
	e := c.sh.begin(status)
	c.sh.addDate()
	e.put("cache-control", "no-store")
	if status == 503 {
		e.put("retry-after", retryAfter)
	}
	s.flags |= answered
	if s.has(isHead) { // RFC 9110 section 9.3.2
		s.sendHead(true)
		s.enough()
		return
	}
	e.put("content-type", "text/plain; charset=utf-8")
	e.put("content-length", strconv.Itoa(len(body)))
	s.sendHead(false)
	s.writeFrame([]byte(body))
	s.flags |= sentEnded
	s.q.end()
	s.enough()
}

// writeFrame sends one DATA frame, whatever room there is.
func (s *stream) writeFrame(p []byte) {
	out := append(appendFrame(s.c.sh.out[:0], frameData, len(p)), p...)
	s.q.write(out)
	s.c.sh.out = out
	if s.has(headDone) {
		s.flags |= hasWritten
		s.born = s.c.sh.loop.Now()
	}
}

// retryAfter is what a client is asked to wait, in seconds.
const retryAfter = "5"

// enough ends the stream after a whole answer: what the client still sends is not
// wanted (RFC 9114 section 4.1).
func (s *stream) enough() {
	if !s.has(recvEnded) {
		s.abort(errNone)
		return
	}
	s.flags |= endGiven
	s.settle()
}
