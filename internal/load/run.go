package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"wsgate/internal/rawpeer"
)

// Target is what is loaded.
type Target struct {
	Addr string
	TLS  *tls.Config // nil: cleartext
	PID  int         // of the process whose CPU counts; 0: none
}

func (t *Target) scheme() string {
	if t.TLS == nil {
		return "http"
	}
	return "https"
}

// Result is what a run saw.
type Result struct {
	Opened, Refused, Errors, Messages int64
	Elapsed                           time.Duration
	CPU                               time.Duration // of the target
}

// fleet is the connections of a run.
type fleet struct {
	target *Target
	conns  []*rawpeer.Batch
	stop   atomic.Bool
	wg     sync.WaitGroup

	opened, refused, errors, messages atomic.Int64
	firstErr                          atomic.Pointer[error]
}

func (f *fleet) fail(err error) {
	f.errors.Add(1)
	f.firstErr.CompareAndSwap(nil, &err)
}

func (f *fleet) err() error {
	if p := f.firstErr.Load(); p != nil {
		return *p
	}
	return nil
}

// dial opens n connections.
func (f *fleet) dial(n int) error {
	for range n {
		c, err := rawpeer.DialBatch(f.target.Addr, f.target.TLS)
		if err != nil {
			return err
		}
		f.conns = append(f.conns, c)
	}
	return nil
}

// start runs the readers.
func (f *fleet) start() {
	for _, c := range f.conns {
		f.wg.Add(1)
		go func() {
			defer f.wg.Done()
			if err := c.Flush(); err != nil {
				f.fail(err)
				return
			}
			if err := c.Run(); err != nil && !f.stop.Load() && !errors.Is(err, io.EOF) {
				f.fail(err)
			}
		}()
	}
}

// end stops the readers and closes the connections.
func (f *fleet) end() {
	f.stop.Store(true)
	for _, c := range f.conns {
		c.Stop()
	}
	f.wg.Wait()
	for _, c := range f.conns {
		c.Close()
	}
}

// inFlight bounds the handshakes that the generator has under way at once:
// gateways bound theirs, and a real crowd comes one by one.
const inFlight = 500

// openAll opens tunnels on each connection, a bounded number at a time.
func (f *fleet) openAll(tunnels int) {
	width := max(1, inFlight/len(f.conns))
	for _, c := range f.conns {
		left := tunnels
		connect := func() {
			if left > 0 {
				left--
				c.Connect(f.target.scheme(), f.target.Addr, "/echo")
			}
		}
		opened, ended := c.OnOpen, c.OnEnd
		c.OnOpen = func(t *rawpeer.BatchStream) { opened(t); connect() }
		c.OnEnd = func(t *rawpeer.BatchStream, reset bool) {
			ended(t, reset)
			if !t.Open {
				connect()
			}
		}
		for range min(width, tunnels) {
			connect()
		}
	}
}

// Echo keeps one message of size octets under way in each tunnel, conns
// connections with tunnels each, warms up, and measures for d.
func Echo(t *Target, conns, tunnels, size int, d time.Duration) (Result, error) {
	f := &fleet{target: t}
	defer f.end()
	if err := f.dial(conns); err != nil {
		return Result{}, err
	}
	msg := message(size)
	want := len(appendHead(nil, 0x82, size)) + size
	for _, c := range f.conns {
		c.OnOpen = func(t *rawpeer.BatchStream) { f.opened.Add(1); t.Send(msg) }
		c.OnData = func(t *rawpeer.BatchStream, p []byte) {
			for t.Got += len(p); t.Got >= want; t.Got -= want {
				f.messages.Add(1)
				t.Send(msg)
			}
		}
		c.OnEnd = func(_ *rawpeer.BatchStream, reset bool) { f.refused.Add(1) }
	}
	f.openAll(tunnels)
	f.start()
	total := int64(conns * tunnels)
	if err := f.until(func() bool { return f.opened.Load()+f.refused.Load() >= total && f.messages.Load() > 2*total }); err != nil {
		return Result{Opened: f.opened.Load(), Refused: f.refused.Load()}, err
	}
	return f.measure(d, &f.messages)
}

