package sidetest

import (
	"io"
	"slices"
)

func ourEndFirst(s *story) {
	s.bind()
	s.send([]byte("hello"), true)
	s.peerReads([]byte("hello"))
	s.peerEnds(io.EOF)
	s.peerWrites([]byte("tail")) // the other direction goes on
	s.awaitData([]byte("tail"))
	s.must(s.Peer.CloseWrite())
	s.awaitEnd()
	s.clean()
}

func peerEndFirst(s *story) {
	s.bind()
	s.peerWrites([]byte("hello"))
	s.must(s.Peer.CloseWrite())
	s.awaitEnd()
	s.awaitData([]byte("hello"))
	s.send([]byte("tail"), false)
	s.peerReads([]byte("tail"))
	s.send([]byte("more"), true)
	s.peerReads([]byte("more"))
	s.peerEnds(io.EOF)
	s.clean()
}

func bothAtOnce(s *story) {
	s.bind()
	done := make(chan error, 1)
	go func() { done <- s.Peer.CloseWrite() }()
	s.send(nil, true)
	s.must(<-done)
	s.peerEnds(io.EOF)
	s.awaitEnd()
	s.clean()
	s.on(func() { s.Side.CloseWrite() }) // again is nothing
	s.clean()
}

// resetAfterEnd: the peer has read nothing yet, and gets all of it.
func resetAfterEnd(s *story) {
	s.bind()
	tail := pattern(32 << 10)
	s.send(tail, true)
	s.must(s.Peer.CloseWrite())
	s.awaitEnd()
	s.on(func() {
		if len(s.out) != 0 {
			s.t.Errorf("waiting octets: got %d, want 0", len(s.out))
		}
	})
	s.reset()
	s.peerReads(tail)
	s.peerEnds(io.EOF)
	s.clean()
}

func ourReset(s *story) {
	s.bind()
	s.peerWrites([]byte("hello"))
	s.awaitData([]byte("hello"))
	s.reset()
	s.peerCut()
	s.turns()
	s.on(func() {
		s.Side.CloseWrite()
		s.Side.Resume()
		if n := s.Side.Write([]byte("x")); n != 0 {
			s.t.Errorf("Write after Reset: got %d, want 0", n)
		}
	})
	s.turns()
	s.silent()
}

// silent checks that neither end nor break was told.
func (s *story) silent() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends != 0 || len(s.broken) != 0 || s.late != "" {
		s.t.Errorf("got %d ends, broken %v, late %q; want silence", s.ends, s.broken, s.late)
	}
}

// fill writes until no more is taken.
func (s *story) fill() {
	s.t.Helper()
	s.send(make([]byte, 64<<20), false)
	s.on(func() {
		if !s.full || len(s.out) == 0 {
			s.t.Error("64 MiB went into a peer that does not read, want a short Write")
		}
		if n := s.Side.Write([]byte("x")); n != 0 {
			s.t.Errorf("Write after a short one: got %d, want 0", n)
		}
	})
}

func ourResetWhileWaiting(s *story) {
	s.bind()
	s.fill()
	s.reset()
	s.peerCut()
	s.turns()
	s.silent()
}

func peerResetWhileWaiting(s *story) {
	s.bind()
	s.fill()
	s.must(s.Peer.Reset())
	s.reason()
	s.noEnd()
}

func (s *story) noEnd() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends != 0 {
		s.t.Errorf("got %d ends, want none", s.ends)
	}
}

func peerResetBehindData(s *story) {
	s.bind()
	s.peerWrites([]byte("hello"))
	s.awaitData([]byte("hello"))
	s.must(s.Peer.Reset())
	s.reason()
	s.noEnd()
}

// resetSeenByWrite: the loop cannot have heard of the reset before it writes.
func resetSeenByWrite(s *story) {
	s.bind()
	s.peerWrites([]byte("hello"))
	s.awaitData([]byte("hello"))
	s.on(func() {
		s.must(s.Peer.Reset())
		for range 3 {
			s.Side.Write([]byte("late"))
		}
	})
	s.reason()
	s.noEnd()
}

func resetAfterOurEnd(s *story) {
	s.bind()
	s.send([]byte("hello"), true)
	s.peerReads([]byte("hello"))
	s.must(s.Peer.Reset())
	s.reason()
	s.noEnd()
}

func bigDown(s *story) {
	s.bind()
	p := pattern(1 << 20)
	s.send(p, true)
	s.peerReadsAll(p)
}

