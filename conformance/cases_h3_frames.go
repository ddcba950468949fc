package conformance

import (
	"bytes"
	"fmt"
	"slices"

	"wsgate/internal/rawpeer"
)

// fault is an error of the connection: what is done to it, and the codes that may
// come of it. With a tunnel it is done to the stream of one.
type fault struct {
	id, title, sends string
	code             []rawpeer.H3Code
	do               func(e *Env, c *rawpeer.H3, stream int64)
}

// faults makes cases of faults. What they have in common is in base, whose ID is
// what theirs begin with; greet says how the connection begins.
func faults(base Case, greet func(*Env) (*rawpeer.H3, int64, *rawpeer.BackendConn), all ...fault) []Case {
	cases := make([]Case, len(all))
	for i, f := range all {
		c := base
		c.ID += f.id
		c.Title, c.Text.Sends = f.title, f.sends
		c.Text.Sees = "CONNECTION_CLOSE"
		for j, code := range f.code {
			c.Text.Sees += map[bool]string{true: " ", false: " or "}[j == 0] + nameH3(code)
		}
		c.run = func(e *Env) {
			conn, stream, b := greet(e)
			f.do(e, conn, stream)
			e.WantH3Closed(conn, f.code...)
			if b != nil {
				e.On("the backend of a tunnel", b.WantEnded())
			}
		}
		cases[i] = c
	}
	return cases
}

// Ways to begin a connection for a fault.

func greeted(e *Env) (*rawpeer.H3, int64, *rawpeer.BackendConn) { return e.H3(), -1, nil }

func silent(e *Env) (*rawpeer.H3, int64, *rawpeer.BackendConn) { return e.H3Quiet(), -1, nil }

func tunneled(e *Env) (*rawpeer.H3, int64, *rawpeer.BackendConn) {
	c, s, b := e.tunnel3()
	return c, s.id, b
}

// begun opens a request stream.
func begun(e *Env) (*rawpeer.H3, int64, *rawpeer.BackendConn) {
	c := e.H3()
	return c, c.Open(), nil
}

func just(c rawpeer.H3Code) []rawpeer.H3Code { return []rawpeer.H3Code{c} }

// onStream writes octets on the stream; a connection that has ended shows later.
func onStream(p ...[]byte) func(*Env, *rawpeer.H3, int64) {
	return func(_ *Env, c *rawpeer.H3, id int64) { _ = c.Raw(id, slices.Concat(p...)) }
}

func onControl(kind uint64, payload ...byte) func(*Env, *rawpeer.H3, int64) {
	return func(_ *Env, c *rawpeer.H3, _ int64) { _ = c.Control(kind, payload) }
}

func onUni(kind uint64, p ...byte) func(*Env, *rawpeer.H3, int64) {
	return func(_ *Env, c *rawpeer.H3, _ int64) { _, _ = c.OpenUni(kind, p) }
}

