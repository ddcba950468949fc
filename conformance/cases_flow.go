package conformance

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// flowCases are part G: windows and fairness.
func flowCases() []Case {
	return slices.Concat(fairCases(), windowCases(), streamLimitCases())
}

func fairCases() []Case {
	return []Case{
		{
			ID: "h2/flow/stuck-neighbour", Rows: []int{117}, RFC: "9113", Section: "5.2", Level: Product,
			Title: "a backend that does not read does not slow another tunnel of the connection",
			Text: Text{
				Sends: "DATA on tunnel A, whose backend reads nothing, until its window closes; then an echo on tunnel B",
				Sees:  "A takes 16 MiB at the most; B echoes at once",
				Rule:  "Flow control ensures that streams on one connection do not destructively interfere: what is stuck is bounded by its stream's window, and the connection's window does not close with it.",
				Why:   "One slow socket freezes a whole page. Most gateways fail here, for lack of a larger connection window.",
			},
			alone: true,
			run: func(e *Env) {
				c, stuck, _ := e.tunnelH2()
				t, b := e.openOn(h2Mux{c})
				c.Patience = e.Wait(300 * time.Millisecond)
				for sent := 0; stuck.Write(make([]byte, 16384)) == nil; sent += 16384 {
					if sent > 16<<20 {
						e.Fail("at most 16 MiB taken for a backend that does not read", "%d octets", sent)
					}
				}
				c.Patience = e.patience
				if room, conn := c.Windows(t.(*h2Stream).id); room < 4 || conn < 4 {
					e.Fail("room for 4 octets on tunnel B", "%d in its window, %d in the connection's", room, conn)
				}
				e.echo(t, b)
			},
		},
		{
			ID: "h2/flow/closed-window", Rows: []int{118}, RFC: "9113", Section: "6.9", Level: Must,
			Title: "a tunnel without window holds its backend back, and not its neighbour",
			Text: Text{
				Sends: "an initial window of 0; the backend of tunnel A writes as much as it can; echoes on tunnel B; then a window for A",
				Sees:  "no octet on A before its window, its backend blocked before 64 MiB, B echoes a hundred times, then all octets of A",
				Rule:  "A sender does not exceed the window of the stream, nor of the connection; the streams are independent.",
				Why:   "A tab in the background that reads nothing must cost neither memory nor its neighbours' messages.",
			},
			alone: true,
			run:   closedWindow,
		},
		{
			ID: "h2/flow/distance", Rows: []int{119}, RFC: "9113", Section: "6.9", Level: Product,
			Title: "over a distance of 150 ms an upload that waits for its window leaves room for an echo",
			Text: Text{
				Sends: "1 MiB on tunnel A, and an echo on tunnel B when A has to wait, each octet held back 75 ms either way",
				Sees:  "whenever A has to wait it is for its stream's window: the connection's has room for the echo",
				Rule:  "The window of a connection bounds what is under way in a round trip: one that is as small as a stream's starves the others.",
				Why:   "It was 39 s for an echo behind an upload of 1.3 MB (cluesmith/codev#1677).",
			},
			slow: true, run: distance,
		},
	}
}

func closedWindow(e *Env) {
	c, a, ab := e.tunnelH2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	t, b := e.openOn(h2Mux{c})
	e.Must(c.WindowUpdate(t.(*h2Stream).id, 1<<20))
	p, sent := e.flood(ab)
	for range 100 {
		e.echo(t, b)
	}
	if n := c.Stream(a.id).Total; n != 0 {
		e.Fail("no octet without window", "%d", n)
	}
	e.Must(c.WindowUpdate(a.id, 1<<30))
	e.Must(a.WantBytes(bytes.Repeat(p, sent/len(p)+1)[:sent]))
}

// flood has a backend write until it is held back, and returns what it wrote, again
// and again, and how much.
func (e *Env) flood(b *rawpeer.BackendConn) (p []byte, sent int) {
	p = bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	for {
		e.Must(b.Conn().SetWriteDeadline(soon(e.Wait(300 * time.Millisecond))))
		n, err := b.Conn().Write(p)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return p, sent
		}
		e.Must(err)
		if sent > 64<<20 {
			e.Fail("a backend that is held back", "%d octets taken", sent)
		}
	}
}

