package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// raw builds a frame of HTTP/2.
func raw(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) []byte {
	n := len(payload)
	b := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags)}
	return append(binary.BigEndian.AppendUint32(b, id), payload...)
}

// be32 is a payload of one number.
func be32(v uint32) []byte { return binary.BigEndian.AppendUint32(nil, v) }

// tunnelH2 opens a tunnel on a connection of its own, for cases that speak
// frames.
func (e *Env) tunnelH2(settings ...http2.Setting) (*rawpeer.H2, *h2Stream, *rawpeer.BackendConn) {
	e.needTunnels()
	c := e.H2(settings...)
	s, b := e.openOn(h2Mux{c})
	return c, s.(*h2Stream), b
}

// WantConnectionError waits for the end of a connection by one of the codes. A
// GOAWAY should come first (RFC 9113 section 5.4.1), but need not.
func (e *Env) WantConnectionError(c *rawpeer.H2, codes ...http2.ErrCode) {
	err := c.WantGoAway(codes...)
	if err != nil && len(c.GoAways()) == 0 && c.Ended() {
		e.Note("the connection ended without GOAWAY")
		err = nil
	}
	e.Must(err)
	e.Must(c.WantClosed())
}

// sectionCases are the header sections of part C as frames.
func sectionCases() []Case {
	return append(brokenSections(), []Case{
		{
			ID: "h2/fields/section-too-large", Rows: []int{51}, RFC: "9113", Section: "10.5.1", Level: Should,
			Title: "a field section over the limit is answered 431 or reset, and the next stream works",
			Text: Text{
				Sends: "an extended CONNECT with more octets of fields than SETTINGS_MAX_HEADER_LIST_SIZE says, 70,000 if it says nothing, and then a right one",
				Sees:  "431, or a reset of the stream; then a tunnel on the same connection",
				Rule:  "What is over the limit may be refused with 431 (RFC 6585 section 5). The block has to be decoded all the same: the compression is the connection's.",
				Why:   "A browser with a large cookie gets a page that says so; one whose connection ends tries for ever.",
			},
			run: largeSection,
		},
		flood("fields/continuation-empty", []int{53}, "10.5", DoS, "CONTINUATION frames without octets, without end", "closes within 20,000 frames", func(*Env, uint32) ([]byte, []byte, int) {
			return raw(http2.FrameHeaders, 0, 99, 0x82), raw(http2.FrameContinuation, 0, 99), 20000
		}),
		flood("fields/continuation-huffman", []int{53}, "10.5", DoS, "CONTINUATION frames full of Huffman padding, without end", "closes within 16 MiB", func(*Env, uint32) ([]byte, []byte, int) {
			return raw(http2.FrameHeaders, 0, 99, 0x82), raw(http2.FrameContinuation, 0, 99, bytes.Repeat([]byte{0xff}, 16384)...), 1000
		}),
		{
			ID: "h2/fields/hpack-bomb", Rows: []int{53}, RFC: "9113", Section: "10.5", Level: DoS,
			Title: "a block of 16 KiB that unpacks to 48 MB is refused",
			Text: Text{
				Sends: "HEADERS with a table entry of 4000 octets and 12,000 references to it",
				Sees:  "431, a reset or the end of the connection; nothing at the backend",
				Rule:  "An endpoint may treat what costs too much as an attack (section 10.5); the limit is that of a field section.",
				Why:   "A few connections of this kind take all memory.",
			},
			alone: true,
			run: func(e *Env) {
				e.needTunnels()
				c := e.H2()
				id := c.NewID()
				e.Must(c.Raw(raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, id, bomb()...)))
				if a := e.whole(&h2Stream{c, id}); !a.Refused() {
					e.Fail("431, a reset, or the end of the connection", "%v", a)
				}
				e.Untouched()
			},
		},
		onTunnel("trailers-on-tunnel", 55, "trailers on an open tunnel are a stream error", "HEADERS with END_STREAM on an open tunnel", true),
		onTunnel("headers-on-tunnel", 56, "a second header section on an open tunnel is a stream error", "HEADERS without END_STREAM on an open tunnel", false),
	}...)
}