// stream3Cases are frames on request streams (rows 151 to 155).
func stream3Cases() []Case {
	tunnel := Case{
		ID: "h3/tunnel/", Rows: []int{151}, RFC: "9114", Section: "4.4", Level: Must,
		Text: Text{
			Rule: "Once CONNECT is complete only DATA may come on its stream; any other known frame is an error of the connection, H3_FRAME_UNEXPECTED.",
			Why:  "Trailers that are taken for an end look orderly to the backend, which then keeps half a session.",
		},
	}
	var kinds []fault
	for _, k := range []struct {
		id, name string
		kind     uint64
		payload  []byte
	}{
		{"headers", "HEADERS", 0x01, rawpeer.Section(rawpeer.F("x-late", "1"))},
		{"push-promise", "PUSH_PROMISE", 0x05, append([]byte{0}, rawpeer.Section(rawpeer.F(":method", "GET"))...)},
		{"settings", "SETTINGS", 0x04, nil},
		{"cancel-push", "CANCEL_PUSH", 0x03, []byte{0}},
		{"goaway", "GOAWAY", 0x07, []byte{0}},
		{"max-push-id", "MAX_PUSH_ID", 0x0d, []byte{0}},
	} {
		kinds = append(kinds, fault{k.id, k.name + " on an open tunnel is H3_FRAME_UNEXPECTED", k.name + " on the stream of an open tunnel", just(h3FrameUnexpected), onStream(rawpeer.H3Frame(k.kind, k.payload))})
	}
	for _, k := range []uint64{0x02, 0x06, 0x08, 0x09} {
		kinds = append(kinds, fault{fmt.Sprintf("http2-frame-%d", k), fmt.Sprintf("a frame of HTTP/2's type %#x on a tunnel is H3_FRAME_UNEXPECTED", k), fmt.Sprintf("a frame of type %#x on the stream of an open tunnel", k), just(h3FrameUnexpected), onStream(rawpeer.H3Frame(k, []byte{0, 0, 0, 0}))})
	}
	of2 := faults(tunnel, tunneled, kinds...)
	for i := range of2 {
		if i >= 6 {
			of2[i].Section = "7.2.8"
			of2[i].Text.Rule = "The types that HTTP/2 used for frames which HTTP/3 has none of are reserved; receipt is an error of the connection, H3_FRAME_UNEXPECTED."
		}
	}
	framing := Case{ID: "h3/frames/", RFC: "9114", Level: Must, Text: Text{
		Rule: "A request stream is a HEADERS frame, DATA frames, and maybe trailers: frames out of that order are H3_FRAME_UNEXPECTED, a frame that the end of its stream cuts off is H3_FRAME_ERROR.",
		Why:  "Who guesses where a message ends hands out half of one.",
	}}
	early, cut := framing, framing
	early.Rows, early.Section = []int{153}, "4.1"
	cut.Rows, cut.Section = []int{154}, "7.1"
	cutOff := func(p ...[]byte) func(*Env, *rawpeer.H3, int64) {
		return func(e *Env, c *rawpeer.H3, id int64) {
			_ = c.Raw(id, slices.Concat(p...))
			_ = c.End(id)
		}
	}
	return slices.Concat(
		of2,
		faults(early, begun, fault{"data-before-headers", "DATA before HEADERS is H3_FRAME_UNEXPECTED", "DATA as the first frame of a request stream", just(h3FrameUnexpected), onStream(rawpeer.H3Frame(0, []byte("x")))}),
		faults(cut, tunneled,
			fault{"data-cut", "a DATA frame that runs past FIN is H3_FRAME_ERROR", "on a tunnel, DATA of 100 octets of which 5 come, then FIN", just(h3FrameError), cutOff([]byte{0, 0x40, 100}, []byte("hello"))},
			fault{"head-cut", "a frame's head that FIN cuts off is H3_FRAME_ERROR", "on a tunnel, the first octet of a DATA frame, then FIN", just(h3FrameError), cutOff([]byte{0})}),
		faults(cut, begun, fault{"headers-cut", "a HEADERS frame that runs past FIN is H3_FRAME_ERROR", "HEADERS of 100 octets of which 3 come, then FIN", just(h3FrameError), cutOff([]byte{1, 0x40, 100, 0, 0, 0xd1})}),
		streamCases3(),
	)
}

func streamCases3() []Case {
	return []Case{
		{
			ID: "h3/tunnel/unknown-frames", Rows: []int{116, 152}, RFC: "9114", Section: "9", Level: Must,
			Title: "frames of unknown and reserved types on a tunnel are ignored, and so are those on the control stream",
			Text: Text{
				Sends: "on a tunnel and on the control stream, frames of types 0x21, 0x1f*7+0x21 and 0xbbbb, empty and with octets, between DATA",
				Sees:  "the octets of DATA at the backend, nothing else; the tunnel echoes",
				Rule:  "Frames of unknown types are ignored in every place where a frame may come, tunnels too (section 4.4 speaks of known ones).",
				Why:   "Browsers send them on purpose, so that servers which cannot bear them are found.",
			},
			run: func(e *Env) {
				c, s, b := e.tunnel3()
				for _, k := range []uint64{0x21, 0x1f*7 + 0x21, 0xbbbb} {
					for _, p := range [][]byte{nil, []byte("grease"), make([]byte, 3000)} {
						e.Must(c.Control(k, p))
						e.Must(s.Data([]byte("a"), false))
						e.Must(c.Frame(s.id, k, p))
						e.Must(s.Data([]byte("b"), false))
					}
				}
				e.Must(b.WantBytes(bytes.Repeat([]byte("ab"), 9)))
				e.echo(s, b)
			},
		},
		{
			ID: "h3/tunnel/unknown-streams", Rows: []int{138}, RFC: "9114", Section: "6.2", Level: Must,
			Title: "unidirectional streams of unknown and reserved types are no errors",
			Text: Text{
				Sends: "streams of the types 0x21, 0x54 and 0x1f*9+0x21 with octets, beside a tunnel",
				Sees:  "the tunnel echoes; STOP_SENDING for the streams, or nothing",
				Rule:  "A recipient of a type that it does not know aborts reading or throws the octets away; it MUST NOT take it for an error of the connection.",
				Why:   "Browsers open such streams on purpose.",
			},
			run: func(e *Env) {
				c, s, b := e.tunnel3()
				for _, k := range []uint64{0x21, 0x54, 0x1f*9 + 0x21} {
					_, err := c.OpenUni(k, []byte("grease"))
					e.Must(err)
				}
				e.echo(s, b)
				e.Must(h3Mux{c, e}.WantAlive())
			},
		},
		{
			ID: "h3/frames/no-request", Rows: []int{155}, RFC: "9114", Section: "4.1", Level: Should,
			Title: "a stream that ends before its request is H3_REQUEST_INCOMPLETE",
			Text: Text{
				Sends: "FIN on a request stream without an octet; an unknown frame and FIN on another",
				Sees:  "RESET_STREAM H3_REQUEST_INCOMPLETE for both; the connection goes on",
				Rule:  "A stream that ends without enough of a request to answer it should be aborted with H3_REQUEST_INCOMPLETE.",
				Why:   "A stream that is only forgotten stays on the client's books.",
			},
			run: func(e *Env) {
				c := e.H3()
				first, second := c.Open(), c.Open()
				e.Must(c.End(first))
				e.Must(c.Frame(second, 0x21, nil))
				e.Must(c.End(second))
				for _, id := range []int64{first, second} {
					e.Must(c.WantReset(id, h3RequestIncomplete))
				}
				e.Must(h3Mux{c, e}.WantAlive())
			},
		},
	}
}

