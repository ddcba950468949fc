package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"wsgate/bridge"
	"wsgate/internal/config"
	"wsgate/internal/loop"
	"wsgate/internal/upstream"
)

// Report is what a reload did, or would do.
type Report struct {
	Routes  int `json:"routes"`
	Tunnels int `json:"tunnels"` // open now
	// Ended is how many tunnels have lost their route or server: they live to
	// the drain deadline and then get their Close.
	Ended    int      `json:"ended"`
	Opened   []string `json:"opened,omitempty"`  // listeners
	Closed   []string `json:"closed,omitempty"`  // listeners
	Restart  []string `json:"restart,omitempty"` // keys that take effect after a restart only
	DryRun   bool     `json:"dry_run,omitempty"`
	Duration string   `json:"duration"`
}

// errNoFile is for a gateway that was started with flags.
var errNoFile = errors.New("there is no configuration file to read again; this gateway was started with flags")

// Reload reads the configuration anew, checks all of it and puts it in the place
// of the old one; on an error the old one stays. No tunnel is cut whose route
// and server still exist, and no listener is closed that stays. With dryRun it
// only says what would happen.
func (g *Gateway) Reload(ctx context.Context, dryRun bool) (Report, error) {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	begin := time.Now()
	if g.options.Load == nil {
		return Report{}, errNoFile
	}
	if !g.ready.Load() {
		return Report{}, errors.New("the gateway is being drained")
	}
	var r Report
	before := g.routing.Load()
	c, next, err := g.prepare(before)
	if err == nil {
		if dryRun {
			r, err = g.wouldApply(ctx, c, before, next)
		} else {
			r, err = g.apply(c, before, next)
		}
	}
	r.Duration = time.Since(begin).Round(10 * time.Microsecond).String()
	switch {
	case err != nil:
		g.log.Error("not reloaded, the old configuration stays", slog.String("error", err.Error()))
	case !dryRun:
		g.reloads.Add(1)
		select {
		case g.reloaded <- true:
		default:
		}
		g.log.Info("reloaded", slog.Int("routes", r.Routes), slog.Int("ended", r.Ended), slog.String("took", r.Duration))
	}
	for _, key := range r.Restart {
		g.log.Warn("takes effect after a restart", slog.String("key", key))
	}
	return r, err
}

// prepare reads the configuration and makes its routing, in the background of the
// loops: with many routes it is a second's work.
func (g *Gateway) prepare(before *routing) (c *config.Config, next *routing, err error) {
	loop.Background(func() {
		if c, err = g.options.Load(); err == nil {
			c.Loops = before.config.Loops
			next, err = g.compile(c, before)
		}
	})
	return c, next, err
}

// apply puts a configuration in place: nothing has changed if there is an error.
// before is nil for the first one. It is called by Run and under reloading.
func (g *Gateway) apply(c *config.Config, before, next *routing) (Report, error) {
	was := *g.listeners.Load()
	now, opened, err := g.openListeners(c, was)
	if err != nil {
		return Report{}, err
	}
	r := Report{Routes: len(next.routes), Restart: restarts(before, c)}
	fronts := make([]*front, len(c.Listeners))
	for i, key := range keysOf(c) {
		l := now[key]
		fronts[i] = g.newFront(c, &c.Listeners[i], next.certs, l)
		if err := l.openUDP(c, fmt.Sprintf("listeners[%d]", i), &c.Listeners[i], fronts[i]); err != nil {
			for _, o := range opened {
				o.closeUDP()
				o.tcp.Close()
			}
			return Report{}, err
		}
	}
	g.limit(c)
	for name, u := range next.upstreams {
		if before == nil || before.upstreams[name] != u {
			u.Start()
		}
	}
	g.routing.Store(next)
	for i, key := range keysOf(c) {
		now[key].use(fronts[i])
	}
	g.listeners.Store(&now)
	for _, l := range opened {
		if err := l.serve(); err != nil {
			return r, err // the loops have ended
		}
		r.Opened = append(r.Opened, l.name())
	}
	for key, l := range was {
		if now[key] != l {
			l.close()
			r.Closed = append(r.Closed, l.name())
			f := l.front.Load()
			g.retire(f, nil)
			f.drain(c.Drain.GOAWAY == "late")
			go l.parted(f, c.Drain.Time.Of())
		}
	}
	if before != nil {
		r.Ended = g.part(before, next)
		for name, u := range before.upstreams {
			if next.upstreams[name] != u {
				u.Close()
			}
		}
		for key, p := range before.proxies {
			if next.proxies[key] != p {
				p.Close()
			}
		}
	}
	r.Tunnels = int(g.bridge.Stats().Tunnels)
	return r, nil
}

// keysOf tell listeners apart from one configuration to the next: by address. Port
// 0 may stand there more than once.
func keysOf(c *config.Config) []string {
	keys := make([]string, len(c.Listeners))
	for i := range c.Listeners {
		keys[i] = c.Listeners[i].Address
		for n := 2; slices.Contains(keys[:i], keys[i]); n++ {
			keys[i] = fmt.Sprintf("%s#%d", c.Listeners[i].Address, n)
		}
	}
	return keys
}

