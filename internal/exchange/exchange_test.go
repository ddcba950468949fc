package exchange

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
)

// testLoop runs posts on the test's goroutine.
type testLoop struct {
	posts  chan func()
	count  int
	timers []*bridge.Timer
}

func (l *testLoop) Post(f func())                          { l.posts <- f }
func (l *testLoop) Now() time.Time                         { return time.Now() }
func (l *testLoop) After(_ time.Duration, t *bridge.Timer) { l.timers = append(l.timers, t) }
func (l *testLoop) Yield()                                 {}
func (l *testLoop) TurnEnd(f bridge.Flusher)               { l.Post(f.Flush) }
func (l *testLoop) Buffer(n int) []byte                    { return make([]byte, 0, n) }
func (l *testLoop) Free([]byte)                            {}

// wire records what an exchange says.
type wire struct {
	log      []string
	body     bytes.Buffer
	header   http.Header
	trailer  http.Header
	room     int
	credit   int
	done     bool
	loop     *testLoop
	interim1 http.Header
}

func (w *wire) Interim(s int, h http.Header) {
	w.interim1 = h
	w.log = append(w.log, fmt.Sprint("interim ", s))
}

func (w *wire) Head(s int, h http.Header, n int64, end bool) {
	w.header = h
	w.log = append(w.log, fmt.Sprint("head ", s, " ", n, " ", end))
}
func (w *wire) Room() int { return w.room }
func (w *wire) Write(p []byte) int {
	n := min(len(p), w.room)
	w.room -= n
	w.body.Write(p[:n])
	return n
}
func (w *wire) End(t http.Header) { w.trailer = t; w.log = append(w.log, "end") }
func (w *wire) Abort()            { w.log = append(w.log, "abort") }
func (w *wire) Credit(n int)      { w.credit += n }
func (w *wire) Done()             { w.done = true }

// until runs the loop until cond holds.
func (w *wire) until(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !cond() {
		select {
		case f := <-w.loop.posts:
			w.loop.count++
			f()
		case <-deadline:
			t.Fatalf("nothing more happens; log %q", w.log)
		}
	}
}

func (w *wire) finish(t *testing.T) { t.Helper(); w.until(t, func() bool { return w.done }) }

func start(t *testing.T, method string, hasBody bool, h http.HandlerFunc) (*Exchange, *wire) {
	return startConfig(t, method, hasBody, nil, &Config{Handler: h, Server: &http.Server{}})
}

func startConfig(t *testing.T, method string, hasBody bool, header http.Header, c *Config) (*Exchange, *wire) {
	t.Helper()
	l := &testLoop{posts: make(chan func(), 100)}
	w := &wire{room: 1 << 30, loop: l}
	if header == nil {
		header = http.Header{}
	}
	r := &http.Request{Method: method, URL: &url.URL{Path: "/"}, Proto: "HTTP/2.0", ProtoMajor: 2, Header: header, Host: "h", RequestURI: "/", ContentLength: -1}
	if !hasBody {
		r.ContentLength = 0
	}
	return New(l, c, r, hasBody, w), w
}

func wantLog(t *testing.T, w *wire, want ...string) {
	t.Helper()
	if got := strings.Join(w.log, ", "); got != strings.Join(want, ", ") {
		t.Errorf("answer: got %q, want %q", got, want)
	}
}

func TestSmallGet(t *testing.T) {
	_, w := start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "x-hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("Keep-Alive", "x")
		io.WriteString(w, "hello")
	})
	w.finish(t)
	wantLog(t, w, "head 200 5 false", "end")
	if w.body.String() != "hello" || w.header.Get("Content-Length") != "5" || w.header.Get("Date") == "" {
		t.Errorf("got body %q, fields %v", w.body.String(), w.header)
	}
	for _, name := range []string{"Connection", "X-Hop", "Keep-Alive"} {
		if w.header.Get(name) != "" {
			t.Errorf("field %q got through (row 187)", name)
		}
	}
	if w.loop.count > 3 {
		t.Errorf("posts for a small GET: got %d, want at most 3", w.loop.count)
	}
}

func TestNoContent(t *testing.T) {
	for method, status := range map[string]int{"GET": 204, "HEAD": 200} {
		_, w := start(t, method, false, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == "HEAD" {
				w.Header().Set("Content-Length", "77")
			}
			w.WriteHeader(status)
		})
		w.finish(t)
		length := map[int]int{204: -1, 200: 77}[status]
		wantLog(t, w, fmt.Sprint("head ", status, " ", length, " true"))
	}
	_, w := start(t, "GET", false, func(http.ResponseWriter, *http.Request) {})
	w.finish(t)
	wantLog(t, w, "head 200 0 true")
}

