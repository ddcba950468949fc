package conformance

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// tickets is a session cache that says when a ticket came.
type tickets struct {
	tls.ClientSessionCache
	came chan bool
}

// Put implements tls.ClientSessionCache.
func (t *tickets) Put(key string, s *tls.ClientSessionState) {
	t.ClientSessionCache.Put(key, s)
	if s != nil {
		select {
		case t.came <- true:
		default:
		}
	}
}

// resumable connects once, and returns a configuration that holds the ticket of
// it, nil if none came.
func (e *Env) resumable() *tls.Config {
	e.needTunnels()
	e.needH3()
	cache := &tickets{tls.NewLRUClientSessionCache(4), make(chan bool, 1)}
	config := e.run.o.TLS.Clone()
	config.ClientSessionCache = cache
	if config.ServerName == "" {
		config.ServerName = "localhost" // which names the ticket, too
	}
	c, err := rawpeer.DialH3From(e.udp(), e.run.front3, config, rawpeer.QUIC())
	if err != nil {
		e.broken("a QUIC connection to "+e.run.front3, err)
	}
	e.greet3(e.tape3(c))
	if v, _ := c.Setting(settingConnectOnH3); v != 1 {
		e.Fail("0x08 = 1 on the first connection", "%d", v)
	}
	select {
	case <-cache.came:
	case <-e.after(e.Wait(500 * time.Millisecond)):
		e.Note("the gateway sends no session ticket")
		return nil
	}
	c.Close()
	return config
}

// early3Cases are 0-RTT (rows 140 and 141).
func early3Cases() []Case {
	return []Case{
		{
			ID: "h3/early/setting-kept", Rows: []int{140}, RFC: "9114", Section: "7.2.4.2", Level: Must,
			Title: "a connection that takes 0-RTT announces what the one before announced, or takes none",
			Text: Text{
				Sends: "a connection; another one that resumes it with 0-RTT",
				Sees:  "0x08 = 1 again, or 0-RTT refused",
				Rule:  "A server that accepts 0-RTT MUST NOT reduce what the client has remembered of its settings; where a setting is off, it must not be left out.",
				Why:   "The client sends extended CONNECTs on what it remembers.",
			},
			run: func(e *Env) {
				config := e.resumable()
				if config == nil {
					return
				}
				c, err := rawpeer.DialH3Early(e.udp(), e.run.front3, config, rawpeer.QUIC())
				e.On("a second connection", err)
				e.tape3(c)
				select {
				case <-c.Conn().HandshakeComplete():
				case <-e.after(e.patience):
					e.Fail("a handshake", "none in %v", e.patience)
				}
				if !c.Conn().ConnectionState().Used0RTT {
					e.Note("0-RTT is refused")
					return
				}
				e.greet3(c)
				if v, _ := c.Setting(settingConnectOnH3); v != 1 {
					e.Fail("0x08 = 1 again", "%d", v)
				}
			},
		},
		{
			ID: "h3/early/no-replay", Rows: []int{141}, RFC: "8470", Section: "3", Level: Product,
			Title: "no handshake is dialled on 0-RTT data, which may be a replay",
			Text: Text{
				Sends: "a connection; another one that sends an extended CONNECT as 0-RTT and then nothing more, so that its handshake is never completed",
				Sees:  "nothing at the backend: 0-RTT is refused, or the request waits for the handshake",
				Rule:  "What comes as 0-RTT can be sent again by anybody who saw it. A request that is not known to be safe waits, or is answered 425.",
				Why:   "Each replay is a user that logs on again, at a backend that cannot tell.",
			},
			limit: 30 * time.Second,
			run:   noReplay,
		},
	}
}

func noReplay(e *Env) {
	config := e.resumable()
	if config == nil {
		return
	}
	r := e.udpRelay(e.run.front3)
	r.hold()
	type dialled struct {
		c   *rawpeer.H3
		err error
	}
	done := make(chan dialled, 1)
	pc := e.udp()
	go func() {
		c, err := rawpeer.DialH3Early(pc, r.addr(), config, rawpeer.QUIC())
		done <- dialled{c, err}
	}()
	var d dialled
	select {
	case d = <-done: // before the server was heard: there is 0-RTT
	case <-e.after(4 * e.Short()):
		r.release(false)
		d = <-done
		e.On("a second connection", d.err)
		e.tape3(d.c)
		e.Note("the ticket does not allow 0-RTT")
		return
	}
	e.On("a second connection", d.err)
	c := e.tape3(d.c)
	e.Must(c.Greet())
	h3Mux{c, e}.begin(e.connect(h3Mux{c, e}), false)
	<-e.after(4 * e.Short()) // what was written becomes packets: too soon is a wrong pass, no wrong failure
	r.release(true)
	select {
	case <-e.claim.conns:
		e.Fail("nothing at the backend", "a handshake, on data that anybody could have sent again")
	case <-e.after(e.Wait(500 * time.Millisecond)):
	}
}

