package bridge

import "math"

const never = math.MaxInt64

// armBy sees to it that check runs at when or before.
func (t *tunnel) armBy(when int64) {
	if t.done || t.fire != 0 && t.fire <= when {
		return
	}
	t.fire = when
	t.shard.after(when, &t.timer)
}

// arm sets the timer for the earliest thing that could be due.
func (t *tunnel) arm(now int64) {
	t.fire = 0
	if when := t.due(now); when != never {
		t.armBy(when)
	}
}

// due is the earliest time at which check could have something to do.
// Activity only moves it back, which check sees when it runs.
func (t *tunnel) due(now int64) int64 {
	s := t.info.Service
	when := int64(never)
	soonest := func(at int64) {
		if at > 0 && at < when {
			when = at
		}
	}
	add := func(from int64, d int64) {
		if d > 0 {
			soonest(from + d)
		}
	}
	soonest(t.linger)
	soonest(t.deadline)
	if t.closing == 0 {
		soonest(t.drain)
		add(max(t.up.last, t.down.last), int64(s.Idle))
		add(t.up.last, int64(s.ClientIdle))
		add(t.down.last, int64(s.BackendIdle))
		add(t.opened, int64(s.MaxLife))
	} else if !t.closeDone {
		soonest(t.closing)
	}
	for _, f := range [...]*flow{&t.up, &t.down} {
		if f.blocked != 0 {
			add(f.blocked, int64(s.StallTimeout))
		}
		if at := f.last + int64(s.PingInterval); s.PingInterval > 0 && at > now {
			soonest(at)
		} else {
			add(now, int64(s.PingInterval))
		}
	}
	return when
}

// check is the tunnel's timer: every timeout ends in a Close frame or a reset.
func (t *tunnel) check() {
	s, now := t.info.Service, t.shard.now()
	past := func(from, d int64) bool { return d > 0 && now-from >= d }
	t.fire = 0
	switch {
	case t.done:
		return
	case t.deadline != 0 && now >= t.deadline:
		t.cut(t.order.Why, ReasonShutdown)
	case t.linger != 0 && now >= t.linger:
		t.lingered()
	case t.stalled(&t.up, now) || t.stalled(&t.down, now):
		t.cut("stall-timeout", ReasonTimeout)
	case t.closing != 0:
		if now >= t.closing && !t.closeDone {
			t.closeOver(now)
		}
	case t.drain != 0 && now >= t.drain:
		code, reason := t.order.words(s)
		t.goodbye(code, reason, t.order.Why)
	case past(t.opened, int64(s.MaxLife)):
		t.goodbye(1001, "maximum life", "max-life")
	case past(max(t.up.last, t.down.last), int64(s.Idle)):
		t.goodbye(1001, "idle", "idle-timeout")
	case past(t.up.last, int64(s.ClientIdle)):
		t.goodbye(1001, "client idle", "client-idle-timeout")
	case past(t.down.last, int64(s.BackendIdle)):
		t.goodbye(1001, "backend idle", "backend-idle-timeout")
	case s.PingInterval > 0:
		t.ping(&t.up, now)
		t.ping(&t.down, now)
	}
	if !t.done {
		t.arm(now)
	}
}

// ping sends a Ping into a direction that has been silent for the interval,
// never a second one before its receiver was heard.
func (t *tunnel) ping(f *flow, now int64) {
	if f.pinged || f.sealed || f.closed || f.watch.closed() || !f.watch.boundary() ||
		now-f.last < int64(t.info.Service.PingInterval) {
		return
	}
	f.pinged = true
	f.put(opPing, nil)
}

// stalled reports whether octets have waited in f without progress for the
// stall time. A socket that was merely told not to read may hold none: it is
// asked for one octet first, and if there is one, the time runs once more.
func (t *tunnel) stalled(f *flow, now int64) bool {
	d := int64(t.info.Service.StallTimeout)
	if d <= 0 || f.blocked == 0 || now-f.blocked < d {
		return false
	}
	if f.stuck {
		return true
	}
	f.blocked, f.probing = 0, true
	f.src.Resume()
	return false
}
