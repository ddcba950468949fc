package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Options say what a run does.
type Options struct {
	Conns, Tunnels int           // connections, and tunnels on each
	Size           int           // of a message, in octets
	InFlight       int           // messages under way in each tunnel of a closed loop; 0: 1
	Rate           float64       // messages a second in all, an open loop; 0: a closed loop
	For            time.Duration // how long is measured
	WarmUp         time.Duration // load before that, which is not counted
	Hold           time.Duration // how long Idle holds its tunnels
	OpenTimeout    time.Duration // without an answer for so long tunnels are silent; 0: 10 s
	Verify         bool          // messages differ, and each is compared when it comes back

	// Progress is told now and then how far the run is; Notice of what others
	// may wait for. Each may be nil.
	Progress, Notice func(string)
}

// Check returns what is wrong with options, in words for who gave them.
func (o *Options) Check(t *Target) error {
	switch {
	case o.Conns < 1 || o.Tunnels < 1:
		return fmt.Errorf("%d connections with %d tunnels: want at least one of each", o.Conns, o.Tunnels)
	case t.HTTP == 1 && o.Tunnels != 1:
		return fmt.Errorf("%d tunnels on a connection: over HTTP/1.1 a connection carries one", o.Tunnels)
	case o.Size < 0 || o.Size > maxSize:
		return fmt.Errorf("messages of %d octets: want 0 to %d", o.Size, maxSize)
	case o.Rate < 0 || o.InFlight < 0:
		return errors.New("a rate or a number of messages under way below 0")
	}
	return nil
}

// maxSize bounds messages: each tunnel may hold some.
const maxSize = 16 << 20

// inFlight bounds the handshakes that are under way at once: gateways bound
// theirs, and a real crowd comes one by one.
const inFlight = 500

// dialer is what connect needs of a fleet.
type dialer struct {
	ctx   context.Context
	clock func() int64 // ns since the fleet was made
	async bool         // sessions have a writer of their own
}

// socketRoom is what socket buffers take without anybody reading.
const socketRoom = 64 << 10

// expect says how many octets a tunnel may have under way. If those of a
// connection may not fit into socket buffers its session gets a writer.
func (f *fleet) expect(octets int) {
	const handshake = 256
	f.async = f.o.Tunnels*max(octets, handshake) > socketRoom
}

// fleet is the connections and tunnels of a run. It stands between the tunnels
// and the scenario, and counts.
type fleet struct {
	dialer
	target *Target
	o      Options
	play   scenario
	slots  []*tunnel // by number

	mu       sync.Mutex
	sessions []session // nil: could not be dialled
	trouble  []string  // the first few things that went wrong

	turns chan struct{} // inFlight of them: first handshakes that may be under way
	quit  chan struct{} // closed at the end

	stopped              atomic.Bool
	enough               atomic.Bool // no new life begins
	wg                   sync.WaitGroup
	opens, refused, lost atomic.Int64
	alive                atomic.Int64 // sessions that run
	apart                atomic.Int64 // messages that are counted here, and not at a session
	recording            atomic.Bool
	since                atomic.Int64 // when what is measured began; 0: not yet
	latency              histogram
}

func newFleet(ctx context.Context, t *Target, o Options, play scenario) *fleet {
	base := time.Now()
	if o.OpenTimeout <= 0 {
		o.OpenTimeout = 10 * time.Second
	}
	o.InFlight = max(o.InFlight, 1)
	f := &fleet{target: t, o: o, play: play, slots: make([]*tunnel, o.Conns*o.Tunnels), sessions: make([]session, o.Conns), turns: make(chan struct{}, inFlight), quit: make(chan struct{})}
	f.dialer = dialer{ctx: ctx, clock: func() int64 { return int64(time.Since(base)) }}
	f.latency.init()
	return f
}

// troubles bounds what is kept of what went wrong.
const troubles = 10

// note keeps what went wrong.
func (f *fleet) note(format string, args ...any) {
	said := fmt.Sprintf(format, args...)
	f.mu.Lock()
	defer f.mu.Unlock()
	if slices.Contains(f.trouble, said) { // over HTTP/1.1 of a connection and its tunnel
		return
	}
	if len(f.trouble) < troubles {
		f.trouble = append(f.trouble, said)
	} else if len(f.trouble) == troubles {
		f.trouble = append(f.trouble, "and more")
	}
}

// fail counts a tunnel that was lost.
func (f *fleet) fail(t *tunnel, err error) {
	if f.stopped.Load() {
		return
	}
	f.lost.Add(1)
	f.note("%v: %v", t, err)
}

func (f *fleet) opened(t *tunnel) {
	f.opens.Add(1)
	f.more(t.s)
	f.play.opened(t)
}

func (f *fleet) payload(t *tunnel, p []byte) { f.play.payload(t, p) }
func (f *fleet) message(t *tunnel)           { f.play.message(t) }

func (f *fleet) ended(t *tunnel, err error) {
	if t.stage == opened {
		f.play.ended(t, err)
		return
	}
	if err == nil {
		err = errors.New("ended before an answer")
	}
	if errors.Is(err, errRefused) {
		f.refused.Add(1)
		f.note("%v: %v", t, err)
	} else {
		f.fail(t, err)
	}
	f.more(t.s)
}