// distance is a client that sends an upload as fast as the windows let it, and an
// echo beside it only when the upload itself has to wait.
func distance(e *Env) {
	e.needTunnels()
	c := e.h2At(e.relay(e.run.front, 75*time.Millisecond), e.run.o.TLS)
	c.Patience = max(10*time.Second, e.Wait(10*time.Second)) // the distance does not scale
	e.Must(c.Preface())
	t, bb := e.openOn(h2Mux{c})
	small, sb := e.openOn(h2Mux{c})
	big := t.(*h2Stream)
	read := make(chan error, 1)
	bb.Patience = c.Patience
	p := make([]byte, 1<<20)
	go func() { read <- bb.WantBytes(p) }()
	blocked, asked := 0, -1 // how often the upload had to wait; at which time the echo was asked for
	for left := p; len(left) > 0; {
		room, conn := c.Windows(big.id)
		n := int(min(room, conn, 16384, int64(len(left))))
		switch {
		case n > 0:
			e.Must(big.Write(left[:n]))
			left = left[n:]
		case asked < 0 && conn >= 4:
			e.Must(small.Write([]byte("ping")))
			asked = blocked
		default:
			blocked++
			e.Must(c.WantRoom(big.id))
		}
	}
	if asked < 0 && blocked > 0 {
		e.Fail("room for an echo beside an upload that waits for its own window", "none: the upload had to wait %d times for the window of the connection", blocked)
	}
	if asked < 0 {
		e.Must(small.Write([]byte("ping")))
	}
	e.Must(sb.WantBytes([]byte("ping")))
	e.Must(sb.Write([]byte("pong")))
	e.Must(small.WantBytes([]byte("pong")))
	e.Must(<-read)
}

// relay forwards TCP to addr and holds each octet back for a while either way, as
// distance does. It returns where it listens.
func (e *Env) relay(addr string, delay time.Duration) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		e.broken("a listening socket", err)
	}
	e.later(func() { ln.Close() })
	go func() {
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
			go carry(near, far, delay)
			go carry(far, near, delay)
		}
	}()
	return ln.Addr().String()
}

// carry is one direction of a relay.
func carry(from, to net.Conn, delay time.Duration) {
	type piece struct {
		p  []byte
		at time.Time
	}
	pieces := make(chan piece, 1<<16)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer to.Close()
		for x := range pieces {
			<-time.After(time.Until(x.at))
			if _, err := to.Write(x.p); err != nil {
				_, _ = io.Copy(io.Discard, from)
			}
		}
	})
	for {
		p := make([]byte, 32<<10)
		n, err := from.Read(p)
		if n > 0 {
			pieces <- piece{p[:n], soon(delay)}
		}
		if err != nil {
			break
		}
	}
	close(pieces)
	wg.Wait()
}

