package load

import (
	"fmt"
	"syscall"
	"time"
)

// Result is what a run saw.
type Result struct {
	Opened, Refused int64
	Errors          int64 // tunnels and messages that were lost, silent ones among them
	Silent          int64 // tunnels that were never answered, or whose messages were not
	Messages        int64 // that came back; lives of Open, requests of Get
	Octets          int64 // of their payload
	Elapsed         time.Duration
	CPU, GenCPU     time.Duration // of the target's process tree, and our own
	Grown           int64         // octets by which the target's memory grew
	Memory          int64         // octets of the target's memory at the end of what was measured
	Measured        bool          // the target's figures are known
	Trouble         []string      // the first few things that went wrong, by name

	latency *histogram
}

// Latency returns a quantile, 0 to 100, in milliseconds; false if nothing was timed.
func (r *Result) Latency(q float64) (float64, bool) {
	if r.latency == nil || r.latency.count() == 0 {
		return 0, false
	}
	return r.latency.quantile(q), true
}

// ownCPU is the processor time of this process.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // fails for wrong arguments only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// reading is the state of all meters at one time.
type reading struct {
	at, messages int64
	cpu, own     time.Duration
}

func (f *fleet) read() (reading, error) {
	cpu, err := CPU(f.target.PID)
	return reading{f.clock(), f.count(), cpu, ownCPU()}, err
}

// measure lets the load run for its time, after the warm-up: fresh sockets and
// a fresh heap are dearer than those of a gateway that has run for a while. A
// run that is cancelled, or has lost all its connections, ends early.
func (f *fleet) measure(work func()) (*Result, error) {
	f.pause(f.o.WarmUp)
	from, err := f.read()
	if err != nil {
		return nil, err
	}
	f.since.Store(from.at)
	f.recording.Store(true)
	shown := from
	for end := time.Now().Add(f.o.For); f.ctx.Err() == nil && f.alive.Load() > 0; {
		left := time.Until(end)
		if left <= 0 {
			break
		}
		f.pause(min(left, tick))
		if work != nil {
			work()
		}
		if now := f.clock(); now-shown.at > int64(time.Second/2) {
			n := f.count()
			f.progress(fmt.Sprintf("%.1f s of %v: %d messages/s, %d tunnels lost", time.Duration(now-from.at).Seconds(), f.o.For,
				(n-shown.messages)*int64(time.Second)/(now-shown.at), f.lost.Load()))
			shown.at, shown.messages = now, n
		}
	}
	f.recording.Store(false)
	to, err := f.read()
	r := f.result(from, to)
	if err == nil {
		r.Memory, err = PSS(f.target.PID)
	}
	if err != nil {
		r.Measured = false
		f.note("target: %v", err)
	}
	return r, nil
}

// result is what two readings differ by.
func (f *fleet) result(from, to reading) *Result {
	n := to.messages - from.messages
	return &Result{
		Messages: n, Octets: n * int64(f.o.Size), Elapsed: time.Duration(to.at - from.at),
		CPU: to.cpu - from.cpu, GenCPU: to.own - from.own, Measured: f.target.PID != 0, latency: &f.latency,
	}
}

// tunnels calls do for the tunnels of a session, with the session held.
func (f *fleet) tunnels(s session, do func(*tunnel)) {
	s.begin()
	l := s.state()
	for _, t := range f.slots[l.number*f.o.Tunnels : l.number*f.o.Tunnels+l.asked] {
		do(t)
	}
	_ = s.end() // the reader tells
}

// overdue reports whether a handshake or a message that should have gone out
// before then has no answer yet.
func (f *fleet) overdue(before int64) (yes bool) {
	f.each(func(s session) {
		f.tunnels(s, func(t *tunnel) { yes = yes || t.unanswered(before) || t.late(before) })
	})
	return yes
}

// linger gives what is overdue the open timeout to be late and not silent.
func (f *fleet) linger(before int64) {
	for end := time.Now().Add(f.o.OpenTimeout); f.overdue(before) && time.Now().Before(end) && f.ctx.Err() == nil && f.alive.Load() > 0; {
		f.pause(tick)
	}
}

// last lets goroutines that have a connection for each life finish theirs in the
// open timeout.
func (f *fleet) last() {
	f.enough.Store(true)
	for end := time.Now().Add(f.o.OpenTimeout); f.alive.Load() > 0 && time.Now().Before(end) && f.ctx.Err() == nil; {
		f.pause(tick)
	}
}

// unanswered reports whether a handshake of before has no answer yet.
func (t *tunnel) unanswered(before int64) bool { return t.stage == asked && t.since < before }

// late reports whether a message of before is still under way.
func (t *tunnel) late(before int64) bool {
	return t.stage == opened && t.times.len() > 0 && t.times.oldest() < before
}

// close ends the run and completes its result. Tunnels that have been waiting
// since before then are silent.
func (f *fleet) close(r *Result, before int64) {
	f.end()
	now, unasked := f.clock(), int64(0)
	for i, t := range f.slots {
		switch {
		case t == nil:
			if f.sessions[i/f.o.Tunnels] != nil && f.ctx.Err() == nil {
				unasked++
			}
			continue
		case t.unanswered(before):
			f.note("silent: %v: no answer to the handshake", t)
		case t.late(before):
			f.note("silent: %v: no answer to a message for %.1f s", t, time.Duration(now-t.times.oldest()).Seconds())
		default:
			continue
		}
		r.Silent++
	}
	if unasked > 0 {
		f.note("silent: %d tunnels behind those were not asked for", unasked)
		r.Silent += unasked
	}
	r.Opened, r.Refused = f.opens.Load(), f.refused.Load()
	r.Errors = f.lost.Load() + r.Silent
	r.Trouble = f.trouble
}