// dial opens all connections, some at a time. Without any it is an error.
func (f *fleet) dial() error {
	const atOnce = 16
	var wg sync.WaitGroup
	var next atomic.Int64
	var failed atomic.Pointer[error]
	for range min(atOnce, f.o.Conns) {
		wg.Go(func() {
			for f.ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= f.o.Conns {
					return
				}
				s, err := f.target.connect(f.dialer, n)
				if err != nil {
					failed.Store(&err)
					f.lost.Add(int64(f.o.Tunnels))
					f.note("connection %d: %v", n, err)
					continue
				}
				f.keep(n, s)
			}
		})
	}
	wg.Wait()
	for _, s := range f.sessions {
		if s != nil {
			return f.ctx.Err()
		}
	}
	if err := failed.Load(); err != nil {
		return *err
	}
	return f.ctx.Err()
}

func (f *fleet) keep(n int, s session) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions[n] = s
	if f.stopped.Load() {
		s.close()
	}
}

// each calls do for every session, with none of them held.
func (f *fleet) each(do func(session)) {
	f.mu.Lock()
	all := append([]session(nil), f.sessions...)
	f.mu.Unlock()
	for _, s := range all {
		if s != nil {
			do(s)
		}
	}
}

// start runs the sessions and opens their tunnels.
func (f *fleet) start() {
	width := max(1, inFlight/f.o.Conns)
	f.each(func(s session) {
		f.alive.Add(1)
		f.wg.Go(func() {
			defer f.alive.Add(-1)
			n := 0
			for ; n < min(width, f.o.Tunnels) && f.turn(); n++ {
			}
			s.begin()
			for range n {
				f.more(s)
			}
			if err := s.end(); err != nil {
				s.close()
			}
			if err := s.run(); err != nil && !f.stopped.Load() {
				f.note("connection %d: %v", s.state().number, err)
			}
			s.close()
		})
	})
}

// turn waits until one more handshake may be under way, and says whether there
// will be one.
func (f *fleet) turn() bool {
	select {
	case f.turns <- struct{}{}:
		return true
	case <-f.quit:
		return false
	}
}

// asker is a scenario that asks for something else than a tunnel.
type asker interface{ ask(s session, t *tunnel) }

// more opens the next tunnel of a session, or gives its turn to another if there
// is none to open. The session is held.
func (f *fleet) more(s session) {
	l := s.state()
	if l.asked == f.o.Tunnels || f.stopped.Load() {
		select {
		case <-f.turns:
		default: // all have begun
		}
		return
	}
	n := l.number*f.o.Tunnels + l.asked
	l.asked++
	f.ask(s, n)
}

// ask opens the tunnel of slot n.
func (f *fleet) ask(s session, n int) {
	t := &tunnel{s: s, play: f, number: n, since: s.state().now}
	f.slots[n] = t
	if a, ok := f.play.(asker); ok {
		a.ask(s, t)
	} else {
		s.open(t)
	}
}

// end stops everything.
func (f *fleet) end() {
	f.mu.Lock()
	if !f.stopped.Swap(true) {
		close(f.quit)
	}
	f.mu.Unlock()
	f.each(session.close)
	f.wg.Wait()
}

// tick is how often a waiting run looks.
const tick = 5 * time.Millisecond

// until waits until ok, or until what moved returns has not changed for the open
// timeout. It says whether ok.
func (f *fleet) until(what string, moved func() int64, ok func() bool) bool {
	last, at := int64(-1), time.Now()
	for n := 0; !ok(); n++ {
		if now := moved(); now != last {
			last, at = now, time.Now()
		}
		if time.Since(at) > f.o.OpenTimeout || f.ctx.Err() != nil || f.alive.Load() == 0 {
			return ok()
		}
		if n%100 == 99 {
			f.progress(fmt.Sprintf("%s: %d tunnels open, %d refused, %d lost", what, f.opens.Load(), f.refused.Load(), f.lost.Load()))
		}
		f.pause(tick)
	}
	return true
}

// answers is how many handshakes are over, one way or the other.
func (f *fleet) answers() int64 { return f.opens.Load() + f.refused.Load() + f.lost.Load() }

// answered waits until every tunnel has an answer; who has none then is silent.
func (f *fleet) answered() error {
	total := int64(len(f.slots))
	f.until("opening", f.answers, func() bool { return f.answers() >= total })
	if f.opens.Load() == 0 && f.ctx.Err() == nil {
		return f.nothing()
	}
	return f.ctx.Err()
}

// nothing is the error of a run without a single tunnel.
func (f *fleet) nothing() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.trouble) > 0 {
		return fmt.Errorf("no tunnel opened: %s", f.trouble[0])
	}
	return fmt.Errorf("no tunnel opened: %s does not answer", f.target.Addr)
}

// pause waits for d, or until the run is cancelled.
func (f *fleet) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-f.ctx.Done():
	}
}

func (f *fleet) progress(s string) {
	if f.o.Progress != nil {
		f.o.Progress(s)
	}
}

// count is how many messages have come.
func (f *fleet) count() int64 {
	n := f.apart.Load()
	f.each(func(s session) { n += s.state().messages.Load() })
	return n
}
