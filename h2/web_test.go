package h2

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
)

// TestAnswers is rows 189, 190, 191 and what our side of them owes.
func TestAnswers(t *testing.T) {
	cases := []struct {
		name   string
		method string
		f      http.HandlerFunc
		want   []string
	}{
		{"empty", "GET", func(w http.ResponseWriter, r *http.Request) {}, []string{"HEADERS 1 200 end"}},
		{"small", "GET", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") }, []string{"HEADERS 1 200", `DATA 1 "hi" end`}},
		{"HEAD", "HEAD", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") }, []string{"HEADERS 1 200 end"}},
		{"204", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, []string{"HEADERS 1 204 end"}},
		{"304", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) }, []string{"HEADERS 1 304 end"}},
		{"103", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.WriteHeader(404)
		}, []string{"HEADERS 1 103", "HEADERS 1 404 end"}},
		{"panic before", "GET", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, []string{"RST_STREAM 1 INTERNAL_ERROR"}},
		{"too short (row 192)", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hi")
		}, []string{"HEADERS 1 200", `DATA 1 "hi"`, "RST_STREAM 1 INTERNAL_ERROR"}},
		{"hop-by-hop (row 187)", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "x-hop")
			w.Header().Set("X-Hop", "1")
			w.Header().Set("Transfer-Encoding", "chunked")
		}, []string{"HEADERS 1 200 end"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, serveFunc(c.f))
			p.headers(1, true, enginetest.Edit(getFields, ":method", c.method)...)
			p.loop.Wait(func() bool { return p.c.slots == 0 })
			all := p.frames()
			if got, want := show(all), strings.Join(c.want, ", "); got != want {
				t.Fatalf("got [%s], want [%s]", got, want)
			}
			for _, f := range all {
				if f.get("x-hop")+f.get("connection")+f.get("transfer-encoding") != "" {
					t.Errorf("got fields %v, want none of the connection", f.fields)
				}
			}
			p.alive()
		})
	}
}

// TestAnswerTrailers: trailers end the stream.
func TestAnswerTrailers(t *testing.T) {
	p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, "hi")
		w.Header().Set("X-Sum", "2")
	}))
	p.headers(1, true, getFields...)
	p.loop.Wait(func() bool { return p.c.slots == 0 })
	all := p.frames()
	if got, want := show(all), `HEADERS 1 200, DATA 1 "hi", HEADERS 1  end`; got != want {
		t.Fatalf("got [%s], want [%s]", got, want)
	}
	if got := all[2].get("x-sum"); got != "2" {
		t.Errorf("got trailer %q, want %q", got, "2")
	}
}

// TestUploads is rows 183, 186 and RFC 9113 section 8.1.
func TestUploads(t *testing.T) {
	result := make(chan error, 1)
	read := serveFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		result <- err
	})
	post := func(p *peer, change ...string) {
		p.headers(1, false, enginetest.Edit(enginetest.Edit(getFields, ":method", "POST"), change...)...)
	}
	for _, c := range []struct {
		name string
		do   func(p *peer)
		want string
	}{
		{"too long", func(p *peer) { post(p, "content-length", "3"); p.data(1, false, "four") }, "RST_STREAM 1 PROTOCOL_ERROR"},
		{"too short", func(p *peer) { post(p, "content-length", "3"); p.data(1, true, "ab") }, "RST_STREAM 1 PROTOCOL_ERROR"},
		{"too short by trailers", func(p *peer) { post(p, "content-length", "3"); p.data(1, false, "ab"); p.headers(1, true, "x", "y") }, "RST_STREAM 1 PROTOCOL_ERROR"},
		{"reset", func(p *peer) { post(p); p.data(1, false, "ab"); p.frame(frameRSTStream, 0, 1, 0, 0, 0, 8) }, ""},
		{"connection lost", func(p *peer) { post(p); p.data(1, false, "ab"); p.side.far.End() }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, read)
			c.do(p)
			if err := <-result; err == nil || errors.Is(err, io.EOF) {
				t.Errorf("got %v in the handler, want an error", err)
			}
			if got := show(p.frames()); got != c.want {
				t.Errorf("got [%s], want [%s]", got, c.want)
			}
			p.loop.Wait(func() bool { return p.c.slots == 0 })
		})
	}
	t.Run("large", func(t *testing.T) {
		p := newPeer(t, read)
		post(p)
		for sent, window := 0, 65535; sent < 1<<20; {
			n := min(window, 16000, 1<<20-sent)
			if n == 0 {
				p.await(frameWindowUpdate, 1)
			} else {
				p.data(1, sent+n == 1<<20, string(make([]byte, n)))
				sent, window = sent+n, window-n
			}
			for _, f := range p.frames() {
				if f.kind == frameWindowUpdate && f.id == 1 {
					window += int(f.payload[2])<<8 | int(f.payload[3]) | int(f.payload[1])<<16
				}
			}
		}
		if err := <-result; err != nil {
			t.Errorf("got %v in the handler, want none", err)
		}
		p.loop.Wait(func() bool { return p.c.slots == 0 })
	})
	t.Run("not read", func(t *testing.T) {
		p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }))
		post(p)
		p.loop.Wait(func() bool { return p.c.slots == 0 })
		p.want("HEADERS 1 413 end", "RST_STREAM 1 NO_ERROR")
		p.data(1, true, "late")
		p.want()
	})
}

