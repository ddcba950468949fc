package h1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"
)

// addresses is what a name stood for, and until when that is believed.
type addresses struct {
	list  []netip.AddrPort
	until time.Time
}

// lookups lets all attempts that wait for the same name share one lookup.
type lookups struct {
	mu      sync.Mutex
	running bool
	waiting []func([]netip.AddrPort, error)
}

var errAddress = errors.New("backend address is not host:port")

// literal returns the address of a backend that is named by one, and whether
// it is.
func (b *Backend) literal() (netip.AddrPort, bool) {
	ap, err := netip.ParseAddrPort(b.Address)
	return ap, err == nil
}

// known returns the addresses of the backend's name if they are still believed.
func (b *Backend) known(now time.Time) []netip.AddrPort {
	if a := b.names.Load(); a != nil && now.Before(a.until) {
		return a.list
	}
	return nil
}

// lookup finds the addresses of the backend's name on a goroutine and calls
// then there, or at once if the address is no host:port. Attempts that ask
// while a lookup runs get its result.
func (b *Backend) lookup(then func([]netip.AddrPort, error)) {
	host, port, err := net.SplitHostPort(b.Address)
	n, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || host == "" {
		then(nil, fmt.Errorf("%w: %q", errAddress, b.Address))
		return
	}
	q := &b.lookups
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, then)
	if !q.running {
		q.running = true
		go b.runLookup(host, uint16(n))
	}
}

// runLookup is the one goroutine of a lookup. It ends with the resolver's
// answer, after OpenTimeout at the latest.
func (b *Backend) runLookup(host string, port uint16) {
	ctx, stop := context.WithTimeout(context.Background(), orDefault(b.OpenTimeout, defaultOpenTimeout))
	defer stop()
	r := b.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	ips, err := r.LookupNetIP(ctx, "ip", host)
	list := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		list = append(list, netip.AddrPortFrom(ip.Unmap(), port))
	}
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("name %q has no address", host)
	}
	if err == nil {
		b.names.Store(&addresses{list, time.Now().Add(orDefault(b.ResolveTTL, defaultResolveTTL))})
	}
	q := &b.lookups
	q.mu.Lock()
	waiting := q.waiting
	q.waiting, q.running = nil, false
	q.mu.Unlock()
	for _, then := range waiting {
		then(list, err)
	}
}
