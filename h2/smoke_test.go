package h2

import (
	"io"
	"net/http"
	"testing"

	"wsgate/internal/exchange"
)

func TestTunnelServes(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	s := p.tunnel(1, far)
	p.data(1, false, "hello")
	if got, want := string(far.got), "hello"; got != want {
		t.Errorf("got %q from the client, want %q", got, want)
	}
	if n := s.Write([]byte("world")); n != 5 {
		t.Errorf("got %d octets taken, want 5", n)
	}
	s.CloseWrite()
	p.want(`DATA 1 "world" end`)
	p.data(1, true, "")
	if far.ended != 1 || far.brokens != 0 {
		t.Errorf("got %d ends and %d breaks, want 1 and 0", far.ended, far.brokens)
	}
	if len(p.c.streams) != 0 || p.c.slots != 0 || p.client.Tunnels != 0 {
		t.Errorf("got %d streams, %d slots, %d tunnels left, want none", len(p.c.streams), p.c.slots, p.client.Tunnels)
	}
	p.alive()
}

func TestRequestServes(t *testing.T) {
	p := newPeer(t, func(s *Server) {
		s.Exchange = &exchange.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			w.Header().Set("X-Method", r.Method)
			w.Write([]byte("got " + string(b)))
		})}
	})
	p.headers(1, false, ":method", "POST", ":scheme", "http", ":path", "/up", ":authority", "example.com")
	p.data(1, true, "content")
	p.loop.wait(func() bool { return p.c.slots == 0 })
	all := p.frames()
	f := p.wantStatus(all, 1, "200")
	if got, want := f.get("x-method"), "POST"; got != want {
		t.Errorf("got x-method %q, want %q", got, want)
	}
	last := all[len(all)-1]
	if got, want := last.String(), `DATA 1 "got content" end`; got != want {
		t.Errorf("got %s last, want %s", got, want)
	}
	p.alive()
}

func TestWindowZeroThenOne(t *testing.T) {
	p := newPeer(t, func(s *Server) {
		s.Exchange = &exchange.Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Write([]byte("hello"))
		})}
	})
	p.settings(settingWindow, 0)
	p.headers(1, true, getFields...)
	p.await(frameHeaders, 1)
	p.want("SETTINGS 0 ack", "HEADERS 1 200")
	p.settings(settingWindow, 1)
	p.want("SETTINGS 0 ack", `DATA 1 "h"`)
}
