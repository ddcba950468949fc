package h2

import (
	"net/http"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
	"wsgate/internal/exchange"
)

// fuzzFar is a tunnel's owner that takes, echoes, ends and resets by the
// octets it gets.
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
	case 4:
		for f.s.Write(p) > 0 && f.s.Room() > 50000 {
		}
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

// FuzzConn feeds arbitrary octets in arbitrary pieces: the engine ends or
// answers, never panics, and holds no more than its bounds.
func FuzzConn(f *testing.F) {
	seed := func(parts ...[]byte) {
		all := append([]byte(clientPreface), settingsFrameOf(settingWindow, 70000)...)
		for _, b := range parts {
			all = append(all, b...)
		}
		f.Add(all, byte(0), uint16(0))
		f.Add(all, byte(7), uint16(100))
	}
	p := rawPeer(f, nil)
	ws := rawFrame(frameHeaders, flagEndHeaders, 1, p.block(connectFields...)...)
	ws3 := rawFrame(frameHeaders, flagEndHeaders, 3, p.block(connectFields...)...)
	get := rawFrame(frameHeaders, flagEndHeaders|flagEndStream, 5, p.block(getFields...)...)
	data := func(id uint32, fl uint8, s string) []byte { return rawFrame(frameData, fl, id, []byte(s)...) }
	seed(ws, data(1, 0, "\x05hello"), data(1, flagEndStream, "\x05"))
	seed(ws, ws3, data(1, flagPadded, "\x02\x04many\x00\x00"), data(3, 0, "\x01"), get)
	seed(ws, data(1, 0, "\x02short"), data(1, 0, "\x03"), rawFrame(frameRSTStream, 0, 1, 0, 0, 0, 8))
	seed(ws, data(1, 0, "\x04flood"), rawFrame(frameWindowUpdate, 0, 0, 0, 1, 0, 0), settingsFrameOf(settingWindow, 0))
	for _, c := range connectionErrors() {
		seed(ws, c.bytes)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write([]byte("x")) })
	f.Fuzz(func(t *testing.T, in []byte, step byte, room uint16) {
		loop, side := enginetest.NewLoop(), &fakeSide{room: -1}
		if room > 0 {
			side.room = int(room)
		}
		mem := NewMemory(8 << 20)
		srv := &Server{BufferMemory: mem, Exchange: &exchange.Config{Handler: handler}}
		srv.Offer = func(o bridge.Offer) {
			o.OnGone(func(*bridge.ResetError) {})
			if o.Handshake().Path == "/no" {
				o.Refuse(&bridge.Refusal{Status: 403, Body: []byte("no")})
				return
			}
			loop.Post(func() {
				far := &fuzzFar{t: t}
				far.s = o.Accept(nil)
				far.s.Bind(far)
			})
		}
		srv.Serve(loop, side, new(bridge.Client))
		n := int(step) + 1
		for k := 0; len(in) > 0; k++ {
			took := 0
			if side.far.Want() > 0 {
				took = side.far.Data(in[:min(n, len(in))])
				in = in[took:]
			}
			loop.Turn()
			side.out = side.out[:0]
			if loop.Held > 1<<20 {
				t.Fatalf("got %d octets held, want at most 1 MiB", loop.Held)
			}
			if took == 0 && k > 100 {
				break
			}
			if side.room >= 0 && k%3 == 0 {
				side.room = int(room)
				side.far.Writable()
			}
			if k%16 == 15 {
				loop.Sleep(time.Second)
			}
		}
		side.far.Broken(&bridge.ResetError{Reason: bridge.ReasonReset, Remote: true})
		c := side.far.(*conn)
		loop.Wait(func() bool { return c.slots == 0 })
		if srv.Connections() != 0 || len(c.streams) != 0 || mem.Used() != 0 || loop.Held != 0 {
			t.Errorf("got %d connections, %d streams, %d octets accounted, %d held at the end, want none",
				srv.Connections(), len(c.streams), mem.Used(), loop.Held)
		}
	})
}