// TestSlotUntilReturn: a reset request holds its slot until its handler has
// returned (CVE-2023-44487).
func TestSlotUntilReturn(t *testing.T) {
	release := make(chan bool)
	p := newPeer(t, func(s *Server) {
		serveFunc(func(w http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			<-release
		})(s)
		s.MaxStreams = 2
	})
	for id := uint32(1); id < 5; id += 2 {
		p.headers(id, true, getFields...)
		p.frame(frameRSTStream, 0, id, 0, 0, 0, 8)
	}
	p.headers(5, true, getFields...)
	p.want("RST_STREAM 5 REFUSED_STREAM")
	close(release)
	p.loop.Wait(func() bool { return p.c.slots == 0 })
	p.headers(7, true, getFields...)
	p.frame(frameRSTStream, 0, 7, 0, 0, 0, 8)
	p.loop.Wait(func() bool { return p.c.slots == 0 })
	p.want()
}

// TestLargeAnswer goes through small windows and a slow transport.
func TestLargeAnswer(t *testing.T) {
	const size = 300000
	p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) {
		for range size / 1000 {
			io.WriteString(w, strings.Repeat("x", 1000))
		}
	}))
	p.headers(1, true, getFields...)
	got := 0
	for end := false; !end; {
		p.await(frameData, 1)
		var b []byte
		b, end = dataOf(p.frames(), 1)
		got += len(b)
		if len(b) > 0 {
			p.frame(frameWindowUpdate, 0, 1, u32(uint32(len(b)))...)
			p.frame(frameWindowUpdate, 0, 0, u32(uint32(len(b)))...)
		}
	}
	if got != size {
		t.Errorf("got %d octets, want %d", got, size)
	}
	p.loop.Wait(func() bool { return p.c.slots == 0 })
	p.alive()
}

// TestNoExchange: without a handler ordinary requests are answered.
func TestNoExchange(t *testing.T) {
	p := newPeer(t, nil)
	p.headers(1, true, getFields...)
	p.want("HEADERS 1 404", `DATA 1 "404 not found: no-handler\n" end`)
}

// TestOwnAnswers: the line of an answer of our own stays away from HEAD, from
// windows that do not take it, and from a head whose method is unknown.
func TestOwnAnswers(t *testing.T) {
	p := newPeer(t, nil)
	p.headers(1, true, enginetest.Edit(getFields, ":method", "HEAD")...)
	p.want("HEADERS 1 404 end")
	p.headers(3, true, append([]string{"x-big", strings.Repeat("a", 70000)}, getFields...)...)
	p.want("HEADERS 3 431 end")
	p.settings(settingWindow, 5)
	p.frames()
	p.headers(5, true, getFields...)
	p.want("HEADERS 5 404 end")
	p.settings(settingWindow, 65535)
	p.frames()
	for id := uint32(7); ; id += 2 { // until the connection's window is used up
		before := p.c.sendWin
		p.headers(id, true, getFields...)
		if got := p.c.sendWin; got == before {
			p.want(fmt.Sprintf("HEADERS %d 404 end", id))
			break
		}
		p.want(fmt.Sprintf("HEADERS %d 404", id), fmt.Sprintf(`DATA %d "404 not found: no-handler\n" end`, id))
	}
	p.alive()
}

