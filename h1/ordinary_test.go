package h1

import (
	"errors"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// served is a front whose one handler is h.
func served(h http.HandlerFunc) *front {
	return newFront(func(s *Server) { s.Exchange = &exchange.Config{Handler: h} })
}

// answers sends a request and returns what came back, without Date.
func (f *front) answers(send string) string {
	f.t.send(crlf(send))
	f.l.await(func() bool { return f.conn() == nil || f.conn().state != stOrdinary })
	return strings.ReplaceAll(datesAway.ReplaceAllString(f.t.output(), ""), "\r\n", "\n")
}

// Row 191 and RFC 9112 section 6: how the content of answers is framed.
func TestAnswerFraming(t *testing.T) {
	var out chan bool // closed once the head is written
	flushed := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-out
		io.WriteString(w, "hello")
	}
	for _, tc := range []struct {
		name, method string
		minor        string
		h            http.HandlerFunc
		want         string
		ends         bool
	}{
		{
			"length known at the end", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") },
			"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", false,
		},
		{"nothing", "GET", "1.1", func(http.ResponseWriter, *http.Request) {}, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", false},
		{"length set", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			flushed(w, r)
		}, "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", false},
		{"length unknown", "GET", "1.1", flushed, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\n\n", false},
		{"length unknown in 1.0", "GET", "1.0", flushed, "HTTP/1.1 200 OK\nConnection: close\n\nhello", true},
		{"HEAD", "HEAD", "1.1", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "5")
			io.WriteString(w, "hello")
		}, "HTTP/1.1 200 OK\nContent-Length: 5\n\n", false},
		{"HEAD flushed", "HEAD", "1.1", flushed, "HTTP/1.1 200 OK\n\n", false},
		{"204", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) }, "HTTP/1.1 204 No Content\n\n", false},
		{"205", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(205) }, "HTTP/1.1 205 Reset Content\nContent-Length: 0\n\n", false},
		{"304", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "7")
			w.WriteHeader(304)
		}, "HTTP/1.1 304 Not Modified\nContent-Length: 7\n\n", false},
		{"trailers", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) {
			flushed(w, r)
			w.Header().Set(http.TrailerPrefix+"X-T", "1")
		}, "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX-T: 1\n\n", false},
		{"103", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			w.WriteHeader(100)
		}, "HTTP/1.1 103 Early Hints\nLink: </a>\n\nHTTP/1.1 200 OK\nLink: </a>\nContent-Length: 0\n\n", false},
		{"103 in 1.0", "GET", "1.0", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(103) }, "HTTP/1.1 200 OK\nContent-Length: 0\nConnection: close\n\n", true},
		{"row 187", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) {
			for _, n := range []string{"Keep-Alive", "Transfer-Encoding", "Upgrade", "Proxy-Connection", "X-Hop"} {
				w.Header().Set(n, "x")
			}
			w.Header().Set("Connection", "X-Hop")
		}, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", false},
		{
			"panic before", "GET", "1.1", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			"HTTP/1.1 500 Internal Server Error\nContent-Type: text/plain; charset=utf-8\nCache-Control: no-store\nContent-Length: 42\nConnection: close\n\n500 internal server error: handler-failed\n", true,
		},
		{"line breaks", "GET", "1.1", func(w http.ResponseWriter, r *http.Request) {
			w.Header()["X-A"] = []string{"b\r\nX-C: d"}
			w.Header()["X B"] = []string{"c"}
		}, "HTTP/1.1 200 OK\nX-A: b  X-C: d\nContent-Length: 0\n\n", false},
	} {
		out = make(chan bool)
		f := served(tc.h)
		f.t.send(crlf(tc.method + " / HTTP/" + tc.minor + "\nHost: a\n\n"))
		f.l.await(func() bool { return len(f.t.out) > 0 })
		close(out)
		got := f.answers("")
		if got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.name, got, tc.want)
		}
		if f.t.finished != tc.ends || f.l.lent != 0 {
			t.Errorf("%s: got ended %v and %d buffers held, want %v and none", tc.name, f.t.finished, f.l.lent, tc.ends)
		}
	}
}

