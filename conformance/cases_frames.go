package conformance

import (
	"bytes"
	"fmt"
	"slices"
)

// frameCases are the frames of RFC 6455 that a tunnel carries as it is told: the
// gateway is no party to them. Each on every version.
func frameCases() []Case {
	var all []Case
	for _, v := range []string{h2, h1} {
		all = append(all, framesOn(v)...)
	}
	return all
}

// story is octets that go up and octets that go down, piece by piece: each piece
// arrives before the next is sent.
type story struct {
	id, title string
	what      string
	section   string
	pieces    func(masked bool) [][]byte // as a client sends them, masked, and as a server does
}

// masked and not: the same frame as a client and as a server send it.
func bothWays(id, title, what, section string, first byte, payload []byte) story {
	return story{id, title, what, section, func(masked bool) [][]byte { return [][]byte{wsFrame(first, masked, payload)} }}
}

func stories() []story {
	all := []story{
		bothWays("opcode-text", "text frames pass as they are", "a text frame", "5.6", 0x81, []byte("hello")),
		bothWays("opcode-binary", "binary frames pass as they are", "a binary frame", "5.6", 0x82, []byte{0, 1, 2, 0xff}),
		bothWays("opcode-continuation", "a continuation of nothing passes as it is", "a continuation frame without a beginning", "5.4", 0x80, []byte("x")),
		bothWays("opcode-close", "Close frames pass as they are", "a Close frame with code and reason", "5.5.1", 0x88, []byte("\x03\xe8bye")),
		bothWays("opcode-ping", "Ping frames pass, and are not answered on the way", "a Ping frame with content", "5.5.2", 0x89, []byte("are you there?")),
		bothWays("opcode-pong", "Pong frames that nobody asked for pass", "a Pong frame", "5.5.3", 0x8a, []byte("here")),
	}
	for _, op := range []byte{3, 7, 0xb, 0xf} {
		all = append(all, bothWays(fmt.Sprintf("opcode-%x", op), fmt.Sprintf("frames with the reserved opcode %#x pass as they are", op), fmt.Sprintf("a frame with opcode %#x", op), "5.2", 0x80|op, []byte("reserved")))
	}
	for _, n := range []int{0, 125, 126, 65535, 65536, 1 << 20} {
		all = append(all, story{
			fmt.Sprintf("length-%d", n), fmt.Sprintf("a frame of %d octets passes whole", n), fmt.Sprintf("a binary frame with %d octets", n), "5.2",
			func(masked bool) [][]byte { return [][]byte{wsFrame(0x82, masked, pattern(n))} },
		})
	}
	for i, bit := range []byte{0x40, 0x20, 0x10} {
		all = append(all, bothWays(fmt.Sprintf("rsv%d", i+1), fmt.Sprintf("a frame with RSV%d passes as it is", i+1), fmt.Sprintf("a text frame with RSV%d set", i+1), "5.2", 0x81|bit, []byte("x")))
	}
	text := []byte("fragmented message")
	piecewise := func(p []byte) (pieces [][]byte) {
		for i := range p {
			pieces = append(pieces, p[i:i+1])
		}
		return pieces
	}
	fragments := func(masked bool) [][]byte {
		return [][]byte{wsFrame(0x01, masked, text[:5]), wsFrame(0x00, masked, text[5:9]), wsFrame(0x89, masked, []byte("between")), wsFrame(0x80, masked, text[9:])}
	}
	return append(
		all,
		story{"fragments", "fragments pass one by one, with a Ping between them", "a message in three fragments with a Ping between", "5.4", fragments},
		story{
			"mask-wrong", "frames with the mask the wrong way round pass as they are", "an unmasked frame from the client and a masked one from the backend", "5.1",
			func(masked bool) [][]byte { return [][]byte{wsFrame(0x81, !masked, text)} },
		},
		bothWays("utf8-invalid", "text that is no UTF-8 passes as it is", "a text frame with octets that are no UTF-8", "8.1", 0x81, []byte("\xff\xfe\xc0\xaf")),
		story{
			"length-not-minimal", "a length in more octets than it needs passes as it is", "a frame of 5 octets whose length is spelled in 8", "5.2",
			func(masked bool) [][]byte {
				if masked {
					return [][]byte{append([]byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0}, "hello"...)}
				}
				return [][]byte{append([]byte{0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0, 5}, "hello"...)}
			},
		},
		story{"byte-by-byte", "a frame that comes octet by octet passes octet by octet", "a frame in pieces of one octet, each after the last has arrived", "5.2", func(masked bool) [][]byte { return piecewise(wsFrame(0x81, masked, text)) }},
		story{
			"joined", "many frames in one piece pass as they are", "fifty frames in one piece", "5.2",
			func(masked bool) [][]byte { return [][]byte{bytes.Repeat(wsFrame(0x81, masked, text), 50)} },
		},
		story{
			"no-frames", "octets that are no frames pass as they are, and nothing is put between them", "octets that are no WebSocket frames", "5",
			func(masked bool) [][]byte {
				if masked {
					return [][]byte{[]byte("\x8f\xff\xff\xff\xff\xff\xff\xff\xff\xffrubbish"), []byte("more of it")}
				}
				return [][]byte{[]byte("SSH-2.0-x\r\n"), {0xff, 0xff, 0xff}}
			},
		},
	)
}

