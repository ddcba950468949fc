// Package gateway puts the rooms of the house together: loops, listeners, the
// fronts, routes, the bridge and the upstreams. It is what cmd/wsgate runs and
// what end-to-end tests start.
package gateway

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"wsgate/bridge"
	"wsgate/h1"
	"wsgate/h2"
	"wsgate/h3"
	"wsgate/internal/accesslog"
	"wsgate/internal/config"
	"wsgate/internal/loop"
	"wsgate/internal/upstream"
)

// Options are what a gateway is given beside its configuration.
type Options struct {
	// Log is where the log goes.
	Log io.Writer
	// Cores is how many processors this process may use; 0: GOMAXPROCS.
	Cores int
	// File is the configuration's file, for Watch and for Load; "" without one.
	File string
	// Load reads the configuration anew for a reload; nil: only certificates
	// are read again.
	Load func() (*config.Config, error)
	// Resolver looks names of servers up; nil: net.DefaultResolver.
	Resolver *net.Resolver
}

// Gateway is a running gateway. Its methods may be called from any goroutine.
type Gateway struct {
	options   Options
	log       *accesslog.Log
	loops     *loop.Group
	slots     *loop.Slots
	pseudonym string

	bridge bridge.Bridge
	h1c    h1.Counters
	h2c    h2.Counters
	h3c    h3.Counters

	routing   atomic.Pointer[routing]
	listeners atomic.Pointer[map[string]*listener] // by keyOf
	drained   atomic.Pointer[map[string]bool]      // routes that take nothing new

	admin   *admin
	pending chan struct{} // TLS handshakes in progress
	ready   atomic.Bool
	closing atomic.Bool
	closed  chan struct{}   // by Close
	context context.Context // of ordinary requests and of what runs until Close
	cancel  context.CancelFunc

	reloading sync.Mutex // one reload at a time
	reloads   atomic.Uint64
	reloaded  chan bool // wakes follow
	orders    bool      // tunnels may have orders to end from an earlier reload; under reloading

	mu         sync.Mutex // of what follows
	retired    []*front   // of earlier configurations, while they have connections
	places     map[string]*bridge.Places
	memory     *h2.Memory
	memorySize int64
}

// Settle fills in the number of loops and returns the cores, from GOMAXPROCS,
// which knows the limit of a container. Who changes GOMAXPROCS calls it before.
func Settle(c *config.Config) (cores int) {
	cores = runtime.GOMAXPROCS(0)
	if c.Loops <= 0 {
		c.Loops = min(cores, 4)
	}
	return cores
}

// Start makes and starts a gateway of the short form. Its log goes to out.
func Start(c Config, out io.Writer) (*Gateway, error) {
	w, err := c.Whole()
	if err != nil {
		return nil, err
	}
	return Run(w, Options{Log: out})
}

// Run makes and starts a gateway. Every error is one line, or several of a file,
// that say what the user can do.
func Run(c *config.Config, o Options) (*Gateway, error) {
	cores := Settle(c)
	if o.Cores > 0 {
		cores = o.Cores
	}
	g := &Gateway{
		options: o, closed: make(chan struct{}), reloaded: make(chan bool, 1), pseudonym: pseudonym(),
		pending: make(chan struct{}, min(orMany(c.Limits.TLSHandshakes), 1<<16)),
	}
	g.context, g.cancel = context.WithCancel(context.Background())
	ok := false
	defer func() {
		if !ok {
			g.Close()
		}
	}()
	g.log = newLog(c.Log, o.Log)
	g.bridge.Trace = g.log.Trace()
	// CPU-heavy handshakes leave the loops their share.
	g.slots = loop.NewSlots(max(1, cores-c.Loops))
	var err error
	if g.loops, err = loop.NewGroup(c.Loops); err != nil {
		return nil, err
	}
	g.listeners.Store(new(map[string]*listener))
	g.loops.Start()
	first, err := g.compile(c, nil)
	if err != nil {
		return nil, err
	}
	if _, err = g.apply(c, nil, first); err != nil {
		return nil, err
	}
	if a := c.Admin.Listen(); a != "" {
		if g.admin, err = g.startAdmin(c, a); err != nil {
			return nil, err
		}
	}
	g.ready.Store(true)
	ok = true
	go g.probe()
	go g.giveBack()
	go g.follow()
	return g, nil
}

func newLog(c config.Log, out io.Writer) *accesslog.Log {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.Level)); err != nil {
		level = slog.LevelInfo
	}
	if c.Format == "off" {
		out, level = io.Discard, slog.LevelError+100
	}
	return accesslog.New(out, c.Format, level)
}

// pseudonym is this process in Via lines: one that no other gateway has, since
// it is how a loop is found.
func pseudonym() string {
	var b [4]byte
	rand.Read(b[:]) // never fails
	return "wsgate-" + hex.EncodeToString(b[:])
}

