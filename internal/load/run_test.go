package load

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/gateway"
)

// bridges starts an echo backend and a gateway before it, and returns a target
// for each way to speak to it.
func bridges(t *testing.T) map[string]*Target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := ln.Addr().String()
	go ServeEcho(ln.(*net.TCPListener))
	c := gateway.Default()
	c.Listen, c.SelfSigned, c.Backend = []string{"https://127.0.0.1:0", "http://127.0.0.1:0"}, true, "ws://"+backend
	g, err := gateway.Start(c, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	at := g.Addresses()
	insecure := &tls.Config{InsecureSkipVerify: true}
	return map[string]*Target{
		"h1":       {Addr: at[1].String(), Path: "/", HTTP: 1},
		"h1 TLS":   {Addr: at[0].String(), Path: "/", HTTP: 1, TLS: insecure},
		"h2":       {Addr: at[1].String(), Path: "/", HTTP: 2},
		"h2 TLS":   {Addr: at[0].String(), Path: "/", HTTP: 2, TLS: insecure},
		"h3":       {Addr: at[0].String(), Path: "/", HTTP: 3, TLS: insecure},
		"no proxy": {Addr: backend, Path: "/", HTTP: 1},
	}
}

// wantClean: n tunnels, all of them well.
func wantClean(t *testing.T, r *Result, n int64) {
	t.Helper()
	if r.Opened < n || r.Refused != 0 || r.Errors != 0 || r.Messages == 0 {
		t.Errorf("got %d opened, %d refused, %d errors, %d messages, want %d, none, none, some; %q", r.Opened, r.Refused, r.Errors, r.Messages, n, r.Trouble)
	}
}

// TestScenarios: every scenario over every version, with each message compared.
func TestScenarios(t *testing.T) {
	for name, target := range bridges(t) {
		o := few(3, 5)
		if target.HTTP == 1 {
			o = few(6, 1)
		}
		n := int64(o.Conns * o.Tunnels)
		o.Verify, o.OpenTimeout = true, 20*time.Second
		plays := map[string]func(context.Context, *Target, Options) (*Result, error){
			"echo": Echo, "open": Open, "get": Get,
			"idle": func(ctx context.Context, t *Target, o Options) (*Result, error) {
				o.Hold = 50 * time.Millisecond
				return Idle(ctx, t, o)
			},
			"bulk": func(ctx context.Context, t *Target, o Options) (*Result, error) {
				o.Size, o.InFlight, o.For = 100_000, 2, 10*o.For // more than the windows take
				return Echo(ctx, t, o)
			},
			"rate": func(ctx context.Context, t *Target, o Options) (*Result, error) {
				o.Rate = 2000
				return Echo(ctx, t, o)
			},
		}
		if target.TLS != nil && target.HTTP < 3 {
			plays["handshakes"] = func(ctx context.Context, t *Target, o Options) (*Result, error) {
				r, err := Handshakes(ctx, t, o)
				if err == nil {
					r.Opened = n // they open none
				}
				return r, err
			}
		}
		for play, run := range plays {
			t.Run(name+" "+play, func(t *testing.T) {
				o := o
				r, err := run(t.Context(), target, o)
				for err == nil && r.Messages == 0 && o.For < time.Minute { // too short for this machine
					o.For *= 4
					r, err = run(t.Context(), target, o)
				}
				if err != nil {
					t.Fatal(err)
				}
				wantClean(t, r, n)
				if v, ok := r.Latency(50); !ok || v <= 0 {
					t.Errorf("got a median latency of %v ms (%v), want one", v, ok)
				}
			})
		}
	}
}