// An answer that was begun and cannot be completed ends in a reset.
func TestAnswerCutShort(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"panic": func(w http.ResponseWriter, r *http.Request) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"shorter than its length": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "9")
			io.WriteString(w, "hello")
		},
	} {
		f := served(h)
		got := f.answers(get)
		if !f.t.reset || strings.Contains(got, "\n0\n") {
			t.Errorf("%s: got %q, reset %v, want a reset", name, got, f.t.reset)
		}
	}
}

// Rows 188 and 222: what the handler sees of the fields.
func TestRequestFields(t *testing.T) {
	seen := make(chan http.Header, 1)
	f := served(func(w http.ResponseWriter, r *http.Request) { seen <- r.Header })
	f.answers("GET / HTTP/1.1\nHost: a\nConnection: x-auth-user, Upgrade, HTTP2-Settings, keep-alive\nX-Auth-User: admin\nUpgrade: h2c\n" +
		"HTTP2-Settings: x\nTE: trailers\nKeep-Alive: 5\nProxy-Connection: x\nAccept: a\naccept: b\nX-Empty:\n\n")
	got := <-seen
	if len(got) != 2 || strings.Join(got["Accept"], "|") != "a|b" || got["X-Empty"] == nil {
		t.Errorf("got %v, want Accept and X-Empty only", got)
	}
}

// Row 201: 100 (Continue) when the handler first reads, and only if expected.
func TestExpectContinue(t *testing.T) {
	const post = "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nExpect: 100-continue\n\n"
	f := newFront(nil)
	f.t.send(crlf(post))
	f.l.await(func() bool { return len(f.t.out) > 0 })
	if got, want := f.t.output(), "HTTP/1.1 100 Continue\r\n\r\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f.t.send("hello" + crlf(get))
	f.settle()
	if got, want := statuses(f.t.output()), "200 200"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}

	// Not read: whether the content comes is not known, so the connection ends.
	f = served(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(417) })
	if got, want := statuses(f.answers(post)), "417"; got != want || !f.t.finished {
		t.Errorf("got %q, ended %v, want %q and the end", got, f.t.finished, want)
	}
	// A client that waits for its 100 is not slow.
	wait := make(chan bool)
	f = served(func(w http.ResponseWriter, r *http.Request) { <-wait })
	f.t.send(crlf(post))
	f.l.pass(time.Hour)
	if got := statuses(f.t.output()); got != "" {
		t.Errorf("got %q while the handler has not read, want nothing", got)
	}
	close(wait)
}

// Row 221: unread content is dropped to a bound, else the connection ends.
func TestUnreadContent(t *testing.T) {
	h := func(w http.ResponseWriter, r *http.Request) {}
	f := served(h)
	f.answers("POST / HTTP/1.1\nHost: a\nContent-Length: 1000\n\n")
	if f.conn() == nil || f.conn().state != stDrain {
		t.Fatal("got no draining, want 1000 octets dropped")
	}
	f.t.send(strings.Repeat("x", 1000))
	if got, want := statuses(f.answers(get)), "200"; got != want {
		t.Errorf("next request: got %q, want %q", got, want)
	}
	f = served(h)
	f.answers("POST / HTTP/1.1\nHost: a\nContent-Length: 100000\n\n")
	if !f.t.finished {
		t.Error("100000 octets: got the connection kept, want it ended")
	}
	f = served(h)
	f.answers("POST / HTTP/1.1\nHost: a\nContent-Length: 1000\n\n")
	f.l.pass(2 * time.Second)
	if !f.t.finished {
		t.Error("content that does not come: got the connection kept, want it ended")
	}
	f = served(h)
	f.answers("POST / HTTP/1.1\nHost: a\nTransfer-Encoding: chunked\n\n")
	f.t.send("20000\r\n" + strings.Repeat("x", 0x20000))
	if !f.t.finished {
		t.Error("chunks over the bound: got the connection kept, want it ended")
	}
}

