package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
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
	u = u.serving()
	v := &Visit{u: u, want: u.ofRequest(r), tries: 1}
	u.ledger.budget.earn(&u.config.Retry)
	room := u.queueLength()
	if u.ledger.asking.n.Load() == 0 {
		v.e = u.take(&v.want)
	}
	if v.e == nil {
		if err := v.wait(r.Context(), room); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// wait waits for a place if the queue has room for so many.
func (v *Visit) wait(parent context.Context, room int) error {
	type news struct {
		e   *endpoint
		err error
	}
	q := &v.u.ledger.asking
	given := make(chan news, 1)
	w := &waiter{want: &v.want, given: func(e *endpoint, err error) { given <- news{e, err} }}
	if !q.join(w, room) {
		return v.u.serving().refusal()
	}
	q.wake()
	ctx, stop := context.WithTimeout(parent, v.u.config.QueueTime)
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
	if parent.Err() != nil {
		return parent.Err()
	}
	return v.u.serving().late()
}

// Server is where the visit is now; it changes with Again.
func (v *Visit) Server() Server { return Server{v.u, v.e} }

// Server is one of an upstream's servers as a request sees it. Any goroutine may
// use it.
type Server struct {
	u *Upstream
	e *endpoint
}

// String names the server in logs.
func (s Server) String() string { return s.e.id }

// Key names the server among pooled connections, also in later generations. It
// has the form of a host.
func (s Server) Key() string { return s.e.key }

// HostHeader is what the server is to get as Host; "" keeps the client's.
func (s Server) HostHeader() string { return s.e.backend.HostHeader }

// Dial makes a connection to the server, TLS included. An error means that
// nothing was sent.
func (s Server) Dial(ctx context.Context) (net.Conn, error) { return s.e.dial(ctx, s.u) }

// Answered notes the status of the server's answer and returns the value of the
// Set-Cookie that belongs to it, "" if none does. secure says that the client
// came over https.
func (v *Visit) Answered(status int, secure bool) (cookie string) {
	if !sick(status) {
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
	code := dialCode(err)
	if code == codePorts {
		v.u.portsExhausted(v.e, err)
	} else {
		v.e.failed(v.u, err)
	}
	if ctx.Err() != nil {
		return false
	}
	next, pause, ok := v.u.retry(&v.want, v.e, v.tries, code)
	if !ok {
		return false
	}
	v.tries++
	if next == nil {
		if !sleep(ctx, pause) {
			return false
		}
		if next = v.u.serving().choose(&v.want); next == nil {
			return false
		}
	}
	v.e.exit(request)
	v.e = next
	return true
}

// dialCode tells failures of Dial apart, as far as it matters to a retry.
func dialCode(err error) string {
	var op *net.OpError
	switch {
	case loop.PortsExhausted(err):
		return codePorts
	case errors.As(err, &op) && op.Op == "dial" && !op.Timeout():
		return codeConnectFailed
	}
	return ""
}

// Leave gives the place back. It is called once.
func (v *Visit) Leave() { v.e.leave(request) }

// ResponseTimeout is how long a server may take for the head of an answer, 0
// without bound.
func (u *Upstream) ResponseTimeout() time.Duration { return u.config.ResponseTimeout }
