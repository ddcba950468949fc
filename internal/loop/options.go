package loop

import (
	"net/netip"
	"time"
)

const (
	// NotSentLowat is the TCP_NOTSENT_LOWAT, in octets, of every socket that a
	// loop dials (see Dial for when) and of listeners made with ListenConfig: without it a peer that
	// never reads absorbs some 4 MiB per socket, with it about 200 KiB.
	NotSentLowat = 64 << 10

	// DefaultKeepAlive is the keep-alive idle time and interval where an
	// option leaves it 0.
	DefaultKeepAlive = 15 * time.Second

	scratchSize = 64 << 10 // most that one read(2) takes, and most that Write encrypts at a time
	maxRounds   = 4        // reads per descriptor and turn
	acceptBurst = 32       // accepts per listener and turn
	acceptPause = 100 * time.Millisecond

	// completeLinger is how long Reset(ReasonComplete) waits for the peer's FIN.
	completeLinger = 5 * time.Second

	// alertLinger is how long a TLS connection that failed waits for the peer
	// to take the alert.
	alertLinger = time.Second
)

// Config says how a Loop is made. The zero Config is usable.
type Config struct {
	// ID names the loop in errors and metrics.
	ID int
	// CloseLinger bounds how long a connection whose two directions have both
	// ended in order waits for its output to drain and for the peer's FIN (TLS
	// only: a plain one needs no such wait). 0 means 10 s.
	CloseLinger time.Duration
}

// DialOptions say how Dial connects.
type DialOptions struct {
	Timeout   time.Duration // for the connect; 0: the kernel's own limit
	KeepAlive time.Duration // idle time and interval of TCP keep-alive; 0: DefaultKeepAlive, negative: none
	// Source is the address to connect from; the kernel chooses the port when
	// it knows where to (IP_BIND_ADDRESS_NO_PORT), so that each server address
	// has all ports. Zero: the kernel chooses both. It is for TCP and has to be
	// of the family of the address that is dialled.
	Source netip.Addr
}
