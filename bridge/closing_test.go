package bridge

import (
	"bytes"
	"context"
	"testing"
	"time"
)

// TestIdleSaysGoodbye: Close 1001 both ways, the answers, the ends (rows 114, 115, 133).
func TestIdleSaysGoodbye(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Idle: time.Minute}}).open()
	r.loop.advance(30 * time.Second)
	r.client.send(frame(0x81, true, []byte("x")))
	r.backend.got = nil
	r.loop.advance(59 * time.Second)
	if len(r.client.got) != 0 {
		t.Fatalf("closed while active: client got %q", r.client.got)
	}
	r.loop.advance(time.Second)
	wantBytes(t, "close to the client", r.client.got, frame(0x88, false, append([]byte{0x03, 0xe9}, "idle"...)))
	w := newWatch(true)
	if w.feed(r.backend.got); w.closeCode() != 1001 || !w.boundary() {
		t.Errorf("close to the backend: got code %d in %q, want 1001, masked", w.closeCode(), r.backend.got)
	}
	if r.client.ends != 0 || r.backend.ends != 0 {
		t.Errorf("ends before the answers: got %d and %d, want none", r.client.ends, r.backend.ends)
	}
	n := len(r.backend.got)
	r.client.send(frame(0x81, true, []byte("late")))
	r.client.send(frame(0x88, true, []byte{0x03, 0xe9}))
	if r.client.ends != 1 || len(r.backend.got) != n {
		t.Errorf("client's answer: got ends %d, %d more octets at the backend; want 1 and none", r.client.ends, len(r.backend.got)-n)
	}
	r.backend.send(frame(0x88, false, []byte{0x03, 0xe9}))
	r.backend.end()
	r.client.end()
	if i := r.want("gateway", "idle-timeout", false); i.CloseUp != 1001 || i.CloseDown != 1001 {
		t.Errorf("close codes: got %d and %d, want 1001 twice", i.CloseUp, i.CloseDown)
	}
	if r.backend.ends != 1 {
		t.Errorf("backend's end: got %d, want 1", r.backend.ends)
	}
}

// TestNoAnswerToClose: the ends follow after 5 s at most, a reset if even then nobody ends.
func TestNoAnswerToClose(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Idle: time.Minute}}).open()
	r.loop.advance(time.Minute)
	r.loop.advance(closeWait - time.Millisecond)
	if r.client.ends+r.backend.ends != 0 {
		t.Fatalf("ends before the wait is over: got %d and %d", r.client.ends, r.backend.ends)
	}
	r.loop.advance(time.Millisecond)
	if r.client.ends != 1 || r.backend.ends != 1 {
		t.Fatalf("ends: got %d and %d, want 1 and 1", r.client.ends, r.backend.ends)
	}
	r.loop.advance(closeWait)
	r.want("gateway", "idle-timeout", true)
}

// TestAnswersWithoutEnd: both answered the Close, neither ends its connection.
func TestAnswersWithoutEnd(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Idle: time.Minute}}).open()
	r.loop.advance(time.Minute)
	r.client.send(frame(0x88, true, []byte{0x03, 0xe9}))
	r.backend.send(frame(0x88, false, []byte{0x03, 0xe9}))
	if r.client.ends != 1 || r.backend.ends != 1 {
		t.Fatalf("ends: got %d and %d, want 1 and 1", r.client.ends, r.backend.ends)
	}
	r.loop.advance(2*closeWait + time.Second)
	r.want("gateway", "idle-timeout", false)
}

