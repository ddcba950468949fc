package operator

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsgate/internal/load"
)

// talker is a tunnel that sends numbers and wants each of them back, once and in
// order.
type talker struct {
	c      *websocket.Conn
	server string
	sent   atomic.Int64
	got    atomic.Int64
	late   atomic.Int64 // longest time to an echo, ns
	err    error        // read after done
	done   chan struct{}
}

// talk runs until stop is closed or the tunnel ends; it begins after first.
func (k *talker) talk(first, every time.Duration, stop <-chan bool) {
	defer close(k.done)
	tick := time.NewTicker(first + 1)
	defer tick.Stop()
	for n := int64(1); ; n++ {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		tick.Reset(every)
		begin := time.Now()
		if k.err = k.c.WriteMessage(websocket.TextMessage, fmt.Append(nil, n)); k.err != nil {
			return
		}
		k.sent.Store(n)
		k.c.SetReadDeadline(begin.Add(wait))
		_, p, err := k.c.ReadMessage()
		if err != nil {
			k.err = err
			return
		}
		if string(p) != fmt.Sprint(n) {
			k.err = fmt.Errorf("echo: got %q, want %d", p, n)
			return
		}
		k.got.Store(n)
		if d := int64(time.Since(begin)); d > k.late.Load() {
			k.late.Store(d)
		}
	}
}

func echoes(all []*talker) (n int64) {
	for _, k := range all {
		n += k.got.Load()
	}
	return n
}

// TestReloadsUnderLoad: 2000 tunnels with traffic live through 100 reloads and
// the removal of a server, but for those of that server: no message is lost or
// doubled. How late they are is the benchmark's.
func TestReloadsUnderLoad(t *testing.T) { t.Log("the slowest echo took", reloadsUnderLoad(t)) }

// BenchmarkReloadsUnderLoad is the same on a machine with nothing else to do: no
// message is late by more than a second.
func BenchmarkReloadsUnderLoad(b *testing.B) {
	for b.Loop() {
		late := reloadsUnderLoad(b)
		b.ReportMetric(float64(late.Milliseconds()), "slowest-ms")
		if late > time.Second {
			b.Errorf("the slowest echo took %v, want at most 1s", late)
		}
	}
}

// reloadsUnderLoad returns the longest time to an echo.
func reloadsUnderLoad(t testing.TB) (late time.Duration) {
	t.Helper()
	const tunnels, reloads = 2000, 100
	var servers []*server
	for i := range 4 {
		servers = append(servers, serve(t, fmt.Sprint("s", i), fmt.Sprintf("127.0.0.%d", i+2)))
	}
	file := func(n, used int) string {
		var b strings.Builder
		b.WriteString("listeners: [{address: \"127.0.0.1:0\"}]\ndrain: {time: 500ms}\nlimits: {pending: 0}\nupstreams:\n  app:\n    balance: round_robin\n    servers:\n")
		for _, s := range servers[:used] {
			fmt.Fprintf(&b, "      - ws://%s\n", s.addr)
		}
		// Something is different each time: an option of the upstream, a route, a time.
		fmt.Fprintf(&b, "    retry: {attempts: %d}\nroutes:\n  - {name: app, match: {hosts: [a.test]}, upstream: app, ping: %dm}\n", n%3+1, n%7+1)
		for i := range n % 5 {
			fmt.Fprintf(&b, "  - {match: {hosts: [x%d.test]}, answer: {status: 404}}\n", i)
		}
		return b.String()
	}
	r := run(t, file(0, 4))
	all := make([]*talker, tunnels)
	var opening sync.WaitGroup
	free := make(chan bool, 50)
	dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return net.Dial("tcp", r.at(0)) }, ReadBufferSize: 512, WriteBufferSize: 512}
	for i := range all {
		free <- true
		opening.Go(func() {
			defer func() { <-free }()
			c, _, err := dialer.Dial("ws://a.test/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			_, p, err := c.ReadMessage()
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = &talker{c: c, server: string(p), done: make(chan struct{})}
		})
	}
	opening.Wait()
	if t.Failed() {
		return 0
	}
	stop := make(chan bool)
	for i, k := range all {
		defer k.c.Close()
		go k.talk(time.Duration(i)*time.Second/tunnels, time.Second, stop) // not all at once
	}
	for n := range reloads {
		used := 4
		if n >= reloads/2 {
			used = 3
		}
		rep := r.reload(file(n+1, used))
		if n < reloads/2 && rep.Ended != 0 {
			t.Errorf("reload %d: got %d ended, want none", n, rep.Ended)
		}
		if n == reloads/2 && rep.Ended != tunnels/4 {
			t.Errorf("reload that removes a server: got %d ended, want %d", rep.Ended, tunnels/4)
		}
		// The load goes on between two reloads.
		before := echoes(all)
		eventually(t, "some echoes", func() bool { return echoes(all) >= before+50 })
	}
	for _, k := range all {
		if k.server == "s3" {
			<-k.done
			if e, ok := k.err.(*websocket.CloseError); !ok || e.Code != 1001 {
				t.Errorf("a tunnel of the server that went: got %v, want Close 1001", k.err)
			}
		}
	}
	close(stop)
	lived, messages := 0, int64(0)
	for _, k := range all {
		<-k.done
		if k.server == "s3" {
			continue
		}
		lived++
		messages += k.got.Load()
		late = max(late, time.Duration(k.late.Load()))
		if k.err != nil || k.got.Load() != k.sent.Load() {
			t.Errorf("a tunnel that should live: got %v, %d of %d echoes", k.err, k.got.Load(), k.sent.Load())
		}
	}
	t.Logf("%d tunnels lived through %d reloads with %d messages", lived, reloads, messages)
	return late
}

// TestManyOpens: 30,000 tunnels opened and closed in a row to one server through
// two source addresses, none refused.
func TestManyOpens(t *testing.T) {
	const opens, atOnce = 30_000, 20
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go load.ServeEcho(ln.(*net.TCPListener))
	r := run(t, upstreamOf("servers: 'ws://"+ln.Addr().String()+"'\nsource_addresses: [127.0.0.50, 127.0.0.51]")+"log: {format: 'off'}\n")
	c := r.h2(0, false, "")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	var left atomic.Int64
	left.Store(opens)
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			for left.Add(-1) >= 0 && ctx.Err() == nil && !t.Failed() {
				id := c.Connect("/")
				if _, err := c.WantStatus(id, 200); err != nil {
					t.Error(err)
					return
				}
				c.Data(id, []byte{0x88, 0x80, 0, 0, 0, 0}, true)
				if err := c.WantData(id, []byte{0x88, 0}); err != nil {
					t.Error(err)
				}
				if err := c.WantEnd(id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := r.gw.Counters().Opened; n != opens {
		t.Errorf("got %d tunnels opened, want %d", n, opens)
	}
}
