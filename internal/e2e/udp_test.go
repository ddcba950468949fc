package e2e

import (
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// udpRelay is a bad path of UDP between one client and a server: it loses, holds back
// and so reorders datagrams as its seed has it, and can have another port towards
// the server from one moment to the next.
type udpRelay struct {
	front *net.UDPConn // the client's side
	to    *net.UDPAddr

	mu     sync.Mutex
	rng    *rand.Rand
	client *net.UDPAddr
	back   *net.UDPConn // towards the server
	all    []*net.UDPConn

	passed, lost, held, moves atomic.Int64
}

const (
	relayLoss = 0.02
	relayHold = 0.10 // share that waits for up to relayWait, behind others
	relayWait = 8 * time.Millisecond
)

// newUDPRelay starts one before a server.
func newUDPRelay(t *testing.T, server string, seed uint64) *udpRelay {
	t.Helper()
	to, err := net.ResolveUDPAddr("udp", server)
	if err != nil {
		t.Fatal(err)
	}
	r := &udpRelay{to: to, rng: rand.New(rand.NewPCG(seed, seed))}
	if r.front, err = net.ListenUDP("udp", &net.UDPAddr{IP: to.IP}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	if err := r.move(); err != nil {
		t.Fatal(err)
	}
	go r.up()
	return r
}

func (r *udpRelay) addr() string { return r.front.LocalAddr().String() }

// move takes another port towards the server. What still comes to the one before is
// lost.
func (r *udpRelay) move() error {
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: r.to.IP})
	if err != nil {
		return err
	}
	r.mu.Lock()
	if r.back != nil {
		r.moves.Add(1)
	}
	r.back = c
	r.all = append(r.all, c)
	r.mu.Unlock()
	go r.down(c)
	return nil
}

func (r *udpRelay) close() {
	r.front.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.all {
		c.Close()
	}
}

// up carries what the client sends.
func (r *udpRelay) up() {
	p := make([]byte, 2048)
	for {
		n, from, err := r.front.ReadFromUDP(p)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.client = from
		r.mu.Unlock()
		r.carry(p[:n], func(p []byte) {
			r.mu.Lock()
			c := r.back // the port of when it leaves
			r.mu.Unlock()
			c.WriteToUDP(p, r.to) // what fails is lost
		})
	}
}

// down carries what the server sends to a port of ours, while it is the present one.
func (r *udpRelay) down(c *net.UDPConn) {
	p := make([]byte, 2048)
	for {
		n, _, err := c.ReadFromUDP(p)
		if err != nil {
			return
		}
		r.mu.Lock()
		present, to := r.back == c, r.client
		r.mu.Unlock()
		if present && to != nil {
			r.carry(p[:n], func(p []byte) { r.front.WriteToUDP(p, to) })
		} else {
			r.lost.Add(1)
		}
	}
}

// carry loses a datagram, holds it back, or lets it pass.
func (r *udpRelay) carry(p []byte, send func([]byte)) {
	r.mu.Lock()
	what, wait := r.rng.Float64(), time.Duration(r.rng.Int64N(int64(relayWait)))
	r.mu.Unlock()
	switch {
	case what < relayLoss:
		r.lost.Add(1)
	case what < relayLoss+relayHold:
		r.held.Add(1)
		p = append([]byte(nil), p...)
		time.AfterFunc(wait, func() { send(p) })
	default:
		r.passed.Add(1)
		send(p)
	}
}
