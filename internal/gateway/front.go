package gateway

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"wsgate/bridge"
	"wsgate/h1"
	"wsgate/h2"
	"wsgate/h3"
	"wsgate/internal/config"
	"wsgate/internal/exchange"
	"wsgate/internal/route"
)

// off stands for "never" where a wire package takes 0 for its default.
const off = 10 * 365 * 24 * time.Hour

func orOff(d config.Duration) time.Duration {
	if d <= 0 {
		return off
	}
	return d.Of()
}

func orMany(n int) int {
	if n <= 0 {
		return 1 << 30
	}
	return n
}

// keepAlive turns 0, off, into what the socket layer takes for off.
func keepAlive(d config.Duration) time.Duration {
	if d <= 0 {
		return -1
	}
	return d.Of()
}

// front is what a listener does with connections: the HTTP servers and TLS of
// one configuration. It never changes; a reload that touches its options makes
// another one, and connections stay with theirs.
type front struct {
	name  string
	wire  wire
	h1    *h1.Server // nil if the listener does not speak it
	h2    *h2.Server
	h3    *h3.Server
	tls   *tls.Config // nil: cleartext
	shown *shown
	alt   string // Alt-Svc of answers of HTTP/1.1 and HTTP/2; "" for none
}

// wire are the options that make a front what it is.
type wire struct {
	protocols []string
	quic      config.QUIC
	limits    config.Limits
	timeouts  config.Timeouts
	requests  config.Requests
	tls       *config.ListenerTLS
}

func wireOf(c *config.Config, l *config.Listener) wire {
	w := wire{protocols: l.Protocols, quic: l.QUIC, limits: c.Limits, timeouts: c.Timeouts, requests: c.Requests, tls: l.TLS}
	// Those are no matter of connections.
	w.limits.Tunnels, w.limits.TunnelsPerClient, w.limits.Pending, w.limits.TLSHandshakes = 0, 0, 0, 0
	t := &w.timeouts
	t.Idle, t.ClientIdle, t.BackendIdle, t.MaxLife, t.Linger, t.Ping = 0, 0, 0, 0, 0, 0
	w.requests.Via, w.requests.MissingVersion = false, ""
	return w
}

// newFront makes the front of a listener; the servers are those of before if none
// of their options has changed.
func (g *Gateway) newFront(c *config.Config, l *config.Listener, certs certificates, on *listener) *front {
	w := wireOf(c, l)
	f := &front{name: l.Name, wire: w}
	before := on.front.Load()
	if before != nil && reflect.DeepEqual(before.wire, w) {
		f.h1, f.h2, f.h3, f.tls = before.h1, before.h2, before.h3, before.tls
	} else {
		g.servers(f, c, on)
	}
	if l.TLS == nil {
		return f
	}
	f.shown = newShown(c, certs, l.TLS.Certificates)
	if f.tls != nil {
		f.tls = f.tls.Clone()
	} else {
		f.tls = &tls.Config{
			MinVersion: tls.VersionTLS12,
			// Records keep one size, so that a loop's output is cut evenly.
			DynamicRecordSizingDisabled: true,
		}
		if l.TLS.MinVersion == "1.3" {
			f.tls.MinVersion = tls.VersionTLS13
		}
		if f.h2 != nil {
			f.tls.NextProtos = append(f.tls.NextProtos, "h2")
		}
		if f.h1 != nil {
			f.tls.NextProtos = append(f.tls.NextProtos, "http/1.1")
		}
	}
	f.tls.GetCertificate = f.shown.get
	if f.h3 != nil && l.AltSvc > 0 {
		f.alt = fmt.Sprintf("h3=\":%d\"; ma=%d", on.addr.Port(), int(l.AltSvc.Of().Seconds())) // RFC 7838 section 3
	}
	return f
}