// pattern is n octets that repeat late.
func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 31 >> 3)
	}
	return p
}

func framesOn(version string) []Case {
	rows := []int{102}
	if version == h1 {
		rows = []int{178}
	}
	var all []Case
	for _, s := range stories() {
		c := Case{
			ID: version + "/frames/" + s.id, Rows: rows, RFC: "6455", Section: s.section, Level: Must, Title: s.title,
			Text: Text{
				Sends: s.what + ", up and down an open tunnel",
				Sees:  "the same octets at the other end, each piece before the next is sent",
				Rule:  "Once it is open the tunnel is used as if it were the TCP connection (RFC 8441 section 5): the gateway judges no frame.",
				Why:   "Extensions, new opcodes and the ends' own error handling work only if what they sent arrives.",
			},
			run: func(e *Env) { e.tell(s) },
		}
		if s.id == "no-frames" && version == h2 {
			c.Rows, c.RFC = []int{229}, "8441"
		}
		all = append(all, c)
	}
	return all
}

// tell sends a story up and down.
func (e *Env) tell(s story) {
	t, b := e.Open()
	for _, p := range s.pieces(true) {
		e.pass("up", p, t.Write, b.WantBytes)
	}
	for _, p := range s.pieces(false) {
		e.pass("down", p, b.Write, t.WantBytes)
	}
}

// pass sends octets at one end and waits for them at the other.
func (e *Env) pass(way string, p []byte, send, want func([]byte) error) {
	sent := make(chan error, 1)
	go func() { sent <- send(p) }() // it may need the reader to go on
	e.On(way, want(p))
	e.On(way, <-sent)
}

// tunnelCases are part F, but for frames of RFC 6455.
func tunnelCases() []Case {
	return slices.Concat(dataCases(), endCases(), resetCases(), strayCases())
}

