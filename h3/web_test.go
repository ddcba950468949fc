package h3

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/enginetest"
)

// TestAnswers is rows 189, 190, 191 and what our side of them owes.
func TestAnswers(t *testing.T) {
	cases := []struct {
		name   string
		method string
		f      http.HandlerFunc
		want   string
	}{
		{"empty", "GET", func(w http.ResponseWriter, r *http.Request) {}, "HEADERS 200, FIN"},
		{"small", "GET", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") }, `HEADERS 200, DATA "hi", FIN`},
		{"HEAD", "HEAD", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hi") }, "HEADERS 200, FIN"},
		{"204", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, "HEADERS 204, FIN"},
		{"304", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(304) }, "HEADERS 304, FIN"},
		{"103", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.WriteHeader(404)
		}, "HEADERS 103, HEADERS 404, FIN"},
		{"101 (row 75)", "GET", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(101) }, "HEADERS 502, FIN"},
		{"panic before", "GET", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "RESET 0x102"},
		{"too short (row 192)", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hi")
		}, `HEADERS 200, DATA "hi", RESET 0x102`},
		{"hop-by-hop (row 187)", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "x-hop")
			w.Header().Set("X-Hop", "1")
			w.Header().Set("Transfer-Encoding", "chunked")
		}, "HEADERS 200, FIN"},
		{"trailers", "GET", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "hi")
			w.Header().Set("X-Sum", "2")
		}, `HEADERS 200, DATA "hi", HEADERS, FIN`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, serveFunc(c.f))
			p.headers(0, true, enginetest.Edit(getFields, ":method", c.method)...)
			p.loop.Wait(func() bool { return p.c.slots == 0 })
			all := p.frames(0)
			p.at(0).out = reframe(all)
			if got := p.take(0); got != c.want {
				t.Fatalf("got [%s], want [%s]", got, c.want)
			}
			for _, f := range all {
				if f.get("x-hop")+f.get("connection")+f.get("transfer-encoding") != "" {
					t.Errorf("got fields %v, want none of the connection", f.fields)
				}
			}
			if c.name == "trailers" && all[2].get("x-sum") != "2" {
				t.Errorf("got trailers %v, want x-sum 2", all[2].fields)
			}
			p.nothingLeft()
			p.alive()
		})
	}
}

// TestLateFIN: whether a GET has content is known by its FIN, which may come by
// itself; one that does not come keeps the request for a moment.
func TestLateFIN(t *testing.T) {
	type seen struct {
		length int64
		body   bool
		err    error
	}
	got := make(chan seen, 1)
	start := func(fields ...string) *peer {
		p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			got <- seen{r.ContentLength, r.Body != http.NoBody, err}
		}))
		p.headers(0, false, fields...)
		return p
	}
	finish := func(p *peer, want seen) {
		t.Helper()
		p.loop.Wait(func() bool { return p.c.slots == 0 })
		if g := <-got; g != want {
			t.Errorf("got %+v in the handler, want %+v", g, want)
		}
		p.nothingLeft()
	}
	p := start(getFields...)
	p.fin(0)
	finish(p, seen{0, false, nil})
	p = start(getFields...)
	p.loop.Sleep(finTime)
	p.fin(0)
	finish(p, seen{-1, true, nil})
	p = start(getFields...)
	p.data(0, true, "content of a GET")
	finish(p, seen{-1, true, nil})
	p = start(enginetest.Edit(getFields, ":method", "POST", "content-length", "0")...)
	p.fin(0)
	finish(p, seen{0, false, nil})
	p = start(enginetest.Edit(getFields, ":method", "POST", "content-length", "3")...)
	p.data(0, true, "abc")
	finish(p, seen{3, true, nil})
	p = start(enginetest.Edit(getFields, ":method", "POST")...)
	p.data(0, true, "abc")
	finish(p, seen{-1, true, nil})
	// One that is given up before it is known is not begun at all.
	p = start(getFields...)
	p.reset(0, errRequestCancelled)
	p.loop.Sleep(time.Second)
	if len(got) != 0 {
		t.Error("got a handler for a request that was given up, want none")
	}
	p.nothingLeft()
}