// until waits, for 20 s at the most.
func (f *fleet) until(ok func() bool) error {
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if err := f.err(); err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the target does not answer: %d tunnels open, %d refused, %d messages", f.opened.Load(), f.refused.Load(), f.messages.Load())
		}
	}
	return nil
}

// warmUp is load that is not counted: fresh sockets and a fresh heap are dearer
// than those of a gateway that has run for a while.
const warmUp = 500 * time.Millisecond

// measure counts for d, after the warm-up.
func (f *fleet) measure(d time.Duration, count *atomic.Int64) (Result, error) {
	time.Sleep(warmUp)
	cpu0, err := CPU(f.target.PID)
	if err != nil {
		return Result{}, err
	}
	n0, t0 := count.Load(), time.Now()
	time.Sleep(d)
	n1, t1 := count.Load(), time.Now()
	cpu1, err := CPU(f.target.PID)
	if err != nil {
		return Result{}, err
	}
	return Result{
		Opened: f.opened.Load(), Refused: f.refused.Load(), Errors: f.errors.Load(),
		Messages: n1 - n0, Elapsed: t1.Sub(t0), CPU: cpu1 - cpu0,
	}, f.err()
}

// Open opens and closes tunnels as fast as answers come, with width of them
// under way on each connection. Result.Messages counts whole lives.
func Open(t *Target, conns, width int, d time.Duration) (Result, error) {
	f := &fleet{target: t}
	defer f.end()
	if err := f.dial(conns); err != nil {
		return Result{}, err
	}
	bye := []byte{0x88, 0x80, 0, 0, 0, 0}
	for _, c := range f.conns {
		c.OnOpen = func(t *rawpeer.BatchStream) {
			f.opened.Add(1)
			t.Send(bye)
			t.End()
		}
		c.OnEnd = func(tn *rawpeer.BatchStream, reset bool) {
			if reset {
				f.refused.Add(1)
			} else {
				f.messages.Add(1)
			}
			if !f.stop.Load() {
				c.Connect(t.scheme(), t.Addr, "/echo")
			}
		}
		for range width {
			c.Connect(t.scheme(), t.Addr, "/echo")
		}
	}
	f.start()
	if err := f.until(func() bool { return f.messages.Load() > int64(conns*width*5) }); err != nil {
		return Result{Opened: f.opened.Load(), Refused: f.refused.Load()}, err
	}
	return f.measure(d, &f.messages)
}

// Idle opens tunnels, sends one message on each and returns by how much the
// target's PSS grew per tunnel, in octets.
func Idle(t *Target, conns, tunnels, size int) (float64, error) {
	f := &fleet{target: t}
	defer f.end()
	// Code and buffers that the first tunnel brings into memory are not the
	// cost of one more.
	if _, err := Echo(t, 1, 1, size, 100*time.Millisecond); err != nil {
		return 0, err
	}
	before, err := PSS(t.PID)
	if err != nil {
		return 0, err
	}
	if err := f.dial(conns); err != nil {
		return 0, err
	}
	msg := message(size)
	for _, c := range f.conns {
		c.OnOpen = func(t *rawpeer.BatchStream) { f.opened.Add(1); t.Send(msg) }
		c.OnData = func(t *rawpeer.BatchStream, p []byte) { f.messages.Add(1) }
		c.OnEnd = func(_ *rawpeer.BatchStream, reset bool) { f.refused.Add(1) }
	}
	f.openAll(tunnels)
	f.start()
	total := int64(conns * tunnels)
	if err := f.until(func() bool { return f.messages.Load() >= total }); err != nil {
		return 0, err
	}
	time.Sleep(3 * time.Second) // what a collector or an allocator gives back soon it may
	after, err := PSS(t.PID)
	return float64(after-before) / float64(total), err
}
