package upstream

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"wsgate/internal/loop"
)

// Visit is one ordinary request's stay at a server: it holds a place there until
// Leave. Its methods are called on the request's goroutine, but for Dial.
type Visit struct {
	u     *Upstream
	e     *endpoint
	want  want
	tries int
}

// Visit takes a place for a request, as Open does for a tunnel, and waits in the
// queue if it has to. The error is a *bridge.Refusal, or the context's.
func (u *Upstream) Visit(r *http.Request) (*Visit, error) {
	if now := u.ledger.current.Load(); now != nil {
		u = now
	}
	v := &Visit{u: u, want: u.ofRequest(r), tries: 1}
	u.ledger.budget.earn(&u.config.Retry)
	if u.ledger.asking.n.Load() == 0 {
		v.e = u.take(&v.want)
	}
	if v.e == nil {
		if err := v.wait(r.Context()); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// wait waits for a place.
func (v *Visit) wait(ctx context.Context) error {
	type news struct {
		e   *endpoint
		err error
	}
	q := &v.u.ledger.asking
	given := make(chan news, 1)
	w := &waiter{want: &v.want, given: func(e *endpoint, err error) { given <- news{e, err} }}
	if !q.join(w, v.u.queueLength()) {
		return v.u.refusal()
	}
	q.wake()
	ctx, stop := context.WithTimeoutCause(ctx, v.u.config.QueueTime, busy(codeLate))
	defer stop()
	select {
	case n := <-given:
		v.e = n.e
		return n.err
	case <-ctx.Done():
	}
	if !q.leave(w) {
		if n := <-given; n.e != nil {
			n.e.leave(request)
		}
	}
	err := context.Cause(ctx)
	if ctx.Err() == context.DeadlineExceeded {
		v.u.ledger.stats.late.Add(1)
	}
	return err
}

// Key names the server among pooled connections. It has the form of a host.
func (v *Visit) Key() string { return v.e.key }

// HostHeader is what the server is to get as Host; "" keeps the client's.
func (v *Visit) HostHeader() string { return v.e.backend.HostHeader }

// Server names the server.
func (v *Visit) Server() string { return v.e.id }

// Dial makes a connection to the server, TLS included. An error means that
// nothing was sent. Any goroutine.
func (v *Visit) Dial(ctx context.Context) (net.Conn, error) { return v.e.dial(ctx, v.u) }

// Answered notes the status of the server's answer and returns the value of the
// Set-Cookie that belongs to it, "" if none does. secure says that the client
// came over https.
func (v *Visit) Answered(status int, secure bool) (cookie string) {
	if sick(status) {
		v.e.failed(v.u, statusError(status))
	} else {
		v.e.succeeded(v.u)
	}
	return v.u.cookie(v.e, v.want.tag, secure)
}

// Failed notes that there was no answer, for a reason that is not the client's.
func (v *Visit) Failed(err error) { v.e.failed(v.u, err) }

// Again is called after Dial has failed. It notes that, and if there may be
// another attempt it moves the visit to another server, or waits a moment if
// there is none, and returns true.
func (v *Visit) Again(ctx context.Context, err error) bool {
	code := ""
	if loop.PortsExhausted(err) {
		code = codePorts
		v.u.portsExhausted(v.e, err)
	} else {
		v.e.failed(v.u, err)
	}
	if ctx.Err() != nil || !v.u.mayRetry(v.tries, code) {
		return false
	}
	v.tries++
	if !slices.Contains(v.want.tried, v.e.server) {
		v.want.tried = append(v.want.tried, v.e.server)
	}
	next := v.u.choose(&v.want)
	if next == nil {
		if !sleep(ctx, retryPause<<min(v.tries-1, 4)) {
			return false
		}
		v.want.tried = nil
		if next = v.u.choose(&v.want); next == nil {
			return false
		}
	}
	v.e.exit(request)
	v.e = next
	return true
}

// Leave gives the place back. It is called once.
func (v *Visit) Leave() { v.e.leave(request) }

// ResponseTimeout is how long a server may take for the head of an answer, 0
// without bound.
func (u *Upstream) ResponseTimeout() time.Duration { return u.config.ResponseTimeout }

type statusError int

func (s statusError) Error() string { return fmt.Sprintf("status %d", int(s)) }
