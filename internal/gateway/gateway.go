package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"wsgate/bridge"
	"wsgate/h1"
	"wsgate/h2"
	"wsgate/internal/accesslog"
	"wsgate/internal/exchange"
	"wsgate/internal/forwarded"
	"wsgate/internal/loop"
	"wsgate/internal/reverse"
	"wsgate/internal/upstream"
)

// Gateway is a running gateway. Its methods may be called from any goroutine.
type Gateway struct {
	config Config
	log    *accesslog.Log
	loops  *loop.Group
	certs  *certificates // nil without an https listener

	bridge   *bridge.Bridge
	upstream *upstream.Upstream
	h1       *h1.Server
	h2       *h2.Server
	memory   *h2.Memory
	h1c      h1.Counters
	h2c      h2.Counters

	fronts  []*listener
	admin   *admin
	slots   *loop.Slots
	pending chan struct{} // TLS handshakes in progress
	ready   atomic.Bool
	closing atomic.Bool
	closed  chan struct{}      // by Close
	cancel  context.CancelFunc // of ordinary requests
}

// Start makes and starts a gateway. Its log goes to out. Every error is one
// line that says what the user can do.
func Start(c Config, out io.Writer) (*Gateway, error) {
	c.Settle()
	g := &Gateway{config: c, pending: make(chan struct{}, min(orMany(c.MaxHandshakes), 1<<16)), closed: make(chan struct{})}
	ok := false
	defer func() {
		if !ok {
			g.Close()
		}
	}()
	if c.Log == "off" {
		out = io.Discard
		c.LogLevel = slog.LevelError + 100
	}
	g.log = accesslog.New(out, c.Log, c.LogLevel)
	// CPU-heavy handshakes leave the loops their share.
	g.slots = loop.NewSlots(max(1, c.Cores-c.Loops))
	var err error
	if g.loops, err = loop.NewGroup(c.Loops); err != nil {
		return nil, err
	}
	if err = g.wire(); err != nil {
		return nil, err
	}
	g.loops.Start()
	if err = g.listen(); err != nil {
		return nil, err
	}
	if c.Admin != "" {
		if g.admin, err = g.startAdmin(c.Admin); err != nil {
			return nil, err
		}
	}
	g.ready.Store(true)
	ok = true
	go g.probe()
	go g.giveBack()
	return g, nil
}

// wire makes the values of the rooms and hands them to each other.
func (g *Gateway) wire() error {
	c := &g.config
	up, err := parseBackend(c.Backend)
	if err != nil {
		return err
	}
	backendTLS, err := c.backendTLS(up)
	if err != nil {
		return err
	}
	trusted, err := c.trusted()
	if err != nil {
		return err
	}
	host := ""
	switch c.HostHeader {
	case "", "client":
	case "backend":
		host = up.host
	default:
		return wrong("--host-header", "%q is neither client nor backend", c.HostHeader)
	}
	policy := &forwarded.Policy{Trusted: trusted}
	if !c.NoVia {
		policy.Pseudonym = pseudonym()
	}
	if g.upstream, err = upstream.New(upstream.Config{
		Name:    "backend",
		Servers: []upstream.ServerConfig{{Name: up.host, Network: up.network, Address: up.address, TLS: up.tls}},
		TLS:     backendTLS, HostHeader: host,
		ConnectTimeout: orOff(c.ConnectTimeout), TLSTimeout: orOff(c.TLSTimeout), OpenTimeout: orOff(c.OpenTimeout),
		ResponseTimeout: orOff(c.ResponseTimeout), KeepAlive: keepAlive(c.KeepAlive),
	}, upstream.Env{Slots: g.slots}, nil); err != nil {
		return wrong("--backend", "%w", err)
	}
	g.upstream.Start()
	g.bridge = &bridge.Bridge{Trace: g.log.Trace()}
	g.bridge.Limit(bridge.Limits{MaxTunnels: c.MaxTunnels, MaxTunnelsPerClient: c.MaxTunnelsPerClient, MaxPending: c.MaxPending})
	service := &bridge.Service{
		Backend: &forwarded.Backend{Policy: policy, Next: g.upstream},
		Times: bridge.Times{
			Idle: c.Idle, ClientIdle: c.ClientIdle, BackendIdle: c.BackendIdle, MaxLife: c.MaxLife,
			Linger: c.Linger, StallTimeout: c.StallTimeout, PingInterval: c.PingInterval,
		},
		RejectMissingVersion: c.RejectNoVersion,
	}
	if c.Linger == 0 {
		service.Linger = -1
	}
	var ctx context.Context
	ctx, g.cancel = context.WithCancel(context.Background())
	ordinary := &exchange.Config{
		Handler: g.log.Requests(reverse.New(reverse.Config{
			Upstream: g.upstream, Forwarded: policy, MaxHeader: int64(c.MaxHeader),
		}, func(r *http.Request, code string, err error) { accesslog.Reason(r, code) })),
		Server: &http.Server{}, Context: ctx, StallTimeout: c.StallTimeout,
		Panicked: func(r *http.Request, v any, stack []byte) {
			g.log.Error("handler panicked", slog.Any("value", v), slog.String("stack", string(stack)))
		},
	}
	var offer func(bridge.Offer)
	if !c.NoWebSocket {
		offer = func(o bridge.Offer) { g.bridge.Serve(o, service) }
	}
	if c.BufferMemory > 0 {
		g.memory = h2.NewMemory(c.BufferMemory)
	}
	g.h2 = &h2.Server{
		Offer: offer, Exchange: ordinary, MaxStreams: orMany(c.MaxStreams), MaxTunnels: orMany(c.MaxTunnelsPerConn),
		MaxHeader: c.MaxHeader, HeaderTimeout: orOff(c.HeaderTimeout), IdleTimeout: orOff(c.IdleConn),
		KeepAlive: orOff(c.KeepAlive), StallTimeout: orOff(c.StallTimeout), PathDots: c.PathDots,
		BufferMemory: g.memory, Counters: &g.h2c,
		TrustScheme: func(cl *bridge.Client) bool { return policy.Trusts(cl.Remote.Addr()) },
		Rejected:    func(cl *bridge.Client, status int, code string) { g.log.Rejected(cl, 2, status, code) },
	}
	g.h1 = &h1.Server{
		Offer: offer, Exchange: ordinary, MaxHeader: c.MaxHeader, HeaderTimeout: orOff(c.HeaderTimeout),
		IdleTimeout: orOff(c.IdleConn), PathDots: c.PathDots, SynthesizeKey: c.SynthesizeKey,
		StallTimeout: orOff(c.StallTimeout), Counters: &g.h1c, H2: g.h2.Serve,
		Rejected: func(cl *bridge.Client, status int, code string) { g.log.Rejected(cl, 1, status, code) },
	}
	return nil
}

