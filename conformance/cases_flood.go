package conformance

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// floodCases are part G: abuse, and what must not be taken for it.
func floodCases() []Case {
	return slices.Concat(resetFloods(), frameFloods(), timeCases(), honestCases())
}

// resetFlood opens tunnels and has them reset, 5000 times at the most.
func resetFlood(id string, row int, title, sends string, reset func(c *rawpeer.H2, id uint32) error) Case {
	return Case{
		ID: "h2/flood/" + id, Rows: []int{row}, RFC: "9113", Section: "10.5", Level: DoS, Title: title,
		Text: Text{
			Sends: sends + ", 5000 times, beside a tunnel on another connection",
			Sees:  "GOAWAY ENHANCE_YOUR_CALM or the end of the connection; at most 1000 connections at the backend; the other tunnel echoes",
			Rule:  "Streams that are reset before they did anything are to be counted, whoever resets them: the limit of concurrent streams does not bound them.",
			Why:   "Rapid Reset (CVE-2023-44487) and MadeYouReset (CVE-2025-8671) make a backend work at the price of a few octets.",
		},
		alone: true, limit: 30 * time.Second,
		run: func(e *Env) {
			_, honest, hb := e.tunnelH2()
			c := e.H2()
			m := h2Mux{c}
			before := e.run.hub.be.Accepted()
			sent := 0
			for ; sent < 5000 && !c.Ended() && len(c.GoAways()) == 0; sent++ {
				if reset(c, c.Headers(e.connect(m), false)) != nil {
					break
				}
			}
			if err := c.WantClosed(); err != nil && len(c.GoAways()) == 0 {
				e.Fail("the end of the connection", "it goes on after %d resets", sent)
			}
			e.echo(honest, hb)
			if n := e.run.hub.be.Accepted() - before; n > 1000 {
				e.Fail("at most 1000 connections at the backend", "%d for %d streams", n, sent)
			}
		},
	}
}

func resetFloods() []Case {
	made := "resets that a client makes the gateway send are bounded: "
	return []Case{
		resetFlood("rapid-reset", 126, "streams that are reset at once are bounded", "an extended CONNECT and RST_STREAM", func(c *rawpeer.H2, id uint32) error {
			return c.Reset(id, http2.ErrCodeCancel)
		}),
		resetFlood("made-reset-window-zero", 127, made+"WINDOW_UPDATE of 0", "an extended CONNECT and WINDOW_UPDATE of 0", func(c *rawpeer.H2, id uint32) error {
			return c.WindowUpdate(id, 0)
		}),
		resetFlood("made-reset-window-overflow", 127, made+"a window over 2^31-1", "an extended CONNECT and WINDOW_UPDATE of 2^31-1", func(c *rawpeer.H2, id uint32) error {
			return c.WindowUpdate(id, 1<<31-1)
		}),
		resetFlood("made-reset-data-after-end", 127, made+"DATA behind END_STREAM", "an extended CONNECT, DATA with END_STREAM, and DATA", func(c *rawpeer.H2, id uint32) error {
			return errors.Join(c.Data(id, nil, true), c.Data(id, []byte("x"), false))
		}),
		resetFlood("made-reset-priority", 127, made+"PRIORITY of a wrong length", "an extended CONNECT and a PRIORITY of one octet", func(c *rawpeer.H2, id uint32) error {
			return c.Frame(http2.FramePriority, 0, id, []byte{1})
		}),
		resetFlood("made-reset-headers", 127, made+"a second header section", "an extended CONNECT and HEADERS again", func(c *rawpeer.H2, id uint32) error {
			c.HeadersOn(id, nil, false)
			return nil
		}),
	}
}

