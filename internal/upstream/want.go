package upstream

import (
	"net/http"
	"net/netip"
	"strings"

	"wsgate/bridge"
)

// kind is what a place is for.
type kind uint8

const (
	tunnel  kind = iota // an opening handshake, then a tunnel
	request             // an ordinary request
)

// want is what decides where a client goes.
type want struct {
	kind  kind
	keyed bool
	key   uint64    // hashed, if keyed
	tag   string    // of the sticky cookie
	tried []*server // not again
}

// ofHandshake reads what the policy looks at.
func (u *Upstream) ofHandshake(h *bridge.Handshake) (w want) {
	b := &u.config.Balance
	switch b.Policy {
	case Sticky:
		w.tag = cookieOf(h.Fields, b.Cookie.Name)
	case Hash:
		switch b.Key {
		case HashClient:
			if h.Client != nil {
				w.setAddr(u.client(h.Client.Remote.Addr(), func() []string { return h.Fields.Values("X-Forwarded-For") }))
			}
		case HashHeader:
			if strings.EqualFold(b.Name, "Host") { // no field of its own here
				w.add(h.Authority)
			}
			for i := range h.Fields {
				if strings.EqualFold(h.Fields[i].Name, b.Name) {
					w.add(h.Fields[i].Value)
				}
			}
		case HashCookie:
			w.add(cookieOf(h.Fields, b.Name))
		case HashPath:
			path, _, _ := strings.Cut(h.Path, "?")
			w.add(path)
		}
	}
	return w
}

// ofRequest is the same for an ordinary request.
func (u *Upstream) ofRequest(r *http.Request) (w want) {
	w.kind = request
	b := &u.config.Balance
	switch b.Policy {
	case Sticky:
		w.tag = cookieIn(r.Header["Cookie"], b.Cookie.Name)
	case Hash:
		switch b.Key {
		case HashClient:
			if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
				w.setAddr(u.client(a.Addr(), func() []string { return r.Header["X-Forwarded-For"] }))
			}
		case HashHeader:
			if strings.EqualFold(b.Name, "Host") {
				w.add(r.Host)
			}
			for _, v := range r.Header.Values(b.Name) {
				w.add(v)
			}
		case HashCookie:
			w.add(cookieIn(r.Header["Cookie"], b.Name))
		case HashPath:
			path, _, _ := strings.Cut(r.RequestURI, "?")
			w.add(path)
		}
	}
	return w
}

func cookieOf(f bridge.Fields, name string) string {
	for i := range f {
		if strings.EqualFold(f[i].Name, "Cookie") {
			if v, ok := cookieValue(f[i].Value, name); ok {
				return v
			}
		}
	}
	return ""
}

func cookieIn(lines []string, name string) string {
	for _, line := range lines {
		if v, ok := cookieValue(line, name); ok {
			return v
		}
	}
	return ""
}

// client is the address that a client is known by: the peer's, or behind
// trusted proxies the last one in X-Forwarded-For that is none of them.
func (u *Upstream) client(peer netip.Addr, lines func() []string) netip.Addr {
	if u.env.Trusts == nil || !u.env.Trusts(peer) {
		return peer
	}
	all := strings.Split(strings.Join(lines(), ","), ",")
	for i := len(all) - 1; i >= 0; i-- {
		a, err := netip.ParseAddr(strings.TrimSpace(all[i]))
		if err != nil {
			break
		}
		if peer = a; !u.env.Trusts(a) {
			break
		}
	}
	return peer
}

// add takes another part of the key; an empty one is none.
func (w *want) add(s string) {
	if s == "" {
		return
	}
	if !w.keyed {
		w.keyed, w.key = true, hashSeed
	}
	w.key = hashString(w.key, s)
}

// setAddr takes an address for the key: one user of IPv6 has a /64.
func (w *want) setAddr(a netip.Addr) {
	a = a.Unmap()
	if !a.IsValid() {
		return
	}
	b := a.As16()
	n := 16
	if a.Is6() {
		n = 8
	}
	w.keyed, w.key = true, hashBytes(hashSeed, b[:n])
}
