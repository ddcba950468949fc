package loop

import "math/bits"

const (
	minClassBits = 9  // 512
	maxClassBits = 17 // 128 KiB
	classes      = maxClassBits - minClassBits + 1
	classKeep    = 512 << 10 // octets kept per class
)

// pool keeps free buffers of one loop by size class. What it keeps is bounded;
// beyond that buffers go to the collector.
type pool struct {
	free [classes][][]byte
}

func (p *pool) get(n int) []byte {
	if n > 1<<maxClassBits {
		return make([]byte, 0, n)
	}
	class := 0
	if n > 1<<minClassBits {
		class = bits.Len(uint(n-1)) - minClassBits
	}
	list := p.free[class]
	if k := len(list) - 1; k >= 0 {
		b := list[k]
		list[k] = nil
		p.free[class] = list[:k]
		return b
	}
	return make([]byte, 0, 1<<(class+minClassBits))
}

// put takes back a buffer of exactly a class; others are left to the collector.
func (p *pool) put(b []byte) {
	c := cap(b)
	class := bits.Len(uint(c)) - 1 - minClassBits
	if class < 0 || class >= classes || c != 1<<(class+minClassBits) {
		return
	}
	if len(p.free[class]) < classKeep>>(class+minClassBits) {
		p.free[class] = append(p.free[class], b[:0])
	}
}

// Buffer returns an empty slice with room for at least n octets, from size
// classes of 512 to 128 KiB; a larger one comes from the heap. On the loop.
func (l *Loop) Buffer(n int) []byte { return l.pool.get(n) }

// Free takes back what Buffer gave, with its original start; nil is allowed. The
// caller keeps no reference. On the loop.
func (l *Loop) Free(p []byte) { l.pool.put(p) }