// Drain ends the gateway softly: not ready, after the delay no new connections,
// GOAWAY, requests finish, tunnels get their Close spread over the drain time.
// It returns when all is done, at the drain time at the latest; Close is still
// to be called.
func (g *Gateway) Drain(ctx context.Context) {
	c := g.routing.Load().config
	d, late := c.Drain.Time.Of(), c.Drain.GOAWAY == "late"
	g.ready.Store(false)
	g.log.Info("drain", slog.String("time", d.String()), slog.Int64("tunnels", g.bridge.Stats().Tunnels))
	if wait := c.Drain.Delay.Of(); wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
	// No reload may bring listeners back.
	g.reloading.Lock()
	defer g.reloading.Unlock()
	for _, l := range *g.listeners.Load() {
		l.close()
	}
	g.eachFront(func(f *front) { f.drain(late) })
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	progress := time.NewTicker(max(d/10, time.Second))
	defer progress.Stop()
	go g.bridge.Drain(ctx, bridge.Ending{Time: d}) // what is left at the deadline is cut by Close
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for g.left() > 0 {
		select {
		case <-tick.C:
		case <-progress.C:
			g.log.Info("draining", slog.Int64("tunnels", g.bridge.Stats().Tunnels), slog.Int("connections", g.connections()))
		case <-ctx.Done():
			g.eachFront(func(f *front) { f.drain(false) })
			g.log.Warn("drain is cut short", slog.Int64("tunnels", g.bridge.Stats().Tunnels), slog.Int("connections", g.connections()))
			return
		}
	}
	g.log.Info("drained")
}

// left counts what a drain waits for.
func (g *Gateway) left() int64 {
	s := g.bridge.Stats()
	return s.Tunnels + s.Pending + int64(g.connections())
}

// eachFront calls f for all fronts that may have connections.
func (g *Gateway) eachFront(f func(*front)) {
	for _, l := range *g.listeners.Load() {
		f(l.front.Load())
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, old := range g.retired {
		f(old)
	}
}

// connections counts front connections that are no tunnels.
func (g *Gateway) connections() (n int) {
	g.eachFront(func(f *front) { n += f.connections() })
	return n
}

// Close ends everything at once. It may be called more than once.
func (g *Gateway) Close() {
	if !g.closing.CompareAndSwap(false, true) {
		return
	}
	close(g.closed)
	g.ready.Store(false)
	if g.admin != nil {
		g.admin.close()
	}
	g.cancel()
	if m := g.listeners.Load(); m != nil {
		for _, l := range *m {
			l.close()
		}
		g.eachFront((*front).close)
		for _, l := range *m {
			l.closeUDP()
		}
	}
	if r := g.routing.Load(); r != nil {
		r.close()
	}
	if g.loops != nil {
		g.loops.Stop()
	}
	if g.log != nil {
		g.log.Close()
	}
}

// close ends the goroutines of upstreams.
func (r *routing) close() {
	for _, u := range r.upstreams {
		u.Close()
	}
}

// Log is the gateway's log.
func (g *Gateway) Log() *accesslog.Log { return g.log }

// Addresses are where the listeners listen, in the order of the configuration.
func (g *Gateway) Addresses() []netip.AddrPort {
	var out []netip.AddrPort
	m := *g.listeners.Load()
	for _, key := range keysOf(g.routing.Load().config) {
		if l := m[key]; l != nil {
			out = append(out, l.addr)
		}
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
func listenError(c *config.Config, path, address string, err error) error {
	switch s := err.Error(); {
	case strings.Contains(s, "address already in use"):
		return c.Errorf(path, "%q is in use by another process", address)
	case strings.Contains(s, "permission denied"):
		return c.Errorf(path, "no permission to listen on %q; ports below 1024 need root or CAP_NET_BIND_SERVICE", address)
	}
	return c.Errorf(path, "%q: %v", address, fmt.Errorf("cannot listen: %w", err))
}

// upstreamEvents tell the log what happens to servers.
func (g *Gateway) upstreamEvents() upstream.Events {
	of := func(up, server string, cause error) []slog.Attr {
		a := []slog.Attr{slog.String("upstream", up), slog.String("server", server)}
		if cause != nil {
			a = append(a, slog.String("error", cause.Error()))
		}
		return a
	}
	return upstream.Events{
		State: func(up, server string, s upstream.State, cause error) {
			a := append(of(up, server, cause), slog.String("state", string(s)))
			if s == upstream.Up {
				g.log.Info("server", a...)
			} else {
				g.log.Warn("server", a...)
			}
		},
		Panic: func(up string, on bool) {
			if on {
				g.log.Error("no server is fit, all are used", slog.String("upstream", up))
			} else {
				g.log.Info("a server is fit again", slog.String("upstream", up))
			}
		},
		PortsExhausted: func(up, server string, cause error) {
			g.log.Error("no port is left towards the server; give the upstream more source_addresses", of(up, server, cause)...)
		},
		Resolved: func(up, entry string, added, gone []netip.Addr) {
			g.log.Info("name", slog.String("upstream", up), slog.String("server", entry), slog.Any("added", added), slog.Any("gone", gone))
		},
		NotResolved: func(up, entry string, cause error) {
			g.log.Warn("name is not found; its addresses of before stay in use", of(up, entry, cause)...)
		},
	}
}
