package conformance

import (
	"bytes"
	"io"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// drainCases are part H, and what of part F a drain shows. They need a command
// that makes the gateway drain, and wait for one another in front of it.
func drainCases() []Case {
	drains := []Case{
		{
			ID: "h2/drain/goaway-twice", Rows: []int{131}, RFC: "9113", Section: "6.8", Level: Should,
			Title: "a drain begins with GOAWAY 2^31-1, and a later GOAWAY says the last stream",
			Text: Text{
				Sends: "the drain command while a tunnel is open",
				Sees:  "GOAWAY NO_ERROR with 2^31-1, then GOAWAY NO_ERROR with the last stream that was taken",
				Rule:  "A server that shuts down should send an initial GOAWAY with 2^31-1 and, after a round trip at least, one with the real number.",
				Why:   "Requests that cross a single GOAWAY are lost, and nobody knows whether they were processed.",
			},
			run: goAwayTwice,
		},
		{
			ID: "h2/drain/requests-finish", Rows: []int{131}, RFC: "9113", Section: "6.8", Level: Should,
			Title: "requests that are under way when the drain begins are answered",
			Text: Text{
				Sends: "a GET whose backend answers only after the drain command",
				Sees:  "200 with its content, complete",
				Rule:  "Streams below the last one of GOAWAY are processed to their end.",
				Why:   "A release must not cost a single request.",
			},
			run: func(e *Env) {
				c := e.H2()
				m := h2Mux{c}
				s := m.Send(e.get(m.Scheme()), true)
				b, _ := e.NextHead()
				e.Drain()
				e.On("a GOAWAY", c.WantGoAway(http2.ErrCodeNo))
				e.Must(b.Write(answer("200 OK", "done")))
				if a := e.whole(s); a.Status != 200 || string(a.Body) != "done" || !a.End {
					e.Fail("200, complete", "%v", a)
				}
			},
		},
		{
			ID: "h2/drain/late-stream", Rows: []int{132}, RFC: "9113", Section: "6.8", Level: Must,
			Title: "a CONNECT behind the final GOAWAY is ignored or REFUSED_STREAM, and reaches no backend",
			Text: Text{
				Sends: "the drain command, and an extended CONNECT once the final GOAWAY was read",
				Sees:  "nothing, RST_STREAM REFUSED_STREAM, or the end of the connection; nothing at the backend",
				Rule:  "Streams above the last one are not processed; the client may send them again elsewhere.",
				Why:   "It is the promise that makes a retry safe.",
			},
			run: lateStream,
		},
		{
			ID: "h2/drain/close-1001", Rows: []int{133}, RFC: "6455", Section: "7.4.1", Level: Product,
			Title: "a drain ends tunnels with Close 1001 towards both ends, then in order",
			Text:  closeText("both Close frames, then END_STREAM and FIN after the answers"),
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				e.drainTunnel(s, b)
			},
		},
		{
			ID: "h1/drain/close-1001", Rows: []int{133}, RFC: "6455", Section: "7.4.1", Level: Product,
			Title: "a drain ends tunnels over HTTP/1.1 with Close 1001 towards both ends, then in order",
			Text:  closeText("both Close frames, then FIN at both after the answers"),
			run: func(e *Env) {
				t, b := e.Open()
				e.drainTunnel(t, b)
			},
		},
		{
			ID: "h2/drain/close-at-boundary", Rows: []int{115, 133}, RFC: "6455", Section: "5.4", Level: Must,
			Title: "a Close of the gateway's never comes inside a frame",
			Text: Text{
				Sends: "half a frame from the backend, the drain command, then the other half",
				Sees:  "at the client the whole frame and only then a Close, if the gateway makes one",
				Rule:  "Control frames may come between fragments, never inside a frame.",
				Why:   "Two octets inside a message make everything behind them rubbish.",
			},
			run: closeAtBoundary,
		},
		{
			ID: "h2/drain/close-masked", Rows: []int{114, 115}, RFC: "6455", Section: "5.1", Level: Must,
			Title: "a Close of the gateway's is masked towards the backend, unmasked towards the client, and has a code that may be sent",
			Text: Text{
				Sends: "the drain command while a tunnel is open",
				Sees:  "what comes, if anything does, is a whole Close frame: masked at the backend, not at the client, with a code that is none of 1005, 1006 and 1015",
				Rule:  "Clients mask all frames and servers none; the three codes are never on the wire (section 7.4.1).",
				Why:   "A backend fails a connection that sends it an unmasked frame, and reports 1002 in place of the reason.",
			},
			run: closeMasked,
		},
	}
	for i := range drains {
		drains[i].drain = true
	}
	return drains
}

func closeText(sees string) Text {
	return Text{
		Sends: "the drain command while a tunnel is open; both ends answer the Close",
		Sees:  sees,
		Rule:  "1001 says that an endpoint goes away. No RFC asks a gateway to say it.",
		Why:   "Clients that read 1001 connect again at once; those that read a reset report an error first.",
	}
}

func goAwayTwice(e *Env) {
	c, s, b := e.tunnelH2()
	e.Drain()
	e.Must(c.WantGoAway(http2.ErrCodeNo))
	c.Patience = e.patience
	go func() { // the end that a drain may ask for
		_, _ = io.Copy(io.Discard, b)
		_ = b.CloseWrite()
	}()
	for end := soon(2 * e.patience); len(c.GoAways()) < 2 && !c.Ended(); {
		if c.Ping() != nil || !soon(0).Before(end) {
			break
		}
	}
	g := c.GoAways()
	if len(g) < 2 || g[0].Last != 1<<31-1 || g[len(g)-1].Last != s.id {
		e.Fail("GOAWAY 2147483647, then GOAWAY with the tunnel's stream", "%v", g)
	}
}

