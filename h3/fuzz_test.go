package h3

import (
	"net/http"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
	"wsgate/internal/exchange"
)

// fuzzFar is a tunnel's owner that takes, echoes, ends and resets by the octets it
// gets.
type fuzzFar struct {
	s    bridge.Side
	over bool
	t    *testing.T
}

func (f *fuzzFar) Want() int { return 4096 }
func (f *fuzzFar) Data(p []byte) int {
	if f.over {
		f.t.Error("got Data after Broken")
	}
	switch p[0] % 8 {
	case 0:
		f.s.CloseWrite()
	case 1:
		f.s.Reset(bridge.ReasonFarSide)
		f.over = true
	case 2:
		return 0
	case 3:
		return 1
	default:
		f.s.Write(p)
	}
	return len(p)
}

func (f *fuzzFar) End() {
	if f.over {
		f.t.Error("got End after Broken")
	}
	f.s.CloseWrite()
}

func (f *fuzzFar) Broken(*bridge.ResetError) {
	if f.over {
		f.t.Error("got Broken twice")
	}
	f.over = true
}
func (f *fuzzFar) Writable() { f.s.Resume() }

// The operations of a fuzzed client, in the low bits of an octet; the others say
// on which stream.
const (
	opOctets = iota // what follows, by a length octet
	opFIN
	opReset
	opStop
	opRoom
	opSleep
	opUni
	opDrain
)

// FuzzConn plays arbitrary octets, ends and pauses on arbitrary streams: the engine
// ends or answers, never panics, and holds no more than its bounds.
func FuzzConn(f *testing.F) {
	octets := func(stream byte, b ...byte) (out []byte) {
		for len(b) > 0 {
			n := min(len(b), 255)
			out = append(append(out, opOctets|stream<<3, byte(n)), b[:n]...)
			b = b[n:]
		}
		return out
	}
	join := func(all ...[]byte) (out []byte) {
		for _, b := range all {
			out = append(out, b...)
		}
		return out
	}
	ws := rawFrame(frameHeaders, block(f, connectFields...)...)
	no := rawFrame(frameHeaders, block(f, enginetest.Edit(connectFields, ":path", "/no")...)...)
	get := rawFrame(frameHeaders, block(f, getFields...)...)
	post := rawFrame(frameHeaders, block(f, enginetest.Edit(getFields, ":method", "POST")...)...)
	data := func(s string) []byte { return rawFrame(frameData, []byte(s)...) }
	f.Add(join(octets(0, ws...), octets(0, data("\x05hello")...), []byte{opFIN}))
	f.Add(join(octets(0, ws...), octets(1, no...), octets(0, data("\x02waits")...), []byte{opReset, opStop | 1<<3}))
	f.Add(join(octets(2, get...), []byte{opFIN | 2<<3}, octets(3, post...), octets(3, data("content")...), []byte{opSleep, opFIN | 3<<3}))
	f.Add(join(octets(0, ws...), []byte{opRoom}, octets(0, data("\x04flood")...), []byte{opFIN, opDrain, opSleep, opSleep, opRoom}))
	f.Add(join([]byte{opUni}, octets(16, join([]byte{streamControl}, rawFrame(frameSettings, 6, 0), rawFrame(frameGoaway, 0))...), octets(0, ws...)))
	for _, c := range faults() {
		if len(c.send) < 300 {
			f.Add(join(octets(0, ws...), octets(1, c.send...), []byte{opFIN | 1<<3}))
			f.Add(join([]byte{opUni, opUni}, octets(16, append([]byte{streamControl}, c.send...)...), octets(17, append([]byte{streamEncoder}, c.send...)...)))
		}
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("x"))
		var p [100]byte
		_, _ = r.Body.Read(p[:])
	})
	f.Fuzz(func(t *testing.T, in []byte) {
		p := rawPeer(t, func(s *Server) {
			s.Exchange = &exchange.Config{Handler: handler}
			s.Offer = func(o bridge.Offer) {
				o.OnGone(func(*bridge.ResetError) {})
				if o.Handshake().Path == "/no" {
					o.Refuse(&bridge.Refusal{Status: 403, Body: []byte("no")})
					return
				}
				far := &fuzzFar{t: t}
				far.s = o.Accept(nil)
				far.s.Bind(far)
			}
		})
		p.fuzz(in)
		p.c.lost(&bridge.ResetError{Reason: bridge.ReasonGone, Remote: true})
		p.loop.Wait(func() bool { return p.c.slots == 0 })
		if p.srv.Connections() != 0 || p.q.ends > 1 {
			t.Errorf("got %d connections and %d ends, want none and at most one", p.srv.Connections(), p.q.ends)
		}
		p.nothingLeft()
	})
}

// fuzz plays what in says. Stream numbers from 16 on are unidirectional.
func (p *peer) fuzz(in []byte) {
	var unis []*fakeStream
	for len(in) > 0 && p.q.ends == 0 {
		op, k := in[0]&7, int(in[0]>>3)
		in = in[1:]
		var f *fakeStream
		if k < 16 {
			f = p.at(uint64(4 * k))
		} else if len(unis) > 0 {
			f = unis[(k-16)%len(unis)]
		}
		switch {
		case op == opUni && len(unis) < 8:
			unis = append(unis, p.rawUni())
		case op == opSleep:
			p.loop.Sleep(time.Duration(1+k) * 200 * time.Millisecond)
		case op == opDrain:
			p.srv.Drain()
		case f == nil:
		case op == opOctets && len(in) > 0:
			n := min(int(in[0]), len(in)-1)
			b := in[1 : 1+n]
			in = in[1+n:]
			if !f.fin && !f.over {
				p.sends(f, b)
			}
		case op == opFIN:
			if !f.over {
				p.ends(f)
			}
		case op == opReset:
			if !f.over && !f.stopped && !f.fin {
				f.over, f.in = true, nil
				f.to.wasReset(errRequestCancelled)
			}
		case op == opStop && k < 16:
			f.to.stopped(errRequestCancelled)
		case op == opRoom && k < 16:
			if f.room1 = max(f.room1, 0); k%2 == 0 {
				f.give(40)
			}
		}
		p.loop.Turn()
		held := p.c.blocks
		for _, u := range unis {
			held += cap(u.to.(*uni).partial)
		}
		if held > 1<<20 {
			p.t.Fatalf("got %d octets held, want at most 1 MiB", held)
		}
	}
}
