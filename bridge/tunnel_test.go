package bridge

import (
	"bytes"
	"net/netip"
	"testing"
	"time"
)

// rig is a bridge with one tunnel, or the way to one.
type rig struct {
	t       *testing.T
	loop    *fakeLoop
	b       *Bridge
	s       *Service
	be      *fakeBackend
	offer   *fakeOffer
	client  *fakeSide
	backend *fakeSide
	done    []*End
	refused []string
	opened  *Tunnel
}

func newRig(t *testing.T, s *Service) *rig {
	b := new(Bridge)
	r := &rig{t: t, loop: newFakeLoop(), b: b, s: s}
	r.be = &fakeBackend{loop: r.loop}
	s.Backend = r.be
	b.Trace.Done = func(_ *Tunnel, e *End) { r.done = append(r.done, e) }
	b.Trace.Refused = func(_ *Tunnel, f *Refusal) { r.refused = append(r.refused, f.Code) }
	b.Trace.Opened = func(i *Tunnel, _ *Handshake) { r.opened = i }
	r.client = &fakeSide{loop: r.loop, room: 1 << 20}
	r.backend = &fakeSide{loop: r.loop, room: 1 << 20}
	r.offer = r.newOffer()
	return r
}

func (r *rig) newOffer() *fakeOffer {
	return &fakeOffer{loop: r.loop, side: r.client, h: &Handshake{
		Major: 2, Authority: "h", Path: "/chat?secret=1", Fields: Fields{{"sec-websocket-version", "13"}},
		Client: &Client{Remote: netip.MustParseAddrPort("192.0.2.1:5")},
	}}
}

func (r *rig) open() *rig {
	r.t.Helper()
	r.b.Serve(r.offer, r.s)
	r.be.done(r.backend, nil, nil)
	r.loop.run()
	if r.offer.answers != 1 {
		r.t.Fatalf("answers: got %d, want 1", r.offer.answers)
	}
	return r
}

// want checks the end of the tunnel.
func (r *rig) want(by, why string, reset bool) *End {
	r.t.Helper()
	if len(r.done) != 1 {
		r.t.Fatalf("ended tunnels: got %d, want 1", len(r.done))
	}
	i := r.done[0]
	if i.By != by || i.Why != why || i.Reset != reset {
		r.t.Errorf("end: got by %q why %q reset %v, want %q %q %v", i.By, i.Why, i.Reset, by, why, reset)
	}
	if r.client.late || r.backend.late {
		r.t.Errorf("a side was used after its end: client %v, backend %v", r.client.late, r.backend.late)
	}
	if n := r.b.Stats().Tunnels; n != 0 {
		r.t.Errorf("tunnels: got %d, want 0", n)
	}
	return i
}