func frameFloods() []Case {
	step := func(id, what string, n int, frame func(id uint32) []byte) Case {
		return flood("flood/"+id, []int{128}, "10.5", DoS, what, fmt.Sprintf("closes within %d frames", n), func(_ *Env, id uint32) ([]byte, []byte, int) { return nil, frame(id), n })
	}
	return []Case{
		step("settings", "SETTINGS", 20000, func(uint32) []byte { return raw(http2.FrameSettings, 0, 0) }),
		step("ping", "PING", 20000, func(uint32) []byte { return raw(http2.FramePing, 0, 0, make([]byte, 8)...) }),
		step("empty-data", "empty DATA", 20000, func(id uint32) []byte { return raw(http2.FrameData, 0, id) }),
		step("window-update", "WINDOW_UPDATE of 1 on a tunnel", 50000, func(id uint32) []byte { return raw(http2.FrameWindowUpdate, 0, id, be32(1)...) }),
		step("window-update-connection", "WINDOW_UPDATE of 1 on the connection", 50000, func(uint32) []byte { return raw(http2.FrameWindowUpdate, 0, 0, be32(1)...) }),
		step("priority", "PRIORITY", 100000, func(id uint32) []byte { return raw(http2.FramePriority, 0, id, 0, 0, 0, 0, 1) }),
		step("unknown", "frames of an unknown type", 100000, func(id uint32) []byte { return raw(0xbb, 0, 0) }),
	}
}

// timeCases are in the profile with short times (row 129).
func timeCases() []Case {
	why := "Connections that do nothing hold memory and descriptors; a few thousand of them are cheap for a client."
	return []Case{
		{
			ID: "h2/flood/slow-head", Rows: []int{129}, RFC: "9113", Section: "10.5", Level: DoS, Profile: ShortTimes,
			Title: "a header block that comes octet by octet is given up",
			Text:  Text{Sends: "HEADERS of 16,000 octets, an octet every 50 ms, to a gateway with 1 s for a head", Sees: "the end of the connection, or a reset, within 8 s", Rule: "A peer that is slower than any client is to be cut off.", Why: why},
			limit: 30 * time.Second,
			run: func(e *Env) {
				c := e.H2()
				e.Must(c.Raw(raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, make([]byte, 16000)...)[:9]))
				tick := time.NewTicker(50 * time.Millisecond) // an octet now and then
				defer tick.Stop()
				for end := soon(e.Wait(8 * time.Second)); !c.Ended() && !c.Stream(1).Reset; <-tick.C {
					if c.Raw([]byte{0x82}) != nil {
						break
					}
					if time.Now().After(end) {
						e.Fail("the end of the connection", "it goes on")
					}
				}
			},
		},
		{
			ID: "h2/flood/idle-connection", Rows: []int{129}, RFC: "9113", Section: "9.1", Level: DoS, Profile: ShortTimes,
			Title: "a connection without streams is ended in order, one with a tunnel is not idle",
			Text:  Text{Sends: "nothing on a connection without a stream, and an echo now and then on one with a tunnel, for longer than the idle time of 1 s", Sees: "GOAWAY NO_ERROR on the first; echoes on the second", Rule: "Servers may close idle connections, and should send GOAWAY first; one with open streams is not idle.", Why: why},
			limit: 30 * time.Second,
			run: func(e *Env) {
				_, s, b := e.tunnelH2()
				idle := e.H2()
				idle.Patience = e.Wait(500 * time.Millisecond)
				for range 10 {
					if idle.WantClosed() == nil {
						break
					}
					e.echo(s, b)
				}
				e.WantConnectionError(idle, http2.ErrCodeNo)
				e.echo(s, b)
			},
		},
		{
			ID: "h2/flood/idle-memory", Rows: []int{130}, Level: Product,
			Title: "an idle tunnel takes less than 16 KiB of the gateway",
			Text:  Text{Sends: "2,000 tunnels on 20 connections, a message on each, then nothing", Sees: "the resident memory of the gateway's process (PSS) grows by less than 16 KiB a tunnel", Rule: "No buffer is held while nothing moves.", Why: "It decides how many users a machine carries."},
			alone: true, limit: 60 * time.Second,
			run: idleMemory,
		},
	}
}

func idleMemory(e *Env) {
	if e.run.o.PID == 0 {
		e.Skip("needs --pid")
	}
	e.needTunnels()
	const conns, each = 20, 100
	e.Serve()
	open := func(n int) {
		m := e.Mux()
		var all []Stream
		for range n {
			all = append(all, m.Send(e.connect(m), false))
		}
		for _, s := range all {
			_, err := s.WantStatus(200)
			e.Must(err)
			e.Must(s.Write([]byte("ping")))
			e.Must(s.WantBytes([]byte("ping")))
		}
	}
	limit := 16
	for range 3 { // what a first crowd leaves behind is no tunnel's
		open(each / 2)
	}
	before := e.pss()
	for range conns {
		open(each)
	}
	// Memory is given back a while after a burst.
	var kib int
	for end := soon(e.Wait(5 * time.Second)); ; {
		kib = (e.pss() - before) / (conns * each)
		if kib < limit || time.Now().After(end) {
			break
		}
		select {
		case <-e.done:
		case <-time.After(100 * time.Millisecond):
		}
	}
	e.Note("%d KiB a tunnel", kib)
	if kib >= limit {
		e.Fail(fmt.Sprintf("less than %d KiB a tunnel", limit), "%d KiB", kib)
	}
}