// What a handler does not read stays with the client, and all of it arrives.
func TestUploadBackPressure(t *testing.T) {
	const size = 1 << 20
	start, n := make(chan bool), make(chan int64, 1)
	f := served(func(w http.ResponseWriter, r *http.Request) {
		<-start
		k, _ := io.Copy(io.Discard, r.Body)
		n <- k
	})
	f.t.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n" + strings.Repeat("x", size))
	if got, want := len(f.t.in), size-exchange.BodyWindow; got != want {
		t.Errorf("got %d octets left with the client, want %d", got, want)
	}
	close(start)
	f.l.await(func() bool { return f.conn().state == stHead })
	if got := <-n; got != size {
		t.Errorf("got %d octets, want %d", got, size)
	}
}

// A client that takes nothing stops the handler, not the loop.
func TestDownloadBackPressure(t *testing.T) {
	const size = 1 << 20
	f := served(func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, size))
	})
	f.t.cap = 1000
	f.t.send(crlf(get))
	f.l.await(func() bool { return f.t.cap == 0 })
	for f.conn().state == stOrdinary || f.conn().out != nil {
		f.t.open(100 << 10)
		select {
		case p := <-f.l.posts:
			p()
		default:
		}
	}
	out := f.t.output()
	m := regexp.MustCompile(`\r\n([0-9a-f]+)\r\n\x00`).FindAllString(out, -1)
	if !strings.HasSuffix(out, "\r\n0\r\n\r\n") || len(m) < 2 || strings.Count(out, "\x00") != size {
		t.Errorf("got %d octets in %d chunks, want %d", strings.Count(out, "\x00"), len(m), size)
	}
}

// Row 223: slow heads and contents.
func TestTimeouts(t *testing.T) {
	for _, tc := range []struct {
		name, send string
		wait       time.Duration
		want       string
		ended      bool
	}{
		{"idle", "", 3 * time.Minute, "", true},
		{"idle, not yet", "", 2 * time.Minute, "", false},
		{"slow head", "GET / HTTP/1.1\nHo", 10 * time.Second, "408", true},
		{"slow content", "POST / HTTP/1.1\nHost: a\nContent-Length: 9\n\nhello", 30 * time.Second, "408", true},
		{"a tunnel to be is exempt", up + "\n", time.Hour, "", false},
	} {
		f := newFront(nil)
		f.t.send(crlf(tc.send))
		f.l.pass(tc.wait)
		if got := statuses(f.t.output()); got != tc.want || f.t.finished != tc.ended {
			t.Errorf("%s: got %q, ended %v, want %q, %v", tc.name, got, f.t.finished, tc.want, tc.ended)
		}
	}
	// The clock of a head does not start anew with every octet.
	f := newFront(nil)
	for i := range 10 {
		f.t.send("GET / HTTP"[i : i+1])
		f.l.pass(time.Second)
	}
	if got, want := statuses(f.t.output()), "408"; got != want {
		t.Errorf("an octet a second: got %q, want %q", got, want)
	}
}

// The client's end and its vanishing while a handler runs.
func TestClientLeaves(t *testing.T) {
	cause := make(chan error, 1)
	waits := func(w http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		_, err := w.Write(nil)
		cause <- errors.Join(err, r.Context().Err())
	}
	f := served(waits)
	f.t.send(crlf(get))
	f.t.break_(&bridge.ResetError{Reason: bridge.ReasonReset, Remote: true})
	if err := <-cause; err == nil {
		t.Error("reset: got no error in the handler")
	}
	f = served(waits)
	f.t.send(crlf("POST / HTTP/1.1\nHost: a\nContent-Length: 9\n\nhello"))
	f.t.end()
	if err := <-cause; err == nil || !f.t.reset {
		t.Errorf("content cut short: got %v, reset %v, want an error and a reset", err, f.t.reset)
	}
	wait := make(chan bool)
	f = served(func(w http.ResponseWriter, r *http.Request) { <-wait })
	f.t.send(crlf(get))
	f.t.end()
	close(wait)
	f.l.await(func() bool { return f.t.finished })
	if got := f.t.output(); statuses(got) != "200" || !strings.Contains(got, "Connection: close") {
		t.Errorf("complete request: got %q, want 200 and close", got)
	}
}