func TestInterim(t *testing.T) {
	_, w := start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</x>")
		w.WriteHeader(103)
		w.WriteHeader(404)
	})
	w.finish(t)
	wantLog(t, w, "interim 103", "head 404 0 true")
	if w.interim1.Get("Link") != "</x>" {
		t.Errorf("fields of the 103: got %v", w.interim1)
	}
}

// TestShort: fewer octets than Content-Length are never a clean end (row 192).
func TestShort(t *testing.T) {
	_, w := start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "hello")
	})
	w.finish(t)
	wantLog(t, w, "head 200 10 false", "abort")

	_, w = start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "3")
		if _, err := io.WriteString(w, "hello"); err != http.ErrContentLength {
			t.Errorf("too long a write: got %v, want %v", err, http.ErrContentLength)
		}
	})
	w.finish(t)
	wantLog(t, w, "head 200 3 false", "abort")
}

func TestPanic(t *testing.T) {
	var value any
	c := &Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { panic("oops") }), Panicked: func(_ *http.Request, v any, _ []byte) { value = v }}
	_, w := startConfig(t, "GET", false, nil, c)
	w.finish(t)
	wantLog(t, w, "abort")
	if value != "oops" {
		t.Errorf("panic: got %v, want oops", value)
	}
	c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	value = nil
	_, w = startConfig(t, "GET", false, nil, c)
	w.finish(t)
	wantLog(t, w, "head 200 -1 false", "abort")
	if value != nil {
		t.Errorf("http.ErrAbortHandler was reported as %v", value)
	}
}

// TestTruncatedBackend: httputil.ReverseProxy must abort, which it does only
// with http.ServerContextKey in the context (row 192).
func TestTruncatedBackend(t *testing.T) {
	be := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "short")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer be.Close()
	be.Config.ErrorLog = nil
	u, _ := url.Parse(be.URL)
	c := &Config{Server: &http.Server{}, Handler: httputil.NewSingleHostReverseProxy(u)}
	_, w := startConfig(t, "GET", false, nil, c)
	w.finish(t)
	wantLog(t, w, "head 200 100 false", "abort")
}

// TestBackPressure: a handler blocks while the client takes nothing, and the
// pipe stays within its bound.
func TestBackPressure(t *testing.T) {
	const size = 1 << 20
	x, w := start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) {
		w.Write(make([]byte, size))
	})
	w.room = 1000
	w.until(t, func() bool { return w.body.Len() == 1000 })
	if n := len(w.loop.posts); n > 3 {
		t.Errorf("posts of a blocked handler: got %d", n)
	}
	w.room = 0
	for w.body.Len() < size {
		w.room = 10000
		x.Writable()
		w.until(t, func() bool { return w.room == 0 || w.body.Len() == size })
	}
	w.finish(t)
	wantLog(t, w, "head 200 -1 false", "end")
}

func TestBody(t *testing.T) {
	got := make(chan string, 1)
	x, w := start(t, "POST", true, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		got <- fmt.Sprint(len(b), err, r.Trailer.Get("X-Sum"))
	})
	for range 4 {
		x.Data(make([]byte, 32<<10))
		w.until(t, func() bool { return w.credit > 0 })
		w.credit = 0
	}
	x.End(http.Header{"X-Sum": {"7"}})
	w.finish(t)
	if s, want := <-got, fmt.Sprint(128<<10, nil, "7"); s != want {
		t.Errorf("body: got %q, want %q", s, want)
	}
}

// TestExpect: 100 when the handler first reads, once (rows 189, 201).
func TestExpect(t *testing.T) {
	c := &Config{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(100)
	})}
	x, w := startConfig(t, "POST", true, http.Header{"Expect": {"100-continue"}}, c)
	w.until(t, func() bool { return len(w.log) == 1 })
	x.End(nil)
	w.finish(t)
	wantLog(t, w, "interim 100", "head 200 0 true")
}

// TestUnexpected100 goes nowhere (row 189).
func TestUnexpected100(t *testing.T) {
	for _, hasBody := range []bool{false, true} {
		x, w := start(t, "POST", hasBody, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(100)
			io.Copy(io.Discard, r.Body)
		})
		x.End(nil)
		w.finish(t)
		wantLog(t, w, "head 200 0 true")
	}
}

