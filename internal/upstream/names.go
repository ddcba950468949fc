package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"
)

const (
	lookupTime  = 5 * time.Second // most that one lookup takes
	lookupAgain = time.Second     // after one that failed
)

func newEntry(s ServerConfig) *entry {
	e := &entry{ServerConfig: s}
	if s.Network != "tcp" {
		return e
	}
	if addr, ok := s.literal(); ok {
		e.addrs = []netip.AddrPort{addr}
		return e
	}
	host, port, _ := net.SplitHostPort(s.Address) // settle has looked at it
	n, _ := strconv.ParseUint(port, 10, 16)
	e.host, e.port = host, uint16(n)
	return e
}

// addresses are those of the entry's servers; a unix socket has one that is zero.
func (e *entry) addresses() []netip.AddrPort {
	if e.Network == "unix" {
		return make([]netip.AddrPort, 1)
	}
	return e.addrs
}

// id names the entry's server at that address.
func (e *entry) id(addr netip.AddrPort) string {
	at := e.Address
	if e.host != "" {
		at = addr.String()
	}
	if at == e.Name {
		return at
	}
	return e.Name + "@" + at
}

// watch looks the entry's name up again and again. It is a goroutine of the
// generation and ends with it.
func (u *Upstream) watch(e *entry) {
	for {
		pause := u.config.ResolveInterval
		if !u.lookup(e) {
			pause = min(pause, lookupAgain)
		}
		pause -= time.Duration(u.env.Rand() % uint64(pause/10+1)) // gateways do not ask in step
		select {
		case <-u.ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// lookup asks once and takes the answer over. A failure changes nothing.
func (u *Upstream) lookup(e *entry) bool {
	ctx, stop := context.WithTimeout(u.ctx, lookupTime)
	defer stop()
	ips, err := u.env.Resolver.LookupNetIP(ctx, "ip", e.host)
	if u.ctx.Err() != nil {
		return false
	}
	if err == nil && len(ips) == 0 {
		err = fmt.Errorf("name %q has no address", e.host)
	}
	var addrs []netip.AddrPort
	for _, ip := range ips {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), e.port))
	}
	slices.SortFunc(addrs, netip.AddrPort.Compare)
	addrs = slices.Compact(addrs)

	u.mu.Lock()
	was, failed, first := e.addrs, e.err != nil, !e.settled
	e.settled, e.err = true, err
	if err == nil {
		e.addrs = addrs
	}
	if first || err == nil && !slices.Equal(was, addrs) {
		u.rebuild()
	}
	u.mu.Unlock()
	u.wake()
	u.tellLookup(e, was, addrs, failed, err)
	return err == nil
}

// tellLookup tells changes and the first failure.
func (u *Upstream) tellLookup(e *entry, was, is []netip.AddrPort, failed bool, err error) {
	ev := &u.env.Events
	switch {
	case err != nil:
		if !failed && ev.NotResolved != nil {
			ev.NotResolved(u.config.Name, e.Name, err)
		}
	case !slices.Equal(was, is) && ev.Resolved != nil:
		ev.Resolved(u.config.Name, e.Name, without(is, was), without(was, is))
	}
}

// without are the addresses of a that are not in b.
func without(a, b []netip.AddrPort) (out []netip.Addr) {
	for _, x := range a {
		if !slices.Contains(b, x) {
			out = append(out, x.Addr())
		}
	}
	return out
}

var errNoAddress = errors.New("no server has an address yet")

// lookupError is why there are no servers.
func (u *Upstream) lookupError() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	all := []error{errNoAddress}
	for _, e := range u.entries {
		all = append(all, e.err)
	}
	return errors.Join(all...)
}
