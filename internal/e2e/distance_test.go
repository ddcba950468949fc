package e2e

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"wsgate/internal/rawpeer"
)

// relay forwards TCP to addr and holds every octet back for a while each way,
// as distance does. It returns where it listens.
func relay(t *testing.T, addr string, delay time.Duration) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", addr)
			if err != nil {
				near.Close()
				continue
			}
			wg.Add(2)
			go carry(&wg, near, far, delay)
			go carry(&wg, far, near, delay)
		}
	}()
	return ln.Addr().String()
}

// carry is one direction of a relay.
func carry(wg *sync.WaitGroup, from, to net.Conn, delay time.Duration) {
	defer wg.Done()
	type piece struct {
		p  []byte
		at time.Time
	}
	pieces := make(chan piece, 1<<16)
	wg.Add(1)
	go func() {
		defer wg.Done()
		defer to.Close()
		for x := range pieces {
			<-time.After(time.Until(x.at))
			if _, err := to.Write(x.p); err != nil {
				io.Copy(io.Discard, from)
			}
		}
	}()
	defer close(pieces)
	for {
		p := make([]byte, 32<<10)
		n, err := from.Read(p)
		if n > 0 {
			pieces <- piece{p[:n], time.Now().Add(delay)}
		}
		if err != nil {
			return
		}
	}
}

// TestDistance: with a round trip of 150 ms a small echo does not wait for an
// upload of 1 MiB on another tunnel of the connection (row 119): it is back
// while the upload is still under way, which needs more round trips than two.
func TestDistance(t *testing.T) {
	r := start(t, nil)
	c, err := rawpeer.DialH2(relay(t, r.https, 75*time.Millisecond), clientTLS)
	r.must(err)
	defer c.Close()
	c.Patience = 20 * time.Second
	big, bigBackend := r.open(c)
	small, smallBackend := r.open(c)
	const size = 1 << 20
	sent := make(chan error, 1)
	read := make(chan error, 1)
	go func() { sent <- c.Send(big, make([]byte, size)) }()
	go func() { read <- bigBackend.WantBytes(make([]byte, size)) }()
	r.must(c.Data(small, []byte("quick"), false))
	r.must(smallBackend.WantBytes([]byte("quick")))
	r.must(smallBackend.Write([]byte("answer")))
	r.must(c.WantData(small, []byte("answer")))
	select {
	case <-read:
		t.Error("the echo came back only after the upload")
	default:
	}
	r.must(<-sent)
	r.must(<-read)
}