// TestPartedLingersShortly: when both Close frames have passed and one side has
// ended, the other is not waited for long: undici ends its half only when the
// gateway ends the stream.
func TestPartedLingersShortly(t *testing.T) {
	for _, backendEndsFirst := range []bool{false, true} {
		r := newRig(t, &Service{}).open()
		if backendEndsFirst {
			r.backend.send(frame(0x88, false, []byte{0x03, 0xe8}))
			r.backend.end()
			r.client.send(frame(0x88, true, []byte{0x03, 0xe8}))
		} else {
			r.client.send(frame(0x88, true, []byte{0x03, 0xe8}))
			r.backend.send(frame(0x88, false, []byte{0x03, 0xe8}))
			r.backend.end()
		}
		r.loop.advance(partLinger - time.Millisecond)
		if len(r.done) != 0 {
			t.Fatal("ended before its time")
		}
		r.loop.advance(time.Millisecond)
		r.want("backend", "closed", false)
		if len(r.client.resets) != 1 || r.client.resets[0] != ReasonComplete || r.client.ends != 1 || r.backend.ends != 1 {
			t.Errorf("client: got resets %v, ends %d and %d; want [complete], 1 and 1", r.client.resets, r.client.ends, r.backend.ends)
		}
	}
}

// TestCloseWaitsForBoundary: a Close never goes into a frame, and may go between fragments.
func TestCloseWaitsForBoundary(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Idle: time.Minute}}).open()
	half := frame(0x01, false, []byte("fragment"))
	r.backend.send(half[:4])
	r.loop.advance(time.Minute)
	wantBytes(t, "inside a frame", r.client.got, half[:4])
	r.backend.send(append(bytes.Clone(half[4:]), frame(0x80, false, []byte("rest"))...))
	wantBytes(t, "at the boundary", r.client.got, append(bytes.Clone(half), frame(0x88, false, append([]byte{0x03, 0xe9}, "idle"...))...))
}

// TestStuckInsideFrame: a sender that never completes its frame is reset.
func TestStuckInsideFrame(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Idle: time.Minute}}).open()
	r.backend.send(frame(0x81, false, []byte("never complete"))[:5])
	r.loop.advance(time.Minute + closeWait)
	r.want("gateway", "idle-timeout", true)
	if len(r.client.resets) == 0 || len(r.backend.resets) == 0 {
		t.Errorf("resets: got %v and %v, want both", r.client.resets, r.backend.resets)
	}
}

// TestUnknownOctets: nothing is put between octets that are no frames (row 229).
func TestUnknownOctets(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Idle: time.Minute, PingInterval: 10 * time.Second}}).open()
	r.client.send([]byte("\xffno frames"))
	r.backend.send([]byte("\xffneither"))
	r.loop.advance(time.Minute)
	wantBytes(t, "at the backend", r.backend.got, []byte("\xffno frames"))
	wantBytes(t, "at the client", r.client.got, []byte("\xffneither"))
	if r.client.ends != 1 || r.backend.ends != 1 {
		t.Errorf("ends: got %d and %d, want 1 and 1", r.client.ends, r.backend.ends)
	}
	r.client.end()
	r.backend.end()
	r.want("gateway", "idle-timeout", false)
}

// TestNoSecondClose: none is sent where one has passed.
func TestNoSecondClose(t *testing.T) {
	r := newRig(t, &Service{Times: Times{Idle: time.Minute}}).open()
	c := frame(0x88, true, []byte{0x03, 0xe8})
	r.client.send(c)
	r.loop.advance(time.Minute)
	wantBytes(t, "at the backend", r.backend.got, c)
	wantBytes(t, "at the client", r.client.got, frame(0x88, false, append([]byte{0x03, 0xe9}, "idle"...)))
}

func TestPing(t *testing.T) {
	r := newRig(t, &Service{Times: Times{PingInterval: 10 * time.Second}}).open()
	r.loop.advance(5 * time.Second)
	r.client.send(frame(0x81, true, []byte("x")))
	r.backend.got = nil
	r.loop.advance(5 * time.Second)
	wantBytes(t, "ping to the client", r.client.got, []byte{0x89, 0})
	if len(r.backend.got) != 0 {
		t.Errorf("to the backend before its time: got %q", r.backend.got)
	}
	r.loop.advance(5 * time.Second)
	if len(r.backend.got) != 6 || r.backend.got[0] != 0x89 || r.backend.got[1] != 0x80 {
		t.Errorf("ping to the backend: got %q, want a masked one of 6 octets", r.backend.got)
	}
	r.loop.advance(time.Minute)
	wantBytes(t, "never two at once", r.client.got, []byte{0x89, 0})
	pong := frame(0x8a, true, nil)
	r.backend.got = nil
	r.client.send(pong)
	wantBytes(t, "the pong passes", r.backend.got, pong)
	r.loop.advance(20 * time.Second)
	wantBytes(t, "the next ping", r.client.got, []byte{0x89, 0, 0x89, 0})
}