// bomb is a block of one table entry of 4000 octets and 12000 references to it.
func bomb() []byte {
	b := []byte{0x40, 1, 'x', 0x7f, 0xa1, 0x1e} // a name of one octet, a value of 127+0x21+0x1e<<7 = 4000
	b = append(b, bytes.Repeat([]byte{'a'}, 4000)...)
	return append(b, bytes.Repeat([]byte{0xbe}, 12000)...)
}

func largeSection(e *Env) {
	e.needTunnels()
	c := e.H2()
	e.Must(c.Ping())
	m := h2Mux{c}
	size := 70000
	if v, ok := c.Setting(http2.SettingMaxHeaderListSize); ok && v < 1<<20 {
		size = int(v) + int(v)/10
	}
	f := e.connect(m)
	for i := 0; size > 0; i++ {
		n := min(size, 4000)
		f = after(f, fmt.Sprintf("x-big-%d", i), strings.Repeat("a", n))
		size -= n
	}
	b, a := e.either(m.Send(f, false))
	if b != nil {
		accepts(b)
		e.Note("a section of that size is served")
	} else if a.Status != 431 && a.Reset == "" {
		e.Fail("431, or a reset of the stream", "%v", a)
	}
	t, b := e.openOn(m)
	e.echo(t, b)
}

func brokenSections() []Case {
	broken := func(id string, row int, section, title, sends, rule, why string, code http2.ErrCode, octets []byte) Case {
		return Case{
			ID: "h2/fields/" + id, Rows: []int{row}, RFC: "9113", Section: section, Level: Must, Title: title,
			Text: Text{Sends: sends, Sees: "GOAWAY " + code.String() + " and the end of the connection", Rule: rule, Why: why},
			run: func(e *Env) {
				e.needTunnels()
				c := e.H2()
				e.Must(c.Raw(octets))
				e.WantConnectionError(c, code)
			},
		}
	}
	const (
		whole    = "A header block is a run of frames of one stream with nothing between them; anything else is a connection error PROTOCOL_ERROR."
		whyWhole = "Who lets frames in between has two blocks in one decoder, and decodes what nobody sent."
		state    = "A block that cannot be decoded is a connection error COMPRESSION_ERROR."
		whyState = "The compression state is shared by all streams: after an error every later request would be read wrongly."
		end      = http2.FlagHeadersEndHeaders
	)
	return []Case{
		broken("ping-inside-block", 52, "6.10", "PING inside a header block is a connection error", "HEADERS without END_HEADERS, then PING", whole, whyWhole,
			http2.ErrCodeProtocol, append(raw(http2.FrameHeaders, 0, 1, 0x82), raw(http2.FramePing, 0, 0, make([]byte, 8)...)...)),
		broken("headers-inside-block", 52, "6.10", "HEADERS of another stream inside a header block are a connection error", "HEADERS without END_HEADERS, then HEADERS of another stream", whole, whyWhole,
			http2.ErrCodeProtocol, append(raw(http2.FrameHeaders, 0, 1, 0x82), raw(http2.FrameHeaders, end, 3, 0x82)...)),
		broken("hpack-index-zero", 54, "4.3", "HPACK index 0 is a compression error", "HEADERS with the indexed field 0", state, whyState,
			http2.ErrCodeCompression, raw(http2.FrameHeaders, end, 1, 0x80)),
		broken("hpack-index-over", 54, "4.3", "an HPACK index over the table is a compression error", "HEADERS with an indexed field that does not exist", state, whyState,
			http2.ErrCodeCompression, raw(http2.FrameHeaders, end, 1, 0xff, 0x40)),
		broken("hpack-cut-string", 54, "4.3", "a string that the block cuts off is a compression error", "HEADERS that end inside a string", state, whyState,
			http2.ErrCodeCompression, raw(http2.FrameHeaders, end, 1, 0x00, 5, 'x')),
		broken("hpack-table-size", 54, "4.3", "a table size over the limit is a compression error", "HEADERS with a dynamic table size update over the limit", state, whyState,
			http2.ErrCodeCompression, raw(http2.FrameHeaders, end, 1, 0x3f, 0xff, 0xff, 0x7f, 0x82)),
	}
}