// smallDown writes 1 MiB in pieces of 700 octets, in one turn as far as there is room.
func smallDown(s *story) {
	s.bind()
	p := pattern(1 << 20)
	s.on(func() {
		for piece := range slices.Chunk(p, 700) {
			s.out = append(s.out, piece...)
			s.push()
		}
		s.fin = true
		s.push()
	})
	s.peerReadsAll(p)
}

// peerReadsAll reads p in sips and an orderly end, and answers that.
func (s *story) peerReadsAll(p []byte) {
	s.t.Helper()
	got := make([]byte, 0, len(p))
	buf := make([]byte, 1000)
	for {
		n, err := s.Peer.Read(buf)
		got = append(got, buf[:n]...)
		if err == io.EOF {
			break
		}
		s.must(err)
	}
	if string(got) != string(p) {
		s.t.Errorf("peer: got %d octets, want the same %d", len(got), len(p))
	}
	s.must(s.Peer.CloseWrite())
	s.awaitEnd()
	s.clean()
}

// bigUp takes 1 MiB in sips of 5000 octets.
func bigUp(s *story) {
	s.room = 0
	s.bind()
	p := pattern(1 << 20)
	done := make(chan error, 1)
	go func() {
		_, err := s.Peer.Write(p)
		if err == nil {
			err = s.Peer.CloseWrite()
		}
		done <- err
	}()
	for taken := 0; taken < len(p); {
		taken = min(taken+5000, len(p))
		s.on(func() { s.mu.Lock(); s.room = taken - len(s.got); s.mu.Unlock(); s.Side.Resume() })
		s.await("what there is room for", func() bool { return len(s.got) == taken })
	}
	s.must(<-done)
	s.on(func() { s.mu.Lock(); s.room = 1; s.mu.Unlock(); s.Side.Resume() }) // TLS has to read to see the end
	s.awaitEnd()
	s.awaitData(p)
	s.send(nil, true)
	s.peerEnds(io.EOF)
	s.clean()
}

// shortTakes: after a short Data there is silence until Resume, nothing is lost
// and nothing comes twice, and credit is given for what was taken. An end waits
// for what comes before it.
func shortTakes(s *story) {
	// The short take falls into the middle of a frame of 16 KiB and just below
	// half a window of 64 KiB: credit for the whole frame would show.
	const first, taken, all = 48000, 32384, 58000
	p := pattern(all)
	s.room = taken
	s.bind()
	s.peerWrites(p[:first])
	s.await("what there is room for", func() bool { return len(s.got) == taken })
	s.quiet(taken)
	s.credited(taken)
	s.take(-1)
	s.await("the rest", func() bool { return len(s.got) == first })
	s.credited(first)

	s.take(5000)
	s.peerWrites(p[first:])
	s.must(s.Peer.CloseWrite())
	s.await("what there is room for", func() bool { return len(s.got) == first+5000 })
	s.quiet(first + 5000)
	s.take(-1)
	s.awaitEnd()
	s.awaitData(p)
	s.credited(all)
	s.send(nil, true)
	s.peerEnds(io.EOF)
	s.clean()
}

// take makes room for n octets, and says so.
func (s *story) take(n int) {
	s.t.Helper()
	s.on(func() { s.mu.Lock(); s.room = n; s.mu.Unlock(); s.Side.Resume() })
}

// quiet checks that nothing more is told while there is no room. A source that
// does not ask Want may call once more to learn that.
func (s *story) quiet(total int) {
	s.t.Helper()
	s.mu.Lock()
	calls := s.calls
	s.mu.Unlock()
	s.turns()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls > calls+1 || len(s.got) != total || s.ends != 0 || len(s.broken) != 0 {
		s.t.Errorf("without room: got %d calls more, %d octets, %d ends, broken %v; want silence", s.calls-calls, len(s.got), s.ends, s.broken)
	}
}

// credited checks that the peer got no more credit than was taken.
func (s *story) credited(taken int64) {
	s.t.Helper()
	if s.Credit == nil {
		return
	}
	if c := s.Credit(); c > taken {
		s.t.Errorf("credit: got %d, want at most the %d that were taken", c, taken)
	}
}

// lateOwner: what came before Bind is delivered after it, the end too, and not
// from within Bind.
func lateOwner(s *story) {
	s.peerWrites([]byte("early"))
	s.must(s.Peer.CloseWrite())
	s.turns()
	s.on(func() {
		s.Side.Bind(s)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.calls != 0 || s.ends != 0 {
			s.t.Errorf("within Bind: got %d calls, %d ends; want none", s.calls, s.ends)
		}
	})
	s.awaitEnd()
	s.awaitData([]byte("early"))
	s.send([]byte("late"), true)
	s.peerReads([]byte("late"))
	s.peerEnds(io.EOF)
	s.clean()
}
