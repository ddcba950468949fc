package gateway

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"time"

	"wsgate/bridge"
	"wsgate/internal/accesslog"
	"wsgate/internal/config"
	"wsgate/internal/forwarded"
	"wsgate/internal/reverse"
	"wsgate/internal/route"
	"wsgate/internal/upstream"
)

// compile makes the routing of a configuration, with what stays of the one
// before. Nothing of it runs yet.
func (g *Gateway) compile(c *config.Config, before *routing) (*routing, error) {
	r := &routing{
		config: c, byName: make(map[string]*routed), upstreams: make(map[string]*upstream.Upstream),
		proxies: make(map[proxyKey]*reverse.Proxy), policy: &forwarded.Policy{},
	}
	for _, s := range c.Requests.TrustedProxies {
		p, err := config.ParsePrefix(s)
		if err != nil {
			return nil, err
		}
		r.policy.Trusted = append(r.policy.Trusted, p)
	}
	if c.Requests.Via {
		r.policy.Pseudonym = g.pseudonym
	}
	if before == nil {
		before = &routing{config: new(config.Config)}
	}
	var err error
	if r.certs, err = loadCertificates(c, before.certs); err != nil {
		return nil, err
	}
	for name, u := range c.Upstreams {
		if unchanged(before.config, c, name) {
			r.upstreams[name] = before.upstreams[name]
			continue
		}
		if r.upstreams[name], err = g.newUpstream(c, name, u, r.policy, before.upstreams[name]); err != nil {
			return nil, err
		}
	}
	matches := make([]*config.Match, len(c.Routes))
	for i := range c.Routes {
		to := &routed{config: &c.Routes[i]}
		matches[i] = &to.config.Match
		if err := g.act(r, before, to); err != nil {
			return nil, err
		}
		r.routes = append(r.routes, to)
		r.byName[to.config.Name] = to
	}
	r.table = route.New(matches)
	return r, nil
}

// unchanged reports whether nothing that an upstream is made of has changed.
// Files are read again in any case.
func unchanged(was, is *config.Config, name string) bool {
	u := is.Upstreams[name]
	return u.TLS == nil && reflect.DeepEqual(was.Upstreams[name], u) && reflect.DeepEqual(was.Requests, is.Requests) &&
		was.Limits.Header == is.Limits.Header
}

// proxyKey tells what carries ordinary requests apart: routes to one upstream
// share its connections unless they have a time of their own for answers.
type proxyKey struct {
	upstream *upstream.Upstream
	response time.Duration // as reverse.Config has it
}

// proxy is what carries the ordinary requests of a route, that of before if
// there is one.
func (g *Gateway) proxy(r, before *routing, c *config.Route) *reverse.Proxy {
	key := proxyKey{upstream: r.upstreams[c.Upstream]}
	if t := c.Timeouts; t != nil && t.Response != nil {
		key.response = orNever(*t.Response)
	}
	p := r.proxies[key]
	if p == nil {
		p = before.proxies[key]
	}
	if p == nil {
		p = reverse.New(reverse.Config{
			Upstream: key.upstream, Forwarded: r.policy, MaxHeader: int64(r.config.Limits.Header), ResponseTimeout: key.response,
		}, func(r *http.Request, code string, err error) { accesslog.Reason(r, code) })
	}
	r.proxies[key] = p
	return p
}

// act gives a route its action.
func (g *Gateway) act(r, before *routing, to *routed) error {
	switch c := to.config; {
	case c.Redirect != nil:
		to.handler = http.HandlerFunc(to.redirect)
	case c.Answer != nil:
		to.handler = http.HandlerFunc(to.answer)
	default:
		to.upstream = r.upstreams[c.Upstream]
		if to.upstream == nil {
			return fmt.Errorf("route %q: no upstream %q", c.Name, c.Upstream)
		}
		to.service = g.service(r, to)
		to.handler = g.proxy(r, before, c)
	}
	return nil
}

// service is what handshakes of a route are served with.
func (g *Gateway) service(r *routing, to *routed) *bridge.Service {
	c, t := to.config, r.config.Timeouts
	s := &bridge.Service{
		Name: c.Name, Backend: &forwarded.Backend{Policy: r.policy, Next: to.upstream}, Places: g.placesOf(c.Name),
		Times: bridge.Times{
			Idle: t.Idle.Of(), ClientIdle: t.ClientIdle.Of(), BackendIdle: t.BackendIdle.Of(), MaxLife: t.MaxLife.Of(),
			Linger: t.Linger.Of(), StallTimeout: t.Stall.Of(), PingInterval: t.Ping.Of(),
		},
		CloseCode: r.config.Drain.Code, CloseReason: r.config.Drain.Reason,
		RejectMissingVersion: r.config.Requests.MissingVersion == "reject",
	}
	if o := c.Timeouts; o != nil {
		for _, x := range []struct {
			to   *time.Duration
			from *config.Duration
		}{
			{&s.Idle, o.Idle},
			{&s.ClientIdle, o.ClientIdle},
			{&s.BackendIdle, o.BackendIdle},
			{&s.MaxLife, o.MaxLife},
			{&s.Linger, o.Linger},
			{&s.StallTimeout, o.Stall},
			{&s.Open, o.Open},
		} {
			if x.from != nil {
				*x.to = x.from.Of()
			}
		}
	}
	if c.Ping != nil {
		s.PingInterval = c.Ping.Of()
	}
	if d := c.Drain; d != nil {
		s.CloseCode, s.CloseReason = d.Code, d.Reason
	}
	if s.Linger == 0 {
		s.Linger = -1 // for the bridge 0 is its default
	}
	return s
}

// placesOf are the limits of a route, which outlive a reload.
func (g *Gateway) placesOf(name string) *bridge.Places {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.places[name]
	if p == nil {
		p = new(bridge.Places)
		if g.places == nil {
			g.places = make(map[string]*bridge.Places)
		}
		g.places[name] = p
	}
	return p
}

// lives reports whether a tunnel's route and server are still there.
func (r *routing) lives(t *bridge.Tunnel) bool {
	to := r.byName[t.Service.Name]
	return to != nil && to.upstream != nil && (t.Server == nil || to.upstream.Has(t.Server.String()))
}

// names of routes in the configuration's order.
func (r *routing) names() []string {
	out := make([]string, len(r.routes))
	for i, to := range r.routes {
		out[i] = to.config.Name
	}
	return slices.Clip(out)
}
