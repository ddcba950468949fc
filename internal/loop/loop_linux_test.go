package loop

import (
	"errors"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// ear is an entry that counts its events.
type ear struct{ events int }

func (e *ear) event(uint32) { e.events++ }
func (e *ear) turn()        {}
func (e *ear) stop()        {}

func TestSlotReusedInBatchDoesNotGetTheOldEvent(t *testing.T) {
	l := newLoop(t)
	a, peerA := adopted(t, l)
	b, peerB := adopted(t, l)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	e := &ear{}
	reused := false
	// Whichever is first closes the other and puts a silent descriptor into its slot.
	first := func(victim *owner) func([]byte) int {
		return func(p []byte) int {
			if !reused && l.nev == 2 {
				slot := victim.c.slot
				victim.c.Reset(ReasonInternal)
				got, err := l.register(int32(r.Fd()), e)
				reused = got == slot && err == nil
			}
			return len(p)
		}
	}
	on(t, l, func() {
		a.take, b.take = first(b), first(a)
		peerA.Write([]byte("x")) // both lie ready for the next batch
		peerB.Write([]byte("x"))
	})
	turns(t, l, 5)
	on(t, l, func() {
		if !reused {
			t.Error("got no slot reused within a batch, want one")
		}
		if e.events != 0 {
			t.Errorf("got %d events of the old descriptor, want 0", e.events)
		}
		if len(a.log)+len(b.log) != 1 {
			t.Errorf("got stories %q and %q, want one of them empty", a.story(), b.story())
		}
		for i := range l.slots {
			if l.slots[i].entry == entry(e) {
				l.unregister(int32(i))
			}
		}
	})
}

func TestPostIsNotLostWhenParking(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))) // with one P a loop never holds it
	l, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	// The worst moments: epoll has said "nothing" and the loop is about to sleep,
	// and it sleeps already, one way or the other.
	var moments []string
	ran := make(chan struct{}, 4)
	post := func(moment string) {
		if !slices.Contains(moments, moment) {
			moments = append(moments, moment)
			l.Post(func() {
				if moment == "holding" {
					l.event = -int64(time.Hour) // it parks the next time
				}
				ran <- struct{}{}
			})
		}
	}
	l.epoll = func(fd int, ev []unix.EpollEvent, ms int, park bool) (int, unix.Errno) {
		switch {
		case park:
			post("parking")
		case ms != 0:
			post("holding")
		}
		n, e := epollWait(fd, ev, ms, park)
		if n == 0 && e == 0 && ms == 0 {
			post("after a look")
		}
		return n, e
	}
	start(t, l)
	for range 3 {
		await(t, ran, "the post")
	}
}

func TestPostsFromManyGoroutinesRunInOrder(t *testing.T) {
	l := newLoop(t)
	var wg sync.WaitGroup
	const posters, rounds = 4, 3000
	for range posters {
		wg.Go(func() {
			last, back := -1, make(chan int, 3)
			for i := range rounds {
				l.Post(func() {
					if last != i-1 {
						t.Errorf("got post %d after %d, want order", i, last)
					}
					last = i
					back <- i
				})
				if i%3 == 2 { // three at a time, then let the loop park
					for range 3 {
						await(t, back, "the post")
					}
				}
			}
		})
	}
	wg.Wait()
	if got := l.Stats().Posts; got < posters*rounds {
		t.Errorf("got %d posts counted, want at least %d", got, posters*rounds)
	}
}

func TestEINTRIsRetried(t *testing.T) {
	l, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	interrupts := 0
	l.epoll = func(fd int, ev []unix.EpollEvent, ms int, park bool) (int, unix.Errno) {
		if interrupts++; interrupts%2 == 1 {
			return -1, unix.EINTR
		}
		return epollWait(fd, ev, ms, park)
	}
	start(t, l)
	turns(t, l, 10)
}

func TestSignalStormDoesNotDisturb(t *testing.T) {
	l := newLoop(t)
	ours, peer := pipe(t)
	on(t, l, func() {
		c, err := l.AdoptTCP(ours)
		if err != nil {
			t.Error(err)
			return
		}
		c.Bind(&echoer{c: c})
	})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				syscall.Kill(os.Getpid(), syscall.SIGURG) // the runtime's own, harmless
			}
		}
	})
	want := pattern(4 << 20)
	wg.Go(func() {
		peer.Write(want)
		peer.CloseWrite()
	})
	same(t, readAll(t, peer), want)
	close(stop)
	wg.Wait()
}