// control3Cases are faults of the control stream (rows 138 and 139): quic-go's own
// server misses most of them.
func control3Cases() []Case {
	base := Case{
		ID: "h3/control/", Rows: []int{138}, RFC: "9114", Section: "6.2.1", Level: Must,
		Text: Text{
			Rule: "There is one control stream for a connection, SETTINGS is its first frame and comes once, and it never ends.",
			Why:  "It is where GOAWAY and settings come: two ends that do not agree about it do not agree about anything on the connection.",
		},
	}
	once, types, ids, h2ids, lengths := base, base, base, base, base
	once.Section = "7.2.4"
	types.Section = "7.2"
	types.Text.Rule = "DATA and HEADERS belong on request streams, PUSH_PROMISE comes from servers, and HTTP/2's frames are reserved: on the control stream each is H3_FRAME_UNEXPECTED."
	ids.Section = "7.2.3"
	ids.Text.Rule = "Identifiers of pushes and of GOAWAY go in one direction only, and name what exists: otherwise H3_ID_ERROR."
	pushes, goaways := ids, ids
	pushes.Section, goaways.Section = "7.2.7", "5.2"
	h2ids.ID, h2ids.Rows, h2ids.Section = "h3/settings/", []int{139}, "7.2.4.1"
	h2ids.Text.Rule = "The identifiers of HTTP/2's settings that HTTP/3 has none of are reserved; receipt is H3_SETTINGS_ERROR."
	h2ids.Text.Why = "A client that sends them speaks of something else than the server understands."
	lengths.Section = "7.1"
	lengths.Text.Rule = "A frame holds exactly the fields that its type has; one that is longer or shorter is H3_FRAME_ERROR."
	var settings, kinds []fault
	for _, id := range []uint64{2, 3, 4, 5} {
		settings = append(settings, fault{fmt.Sprintf("http2-id-%d", id), fmt.Sprintf("the HTTP/2 setting %#x is H3_SETTINGS_ERROR", id), fmt.Sprintf("client SETTINGS with %#x = 1", id), just(h3SettingsError), func(e *Env, c *rawpeer.H3, _ int64) {
			e.Must(c.Greet(rawpeer.H3Setting{ID: id, Value: 1}))
		}})
	}
	for _, k := range []struct {
		name string
		kind uint64
	}{{"data", 0}, {"headers", 1}, {"push-promise", 5}, {"http2-frame", 2}} {
		kinds = append(kinds, fault{k.name, fmt.Sprintf("a frame of type %#x on the control stream is H3_FRAME_UNEXPECTED", k.kind), fmt.Sprintf("a frame of type %#x on the control stream", k.kind), just(h3FrameUnexpected), onControl(k.kind, 0)})
	}
	return slices.Concat(
		faults(h2ids, silent, settings...),
		faults(base, silent,
			fault{"first-not-settings", "a control stream that does not begin with SETTINGS is H3_MISSING_SETTINGS", "a control stream whose first frame is MAX_PUSH_ID", just(h3MissingSettings), onUni(0x00, rawpeer.H3Frame(0x0d, []byte{0})...)}),
		faults(once, greeted, fault{"second-settings", "a second SETTINGS is H3_FRAME_UNEXPECTED", "a second SETTINGS on the control stream", just(h3FrameUnexpected), onControl(0x04)}),
		faults(types, greeted, kinds...),
		faults(base, greeted,
			fault{"ended", "the end of the control stream is H3_CLOSED_CRITICAL_STREAM", "FIN on the control stream", just(h3ClosedCritical), func(_ *Env, c *rawpeer.H3, _ int64) { _ = c.ControlStream().Close() }},
			fault{"reset", "a reset of the control stream is H3_CLOSED_CRITICAL_STREAM", "RESET_STREAM on the control stream", just(h3ClosedCritical), func(e *Env, c *rawpeer.H3, _ int64) {
				// A reset takes along what was not read: which stream it was. Who has
				// taken a mebibyte of unknown frames has read what came before.
				for range 64 {
					e.Must(c.Control(0x21, make([]byte, 16<<10)))
				}
				c.ControlStream().CancelWrite(0x10c)
			}},
			fault{"second", "a second control stream is H3_STREAM_CREATION_ERROR", "a second stream of type 0x00", just(h3StreamCreation), onUni(0x00, rawpeer.H3Frame(0x04, nil)...)},
			fault{"push-stream", "a push stream of a client is H3_STREAM_CREATION_ERROR", "a unidirectional stream of type 0x01", just(h3StreamCreation), onUni(0x01, 0)}),
		faults(ids, greeted, fault{"cancel-push", "CANCEL_PUSH of what was never promised is H3_ID_ERROR", "CANCEL_PUSH 5 where no push is allowed", just(h3IDError), onControl(0x03, 5)}),
		faults(pushes, greeted, fault{"max-push-id-down", "a MAX_PUSH_ID that goes down is H3_ID_ERROR", "MAX_PUSH_ID 10, then 5", just(h3IDError), func(_ *Env, c *rawpeer.H3, _ int64) {
			_ = c.Control(0x0d, []byte{10})
			_ = c.Control(0x0d, []byte{5})
		}}),
		faults(goaways, greeted, fault{"goaway-up", "a client's GOAWAY that goes up is H3_ID_ERROR", "GOAWAY 4, then 8", just(h3IDError), func(_ *Env, c *rawpeer.H3, _ int64) {
			_ = c.Control(0x07, []byte{4})
			_ = c.Control(0x07, []byte{8})
		}}),
		faults(lengths, silent, fault{"settings-cut", "a SETTINGS that ends inside a setting is H3_FRAME_ERROR", "SETTINGS with an identifier and no value", []rawpeer.H3Code{h3FrameError, h3SettingsError}, onUni(0x00, rawpeer.H3Frame(0x04, []byte{6})...)}),
		faults(lengths, greeted, fault{"long-max-push-id", "a MAX_PUSH_ID with octets behind its number is H3_FRAME_ERROR", "MAX_PUSH_ID of two octets where one is its number", just(h3FrameError), onControl(0x0d, 1, 1)}),
	)
}

