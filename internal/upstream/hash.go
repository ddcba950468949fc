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

// score is how much a key belongs to a server: of all servers the highest has
// it. Each server wins in proportion to its weight, and what it wins does not
// hang on who else is there (weighted rendezvous hashing).
func score(key, seed uint64, weight float64) float64 {
	u := (float64(mix(key^seed)>>11) + 0.5) / (1 << 53) // in (0, 1)
	return -weight / math.Log(u)
}

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
	total, weight := 1, 0
	for _, e := range p.t.list {
		if p.may(e) {
			total += e.load()
			weight += e.weight
		}
	}
	var best, any *endpoint
	high, highAny := -1.0, -1.0
	share := bound * float64(total) / float64(max(weight, 1))
	for _, e := range p.t.list {
		if !p.may(e) {
			continue
		}
		s := score(key, e.seed, float64(e.weight))
		if s > highAny {
			any, highAny = e, s
		}
		if s > high && float64(e.load()) < math.Max(boundFloor, math.Ceil(share*float64(e.weight))) {
			best, high = e, s
		}
	}
	if best == nil {
		return any // the loads moved meanwhile
	}
	return best
}
