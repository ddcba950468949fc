package loop

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestShimDeadlines(t *testing.T) {
	l := newLoop(t)
	ours, _ := pipe(t)
	shim := NewShim(ours, NewSlots(1))
	shim.SetDeadline(time.Now().Add(10 * time.Millisecond))
	err := shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v from a silent client, want a timeout", err)
	}
	sc, shim, cc, _ := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	o := adoptTLS(t, l, sc, shim)
	past := time.Now().Add(-time.Hour)
	on(t, l, func() {
		for _, set := range []func(time.Time) error{shim.SetDeadline, shim.SetReadDeadline, shim.SetWriteDeadline} {
			if err := set(past); err != nil {
				t.Errorf("got %v from a deadline after the move, want nothing", err)
			}
		}
		if err := shim.Close(); err != nil {
			t.Errorf("got %v from Close after the move, want nothing", err)
		}
	})
	write(t, cc, "alive")
	until(t, l, "data", func() bool { return o.got.String() == "alive" })
}

// A client that stalls in its handshake holds no CPU slot.
func TestSlotIsFreeWhileTheHandshakeWaits(t *testing.T) {
	slots := NewSlots(1)
	slow, _ := pipe(t)
	slowShim := NewShim(slow, slots)
	stalled := make(chan error, 1)
	go func() {
		stalled <- slowShim.Handshake(context.Background(), tls.Server(slowShim, serverConfig(t, tls.VersionTLS13)))
	}()
	ours, peer := pipe(t)
	shim := NewShim(ours, slots)
	done := make(chan error, 1)
	go func() {
		done <- shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	}()
	cc := tls.Client(peer, clientConfig(tls.VersionTLS13))
	if err := cc.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, done, "the second handshake"); err != nil {
		t.Fatal(err)
	}
	slow.Close()
	if err := await(t, stalled, "the end of the first"); err == nil {
		t.Error("got no error from the stalled handshake, want one")
	}
	if n := len(slots.free); n != 0 {
		t.Errorf("got %d slots taken, want 0", n)
	}
}

func TestSlotsBoundHowManyCompute(t *testing.T) {
	slots := NewSlots(1)
	slots.acquire()
	ours, peer := pipe(t)
	shim := NewShim(ours, slots)
	done := make(chan error, 1)
	go func() {
		done <- shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	}()
	client := make(chan error, 1)
	go func() { client <- tls.Client(peer, clientConfig(tls.VersionTLS13)).Handshake() }()
	select {
	case <-done:
		t.Error("got a handshake without a slot, want it to wait")
	case <-client:
		t.Error("got an answer to the client, want it to wait")
	case <-time.After(20 * time.Millisecond): // nothing to wait for: it must not happen
	}
	slots.release()
	if err := await(t, done, "the handshake"); err != nil {
		t.Error(err)
	}
	if err := await(t, client, "the client"); err != nil {
		t.Error(err)
	}
}

func TestShimRefusesWhatIsNotTLS(t *testing.T) {
	ours, peer := pipe(t)
	shim := NewShim(ours, nil)
	write(t, peer, "GET / HTTP/1.1\r\n\r\n")
	err := shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	var head tls.RecordHeaderError
	if !errors.As(err, &head) || string(head.RecordHeader[:]) != "GET /" || head.Conn == nil {
		t.Errorf("got %v, want a RecordHeaderError with \"GET /\"", err)
	}
	ours, peer = pipe(t)
	shim = NewShim(ours, nil)
	peer.Write([]byte{22, 3, 1})
	peer.CloseWrite()
	err = shim.Handshake(context.Background(), tls.Server(shim, serverConfig(t, tls.VersionTLS13)))
	if !errors.Is(err, io.EOF) {
		t.Errorf("got %v from half a header, want EOF", err)
	}
}

func TestAdoptTLSRefuses(t *testing.T) {
	l := newLoop(t)
	refused := func(name string, tc *tls.Conn, s *Shim, want string) {
		t.Helper()
		on(t, l, func() {
			if _, err := l.AdoptTLS(tc, s); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v for %s, want %q", err, name, want)
			}
		})
	}
	ours, peer := pipe(t)
	shim := NewShim(ours, nil)
	refused("an unfinished handshake", tls.Server(shim, serverConfig(t, tls.VersionTLS13)), shim, "handshake is not complete")
	readAll(t, peer) // closed

	sc, shim, _, _ := shaken(t, serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13))
	other, _ := pipe(t)
	refused("another shim", sc, NewShim(other, nil), "does not lie over the shim")
	adoptTLS(t, l, sc, shim)
	refused("a connection that is there", sc, shim, "on a loop already")

	a, b := net.Pipe()
	defer b.Close()
	refused("a pipe", tls.Server(NewShim(a, nil), serverConfig(t, tls.VersionTLS13)), NewShim(a, nil), "has no descriptor")
}