// qpackCases are field sections and streams of QPACK (row 158).
func qpackCases() []Case {
	base := Case{
		ID: "h3/qpack/", Rows: []int{158}, RFC: "9204", Section: "2.2", Level: Must,
		Text: Text{
			Rule: "A field section that refers to what is not there is QPACK_DECOMPRESSION_FAILED, an error of the connection.",
			Why:  "Who goes on after it reads requests that nobody sent.",
		},
	}
	encoder, decoder, critical := base, base, base
	encoder.Section = "4.3"
	encoder.Text.Rule = "The table of the decoder has the capacity that it announced, 0 if it announced none; what exceeds it is QPACK_ENCODER_STREAM_ERROR."
	decoder.Section = "4.4"
	decoder.Text.Rule = "An acknowledgment of what was never sent, and an increment of 0, are QPACK_DECODER_STREAM_ERROR."
	critical.Section = "4.2"
	critical.Text.Rule = "Each side has one encoder and one decoder stream at the most: a second one is H3_STREAM_CREATION_ERROR, an end of one H3_CLOSED_CRITICAL_STREAM."
	section := func(p ...byte) func(*Env, *rawpeer.H3, int64) {
		return onStream(rawpeer.H3Frame(0x01, p))
	}
	failed := just(qpackDecompression)
	return append(slices.Concat(
		faults(base, begun,
			fault{"static-index", "an index outside the static table is QPACK_DECOMPRESSION_FAILED", "HEADERS with the static index 99, where there are 0 to 98", failed, section(0, 0, 0xff, 0x24)},
			fault{"static-name-index", "a name outside the static table is QPACK_DECOMPRESSION_FAILED", "HEADERS with a value for the static name 99", failed, section(0, 0, 0x5f, 0x54, 1, 'x')},
			fault{"dynamic-reference", "a reference to the dynamic table that was never filled is QPACK_DECOMPRESSION_FAILED", "HEADERS with a required insert count of 0 and an indexed field of the dynamic table", failed, section(0, 0, 0x80)},
			fault{"insert-count", "a required insert count beyond the table is QPACK_DECOMPRESSION_FAILED", "HEADERS with an encoded insert count of 255, where the table holds nothing", failed, section(0xff, 0x80, 0x7f, 0, 0x80)},
			fault{"cut-string", "a string that the section cuts off is QPACK_DECOMPRESSION_FAILED", "HEADERS that end inside a name", failed, section(0, 0, 0x27, 5, 'x')}),
		faults(encoder, greeted,
			fault{"capacity", "a table capacity over the limit is QPACK_ENCODER_STREAM_ERROR", "Set Dynamic Table Capacity on the encoder stream, above what the server announced", just(qpackEncoderStream), func(_ *Env, c *rawpeer.H3, _ int64) {
				limit, _ := c.Setting(0x01) // SETTINGS_QPACK_MAX_TABLE_CAPACITY
				_, _ = c.OpenUni(0x02, prefixed(0x20, 5, limit+1))
			}},
			fault{"insert-without-capacity", "an insertion into a table without capacity is QPACK_ENCODER_STREAM_ERROR", "an insertion on the encoder stream, without a capacity set before", just(qpackEncoderStream), onUni(0x02, 0x41, 'x', 1, 'y')}),
		faults(decoder, greeted,
			fault{"false-acknowledgment", "an acknowledgment of a section without references is QPACK_DECODER_STREAM_ERROR", "Section Acknowledgment for stream 0 on the decoder stream", just(qpackDecoderStream), onUni(0x03, 0x80)},
			fault{"increment-zero", "an insert count increment of 0 is QPACK_DECODER_STREAM_ERROR", "Insert Count Increment 0 on the decoder stream", just(qpackDecoderStream), onUni(0x03, 0x00)}),
		faults(critical, greeted,
			fault{"second-encoder", "a second encoder stream is H3_STREAM_CREATION_ERROR", "two streams of type 0x02", just(h3StreamCreation), func(_ *Env, c *rawpeer.H3, _ int64) {
				_, _ = c.OpenUni(0x02, nil)
				_, _ = c.OpenUni(0x02, nil)
			}},
			fault{"encoder-ended", "the end of the encoder stream is H3_CLOSED_CRITICAL_STREAM", "an encoder stream and its FIN", just(h3ClosedCritical), func(_ *Env, c *rawpeer.H3, _ int64) {
				if s, err := c.OpenUni(0x02, nil); err == nil {
					_ = s.Close()
				}
			}})),
		Case{
			ID: "h3/qpack/bomb", Rows: []int{53, 158}, RFC: "9114", Section: "10.5.1", Level: DoS,
			Title: "a section of 60 KB that unpacks to 3 MB is refused",
			Text: Text{
				Sends: "HEADERS with 30,000 references to the longest line of the static table",
				Sees:  "431, a reset or the end of the connection; nothing at the backend; a tunnel on another connection echoes",
				Rule:  "An endpoint bounds a field section (section 4.2.2); the limit holds for what is unpacked.",
				Why:   "A few connections of this kind take all memory.",
			},
			alone: true,
			run: func(e *Env) {
				_, honest, b := e.tunnel3()
				c := e.H3()
				s := &h3Stream{c, c.Open()}
				f := rawpeer.Section(append(e.get("https"), e.Tag()))
				_ = c.Frame(s.id, 0x01, append(f, bytes.Repeat([]byte{0xff, 0x16}, 30000)...)) // static index 85
				if a := e.whole(s); !a.Refused() {
					e.Fail("431, a reset, or the end of the connection", "%v", a)
				}
				e.Untouched()
				e.echo(honest, b)
			},
		})
}

// prefixed is an integer with a prefix of n bits behind first (RFC 7541 section 5.1).
func prefixed(first byte, n uint, v uint64) []byte {
	limit := uint64(1)<<n - 1
	if v < limit {
		return []byte{first | byte(v)}
	}
	p := []byte{first | byte(limit)}
	for v -= limit; v >= 128; v >>= 7 {
		p = append(p, byte(v)|0x80)
	}
	return append(p, byte(v))
}
