// Package loop runs sockets on event loops. A Loop is one goroutine with its
// own epoll; everything that hangs on it is touched by that goroutine only, so
// nothing here locks but the queue of Post. A Conn is one socket on a loop, plain or TLS.
//
// "On the loop" in a comment means: from a callback of that loop or a function
// given to Post, and also before Run is called. "Any goroutine" means just that.
package loop

import (
	"errors"
	"fmt"
)

// Far is what a byte stream tells its owner. Package bridge gives it its name
// in the house: see bridge.Far. All calls come on the loop that owns the stream.
type Far interface {
	// Want says how many octets the owner takes now. A socket reads no more
	// than that; 0 keeps Data away until Resume. End and Broken still come
	// once nothing is left that Data could hand over; a TLS stream may learn of
	// its End only when Want is over 0 again.
	Want() int
	// Data hands over p, which is valid only during the call, and returns how
	// many octets were taken. After a short take the stream keeps the rest and
	// is silent until Resume.
	Data(p []byte) int
	// End is the orderly end of the incoming direction, after all Data.
	End()
	// Broken says that both directions are lost. It comes at most once, also
	// after End, never after both directions have ended in order.
	Broken(*ResetError)
	// Writable says that Room left 0 or that a Write that fell short may be
	// tried again.
	Writable()
}

// Reason says why a byte stream was, or is to be, cut. It is for logs and for
// decisions inside the gateway; what a peer sees of it belongs to the wire packages.
type Reason uint8

const (
	ReasonUnknown   Reason = iota
	ReasonReset            // the peer cut it: TCP RST, RST_STREAM
	ReasonGone             // the transport below vanished: the connection of a stream, a dead network
	ReasonTruncated        // a TLS stream ended by FIN without close_notify
	ReasonProtocol         // the peer broke the protocol of this stream
	ReasonFarSide          // the other side of the tunnel broke
	ReasonTimeout          // one of the gateway's timeouts
	ReasonShutdown         // drain or stop of the gateway
	ReasonLimit            // one of the gateway's bounds
	ReasonInternal         // a fault of the gateway
	ReasonComplete         // nothing is left to say; what was written still arrives
)

var reasonNames = [...]string{"unknown", "reset", "gone", "truncated", "protocol", "far-side", "timeout", "shutdown", "limit", "internal", "complete"}

// String returns the word that logs use.
func (r Reason) String() string {
	if int(r) < len(reasonNames) {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// ResetError says that a byte stream did not end in order. Cause is for the
// log only and never reaches a wire.
type ResetError struct {
	Reason Reason
	Remote bool // the peer did it
	Cause  error
}

func (e *ResetError) Error() string {
	who := "local"
	if e.Remote {
		who = "peer"
	}
	if e.Cause != nil {
		return fmt.Sprintf("%s by %s: %v", e.Reason, who, e.Cause)
	}
	return fmt.Sprintf("%s by %s", e.Reason, who)
}

func (e *ResetError) Unwrap() error { return e.Cause }

// ErrStopped is the error of work handed to a loop that has stopped.
var ErrStopped = errors.New("event loop stopped")

// Flusher is something that has output to send at the end of the turn.
type Flusher interface{ Flush() }

// Timer calls Fire on its loop once its time has come. The zero Timer with Fire
// set is ready for After; Fire may arm it anew. The resolution is 1 ms and a
// timer is never early. A Timer belongs to one loop and is touched only there.
type Timer struct {
	Fire func()

	// Owned by the wheel.
	next, prev *Timer
	when       int64 // tick (ms) on the loop's clock; 0 while not armed
	list       *timerList
}

// Armed reports whether the timer is waiting to fire.
func (t *Timer) Armed() bool { return t.when != 0 }
