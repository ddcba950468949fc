package h1

import (
	"crypto/tls"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"testing"
	"time"

	"wsgate/bridge"
	"wsgate/internal/loop"
)

// dialled finds this process's socket whose peer has the address.
func dialled(t *testing.T, to netip.AddrPort) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if peer, err := syscall.Getpeername(fd); err == nil {
			if p, ok := peer.(*syscall.SockaddrInet4); ok && netip.AddrPortFrom(netip.AddrFrom4(p.Addr), uint16(p.Port)) == to {
				return fd
			}
		}
	}
	t.Fatalf("got no socket to %v, want one", to)
	return -1
}

// TestKeepAlive: 0 is the default, a negative time means no probes.
func TestKeepAlive(t *testing.T) {
	l, err := loop.New(loop.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() { l.Run(); close(ended) }()
	t.Cleanup(func() { l.Stop(); <-ended })
	for _, secure := range []bool{false, true} {
		for _, c := range []struct {
			set      time.Duration
			on, idle int
		}{
			{0, 1, 30}, {-1, 0, 0}, {42 * time.Second, 1, 42},
		} {
			addr, conns := silent(t)
			b := &Backend{Address: addr, KeepAlive: c.set}
			if secure {
				b.TLS = &tls.Config{}
			}
			var cancel func()
			l.Post(func() {
				cancel = b.Open(l, handshake(), func(bridge.Side, bridge.Fields, error) {})
			})
			peer := <-conns
			fd := dialled(t, netip.MustParseAddrPort(addr))
			on, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
			// A loop sets it once the connection has lasted for a second; an option of
			// the kernel tells nobody of a change, so it is looked at again and again.
			for end := time.Now().Add(10 * time.Second); err == nil && on < c.on && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				on, err = syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_KEEPALIVE)
			}
			if err != nil || on != c.on {
				t.Errorf("KeepAlive %v, TLS %v: got SO_KEEPALIVE %d, %v, want %d", c.set, secure, on, err, c.on)
			}
			if idle, err := syscall.GetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE); c.on == 1 && (err != nil || idle != c.idle) {
				t.Errorf("KeepAlive %v, TLS %v: got TCP_KEEPIDLE %d, %v, want %d", c.set, secure, idle, err, c.idle)
			}
			over := make(chan bool)
			l.Post(func() { cancel(); close(over) })
			<-over
			peer.Close()
		}
	}
}
