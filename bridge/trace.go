package bridge

import "time"

// Trace is told of tunnels. Each function may be nil; all are called on the
// loop and must not block.
type Trace struct {
	// Opened: the tunnel stands. The handshake is valid during the call only.
	Opened func(*Tunnel, *Handshake)
	// Refused: there will be no tunnel. status is what the client was
	// answered, 0 if it had left; Tunnel.Code says why.
	Refused func(t *Tunnel, h *Handshake, status int)
	// Done: the tunnel has ended. It comes once for each Opened.
	Done func(*Tunnel)
}

// Tunnel is what is known of a tunnel or of a handshake that became none.
type Tunnel struct {
	ID        uint64
	Client    *Client
	Major     int    // HTTP version of the client
	Authority string // as the client sent it
	Path      string // without the query
	Asked     time.Time
	Opened    time.Time // zero if refused
	Ended     time.Time

	// Of a refused handshake.
	Code  string // machine-readable
	Cause error

	// Of an ended tunnel.
	By     string // who ended it: "client", "backend", "gateway"
	Why    string // "closed", "reset", or the timeout or order that ended it
	Detail string // of a reset
	Reset  bool   // cut and not ended in order

	BytesUp, BytesDown       uint64 // client to backend, backend to client
	MessagesUp, MessagesDown uint64
	CloseUp, CloseDown       int // Close code seen: 1005 without a code, 0 without a Close frame

	Subprotocol bool // one was agreed on; its value is in no log

	opened int64 // on the shard's clock
}