func wantBytes(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestRelay(t *testing.T) {
	r := newRig(t, &Service{}).open()
	up, down := frame(0x81, true, []byte("hello")), frame(0x81, false, []byte("world"))
	r.client.send(up)
	r.backend.send(down)
	wantBytes(t, "at the backend", r.backend.got, up)
	wantBytes(t, "at the client", r.client.got, down)
	r.backend.end()
	if r.client.ends != 1 || r.backend.ends != 0 {
		t.Errorf("after the backend's end: got ends %d and %d, want 1 and 0", r.client.ends, r.backend.ends)
	}
	r.client.send(up) // row 104: the other direction lives on
	wantBytes(t, "at the backend", r.backend.got, append(bytes.Clone(up), up...))
	r.client.end()
	i := r.want("backend", "closed", false)
	if i.BytesUp != uint64(2*len(up)) || i.BytesDown != uint64(len(down)) || i.MessagesUp != 2 || i.MessagesDown != 1 {
		t.Errorf("counts: got %+v", i)
	}
	if r.opened.Path != "/chat" {
		t.Errorf("path for logs: got %q, want %q", r.opened.Path, "/chat")
	}
}

func TestClientEndsFirst(t *testing.T) {
	r := newRig(t, &Service{}).open()
	r.client.end()
	if r.backend.ends != 1 || r.client.ends != 0 {
		t.Errorf("ends: got %d and %d, want 1 and 0", r.backend.ends, r.client.ends)
	}
	r.backend.send([]byte("tail"))
	r.backend.end()
	wantBytes(t, "at the client", r.client.got, []byte("tail"))
	r.want("client", "closed", false)
	if len(r.client.resets)+len(r.backend.resets) != 0 {
		t.Errorf("resets after a clean end: got %v %v, want none", r.client.resets, r.backend.resets)
	}
}

// TestBackPressure: what does not fit stays with its source (section 6 of the architecture).
func TestBackPressure(t *testing.T) {
	r := newRig(t, &Service{}).open()
	r.backend.room = 3
	r.client.send([]byte("0123456789"))
	wantBytes(t, "at the backend", r.backend.got, []byte("012"))
	if len(r.client.queue) != 7 {
		t.Errorf("left at the client: got %d octets, want 7", len(r.client.queue))
	}
	r.backend.grant(100)
	wantBytes(t, "at the backend", r.backend.got, []byte("0123456789"))
}

// TestReset: rows 106 to 108.
func TestReset(t *testing.T) {
	r := newRig(t, &Service{}).open()
	r.backend.broken(ReasonReset)
	if len(r.client.resets) == 0 || r.client.ends != 0 {
		t.Errorf("client: got resets %v, ends %d; want a reset and no end", r.client.resets, r.client.ends)
	}
	r.want("backend", "reset", true)

	r = newRig(t, &Service{}).open()
	r.client.broken(ReasonGone)
	if len(r.backend.resets) == 0 || r.backend.ends != 0 {
		t.Errorf("backend: got resets %v, ends %d; want a reset and no end", r.backend.resets, r.backend.ends)
	}
	r.want("client", "reset", true)
}

// TestBackendGoneAfterClose: a backend that closed its socket behind its Close
// frame resets what the client still sends; that must not reach the client as
// RST_STREAM, which browsers show as code 1006 (row 111).
func TestBackendGoneAfterClose(t *testing.T) {
	r := newRig(t, &Service{}).open()
	r.backend.send(frame(0x88, false, []byte{0x0f, 0xa1}))
	r.backend.end()
	r.client.send(frame(0x88, true, []byte{0x0f, 0xa1}))
	r.backend.broken(ReasonReset)
	if len(r.client.resets) != 0 || r.client.ends != 1 {
		t.Errorf("client: got resets %v, ends %d; want none and 1", r.client.resets, r.client.ends)
	}
	r.client.end()
	if i := r.want("backend", "closed", false); i.CloseDown != 4001 || i.CloseUp != 4001 {
		t.Errorf("close codes: got %d and %d, want 4001 twice", i.CloseDown, i.CloseUp)
	}
}

// TestTruncatedTLS: a FIN without close_notify is an end only behind a Close frame.
func TestTruncatedTLS(t *testing.T) {
	r := newRig(t, &Service{}).open()
	r.backend.broken(ReasonTruncated)
	r.want("backend", "reset", true)

	r = newRig(t, &Service{}).open()
	r.backend.send(frame(0x88, false, []byte{0x03, 0xe8}))
	r.backend.broken(ReasonTruncated)
	if r.client.ends != 1 || len(r.client.resets) != 0 {
		t.Errorf("client: got ends %d, resets %v; want 1 and none", r.client.ends, r.client.resets)
	}
	r.client.send(frame(0x88, true, []byte{0x03, 0xe8}))
	r.client.end()
	r.want("backend", "closed", false)
}

func TestLinger(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Linger: 3 * time.Second}}).open()
	r.client.end()
	r.loop.advance(2999 * time.Millisecond)
	if len(r.done) != 0 {
		t.Fatal("the tunnel ended before the linger time")
	}
	r.loop.advance(time.Millisecond)
	r.want("gateway", "linger-timeout", true)
}

// TestOwnCut: a side that the gateway itself took away is blamed on nobody else.
func TestOwnCut(t *testing.T) {
	r := newRig(t, &Service{}).open()
	r.client.far.Broken(&ResetError{Reason: ReasonShutdown})
	r.want("gateway", "shutdown", true)
}

