package bridge

import "time"

// Trace is told of tunnels. Each function may be nil; all are called on the
// loop and must not block. What they are given may be kept, but for Handshake,
// and is never changed again.
type Trace struct {
	// Opened: the tunnel stands. The handshake is valid during the call only.
	Opened func(*Tunnel, *Handshake)
	// Refused: there will be no tunnel. The refusal's status is what the
	// client was answered, 0 if it had left.
	Refused func(*Tunnel, *Refusal)
	// Done: the tunnel has ended. It comes once for each Opened.
	Done func(*Tunnel, *End)
}

// Tunnel is what is known of a tunnel from its beginning.
type Tunnel struct {
	ID        uint64
	Client    *Client
	Major     int           // HTTP version of the client
	Authority string        // as the client sent it
	Path      string        // without the query
	Service   *Service      // what it was opened with
	Server    Server        // which of the backend's servers it goes to; nil if it has one only
	Handshake time.Duration // from the offer to its answer
}

// End is how a tunnel ended.
type End struct {
	By    string // "client", "backend", "gateway"
	Why   string // "closed", "reset", or the timeout or order that ended it
	Reset bool   // cut and not ended in order
	Cause error  // of a reset; for the log
	Life  time.Duration

	BytesUp, BytesDown       uint64 // client to backend, backend to client
	MessagesUp, MessagesDown uint64
	CloseUp, CloseDown       int // Close code seen: 1005 without a code, 0 without a Close frame
}
