package loop

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Loop is an event loop: one goroutine, one epoll, and all that hangs on it. It
// implements bridge.Loop. Only Post, TryPost, Stop, Stats, Busy and ID may be
// called from any goroutine.
type Loop struct {
	id     int
	linger time.Duration
	// ephemeral is the first port that the kernel gives to outgoing connections.
	ephemeral uint16

	// Waiting.
	base   time.Time // zero of the loop's clock
	now    time.Time // of this turn
	epfd   int
	wakefd int
	epoll  func(fd int, ev []unix.EpollEvent, ms int, park bool) (int, unix.Errno) // epollWait; tests put faults here
	events [256]unix.EpollEvent
	nev    int
	parks  uint64
	pacer  pacer
	mark   int64 // start of the busy stretch, or of the sleep
	event  int64 // when the last event came

	// Work of this turn and the next.
	slots          []slot
	vacant         int32 // head of the list of free slots; 0 none
	entries        int
	yield          bool // goroutines want the P after this turn
	ended          bool // sockets are closed, nothing registers any more
	wheel          wheel
	ready, running []entry
	flush, flushed []Flusher
	young          []young // in the order of due
	grown          int     // of young, those that are done with

	// Left to the end of the turn.
	dials, dialling []*dial
	closes          []int32
	lates           []late
	lateBuf         []byte // what they are to send

	pool    pool
	scratch []byte // what read(2) and the TLS codec deliver
	cin     []byte // ciphertext of the connection that is being read
	cout    []byte // ciphertext of the call that is being made

	// Shared with other goroutines.
	mu       sync.Mutex
	posts    []func()
	closed   bool
	wakers   sync.WaitGroup // posts that are about to write the eventfd
	batch    []func()       // of the loop
	pending  atomic.Int32   // len(posts)
	awake    atomic.Bool    // the loop will look at posts before it sleeps
	wokenAt  atomic.Int64
	state    atomic.Int32
	stopping atomic.Bool
	gauge    gauge
}

const (
	stateNew int32 = iota
	stateRunning
	stateStopped

	tick = int64(time.Millisecond)
)

// New makes a loop: epoll, eventfd, buffers. It starts nothing.
func New(cfg Config) (*Loop, error) {
	l := &Loop{id: cfg.ID, linger: cfg.CloseLinger, base: time.Now(), epoll: epollWait, epfd: -1, wakefd: -1}
	if l.linger <= 0 {
		l.linger = 10 * time.Second
	}
	l.now = l.base
	l.ephemeral = ephemeralPort()
	l.wheel.init()
	l.slots = make([]slot, 1, 64) // slot 0 is the eventfd
	l.scratch = make([]byte, scratchSize)
	l.cin = make([]byte, scratchSize)
	l.cout = make([]byte, 0, scratchSize+4<<10)
	l.lates = make([]late, 0, maxLates)
	l.lateBuf = make([]byte, 0, scratchSize)
	if err := l.open(); err != nil {
		l.release()
		return nil, fmt.Errorf("event loop %d: %w", cfg.ID, err)
	}
	return l, nil
}

func (l *Loop) open() error {
	var err error
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create1", err)
	}
	if l.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	// Edge-triggered: every write to the eventfd is a new edge, so it is never read.
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}
	if err = unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, l.wakefd, &ev); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	return nil
}

// release closes the loop's own descriptors.
func (l *Loop) release() {
	if l.wakefd >= 0 {
		unix.Close(l.wakefd)
	}
	if l.epfd >= 0 {
		unix.Close(l.epfd)
	}
}

// ID returns the number from the Config. Any goroutine.
func (l *Loop) ID() int { return l.id }

// Now is the time at which the present turn began, with a monotonic reading. On
// the loop.
func (l *Loop) Now() time.Time { return l.now }

// Stats returns the loop's figures. Any goroutine.
func (l *Loop) Stats() Stats { return l.gauge.stats(l.clock()) }

// Busy returns the share of the last second that the loop was not waiting, 0 to
// 1. Any goroutine.
func (l *Loop) Busy() float64 { return l.gauge.busy(l.clock()) }

// clock returns the time on the loop's clock in ns.
func (l *Loop) clock() int64 { return int64(time.Since(l.base)) }

// After arms t to fire d after the beginning of this turn, or moves it there if
// it is armed. It never fires before After returns. On the loop.
func (l *Loop) After(d time.Duration, t *Timer) {
	at := int64(l.now.Sub(l.base)) + int64(max(d, 0))
	if at < 0 { // beyond the clock
		at = 1<<63 - 1 - tick
	}
	l.wheel.arm(t, (at+tick-1)/tick)
}

// TurnEnd calls f.Flush once at the end of this turn. The caller sees to it that
// it asks only once a turn; asked from within Flush it means the next turn. On
// the loop.
func (l *Loop) TurnEnd(f Flusher) { l.flush = append(l.flush, f) }

// Yield lets the goroutines that this turn has woken run before the next one. A
// loop that sleeps keeps its P (see sleep): they would wait until another P has
// nothing else to do. On the loop.
func (l *Loop) Yield() { l.yield = true }

// Run is the loop itself. It returns after Stop. The caller gives it a goroutine.
func (l *Loop) Run() {
	if !l.state.CompareAndSwap(stateNew, stateRunning) {
		return
	}
	running.Add(1)
	defer running.Add(-1)
	l.awake.Store(true)
	l.beginTurn()
	for !l.stopping.Load() {
		l.wait()
		l.turn()
	}
	l.shutdown()
}

// Stop closes every socket on the loop by RST, tells their owners Broken with
// ReasonShutdown, and lets Run return. It does not wait. Any goroutine.
func (l *Loop) Stop() {
	if l.state.CompareAndSwap(stateNew, stateStopped) {
		l.shutdown() // it never ran, so this goroutine is the loop
		return
	}
	l.stopping.Store(true)
	l.Post(func() {})
}

// turn does one round of work.
func (l *Loop) turn() {
	// Who asks for a turn from here on gets it in the next round, so that nobody
	// has two in one.
	l.running, l.ready = l.ready, l.running[:0]
	l.dispatch()
	l.runReady()
	l.wheel.advance(int64(l.now.Sub(l.base)) / tick)
	l.grow()
	l.runPosts()
	l.runFlush()
	l.runLate()
	l.runDials()
	l.runCloses()
	if l.yield {
		l.yield = false
		runtime.Gosched()
	}
	l.gauge.entries.Store(int64(l.entries))
	l.gauge.timers.Store(int64(l.wheel.count))
}

// runReady gives those who asked for it in an earlier turn their turn.
func (l *Loop) runReady() {
	for i, e := range l.running {
		l.running[i] = nil
		e.turn()
	}
}

func (l *Loop) runFlush() {
	l.flushed, l.flush = l.flush, l.flushed[:0]
	for i, f := range l.flushed {
		l.flushed[i] = nil
		f.Flush()
	}
}

// shutdown ends everything. Posts that were accepted still run, so that what
// they carry (a descriptor, say) is not lost; what they want to register fails.
func (l *Loop) shutdown() {
	l.ended = true
	for i := range l.slots {
		if e := l.slots[i].entry; e != nil {
			e.stop()
		}
	}
	l.mu.Lock()
	l.closed = true
	posts := l.posts
	l.posts = nil
	l.mu.Unlock()
	for _, f := range posts {
		f()
	}
	l.runDials()
	l.runCloses()
	l.wakers.Wait()
	l.release()
	l.gauge.entries.Store(int64(l.entries))
	l.gauge.since.Store(0)
	l.state.Store(stateStopped)
}
