package sidetest

import "io"

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
// and nothing comes twice, and credit is given for what was taken.
func shortTakes(s *story) {
	const sent, taken = 50000, 40000
	s.room = taken
	s.bind()
	p := pattern(sent)
	s.peerWrites(p)
	s.await("what there is room for", func() bool { return len(s.got) == taken })
	s.turns()
	s.mu.Lock()
	calls := s.calls
	s.mu.Unlock()
	s.must(s.Peer.CloseWrite())
	s.turns()
	s.mu.Lock()
	// A source that does not ask Want first may have to call once more to
	// learn that there is no room.
	if s.calls > calls+1 || len(s.got) != taken || s.ends != 0 {
		s.t.Errorf("before Resume: got %d calls more, %d octets, %d ends; want silence", s.calls-calls, len(s.got), s.ends)
	}
	s.mu.Unlock()
	if s.Credit != nil {
		if c := s.Credit(); c > taken {
			s.t.Errorf("credit: got %d, want at most the %d that were taken", c, taken)
		}
	}
	s.on(func() { s.mu.Lock(); s.room = -1; s.mu.Unlock(); s.Side.Resume() })
	s.awaitEnd()
	s.awaitData(p)
	if s.Credit != nil {
		if c := s.Credit(); c > sent {
			s.t.Errorf("credit: got %d, want at most the %d that were taken", c, sent)
		}
	}
	s.send(nil, true)
	s.peerEnds(io.EOF)
	s.clean()
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