// relay3 forwards UDP between one client and a gateway.
type relay3 struct {
	front *net.UDPConn
	to    *net.UDPAddr

	mu     sync.Mutex
	client net.Addr
	up     *net.UDPConn // what the gateway takes for the client
	ups    []*net.UDPConn
	held   [][]byte
	holds  bool // what the client sends waits
	cuts   bool // what the client sends is lost
	closed bool
}

// udpRelay starts a relay to addr.
func (e *Env) udpRelay(addr string) *relay3 {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		e.broken("an address", err)
	}
	front, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		e.broken("a UDP socket", err)
	}
	r := &relay3{front: front, to: to}
	e.later(r.close)
	if err := r.move(); err != nil {
		e.broken("a UDP socket", err)
	}
	go r.forth()
	return r
}

func (r *relay3) addr() string { return r.front.LocalAddr().String() }

func (r *relay3) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.front.Close()
	for _, up := range r.ups {
		up.Close()
	}
}

// move gives the client another address, as a NAT does that has forgotten it.
func (r *relay3) move() error {
	up, err := net.DialUDP("udp", nil, r.to)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ups, r.up = append(r.ups, up), up
	if r.closed {
		up.Close()
	}
	go r.back(up)
	return nil
}

// forth carries what the client sends.
func (r *relay3) forth() {
	p := make([]byte, 64<<10)
	for {
		n, from, err := r.front.ReadFrom(p)
		if err != nil {
			return
		}
		r.mu.Lock()
		r.client = from
		switch {
		case r.cuts:
		case r.holds:
			r.held = append(r.held, append([]byte(nil), p[:n]...))
		default:
			_, _ = r.up.Write(p[:n]) // it is UDP
		}
		r.mu.Unlock()
	}
}

// back carries what the gateway sends to one of the client's addresses.
func (r *relay3) back(up *net.UDPConn) {
	p := make([]byte, 64<<10)
	for {
		n, err := up.Read(p)
		if err != nil {
			r.mu.Lock()
			closed := r.closed
			r.mu.Unlock()
			if closed {
				return
			}
			continue // the gateway's port may be closed for a moment
		}
		r.mu.Lock()
		client := r.client
		r.mu.Unlock()
		_, _ = r.front.WriteTo(p[:n], client)
	}
}

func (r *relay3) hold() {
	r.mu.Lock()
	r.holds = true
	r.mu.Unlock()
}

// release lets what was held go; with last nothing follows it.
func (r *relay3) release(last bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.held {
		_, _ = r.up.Write(p)
	}
	r.held, r.holds, r.cuts = nil, false, last
}

// path3Cases are what QUIC does beneath a tunnel (rows 160 and 161).
func path3Cases() []Case {
	return []Case{
		{
			ID: "h3/path/migration", Rows: []int{160}, RFC: "9000", Section: "9", Level: Product,
			Title: "a tunnel lives on when its client's address changes",
			Text: Text{
				Sends: "an echo, then another one from another UDP port, as behind a NAT that forgot the first",
				Sees:  "both echoes, and a third",
				Rule:  "An endpoint that gets a packet from another address of its peer validates it and goes on (section 9.3). No RFC asks a gateway to keep a tunnel.",
				Why:   "NATs forget UDP after half a minute; every quiet socket would end.",
			},
			run: func(e *Env) {
				e.needTunnels()
				r := e.udpRelay(e.run.front3)
				c := e.greet3(e.h3At(r.addr(), 0))
				s, b := e.openOn(h3Mux{c, e})
				e.echo(s, b)
				e.Must(r.move())
				e.echo(s, b)
				e.echo(s, b)
			},
		},
		{
			ID: "h3/path/quiet-tunnel", Rows: []int{161}, RFC: "9000", Section: "10.1.2", Level: Product,
			Title: "a quiet tunnel outlives QUIC's idle timeout",
			Text: Text{
				Sends: "a client whose max_idle_timeout is 8 s and that sends no PING of its own; 9 s of silence on a tunnel, then an echo",
				Sees:  "the echo: the gateway kept the connection alive",
				Rule:  "An endpoint may send PING to keep a connection open; how long a tunnel may be idle is the tunnel's affair.",
				Why:   "A chat that says nothing for half a minute would be gone.",
			},
			slow: true,
			run: func(e *Env) {
				e.needTunnels()
				c := e.greet3(e.h3At(e.run.front3, 8*time.Second))
				s, b := e.openOn(h3Mux{c, e})
				<-e.after(9 * time.Second) // the client's own clock runs meanwhile
				e.echo(s, b)
			},
		},
	}
}

