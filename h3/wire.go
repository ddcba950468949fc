package h3

import (
	"net/netip"
	"time"
)

// quicConn is a QUIC connection as the engine sees it. Its methods are called on
// the loop and return at once.
type quicConn interface {
	// openUni opens a stream of our own; nil if the client allows none. to is
	// told of STOP_SENDING.
	openUni(to receiver) sender
	// closeWith ends the connection with all its streams.
	closeWith(code ErrCode, why string)
	// remote is where the client is now (RFC 9000 section 9).
	remote() netip.AddrPort
	// roundTrip is about how long an answer takes.
	roundTrip() time.Duration
	// sent is how many octets went out so far, repeated ones too.
	sent() uint64
}

// sender is the sending half of a stream.
type sender interface {
	// room is how many octets write should be given; 0 means wait for writable.
	room() int
	// write takes all of p, whatever room says, and does not keep it.
	write(p []byte)
	// end ends the direction in order, after all that was written.
	end()
	// reset ends it at once; what was written may be lost. It is nothing once end
	// was called and nothing is unsent.
	reset(code ErrCode)
	// unsent reports whether octets wait for QUIC to take them.
	unsent() bool
}

// quicStream is a stream that the client opened. One that came by itself has no
// sending half, whose methods are nothing then.
type quicStream interface {
	sender
	// resume asks for data that receiver.data did not take, in a later turn.
	resume()
	// stop says that nothing more is read; the receiver hears nothing more of
	// what comes.
	stop(code ErrCode)
	// release lets the client open another stream in the place of this one.
	release()
}

// receiver is told, on the loop, what comes on a stream. After quicStream.stop it is
// silent but for stopped and writable, and after the end of the connection it is silent.
type receiver interface {
	// data takes a prefix of p. What is left comes again after resume. fin says
	// that FIN stands behind p, as far as is known.
	data(p []byte, fin bool) int
	// ended is the client's FIN, after all data.
	ended()
	// wasReset is the client's RESET_STREAM.
	wasReset(code ErrCode)
	// stopped is the client's STOP_SENDING.
	stopped(code ErrCode)
	// writable says that there is room again after room was 0, and that nothing is
	// unsent any more.
	writable()
}