func dataCases() []Case {
	return []Case{
		{
			ID: "h2/tunnel/data-sizes", Rows: []int{101}, RFC: "9113", Section: "8.5", Level: Must,
			Title: "DATA of 1 and of 16,384 octets and empty DATA carry the tunnel's octets",
			Text: Text{
				Sends: "DATA frames of 1, 0, 16,384, 0 and 1 octets",
				Sees:  "the same octets at the backend, nothing else",
				Rule:  "After a 2xx all DATA frames correspond to data on the backend's connection.",
				Why:   "Clients choose their frames by their buffers.",
			},
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				big := pattern(16384)
				for _, p := range [][]byte{{1}, nil, big, nil, {2}} {
					e.Must(s.Data(p, false))
				}
				e.Must(b.WantBytes(slices.Concat([]byte{1}, big, []byte{2})))
			},
		},
		{
			ID: "h2/tunnel/padding", Rows: []int{101}, RFC: "9113", Section: "6.1", Level: Must,
			Title: "padding of DATA does not reach the backend",
			Text: Text{
				Sends: "a DATA frame with 5 octets and 200 of padding",
				Sees:  "5 octets at the backend, and those behind them",
				Rule:  "Padding has no application semantics.",
				Why:   "Octets that nobody sent break every frame behind them.",
			},
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				p := append([]byte{200}, "hello"...)
				e.Must(c.Frame(0, 0x8, s.id, append(p, make([]byte, 200)...)))
				e.Must(s.Data([]byte("next"), false))
				e.Must(b.WantBytes([]byte("hellonext")))
			},
		},
		{
			ID: "h2/tunnel/split-and-joined", Rows: []int{102}, RFC: "8441", Section: "5", Level: Must,
			Title: "frames of WebSocket and frames of HTTP/2 have nothing to do with each other",
			Text: Text{
				Sends: "a WebSocket frame over many DATA frames, then many WebSocket frames in one DATA; the same downwards",
				Sees:  "the same octets in the same order, at once",
				Rule:  "The stream is used as if it were the TCP connection.",
				Why:   "A gateway that waits for whole frames delays streams that have none.",
			},
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				one := wsFrame(0x82, true, pattern(300))
				for i := 0; i < len(one); i += 7 {
					e.Must(s.Data(one[i:min(i+7, len(one))], false))
				}
				e.Must(b.WantBytes(one))
				many := bytes.Repeat(wsFrame(0x81, true, []byte("hi")), 100)
				e.Must(s.Data(many, false))
				e.Must(b.WantBytes(many))
				for i := 0; i < len(one); i += 50 {
					e.Must(b.Write(one[i:min(i+50, len(one))]))
				}
				e.Must(s.WantBytes(one))
			},
		},
		{
			ID: "h2/tunnel/frames-beside", Rows: []int{116}, RFC: "9113", Section: "5.5", Level: Must,
			Title: "PING is answered, PRIORITY and unknown frames are ignored, beside tunnels",
			Text: Text{
				Sends: "on a connection with two tunnels: PRIORITY for a tunnel and for an idle stream, frames of unknown types on stream 0, a PRIORITY_UPDATE, PING",
				Sees:  "PING answered, both tunnels echo, no GOAWAY",
				Rule:  "Frames of unknown types are to be ignored and discarded; PRIORITY may come in any state.",
				Why:   "Browsers send PRIORITY_UPDATE and frames of unknown types on purpose.",
			},
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				t2, b2 := e.openOn(h2Mux{c})
				e.Must(s.Data([]byte("pi"), false))
				for _, f := range [][]byte{
					raw(2, 0, s.id, 0, 0, 0, 0, 1), raw(2, 0, 77, 0, 0, 0, 0, 1), raw(0xbb, 0xff, 0, 1, 2, 3), raw(0x10, 0, 0, append(be32(s.id), "u=1"...)...),
				} {
					e.Must(c.Raw(f))
				}
				e.Must(c.Ping())
				e.Must(s.Data([]byte("ng"), false))
				e.Must(b.WantBytes([]byte("ping")))
				e.echo(s, b)
				e.echo(t2, b2)
				e.Must(c.WantAlive())
			},
		},
		{
			ID: "h2/tunnel/unknown-frame-on-stream", Rows: []int{116}, RFC: "9113", Section: "8.5", Level: Must,
			Title: "a frame of unknown type on a tunnel's stream is ignored, or ends that stream alone",
			Text: Text{
				Sends: "a frame of unknown type on the stream of one of two tunnels",
				Sees:  "the tunnel goes on, or is reset; the other echoes; nothing of the frame at the backend",
				Rule:  "Unknown frames are ignored (section 5.5); on a connected stream they may be a stream error (section 8.5).",
				Why:   "One tunnel's extension must not cost the others.",
			},
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				t2, b2 := e.openOn(h2Mux{c})
				e.Must(c.Raw(raw(0xbb, 0xff, s.id, 1, 2, 3)))
				e.Must(c.Ping())
				if c.Stream(s.id).Reset {
					e.WantNothingMore(b)
				} else {
					e.echo(s, b)
				}
				e.echo(t2, b2)
				e.Must(c.WantAlive())
			},
		},
	}
}