// TestBoundsCount: what ends tunnels is counted by the code of the log.
func TestBoundsCount(t *testing.T) {
	for code, b := range map[string]*Service{
		"idle-timeout": {Times: Times{Idle: time.Minute}}, "client-idle-timeout": {Times: Times{ClientIdle: time.Minute}},
		"backend-idle-timeout": {Times: Times{BackendIdle: time.Minute}}, "max-life": {Times: Times{MaxLife: time.Minute}},
	} {
		r := newRig(t, b).open()
		r.loop.advance(time.Minute)
		if s := r.b.Stats(); s.Bounds[code] != 1 || len(s.Bounds) != len(boundCodes) {
			t.Errorf("%s: got %v, want 1 counted", code, s.Bounds)
		}
	}
}

func TestMaxLife(t *testing.T) {
	r := newRig(t, &Service{Times: Times{MaxLife: time.Minute}}).open()
	for range 12 {
		r.client.send(frame(0x81, true, nil))
		r.loop.advance(5 * time.Second)
	}
	r.client.end()
	r.backend.end()
	r.want("gateway", "max-life", false)
}

func TestOneSidedIdle(t *testing.T) {
	r := newRig(t, &Service{Times: Times{ClientIdle: time.Minute}}).open()
	for range 12 {
		r.backend.send(frame(0x81, false, nil))
		r.loop.advance(5 * time.Second)
	}
	r.client.end()
	r.backend.end()
	r.want("gateway", "client-idle-timeout", false)

	r = newRig(t, &Service{Times: Times{BackendIdle: time.Minute}}).open()
	for range 12 {
		r.client.send(frame(0x81, true, nil))
		r.loop.advance(5 * time.Second)
	}
	r.client.end()
	r.backend.end()
	r.want("gateway", "backend-idle-timeout", false)
}

func TestStall(t *testing.T) {
	r := newRig(t, &Service{Times: Times{StallTimeout: time.Minute}}).open()
	r.backend.room = 1
	r.client.send([]byte("xyz"))
	r.loop.advance(50 * time.Second)
	r.backend.grant(1) // progress
	r.loop.advance(59 * time.Second)
	if len(r.done) != 0 {
		t.Fatal("reset although there was progress")
	}
	r.loop.advance(2 * time.Minute)
	r.want("gateway", "stall-timeout", true)
}

// TestNoRoomIsNoStall: a peer without room for a source without octets is no stall.
func TestNoRoomIsNoStall(t *testing.T) {
	r := newRig(t, &Service{Times: Times{StallTimeout: time.Minute}})
	r.client.room = 0
	r.open()
	r.backend.far.Want()
	r.loop.advance(10 * time.Minute)
	if len(r.done) != 0 {
		t.Fatalf("ended by %q %q, want a living tunnel", r.done[0].By, r.done[0].Why)
	}
	r.backend.send([]byte("x"))
	r.loop.advance(3 * time.Minute)
	r.want("gateway", "stall-timeout", true)
}

func TestDrain(t *testing.T) {
	r := newRig(t, &Service{}).open()
	idle := r.b.startDrain(Ending{Time: 100 * time.Millisecond})
	o := r.newOffer()
	r.b.Serve(o, r.s)
	if o.refused == nil || o.refused.Status != 503 || o.refused.Code != "draining" {
		t.Errorf("offer during a drain: got %+v, want 503 draining", o.refused)
	}
	r.loop.advance(100 * time.Millisecond)
	r.want("gateway", "drain", true)
	if c := newWatch(false); c.feed(r.client.got) != 0 || c.closeCode() != 1001 {
		t.Errorf("close to the client: got code %d, want 1001", c.closeCode())
	}
	<-idle
	if err := r.b.Drain(context.Background(), Ending{Time: time.Second}); err != nil {
		t.Errorf("second drain: got %v, want nil", err)
	}
}
