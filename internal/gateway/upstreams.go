package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"wsgate/internal/config"
	"wsgate/internal/forwarded"
	"wsgate/internal/upstream"
)

// newUpstream makes the generation of an upstream that a configuration says. It
// does not run yet.
func (g *Gateway) newUpstream(c *config.Config, name string, u *config.Upstream, p *forwarded.Policy, before *upstream.Upstream) (*upstream.Upstream, error) {
	path := "upstreams." + name
	t, err := upstreamTLS(c, path+".tls", u)
	if err != nil {
		return nil, err
	}
	w := upstream.Config{
		Name: name, Balance: balanceOf(u), TLS: t, HostOfServer: u.Host == "backend",
		ConnectTimeout: orNever(u.Timeouts.Connect), TLSTimeout: orNever(u.Timeouts.TLS), OpenTimeout: orNever(u.Timeouts.Open),
		ResponseTimeout: orNever(u.Timeouts.Response), KeepAlive: orNever(u.Timeouts.Keepalive),
		Passive: upstream.Passive{
			Failures: orNone(u.Health.Passive.Failures), BaseTime: u.Health.Passive.Eject.Of(), MaxTime: u.Health.Passive.MaxEject.Of(),
		},
		Retry:       upstream.Retry{Attempts: orNone(u.Retry.Attempts - 1), Budget: u.Retry.Budget},
		Limits:      upstream.Limits{MaxTunnels: u.Limits.Tunnels, MaxPending: u.Limits.Pending},
		QueueLength: u.Limits.Queue, QueueTime: u.Limits.QueueTime.Of(),
		ResolveInterval: u.DNS.Interval.Of(), SlowStart: u.SlowStart.Of(),
	}
	if u.Retry.Budget == 0 {
		w.Retry.Budget = -1
	}
	for _, s := range u.Servers {
		a, err := config.ParseServer(s.Address)
		if err != nil {
			return nil, err
		}
		w.Servers = append(w.Servers, upstream.ServerConfig{
			Network: a.Network, Address: a.Address, TLS: a.TLS, Host: a.Host, Weight: s.Weight,
			Limits: upstream.Limits{MaxTunnels: s.MaxTunnels, MaxPending: s.MaxPending},
		})
	}
	for _, s := range u.Sources {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, err
		}
		w.Sources = append(w.Sources, a)
	}
	if a := u.Health.Active; a != nil {
		w.Active = &upstream.Active{
			Kind: upstream.CheckKind(a.Kind), Path: a.Path, Host: a.Host, Interval: a.Interval.Of(), Timeout: a.Timeout.Of(),
			Rise: a.Rise, Fall: a.Fall, Statuses: a.Status,
		}
	}
	made, err := upstream.New(w, upstream.Env{Slots: g.slots, Resolver: g.options.Resolver, Events: g.upstreamEvents(), Trusts: p.Trusts}, before)
	if err != nil {
		return nil, c.Errorf(path, "%v", err)
	}
	return made, nil
}

func orNever(d config.Duration) time.Duration {
	if d <= 0 {
		return -1
	}
	return d.Of()
}

func orNone(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}

func balanceOf(u *config.Upstream) upstream.Balance {
	b := upstream.Balance{Policy: upstream.Policy(u.Balance)}
	if h := u.Hash; h != nil {
		b.Key, b.Name = upstream.HashKey(h.On), h.Name
	}
	if s := u.Sticky; s != nil {
		b.Cookie = upstream.Cookie{Name: s.Cookie, Secret: []byte(s.Secret), Path: s.Path, Domain: s.Domain, MaxAge: s.MaxAge.Of()}
		switch s.SameSite {
		case "strict":
			b.Cookie.SameSite = http.SameSiteStrictMode
		case "none":
			b.Cookie.SameSite = http.SameSiteNoneMode
		default:
			b.Cookie.SameSite = http.SameSiteLaxMode
		}
	}
	return b
}

// upstreamTLS makes the client side of TLS servers. ALPN is pinned to http/1.1,
// on which alone an Upgrade can ride.
func upstreamTLS(c *config.Config, path string, u *config.Upstream) (*tls.Config, error) {
	t := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, DynamicRecordSizingDisabled: true,
		ClientSessionCache: tls.NewLRUClientSessionCache(256),
	}
	o := u.TLS
	if o == nil {
		return t, nil
	}
	t.ServerName, t.InsecureSkipVerify = o.ServerName, o.Insecure
	if o.CA != "" {
		pem, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, c.Errorf(path+".ca", "%v", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, c.Errorf(path+".ca", "%q holds no PEM certificate", o.CA)
		}
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, c.Errorf(path+".cert", "%v", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// probes is how many servers are looked at at once.
const probes = 8

// probe looks once whether the servers take connections: one that is down is a
// warning and no reason to end.
func (g *Gateway) probe() {
	c := g.routing.Load().config
	free := make(chan struct{}, probes)
	var all sync.WaitGroup
	for _, u := range c.Upstreams {
		for _, s := range u.Servers {
			free <- struct{}{}
			all.Go(func() {
				g.look(s.Address, orOff(u.Timeouts.Connect))
				<-free
			})
		}
	}
	all.Wait()
}

func (g *Gateway) look(address string, limit time.Duration) {
	a, err := config.ParseServer(address)
	if err != nil {
		return // the configuration was checked
	}
	attrs := []slog.Attr{slog.String("url", address), slog.Bool("tls", a.TLS)}
	ctx, cancel := context.WithTimeout(g.context, limit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, a.Network, a.Address)
	switch {
	case err == nil:
		conn.Close()
		g.log.Info("backend", attrs...)
	case g.context.Err() == nil:
		g.log.Warn("backend is down; requests are answered 502 until it is up", append(attrs, slog.String("error", err.Error()))...)
	}
}