func lateStream(e *Env) {
	c, s, b := e.tunnelH2()
	e.Drain()
	for end := soon(2 * e.patience); !c.Ended(); { // wait for the final one
		if g := c.GoAways(); len(g) > 0 && g[len(g)-1].Last < 1<<31-1 {
			break
		}
		if c.Ping() != nil || !soon(0).Before(end) {
			break
		}
	}
	switch g := c.GoAways(); {
	case len(g) == 0 && !c.Ended():
		e.Fail("GOAWAY", "none")
	case len(g) > 0 && g[len(g)-1].Last == 1<<31-1: // which refuses no stream yet
		e.Note("no final GOAWAY came")
		return
	}
	late := h2Mux{c}.Send(e.connect(h2Mux{c}), false).(*h2Stream)
	_ = c.Ping()
	if st := c.Stream(late.id); len(st.Heads) > 0 || st.Reset && st.Code != http2.ErrCodeRefusedStream {
		e.Fail("nothing, or RST_STREAM REFUSED_STREAM", "%v", late.told(st, nil))
	}
	select {
	case <-e.claim.conns:
		e.Fail("nothing at the backend", "a handshake")
	default:
	}
	_ = s.Reset()
	_ = b.WantEnded()
}

// drainTunnel drains a tunnel whose ends both answer.
func (e *Env) drainTunnel(t Tunnel, b *rawpeer.BackendConn) {
	e.Drain()
	payload := e.drainClose(b)
	if len(payload) < 2 || payload[0] != 0x03 || payload[1] != 0xe9 {
		e.Fail("Close 1001 at the backend", "%q", payload)
	}
	e.Must(t.WantBytes(wsFrame(0x88, false, payload)))
	e.Must(t.Write(wsFrame(0x88, true, payload)))
	e.Must(b.Write(wsFrame(0x88, false, payload)))
	e.Must(b.WantFIN())
	e.Must(b.CloseWrite())
	e.Must(t.WantEnd())
}

// maskedFrame reads a short masked frame and returns it unmasked; nothing if the
// backend hears nothing more.
func (e *Env) maskedFrame(b *rawpeer.BackendConn) (first byte, payload []byte) {
	head := make([]byte, 6)
	switch n, err := io.ReadFull(b, head[:2]); {
	case n == 0:
		return 0, nil
	case err != nil:
		e.Fail("a frame at the backend", "%q, then %v", head[:n], err)
	case head[1]&0x80 == 0:
		e.Fail("a masked frame at the backend", "% x", head[:2])
	}
	payload = make([]byte, head[1]&0x7f)
	_, err := io.ReadFull(b, head[2:])
	if err == nil {
		_, err = io.ReadFull(b, payload)
	}
	if err != nil {
		e.Fail("a whole frame at the backend", "% x, then %v", head, err)
	}
	for i := range payload {
		payload[i] ^= head[2+i%4]
	}
	return head[0], payload
}

func closeAtBoundary(e *Env) {
	c, s, b := e.tunnelH2()
	frame := wsFrame(0x81, false, []byte("hello"))
	e.Must(b.Write(frame[:4]))
	e.Must(s.WantBytes(frame[:4]))
	e.Drain()
	closed := e.drainClose(b) // towards the backend it can go at once
	_ = c.Ping()
	if st := c.Stream(s.id); len(st.Data) > 0 {
		e.Fail("nothing inside the backend's frame", "%q", st.Data)
	} else if st.Reset || st.End || c.Ended() {
		e.Note("the tunnel was ended inside a frame")
		return
	}
	e.Must(b.Write(frame[4:]))
	want := frame[4:]
	if closed != nil {
		want = append(want, wsFrame(0x88, false, closed)...)
	}
	e.Must(s.WantBytes(want))
	_ = s.Reset()
}

// drainClose waits for the Close of a drain at the backend and returns what it
// holds; nil if none comes.
func (e *Env) drainClose(b *rawpeer.BackendConn) []byte {
	b.Patience = e.Wait(10 * time.Second) // it may be spread over a while
	first, payload := e.maskedFrame(b)
	if first != 0x88 && first != 0 {
		e.Fail("a Close at the backend", "frame %#x %q", first, payload)
	}
	return payload
}

func closeMasked(e *Env) {
	c, s, b := e.tunnelH2()
	e.Drain()
	payload := e.drainClose(b)
	if payload == nil {
		e.Note("no Close at the backend")
	} else if len(payload) >= 2 {
		e.codeMayBeSent(payload[0], payload[1])
	}
	_ = c.Ping()
	if d := c.Stream(s.id).Data; len(d) > 0 {
		if len(d) < 2 || d[0] != 0x88 || d[1]&0x80 != 0 || len(d) != 2+int(d[1]) {
			e.Fail("an unmasked Close at the client", "% x", d)
		}
		if len(d) >= 4 {
			e.codeMayBeSent(d[2], d[3])
		}
	}
	_ = s.Reset()
}

// codeMayBeSent checks a code of a Close frame.
func (e *Env) codeMayBeSent(hi, lo byte) {
	for _, never := range [][]byte{{0x03, 0xed}, {0x03, 0xee}, {0x03, 0xf7}} {
		if bytes.Equal(never, []byte{hi, lo}) {
			e.Fail("no code of 1005, 1006 and 1015", "%d", int(hi)<<8|int(lo))
		}
	}
}
