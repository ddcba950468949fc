package upstream

import (
	"errors"
	"slices"
	"time"

	"wsgate/bridge"
)

// opening is one client's way to a tunnel: it waits for a place if it has to,
// asks a server, and asks another one as long as nothing was sent. It lives on
// its loop.
type opening struct {
	u    *Upstream
	l    bridge.Loop
	h    *bridge.Handshake
	done func(bridge.Side, bridge.Fields, error)

	want  want
	e     *endpoint // where it holds a place
	stop  func()    // ends the attempt under way
	w     *waiter   // while it waits for a place
	timer bridge.Timer
	began time.Time // of the first attempt
	tries int
	over  bool
}

var _ bridge.Backend = (*Upstream)(nil)

// Open implements bridge.Backend: it chooses a server and opens a tunnel there.
// l must be a *loop.Loop. Set as the handshake's Server, the server holds the
// tunnel's place until Release.
func (u *Upstream) Open(l bridge.Loop, h *bridge.Handshake, done func(bridge.Side, bridge.Fields, error)) (cancel func()) {
	u = u.serving()
	o := &opening{u: u, l: l, h: h, done: done, want: u.ofHandshake(h)}
	u.ledger.budget.earn(&u.config.Retry)
	room := u.queueLength()
	if u.ledger.tunnels.n.Load() == 0 {
		if o.e = u.take(&o.want); o.e != nil {
			o.began = l.Now()
			o.ask()
			return o.cancel
		}
	}
	o.wait(room)
	return o.cancel
}

// ask asks the server where it holds a place.
func (o *opening) ask() {
	o.tries++
	o.stop = o.e.backend.Open(o.l, o.h, o.answered)
}

// wait joins the queue if it has room for so many, or says that it has not.
func (o *opening) wait(room int) {
	q := &o.u.ledger.tunnels
	o.w = &waiter{want: &o.want, given: func(e *endpoint, err error) {
		o.l.Post(func() { o.given(e, err) })
	}}
	if !q.join(o.w, room) {
		err := o.u.serving().refusal()
		o.l.Post(func() { o.given(nil, err) })
		return
	}
	o.timer.Fire = o.waited
	o.l.After(o.u.config.QueueTime, &o.timer)
	q.wake()
}

// queueLength is how many may wait: those for the first answer of the DNS too.
// It is asked for before a place is: so that who finds no server, and the answer
// is there a moment later, may wait for that moment.
func (u *Upstream) queueLength() int {
	if !u.table.Load().settled {
		return max(u.config.QueueLength, waitForNames)
	}
	return u.config.QueueLength
}

// waitForNames is how many may wait until the names are looked up.
const waitForNames = 1000

// given is a place, or the news that there is none.
func (o *opening) given(e *endpoint, err error) {
	switch {
	case o.over && e != nil:
		e.leave(tunnel)
	case o.over:
	case err != nil:
		o.fail(err)
	default:
		o.timer.Stop()
		o.w, o.e = nil, e
		o.began = o.l.Now()
		o.ask()
	}
}

// waited is the end of the time in the queue.
func (o *opening) waited() {
	if o.u.ledger.tunnels.leave(o.w) {
		o.fail(o.u.serving().late())
	}
}

// answered is the server's answer, or the failure to get one.
func (o *opening) answered(s bridge.Side, f bridge.Fields, err error) {
	o.stop = nil
	e := o.e
	if err != nil {
		o.unanswered(err)
		return
	}
	o.timer.Stop()
	o.over = true
	e.opened()
	e.succeeded(o.u)
	o.h.Server = e.server
	if c := o.u.cookie(e, o.want.tag, o.h.Scheme == "https"); c != "" {
		f = append(f, bridge.Field{Name: "Set-Cookie", Value: c})
	}
	o.done(s, f, nil)
}

// cookie is the value of Set-Cookie for a client that was sent to e with that
// tag, "" if it needs none.
func (u *Upstream) cookie(e *endpoint, tag string, secure bool) string {
	if e.tag == tag { // also "" where cookies are not used
		return ""
	}
	if secure {
		return e.cookies[1]
	}
	return e.cookies[0]
}

// unanswered judges a failure: whose fault it is, and whether another server may
// be asked.
func (o *opening) unanswered(err error) {
	e := o.e
	r := new(bridge.Refusal)
	if !errors.As(err, &r) {
		r = &bridge.Refusal{Code: codeUnknown}
	}
	e.judge(o.u, r, err)
	if r.Unsent && o.left() > 0 && o.again(r.Code, err) {
		return
	}
	o.fail(err)
}

// judge notes what an answer that opens no tunnel says of the server.
func (e *endpoint) judge(u *Upstream, r *bridge.Refusal, err error) {
	switch {
	case r.Foreign && !sick(r.Status):
		e.succeeded(u)
	case r.Code == codePorts:
		u.portsExhausted(e, err)
	case slices.Contains(ownFault[:], r.Code):
	default:
		e.failed(u, err)
	}
}

// ownFault are codes that say nothing of the server.
var ownFault = [...]string{"bad-handshake", "internal"}

// sick are statuses of something in front of a server that it cannot reach, or
// of one that is overloaded.
func sick(status int) bool { return status >= 502 && status <= 504 }

// again asks another server. When all have been tried, the same one is asked once
// more a moment later if it took no connection: it may be starting.
func (o *opening) again(code string, err error) bool {
	next, pause, ok := o.u.retry(&o.want, o.e, o.tries, code)
	if !ok {
		return false
	}
	o.e.exit(tunnel)
	if o.e = next; pause > 0 {
		o.pause(pause, err)
		return true
	}
	o.deadline(err)
	o.ask()
	return true
}

// deadline bounds the whole of a handshake with several attempts.
func (o *opening) deadline(err error) {
	o.timer.Fire = func() {
		o.stop()
		o.stop = nil
		o.fail(&bridge.Refusal{Status: 504, Code: codeOpenTimeout, Cause: err})
	}
	o.l.After(o.left(), &o.timer)
}

// left is how much of the time for a handshake is left.
func (o *opening) left() time.Duration {
	return max(0, o.u.config.OpenTimeout-o.l.Now().Sub(o.began))
}

// pause waits before what has failed is tried once more.
func (o *opening) pause(d time.Duration, err error) {
	o.timer.Fire = func() {
		if o.e = o.u.serving().choose(&o.want); o.e == nil {
			o.u.ledger.leave(tunnel)
			o.over = true
			o.done(nil, nil, err)
			return
		}
		o.deadline(err)
		o.ask()
	}
	o.l.After(d, &o.timer)
}

// fail ends the opening with an error.
func (o *opening) fail(err error) {
	o.timer.Stop()
	o.over = true
	if o.e != nil {
		o.e.leave(tunnel)
	}
	o.done(nil, nil, err)
}

// cancel ends the opening without a word.
func (o *opening) cancel() {
	if o.over {
		return
	}
	o.over = true
	o.timer.Stop()
	switch {
	case o.w != nil && o.e == nil: // in the queue, or the place is on its way
		o.u.ledger.tunnels.leave(o.w)
	case o.e == nil: // between two attempts
		o.u.ledger.leave(tunnel)
	default:
		o.stop()
		o.e.leave(tunnel)
	}
}
