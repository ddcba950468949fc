package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// octetsOf is what a tunnel carries in one direction.
func octetsOf(seed uint64, n int) []byte {
	p := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	rng.Read(p)
	return p
}

// h3From connects by way of a relay.
func (r *rig) h3From(via *udpRelay) *rawpeer.H3 {
	r.t.Helper()
	pc, err := net.ListenUDP("udp", &net.UDPAddr{IP: via.to.IP})
	r.must(err)
	r.t.Cleanup(func() { pc.Close() })
	conf := rawpeer.QUIC()
	conf.HandshakeIdleTimeout = time.Minute
	c, err := rawpeer.DialH3From(pc, via.addr(), clientTLS, conf)
	r.must(err)
	r.t.Cleanup(c.Close)
	c.Patience = time.Minute
	r.must(c.Greet())
	return c
}

// TestH3BadPath is row 160 and RFC 9000 section 9: datagrams are lost, held back and
// reordered, and the client's port changes in mid tunnel. No octet is lost, no tunnel
// ends, and the log says that the client has moved.
func TestH3BadPath(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { badPath(t, seed) })
	}
}

func badPath(t *testing.T, seed uint64) {
	const tunnels, octets, pieces = 4, 192 << 10, 48
	r := start(t, nil)
	via := newUDPRelay(t, r.https, seed)
	c := r.h3From(via)
	ids := make([]int64, tunnels)
	ends := make([]*rawpeer.BackendConn, tunnels)
	for i := range ids {
		ids[i] = c.Connect(fmt.Sprint("/", i))
		ends[i] = r.next()
		ends[i].Patience = time.Minute
		_, err := ends[i].AcceptUpgrade()
		r.must(err)
		_, err = c.WantStatus(ids[i], 200)
		r.must(err)
	}
	// All tunnels at once, both ways; the port changes at one and at two thirds.
	var work, third, twoThirds sync.WaitGroup
	errs := make(chan error, 4*tunnels)
	third.Add(2 * tunnels)
	twoThirds.Add(2 * tunnels)
	send := func(p []byte, write func([]byte) error) {
		work.Go(func() {
			at, err := 0, error(nil)
			for k := range pieces {
				if n := len(p) / pieces; err == nil {
					err = write(p[at : at+n])
					at += n
				}
				switch k {
				case pieces / 3:
					third.Done()
				case 2 * pieces / 3:
					twoThirds.Done()
				}
			}
			errs <- err
		})
	}
	receive := func(what string, p []byte, in io.Reader) {
		work.Go(func() {
			got := make([]byte, len(p))
			n, err := io.ReadFull(in, got)
			if err == nil && !bytes.Equal(got, p) {
				err = errors.New("octets differ")
			}
			if err != nil {
				err = fmt.Errorf("%s: %w after %d octets", what, err, n)
			}
			errs <- err
		})
	}
	for i, id := range ids {
		up, down := octetsOf(uint64(2*i), octets), octetsOf(uint64(2*i+1), octets)
		send(up, func(p []byte) error { return c.Data(id, p, false) })
		send(down, ends[i].Write)
		receive(fmt.Sprintf("tunnel %d up", i), up, ends[i])
		receive(fmt.Sprintf("tunnel %d down", i), down, readerFunc(func(p []byte) (int, error) { return c.Read(id, p) }))
	}
	for _, when := range []*sync.WaitGroup{&third, &twoThirds} {
		when.Wait()
		r.must(via.move())
	}
	work.Wait()
	close(errs)
	for err := range errs {
		r.check("octets", err)
	}
	if r.gw.Counters().Tunnels != tunnels {
		t.Errorf("tunnels that live: got %d, want %d", r.gw.Counters().Tunnels, tunnels)
	}
	// They end in order, and nothing is cut behind a clean end.
	for i, id := range ids {
		tail := octetsOf(uint64(100+i), 48<<10)
		r.check("client's end", c.End(id))
		r.check("backend's end", ends[i].WantFIN())
		r.must(ends[i].Write(tail))
		r.must(ends[i].CloseWrite())
		ends[i].Close()
		r.check("the tail", c.WantData(id, tail))
		r.check("the end", c.WantEnd(id))
	}
	r.settle("a move that was noticed", func(c gateway.Counters) bool { return c.H3["Moved"] > 0 })
	if via.lost.Load() == 0 || via.held.Load() == 0 {
		t.Errorf("got %d datagrams lost, %d held back: the path is not bad", via.lost.Load(), via.held.Load())
	}
	r.gw.Close() // the log is written
	if want := `msg="client moved"`; !strings.Contains(r.log.String(), want) {
		t.Errorf("log: got no %s", want)
	}
	t.Logf("datagrams: %d passed, %d held back, %d lost; %d moves, %d seen by the gateway",
		via.passed.Load(), via.held.Load(), via.lost.Load(), via.moves.Load(), r.gw.Counters().H3["Moved"])
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
