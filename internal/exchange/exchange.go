package exchange

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"

	"wsgate/bridge"
)

// errStalled is what the handler sees when StallTimeout has passed.
var errStalled = errors.New("client takes nothing of the answer")

// errGone is what the handler's pipes answer once the client is lost and no
// better cause is known.
var errGone = errors.New("client is gone")

// Exchange is one ordinary request between a loop and the goroutine of its
// http.Handler. Its exported methods are called on the loop.
type Exchange struct {
	// Immutable.
	config *Config
	loop   bridge.Loop
	cancel context.CancelFunc
	body   *bodyPipe // nil if the request has no content
	out    *answer

	// Owned by the loop.
	wire  Responder
	rest  []byte // taken from out, not yet taken by the wire
	wrote int    // how much of rest the wire took
	head  bool   // Head was called
	ended bool   // End, Head with end, Abort or Gone
	done  bool   // the handler has returned
	stall bridge.Timer
}

// New makes the exchange for r and starts the handler's goroutine. It is called
// on the loop. r needs Method, URL, Proto and its numbers, Header, Host,
// RemoteAddr, RequestURI, TLS and ContentLength; announced trailers stand in
// r.Trailer. Body and context are set here. hasBody is false if the request
// has no content. Of r's own context only http.LocalAddrContextKey is kept.
func New(l bridge.Loop, c *Config, r *http.Request, hasBody bool, w Responder) *Exchange {
	parent := c.Context
	if parent == nil {
		parent = context.Background()
	}
	// Without these two httputil.ReverseProxy turns a backend body that was
	// cut short into a clean end instead of http.ErrAbortHandler.
	ctx := context.WithValue(parent, http.ServerContextKey, c.Server)
	if local := r.Context().Value(http.LocalAddrContextKey); local != nil {
		ctx = context.WithValue(ctx, http.LocalAddrContextKey, local)
	}
	ctx, cancel := context.WithCancel(ctx)
	x := &Exchange{config: c, loop: l, cancel: cancel, wire: w}
	r = r.WithContext(ctx)
	r.Body = http.NoBody
	if hasBody {
		x.body = newBodyPipe(x, r)
		r.Body = x.body
	}
	x.out = newAnswer(x, r)
	go x.serve(r)
	return x
}

// serve runs the handler. It is the exchange's only goroutine; the client's
// leaving ends it through the context and the broken pipes.
func (x *Exchange) serve(r *http.Request) {
	returned := false
	defer func() {
		if !returned {
			if v := recover(); v != http.ErrAbortHandler && x.config.Panicked != nil {
				x.config.Panicked(r, v, debug.Stack())
			}
		}
		x.out.finish(returned)
		if x.body != nil {
			x.body.abandon()
		}
		x.cancel()
		x.loop.Post(x.finished)
	}()
	x.config.Handler.ServeHTTP(x.out, r)
	returned = true
}

// finished is what the handler's return means on the loop.
func (x *Exchange) finished() {
	x.done = true
	x.pump()
	x.release()
}

// release tells the wire that all is over, once it is.
func (x *Exchange) release() {
	if x.done && x.ended && x.wire != nil {
		x.stall.Stop()
		w := x.wire
		x.wire = nil
		x.rest = nil
		w.Done()
	}
}

// Data is content of the request. The wire keeps what is not yet credited
// within BodyWindow octets.
func (x *Exchange) Data(p []byte) {
	if x.body != nil {
		if n := x.body.put(p); n > 0 && !x.ended {
			x.wire.Credit(n)
		}
	} else if !x.ended {
		x.wire.Credit(len(p))
	}
}

// End says that the request's content is complete.
func (x *Exchange) End(trailer http.Header) {
	if x.body != nil {
		x.body.end(trailer)
	}
}

// Gone says that the client reset the request or that its connection is lost.
// Of the Responder only Done is called after it.
func (x *Exchange) Gone(err error) {
	if err == nil {
		err = errGone
	}
	x.ended = true
	x.cancel()
	if x.body != nil {
		x.body.fail(err)
	}
	x.out.fail(err)
	x.release()
}

// Writable says that the Responder has room again.
func (x *Exchange) Writable() {
	x.pump()
	x.release()
}

// pump carries what the handler produced to the wire, as far as it takes it.
func (x *Exchange) pump() {
	for !x.ended {
		if x.wrote == len(x.rest) {
			if !x.next() {
				return
			}
			continue
		}
		n := 0
		if x.wire.Room() > 0 {
			n = x.wire.Write(x.rest[x.wrote:])
		}
		x.wrote += n
		if n == 0 {
			x.watchStall()
			return
		}
		x.stall.Stop()
	}
}

// next takes the next piece of the answer from the handler's side. It reports
// whether there was any.
func (x *Exchange) next() bool {
	p := x.out.take(x.rest[:0])
	x.rest, x.wrote = p.data, 0
	for _, i := range p.interim {
		x.wire.Interim(i.status, i.header)
	}
	if p.head != nil {
		x.head = true
		x.wire.Head(p.head.status, p.head.header, p.head.length, p.over && p.err == nil && len(p.data) == 0 && p.trailer == nil)
	}
	switch {
	case len(p.data) > 0:
		return true
	case !p.over:
		return p.head != nil || len(p.interim) > 0
	case p.err != nil:
		x.ended = true
		x.wire.Abort()
	case p.head == nil || p.trailer != nil:
		x.ended = true
		x.wire.End(p.trailer)
	default:
		x.ended = true
	}
	return false
}

// watchStall starts the clock for a client that takes nothing.
func (x *Exchange) watchStall() {
	if d := x.config.StallTimeout; d > 0 && !x.stall.Armed() {
		if x.stall.Fire == nil {
			x.stall.Fire = x.stalled
		}
		x.loop.After(d, &x.stall)
	}
}

func (x *Exchange) stalled() {
	if !x.ended {
		x.wire.Abort()
		x.Gone(errStalled)
	}
}

// credit is called on the handler's goroutine.
func (x *Exchange) credit(n int) {
	x.loop.Post(func() {
		if !x.ended {
			x.wire.Credit(n)
		}
	})
}

// wake asks for a pump, from the handler's goroutine.
func (x *Exchange) wake() { x.loop.Post(x.Writable) }
