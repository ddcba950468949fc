package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"time"

	"wsgate/internal/loop"
)

// dial connects to the server for a goroutine, from the same sources and with
// the same TLS as tunnels. Nothing has been sent when it fails.
func (p *endpoint) dial(ctx context.Context, u *Upstream) (net.Conn, error) {
	conn, err := p.connect(ctx, u)
	if err != nil || p.tls == nil {
		return conn, err
	}
	ctx, stop := context.WithTimeout(ctx, u.config.TLSTimeout)
	defer stop()
	tc := tls.Client(conn, p.tls)
	if err := tc.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return tc, nil
}

// connect tries the sources in turn while they have no port left.
func (p *endpoint) connect(ctx context.Context, u *Upstream) (net.Conn, error) {
	o := loop.DialOptions{Timeout: u.config.ConnectTimeout, KeepAlive: u.config.KeepAlive}
	n := len(p.sources)
	if n == 0 {
		return loop.NetDialer(o).DialContext(ctx, p.network, p.address)
	}
	for from := int(p.turn.Add(1) % uint32(n)); ; n-- {
		o.Source = p.sources[(from+n)%len(p.sources)]
		conn, err := loop.NetDialer(o).DialContext(ctx, p.network, p.address)
		if err == nil || !loop.PortsExhausted(err) || n == 1 {
			return conn, err
		}
	}
}

// family are the sources that can reach an address.
func family(all []netip.Addr, to netip.AddrPort) (out []netip.Addr) {
	for _, a := range all {
		if a = a.Unmap(); to.IsValid() && a.Is4() == to.Addr().Unmap().Is4() {
			out = append(out, a)
		}
	}
	return out
}

// portsExhausted tells that ports have run out, not more often than one wants to
// read it.
func (u *Upstream) portsExhausted(e *endpoint, cause error) {
	g := u.ledger
	g.stats.ports.Add(1)
	now, was := u.env.Now().UnixNano(), g.portsAt.Load()
	if was != 0 && now-was < int64(tellPorts) || !g.portsAt.CompareAndSwap(was, now) {
		return
	}
	if f := u.env.Events.PortsExhausted; f != nil {
		f(u.config.Name, e.id, cause)
	}
}

const tellPorts = time.Minute
