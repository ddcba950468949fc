package h2

// queue holds octets of one stream that its owner has not taken, in pooled
// buffers. The stream's window bounds it.
type queue struct {
	bufs [][]byte
	off  int // taken of bufs[0]
	size int // of all buffers, for Memory
}

const queueChunk = 4 << 10

func (q *queue) empty() bool   { return len(q.bufs) == 0 }
func (q *queue) front() []byte { return q.bufs[0][q.off:] }

// put copies p to the end.
func (q *queue) put(p []byte, sh *shard) {
	if k := len(q.bufs) - 1; k >= 0 {
		last := q.bufs[k]
		n := min(cap(last)-len(last), len(p))
		q.bufs[k] = append(last, p[:n]...)
		p = p[n:]
	}
	if len(p) > 0 {
		b := append(sh.loop.Buffer(max(len(p), queueChunk)), p...)
		q.size += cap(b)
		sh.mem.add(cap(b))
		q.bufs = append(q.bufs, b)
	}
}

// take drops the first n octets, which lie in the first buffer.
func (q *queue) take(n int, sh *shard) {
	if q.off += n; q.off < len(q.bufs[0]) {
		return
	}
	b := q.bufs[0]
	q.off = 0
	copy(q.bufs, q.bufs[1:])
	q.bufs[len(q.bufs)-1] = nil
	q.bufs = q.bufs[:len(q.bufs)-1]
	q.size -= cap(b)
	sh.mem.add(-cap(b))
	sh.loop.Free(b)
}

// enqueue keeps p for the owner. Early data comes here too: no octet reaches a
// backend before its 101.
func (s *stream) enqueue(p []byte) {
	sh := s.c.sh
	if s.q == nil {
		if k := len(sh.queues) - 1; k >= 0 {
			s.q, sh.queues = sh.queues[k], sh.queues[:k]
		} else {
			s.q = new(queue)
		}
	}
	s.q.put(p, sh)
}

func (s *stream) dropQueue() {
	q := s.q
	if q == nil {
		return
	}
	sh := s.c.sh
	for _, b := range q.bufs {
		sh.loop.Free(b)
	}
	sh.mem.add(-q.size)
	clear(q.bufs)
	*q = queue{bufs: q.bufs[:0]}
	s.q = nil
	if len(sh.queues) < 64 {
		sh.queues = append(sh.queues, q)
	}
}
