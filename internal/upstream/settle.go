package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

const (
	defaultConnect  = 3 * time.Second
	defaultTLS      = 5 * time.Second
	defaultOpen     = 10 * time.Second
	defaultResponse = time.Minute
	defaultQueue    = 5 * time.Second
	defaultResolve  = 10 * time.Second
	defaultCookie   = "wsgate"

	maxWeight = 1000
	minSecret = 16
	never     = 10 * 365 * 24 * time.Hour // what "off" is to a timeout
)

// or gives a number its default; what is off becomes off.
func or[T int | float64 | time.Duration](v *T, def, off T) {
	switch {
	case *v == 0:
		*v = def
	case *v < 0:
		*v = off
	}
}

// settle fills in the defaults and turns what is off into what its user takes
// for it. The error says what is wrong.
func (c *Config) settle() error {
	or(&c.ConnectTimeout, defaultConnect, never)
	or(&c.TLSTimeout, defaultTLS, never)
	or(&c.OpenTimeout, defaultOpen, never)
	or(&c.ResponseTimeout, defaultResponse, 0)
	or(&c.KeepAlive, 30*time.Second, -1)
	or(&c.QueueTime, defaultQueue, never)
	or(&c.ResolveInterval, defaultResolve, never)
	or(&c.SlowStart, 0, 0)
	or(&c.Passive.Failures, 5, 0)
	or(&c.Passive.BaseTime, 5*time.Second, time.Millisecond)
	or(&c.Passive.MaxTime, 5*time.Minute, never)
	or(&c.Retry.Attempts, 2, 0)
	or(&c.Retry.Budget, 0.2, 0)
	or(&c.Retry.MinPerSec, 3, 0)
	if len(c.Servers) == 0 {
		return errors.New("no servers")
	}
	c.Servers = slices.Clone(c.Servers)
	for i := range c.Servers {
		if err := c.Servers[i].settle(); err != nil {
			return err
		}
		if c.Servers[i].TLS && c.TLS == nil {
			return fmt.Errorf("server %q has TLS, but the upstream has none", c.Servers[i].Name)
		}
	}
	for _, a := range c.Sources {
		if !a.IsValid() || a.IsUnspecified() {
			return fmt.Errorf("source address %q is none to connect from", a)
		}
	}
	if a := c.Active; a != nil {
		settled := *a
		if err := settled.settle(); err != nil {
			return err
		}
		c.Active = &settled
	}
	return c.Balance.settle()
}

func (s *ServerConfig) settle() error {
	if s.Network == "" {
		s.Network = "tcp"
	}
	if s.Name == "" {
		s.Name = s.Address
	}
	switch s.Network {
	case "tcp":
		host, port, err := net.SplitHostPort(s.Address)
		if err != nil || host == "" {
			return fmt.Errorf("server %q is not host:port", s.Address)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return fmt.Errorf("server %q has no port between 0 and 65535", s.Address)
		}
		if s.Host == "" {
			s.Host = s.Address
		}
	case "unix":
		if s.Address == "" {
			return errors.New("a unix socket has no path")
		}
		if s.Host == "" {
			s.Host = "localhost"
		}
	default:
		return fmt.Errorf("server %q: network %q is neither tcp nor unix", s.Name, s.Network)
	}
	or(&s.Weight, 1, 0)
	if s.Weight < 1 || s.Weight > maxWeight {
		return fmt.Errorf("server %q: weight is not between 1 and %d", s.Name, maxWeight)
	}
	return nil
}

// literal returns the address of an entry that is named by one.
func (s *ServerConfig) literal() (netip.AddrPort, bool) {
	a, err := netip.ParseAddrPort(s.Address)
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()), err == nil
}

// tlsConfig is that of the entry's connections, nil for plain ones. ALPN is
// pinned: an Upgrade rides on nothing but HTTP/1.1.
func (s *ServerConfig) tlsConfig(base *tls.Config) *tls.Config {
	if !s.TLS {
		return nil
	}
	c := base.Clone()
	c.NextProtos = []string{"http/1.1"}
	c.DynamicRecordSizingDisabled = true
	if c.ServerName == "" {
		c.ServerName = s.Host
		if host, _, err := net.SplitHostPort(s.Host); err == nil {
			c.ServerName = host
		}
	}
	return c
}

func (a *Active) settle() error {
	if a.Kind == "" {
		a.Kind = CheckTCP
	}
	if a.Kind != CheckTCP && a.Kind != CheckHTTP && a.Kind != CheckWebSocket {
		return fmt.Errorf("check %q is none of tcp, http, websocket", a.Kind)
	}
	if a.Path == "" {
		a.Path = "/"
	}
	if a.Path[0] != '/' {
		return fmt.Errorf("path %q of the check does not begin with /", a.Path)
	}
	or(&a.Interval, 5*time.Second, never)
	or(&a.Timeout, 2*time.Second, never)
	or(&a.Rise, 2, 1)
	or(&a.Fall, 3, 1)
	return nil
}

func (b *Balance) settle() error {
	if b.Policy == "" {
		b.Policy = LeastTunnels
	}
	switch b.Policy {
	case LeastTunnels, RoundRobin, RandomTwo:
		return nil
	case Hash:
		if b.Key == "" {
			b.Key = HashClient
		}
		switch b.Key {
		case HashClient, HashPath:
		case HashHeader, HashCookie:
			if b.Name == "" {
				return fmt.Errorf("hash on a %s has no name", b.Key)
			}
		default:
			return fmt.Errorf("hash key %q is none of client, header, cookie, path", b.Key)
		}
		return nil
	case Sticky:
		return b.Cookie.settle()
	}
	return fmt.Errorf("balance %q is none of least_tunnels, round_robin, random_two, hash, sticky", b.Policy)
}