// openListeners opens those that are new and keeps those that stay.
func (g *Gateway) openListeners(c *config.Config, was map[string]*listener) (now map[string]*listener, opened []*listener, err error) {
	now = make(map[string]*listener, len(c.Listeners))
	for i, key := range keysOf(c) {
		l, path := &c.Listeners[i], fmt.Sprintf("listeners[%d]", i)
		made := was[key]
		switch {
		case made == nil:
			if made, err = g.open(c, path, l); err == nil {
				opened = append(opened, made)
			}
		case made.secure != (l.TLS != nil):
			err = c.Errorf(path+".tls", "cannot be put on or taken off a running listener; restart, or use another address")
		}
		if err != nil {
			for _, o := range opened {
				o.tcp.Close()
			}
			return nil, nil, err
		}
		now[key] = made
	}
	return now, opened, nil
}

// parted closes the UDP socket of a listener that is gone, once its connections
// are, or after the drain time. It is a goroutine of the gateway.
func (l *listener) parted(f *front, limit time.Duration) {
	if l.udp.Load() == nil {
		return
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); f.h3 != nil && f.h3.Connections() > 0 && time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-l.g.closed:
			return
		}
	}
	l.closeUDP()
}

// limit sets the limits over everything, and those of routes.
func (g *Gateway) limit(c *config.Config) {
	l := c.Limits
	g.bridge.Limit(bridge.Limits{MaxTunnels: l.Tunnels, MaxTunnelsPerClient: l.TunnelsPerClient, MaxPending: l.Pending})
	for i := range c.Routes {
		l := c.Routes[i].Limits
		g.placesOf(c.Routes[i].Name).Limit(bridge.Limits{MaxTunnels: l.Tunnels, MaxTunnelsPerClient: l.TunnelsPerClient, MaxPending: l.Pending})
	}
}

// retire keeps a front that is no listener's any more as long as it has
// connections.
func (g *Gateway) retire(old, now *front) {
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := g.retired[:0]
	for _, f := range g.retired {
		if f.connections() > 0 {
			kept = append(kept, f)
		}
	}
	g.retired = kept
	if old != nil && (now == nil || !old.same(now)) {
		g.retired = append(g.retired, old)
	}
}

// part orders the tunnels to end whose route or server is gone, and takes
// earlier orders back from those that have theirs again. It returns how many
// have lost theirs.
func (g *Gateway) part(before, next *routing) int {
	if !g.orders && !lost(before, next) {
		return 0
	}
	dead := func(t *bridge.Tunnel) bool { return !next.lives(t) }
	g.bridge.Spare(next.lives)
	g.bridge.End(bridge.Ending{Time: next.config.Drain.Time.Of(), Late: true, Why: "removed"}, dead)
	ctx, cancel := context.WithTimeout(g.context, 5*time.Second)
	defer cancel()
	n, _ := g.bridge.Count(ctx, dead) // on a time-out it is what was counted so far
	g.orders = n > 0
	return n
}

// lost reports whether a route or a server of before is not in next.
func lost(before, next *routing) bool {
	type move struct{ from, to *upstream.Upstream }
	moves := make(map[move]bool)
	for name, was := range before.byName {
		if was.upstream == nil {
			continue
		}
		is := next.byName[name]
		if is == nil || is.upstream == nil {
			return true
		}
		moves[move{was.upstream, is.upstream}] = true
	}
	for m := range moves {
		for _, s := range m.from.Status() {
			if !m.to.Has(s.Name) {
				return true
			}
		}
	}
	return false
}

// wouldApply says what apply would do.
func (g *Gateway) wouldApply(ctx context.Context, c *config.Config, before, next *routing) (r Report, err error) {
	r = Report{Routes: len(next.routes), DryRun: true, Restart: restarts(before, c), Tunnels: int(g.bridge.Stats().Tunnels)}
	was := *g.listeners.Load()
	keys := keysOf(c)
	for i, key := range keys {
		if was[key] == nil {
			r.Opened = append(r.Opened, c.Listeners[i].Name)
		}
	}
	for key, l := range was {
		if !slices.Contains(keys, key) {
			r.Closed = append(r.Closed, l.name())
		}
	}
	r.Ended, err = g.bridge.Count(ctx, func(t *bridge.Tunnel) bool { return !next.lives(t) })
	return r, err
}

// restarts names the keys that have changed and that a running gateway cannot
// change.
func restarts(before *routing, c *config.Config) (keys []string) {
	if before == nil {
		return nil
	}
	was := before.config
	if was.Log != c.Log {
		keys = append(keys, "log")
	}
	if was.Admin != c.Admin {
		keys = append(keys, "admin")
	}
	if was.Limits.TLSHandshakes != c.Limits.TLSHandshakes {
		keys = append(keys, "limits.tls_handshakes")
	}
	if was.Reload != c.Reload {
		keys = append(keys, "reload")
	}
	return keys
}

// ReloadCertificates reads the certificate files again. On an error the old
// ones stay.
func (g *Gateway) ReloadCertificates() error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	r := g.routing.Load()
	certs, err := loadCertificates(r.config, r.certs)
	if err != nil {
		g.log.Error("certificates not reloaded, the old ones stay", slog.String("error", err.Error()))
		return err
	}
	next := *r
	next.certs = certs
	g.routing.Store(&next)
	for i, key := range keysOf(r.config) {
		l := (*g.listeners.Load())[key]
		l.front.Store(g.newFront(r.config, &r.config.Listeners[i], certs, l))
	}
	g.log.Info("certificates reloaded")
	return nil
}

// Check makes everything that c says without running it: what is wrong with
// files that it names is an error, too.
func Check(c *config.Config) error {
	g := &Gateway{log: newLog(config.Log{Format: "off"}, nil), context: context.Background()}
	defer g.log.Close()
	_, err := g.compile(c, nil)
	return err
}