// onTunnel is a header section on an open tunnel.
func onTunnel(id string, row int, title, sends string, end bool) Case {
	return Case{
		ID: "h2/fields/" + id, Rows: []int{row}, RFC: "9113", Section: "8.5", Level: Must, Title: title,
		Text: Text{
			Sends: sends,
			Sees:  "RST_STREAM PROTOCOL_ERROR; no octet at the backend, and the end of its connection",
			Rule:  "On a connected stream only DATA and frames of stream management are allowed; anything else is a stream error.",
			Why:   "Trailers that are taken for an end look orderly to the backend, which then keeps half a session.",
		},
		run: func(e *Env) {
			c, s, b := e.tunnelH2()
			c.HeadersOn(s.id, rawpeer.F("x-late", "1"), end)
			e.WantStreamError(s, http2.ErrCodeProtocol)
			e.WantNothingMore(b)
		},
	}
}

// WantStreamError waits for a reset of a stream by one of the codes; the whole
// connection may be ended by it too (RFC 9113 section 5.4), which is noted.
func (e *Env) WantStreamError(s *h2Stream, codes ...http2.ErrCode) {
	err := s.c.WantReset(s.id, codes...)
	if err != nil {
		for _, g := range s.c.GoAways() {
			for _, code := range codes {
				if g.Code == code {
					e.Note("the whole connection ended: GOAWAY %v", code)
					return
				}
			}
		}
	}
	e.Must(err)
}

// WantNothingMore waits for the end of the backend's connection, before which no
// octet may come.
func (e *Env) WantNothingMore(b *rawpeer.BackendConn) {
	p := make([]byte, 64)
	n, err := b.Read(p)
	if n > 0 {
		e.Fail("the end of the backend's connection and no octet before it", "%q", p[:n])
	}
	if isTimeout(err) {
		e.Fail("the end of the backend's connection", "none in %v", b.Patience)
	}
}

// flood sends frames until the connection ends: first, then step again and again,
// n times at the most.
func flood(id string, rows []int, section string, level Level, what, limit string, frames func(e *Env, stream uint32) (first, step []byte, n int)) Case {
	return Case{
		ID: "h2/" + id, Rows: rows, RFC: "9113", Section: section, Level: level, alone: true,
		Title: "a flood of " + what + " ends the connection",
		Text: Text{
			Sends: what + ", on a connection with a tunnel, beside a tunnel on another connection",
			Sees:  "GOAWAY (ENHANCE_YOUR_CALM, or PROTOCOL_ERROR) or the end of the connection: the gateway " + limit + "; the other tunnel echoes",
			Rule:  "Frames that cost work and carry nothing are to be counted; a peer that sends too many of them is cut off with ENHANCE_YOUR_CALM.",
			Why:   "Each of them has taken servers down (CVE-2019-9511 to 9518, CVE-2023-45288).",
		},
		run: func(e *Env) {
			_, honest, hb := e.tunnelH2()
			c, s, _ := e.tunnelH2()
			first, step, n := frames(e, s.id)
			if len(first) > 0 {
				e.Must(c.Raw(first))
			}
			chunk := bytes.Repeat(step, 100)
			for i := 0; i < n && !c.Ended() && len(c.GoAways()) == 0; i += 100 {
				if c.Raw(chunk) != nil {
					break
				}
			}
			if err := c.WantClosed(); err != nil && len(c.GoAways()) == 0 {
				e.Fail("the end of the connection: the gateway "+limit, "it goes on")
			}
			e.echo(honest, hb)
		},
	}
}
