package bridge

import (
	"time"
)

// tunnel joins two sides. It lives on one loop, which touches it alone, and
// owns both sides: it ends each of them exactly once, or resets it.
type tunnel struct {
	bridge *Bridge
	shard  *shard
	info   *Tunnel

	up   flow // client to backend
	down flow // backend to client

	timer Timer
	fire  int64 // when the timer is set to fire; 0: not set

	closing  int64  // when an announced close is over at the latest; 0: none announced
	linger   int64  // when the second half has to be over; 0: both directions are open
	order    *order // to end; nil: none
	drain    int64  // when the order closes this tunnel; 0: never
	deadline int64  // when the order resets it; 0: never

	next, prev *tunnel // the shard's list
	opened     int64
	why        string
	cause      error

	by        party // who ended it, once that is known
	reset     bool
	seat      seat
	closeDone bool // the time for answers to our Close is over
	done      bool
}

// party is who ended a tunnel.
type party uint8

const (
	nobody party = iota
	byClient
	byBackend
	byGateway
)

func (p party) String() string { return [...]string{"", "client", "backend", "gateway"}[p] }

// flow is one direction of a tunnel and the Far of its source.
type flow struct {
	t   *tunnel
	src Side
	dst Side

	watch    watch
	bytes    uint64
	messages uint64
	last     int64 // when its source last sent something
	blocked  int64 // since when its source waits for room; 0: it does not

	inject *injection // nil unless a control frame waits

	ended   bool // the source ended in order, or is lost
	closed  bool // the destination's direction is ended
	sealed  bool // our own Close was sent, or the destination is lost: what still comes is dropped
	pinged  bool // a Ping of ours went out and its receiver has been silent since
	stuck   bool // the destination left octets with the source
	probing bool // see stalled
}

// join makes the tunnel of two sides.
func (b *Bridge) join(sh *shard, info *Tunnel, client, backend Side) *tunnel {
	now := sh.now()
	t := &tunnel{bridge: b, shard: sh, info: info, opened: now}
	t.up = flow{t: t, src: client, dst: backend, watch: watch{flags: watchMasked}, last: now}
	t.down = flow{t: t, src: backend, dst: client, last: now}
	t.timer.Fire = t.check
	return t
}

// start lets the two sides speak.
func (t *tunnel) start() {
	t.shard.add(t)
	t.arm(t.opened)
	t.down.src.Bind(&t.down)
	t.up.src.Bind(&t.up)
}

// other is the opposite direction: its source is this one's destination.
func (f *flow) other() *flow {
	if f == &f.t.up {
		return &f.t.down
	}
	return &f.t.up
}

// Want is the room of the destination: what is read can be written.
func (f *flow) Want() int {
	switch {
	case f.t.done:
		return 0
	case f.sealed:
		return 16 << 10
	}
	n := f.dst.Room()
	if n > 0 {
		return n
	}
	if f.probing {
		f.probing = false
		return 1
	}
	f.block()
	return 0
}

// Data carries p across.
func (f *flow) Data(p []byte) int {
	if f.t.done {
		return len(p)
	}
	if f.sealed || f.inject != nil || f.t.closing != 0 {
		return f.dataWhileClosing(p)
	}
	return f.pass(p)
}

// pass writes p and keeps account of what was taken.
func (f *flow) pass(p []byte) int {
	n := f.write(p)
	if n > 0 {
		f.bytes += uint64(n)
		f.messages += uint64(f.watch.feed(p[:n]))
		f.heard()
		if f.t.linger != 0 && f.watch.closed() {
			f.t.settle()
		}
	}
	if f.stuck = n < len(p); f.stuck {
		f.block()
	} else {
		f.blocked = 0
	}
	return n
}

// write hands p to the destination. Before the end of the source it may wait for
// that, to go out in one packet.
func (f *flow) write(p []byte) int {
	if src, ok := f.src.(interface{ Ending() bool }); ok && src.Ending() {
		if dst, ok := f.dst.(interface{ WriteMore(p []byte) int }); ok {
			return dst.WriteMore(p)
		}
	}
	return f.dst.Write(p)
}

// heard notes that the source is alive.
func (f *flow) heard() {
	f.last = f.t.shard.now()
	f.other().pinged = false
}

// block notes that octets wait at the source for room at the destination.
func (f *flow) block() {
	now := f.t.shard.now()
	f.blocked = now
	if d := f.t.info.Service.StallTimeout; d > 0 {
		f.t.armBy(now + int64(d))
	}
}

// End carries the orderly end of the source across (RFC 8441 section 5).
func (f *flow) End() {
	t := f.t
	if t.done || f.ended {
		return
	}
	f.ended = true
	t.blame(f, "closed", nil)
	if f.inject == nil || !f.inject.begun() {
		f.inject = nil
		f.closeDst()
	}
	f.other().answered()
	t.settle()
}

// closeDst ends the destination's direction, once.
func (f *flow) closeDst() {
	if !f.closed {
		f.closed = true
		f.dst.CloseWrite()
	}
}

