// Package forwarded tells backends whom the gateway speaks for:
// X-Forwarded-For, -Host and -Proto, and Via (RFC 9110 section 7.6.3). What an
// untrusted peer says in these fields is replaced, what a trusted proxy says is
// believed and added to.
package forwarded

import (
	"net/netip"
	"strconv"
	"strings"

	"wsgate/bridge"
)

// Policy is how the fields are made. It is never changed after use and may be
// used from any goroutine.
type Policy struct {
	// Trusted are the addresses of proxies in front of this gateway.
	Trusted []netip.Prefix
	// Pseudonym names this gateway in Via. It has to differ between gateways,
	// since a request that carries it has come back: a loop. "" means no Via.
	Pseudonym string
}

// Origin is what the fields say of one request.
type Origin struct {
	Major  int // HTTP version it came with
	Remote netip.Addr
	Scheme string // of the transport
	Host   string // as the client sent it
}

// Trusts reports whether the peer's own words are believed.
func (p *Policy) Trusts(a netip.Addr) bool {
	a = a.Unmap()
	for _, t := range p.Trusted {
		if t.Contains(a) {
			return true
		}
	}
	return false
}

// replaced are the fields that Apply makes anew.
var replaced = [...]string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// Apply takes the client's own fields out and adds the gateway's. get returns
// the client's values joined by ", ", set replaces a field, drop removes one,
// add appends a line.
func (p *Policy) Apply(o Origin, get func(string) string, set func(name, value string), drop func(string), add func(name, value string)) {
	values := [...]string{o.Remote.Unmap().String(), o.Host, o.Scheme}
	if !o.Remote.IsValid() {
		values[0] = "unknown" // a unix socket; RFC 7239 section 6.2 has the word
	}
	if p.Trusts(o.Remote) {
		if was := get(replaced[0]); was != "" {
			values[0] = was + ", " + values[0]
		}
		for i := 1; i < len(replaced); i++ {
			if was := get(replaced[i]); was != "" {
				values[i] = was
			}
		}
	} else {
		drop("Forwarded") // RFC 7239 says the same in other words
	}
	for i, name := range replaced {
		set(name, values[i])
	}
	if p.Pseudonym != "" {
		add("Via", via(o.Major)+" "+p.Pseudonym)
	}
}

// via is the received-protocol of a Via element.
func via(major int) string {
	if major == 1 {
		return "1.1"
	}
	return strconv.Itoa(major)
}

// Loops reports whether the gateway's own pseudonym stands in Via lines.
func (p *Policy) Loops(lines []string) bool {
	if p.Pseudonym == "" {
		return false
	}
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			if f := strings.Fields(item); len(f) >= 2 && f[1] == p.Pseudonym {
				return true
			}
		}
	}
	return false
}

// Backend applies a Policy to handshakes on their way to the next Backend.
type Backend struct {
	Policy *Policy
	Next   bridge.Backend
}

// Open implements bridge.Backend.
func (b *Backend) Open(l bridge.Loop, h *bridge.Handshake, done func(bridge.Side, bridge.Fields, error)) func() {
	if b.Policy.Loops(h.Fields.Values("Via")) {
		off := false
		l.Post(func() {
			if !off {
				done(nil, nil, &bridge.Refusal{Status: 502, Code: "loop"})
			}
		})
		return func() { off = true }
	}
	o := Origin{Major: h.Major, Scheme: h.Scheme, Host: h.Authority}
	if h.Client != nil {
		o.Remote = h.Client.Remote.Addr()
	}
	b.Policy.Apply(o,
		func(name string) string { return strings.Join(h.Fields.Values(name), ", ") },
		func(name, value string) {
			h.Fields = append(h.Fields.Without(name), bridge.Field{Name: name, Value: value})
		},
		func(name string) { h.Fields = h.Fields.Without(name) },
		func(name, value string) { h.Fields = append(h.Fields, bridge.Field{Name: name, Value: value}) })
	return b.Next.Open(l, h, done)
}
