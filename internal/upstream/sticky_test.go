package upstream

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/loop"
)

var secret = []byte("0123456789abcdef")

func sticky(c Cookie) Balance {
	c.Secret = secret
	return Balance{Policy: Sticky, Cookie: c}
}

// pair is the name and value of a Set-Cookie, "" for none.
func pair(h http.Header) string {
	p, _, _ := strings.Cut(h.Get("Set-Cookie"), ";")
	return p
}

// TestStickyOnTheWire: the 101 sets the cookie; with it a client comes to its
// server and gets none; when the server is down the client goes elsewhere and
// gets another; when it is back the first cookie is good again.
func TestStickyOnTheWire(t *testing.T) {
	a, b, c := serve(t, "127.0.0.2"), serve(t, "127.0.0.3"), serve(t, "127.0.0.4")
	config := Config{Servers: servers(a, b, c), Balance: sticky(Cookie{}), Passive: Passive{Failures: 1, BaseTime: 50 * time.Millisecond}}
	r := newRig(t, config)
	first := r.open()
	cookie := pair(first.head)
	if got := first.head.Get("Set-Cookie"); got != cookie+"; Path=/; HttpOnly; SameSite=Lax" || len(cookie) != len("wsgate=")+43 {
		t.Fatalf("cookie: got %q, want one of 43 octets with Path, HttpOnly, SameSite", got)
	}
	if strings.Contains(cookie, "127") {
		t.Errorf("cookie: got %q, want no address in it", cookie)
	}
	for range 5 {
		if x := r.open("Cookie", "a=b; "+cookie); x.server != first.server || pair(x.head) != "" {
			t.Errorf("with the cookie: got %s, cookie %q, want %s and none", x.server, pair(x.head), first.server)
		}
	}
	// Another process with the same key understands it.
	other := newRig(t, config)
	if x := other.open("Cookie", cookie); x.server != first.server || pair(x.head) != "" {
		t.Errorf("at a replica: got %s, cookie %q, want %s and none", x.server, pair(x.head), first.server)
	}
	// One with another key does not.
	config.Balance.Cookie.Secret = []byte("another secret...")
	foreign := newRig(t, config)
	if x := foreign.open("Cookie", cookie); pair(x.head) == "" || pair(x.head) == cookie {
		t.Errorf("with another key: got cookie %q, want another", pair(x.head))
	}

	var home *backend
	for _, s := range []*backend{a, b, c} {
		if s.addr == first.server {
			home = s
		}
	}
	home.ln.Close()
	x := r.open("Cookie", cookie)
	if x.server == first.server || pair(x.head) == "" || pair(x.head) == cookie {
		t.Errorf("server down: got %s, cookie %q, want another server and cookie", x.server, pair(x.head))
	}
	if y := r.open("Cookie", pair(x.head)); y.server != x.server {
		t.Errorf("with the other cookie: got %s, want %s", y.server, x.server)
	}
	r.event("app " + first.server + " ejected")
	home.again(t)
	until(t, "return of the server", func() bool {
		x := r.open("Cookie", cookie)
		return x.server == first.server && pair(x.head) == ""
	})
}

// TestStickyFields: over HTTP/2 and HTTP/3 the cookie is among the fields of the
// answer; over https it is Secure.
func TestStickyFields(t *testing.T) {
	a := serve(t, "127.0.0.2")
	for _, x := range []struct {
		cookie Cookie
		scheme string
		want   string // behind the value
	}{
		{Cookie{}, "https", "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{Cookie{}, "http", "; Path=/; HttpOnly; SameSite=Lax"},
		{Cookie{Secure: SecureAlways}, "http", "; Path=/; HttpOnly; Secure; SameSite=Lax"},
		{Cookie{Secure: SecureNever}, "https", "; Path=/; HttpOnly; SameSite=Lax"},
		{Cookie{Name: "s", SameSite: http.SameSiteNoneMode, Secure: SecureNever}, "http", "; Path=/; HttpOnly; Secure; SameSite=None"},
		{Cookie{Name: "s", Path: "/ws", Domain: "example.com", SameSite: http.SameSiteStrictMode, MaxAge: time.Hour}, "https", "; Path=/ws; Domain=example.com; Max-Age=3600; HttpOnly; Secure; SameSite=Strict"},
	} {
		r := newRig(t, Config{Servers: servers(a), Balance: sticky(x.cookie)})
		h := &bridge.Handshake{Major: 2, Scheme: x.scheme, Authority: "example.com", Path: "/"}
		side, f, err := r.direct(h)
		if err != nil {
			t.Fatal(err)
		}
		name, rest, _ := strings.Cut(f.Get("Set-Cookie"), "=")
		wantName := x.cookie.Name
		if wantName == "" {
			wantName = "wsgate"
		}
		if name != wantName || len(rest) < 43 || rest[43:] != x.want {
			t.Errorf("%+v, %s: got %q, want %s=...%s", x.cookie, x.scheme, f.Get("Set-Cookie"), wantName, x.want)
		}
		if h.Server == nil || h.Server.String() != a.addr {
			t.Errorf("server of the handshake: got %v, want %s", h.Server, a.addr)
		}
		r.loop.Post(func() { side.Reset(bridge.ReasonComplete); h.Server.Release() })
	}
}

// direct opens a tunnel without a front.
func (r *rig) direct(h *bridge.Handshake) (side bridge.Side, f bridge.Fields, err error) {
	done := make(chan bool)
	r.loop.Post(func() {
		r.up.Load().Open(r.loop, h, func(s bridge.Side, fields bridge.Fields, e error) {
			side, f, err = s, fields, e
			if c, ok := s.(*loop.Conn); ok {
				c.Bind(quiet{})
			}
			close(done)
		})
	})
	<-done
	return side, f, err
}

// quiet takes what comes and says nothing.
type quiet struct{}

func (quiet) Want() int                 { return 1 << 10 }
func (quiet) Data(p []byte) int         { return len(p) }
func (quiet) End()                      {}
func (quiet) Broken(*bridge.ResetError) {}
func (quiet) Writable()                 {}

// TestTags: a tag is of its upstream, its server and its key alone.
func TestTags(t *testing.T) {
	k := Cookie{Secret: secret}
	all := map[string]bool{
		k.tag("app", "a"): true, k.tag("app", "b"): true, k.tag("ap", "pa"): true, k.tag("appa", ""): true,
		(&Cookie{Secret: []byte("0123456789abcdeg")}).tag("app", "a"): true,
	}
	if len(all) != 5 {
		t.Errorf("got %d different tags, want 5", len(all))
	}
	if got, want := k.tag("app", "a"), "OlKYEMz-TaSlq4svLPIWx8voNkiQH_FOFmKDBhFqiaQ"; got != want {
		t.Errorf("tag: got %q, want %q, as every version makes it", got, want)
	}
}
