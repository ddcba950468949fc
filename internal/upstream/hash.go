package upstream

import "math"

// The hash is FNV-1a with the finalizer of SplitMix64 behind it. It is the same
// in every process, so that replicas agree.

const (
	hashSeed  = 14695981039346656037
	hashPrime = 1099511628211
)

func hashString(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * hashPrime
	}
	return (h ^ 0xff) * hashPrime // ends the part
}

func hashBytes(h uint64, p []byte) uint64 {
	for _, c := range p {
		h = (h ^ uint64(c)) * hashPrime
	}
	return (h ^ 0xff) * hashPrime
}

// mix spreads every bit over all.
func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}

// chance is the lot that a key draws at a server, in (0, 1). With score it makes
// weighted rendezvous hashing: of all servers the one with the highest score has
// the key. Each wins in proportion to its weight, and what it wins does not hang
// on who else is there.
func chance(key, seed uint64) float64 {
	return (float64(mix(key^seed)>>11) + 0.5) / (1 << 53)
}

func score(u, weight float64) float64 { return -weight / math.Log(u) }

const (
	// bound is how much more than its share a server may have before keys go to
	// their next one (consistent hashing with bounded loads).
	bound = 1.25
	// boundFloor is what a server may have in any case: with few clients the
	// shares are so small that the bound would tear keys apart.
	boundFloor = 10
)

// byHash takes the server with the highest score among those within the bound.
func (p *pick) byHash(key uint64) *endpoint {
	key = mix(key)
	total, weight := 1, 0
	for _, e := range p.t.list {
		if p.may(e) {
			total += e.load()
			weight += e.weight
		}
	}
	share := bound * float64(total) / float64(max(weight, 1))
	best := p.highest(key, share)
	if best == nil { // the loads moved meanwhile
		best = p.highest(key, math.Inf(1))
	}
	return best
}

// highest is the server with the highest score among those that have less than
// that for their weight.
func (p *pick) highest(key uint64, share float64) (best *endpoint) {
	high := 0.0
	for _, e := range p.t.list {
		u, weight := chance(key, e.seed), float64(e.weight)
		if weight <= high*(1-u) { // -ln u >= 1-u: it cannot win, and needs no logarithm
			continue
		}
		s := score(u, weight)
		if s > high && p.may(e) && float64(e.load()) < math.Max(boundFloor, math.Ceil(share*weight)) {
			best, high = e, s
		}
	}
	return best
}
