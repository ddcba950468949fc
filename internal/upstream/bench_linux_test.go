package upstream

import (
	"syscall"
	"testing"

	"wsgate/bridge"
	"wsgate/h1"
)

// BenchmarkOpenClose: a whole tunnel at a server of this process, without a
// front: what an upstream costs beside an h1.Backend.
func BenchmarkOpenClose(b *testing.B) {
	addr := plainServer(b, "127.0.0.2")
	for _, x := range []struct {
		name string
		c    Config
	}{
		{"bare", Config{}},
		{"upstream", Config{Servers: []ServerConfig{{Address: addr}}}},
		{"three", Config{Servers: []ServerConfig{{Address: addr}, {Address: plainServer(b, "127.0.0.3")}, {Address: plainServer(b, "127.0.0.4")}}}},
		{"sticky", Config{Servers: []ServerConfig{{Address: addr}}, Balance: sticky(Cookie{})}},
		{"sources", Config{Servers: []ServerConfig{{Address: addr}}, Sources: addrs("127.0.0.11", "127.0.0.12")}},
	} {
		b.Run(x.name, func(b *testing.B) {
			l := startLoop(b)
			var to bridge.Backend = &h1.Backend{Address: addr}
			if x.name != "bare" {
				x.c.Name = "app"
				u, err := New(x.c, Env{}, nil)
				if err != nil {
					b.Fatal(err)
				}
				u.Start()
				defer u.Close()
				to = u
			}
			c := &crowd{l: l, to: to, left: b.N, reset: true, done: make(chan error, 1)}
			before := processTime()
			b.ReportAllocs()
			b.ResetTimer()
			l.Post(func() {
				for range 20 {
					c.next()
				}
			})
			if err := <-c.done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(processTime()-before)/float64(b.N)/1e3, "cpu-µs/op")
		})
	}
}

// processTime is the CPU time of this process, the server's part included, in ns.
func processTime() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
