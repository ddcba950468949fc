// Package forwarded tells backends whom the gateway speaks for:
// X-Forwarded-For, -Host and -Proto, and Via (RFC 9110 section 7.6.3). What an
// untrusted peer says in these fields is replaced, what a trusted proxy says is
// believed and added to.
package forwarded

import (
	"net/netip"
	"slices"
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
	Scheme string // of the transport, or what a trusted proxy says it was
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

// Fields are the fields of a request on its way out, of whatever kind. Get
// returns the client's values of a name joined by ", ".
type Fields interface {
	Get(name string) string
	Set(name, value string)
	Del(name string)
	Add(name, value string)
}

// Apply takes the client's own fields out and adds the gateway's.
func (p *Policy) Apply(o Origin, f Fields) {
	values := [...]string{o.Remote.Unmap().String(), o.Host, o.Scheme}
	if !o.Remote.IsValid() {
		values[0] = "unknown" // a unix socket; RFC 7239 section 6.2 has the word
	}
	if p.Trusts(o.Remote) {
		if was := f.Get(replaced[0]); was != "" {
			values[0] = was + ", " + values[0]
		}
		for i := 1; i < len(replaced); i++ {
			if was := f.Get(replaced[i]); was != "" {
				values[i] = was
			}
		}
	} else {
		f.Del("Forwarded") // RFC 7239 says the same in other words
	}
	for i, name := range replaced {
		f.Set(name, values[i])
	}
	if p.Pseudonym != "" {
		f.Add("Via", via(o.Major)+" "+p.Pseudonym)
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
	b.Policy.Apply(o, (*fields)(&h.Fields))
	return b.Next.Open(l, h, done)
}

// fields are those of a handshake.
type fields bridge.Fields

func (f *fields) Get(name string) string {
	v := bridge.Fields(*f).Values(name)
	return strings.Join(v, ", ")
}
func (f *fields) Del(name string) { *f = fields(bridge.Fields(*f).Without(name)) }

func (f *fields) Set(name, value string) {
	f.Del(name)
	f.Add(name, value)
}

func (f *fields) Add(name, value string) {
	if len(*f) == cap(*f) {
		*f = slices.Grow(*f, len(replaced)+1) // all that Apply adds
	}
	*f = append(*f, bridge.Field{Name: name, Value: value})
}