func windowCases() []Case {
	zero := "An increment of 0 is an error of the stream; on the connection it is an error of the connection."
	over := "A window over 2^31-1 is FLOW_CONTROL_ERROR: of the stream for its own, of the connection for the connection's."
	why := "A peer that miscounts loses data or hangs; an error says so."
	return []Case{
		{
			ID: "h2/flow/window-update-zero", Rows: []int{120}, RFC: "9113", Section: "6.9", Level: Must,
			Title: "WINDOW_UPDATE of 0 on a tunnel is a stream error PROTOCOL_ERROR, and its backend's connection ends",
			Text:  Text{Sends: "WINDOW_UPDATE with increment 0 on a tunnel's stream", Sees: "RST_STREAM PROTOCOL_ERROR; the end of the backend's connection", Rule: zero, Why: why},
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				e.Must(c.WindowUpdate(s.id, 0))
				e.WantStreamError(s, http2.ErrCodeProtocol)
				e.Must(b.WantEnded())
			},
		},
		{
			ID: "h2/flow/window-update-zero-alone", Rows: []int{120}, RFC: "9113", Section: "5.4.2", Level: Product,
			Title: "WINDOW_UPDATE of 0 on a tunnel costs that tunnel alone",
			Text:  Text{Sends: "WINDOW_UPDATE with increment 0 on one of two tunnels", Sees: "the other tunnel echoes, no GOAWAY", Rule: zero, Why: "On HTTP/2 all sockets of a page share a connection."},
			run: func(e *Env) {
				c, s, _ := e.tunnelH2()
				t, b := e.openOn(h2Mux{c})
				e.Must(c.WindowUpdate(s.id, 0))
				e.Must(c.Ping())
				e.echo(t, b)
				e.Must(c.WantAlive())
			},
		},
		{
			ID: "h2/flow/window-update-zero-connection", Rows: []int{120}, RFC: "9113", Section: "6.9", Level: Must,
			Title: "WINDOW_UPDATE of 0 on the connection is a connection error PROTOCOL_ERROR",
			Text:  Text{Sends: "WINDOW_UPDATE with increment 0 on stream 0", Sees: "GOAWAY PROTOCOL_ERROR", Rule: zero, Why: why},
			run: func(e *Env) {
				c, _, b := e.tunnelH2()
				e.Must(c.WindowUpdate(0, 0))
				e.WantConnectionError(c, http2.ErrCodeProtocol)
				e.Must(b.WantEnded())
			},
		},
		{
			ID: "h2/flow/window-overflow", Rows: []int{121}, RFC: "9113", Section: "6.9.1", Level: Must,
			Title: "a tunnel's window over 2^31-1 is FLOW_CONTROL_ERROR",
			Text:  Text{Sends: "WINDOW_UPDATE of 2^31-1 on a tunnel's stream", Sees: "RST_STREAM or GOAWAY FLOW_CONTROL_ERROR; the end of the backend's connection", Rule: over, Why: why},
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				e.Must(c.WindowUpdate(s.id, 1<<31-1))
				e.WantStreamError(s, http2.ErrCodeFlowControl)
				e.Must(b.WantEnded())
			},
		},
		{
			ID: "h2/flow/window-overflow-connection", Rows: []int{121}, RFC: "9113", Section: "6.9.1", Level: Must,
			Title: "the connection's window over 2^31-1 is GOAWAY FLOW_CONTROL_ERROR",
			Text:  Text{Sends: "WINDOW_UPDATE of 2^31-1 on stream 0", Sees: "GOAWAY FLOW_CONTROL_ERROR", Rule: over, Why: why},
			run: func(e *Env) {
				c, _, _ := e.tunnelH2()
				e.Must(c.WindowUpdate(0, 1<<31-1))
				e.WantConnectionError(c, http2.ErrCodeFlowControl)
			},
		},
		{
			ID: "h2/flow/window-negative", Rows: []int{122}, RFC: "9113", Section: "6.9.2", Level: Must,
			Title: "a window that a SETTINGS makes negative is waited for, and nothing is lost",
			Text: Text{
				Sends: "40,000 octets down a tunnel; then an initial window of 100, so that the tunnel's is negative; 7 octets more; then WINDOW_UPDATE",
				Sees:  "nothing of the 7 octets before WINDOW_UPDATE, all of them behind it",
				Rule:  "A sender tracks the negative window and sends nothing until it is positive.",
				Why:   "Whoever takes it for an unsigned number sends four gigabytes.",
			},
			run: func(e *Env) {
				e.needTunnels()
				c := e.H2()
				c.NoCredit = true
				t, b := e.openOn(h2Mux{c})
				s := t.(*h2Stream)
				p := pattern(40000)
				e.Must(b.Write(p))
				e.Must(s.WantBytes(p))
				e.Must(c.Frame(http2.FrameSettings, 0, 0, []byte{0, 4, 0, 0, 0, 100}))
				e.Must(c.WantAcks(2))
				e.Must(b.Write([]byte("waiting")))
				e.Must(c.WantAlive())
				if n := len(c.Stream(s.id).Data); n != 0 {
					e.Fail("no octet beyond the window", "%d", n)
				}
				e.Must(c.WindowUpdate(s.id, 40000))
				e.Must(s.WantBytes([]byte("waiting")))
			},
		},
	}
}

// streams is how many streams the gateway allows at once; the case ends where
// that is too many to try.
func (e *Env) streams(c *rawpeer.H2) int {
	e.Must(c.Ping())
	v, ok := c.Setting(http2.SettingMaxConcurrentStreams)
	if !ok || v > 1000 {
		e.Skip("the gateway names no limit of streams up to 1000")
	}
	return int(v)
}