// keepAlive turns 0, off, into what the socket layer takes for off.
func keepAlive(d time.Duration) time.Duration {
	if d <= 0 {
		return -1
	}
	return d
}

// pseudonym is this process in Via lines: one that no other gateway has, since
// it is how a loop is found.
func pseudonym() string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return "wsgate-" + hex.EncodeToString(b[:])
}

// probe looks once whether the backend takes connections: a backend that is
// down is a warning and no reason to end.
func (g *Gateway) probe() {
	up, _ := parseBackend(g.config.Backend)
	d := net.Dialer{Timeout: orOff(g.config.ConnectTimeout)}
	conn, err := d.Dial(up.network, up.address)
	attrs := []slog.Attr{slog.String("url", g.config.Backend), slog.Bool("tls", up.tls)}
	if err != nil {
		g.log.Warn("backend is down; requests are answered 502 until it is up", append(attrs, slog.String("error", err.Error()))...)
		return
	}
	conn.Close()
	g.log.Info("backend", attrs...)
}

// ReloadCertificates reads the certificate files again. On an error the old
// ones stay.
func (g *Gateway) ReloadCertificates() error {
	if g.certs == nil || g.certs.cert == "" {
		g.log.Info("no certificate files to read again")
		return nil
	}
	if err := g.certs.reload(); err != nil {
		g.log.Error("certificates not reloaded, the old ones stay", slog.String("error", err.Error()))
		return err
	}
	g.log.Info("certificates reloaded")
	return nil
}

// Drain ends the gateway softly: no new connections, two-step GOAWAY, requests
// finish, tunnels get Close 1001 spread over the drain time. It returns when
// all is done, at the drain time at the latest; Close is still to be called.
func (g *Gateway) Drain(ctx context.Context) {
	d := g.config.DrainTime
	g.ready.Store(false)
	g.log.Info("drain", slog.String("time", d.String()), slog.Int64("tunnels", g.bridge.Stats().Tunnels))
	g.stopListening()
	g.h2.Drain()
	g.h1.Drain()
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	_ = g.bridge.Drain(ctx, bridge.Ending{Time: d}) // what is left at the deadline is cut by Close
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for g.h1.Connections()+g.h2.Connections() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			g.log.Warn("drain is cut short", slog.Int("connections", g.h1.Connections()+g.h2.Connections()))
			return
		}
	}
}

// Close ends everything at once. It may be called more than once.
func (g *Gateway) Close() {
	if !g.closing.CompareAndSwap(false, true) {
		return
	}
	close(g.closed)
	g.ready.Store(false)
	g.stopListening()
	if g.admin != nil {
		g.admin.close()
	}
	if g.cancel != nil {
		g.cancel()
	}
	if g.h1 != nil {
		g.h1.Close()
		g.h2.Close()
	}
	if g.upstream != nil {
		g.upstream.Close()
	}
	if g.loops != nil {
		g.loops.Stop()
	}
	if g.log != nil {
		g.log.Close()
	}
}

// Log is the gateway's log.
func (g *Gateway) Log() *accesslog.Log { return g.log }

// Addresses are where the listeners listen, in the order of the configuration.
func (g *Gateway) Addresses() []netip.AddrPort {
	var out []netip.AddrPort
	for _, f := range g.fronts {
		out = append(out, f.addr)
	}
	return out
}

// AdminAddress is where the admin listener listens, "" without one.
func (g *Gateway) AdminAddress() string {
	if g.admin == nil {
		return ""
	}
	return g.admin.address
}

// listenError makes one line of what the kernel says.
func listenError(option, address string, err error) error {
	switch s := err.Error(); {
	case strings.Contains(s, "address already in use"):
		return wrong(option, "%q is in use by another process", address)
	case strings.Contains(s, "permission denied"):
		return wrong(option, "no permission to listen on %q; ports below 1024 need root or CAP_NET_BIND_SERVICE", address)
	case os.IsTimeout(err):
	}
	return wrong(option, "%q: %w", address, fmt.Errorf("cannot listen: %w", err))
}