// TestUploads is rows 183, 186 and RFC 9114 section 4.1.
func TestUploads(t *testing.T) {
	result := make(chan error, 1)
	read := serveFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		result <- err
	})
	post := func(p *peer, change ...string) {
		p.headers(0, false, enginetest.Edit(enginetest.Edit(getFields, ":method", "POST"), change...)...)
	}
	for _, c := range []struct {
		name string
		do   func(p *peer)
		want string
	}{
		{"too long", func(p *peer) { post(p, "content-length", "3"); p.data(0, false, "four") }, "RESET 0x10e, STOP 0x10e"},
		{"too short", func(p *peer) { post(p, "content-length", "3"); p.data(0, true, "ab") }, "RESET 0x10e"},
		{"too short, FIN by itself", func(p *peer) { post(p, "content-length", "3"); p.data(0, false, "ab"); p.fin(0) }, "RESET 0x10e"},
		{"too short by trailers", func(p *peer) { post(p, "content-length", "3"); p.data(0, false, "ab"); p.headers(0, true, "x", "y") }, "RESET 0x10e"},
		{"pseudo field in trailers", func(p *peer) { post(p); p.headers(0, true, ":path", "/") }, "RESET 0x10e"},
		{"connection field in trailers", func(p *peer) { post(p); p.headers(0, false, "connection", "x") }, "RESET 0x10e, STOP 0x10e"},
		{"trailers over the limit", func(p *peer) { post(p); p.headers(0, false, "x", strings.Repeat("a", 70000)) }, "RESET 0x10e, STOP 0x10e"},
		{"reset", func(p *peer) { post(p); p.data(0, false, "ab"); p.reset(0, errRequestCancelled) }, "RESET 0x10c"},
		{"stopped", func(p *peer) { post(p); p.data(0, false, "ab"); p.stopSending(0, errRequestCancelled) }, "RESET 0x10c, STOP 0x10c"},
		{"connection lost", func(p *peer) {
			post(p)
			p.data(0, false, "ab")
			p.c.lost(&bridge.ResetError{Reason: bridge.ReasonGone})
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPeer(t, read)
			c.do(p)
			if err := <-result; err == nil || errors.Is(err, io.EOF) {
				t.Errorf("got %v in the handler, want an error", err)
			}
			p.loop.Wait(func() bool { return p.c.slots == 0 })
			p.want(0, c.want)
			p.nothingLeft()
		})
	}
	for name, send := range map[string]func(p *peer){
		"DATA":    func(p *peer) { p.data(0, false, "x") },
		"HEADERS": func(p *peer) { p.headers(0, false, "x", "y") },
	} {
		t.Run(name+" after trailers", func(t *testing.T) {
			p := newPeer(t, read)
			post(p)
			p.headers(0, false, "x-sum", "1")
			send(p)
			p.wantClosed(errFrameUnexpected)
			if err := <-result; err == nil {
				t.Error("got a whole upload in the handler, want an error")
			}
		})
	}
	t.Run("large", func(t *testing.T) {
		p := newPeer(t, read)
		post(p)
		const size = 1 << 20
		for sent := 0; sent < size; {
			f := p.at(0)
			if len(f.in) > 0 {
				p.loop.Wait(func() bool { return len(f.in) == 0 })
			}
			n := min(30000, size-sent)
			sent += n
			p.data(0, sent == size, string(make([]byte, n)))
			if p.streams[0].full && p.c.streams[0].web.owed != 64<<10 {
				t.Fatalf("got %d octets owed when no more is taken, want the whole window", p.c.streams[0].web.owed)
			}
		}
		p.loop.Wait(func() bool { return p.c.slots == 0 })
		if err := <-result; err != nil {
			t.Errorf("got %v in the handler, want none", err)
		}
		p.want(0, "HEADERS 200, FIN")
	})
	t.Run("trailers", func(t *testing.T) {
		var trailer http.Header
		p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.Copy(io.Discard, r.Body)
			trailer = r.Trailer
			result <- err
		}))
		post(p, "trailer", "x-sum")
		p.data(0, false, "ab")
		p.headers(0, false, "x-sum", "1", "host", "evil")
		p.fin(0)
		if err := <-result; err != nil {
			t.Errorf("got %v in the handler, want none", err)
		}
		if got := fmt.Sprint(trailer); got != "map[X-Sum:[1]]" {
			t.Errorf("got trailers %s, want X-Sum alone", got)
		}
		p.loop.Wait(func() bool { return p.c.slots == 0 })
		p.nothingLeft()
	})
	t.Run("not read", func(t *testing.T) {
		p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(413) }))
		post(p)
		p.loop.Wait(func() bool { return p.c.slots == 0 })
		p.want(0, "HEADERS 413, FIN, STOP 0x100") // RFC 9114 section 4.1
		p.nothingLeft()
	})
}