// TestGone: the client's reset breaks both pipes and cancels the context.
func TestGone(t *testing.T) {
	cause := errors.New("reset by the client")
	seen := make(chan error, 3)
	started := make(chan bool)
	x, w := start(t, "POST", true, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		_, err := r.Body.Read(make([]byte, 1))
		seen <- err
		<-r.Context().Done()
		_, err = w.Write(make([]byte, 1<<20))
		seen <- err
	})
	<-started
	x.Gone(cause)
	w.finish(t)
	for range 2 {
		if err := <-seen; err != cause {
			t.Errorf("after the client left: got %v, want %v", err, cause)
		}
	}
	if len(w.log) != 0 {
		t.Errorf("answer to a client that left: got %q, want none", w.log)
	}
}

// TestWriteAfterReturn is an error and no panic.
func TestWriteAfterReturn(t *testing.T) {
	var kept http.ResponseWriter
	_, w := start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) { kept = w })
	w.finish(t)
	if _, err := kept.Write([]byte("x")); err == nil {
		t.Error("write after return: got no error")
	}
	kept.WriteHeader(500)
	kept.(http.Flusher).Flush()
}

func TestTrailers(t *testing.T) {
	_, w := start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-A")
		io.WriteString(w, "x")
		w.Header().Set("X-A", "1")
		w.Header().Set(http.TrailerPrefix+"X-B", "2")
	})
	w.finish(t)
	if w.trailer.Get("X-A") != "1" || w.trailer.Get("X-B") != "2" || w.header.Get("X-A") != "" {
		t.Errorf("trailers: got %v, head %v", w.trailer, w.header)
	}
}

// TestLateTrailers: trailers that were not announced go out, so no length is
// told (row 190).
func TestLateTrailers(t *testing.T) {
	for _, body := range []string{"x", ""} {
		_, w := start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) {
			if body != "" {
				io.WriteString(w, body)
			}
			w.Header().Set(http.TrailerPrefix+"X-B", "2")
		})
		w.finish(t)
		wantLog(t, w, "head 200 -1 false", "end")
		if w.trailer.Get("X-B") != "2" || w.header["Content-Length"] != nil {
			t.Errorf("content %q: got trailers %v, Content-Length %q; want X-B: 2 and none", body, w.trailer, w.header["Content-Length"])
		}
	}
}

// TestSwitch: a handler's 101 is nothing that a client asked for (row 88).
func TestSwitch(t *testing.T) {
	for status, want := range map[int]string{101: "head 502 0 true", 99: "head 500 0 true", 1000: "head 500 0 true"} {
		_, w := start(t, "GET", false, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Upgrade", "websocket")
			w.Header().Set("Connection", "Upgrade")
			w.WriteHeader(status)
		})
		w.finish(t)
		wantLog(t, w, want)
		if w.header["Upgrade"] != nil || w.header["Connection"] != nil {
			t.Errorf("status %d: got fields %v, want none of an upgrade", status, w.header)
		}
	}
}

func TestDeadlines(t *testing.T) {
	x, w := start(t, "POST", true, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		if err := rc.EnableFullDuplex(); err != nil {
			t.Errorf("full duplex: got %v", err)
		}
		rc.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read: got %v, want a timeout", err)
		}
		rc.SetWriteDeadline(time.Now().Add(time.Millisecond))
		if _, err := w.Write(make([]byte, 1<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: got %v, want a timeout", err)
		}
	})
	w.room = 0
	w.until(t, func() bool { return x.out.expiredNow() })
	w.room = 1 << 30
	x.Writable()
	w.finish(t)
}

func (a *answer) expiredNow() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.expired }

// TestStall: a client that takes nothing of a waiting answer is cut.
func TestStall(t *testing.T) {
	c := &Config{StallTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, 1<<20)) })}
	_, w := startConfig(t, "GET", false, nil, c)
	w.room = 0
	w.until(t, func() bool { return len(w.loop.timers) > 0 })
	w.loop.timers[0].Fire()
	w.finish(t)
	wantLog(t, w, "head 200 -1 false", "abort")
}

// TestUnreadBody is credited when nobody will read it.
func TestUnreadBody(t *testing.T) {
	x, w := start(t, "POST", true, func(w http.ResponseWriter, r *http.Request) {
		r.Body.Close()
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	w.until(t, func() bool { return len(w.log) == 1 })
	x.Data(make([]byte, 5000))
	if w.credit != 5000 {
		t.Errorf("credit: got %d, want 5000", w.credit)
	}
	x.Gone(nil)
	w.finish(t)
}
