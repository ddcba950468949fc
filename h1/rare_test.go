package h1

import (
	"io"
	"net/http"
	"testing"
	"time"

	"wsgate/bridge"
)

// bareSide is a transport without Finish, as a library's user may bring one.
type bareSide struct{ *fakeSide }

func (s bareSide) Finish() {}

// A transport that cannot end itself is ended by the front.
func TestTransportWithoutFinish(t *testing.T) {
	begin := func() *front {
		f := newFront(nil)
		f.t = newFakeSide(f.l)
		f.s.Serve(f.l, bareSide{f.t}, f.client)
		f.l.turn()
		f.t.send("GET /\r\n\r\nmore")
		if got := statuses(f.t.output()); got != "400" || !f.t.closed || f.t.reset {
			t.Fatalf("got %q, ended %v, reset %v, want 400, true, false", got, f.t.closed, f.t.reset)
		}
		f.t.send("and more")
		if len(f.t.in) != 0 {
			t.Errorf("got %d octets not discarded, want 0", len(f.t.in))
		}
		return f
	}
	if f := begin(); true {
		f.t.end()
		if f.t.far != nil {
			t.Error("client's end: got the transport kept, want it let go")
		}
	}
	if f := begin(); true {
		f.l.pass(2 * time.Second)
		if !f.t.reset {
			t.Error("no end of the client: got no reset after the linger time")
		}
	}
}

// What a carry holds comes first, as its owner takes it.
func TestCarry(t *testing.T) {
	l := newFakeLoop()
	s := newFakeSide(l)
	k := &sink{room: 2}
	c := &carry{l: l, t: s, in: []byte("abcde")}
	c.Bind(k)
	l.turn()
	s.send("fgh")
	s.end()
	for range 6 {
		k.room = 2
		c.Resume()
		l.turn()
	}
	if got := string(k.got); got != "abcdefgh" || k.ends != 1 {
		t.Errorf("got %q and %d ends, want %q and 1", got, k.ends, "abcdefgh")
	}
	if c.Room() == 0 || c.Write([]byte("x")) != 1 {
		t.Error("got no room, want that of the transport")
	}
	c.Finish(time.Second)
	if !s.finished {
		t.Error("got Finish kept from the transport")
	}

	s = newFakeSide(l)
	k = &sink{room: -1}
	c = &carry{l: l, t: s, in: []byte("abc"), out: []byte("head")}
	c.Bind(k)
	c.Reset(bridge.ReasonTimeout)
	l.turn()
	if len(k.got) != 0 || !s.reset {
		t.Errorf("after Reset: got %q, reset %v, want nothing and true", k.got, s.reset)
	}

	// The client is gone while something is still kept.
	s = newFakeSide(l)
	k = &sink{room: 0}
	c = &carry{l: l, t: s, in: []byte("abc"), out: []byte("head")}
	c.Bind(k)
	l.turn()
	s.break_(&bridge.ResetError{Reason: bridge.ReasonReset})
	k.room = 10
	c.Resume()
	l.turn()
	if k.broken == nil || len(k.got) != 0 {
		t.Errorf("broken: got %v and %q, want the reset and nothing after it", k.broken, k.got)
	}
}

// The content of a refusal whose connection ends between answer and Bind.
func TestContentBeforeBind(t *testing.T) {
	refused := func() (*opening, bridge.Stream) {
		o := open(t, &Backend{}, handshake(), 0)
		o.s.send(crlf("HTTP/1.1 404 N\nContent-Length: 5\n\n"))
		return o, o.err.(*bridge.Refusal).Stream
	}
	o, st := refused()
	o.a.Broken(&bridge.ResetError{Reason: bridge.ReasonReset})
	k := &sink{room: -1}
	st.Bind(k)
	o.l.turn()
	if k.broken == nil || k.broken.Reason != bridge.ReasonReset {
		t.Errorf("reset: got %v, want it told", k.broken)
	}
	o, st = refused()
	o.a.End()
	k = &sink{room: -1}
	st.Bind(k)
	o.l.turn()
	if k.broken == nil || k.broken.Reason != bridge.ReasonTruncated {
		t.Errorf("end: got %v, want content cut short", k.broken)
	}
	o, st = refused()
	st.Reset(bridge.ReasonFarSide)
	st.Reset(bridge.ReasonFarSide)
	if !o.s.reset {
		t.Error("not wanted: got the connection kept, want it reset")
	}
}

// A backend that stands still in its content; a client that does is not its fault.
func TestContentStandsStill(t *testing.T) {
	for _, tc := range []struct {
		name string
		room int
		want bool
	}{{"backend", -1, true}, {"client", 0, false}} {
		o := open(t, &Backend{}, handshake(), 0)
		o.s.send(crlf("HTTP/1.1 404 N\nContent-Length: 5\n\nhe"))
		k := &sink{room: tc.room}
		o.err.(*bridge.Refusal).Stream.Bind(k)
		o.l.turn()
		o.l.pass(contentTimeout)
		if got := k.broken != nil && k.broken.Reason == bridge.ReasonTimeout; got != tc.want {
			t.Errorf("%s: got timeout %v, want %v", tc.name, got, tc.want)
		}
	}
	o := open(t, &Backend{}, handshake(), 0)
	o.s.send(crlf("HTTP/1.1 404 N\nContent-Length: 5\n\nhe"))
	k := &sink{room: -1}
	o.err.(*bridge.Refusal).Stream.Bind(k)
	o.l.turn()
	o.s.break_(&bridge.ResetError{Reason: bridge.ReasonReset})
	if k.broken == nil || k.broken.Reason != bridge.ReasonReset {
		t.Errorf("reset: got %v, want it told", k.broken)
	}
}

// Row 190: announced trailers, and no framing fields among them.
func TestRequestTrailers(t *testing.T) {
	seen := make(chan *http.Request, 1)
	f := served(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := r.Trailer["X-T"]; !ok {
			t.Errorf("got announced trailers %v, want X-T", r.Trailer)
		}
		io.Copy(io.Discard, r.Body)
		seen <- r
	})
	f.answers("POST / HTTP/1.1\nHost: a\nTrailer: x-t, Content-Length\nTransfer-Encoding: chunked\n\n1\na\n0\nx-t: 1\nContent-Length: 9\nHost: b\n\n")
	r := <-seen
	if len(r.Trailer) != 1 || r.Trailer.Get("X-T") != "1" || r.Header.Get("Trailer") != "" || r.Header.Get("X-T") != "" {
		t.Errorf("got trailers %v and fields %v, want X-T: 1 as a trailer only", r.Trailer, r.Header)
	}
}

// A slow reader of one answer delays the next request, and nothing is lost.
func TestSlowReaderOfPipeline(t *testing.T) {
	f := newFront(nil)
	f.t.cap = 10
	f.t.send(crlf(get + get + up + "\n"))
	for len(f.offers) == 0 {
		f.t.open(50)
		select {
		case p := <-f.l.posts:
			p()
		default:
		}
	}
	f.t.cap = -1
	f.t.far.Writable()
	f.offers[0].Refuse(&bridge.Refusal{Status: 403, Code: "no"})
	f.l.turn()
	if got, want := statuses(f.t.output()), "200 200 403"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