// TestForeign2xx: rows 91 and 92; on HTTP/1.1 it is an ordinary answer (row 227).
func TestForeign2xx(t *testing.T) {
	for major, want := range map[int]int{1: 200, 2: 502, 3: 502} {
		r := newRig(t, &Service{})
		r.offer.h.Major = major
		r.b.Serve(r.offer, r.s)
		r.be.done(nil, nil, &Refusal{Status: 200, Foreign: true, Body: []byte("page")})
		o := r.offer.refused
		if o == nil || o.Status != want || (want == 502) != (o.Code == "backend-2xx") || (want == 502) == (string(o.Body) == "page") {
			t.Errorf("HTTP/%d: got %+v, want status %d", major, o, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		s      *Service
		fields Fields
		major  int
		status int
		code   string
	}{
		{"row 62", &Service{}, Fields{{"Sec-WebSocket-Version", "8"}}, 2, 426, "wrong-version"},
		{"row 62, list", &Service{}, Fields{{"Sec-WebSocket-Version", "13, 8"}}, 2, 426, "wrong-version"},
		{"row 62, doubled", &Service{}, Fields{{"Sec-WebSocket-Version", "13"}, {"sec-websocket-version", "13"}}, 2, 426, "wrong-version"},
		{"row 170", &Service{}, Fields{{"Sec-WebSocket-Version", "12"}}, 1, 426, "wrong-version"},
		{"row 61, h1", &Service{}, nil, 1, 400, "missing-version"},
		{"row 61, h2", &Service{RejectMissingVersion: true}, nil, 2, 400, "missing-version"},
	} {
		r := newRig(t, c.s)
		r.offer.h.Fields, r.offer.h.Major = c.fields, c.major
		r.b.Serve(r.offer, r.s)
		if o := r.offer.refused; o == nil || o.Status != c.status || o.Code != c.code || r.be.asked != 0 {
			t.Errorf("%s: got %+v, backend asked %d times; want %d %s, never", c.name, o, r.be.asked, c.status, c.code)
		}
		if c.status == 426 && r.offer.refused.Fields.Get("sec-websocket-version") != "13" {
			t.Errorf("%s: the 426 names no version", c.name)
		}
	}
	r := newRig(t, &Service{})
	r.offer.h.Fields = nil
	r.open() // row 61: repaired on h2
}

func TestLimits(t *testing.T) {
	for _, of := range []string{"bridge", "service"} {
		for code, l := range map[string]Limits{
			"tunnel-limit": {MaxTunnels: 1}, "client-limit": {MaxTunnelsPerClient: 1}, "pending-limit": {MaxPending: 1},
		} {
			r := newRig(t, &Service{Places: new(Places)})
			if of == "bridge" {
				r.b.Limit(l)
			} else {
				r.s.Places.Limit(l)
			}
			testLimit(t, r, code)
		}
	}
}

func testLimit(t *testing.T, r *rig, code string) {
	t.Helper()
	r.b.Serve(r.offer, r.s)
	if code != "pending-limit" {
		r.be.done(r.backend, nil, nil)
	}
	second := r.newOffer()
	r.b.Serve(second, r.s)
	if o := second.refused; o == nil || o.Status != 503 || o.Code != code || o.Fields.Get("Retry-After") == "" {
		t.Fatalf("%s: got %+v, want 503 with Retry-After", code, o)
	}
	if n := r.b.Stats().Bounds[code]; n != 1 {
		t.Errorf("%s: got %d counted, want 1", code, n)
	}
	if code == "pending-limit" {
		r.be.done(nil, nil, &Refusal{Status: 502, Code: "connect-failed"})
	} else {
		r.loop.run()
		r.backend.broken(ReasonReset)
	}
	third := r.newOffer()
	third.side = &fakeSide{loop: r.loop, room: 1}
	r.b.Serve(third, r.s)
	if third.refused != nil {
		t.Errorf("%s: the place was not given back: got %+v", code, third.refused)
	}
}

func TestClientKey(t *testing.T) {
	for in, want := range map[string]string{"192.0.2.1:5": "192.0.2.1/32", "[2001:db8:1:2:3::4]:5": "2001:db8:1:2::/64", "[::ffff:192.0.2.1]:5": "192.0.2.1/32"} {
		if got := clientKey(netip.MustParseAddrPort(in)).String(); got != want {
			t.Errorf("key of %q: got %q, want %q", in, got, want)
		}
	}
}

// TestClientLeaves: row 232.
func TestClientLeaves(t *testing.T) {
	r := newRig(t, &Service{})
	r.b.Serve(r.offer, r.s)
	r.offer.gone(&ResetError{Reason: ReasonReset, Remote: true})
	if r.be.canceled != 1 || r.b.Stats().Pending != 0 {
		t.Errorf("dial: got canceled %d, pending %d; want 1 and 0", r.be.canceled, r.b.Stats().Pending)
	}
	r.be.done(r.backend, nil, nil) // too late
	if len(r.backend.resets) != 1 || r.offer.answers != 0 {
		t.Errorf("late answer: got resets %v, answers %d; want one reset, no answer", r.backend.resets, r.offer.answers)
	}
}

func TestBackendRefuses(t *testing.T) {
	r := newRig(t, &Service{})
	r.b.Serve(r.offer, r.s)
	r.be.done(nil, nil, &Refusal{Status: 403, Foreign: true})
	if r.offer.refused == nil || r.offer.refused.Status != 403 {
		t.Errorf("refusal: got %+v, want 403", r.offer.refused)
	}
	if len(r.refused) != 1 {
		t.Errorf("trace: got %q, want one refusal", r.refused)
	}
}

func TestRelayAllocates(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Idle: time.Hour, StallTimeout: time.Minute}}).open()
	p := frame(0x82, true, make([]byte, 64))
	r.backend.got = make([]byte, 0, 1<<20)
	r.backend.room = 1 << 30
	if n := testing.AllocsPerRun(100, func() { r.backend.got = r.backend.got[:0]; r.client.far.Data(p) }); n != 0 {
		t.Errorf("allocations per relayed message: got %v, want 0", n)
	}
}