// TestEvilPeers: whatever a peer does, the run ends and says it by name.
func TestEvilPeers(t *testing.T) {
	type want struct {
		opened, refused, errors, silent int64
		trouble                         string
	}
	h1 := func(serve func(net.Conn)) func(*testing.T) *Target {
		return func(t *testing.T) *Target { return listen(t, serve) }
	}
	h2 := func(p h2peer) func(*testing.T) *Target { return func(t *testing.T) *Target { return p.listen(t) } }
	// Each connection has to come to the message that gets no answer, also where
	// other work has the processor.
	patient := few(2, 1)
	patient.For = 3 * time.Second
	// One tunnel in four is well, so that there is something to measure.
	third := func(bad func(*http2.Framer, uint32)) func(*http2.Framer, uint32) {
		return func(f *http2.Framer, id uint32) {
			if id == 5 {
				bad(f, id)
			} else {
				accept(f, id)
			}
		}
	}
	for _, c := range []struct {
		name string
		peer func(*testing.T) *Target
		o    Options
		want want
	}{
		{"h1 closes", h1(func(c net.Conn) { echoing(c, func(n int) bool { return n < 3 }) }), few(2, 1), want{2, 0, 2, 0, "connection 0: the peer closed the connection"}},
		{"h1 resets", h1(func(c net.Conn) {
			echoing(c, func(n int) bool { return n < 3 })
			reset(c)
		}), few(2, 1), want{2, 0, 2, 0, "connection reset by peer"}},
		{"h1 stalls", h1(func(c net.Conn) {
			echoing(c, func(n int) bool { return n < 3 })
			stall(c)
		}), patient, want{2, 0, 2, 2, "silent: connection 0: no answer to a message"}},
		{"h1 answers no message", h1(func(c net.Conn) {
			upgraded(c)
			stall(c)
		}), patient, want{2, 0, 2, 2, "silent: connection 0: no answer to a message"}},
		{"h1 changes a message", h1(func(c net.Conn) {
			echoing(c, func(n int) bool {
				if n == 2 {
					c.Write(append([]byte{0x82, 64}, make([]byte, 64)...))
				}
				return n < 2
			})
		}), Options{Conns: 1, Tunnels: 1, Size: 64, For: 100 * time.Millisecond, Verify: true}, want{1, 0, 2, 0, "message 2 came back changed"}},
		{"h1 babbles", h1(func(c net.Conn) {
			upgraded(c)
			io.WriteString(c, "no frame at all")
			stall(c)
		}), few(1, 1), want{1, 0, 1, 0, "which begin no frame of a server"}},
		{"h2 never answers one", h2(h2peer{extended, third(func(*http2.Framer, uint32) {}), nil}), few(1, 4), want{3, 0, 1, 1, "silent: connection 0 stream 5: no answer to the handshake"}},
		{"h2 refuses one", h2(h2peer{extended, third(func(f *http2.Framer, id uint32) { status(f, id, "403", true) }), nil}), few(1, 4), want{3, 1, 0, 0, `connection 0 stream 5: refused: the answer's status is "403"`}},
		{"h2 resets one", h2(h2peer{extended, third(func(f *http2.Framer, id uint32) {
			f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		}), nil}), few(1, 4), want{3, 0, 1, 0, "connection 0 stream 5: RST_STREAM REFUSED_STREAM"}},
		{"h2 ends one", h2(h2peer{extended, third(func(f *http2.Framer, id uint32) {
			accept(f, id)
			f.WriteData(id, true, nil)
		}), nil}), few(1, 4), want{4, 0, 1, 0, "connection 0 stream 5: the peer ended the tunnel"}},
		{"h2 takes three", h2(h2peer{append([]http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 3}}, extended...), accept, nil}), few(1, 4), want{3, 1, 0, 0, "takes no more than 3 streams"}},
		{"h2 goes away", h2(h2peer{extended, accept, func(f *http2.Framer, id uint32, p []byte) {
			f.WriteGoAway(7, http2.ErrCodeEnhanceYourCalm, []byte("calm"))
		}}), few(1, 4), want{4, 0, 4, 0, "GOAWAY ENHANCE_YOUR_CALM"}},
		{"h2 sends nonsense", h2(h2peer{extended, accept, func(f *http2.Framer, id uint32, p []byte) {
			f.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, []byte{1})
		}}), few(1, 4), want{4, 0, 4, 0, "WINDOW_UPDATE frame of 1 octets"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			began := time.Now()
			r, err := Echo(t.Context(), c.peer(t), c.o)
			if err != nil {
				t.Fatal(err)
			}
			got := want{r.Opened, r.Refused, r.Errors, r.Silent, ""}
			w := c.want
			w.trouble = ""
			if got != w {
				t.Errorf("got opened, refused, errors, silent %v, want %v; %q", got, w, r.Trouble)
			}
			if !slices.ContainsFunc(r.Trouble, func(s string) bool { return strings.Contains(s, c.want.trouble) }) {
				t.Errorf("got the troubles %q, want %q among them", r.Trouble, c.want.trouble)
			}
			if said := slices.Sorted(slices.Values(r.Trouble)); len(slices.Compact(said)) != len(r.Trouble) {
				t.Errorf("got the troubles %q, want none of them twice", r.Trouble)
			}
			if d := time.Since(began); d > 20*time.Second {
				t.Errorf("got a run of %v, want one that ends", d)
			}
		})
	}
}