func TestTimersOnTheLoop(t *testing.T) {
	l := newLoop(t)
	var log []string
	var late []time.Duration
	done := make(chan struct{})
	on(t, l, func() {
		from := l.Now()
		arm := func(name string, d time.Duration, then func()) *Timer {
			tm := &Timer{}
			tm.Fire = func() {
				log = append(log, name)
				if got := time.Since(from); got < d {
					t.Errorf("got timer %q after %v, want at least %v", name, got, d)
				}
				late = append(late, l.Now().Sub(from)-d)
				if then != nil {
					then()
				}
			}
			l.After(d, tm)
			return tm
		}
		arm("c", 90*time.Millisecond, func() { close(done) })
		stopped := arm("stopped", 5*time.Millisecond, nil)
		moved := arm("a", time.Millisecond, nil)
		arm("b", 60*time.Millisecond, nil)
		arm("now", 0, nil)
		if len(log) != 0 {
			t.Errorf("got %v fired within After, want nothing", log)
		}
		stopped.Stop()
		moved.Stop()
		l.After(30*time.Millisecond, moved)
	})
	await(t, done, "the last timer")
	on(t, l, func() {
		if want := []string{"now", "a", "b", "c"}; !slices.Equal(log, want) {
			t.Errorf("got %v, want %v", log, want)
		}
	})
}

func TestTimerMovedToEarlierWhileParked(t *testing.T) {
	l := newLoop(t)
	fired := make(chan struct{})
	tm := &Timer{Fire: func() { close(fired) }}
	on(t, l, func() { l.After(time.Hour, tm) })
	turns(t, l, 2)
	on(t, l, func() { l.After(time.Millisecond, tm) })
	await(t, fired, "the timer at its new time")
}

func TestIdleLoopHasNoTick(t *testing.T) {
	l := newLoop(t)
	turns(t, l, 3)
	far := &Timer{Fire: func() {}}
	near := &Timer{}
	fired := make(chan uint64, 1)
	var before uint64
	near.Fire = func() { fired <- l.parks - before }
	on(t, l, func() {
		before = l.parks
		l.event = -int64(time.Hour) // it has been quiet for long
		l.After(time.Hour, far)
		l.After(300*time.Millisecond, near)
	})
	// The parks: one until the timer, one for each level that it descends.
	if got := await(t, fired, "the timer"); got > 3 {
		t.Errorf("got %d parks in 300 ms of idling, want at most 3", got)
	}
	on(t, l, far.Stop)
}

type flusher func()

func (f flusher) Flush() { f() }

func TestTurnEndFlushesOnceBehindTheBatch(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	var log []string
	done := make(chan struct{})
	on(t, l, func() {
		o.take = func(p []byte) int {
			log = append(log, "data")
			l.TurnEnd(flusher(func() {
				log = append(log, "flush")
				l.TurnEnd(flusher(func() { log = append(log, "next"); close(done) }))
				l.Post(func() { log = append(log, "post") })
			}))
			return len(p)
		}
		peer.Write([]byte("x"))
	})
	await(t, done, "the flush of the next turn")
	on(t, l, func() {
		if want := []string{"data", "flush", "post", "next"}; !slices.Equal(log, want) {
			t.Errorf("got %v, want %v", log, want)
		}
	})
}

func TestStatsCountEntriesAndTimers(t *testing.T) {
	l := newLoop(t)
	o, _ := adopted(t, l)
	tm := &Timer{Fire: func() {}}
	on(t, l, func() { l.After(time.Hour, tm) })
	turns(t, l, 2)
	if s := l.Stats(); s.Entries != 1 || s.Timers != 1 || s.Busy < 0 || s.Busy > 1 {
		t.Errorf("got %+v, want 1 entry, 1 timer and a share", s)
	}
	on(t, l, func() { tm.Stop(); o.c.Reset(ReasonInternal) })
	turns(t, l, 2)
	if s := l.Stats(); s.Entries != 0 || s.Timers != 0 {
		t.Errorf("got %+v, want no entry and no timer", s)
	}
}