// pss is the memory of the gateway in KiB, shared pages in their share, workers
// included.
func (e *Env) pss() int {
	total := 0
	for _, pid := range family(e.run.o.PID) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			e.Skip("the memory of process %d cannot be read: %v", pid, err)
		}
		for line := range strings.Lines(string(b)) {
			if v, ok := strings.CutPrefix(line, "Pss:"); ok {
				n, _ := strconv.Atoi(strings.Fields(v)[0])
				total += n
			}
		}
	}
	return total
}

// family is a process and its children.
func family(pid int) []int {
	all := []int{pid}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for f := range strings.FieldsSeq(string(b)) {
		if n, err := strconv.Atoi(f); err == nil {
			all = append(all, family(n)...)
		}
	}
	return all
}

// honestCases: what real clients do is no abuse.
func honestCases() []Case {
	return []Case{
		{
			ID: "h2/flood/tab-closes", Rows: []int{230}, Level: Interop,
			Title: "a closing tab that resets all its tunnels at once is no abuse",
			Text: Text{
				Sends: "a hundred tunnels on a connection, all reset at once, and then another",
				Sees:  "no GOAWAY; the other tunnel echoes",
				Rule:  "Bounds against floods of resets count what was reset before it was answered.",
				Why:   "Pages have many sockets, and browsers share the connection with the next page.",
			},
			alone: true,
			run: func(e *Env) {
				e.needTunnels()
				c := e.H2()
				m := h2Mux{c}
				var all []Stream
				var backends []*rawpeer.BackendConn
				for range 100 {
					s := m.Send(e.connect(m), false)
					b, a := e.either(s)
					if b == nil {
						e.Note("tunnel %d: %v", len(all)+1, a)
						break
					}
					accepts(b)
					_, err := s.WantStatus(200)
					e.Must(err)
					all, backends = append(all, s), append(backends, b)
				}
				for _, s := range all {
					e.Must(s.Reset())
				}
				for _, b := range backends {
					e.Must(b.WantEnded())
				}
				s, b := e.openOn(m)
				e.echo(s, b)
				e.Must(c.WantAlive())
			},
		},
		{
			ID: "h2/flood/eager-window-updates", Rows: []int{230}, Level: Interop,
			Title: "a client that answers each DATA frame with WINDOW_UPDATE is no abuser",
			Text: Text{
				Sends: "5,000 messages there and back, one after the other, each DATA frame answered with two WINDOW_UPDATE",
				Sees:  "all of them, no GOAWAY",
				Rule:  "What the gateway's own DATA explains is no flood.",
				Why:   "Several HTTP/2 libraries return credit frame by frame.",
			},
			alone: true,
			run: func(e *Env) {
				e.needTunnels()
				e.Serve()
				c := e.H2()
				m := h2Mux{c}
				s := m.Send(e.connect(m), false)
				_, err := s.WantStatus(200)
				e.Must(err)
				for i := range 5000 {
					p := []byte(fmt.Sprint(i))
					e.Must(s.Write(p))
					e.Must(s.WantBytes(p))
				}
				e.Must(c.WantAlive())
			},
		},
		{
			ID: "h2/flood/reset-while-dialling", Rows: []int{232}, RFC: "9113", Section: "5.1", Level: Product,
			Title: "a client that leaves before the backend answered ends the backend's connection",
			Text: Text{
				Sends: "an extended CONNECT that the backend does not answer, then RST_STREAM CANCEL",
				Sees:  "the end of the backend's connection",
				Rule:  "Work for a stream that is gone is given up; its place is free when that has really ended.",
				Why:   "Handshakes that nobody waits for fill a slow backend.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				b := e.nextOr(s)
				_, err := b.ReadHead()
				e.Must(err)
				e.Must(s.Reset())
				e.Must(b.WantEnded())
				e.Must(m.WantAlive())
			},
		},
	}
}