// flow3Cases are part G's fairness (row 159).
func flow3Cases() []Case {
	return []Case{
		{
			ID: "h3/flow/stuck-neighbour", Rows: []int{117, 159}, RFC: "9000", Section: "4.1", Level: Must,
			Title: "a backend that does not read does not slow another tunnel of the QUIC connection",
			Text: Text{
				Sends: "DATA on tunnel A, whose backend reads nothing, until its window closes; then echoes on tunnel B",
				Sees:  "A takes 16 MiB at the most; B echoes a hundred times",
				Rule:  "Flow control is for each stream and for the connection; a receiver that lets the connection's window close for one stream blocks all.",
				Why:   "One slow socket freezes a whole page.",
			},
			alone: true,
			run: func(e *Env) {
				c, stuck, _ := e.tunnel3()
				t, b := e.openOn(h3Mux{c, e})
				c.Patience = e.Wait(300 * time.Millisecond)
				for sent := 0; stuck.Write(make([]byte, 16384)) == nil; sent += 16384 {
					if sent > 16<<20 {
						e.Fail("at most 16 MiB taken for a backend that does not read", "%d octets", sent)
					}
				}
				c.Patience = e.patience
				for range 100 {
					e.echo(t, b)
				}
			},
		},
		{
			ID: "h3/flow/closed-window", Rows: []int{118, 159}, RFC: "9000", Section: "4.1", Level: Must,
			Title: "a tunnel that its client does not read holds its backend back, and not its neighbour",
			Text: Text{
				Sends: "a client that does not read tunnel A; the backend of A writes as much as it can; echoes on tunnel B; then the client reads A",
				Sees:  "the backend of A blocked before 64 MiB, B echoes a hundred times, then all octets of A",
				Rule:  "A sender does not exceed the window of a stream, and the streams are independent.",
				Why:   "A tab in the background that reads nothing must cost neither memory nor its neighbours' messages.",
			},
			alone: true,
			run:   heldStream,
		},
	}
}

func heldStream(e *Env) {
	c, a, ab := e.tunnel3()
	t, b := e.openOn(h3Mux{c, e})
	c.HoldStream(a.id, true)
	p, sent := e.flood(ab)
	for range 100 {
		e.echo(t, b)
	}
	c.HoldStream(a.id, false)
	for sent > 0 {
		n := min(sent, len(p))
		e.Must(a.WantBytes(p[:n]))
		sent -= n
	}
}

