package h3

import (
	"testing"

	"wsgate/bridge"
)

// TestCompleteReset: an owner that has nothing to say any more cuts nothing of
// what it has said.
func TestCompleteReset(t *testing.T) {
	p := newPeer(t, nil)
	s := p.tunnel(0, newRecorder())
	s.Write([]byte("bye"))
	s.CloseWrite()
	s.Reset(bridge.ReasonComplete)
	p.want(0, `DATA "bye", FIN, STOP 0x100`)
	s = p.tunnel(4, newRecorder())
	s.CloseWrite()
	s.Reset(bridge.ReasonFarSide)
	p.want(4, "FIN, STOP 0x10c")
	s = p.tunnel(8, newRecorder())
	s.Reset(bridge.ReasonComplete)
	p.want(8, "RESET 0x10c, STOP 0x10c")
	p.nothingLeft()
}

// TestResetLetsDataArrive: the reset of a broken tunnel waits for the last octets,
// which it would take back (RFC 9110 section 9.3.6, RFC 9000 section 3.1); the slot is
// taken so long. Where nothing was written of late it comes at once, and whatever
// the client does to the stream ends the wait.
func TestResetLetsDataArrive(t *testing.T) {
	p := newPeer(t, nil)
	broken := func(id uint64) {
		s := p.tunnel(id, newRecorder())
		s.Write([]byte("tail"))
		s.Reset(bridge.ReasonFarSide)
		p.want(id, `DATA "tail", STOP 0x10c`)
		if n := s.Write([]byte("x")); n != 0 || s.Room() != 0 {
			t.Errorf("got %d taken and room %d after the reset, want 0", n, s.Room())
		}
	}
	broken(0)
	p.loop.Sleep(lingerTime - 1)
	p.want(0, "")
	if p.c.slots != 1 || p.c.tunnels != 1 {
		t.Errorf("got %d slots and %d tunnels, want 1 and 1 until the reset", p.c.slots, p.c.tunnels)
	}
	p.loop.Sleep(1)
	p.want(0, "RESET 0x10c")
	p.nothingLeft()

	s := p.tunnel(4, newRecorder())
	s.Write([]byte("tail"))
	p.loop.Sleep(lingerTime)
	s.Reset(bridge.ReasonFarSide)
	p.want(4, `DATA "tail", RESET 0x10c, STOP 0x10c`)
	p.nothingLeft()

	broken(8)
	p.stopSending(8, errRequestCancelled)
	p.want(8, "RESET 0x10c")
	p.nothingLeft()

	broken(12)
	p.c.lost(&bridge.ResetError{Reason: bridge.ReasonGone})
	p.nothingLeft()
}

// TestResets: rows 106, 107, 108, 148, 149.
func TestResets(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	s := p.tunnel(0, far)
	s.Write([]byte("tail"))
	s.Reset(bridge.ReasonFarSide)
	s.Reset(bridge.ReasonFarSide)
	p.want(0, `DATA "tail", STOP 0x10c`)
	p.loop.Sleep(lingerTime)
	p.want(0, "RESET 0x10c")
	if far.brokens != 0 {
		t.Errorf("got %d breaks after our own reset, want 0", far.brokens)
	}

	far = newRecorder()
	s = p.tunnel(4, far)
	p.reset(4, errRequestCancelled)
	if far.brokens != 1 || far.broken.Reason != bridge.ReasonReset || !far.broken.Remote {
		t.Errorf("got %v, want reset by peer", far.broken)
	}
	s.Reset(bridge.ReasonFarSide)
	p.want(4, "RESET 0x10c")

	far = newRecorder()
	p.tunnel(8, far)
	p.stopSending(8, errRequestCancelled)
	if far.brokens != 1 || far.broken.Reason != bridge.ReasonReset || !far.broken.Remote {
		t.Errorf("got %v, want reset by peer", far.broken)
	}
	p.want(8, "RESET 0x10c, STOP 0x10c")

	// A reset while data waits for the owner, and behind our own end.
	far = newRecorder()
	far.take = 0
	s = p.tunnel(12, far)
	p.data(12, false, "waits")
	s.CloseWrite()
	p.reset(12, errRequestCancelled)
	if far.ended != 0 || far.brokens != 1 || len(far.got) != 0 {
		t.Errorf("got %d ends, %d breaks, %q, want 0, 1, nothing", far.ended, far.brokens, far.got)
	}
	p.want(12, "FIN")
	// STOP_SENDING after the client's end, while our octets wait.
	far = newRecorder()
	s = p.tunnel(16, far)
	p.data(16, true, "")
	p.at(16).room1 = 0
	if n := s.Write([]byte("x")); n != 0 {
		t.Errorf("got %d taken without room, want 0", n)
	}
	p.stopSending(16, errRequestCancelled)
	if far.ended != 1 || far.brokens != 1 {
		t.Errorf("got %d ends, %d breaks, want 1, 1", far.ended, far.brokens)
	}
	p.want(16, "RESET 0x10c")
	p.nothingLeft()
	p.alive()

	// The connection is lost.
	far = newRecorder()
	p.tunnel(100, far)
	o := p.connectWS(104)
	p.c.lost(&bridge.ResetError{Reason: bridge.ReasonGone, Remote: true})
	p.loop.Turn()
	if far.brokens != 1 || far.broken.Reason != bridge.ReasonGone || !far.broken.Remote || far.ended != 0 {
		t.Errorf("got %v, want gone by peer", far.broken)
	}
	if o.gone == nil || p.srv.Connections() != 0 || p.q.ends != 0 {
		t.Errorf("got gone %v, %d connections, %d ends, want a gone offer and none", o.gone, p.srv.Connections(), p.q.ends)
	}
	p.nothingLeft2(100, 104)
}
