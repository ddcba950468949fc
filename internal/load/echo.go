package load

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// echo keeps messages under way in each tunnel, or sends them at a rate.
type echo struct {
	f      *fleet
	frame  []byte // of the one message there is without Verify
	size   int
	octets []byte // with Verify: messages are pieces of it
	keys   *rand.Rand
	room   int // messages that may be under way in a tunnel
}

// Echo sends messages that the backend sends back. In a closed loop InFlight
// messages are under way in each tunnel; with a Rate they go out on a schedule,
// and their latency counts from the time of the schedule, so that a target that
// makes the load wait is not spared the wait (coordinated omission). An error
// means that there is no result.
func Echo(ctx context.Context, t *Target, o Options) (*Result, error) {
	e := newEcho(o)
	e.f = newFleet(ctx, t, o, e)
	f := e.f
	if o.Rate > 0 {
		// What may be under way fits into socket buffers, so that writing to one
		// connection never keeps the pacer from the others.
		e.room = max(4, min(1000, socketRoom/(o.Tunnels*(o.Size+14))))
	}
	f.expect(e.room * (o.Size + 14))
	defer f.end()
	if err := f.dial(); err != nil {
		return nil, err
	}
	f.start()
	if err := f.answered(); err != nil {
		return nil, err
	}
	stop := func() {}
	if o.Rate > 0 {
		stop = e.pace(o.Rate)
	}
	r, err := f.measure(nil)
	stop()
	if err == nil {
		e.stragglers(r)
	}
	return r, err
}

func newEcho(o Options) *echo {
	e := &echo{size: o.Size, room: max(o.InFlight, 1)}
	if o.Verify {
		const pieces = 64 << 10
		e.keys = rand.New(rand.NewPCG(1, 2))
		e.octets = make([]byte, pieces+o.Size)
		for i := range e.octets {
			e.octets[i] = byte(e.keys.Uint32())
		}
		return e
	}
	e.frame = appendFrame(nil, opBinary, [4]byte{}, make([]byte, o.Size))
	return e
}

// nth is the payload of message n of a tunnel.
func (e *echo) nth(t *tunnel, n uint32) []byte {
	at := (uint32(t.number)*7919 + n*104729) & (64<<10 - 1)
	return e.octets[at : int(at)+e.size]
}

// send sends the next message of t.
func (e *echo) send(t *tunnel) {
	t.flying++
	if e.octets == nil {
		t.s.send(t, e.frame)
		return
	}
	// A key for each message, as clients have it; it depends on nothing that
	// other sessions touch.
	n := t.next*2654435761 + uint32(t.number)
	key := [4]byte{byte(n) | 1, byte(n >> 8), byte(n >> 16), byte(n >> 24)}
	t.s.send(t, appendFrame(nil, opBinary, key, e.nth(t, t.next)))
	t.next++
}

func (e *echo) opened(t *tunnel) {
	if e.f.o.Rate > 0 {
		return // the pacer sends
	}
	for range e.room {
		t.times.push(t.s.state().now)
		e.send(t)
	}
}

func (e *echo) payload(t *tunnel, p []byte) {
	if e.octets != nil {
		want := e.nth(t, t.want)
		if t.at+len(p) > len(want) || !bytes.Equal(want[t.at:t.at+len(p)], p) {
			t.wrong = true
		}
	}
	t.at += len(p)
}

// arrived takes account of a message that came back whole, and returns when it
// was sent; false if none was under way.
func (e *echo) arrived(t *tunnel) (began int64, ok bool) {
	if t.at != e.size || t.wrong || t.flying == 0 {
		e.f.fail(t, fmt.Errorf("message %d came back changed, with %d octets for %d", t.want, t.at, e.size))
	}
	t.at, t.wrong = 0, false
	t.want++
	if t.flying == 0 {
		return 0, false
	}
	t.s.state().messages.Add(1)
	t.flying--
	return t.times.pop(), true
}

func (e *echo) message(t *tunnel) {
	began, ok := e.arrived(t)
	if !ok {
		return
	}
	now := t.s.state().now
	e.time(began, now)
	switch {
	case e.f.o.Rate > 0: // what the schedule had to hold back
		if t.times.len() > t.flying {
			e.send(t)
		}
	case !e.f.stopped.Load():
		t.times.push(now)
		e.send(t)
	}
}

// time records a latency. In an open loop it is the schedule that says whether
// a message belongs to what is measured.
func (e *echo) time(began, now int64) {
	f := e.f
	if f.o.Rate > 0 {
		if since := f.since.Load(); since == 0 || began < since {
			return
		}
	} else if !f.recording.Load() {
		return
	}
	f.latency.add(now - began)
}

func (e *echo) ended(t *tunnel, err error) {
	if err == nil {
		err = fmt.Errorf("the peer ended the tunnel")
	}
	e.f.fail(t, err)
}

// pace sends messages on a schedule, in turn on all tunnels that are open, until
// stop.
func (e *echo) pace(rate float64) (stop func()) {
	var open []*tunnel
	e.f.each(func(s session) {
		e.f.tunnels(s, func(t *tunnel) {
			if t.stage == opened {
				open = append(open, t)
			}
		})
	})
	// Neighbours in time are strangers on the wire.
	rand.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
	quit, done := make(chan struct{}), make(chan struct{})
	go e.pacer(open, rate, quit, done)
	return func() {
		close(quit)
		<-done
	}
}

func (e *echo) pacer(open []*tunnel, rate float64, quit, done chan struct{}) {
	defer close(done)
	sleep, release := sleeper()
	defer release()
	start := e.f.clock()
	for n := 0; ; n++ {
		due := start + int64(float64(n)*float64(time.Second)/rate)
		for now := e.f.clock(); now < due; now = e.f.clock() {
			sleep(min(time.Duration(due-now), 10*time.Millisecond))
			select {
			case <-quit:
				return
			default:
			}
		}
		if n&255 == 0 {
			select {
			case <-quit:
				return
			default:
			}
		}
		t := open[n%len(open)]
		t.s.begin()
		if t.stage == opened {
			t.times.push(due)
			if t.flying < e.room {
				e.send(t)
			}
		}
		_ = t.s.end() // the reader tells
	}
}

// stragglers ends the run; messages that are still missing have their time to
// come: in an open loop all of them, in a closed loop those that were under way
// all the time. Then it counts them, with the age that they have.
func (e *echo) stragglers(r *Result) {
	f := e.f
	before := f.clock()
	if f.o.Rate == 0 {
		before = f.since.Load()
	}
	f.linger(before)
	f.close(r, before)
	if f.o.Rate == 0 || f.ctx.Err() != nil {
		return
	}
	now, missing := f.clock(), int64(0)
	for _, t := range f.slots {
		for t != nil && t.times.len() > 0 {
			e.time(t.times.pop(), now)
			missing++
		}
	}
	if missing > 0 {
		r.Errors += missing
		r.Trouble = append(r.Trouble, fmt.Sprintf("%d messages did not come back", missing))
	}
}
