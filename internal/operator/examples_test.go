package operator

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// example reads a file of deploy/examples with other addresses and files. What
// is to be replaced has to be there.
func example(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	p, err := os.ReadFile(filepath.Join("../../deploy/examples", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(p)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s: got no %q, want one to replace", name, pairs[i])
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// TestExamples: all files of deploy/examples are run by a test of this file.
func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile("examples_test.go")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 5 {
		t.Errorf("examples: got %d, want 5", len(files))
	}
	for _, f := range files {
		if name := filepath.Base(f); !strings.Contains(string(src), `"`+name+`"`) {
			t.Errorf("no test runs %s", name)
		}
	}
}

func TestExampleChat(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("chat.example.com", "chat.example.com")
	s := serve(t, "chat", "127.0.0.2")
	r := run(t, example(t, "chat.yaml", ":443", "127.0.0.1:0", "/etc/wsgate", ca.dir, "ws://127.0.0.1:3000", "ws://"+s.addr, "127.0.0.1:9901", "127.0.0.1:0"))
	c := r.open(ask{secure: true, host: "chat.example.com", path: "/socket"})
	c.echo("hello")
	if _, body := r.get(ask{secure: true, host: "chat.example.com", path: "/index.html"}); body != "chat" {
		t.Errorf("a page: got %q", body)
	}
	if a, _ := r.get(ask{secure: true, host: "other.example.com", path: "/", name: "chat.example.com"}); a.StatusCode != 421 {
		t.Errorf("another host: got %d, want 421", a.StatusCode)
	}
	if r.admin("/ready") != 200 {
		t.Error("not ready")
	}
	eventually(t, "a health check by a handshake", func() bool { return s.opened.Load() > 1 })
}

func TestExampleHosts(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("shop.example.com", "shop.example.com")
	ca.issue("wildcard.games.example", "*.games.example")
	shop, games, lobby := serve(t, "shop", "127.0.0.2"), serve(t, "games", "127.0.0.3"), serve(t, "lobby", "127.0.0.4")
	r := run(t, example(t, "hosts.yaml", ":443", "127.0.0.1:0", "/etc/wsgate", ca.dir,
		"127.0.0.1:3001", shop.addr, "127.0.0.1:3002", games.addr, "127.0.0.1:3003", lobby.addr))
	for host, want := range map[string]string{"shop.example.com": "shop.example.com", "eu.games.example": "wildcard.games.example", "": "shop.example.com"} {
		if got := r.shown(0, host).Subject.CommonName; got != want {
			t.Errorf("certificate for %q: got %q, want %q", host, got, want)
		}
	}
	for _, c := range []struct{ host, path, want string }{
		{"shop.example.com", "/", "shop"},
		{"us.games.example", "/rooms/7/lobby", "games"},
		{"eu.games.example", "/rooms/7/lobby", "lobby"},
		{"eu.games.example", "/rooms/7", "games"},
	} {
		if got := r.open(ask{secure: true, host: c.host, path: c.path}).server; got != c.want {
			t.Errorf("%s%s: got %q, want %q", c.host, c.path, got, c.want)
		}
	}
	if a, body := r.get(ask{secure: true, host: "eu.games.example", path: "/admin/x"}); a.StatusCode != 403 || body != "not from outside\n" {
		t.Errorf("the admin part: got %d %q", a.StatusCode, body)
	}
}

func TestExampleRedirect(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("example.com", "example.com")
	app, challenges := serve(t, "app", "127.0.0.2"), serve(t, "challenges", "127.0.0.3")
	r := run(t, example(t, "redirect.yaml", ":80\"", "127.0.0.1:0\"", ":443", "127.0.0.1:0", "/etc/wsgate", ca.dir,
		"127.0.0.1:3000", app.addr, "127.0.0.1:8402", challenges.addr))
	if a, _ := r.get(ask{host: "example.com", path: "/a?b=c"}); a.StatusCode != 308 || a.Header.Get("Location") != "https://example.com/a?b=c" {
		t.Errorf("got %d %q", a.StatusCode, a.Header.Get("Location"))
	}
	if _, a := r.dial(ask{host: "example.com", path: "/chat"}); a.StatusCode != 308 || a.Header.Get("Location") != "https://example.com/chat" {
		t.Errorf("a socket: got %d %q", a.StatusCode, a.Header.Get("Location"))
	}
	if _, body := r.get(ask{host: "example.com", path: "/.well-known/acme-challenge/x"}); body != "challenges" {
		t.Errorf("a challenge: got %q", body)
	}
	if got := r.open(ask{listener: 1, secure: true, host: "example.com", path: "/chat"}).server; got != "app" {
		t.Errorf("over https: got %q", got)
	}
}

// serveTLS is a server behind TLS that asks for certificates of ca.
func serveTLS(t *testing.T, ca *authority, name, host, cert string) *server {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(ca.file(cert, "pem"), ca.file(cert, "key"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	ln, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{name: name, addr: ln.Addr().String(), asked: make(chan *http.Request, 100), closes: make(chan int, 100)}
	one := new(http.Protocols)
	one.SetHTTP1(true)
	s.http = &http.Server{Handler: s, Protocols: one, TLSConfig: &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}}
	go s.http.ServeTLS(ln, "", "")
	t.Cleanup(func() { s.http.Close() })
	return s
}

func TestExampleWSS(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("example.com", "example.com")
	ca.issue("inner", "inner.example.net")
	ca.issue("gateway")
	if err := os.Rename(ca.file("ca", "pem"), ca.file("inner-ca", "pem")); err != nil {
		t.Fatal(err)
	}
	one, two := serveTLS(t, ca, "one", "127.0.0.2", "inner"), serveTLS(t, ca, "two", "127.0.0.3", "inner")
	r := run(t, example(t, "wss-backend.yaml", ":443", "127.0.0.1:0", "/etc/wsgate", ca.dir, "10.0.0.11:8443", one.addr, "10.0.0.12:8443", two.addr))
	seen := map[string]bool{}
	for range 4 {
		seen[r.open(ask{secure: true, host: "example.com", path: "/"}).server] = true
	}
	if !seen["one"] || !seen["two"] {
		t.Errorf("servers: got %v, want both", seen)
	}
	q := <-one.asked
	if q.TLS.PeerCertificates[0].Subject.CommonName != "gateway" || q.Host != "example.com" {
		t.Errorf("at the server: got certificate %q, Host %q", q.TLS.PeerCertificates[0].Subject.CommonName, q.Host)
	}
	two.http.Close() // the other one, while nothing was sent
	for range 4 {
		if got := r.open(ask{secure: true, host: "example.com", path: "/"}).server; got != "one" {
			t.Errorf("with one server down: got %q", got)
		}
	}
}

func TestExampleSticky(t *testing.T) {
	t.Setenv("WSGATE_STICKY_SECRET", "hunter2-hunter2-hunter2")
	ca := newAuthority(t)
	ca.issue("example.com", "example.com")
	one, two, three := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3"), serve(t, "three", "127.0.0.4")
	file := example(t, "sticky.yaml", ":443", "127.0.0.1:0", "/etc/wsgate", ca.dir,
		"10.0.0.21:3000", one.addr, "10.0.0.22:3000", two.addr, "10.0.0.23:3000", three.addr, "[10.0.0.2, 10.0.0.3]", "[127.0.0.100, 127.0.0.101]", "slow_start: 1m", "slow_start: 0")
	r, replica := run(t, file), run(t, file)
	cookies := map[string]string{}
	for range 12 {
		c := r.open(ask{secure: true, host: "example.com", path: "/"})
		line := c.answer.Header.Get("Set-Cookie") // of the 101 itself
		for _, want := range []string{"app-server=", "HttpOnly", "Secure", "SameSite=Lax", "Max-Age=86400", "Path=/"} {
			if !strings.Contains(line, want) {
				t.Fatalf("cookie on the 101: got %q, want %q in it", line, want)
			}
		}
		value, _, _ := strings.Cut(line, ";")
		if was := cookies[c.server]; was != "" && was != value {
			t.Errorf("cookie of %s: got %q, then %q", c.server, was, value)
		}
		cookies[c.server] = value
	}
	if len(cookies) != 3 {
		t.Fatalf("servers: got %v, want three", cookies)
	}
	for name, value := range cookies {
		for _, g := range []*rig{r, replica} {
			a := ask{secure: true, host: "example.com", path: "/", fields: http.Header{"Cookie": {value}}}
			c := g.open(a)
			if c.server != name || c.answer.Header.Get("Set-Cookie") != "" {
				t.Errorf("with the cookie of %s: got server %s, Set-Cookie %q", name, c.server, c.answer.Header.Get("Set-Cookie"))
			}
			if _, body := g.get(a); body != name {
				t.Errorf("a request with the cookie of %s: got %s", name, body)
			}
		}
	}
	if got := (<-one.asked).RemoteAddr; !strings.HasPrefix(got, "127.0.0.10") {
		t.Errorf("source address: got %s, want one of the file", got)
	}
	two.http.Close()
	eventually(t, "another server instead of one that is down", func() bool {
		c, _ := r.dial(ask{secure: true, host: "example.com", path: "/", fields: http.Header{"Cookie": {cookies["two"]}}})
		return c != nil && c.server != "two" && c.answer.Header.Get("Set-Cookie") != ""
	})
	if strings.Contains(r.log.String(), "hunter2") || strings.Contains(r.log.String(), cookies["one"]) {
		t.Error("a secret or a cookie is in the log")
	}
}