// holdingSide knows when its end follows, and can hold back what it writes.
type holdingSide struct {
	fakeSide
	ending bool
	held   []byte
}

func (s *holdingSide) Ending() bool { return s.ending }
func (s *holdingSide) WriteMore(p []byte) int {
	s.held = append(s.held, p...)
	return len(p)
}

// TestLastOctetsGoWithTheEnd: only what the end follows is held for it, and only by
// those that can.
func TestLastOctetsGoWithTheEnd(t *testing.T) {
	r := newRig(t, &Service{})
	client := &holdingSide{fakeSide: fakeSide{loop: r.loop, room: 1 << 20}}
	backend := &holdingSide{fakeSide: fakeSide{loop: r.loop, room: 1 << 20}}
	r.b.Serve(&holdingOffer{r.offer, client}, r.s)
	r.be.done(backend, nil, nil)
	r.loop.run()
	client.send(frame(0x81, true, []byte("one")))
	if want := frame(0x81, true, []byte("one")); !bytes.Equal(backend.got, want) || backend.held != nil {
		t.Errorf("ahead of the end: got %x written and %x held, want %x and nothing", backend.got, backend.held, want)
	}
	client.ending = true
	client.send(frame(0x88, true, []byte{3, 0xe8}))
	client.end()
	if want := frame(0x88, true, []byte{3, 0xe8}); !bytes.Equal(backend.held, want) || backend.ends != 1 {
		t.Errorf("with the end: got %x held and %d ends, want %x and 1", backend.held, backend.ends, want)
	}

	r = newRig(t, &Service{})
	plain := &holdingSide{fakeSide: fakeSide{loop: r.loop, room: 1 << 20}, ending: true}
	r.b.Serve(&holdingOffer{r.offer, plain}, r.s)
	r.be.done(r.backend, nil, nil)
	r.loop.run()
	plain.send(frame(0x88, true, nil))
	if want := frame(0x88, true, nil); !bytes.Equal(r.backend.got, want) {
		t.Errorf("to a side that holds nothing: got %x, want %x", r.backend.got, want)
	}
}

type holdingOffer struct {
	*fakeOffer
	side Side
}

func (o *holdingOffer) Accept(f Fields) Side { o.fakeOffer.Accept(f); return o.side }
