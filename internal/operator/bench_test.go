package operator

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wsgate/internal/gateway"
	"wsgate/internal/load"
)

// manyRoutes is a file with n routes; salt makes two of them differ.
func manyRoutes(addr string, n, salt int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "listeners: [{address: \"127.0.0.1:0\"}]\nadmin: {address: \":0\"}\nlog: {format: text}\nupstreams: {app: {servers: \"ws://%s\"}}\nroutes:\n  - {name: app, match: {hosts: [a.test]}, upstream: app}\n", addr)
	for i := range n - 1 {
		fmt.Fprintf(&b, "  - name: route-%d\n    match:\n      hosts: [host%d.example.com]\n      prefix: /v%d/rooms\n      kind: websocket\n    upstream: app\n    ping: %ds\n", i, i/4, i%4, 30+salt)
	}
	return b.String()
}

// beat sends 1000 messages a second in all over tunnels and keeps the longest
// time to an echo.
type beat struct {
	conns   []*websocket.Conn
	longest atomic.Int64 // ns
	stop    chan bool
}

func newBeat(b *testing.B, addr string, tunnels int) *beat {
	x := &beat{stop: make(chan bool)}
	d := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return net.Dial("tcp", addr) }}
	for range tunnels {
		c, _, err := d.Dial("ws://a.test/", nil)
		if err != nil {
			b.Fatal(err)
		}
		x.conns = append(x.conns, c)
		go func() {
			for {
				_, p, err := c.ReadMessage()
				if err != nil {
					return
				}
				var at int64
				fmt.Sscan(string(p), &at)
				if d := time.Now().UnixNano() - at; d > x.longest.Load() {
					x.longest.Store(d)
				}
			}
		}()
	}
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-x.stop:
				return
			case <-tick.C:
				x.conns[i%len(x.conns)].WriteMessage(websocket.TextMessage, fmt.Append(nil, time.Now().UnixNano()))
			}
		}
	}()
	b.Cleanup(func() {
		close(x.stop)
		for _, c := range x.conns {
			c.Close()
		}
	})
	return x
}

// BenchmarkReload10000 reloads a program with 10,000 routes while 100 tunnels
// carry 1000 messages a second: how long it takes, and the longest time to an echo
// in a second before it and during it. It fails above 1 s, and above 20 ms more.
func BenchmarkReload10000(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go load.ServeEcho(ln.(*net.TCPListener))
	p := start(b, manyRoutes(ln.Addr().String(), 10_000, 0))
	x := newBeat(b, p.addr[0], 100)
	var took, before, during time.Duration
	n := 0
	for b.Loop() {
		n++
		p.write(manyRoutes(ln.Addr().String(), 10_000, n))
		x.longest.Store(0)
		time.Sleep(time.Second) // what is measured: a second without a reload
		before = max(before, time.Duration(x.longest.Swap(0)))
		var r gateway.Report
		if err := gateway.Ask(p.adm, "/reload", &r); err != nil {
			b.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond) // what is measured too: echoes that were under way
		during = max(during, time.Duration(x.longest.Load()))
		d, err := time.ParseDuration(r.Duration)
		if err != nil || r.Routes != 10_000 || r.Ended != 0 {
			b.Fatalf("got %+v", r)
		}
		took = max(took, d)
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(took), "ms/reload")
	b.ReportMetric(ms(before), "ms-echo-before")
	b.ReportMetric(ms(during), "ms-echo-during")
	if took > time.Second || during > before+20*time.Millisecond {
		b.Errorf("got %v for a reload and echoes of %v before and %v during it; want at most 1 s and 20 ms more", took, before, during)
	}
}
