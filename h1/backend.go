package h1

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wsgate/bridge"
	"wsgate/internal/loop"
)

// Defaults of Backend.
const (
	defaultConnectTimeout = 3 * time.Second
	defaultTLSTimeout     = 5 * time.Second
	defaultOpenTimeout    = 10 * time.Second
	defaultKeepAlive      = 30 * time.Second
	defaultMaxHead        = 64 << 10
	defaultMaxFields      = 200
	defaultResolveTTL     = 5 * time.Second
	maxInterim            = 16 // 1xx answers before the final one
)

// Backend opens the far half of tunnels at one HTTP/1.1 server: a dedicated
// connection for each, the opening handshake of RFC 6455 with a fresh key, and
// the judgement of its answer. The zero value of an option is its default.
//
// A Backend is not changed once it is in use, and not copied; any number of
// loops may use it at once.
type Backend struct {
	// Network is "tcp", the default, or "unix".
	Network string
	// Address is host:port, the host a name or an IP address, or the path of
	// a unix socket.
	Address string
	// TLS makes the connection a TLS one. ALPN is always "http/1.1"; an empty
	// ServerName is filled in from Address.
	TLS *tls.Config
	// Sources are the addresses that TCP connections are made from, in turn; when
	// one has no port left towards the server, the next. Those of the server's
	// address family count; with none of it the kernel chooses.
	Sources []netip.Addr
	// Slots bound the processor share of TLS handshakes; may be nil.
	Slots *loop.Slots

	// ConnectTimeout bounds one connection attempt at one address. Default 3 s.
	ConnectTimeout time.Duration
	// TLSTimeout bounds the TLS handshake. Default 5 s.
	TLSTimeout time.Duration
	// OpenTimeout bounds all of it, from Open to the answer's head. Default 10 s.
	OpenTimeout time.Duration
	// KeepAlive is the interval of TCP keep-alive probes. Default 30 s; negative:
	// none.
	KeepAlive time.Duration
	// MaxHead bounds the head of an answer in octets. Default 64 KiB.
	MaxHead int
	// MaxFields bounds the field lines of an answer. Default 200.
	MaxFields int

	// HostHeader replaces the client's authority in Host; "" keeps it.
	HostHeader string
	// Decorate may append to the fields that are sent, or replace them. It is
	// called on the loop, with fields that are its own to change. What belongs
	// to the backend connection (Host, Connection, Upgrade, the key, the
	// version, framing) is made by the Backend whatever it returns.
	Decorate func(h *bridge.Handshake, out bridge.Fields) bridge.Fields

	// Resolver looks names up; nil means net.DefaultResolver.
	Resolver *net.Resolver
	// ResolveTTL is how long the addresses of a name are kept. Default 5 s.
	ResolveTTL time.Duration

	tlsOnce sync.Once
	tlsConf *tls.Config

	turn    atomic.Uint32 // of Sources
	names   atomic.Pointer[addresses]
	lookups lookups
}

var _ bridge.Backend = (*Backend)(nil)

// Open implements bridge.Backend. l must be a *loop.Loop.
func (b *Backend) Open(l bridge.Loop, h *bridge.Handshake, done func(bridge.Side, bridge.Fields, error)) (cancel func()) {
	a := &attempt{b: b, l: l, h: h, done: done}
	a.scan = scanner{maxHead: orDefault(b.MaxHead, defaultMaxHead), answer: true}
	a.timer.Fire = a.expired
	l.After(orDefault(b.OpenTimeout, defaultOpenTimeout), &a.timer)
	a.start()
	return a.cancel
}

func orDefault[T int | time.Duration](v, def T) T {
	if v > 0 {
		return v
	}
	return def
}

// keepAlive is as package loop wants it: negative for none.
func (b *Backend) keepAlive() time.Duration {
	if b.KeepAlive == 0 {
		return defaultKeepAlive
	}
	return b.KeepAlive
}

// target is where one connection attempt goes.
type target struct {
	network string // "tcp" or "unix"
	addr    netip.AddrPort
	path    string
}

// tlsConfig is the configuration of all handshakes of this backend: ALPN is
// pinned (RFC 9112 section 9.7, nothing but HTTP/1.1 is spoken here).
func (b *Backend) tlsConfig() *tls.Config {
	b.tlsOnce.Do(func() {
		c := b.TLS.Clone()
		c.NextProtos = []string{"http/1.1"}
		if c.ServerName == "" {
			c.ServerName = b.Address
			if host, _, err := net.SplitHostPort(b.Address); err == nil {
				c.ServerName = host
			}
		}
		// One write per flush: the loop sends what the codec made at once.
		c.DynamicRecordSizingDisabled = true
		b.tlsConf = c
	})
	return b.tlsConf
}
