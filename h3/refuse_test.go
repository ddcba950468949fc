package h3

import (
	"strings"
	"testing"

	"wsgate/bridge"
)

// TestRefuse is rows 63, 72, 91, 92, 93, 112, 146.
func TestRefuse(t *testing.T) {
	for _, c := range []struct {
		name  string
		r     bridge.Refusal
		early string // what the client sends before the answer
		fin   bool
		want  string
		ctype string
	}{
		{
			"own with a body",
			bridge.Refusal{Status: 403, Body: []byte("no"), Code: "origin"},
			"", false,
			`HEADERS 403, DATA "no", FIN, STOP 0x100`, "text/plain; charset=utf-8",
		},
		{
			"client has ended",
			bridge.Refusal{Status: 403, Body: []byte("no")},
			"", true,
			`HEADERS 403, DATA "no", FIN`, "text/plain; charset=utf-8",
		},
		{
			"426 without Upgrade",
			bridge.Refusal{Status: 426, Fields: bridge.Fields{{Name: "Upgrade", Value: "websocket"}, {Name: "Sec-WebSocket-Version", Value: "13"}}},
			"early", false, "HEADERS 426, FIN, STOP 0x100", "",
		},
		{
			"foreign",
			bridge.Refusal{Status: 401, Foreign: true, Body: []byte("who"), Fields: bridge.Fields{{Name: "WWW-Authenticate", Value: "Basic"}}},
			"", false, `HEADERS 401, DATA "who", FIN, STOP 0x100`, "",
		},
		{"200", bridge.Refusal{Status: 200, Foreign: true, Body: []byte("secret")}, "", false, "HEADERS 502, FIN, STOP 0x100", ""},
		{"204", bridge.Refusal{Status: 204, Foreign: true}, "", false, "HEADERS 502, FIN, STOP 0x100", ""},
		{"101", bridge.Refusal{Status: 101, Foreign: true}, "", false, "HEADERS 502, FIN, STOP 0x100", ""},
		{"304", bridge.Refusal{Status: 304, Foreign: true, Body: []byte("x")}, "", false, "HEADERS 304, FIN, STOP 0x100", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, nil)
			o := p.connectWS(0)
			if c.early != "" {
				p.data(0, false, c.early)
			}
			if c.fin {
				p.fin(0)
			}
			o.Refuse(&c.r)
			all := p.frames(0)
			p.at(0).out = reframe(all)
			p.want(0, c.want)
			if got := all[0].get("content-type"); got != c.ctype {
				t.Errorf("got content-type %q, want %q", got, c.ctype)
			}
			if all[0].get("date") == "" || all[0].get("upgrade") != "" {
				t.Errorf("got fields %v, want Date and no Upgrade", all[0].fields)
			}
			p.nothingLeft()
			p.alive()
		})
	}
}

// TestRefuseStream: the content of a backend's refusal, whole, cut, too long, and
// with a client that leaves or reads slowly.
func TestRefuseStream(t *testing.T) {
	open := func(length int64) (*peer, *fakeContent) {
		p := newPeer(t, nil)
		src := &fakeContent{}
		p.connectWS(0).Refuse(&bridge.Refusal{Status: 503, Foreign: true, Stream: src, Length: length})
		f := p.wantStatus(p.frames(0), "503")
		if got, want := f.get("content-length"), map[int64]string{5: "5", -1: ""}[length]; got != want {
			t.Errorf("got content-length %q, want %q", got, want)
		}
		return p, src
	}
	for _, length := range []int64{5, -1} {
		p, src := open(length)
		src.far.Data([]byte("hello"))
		p.data(0, false, "whatever")
		src.far.End()
		p.want(0, `DATA "hello", FIN, STOP 0x100`)
		p.nothingLeft()
	}
	p, src := open(5)
	src.far.Data([]byte("hel"))
	src.far.End()
	p.want(0, `DATA "hel", RESET 0x102, STOP 0x102`)
	p, src = open(5)
	src.far.Data([]byte("hello!"))
	p.want(0, "RESET 0x102, STOP 0x102")
	if src.resets != 1 {
		t.Errorf("got %d resets of the backend, want 1", src.resets)
	}
	p, src = open(-1)
	src.far.Broken(&bridge.ResetError{Reason: bridge.ReasonTruncated})
	p.want(0, "RESET 0x102, STOP 0x102")
	p, src = open(-1)
	p.at(0).room1 = 3 + maxFrameHead
	if n := src.far.Data([]byte("hello")); n != 3 {
		t.Errorf("got %d taken, want 3", n)
	}
	p.at(0).room1 = 0
	if got := src.far.Want(); got != 0 {
		t.Errorf("got want %d, want 0", got)
	}
	p.at(0).give(100)
	if src.resumes != 1 {
		t.Errorf("got %d resumes, want 1", src.resumes)
	}
	p.reset(0, errRequestCancelled)
	if src.resets != 1 {
		t.Errorf("got %d resets of the backend, want 1", src.resets)
	}
	p.nothingLeft()
	// A 2xx with a stream is not shown.
	p = newPeer(t, nil)
	src = &fakeContent{}
	p.connectWS(0).Refuse(&bridge.Refusal{Status: 200, Foreign: true, Stream: src, Length: 5})
	p.want(0, "HEADERS 502, FIN, STOP 0x100")
	if src.resets != 1 {
		t.Errorf("got %d resets of the backend, want 1", src.resets)
	}
}

// TestRefuseFromMemory: the body of an own refusal waits for the window.
func TestRefuseFromMemory(t *testing.T) {
	p := newPeer(t, nil)
	o := p.connectWS(0)
	p.at(0).room1 = 1000
	body := strings.Repeat("x", 3000)
	o.Refuse(&bridge.Refusal{Status: 403, Body: []byte(body)})
	p.data(0, false, "dropped")
	got := 0
	for range 20 {
		for _, f := range p.frames(0) {
			if f.typ == frameData {
				got += len(f.payload)
			}
		}
		if p.at(0).finOut {
			break
		}
		p.at(0).room1 = 0
		p.at(0).give(500)
	}
	if got != len(body) {
		t.Errorf("got %d octets of the body, want %d", got, len(body))
	}
	p.want(0, "FIN, STOP 0x100")
	p.nothingLeft()
}