// Broken carries anything but an orderly end across, as a reset (RFC 8441
// section 5). Two endings only look like one: a TLS stream of an old server
// that ends by FIN behind its Close frame, and a peer that vanishes when the
// closing handshake has passed.
func (f *flow) Broken(err *ResetError) {
	t := f.t
	if t.done {
		return
	}
	clean := f.watch.closed() && f.watch.boundary()
	switch {
	case err.Reason == ReasonTruncated && clean && !f.ended:
		f.gone()
	case clean && (f.ended || f.other().watch.closed()):
		f.gone()
	default:
		if err.Remote {
			t.blame(f, "reset", err)
		} else {
			t.blameGateway(err.Reason.String())
			t.cause = err
		}
		t.reset = true
		f.dst.Reset(ReasonFarSide)
		f.src.Reset(ReasonFarSide)
		t.finish()
	}
}

// gone treats a lost source like one that has ended: its destination gets the
// end, and what the other side still sends is dropped.
func (f *flow) gone() {
	t := f.t
	t.blame(f, "closed", nil)
	f.ended = true
	f.inject = nil
	f.closeDst()
	o := f.other()
	o.inject = nil
	o.sealed, o.closed = true, true
	o.src.Resume()
	t.settle()
}

// Writable says that the source, as the destination of the other direction,
// has room again.
func (f *flow) Writable() {
	if f.t.done {
		return
	}
	o := f.other()
	if o.inject != nil {
		o.tryInject()
		if f.t.done {
			return
		}
	}
	if o.blocked != 0 {
		o.blocked = 0
	}
	o.src.Resume()
}

// partLinger is the linger time once both Close frames have passed: then
// nothing is left to say, and some clients wait for the gateway to end the
// stream before they tell their program of the close.
const partLinger = time.Second

// settle ends the tunnel when both directions have ended, and starts the
// linger time when one has.
func (t *tunnel) settle() {
	if t.done {
		return
	}
	up, down := t.up.ended && t.up.closed, t.down.ended && t.down.closed
	if up && down {
		t.finish()
		return
	}
	if !t.up.ended && !t.down.ended {
		return
	}
	now := t.shard.now()
	if d := t.info.Service.Linger; d >= 0 && t.linger == 0 {
		t.linger = now + int64(orDefault(d, defaultLinger))
		t.armBy(t.linger)
	}
	if t.parted() && (t.linger == 0 || t.linger > now+int64(partLinger)) {
		t.linger = now + int64(partLinger)
		t.armBy(t.linger)
	}
}

// parted reports whether the closing handshake is complete (RFC 6455 section
// 7.1.4) and our ends are out.
func (t *tunnel) parted() bool {
	return t.up.watch.closed() && t.down.watch.closed() && (t.up.closed || t.down.closed)
}

// lingered is the end of the linger time.
func (t *tunnel) lingered() {
	if !t.parted() {
		t.cut("linger-timeout", ReasonTimeout)
		return
	}
	t.up.closeDst()
	t.down.closeDst()
	t.up.src.Reset(ReasonComplete)
	t.up.dst.Reset(ReasonComplete)
	t.finish()
}

// blame notes, once, who ended the tunnel and how.
func (t *tunnel) blame(f *flow, why string, cause error) {
	if t.by != nobody {
		return
	}
	t.by, t.why, t.cause = byClient, why, cause
	if f == &t.down {
		t.by = byBackend
	}
}

// blameGateway notes, once, that the gateway ended the tunnel and why.
func (t *tunnel) blameGateway(why string) {
	if t.by == nobody {
		t.by, t.why = byGateway, why
	}
}

// cut resets both sides and ends the tunnel.
func (t *tunnel) cut(why string, r Reason) {
	if t.done {
		return
	}
	// Whoever began to end it, it was the gateway that cut it.
	if t.by != byGateway {
		t.by, t.why, t.cause = byGateway, why, nil
	}
	if t.closing == 0 {
		t.bridge.reached(why)
	}
	t.reset = true
	t.up.src.Reset(r)
	t.up.dst.Reset(r)
	t.finish()
}

// finish gives everything back. Nothing calls the tunnel any more after it
// that would be heard.
func (t *tunnel) finish() {
	t.done = true
	t.timer.Stop()
	t.shard.remove(t)
	t.up.inject, t.down.inject = nil, nil
	t.bridge.release(t)
}

// end sums the tunnel up.
func (t *tunnel) end() *End {
	return &End{
		By: t.by.String(), Why: t.why, Reset: t.reset, Cause: t.cause, Life: time.Duration(t.shard.now() - t.opened),
		BytesUp: t.up.bytes, MessagesUp: t.up.messages, CloseUp: t.up.watch.closeCode(),
		BytesDown: t.down.bytes, MessagesDown: t.down.messages, CloseDown: t.down.watch.closeCode(),
	}
}

func orDefault(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}
