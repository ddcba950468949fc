package h1

import (
	"time"

	"wsgate/bridge"
)

// carry is the side of a transport that did not change hands cleanly: octets
// were taken from it before it was known whose they are, the 101 is not all
// written, or the client's end was already told. It settles that and then only
// passes on. It is rare.
type carry struct {
	// Immutable.
	l bridge.Loop
	t bridge.Side

	far   bridge.Far
	in    []byte // comes before what the transport has
	out   []byte // goes before what is written
	fin   bool   // the client's end is known and not yet told
	close bool   // CloseWrite once out is written
	dead  bool
}

var _ bridge.Side = (*carry)(nil)

// Bind implements bridge.Side.
func (k *carry) Bind(far bridge.Far) {
	k.far = far
	k.l.Post(k.deliver)
	k.t.Bind(k)
}

// deliver hands over what was kept.
func (k *carry) deliver() {
	for len(k.in) > 0 && !k.dead {
		want := min(k.far.Want(), len(k.in))
		if want <= 0 {
			return
		}
		n := k.far.Data(k.in[:want])
		k.in = k.in[n:]
		if n < want {
			return
		}
		if len(k.in) == 0 {
			k.t.Resume()
		}
	}
	if k.fin && !k.dead {
		k.fin = false
		k.far.End()
	}
}

// Room implements bridge.Side.
func (k *carry) Room() int {
	if len(k.out) > 0 {
		return 0
	}
	return k.t.Room()
}

// Write implements bridge.Side.
func (k *carry) Write(p []byte) int {
	if len(k.out) > 0 {
		return 0
	}
	return k.t.Write(p)
}

// Resume implements bridge.Side.
func (k *carry) Resume() {
	if len(k.in) > 0 || k.fin {
		k.l.Post(k.deliver)
		return
	}
	k.t.Resume()
}

// CloseWrite implements bridge.Side.
func (k *carry) CloseWrite() {
	if len(k.out) > 0 {
		k.close = true
		return
	}
	k.t.CloseWrite()
}

// Reset implements bridge.Side.
func (k *carry) Reset(r bridge.Reason) {
	k.dead = true
	k.t.Reset(r)
}

// Finish does what the transport's own Finish does.
func (k *carry) Finish(linger time.Duration) {
	k.dead = true
	if f, ok := k.t.(interface{ Finish(time.Duration) }); ok && len(k.out) == 0 {
		f.Finish(linger)
		return
	}
	k.t.Reset(bridge.ReasonShutdown)
}

// Want implements bridge.Far.
func (k *carry) Want() int {
	if len(k.in) > 0 {
		return 0
	}
	return k.far.Want()
}

// Data implements bridge.Far.
func (k *carry) Data(p []byte) int {
	if len(k.in) > 0 {
		return 0
	}
	return k.far.Data(p)
}

// End implements bridge.Far.
func (k *carry) End() {
	if len(k.in) > 0 {
		k.fin = true
		return
	}
	k.far.End()
}

// Broken implements bridge.Far.
func (k *carry) Broken(e *bridge.ResetError) {
	k.dead = true
	k.far.Broken(e)
}

// Writable implements bridge.Far.
func (k *carry) Writable() {
	if len(k.out) > 0 {
		k.out = k.out[k.t.Write(k.out):]
		if len(k.out) > 0 {
			return
		}
		k.out = nil
		if k.close {
			k.t.CloseWrite()
			return
		}
	}
	k.far.Writable()
}