func streamLimitCases() []Case {
	return []Case{
		{
			ID: "h2/flow/too-many-streams", Rows: []int{123}, RFC: "9113", Section: "5.1.2", Level: Must,
			Title: "a stream over the limit is REFUSED_STREAM or PROTOCOL_ERROR, and the others live",
			Text: Text{
				Sends: "as many pending requests as SETTINGS_MAX_CONCURRENT_STREAMS allows, and one more",
				Sees:  "RST_STREAM REFUSED_STREAM or PROTOCOL_ERROR for it; the first is then answered",
				Rule:  "A stream over the advertised limit is a stream error of one of these codes.",
				Why:   "Clients try REFUSED_STREAM again elsewhere; anything else is an error for the user.",
			},
			alone: true,
			run: func(e *Env) {
				c := e.H2()
				n := e.streams(c)
				m := h2Mux{c}
				first := m.Send(e.get(m.Scheme()), true)
				b := e.nextOr(first)
				for range n - 1 {
					m.Send(e.get(m.Scheme()), true)
				}
				a := e.whole(m.Send(e.get(m.Scheme()), true))
				if a.Closed == "GOAWAY PROTOCOL_ERROR" { // RFC 9113 section 5.4.2
					e.Note("the whole connection ended")
					return
				}
				if a.Reset != http2.ErrCodeRefusedStream.String() && a.Reset != http2.ErrCodeProtocol.String() {
					e.Fail("RST_STREAM REFUSED_STREAM or PROTOCOL_ERROR", "%v", a)
				}
				_, err := b.ReadHead()
				e.Must(err)
				e.Must(b.Write(answer("200 OK", "ok")))
				_, err = first.WantStatus(200)
				e.Must(err)
			},
		},
		{
			ID: "h2/flow/refused-is-unprocessed", Rows: []int{125, 198}, RFC: "9113", Section: "8.7", Level: Must,
			Title: "REFUSED_STREAM is only for requests of which nothing went to a backend",
			Text: Text{
				Sends: "as many pending requests as SETTINGS_MAX_CONCURRENT_STREAMS allows, then ten more",
				Sees:  "for each that is reset with REFUSED_STREAM, nothing at the backend",
				Rule:  "REFUSED_STREAM says that the request was not processed in any way, so that it may be sent again.",
				Why:   "A request that was processed and is sent again is processed twice.",
			},
			alone: true,
			run:   refusedUnprocessed,
		},
		{
			ID: "h2/flow/tunnels-leave-room", Rows: []int{124}, RFC: "9113", Section: "5.1.2", Level: Product,
			Title: "tunnels that fill their limit leave room for ordinary requests",
			Text: Text{
				Sends: "as many tunnels as are answered 200, up to SETTINGS_MAX_CONCURRENT_STREAMS; then a GET",
				Sees:  "200 for the GET",
				Rule:  "The limit of streams is for all of them; a gateway that lets tunnels take it whole leaves none for pages.",
				Why:   "A page with many sockets cannot load its own images any more.",
			},
			alone: true, limit: 30 * time.Second,
			run: func(e *Env) {
				e.needTunnels()
				c := e.H2()
				n := e.streams(c)
				m := h2Mux{c}
				for range n {
					s := m.Send(e.connect(m), false)
					b, _ := e.either(s)
					if b == nil {
						break // the limit of tunnels
					}
					accepts(b)
					_, err := s.WantStatus(200)
					e.Must(err)
				}
				e.Serve()
				if a := e.whole(m.Send(e.get(m.Scheme()), true)); a.Status != 200 {
					e.Fail("200 for a GET beside the tunnels", "%v", a)
				}
			},
		},
	}
}

func refusedUnprocessed(e *Env) {
	c := e.H2()
	n := e.streams(c)
	m := h2Mux{c}
	var all []Stream
	for range n + 10 {
		all = append(all, m.Send(e.get(m.Scheme()), true))
	}
	refused := 0
	for _, s := range all[n:] { // the backend answers none, so that the first n stay
		a, err := s.Answer()
		e.Must(err)
		if a.Reset == http2.ErrCodeRefusedStream.String() {
			refused++
		}
	}
	_ = c.Ping() // the connection may have ended for it
	e.fence()
	seen := 0
	for {
		select {
		case <-e.claim.conns:
			seen++
			continue
		case <-e.after(4 * e.Short()): // they come on goroutines of the gateway's
		}
		break
	}
	if refused == 0 {
		e.Note("no stream was refused with REFUSED_STREAM")
	}
	if seen > len(all)-refused {
		e.Fail("at most one request for each stream that was not refused", "%d for %d streams, of which %d were refused", seen, len(all), refused)
	}
}
