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

func get(c Config, codes *[]string, edit func(*http.Request)) *httptest.ResponseRecorder {
	if c.Network == "" {
		c.Network = "tcp"
	}
	if c.Forwarded == nil {
		c.Forwarded = &forwarded.Policy{Pseudonym: "gw-1"}
	}
	h := New(c, func(_ *http.Request, code string, _ error) { *codes = append(*codes, code) })
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
		w := get(Config{Address: addr}, &codes, func(r *http.Request) {
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
	get(Config{Address: addr}, &codes, func(r *http.Request) {
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
	get(Config{Address: addr, HostHeader: "app.internal"}, &codes, nil)
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
		w := get(Config{Address: addr}, &codes, c.edit)
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
	for _, c := range []struct {
		name   string
		config Config
		status int
		code   string
	}{
		{"refused", Config{Address: dead}, 502, "connect-failed"},
		{"unknown name", Config{Address: "no-such-name.invalid:80"}, 502, "dns-failed"},
		{"unasked 101 (row 88)", Config{Address: switching}, 502, "bad-answer"},
		{"garbage", Config{Address: garbage}, 502, "bad-answer"},
		{"two lengths (row 194)", Config{Address: both}, 502, "bad-answer"},
		{"mute", Config{Address: mute.Addr().String(), ResponseTimeout: 20 * time.Millisecond}, 504, "response-timeout"},
	} {
		var codes []string
		w := get(c.config, &codes, nil)
		if w.Code != c.status || len(codes) != 1 || codes[0] != c.code || !strings.Contains(w.Body.String(), c.code) {
			t.Errorf("%s: got %d %q, codes %q; want %d %s", c.name, w.Code, w.Body, codes, c.status, c.code)
		}
	}
}
