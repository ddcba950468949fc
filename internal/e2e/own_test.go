package e2e

import (
	"strings"
	"testing"

	"wsgate/internal/rawpeer"
)

// TestOwnLine: what the gateway answers itself is the same plain line on both
// fronts.
func TestOwnLine(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		for _, x := range []struct {
			path   string
			fields rawpeer.Fields
			status string
			body   string
		}{
			{"/a/../b", nil, "400", "400 bad request: path-dots\n"},
			{"/a/%2e%2E", nil, "400", "400 bad request: path-dots\n"},
			{"/é", nil, "400", "400 bad request: bad-target\n"},
			{"/", f("Via", "1.1 "+r.pseudonym(front)), "502", "502 bad gateway: loop\n"},
		} {
			got := r.ask(front, "GET", x.path, x.fields, nil).answer()
			if got.status != x.status || got.body != x.body || got.head.Get("Content-Type") != "text/plain; charset=utf-8" ||
				got.head.Get("Cache-Control") != "no-store" || got.head.Get("Date") == "" {
				t.Errorf("%s %s: got %s %q %q, want %s %q", front, x.path, got.status, got.head, got.body, x.status, x.body)
			}
		}
		// RFC 9110 section 9.3.2: the same without content.
		got := r.ask(front, "HEAD", "/a/../b", nil, nil).answer()
		if got.status != "400" || got.body != "" || got.head.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: HEAD: got %s %q %q, want 400, no content and no-store", front, got.status, got.head, got.body)
		}
		r.must(r.be.WantNone())
	})
}

// pseudonym is the gateway's name in Via.
func (r *rig) pseudonym(front string) string {
	r.t.Helper()
	a := r.ask(front, "GET", "/", nil, nil)
	b := r.next()
	h, err := b.ReadHead()
	r.must(err)
	r.must(b.Write(simple("ok")))
	a.want("a request", 200, "ok")
	b.Close()
	_, name, _ := strings.Cut(h.Fields.Get("Via"), " ")
	return name
}

// TestTargetOctets: an ordinary request's target reaches the backend octet by
// octet, whether net/url takes it for a URL or not (row 48).
func TestTargetOctets(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		for _, target := range []string{
			"/a%zz?x=%zz", `/a"b|c`, `/a\b{}^<>` + "`", "/%", "/a?b?c;d&%", "/?", "/a:b//c", "//host/x", `//host"|%zz/x?y=%zz`, "///",
		} {
			a := r.ask(front, "GET", target, nil, nil)
			b := r.next()
			h, err := b.ReadHead()
			r.must(err)
			if want := "GET " + target + " HTTP/1.1"; h.Line != want {
				t.Errorf("%s: got %q at the backend, want %q", front, h.Line, want)
			}
			r.must(b.Write(simple("ok")))
			a.want(target, 200, "ok")
			b.Close()
		}
	})
}
