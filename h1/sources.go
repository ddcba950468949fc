package h1

import "net/netip"

// retryAfter is what a client is asked to wait for a port, in seconds.
const retryAfter = "5"

// sources are the addresses that one connection may come from.
type sources struct {
	now   netip.Addr // zero: the kernel chooses
	v4    bool       // the family that counts
	first int        // where the turn began
	tried int        // of Backend.Sources, looked at
}

// sources begins a turn of the source addresses for a target.
func (b *Backend) sources(t target) sources {
	if len(b.Sources) == 0 || t.network != "tcp" {
		return sources{tried: len(b.Sources)}
	}
	s := sources{
		v4:    t.addr.Addr().Unmap().Is4(),
		first: int(b.turn.Add(1) % uint32(len(b.Sources))),
	}
	s.next(b.Sources)
	return s
}

// next goes on to another source of the family; false if there is none left.
func (s *sources) next(all []netip.Addr) bool {
	for s.tried < len(all) {
		a := all[(s.first+s.tried)%len(all)].Unmap()
		s.tried++
		if a.Is4() == s.v4 {
			s.now = a
			return true
		}
	}
	return false
}