// TestSlotUntilReturn: a request that the client gave up holds its slot until its
// handler has returned (CVE-2023-44487).
func TestSlotUntilReturn(t *testing.T) {
	release := make(chan bool)
	p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		<-release
	}))
	for id := uint64(0); id < 8; id += 4 {
		p.headers(id, true, getFields...)
		p.stopSending(id, errRequestCancelled)
		p.want(id, "RESET 0x10c")
	}
	if p.c.slots != 2 || p.at(0).released+p.at(4).released != 0 {
		t.Errorf("got %d slots and releases %d, %d, want 2 and none", p.c.slots, p.at(0).released, p.at(4).released)
	}
	close(release)
	p.loop.Wait(func() bool { return p.c.slots == 0 })
	p.nothingLeft()
}

// TestLargeAnswer goes through little room.
func TestLargeAnswer(t *testing.T) {
	const size = 300000
	p := newPeer(t, serveFunc(func(w http.ResponseWriter, r *http.Request) {
		for range size / 1000 {
			io.WriteString(w, strings.Repeat("x", 1000))
		}
	}))
	p.at(0).room1 = 2000
	p.headers(0, true, getFields...)
	got := 0
	for !p.at(0).finOut {
		p.loop.Wait(func() bool { return len(p.at(0).out) > 0 || p.at(0).finOut })
		for _, f := range p.frames(0) {
			if f.typ == frameData {
				got += len(f.payload)
			}
		}
		p.at(0).room1 = 0
		p.at(0).give(3000)
	}
	for _, f := range p.frames(0) {
		got += len(f.payload)
	}
	if got != size {
		t.Errorf("got %d octets, want %d", got, size)
	}
	p.loop.Wait(func() bool { return p.c.slots == 0 })
	p.nothingLeft()
}

// TestNoExchange: without a handler ordinary requests are answered; HEAD without
// content (RFC 9110 section 9.3.2).
func TestNoExchange(t *testing.T) {
	p := newPeer(t, nil)
	p.headers(0, true, getFields...)
	p.want(0, `HEADERS 404, DATA "404 not found: no-handler\n", FIN`)
	p.headers(4, true, enginetest.Edit(getFields, ":method", "HEAD")...)
	p.want(4, "HEADERS 404, FIN")
	p.headers(8, false, append([]string{"x-big", strings.Repeat("a", 70000)}, enginetest.Edit(getFields, ":method", "HEAD")...)...)
	p.want(8, "HEADERS 431, FIN, STOP 0x100") // its method is not known
	p.headers(12, false, enginetest.Edit(getFields, "x-big", strings.Repeat("a", 70000))...)
	p.want(12, `HEADERS 431, DATA "431 request header fields too large: fields-too-large\n", FIN, STOP 0x100`)
	p.nothingLeft()
}