// servers makes the HTTP servers of a front.
func (g *Gateway) servers(f *front, c *config.Config, on *listener) {
	requests := &exchange.Config{
		Handler: g.log.Requests(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serveHTTP(w, r, on) })),
		Server:  &http.Server{}, Context: g.context, StallTimeout: c.Timeouts.Stall.Of(),
		Panicked: func(r *http.Request, v any, stack []byte) {
			g.log.Error("handler panicked", slog.Any("value", v), slog.String("stack", string(stack)))
		},
	}
	var offer func(bridge.Offer)
	if c.Requests.WebSocket {
		offer = func(o bridge.Offer) { g.serveOffer(o, on) }
	}
	rejected := func(major int) func(*bridge.Client, int, string) {
		return func(cl *bridge.Client, status int, code string) { g.log.Rejected(cl, major, status, code) }
	}
	t, dots := &c.Timeouts, c.Requests.PathDots == "allow"
	if slices.Contains(f.wire.protocols, "h2") {
		var memory *h2.Memory
		if c.Limits.BufferMemory > 0 {
			memory = g.memoryOf(int64(c.Limits.BufferMemory))
		}
		f.h2 = &h2.Server{
			Offer: offer, Announce: func() bool { return g.routing.Load().announce(on.name(), 2) },
			Exchange: requests, MaxStreams: orMany(c.Limits.Streams), MaxTunnels: orMany(c.Limits.TunnelsPerConnection),
			MaxHeader: int(c.Limits.Header), HeaderTimeout: orOff(t.Header), IdleTimeout: orOff(t.IdleConnection),
			KeepAlive: orOff(t.Keepalive), StallTimeout: orOff(t.Stall), PathDots: dots,
			BufferMemory: memory, Counters: &g.h2c, Rejected: rejected(2),
			TrustScheme: func(cl *bridge.Client) bool { return g.routing.Load().policy.Trusts(cl.Remote.Addr()) },
		}
	}
	if slices.Contains(f.wire.protocols, "h3") {
		f.h3 = &h3.Server{
			Offer: offer, Announce: func() bool { return g.routing.Load().announce(on.name(), 3) },
			Exchange: requests, MaxStreams: orMany(c.Limits.Streams), MaxTunnels: orMany(c.Limits.TunnelsPerConnection),
			MaxHeader: int(c.Limits.Header), HeaderTimeout: orOff(t.Header), IdleTimeout: orOff(t.IdleConnection),
			KeepAlive: t.Keepalive.Of(), StallTimeout: orOff(t.Stall), PathDots: dots, RetryAbove: f.wire.quic.RetryAbove, Counters: &g.h3c, Rejected: rejected(3),
			Moved: func(_ *bridge.Client, from, to netip.AddrPort) {
				g.log.Info("client moved", slog.String("from", from.String()), slog.String("to", to.String()))
			},
		}
	}
	if slices.Contains(f.wire.protocols, "h1") {
		f.h1 = &h1.Server{
			Offer: offer, Exchange: requests, MaxHeader: int(c.Limits.Header), HeaderTimeout: orOff(t.Header),
			IdleTimeout: orOff(t.IdleConnection), PathDots: dots, SynthesizeKey: c.Requests.MissingKey == "synthesize",
			StallTimeout: orOff(t.Stall), Counters: &g.h1c, Rejected: rejected(1),
		}
		if f.h2 != nil {
			f.h1.H2 = f.h2.Serve
		}
	}
}

// memoryOf is the budget of octets that connections of one size share.
func (g *Gateway) memoryOf(n int64) *h2.Memory {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.memory == nil || g.memorySize != n {
		g.memory, g.memorySize = h2.NewMemory(n), n
	}
	return g.memory
}

// announce reports whether a route may take handshakes of an HTTP version on a
// listener: what no route can serve is not announced.
func (r *routing) announce(listener string, major int) bool {
	for i := range r.routes {
		if s := r.routes[i]; s.service != nil && route.CanServe(&s.config.Match, listener, major) {
			return true
		}
	}
	return false
}

// connections counts those of a front that are no tunnels.
func (f *front) connections() int {
	n := 0
	if f.h1 != nil {
		n += f.h1.Connections()
	}
	if f.h2 != nil {
		n += f.h2.Connections()
	}
	if f.h3 != nil {
		n += f.h3.Connections()
	}
	return n
}

func (f *front) drain(late bool) {
	if f.h2 != nil {
		if late {
			f.h2.DrainLate()
		} else {
			f.h2.Drain()
		}
	}
	if f.h3 != nil {
		if late {
			f.h3.DrainLate()
		} else {
			f.h3.Drain()
		}
	}
	if f.h1 != nil {
		f.h1.Drain()
	}
}

func (f *front) close() {
	if f.h1 != nil {
		f.h1.Close()
	}
	if f.h2 != nil {
		f.h2.Close()
	}
	if f.h3 != nil {
		f.h3.Close()
	}
}

// same reports whether two fronts are of the same servers.
func (f *front) same(o *front) bool { return f.h1 == o.h1 && f.h2 == o.h2 && f.h3 == o.h3 }

// versions says what a listener speaks, for the log.
func (f *front) versions() string {
	var v []string
	if f.h2 != nil {
		v = append(v, "h2")
	}
	if f.h1 != nil {
		v = append(v, "h1")
	}
	how := strings.Join(v, " and ")
	switch {
	case f.tls == nil && len(v) == 2:
		how = "h1 and h2 with prior knowledge"
	case f.tls == nil:
	case how != "":
		how += " by ALPN"
	}
	if f.h3 == nil {
		return how
	}
	if how != "" {
		how += ", "
	}
	return how + "h3 over UDP"
}