// TestDrain is rows 131 and 132.
func TestDrain(t *testing.T) {
	for _, byPing := range []bool{true, false} {
		p := newPeer(t, nil)
		far := newRecorder()
		s := p.tunnel(1, far)
		p.srv.Drain()
		p.srv.Drain()
		p.want("GOAWAY 2147483647 NO_ERROR", "PING 0")
		p.connectWS(3) // was under way
		if byPing {
			p.frame(framePing, flagAck, 0, []byte(drainPayload)...)
		} else {
			p.loop.Sleep(drainTime)
		}
		p.want("GOAWAY 3 NO_ERROR")
		p.headers(5, false, connectFields...)
		p.want("RST_STREAM 5 REFUSED_STREAM")
		if len(p.offers) != 2 {
			t.Errorf("got %d offers, want 2", len(p.offers))
		}
		p.offers[1].Refuse(&bridge.Refusal{Status: 503})
		p.data(1, true, "end")
		s.Write([]byte("end"))
		s.CloseWrite()
		p.want("HEADERS 3 503 end", "RST_STREAM 3 NO_ERROR", `DATA 1 "end" end`)
		if far.ended != 1 || far.brokens != 0 || !p.side.closed || p.side.reset {
			t.Errorf("got %+v, closed %v, reset %v, want an orderly end", far, p.side.closed, p.side.reset)
		}
		p.side.far.End()
		if p.srv.Connections() != 0 || p.side.reset {
			t.Errorf("got %d connections, reset %v, want 0 and no reset", p.srv.Connections(), p.side.reset)
		}
		// A connection born while draining hears of it at once.
		p.connect()
		p.want("SETTINGS 0", "WINDOW_UPDATE 0 1073676289", "GOAWAY 2147483647 NO_ERROR", "PING 0")
	}
}

// TestDrainLate is row 137: no GOAWAY before the last tunnel of a connection has
// ended, or the time is up.
func TestDrainLate(t *testing.T) {
	for _, forced := range []bool{false, true} {
		p := newPeer(t, nil)
		far := newRecorder()
		s := p.tunnel(1, far)
		p.srv.DrainLate()
		p.want()
		if forced {
			p.srv.Drain()
		} else {
			p.data(1, true, "end")
			s.CloseWrite()
			p.want(`DATA 1 "" end`, "GOAWAY 2147483647 NO_ERROR", "PING 0")
			continue
		}
		p.want("GOAWAY 2147483647 NO_ERROR", "PING 0")
	}
	p := newPeer(t, nil)
	p.srv.DrainLate()
	p.want("GOAWAY 2147483647 NO_ERROR", "PING 0") // it has no tunnels
}

// TestAnnounce: what can be served at a connection's birth is announced, and
// holds for its life.
func TestAnnounce(t *testing.T) {
	on := true
	p := newPeer(t, func(s *Server) { s.Announce = func() bool { return on } })
	on = false
	p.connectWS(1)
	if len(p.offers) != 1 {
		t.Errorf("after the route is gone: got %d offers, want 1", len(p.offers))
	}
	q := newPeer(t, func(s *Server) { s.Announce = func() bool { return on } })
	q.headers(1, false, connectFields...)
	q.want("RST_STREAM 1 PROTOCOL_ERROR")
	if len(q.offers) != 0 {
		t.Errorf("not announced: got %d offers, want none", len(q.offers))
	}
}

// TestClose ends everything at once.
func TestClose(t *testing.T) {
	p := newPeer(t, nil)
	far := newRecorder()
	p.tunnel(1, far)
	o := p.connectWS(3)
	if got := p.srv.Connections(); got != 1 {
		t.Errorf("got %d connections, want 1", got)
	}
	p.srv.Close()
	p.want("GOAWAY 3 NO_ERROR")
	if far.brokens != 1 || far.broken.Reason != bridge.ReasonShutdown || o.gone == nil || !p.side.reset {
		t.Errorf("got %v, gone %v, reset %v, want shutdown, gone, true", far.broken, o.gone, p.side.reset)
	}
	if p.srv.Connections() != 0 || p.loop.Held != 0 {
		t.Errorf("got %d connections and %d held, want none", p.srv.Connections(), p.loop.Held)
	}
}
