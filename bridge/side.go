package bridge

import (
	"time"

	"wsgate/internal/loop"
)

// Far is what a Side tells the tunnel, always on the loop of that side:
//
//	Want() int          // a socket reads no more than this; 0: silent until Resume
//	Data(p []byte) int  // n taken: the source returns credit for exactly n, keeps the rest, and is silent until Resume
//	End()               // orderly, after all Data
//	Broken(*ResetError) // at most once; also after End
//	Writable()          // Room left 0, or a short Write may be tried again
type Far = loop.Far

// ResetError says how and by whom a side was broken.
type ResetError = loop.ResetError

// Reason says why a side is reset.
type Reason = loop.Reason

// The reasons; see internal/loop for their meaning.
const (
	ReasonUnknown   = loop.ReasonUnknown
	ReasonReset     = loop.ReasonReset
	ReasonGone      = loop.ReasonGone
	ReasonTruncated = loop.ReasonTruncated
	ReasonProtocol  = loop.ReasonProtocol
	ReasonFarSide   = loop.ReasonFarSide
	ReasonTimeout   = loop.ReasonTimeout
	ReasonShutdown  = loop.ReasonShutdown
	ReasonLimit     = loop.ReasonLimit
	ReasonInternal  = loop.ReasonInternal
	ReasonComplete  = loop.ReasonComplete
)

// Timer fires once on the loop it was given to by Loop.After.
type Timer = loop.Timer

// Flusher has output to send at the end of a turn of its loop.
type Flusher = loop.Flusher

// Loop is the exported face of an event loop. One loop owns a connection and
// all that hangs on it; except for Post every method is called on the loop.
type Loop interface {
	// Post runs f on the loop, later and in order. Any goroutine may call it.
	Post(f func())
	// After arms t, or arms it anew, to fire after d.
	After(d time.Duration, t *Timer)
	// Now is the time at which the present turn began.
	Now() time.Time
	// TurnEnd calls f.Flush once at the end of this turn. The caller sees to
	// it that it asks only once a turn.
	TurnEnd(f Flusher)
	// Yield lets goroutines that this turn has woken run before the next turn.
	Yield()
	// Buffer returns an empty slice with room for at least n octets; Free
	// gives it back.
	Buffer(n int) []byte
	Free(p []byte)
}

// Side is one end of a tunnel, or the transport under a wire package. Its
// methods are called on its loop only, return at once, and never call Far back
// before returning.
type Side interface {
	// Bind names the owner. What came before is delivered in the next turn.
	Bind(Far)
	// Room is a hint for those who pull: how much Write would take. 0 means
	// wait for Writable.
	Room() int
	// Write takes a prefix of p and returns its length. It never keeps p; the
	// rest stays with its source until Writable.
	Write(p []byte) int
	// Resume says that Far takes again after a short Data or a Want of 0.
	Resume()
	// CloseWrite ends the outgoing direction in order, after all that Write
	// took: FIN, END_STREAM. The other direction goes on.
	CloseWrite()
	// Reset cuts both directions. It is idempotent, and nothing after both
	// directions have ended in order: owners may always call it last.
	Reset(Reason)
}

var (
	_ Loop = (*loop.Loop)(nil)
	_ Side = (*loop.Conn)(nil)
)
