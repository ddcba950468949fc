//go:build !linux

package loop

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"time"
)

// Elsewhere than on Linux the package builds, and New says that it cannot run.

var errLinux = errors.New("event loops need Linux")

// Loop is an event loop; New never returns one here.
type Loop struct {
	id   int
	pool pool
}

// Conn is a stream socket on a loop.
type Conn struct{}

// Accepted is a connection that is on no loop yet.
type Accepted struct{}

// Shim is the net.Conn under a tls.Conn that is to end up on a loop.
type Shim struct{ net.Conn }

// New returns an error: event loops need Linux.
func New(Config) (*Loop, error) { return nil, errLinux }

// ListenConfig returns a configuration without further options.
func ListenConfig(time.Duration) net.ListenConfig { return net.ListenConfig{} }

// NetDialer returns a dialer without further options.
func NetDialer(o DialOptions) *net.Dialer { return &net.Dialer{Timeout: o.Timeout} }

// PortsExhausted is never known here.
func PortsExhausted(error) bool { return false }

// NewShim wraps nc.
func NewShim(nc net.Conn, _ *Slots) *Shim { return &Shim{nc} }

// Handshake runs the handshake of tc.
func (s *Shim) Handshake(ctx context.Context, tc *tls.Conn) error { return tc.HandshakeContext(ctx) }

// The rest is out of reach, as there is no Loop.

func (l *Loop) ID() int                                  { return l.id }
func (l *Loop) Run()                                     {}
func (l *Loop) Stop()                                    {}
func (l *Loop) Post(func())                              {}
func (l *Loop) TryPost(func()) bool                      { return false }
func (l *Loop) Now() time.Time                           { return time.Time{} }
func (l *Loop) After(time.Duration, *Timer)              {}
func (l *Loop) TurnEnd(Flusher)                          {}
func (l *Loop) Yield()                                   {}
func (l *Loop) Stats() Stats                             { return Stats{} }
func (l *Loop) Busy() float64                            { return 0 }
func (l *Loop) Adopt(Accepted) (*Conn, error)            { return nil, errLinux }
func (l *Loop) AdoptTCP(*net.TCPConn) (*Conn, error)     { return nil, errLinux }
func (l *Loop) AdoptUnix(*net.UnixConn) (*Conn, error)   { return nil, errLinux }
func (l *Loop) AdoptTLS(*tls.Conn, *Shim) (*Conn, error) { return nil, errLinux }
func (a Accepted) RemoteAddr() netip.AddrPort            { return netip.AddrPort{} }
func (a Accepted) Close()                                {}
func (c *Conn) Loop() *Loop                              { return nil }
func (c *Conn) RemoteAddr() netip.AddrPort               { return netip.AddrPort{} }
func (c *Conn) LocalAddr() netip.AddrPort                { return netip.AddrPort{} }
func (c *Conn) Bind(Far)                                 {}
func (c *Conn) Resume()                                  {}
func (c *Conn) Room() int                                { return 0 }
func (c *Conn) Write([]byte) int                         { return 0 }
func (c *Conn) CloseWrite()                              {}
func (c *Conn) Reset(Reason)                             {}
func (c *Conn) Finish(time.Duration)                     {}

// Accept returns an error.
func (l *Loop) Accept(*net.TCPListener, func(Accepted), func(error, time.Duration)) (func(), error) {
	return nil, errLinux
}

// Dial calls nothing.
func (l *Loop) Dial(string, netip.AddrPort, string, DialOptions, func(*Conn, error)) func() {
	return func() {}
}

// Background runs f.
func Background(f func()) { f() }