// TestCrowd: however many connections there are, no more than inFlight
// handshakes are under way.
func TestCrowd(t *testing.T) {
	const conns = inFlight + 20
	var pending, most, seen atomic.Int64
	full := make(chan struct{})
	peer := h2peer{extended, func(f *http2.Framer, id uint32) {
		n := pending.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if seen.Add(1) == inFlight {
			close(full)
		}
		<-full
		pending.Add(-1)
		accept(f, id)
	}, nil}
	o := few(conns, 1)
	o.OpenTimeout = 20 * time.Second
	r, err := Echo(t.Context(), peer.listen(t), o)
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, r, conns)
	if n := most.Load(); n > inFlight {
		t.Errorf("got %d handshakes under way at once, want at most %d", n, inFlight)
	}
}

// TestNoTunnel: without a single tunnel there is no result but an error that
// says why.
func TestNoTunnel(t *testing.T) {
	free := listen(t, nil)
	for _, c := range []struct {
		name, want string
		target     *Target
		run        func(context.Context, *Target, Options) (*Result, error)
	}{
		{"refuses all", "HTTP/1.1 503", listen(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			stall(c)
		}), Echo},
		{"lives are refused", "HTTP/1.1 503", listen(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			stall(c)
		}), Open},
		{"wrong key", "Sec-WebSocket-Accept", listen(t, func(c net.Conn) {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: no\r\n\r\n")
			stall(c)
		}), Echo},
		{"says nothing", "does not answer", listen(t, stall), Echo},
		{"no WebSocket over HTTP/2", "SETTINGS_ENABLE_CONNECT_PROTOCOL", (&h2peer{}).listen(t), Echo},
		{"no TLS", "need a target with TLS", free, Handshakes},
		{"nobody there", "refused", &Target{Addr: "127.0.0.1:1", HTTP: 2}, Echo},
		{"nobody there for lives", "refused", &Target{Addr: "127.0.0.1:1", HTTP: 1}, Open},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.run(t.Context(), c.target, few(1, 1))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want %q in it", err, c.want)
			}
		})
	}
}

// TestOmission: with a schedule a pause of the peer is seen by every message
// that should have gone out meanwhile, not by the one that was under way.
func TestOmission(t *testing.T) {
	const pause = 400 * time.Millisecond
	target := listen(t, func(c net.Conn) {
		echoing(c, func(n int) bool {
			if n == 20 {
				time.Sleep(pause) // what this peer does
			}
			return true
		})
	})
	o := few(1, 1)
	o.For, o.Rate = time.Second, 200
	r, err := Echo(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	// 80 of 200 messages were due in the pause.
	if v, _ := r.Latency(90); v < 100 {
		t.Errorf("got a p90 of %v ms, want at least 100", v)
	}
	if r.Errors != 0 {
		t.Errorf("got %d errors, want none: %q", r.Errors, r.Trouble)
	}
}

// TestUnanswered: messages of a schedule that never come back are counted, with
// the age they have.
func TestUnanswered(t *testing.T) {
	target := listen(t, func(c net.Conn) {
		echoing(c, func(n int) bool {
			if n == 20 {
				stall(c)
			}
			return true
		})
	})
	o := few(1, 1)
	o.For, o.Rate, o.OpenTimeout = 3*time.Second, 200, 2*time.Second
	r, err := Echo(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	if v, _ := r.Latency(90); v < 1000 {
		t.Errorf("got a p90 of %v ms, want the age of what did not come back", v)
	}
	if r.Silent != 1 || r.Errors < 50 {
		t.Errorf("got %d silent, %d errors, want 1 and the messages too", r.Silent, r.Errors)
	}
}

// TestCancel: a run that is cancelled returns what it has measured.
func TestCancel(t *testing.T) {
	target := listen(t, func(c net.Conn) { echoing(c, func(int) bool { return true }) })
	ctx, cancel := context.WithCancel(t.Context())
	o := few(2, 1)
	o.For = time.Hour
	o.Progress = func(s string) {
		if strings.Contains(s, "messages/s") {
			cancel()
		}
	}
	r, err := Echo(ctx, target, o)
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, r, 2)
}