func TestWakeDelayIsMeasured(t *testing.T) {
	l := newLoop(t)
	deadline := time.Now().Add(patience)
	for l.Stats().WakeDelayMax == 0 {
		turns(t, l, 1)
		if time.Now().After(deadline) {
			t.Fatal("got no wake-up delay, want one")
		}
	}
}

func TestStopResetsSocketsAndTellsOwners(t *testing.T) {
	l := newLoop(t)
	o, peer := adopted(t, l)
	posted := make(chan struct{})
	on(t, l, func() {
		l.Stop()
		l.Post(func() { close(posted) }) // accepted before the end: runs
	})
	await(t, posted, "the post that was accepted")
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want ECONNRESET", err)
	}
	deadline := time.Now().Add(patience)
	for l.TryPost(func() {}) {
		if time.Now().After(deadline) {
			t.Fatal("got a loop that takes posts, want it stopped")
		}
	}
	l.Stop() // again: nothing
	if o.story() != "broken" || o.fail.Reason != ReasonShutdown || !errors.Is(o.fail, ErrStopped) {
		t.Errorf("got %q %v, want broken by shutdown", o.story(), o.fail)
	}
}

func TestStopBeforeRun(t *testing.T) {
	before := countFDs()
	l, err := New(Config{ID: 3})
	if err != nil {
		t.Fatal(err)
	}
	ran := false
	l.Post(func() { ran = true })
	l.Stop()
	l.Run() // returns at once
	if !ran || l.TryPost(func() {}) {
		t.Errorf("got ran %v, want the post run and later ones refused", ran)
	}
	if after := countFDs(); after != before {
		t.Errorf("got %d descriptors, want %d", after, before)
	}
}

func TestAdoptAfterStopClosesTheSocket(t *testing.T) {
	l, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	ours, peer := pipe(t)
	before := countFDs()
	l.Stop()
	if _, err := l.AdoptTCP(ours); !errors.Is(err, ErrStopped) {
		t.Errorf("got %v, want ErrStopped", err)
	}
	readAll(t, peer)
	if after := countFDs(); after >= before {
		t.Errorf("got %d descriptors, want fewer than %d", after, before)
	}
}

func TestGroupPick(t *testing.T) {
	g, err := NewGroup(3)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Stop()
	for i, l := range g.Loops() {
		if l.ID() != i {
			t.Errorf("got loop %d at %d, want its number", l.ID(), i)
		}
	}
	// The loops do not run, so their shares are what we say.
	busy := func(i int, share float64) {
		l := g.Loops()[i]
		now := max(l.clock(), int64(time.Second))
		l.base = l.base.Add(time.Duration(l.clock() - now))
		l.gauge = gauge{}
		l.gauge.addBusy(now-int64(share*float64(time.Second)), now)
	}
	for _, c := range []struct {
		shares [3]float64
		want   int
	}{
		{[3]float64{0, 0, 0}, 0},
		{[3]float64{0.3, 0, 0}, 0},
		{[3]float64{0.9, 0.2, 0}, 1},
		{[3]float64{0.95, 0.9, 0.2}, 2},
		{[3]float64{1, 0.75, 0.9}, 1},
	} {
		for i, s := range c.shares {
			busy(i, s)
		}
		if got := g.Pick(); got.ID() != c.want {
			t.Errorf("got loop %d for shares %v, want %d", got.ID(), c.shares, c.want)
		}
	}
}

func TestGroupStartAndStop(t *testing.T) {
	g, err := NewGroup(2)
	if err != nil {
		t.Fatal(err)
	}
	g.Start()
	for _, l := range g.Loops() {
		turns(t, l, 2)
	}
	g.Stop()
	for _, l := range g.Loops() {
		if l.TryPost(func() {}) {
			t.Errorf("got loop %d running, want it stopped", l.ID())
		}
	}
}

// TestYield: what a turn has woken runs before the loop has had many more, though
// the loop never sleeps and no other P is there.
func TestYield(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	l := newLoop(t)
	var ran atomic.Bool
	turns := make(chan int, 1)
	on(t, l, func() {
		go ran.Store(true)
		n := 0
		var again func()
		again = func() {
			if ran.Load() {
				turns <- n
				return
			}
			n++
			l.Yield()
			l.Post(again)
		}
		again()
	})
	if n := await(t, turns, "the goroutine"); n > 3 {
		t.Errorf("got %d turns before it ran, want 3 at most", n)
	}
}
