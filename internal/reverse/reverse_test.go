package reverse

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"wsgate/internal/forwarded"
	"wsgate/internal/upstream"
)

// backend is a raw server: it hands each request head to the test and answers
// with the given octets, then closes.
func backend(t *testing.T, answer string) (addr string, heads chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	heads = make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			var head strings.Builder
			for {
				line, err := r.ReadString('\n')
				head.WriteString(line)
				if err != nil || line == "\r\n" {
					break
				}
			}
			heads <- head.String()
			io.WriteString(c, answer)
			c.Close()
		}
	}()
	return l.Addr().String(), heads
}

// at is an upstream of one server.
func at(addr string) upstream.Config {
	return upstream.Config{Name: "app", Servers: []upstream.ServerConfig{{Address: addr}}, Retry: upstream.Retry{Attempts: -1}}
}

func started(t *testing.T, c upstream.Config) *upstream.Upstream {
	t.Helper()
	u, err := upstream.New(c, upstream.Env{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	u.Start()
	t.Cleanup(u.Close)
	return u
}

func get(t *testing.T, c upstream.Config, codes *[]string, edit func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	policy := &forwarded.Policy{Pseudonym: "gw-1"}
	h := New(Config{Upstream: started(t, c), Forwarded: policy}, func(_ *http.Request, code string, _ error) { *codes = append(*codes, code) })
	defer h.Close()
	r := httptest.NewRequest("GET", "/", nil)
	r.RemoteAddr = "192.0.2.9:1"
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// TestTarget: the octets of the target go out as they came (row 48).
func TestTarget(t *testing.T) {
	addr, heads := backend(t, ok)
	for _, target := range []string{"/", "/a%2fb%41?x=%zz&y;z", "/?", "/a\\b\"{}|", "//host/x", "/a/b;c=1?q", "/a%zz?x=%zz", "//a\"b|c%zz?%zz", "///x\\", "//"} {
		var codes []string
		w := get(t, at(addr), &codes, func(r *http.Request) {
			r.RequestURI = target
			path, _, _ := strings.Cut(target, "?")
			r.URL.Path, r.URL.RawPath, r.URL.RawQuery = path, path, ""
		})
		if w.Code != 200 {
			t.Errorf("target %q: got %d %q", target, w.Code, codes)
			continue
		}
		line, _, _ := strings.Cut(<-heads, "\r\n")
		if want := "GET " + target + " HTTP/1.1"; line != want {
			t.Errorf("request line: got %q, want %q", line, want)
		}
	}
}

// TestFields: rows 182, 187, 188, 202.
func TestFields(t *testing.T) {
	addr, heads := backend(t, ok)
	var codes []string
	get(t, at(addr), &codes, func(r *http.Request) {
		r.Host = "front.example"
		r.Header.Set("Connection", "x-auth-user, x-forwarded-for, close")
		r.Header.Set("X-Auth-User", "admin")
		r.Header.Set("X-Forwarded-For", "10.0.0.1")
		r.Header.Set("Keep-Alive", "x")
		r.Header.Set("Upgrade", "h2c")
	})
	head := <-heads
	for _, line := range []string{"\r\nHost: front.example\r\n", "X-Forwarded-For: 192.0.2.9\r\n", "X-Forwarded-Proto: http\r\n", "X-Forwarded-Host: front.example\r\n", "Via: 1.1 gw-1\r\n"} {
		if strings.Count(head, line) != 1 {
			t.Errorf("head lacks %q, or has it twice:\n%s", line, head)
		}
	}
	for _, name := range []string{"X-Auth-User", "Keep-Alive", "Upgrade", "10.0.0.1", "User-Agent", "Accept-Encoding"} {
		if strings.Contains(head, name) {
			t.Errorf("head holds %q:\n%s", name, head)
		}
	}
	c := at(addr)
	c.HostHeader = "app.internal"
	get(t, c, &codes, nil)
	if head := <-heads; !strings.Contains(head, "Host: app.internal\r\n") {
		t.Errorf("host header: got\n%s", head)
	}
}

func TestOwnAnswers(t *testing.T) {
	addr, _ := backend(t, ok)
	for _, c := range []struct {
		name   string
		edit   func(*http.Request)
		status int
		body   string
	}{
		{"trace (row 200)", func(r *http.Request) { r.Method = "TRACE" }, 405, "trace-off"},
		{"max-forwards (row 200)", func(r *http.Request) { r.Method = "OPTIONS"; r.Header.Set("Max-Forwards", "0") }, 204, ""},
		{"loop (row 199)", func(r *http.Request) { r.Header.Set("Via", "1.1 x, 2 gw-1") }, 502, "loop"},
	} {
		var codes []string
		w := get(t, at(addr), &codes, c.edit)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
			t.Errorf("%s: got %d %q, want %d %q", c.name, w.Code, w.Body, c.status, c.body)
		}
	}
}

func TestFailures(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().String()
	l.Close()
	switching, _ := backend(t, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	garbage, _ := backend(t, "what?\r\n\r\n")
	both, _ := backend(t, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok")
	mute, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	slow := at(mute.Addr().String())
	slow.ResponseTimeout = 20 * time.Millisecond
	for _, c := range []struct {
		name   string
		config upstream.Config
		status int
		code   string
	}{
		{"refused", at(dead), 502, "connect-failed"},
		{"unknown name", at("no-such-name.invalid:80"), 502, "dns-failed"},
		{"unasked 101 (row 88)", at(switching), 502, "bad-answer"},
		{"garbage", at(garbage), 502, "bad-answer"},
		{"two lengths (row 194)", at(both), 502, "bad-answer"},
		{"mute", slow, 504, "response-timeout"},
	} {
		var codes []string
		w := get(t, c.config, &codes, nil)
		if w.Code != c.status || len(codes) != 1 || codes[0] != c.code || !strings.Contains(w.Body.String(), c.code) {
			t.Errorf("%s: got %d %q, codes %q; want %d %s", c.name, w.Code, w.Body, codes, c.status, c.code)
		}
	}
}

// TestServers: a request of which nothing was sent is tried at another server,
// with its content; pooled connections are kept apart by server; the sticky
// cookie comes with the answer.
func TestServers(t *testing.T) {
	bodies := make(chan string, 10)
	serve := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			bodies <- name + " " + string(b)
			io.WriteString(w, name)
		}))
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	a, b := serve("a"), serve("b")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	c := at(gone)
	c.Servers = append(c.Servers, upstream.ServerConfig{Address: a}, upstream.ServerConfig{Address: b})
	c.Retry = upstream.Retry{}
	c.Balance = upstream.Balance{Policy: upstream.Sticky, Cookie: upstream.Cookie{Secret: []byte("0123456789abcdef")}}
	h := New(Config{Upstream: started(t, c), Forwarded: &forwarded.Policy{}}, nil)
	defer h.Close()
	ask := func(cookie string) (string, []string) {
		r := httptest.NewRequest("POST", "/", io.NopCloser(strings.NewReader("content")))
		r.ContentLength = 7
		if cookie != "" {
			r.Header.Set("Cookie", cookie)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if got := <-bodies; got != w.Body.String()+" content" {
			t.Errorf("content at the server: got %q, want that of the request at %s", got, w.Body)
		}
		return w.Body.String(), w.Header()["Set-Cookie"]
	}
	seen := map[string]bool{}
	for len(seen) < 2 { // of the two that live, each is at least as likely as not
		name, cookies := ask("")
		if len(cookies) != 1 || !strings.Contains(cookies[0], "; HttpOnly; SameSite=Lax") || strings.Contains(cookies[0], "Secure") {
			t.Fatalf("cookies: got %q, want one", cookies)
		}
		seen[name] = true
		value, _, _ := strings.Cut(cookies[0], ";")
		for range 3 {
			if got, again := ask("x=y; " + value); got != name || len(again) != 0 {
				t.Errorf("with the cookie of %s: got %s, cookies %q; want the same and none", name, got, again)
			}
		}
	}
}

// TestPassive: servers that take no connection are ejected by requests as well;
// what a server says ejects nobody.
func TestPassive(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(503) }))
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := l.Addr().String()
	l.Close()
	c := at(gone)
	c.Servers = append(c.Servers, upstream.ServerConfig{Address: s.Listener.Addr().String()})
	c.Passive.Failures, c.Retry, c.Balance.Policy = 2, upstream.Retry{}, upstream.RoundRobin
	u := started(t, c)
	h := New(Config{Upstream: u, Forwarded: &forwarded.Policy{}}, nil)
	defer h.Close()
	for range 10 {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		if w.Code != 503 || w.Body.Len() != 0 {
			t.Errorf("got %d %q, want the server's 503", w.Code, w.Body)
		}
	}
	if st := u.Status(); st[0].State != upstream.Ejected || st[1].State != upstream.Up || st[0].Requests+st[1].Requests != 0 {
		t.Errorf("got %+v, want the first ejected, the second up", st)
	}
	if s := u.Stats(); s.Retries != 2 {
		t.Errorf("got %d retries, want 2", s.Retries)
	}
}

// TestNoPlace: the answer of a full upstream.
func TestNoPlace(t *testing.T) {
	hold := make(chan bool)
	asked := make(chan bool, 1)
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- true; <-hold }))
	defer s.Close()
	c := at(s.Listener.Addr().String())
	c.Limits.MaxRequests = 1
	var codes []string
	h := New(Config{Upstream: started(t, c), Forwarded: &forwarded.Policy{}}, func(_ *http.Request, code string, _ error) { codes = append(codes, code) })
	defer h.Close()
	done := make(chan bool)
	go func() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		close(done)
	}()
	<-asked
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != 503 || w.Body.String() != "503 service unavailable: upstream-full\n" || w.Header().Get("Retry-After") == "" || len(codes) != 1 || codes[0] != "upstream-full" {
		t.Errorf("got %d %q %v, codes %q; want 503 upstream-full with Retry-After", w.Code, w.Body, w.Header(), codes)
	}
	close(hold)
	<-done
}