// drain3Cases are part H on HTTP/3 (row 156).
func drain3Cases() []Case {
	drains := []Case{
		{
			ID: "h3/drain/goaway", Rows: []int{156}, RFC: "9114", Section: "5.2", Level: Should,
			Title: "a drain says GOAWAY with the id of a request stream, and none that is larger than the one before",
			Text: Text{
				Sends: "the drain command while a tunnel is open",
				Sees:  "GOAWAY whose number is that of a client's bidirectional stream, later ones not larger; the last above the tunnel's stream",
				Rule:  "Servers should send GOAWAY when a close is known in advance. Its id is one of a client-initiated bidirectional stream (section 7.2.6), and never goes up.",
				Why:   "Requests that cross the close are lost otherwise, and nobody knows whether they were processed.",
			},
			run: goAway3,
		},
		{
			ID: "h3/drain/goaway-twice", Rows: []int{156}, RFC: "9114", Section: "5.2", Level: May,
			Title: "a drain begins with GOAWAY 2^62-4, and a later GOAWAY says what was taken",
			Text: Text{
				Sends: "the drain command while a tunnel is open",
				Sees:  "GOAWAY 2^62-4, then GOAWAY with the next stream's id",
				Rule:  "An endpoint can send the largest id first, and the real one once requests under way have arrived.",
				Why:   "A single GOAWAY rejects requests that were sent before the client knew.",
			},
			run: func(e *Env) {
				g := drained3(e)
				if len(g) < 2 || g[0] != 1<<62-4 || g[len(g)-1] == g[0] {
					e.Fail("GOAWAY 2^62-4, then a lower one", "%v", g)
				}
			},
		},
		{
			ID: "h3/drain/late-stream", Rows: []int{156, 157}, RFC: "9114", Section: "5.2", Level: Must,
			Title: "a CONNECT behind the final GOAWAY is H3_REQUEST_REJECTED or ignored, and reaches no backend",
			Text: Text{
				Sends: "the drain command, and an extended CONNECT once the final GOAWAY was read",
				Sees:  "RESET_STREAM H3_REQUEST_REJECTED, nothing, or the end of the connection; nothing at the backend",
				Rule:  "Requests at or above the id of GOAWAY are rejected: they were not processed, and may be sent again elsewhere (section 4.1.1).",
				Why:   "It is the promise that makes a retry safe.",
			},
			run: lateStream3,
		},
		{
			ID: "h3/drain/requests-finish", Rows: []int{156}, RFC: "9114", Section: "5.2", Level: Should,
			Title: "requests that are under way when the drain begins are answered on HTTP/3",
			Text: Text{
				Sends: "a GET whose backend answers only after the drain command",
				Sees:  "GOAWAY; 200 with its content, complete; then CONNECTION_CLOSE H3_NO_ERROR, or a quiet connection",
				Rule:  "Requests below the id of GOAWAY are processed to their end. A close behind them should say H3_NO_ERROR (section 8.1).",
				Why:   "A release must not cost a single request.",
			},
			run: func(e *Env) {
				c := e.H3()
				s := h3Mux{c, e}.Send(e.get("https"), true)
				b, _ := e.NextHead()
				e.Drain()
				e.On("a GOAWAY", c.WantGoAway(1<<62))
				e.Must(b.Write(answer("200 OK", "done")))
				if a := e.whole(s); a.Status != 200 || string(a.Body) != "done" || !a.End {
					e.Fail("200, complete", "%v", a)
				}
				if c.WantClosed(h3NoError) != nil && c.Ended() {
					e.WantH3Closed(c, h3NoError)
				}
			},
		},
		{
			ID: "h3/drain/close-1001", Rows: []int{133, 156}, RFC: "6455", Section: "7.4.1", Level: Product,
			Title: "a drain ends tunnels over HTTP/3 with Close 1001 towards both ends, then in order",
			Text:  closeText("both Close frames, then FIN on the stream and at the backend after the answers"),
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				e.drainTunnel(s, b)
			},
		},
		{
			ID: "h3/drain/alt-svc-clear", Rows: []int{162}, RFC: "7838", Section: "3", Level: Product,
			Title: "answers during a drain take HTTP/3 back by alt-svc: clear",
			Text: Text{
				Sends: "the drain command while a GET is under way on HTTP/2; its answer comes after GOAWAY",
				Sees:  "alt-svc: clear in the answer, or none any more",
				Rule:  "The value clear makes the client forget all alternatives of the origin.",
				Why:   "Browsers go on trying a UDP port where nobody listens any more.",
			},
			run: func(e *Env) {
				e.needH3()
				m := h2Mux{e.H2()}
				s := m.Send(e.get(m.Scheme()), true)
				b, _ := e.NextHead()
				e.Drain()
				if m.WantGoAway(http2.ErrCodeNo) != nil {
					e.Note("no GOAWAY says that the drain has begun")
				}
				e.Must(b.Write(answer("200 OK", "ok")))
				a, err := s.WantStatus(200)
				e.Must(err)
				if v := a.Head.Get("alt-svc"); v != "" && v != "clear" {
					e.Fail("alt-svc: clear, or none", "%q", v)
				}
			},
		},
	}
	for i := range drains {
		drains[i].drain = true
	}
	return drains
}

// drained3 drains a connection with a tunnel and returns the ids of its GOAWAYs,
// until one that is final.
func drained3(e *Env) []uint64 {
	c, _, b := e.tunnel3()
	e.Drain()
	e.Must(c.WantGoAway(1 << 62))
	c.Patience = e.Wait(10 * time.Second)
	_ = c.WantGoAway(1<<62 - 5)
	g := c.GoAways()
	_ = b.CloseWrite()
	return g
}

func goAway3(e *Env) {
	g := drained3(e)
	last := uint64(1 << 62)
	for _, id := range g {
		if id%4 != 0 || id > last {
			e.Fail("ids of request streams that do not go up", "%v", g)
		}
		last = id
	}
	if last < 4 {
		e.Fail("a last id above that of the tunnel, 0", "%v", g)
	}
}

func lateStream3(e *Env) {
	c, s, b := e.tunnel3()
	e.Drain()
	e.Must(c.WantGoAway(1 << 62))
	c.Patience = e.Wait(10 * time.Second) // between the two is as much as the gateway likes
	if c.WantGoAway(1<<62-5) != nil {
		e.Note("no final GOAWAY came")
		return
	}
	m := h3Mux{c, e}
	if id := m.Open(); id >= 0 {
		m.HeadersOn(id, e.connect(m), false)
		late := &h3Stream{c, id}
		m.Wait(e.patience / 4)
		a, _ := late.Whole()
		if a.Status != 0 || a.Reset != "" && !a.unprocessed {
			e.Fail("H3_REQUEST_REJECTED, or nothing", "%v", a)
		}
	}
	select {
	case <-e.claim.conns:
		e.Fail("nothing at the backend", "a handshake")
	default:
	}
	_ = s.Reset()
	_ = b.WantEnded()
}