func TestDrainAndClose(t *testing.T) {
	idle := newFront(nil)
	idle.s.Drain()
	idle.l.turn()
	if !idle.t.finished || idle.s.Connections() != 0 {
		t.Errorf("idle: got ended %v, %d connections, want true, 0", idle.t.finished, idle.s.Connections())
	}
	wait := make(chan bool)
	f := served(func(w http.ResponseWriter, r *http.Request) { <-wait })
	f.t.send(crlf(get + get))
	f.s.Drain()
	f.l.turn()
	close(wait)
	f.l.await(func() bool { return f.t.finished })
	if got := f.t.output(); statuses(got) != "200" || !strings.Contains(got, "\r\nConnection: close\r\n") {
		t.Errorf("busy: got %q, want one 200 that closes", got)
	}
	f = newFront(nil)
	f.t.send(crlf(up + "\n"))
	f.s.Drain()
	f.l.turn()
	if side := f.offers[0].Accept(nil); side != bridge.Side(f.t) {
		t.Errorf("offer: got %v, want it to become a tunnel", side)
	}
	f = newFront(nil)
	f.t.send(crlf(up + "\n"))
	var gone *bridge.ResetError
	f.offers[0].OnGone(func(e *bridge.ResetError) { gone = e })
	f.s.Close()
	f.l.turn()
	if gone == nil || gone.Reason != bridge.ReasonShutdown || !f.t.reset {
		t.Errorf("close: got %v, reset %v, want shutdown and a reset", gone, f.t.reset)
	}
}

// HTTP/2 with prior knowledge: the transport is handed over as it was.
func TestPreface(t *testing.T) {
	const hello = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	for _, piece := range []int{0, 1, 3, 20} {
		k := &sink{room: -1}
		calls := 0
		f := newFront(func(s *Server) {
			s.H2 = func(l bridge.Loop, t bridge.Side, c *bridge.Client) {
				calls++
				t.Bind(k)
			}
		})
		f.t.piece = piece
		f.t.send(hello)
		if calls != 1 || string(k.got) != hello || f.s.Connections() != 0 {
			t.Errorf("pieces of %d: got %d calls and %q, want one and %q", piece, calls, k.got, hello)
		}
		for _, send := range []string{get, "PRI * HTTP/1.1\nHost: a\n\n", "POST / HTTP/1.1\nHost: a\nContent-Length: 0\n\n", "P"} {
			calls = 0
			f = newFront(func(s *Server) { s.H2 = func(bridge.Loop, bridge.Side, *bridge.Client) { calls++ } })
			f.t.piece = piece
			f.t.send(crlf(send))
			f.settle()
			if got := statuses(f.t.output()); calls != 0 || len(send) > 1 && got == "" {
				t.Errorf("%q in pieces of %d: got %d calls and %q, want an HTTP/1.1 answer", send, piece, calls, got)
			}
		}
	}
}

func TestNoOfferNoExchange(t *testing.T) {
	f := newFront(func(s *Server) { s.Offer, s.Exchange = nil, nil })
	if got, want := statuses(f.answers(up+"\n")), "404"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCounters(t *testing.T) {
	f := newFront(nil)
	f.t.send(crlf(get))
	f.settle()
	f.t.send(crlf("GET /../ HTTP/1.1\nHost: a\n\n" + up + "\n"))
	f.offers[0].Refuse(&bridge.Refusal{Status: 403, Code: "no"})
	f.t.send(crlf(up + "\n"))
	f.offers[1].Accept(nil)
	n := f.s.Counters
	for _, tc := range []struct {
		name      string
		got, want uint64
	}{
		{"connections", n.Connections.Load(), 1},
		{"requests", n.Requests.Load(), 4},
		{"handshakes", n.Handshakes.Load(), 2},
		{"accepted", n.Accepted.Load(), 1},
		{"refused", n.Refused.Load(), 1},
		{"rejected", n.Rejected.Load(), 1},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, tc.got, tc.want)
		}
	}
}
