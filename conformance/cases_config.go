package conformance

import (
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// configCases need a gateway whose configuration has more than one backend and
// one route, or changes.
func configCases() []Case {
	return append(reloadCases(), []Case{
		{
			ID: "h2/backend/second-server", Rows: []int{97}, RFC: "9110", Section: "9.2.2", Level: Product, Profile: TwoServers,
			Title: "a handshake goes to the second server when the first does not accept connections",
			Text: Text{
				Sends: "six extended CONNECTs to a gateway with two servers, at one of which nobody listens",
				Sees:  "six handshakes at the other, 200 for each",
				Rule:  "A request of which nothing was sent may be sent to somebody else.",
				Why:   "A server that restarts costs its users nothing.",
			},
			run: func(e *Env) {
				m := e.Mux()
				for range 6 {
					s, b := e.openOn(m)
					e.echo(s, b)
				}
			},
		},
		{
			ID: "h2/backend/not-repeated", Rows: []int{97}, RFC: "9110", Section: "9.2.2", Level: Product,
			Title: "a handshake that was written to a backend is not written again",
			Text: Text{
				Sends: "an extended CONNECT whose backend reads the handshake and ends",
				Sees:  "a refusal; one handshake at the backend",
				Rule:  "What was sent may have been processed, and a WebSocket handshake is not known to be idempotent.",
				Why:   "Applications count users, and bill them, when they connect.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m), false)
				b := e.nextOr(s)
				_, err := b.ReadHead()
				e.Must(err)
				b.Close()
				e.Behind(func(b *rawpeer.BackendConn) {
					_, _ = b.AcceptUpgrade()
				})
				if a, err := s.Answer(); err != nil || a.Open() {
					e.Fail("a refusal", "%v %v", a, err)
				}
			},
		},
		{
			ID: "h2/opening/strip-extensions", Rows: []int{69}, RFC: "6455", Section: "9.1", Level: Product, Profile: Strip,
			Title: "told so, the gateway keeps extensions from the backend",
			Text: Text{
				Sends: "an extended CONNECT that offers permessage-deflate",
				Sees:  "no Sec-WebSocket-Extensions at the backend, none in the 200",
				Rule:  "A server that is offered none uses none.",
				Why:   "Old servers fail at offers that they do not know; some deflate at a price that nobody wants to pay.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s := m.Send(e.connect(m, "sec-websocket-extensions", "permessage-deflate"), false)
				h, err := e.nextOr(s).AcceptUpgrade()
				e.Must(err)
				if v := h.Fields.Values("Sec-WebSocket-Extensions"); v != nil {
					e.Fail("no Sec-WebSocket-Extensions at the backend", "%q", v)
				}
				a, err := s.WantStatus(200)
				e.Must(err)
				e.without(a, "sec-websocket-extensions")
			},
		},
		{
			ID: "h2/request/misdirected", Rows: []int{203}, RFC: "9110", Section: "7.4", Level: Product, Profile: Hosts,
			Title: "a host that this connection does not serve is 421, for requests and handshakes",
			Text: Text{
				Sends: "GET and extended CONNECT with :authority unserved.example",
				Sees:  "421 for both; nothing at the backend",
				Rule:  "421 says that the server is not the one for this authority, so that the client asks elsewhere.",
				Why:   "Browsers use one connection for all hosts of a certificate; 404 tells them that the page is gone.",
			},
			run: func(e *Env) {
				m := e.Mux()
				for _, f := range []rawpeer.Fields{e.get(m.Scheme()), e.connect(m)} {
					a := e.whole(m.Send(with(f, ":authority", "unserved.example"), f.Get(":method") == "GET"))
					if a.Status != 421 || !a.End {
						e.Fail("421", "%v", a)
					}
				}
				e.Untouched()
			},
		},
		{
			ID: "h2/drain/goaway-late", Rows: []int{137}, Level: Product, Profile: LateGoAway,
			Title: "told so, a drain says GOAWAY only when the tunnels have ended",
			Text: Text{
				Sends: "the drain command while a tunnel is open; both ends answer the Close",
				Sees:  "the Close frames and END_STREAM first, then GOAWAY",
				Rule:  "No RFC asks for it.",
				Why:   "Firefox drops all sockets of a connection when it reads GOAWAY (haproxy#2789).",
			},
			drain: true, limit: 30 * time.Second,
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				e.Drain()
				if e.drainClose(b) == nil {
					e.Fail("Close 1001 at the backend", "nothing")
				}
				if g := c.GoAways(); len(g) > 0 {
					e.Fail("no GOAWAY before the tunnel has ended", "%v", g)
				}
				e.Must(b.Write(wsFrame(0x88, false, []byte{0x03, 0xe9})))
				e.Must(s.Write(wsFrame(0x88, true, []byte{0x03, 0xe9})))
				e.Must(b.WantFIN())
				e.Must(b.CloseWrite())
				if a := e.whole(s); !a.End {
					e.Fail("END_STREAM", "%v", a)
				}
				_ = s.CloseWrite()
				e.Must(c.WantGoAway(http2.ErrCodeNo))
			},
		},
	}...)
}

// reloadCases run one after the other, each with a reload of its own.
func reloadCases() []Case {
	all := []Case{
		{
			ID: "h2/reload/tunnels-live", Rows: []int{134}, Level: Product,
			Title: "a reload that does not touch a route cuts none of its tunnels",
			Text: Text{
				Sends: "tunnels over HTTP/2 and HTTP/1.1, then a reload of the same configuration",
				Sees:  "both echo afterwards, and so does a new one on the same connection",
				Rule:  "No RFC speaks of it.",
				Why:   "Clusters reload a hundred times a day; each reload that cuts all sockets is an outage.",
			},
			run: func(e *Env) {
				m := e.Mux()
				s, b := e.openOn(m)
				t, tb := e.openH1(e.H1())
				e.Reload("base")
				e.echo(s, b)
				e.echo(t, tb)
				s, b = e.openOn(m)
				e.echo(s, b)
				e.Must(m.WantAlive())
			},
		},
		{
			ID: "h2/reload/removed-route", Rows: []int{135}, Level: Product,
			Title: "a reload that takes a route away refuses new handshakes, and does not cut its tunnels at once",
			Text: Text{
				Sends: "a tunnel on the route /removed, a reload without that route, then a handshake there",
				Sees:  "the tunnel echoes; the handshake is refused; a tunnel of another route echoes",
				Rule:  "No RFC speaks of it: new handshakes follow the new configuration, old tunnels have a time.",
				Why:   "Who takes a service out wants its users to finish, not to be thrown out in the middle of a move.",
			},
			run: func(e *Env) {
				e.Reload("base")
				m := e.Mux()
				removed := with(e.connect(m), ":path", "/removed"+e.Path("chat"))
				s := m.Send(removed, false)
				b := e.nextOr(s)
				accepts(b)
				_, err := s.WantStatus(200)
				e.Must(err)
				other, ob := e.openOn(m)
				e.Reload("no-route")
				if a := e.whole(m.Send(removed, false)); !a.Refused() {
					e.Fail("a refusal", "%v", a)
				}
				e.echo(s, b)
				e.echo(other, ob)
				e.Reload("base")
			},
		},
		{
			ID: "h2/settings/never-withdrawn", Rows: []int{3}, RFC: "8441", Section: "3", Level: Must,
			Title: "a reload that turns WebSocket off does not take back what a connection was told",
			Text: Text{
				Sends: "a reload without WebSocket, then an extended CONNECT on a connection from before",
				Sees:  "no SETTINGS with SETTINGS_ENABLE_CONNECT_PROTOCOL = 0; a refusal, or GOAWAY",
				Rule:  "A sender MUST NOT send the setting with the value 0 after it sent 1.",
				Why:   "Clients take it for a connection error and lose everything on it.",
			},
			run: func(e *Env) {
				e.Reload("base")
				c, s, b := e.tunnelH2()
				e.Reload("no-websocket")
				late := h2Mux{c}.Send(e.connect(h2Mux{c}), false)
				a, err := late.Answer()
				e.Reload("base")
				e.Must(err)
				if a.Open() {
					e.Fail("a refusal, or GOAWAY", "%v", a)
				}
				_ = c.Ping()
				for i, x := range c.Settings() {
					if x.ID == connectProtocol && x.Val == 0 {
						e.Fail("no SETTINGS_ENABLE_CONNECT_PROTOCOL = 0 behind 1", "setting %d of %v", i+1, c.Settings())
					}
				}
				if a.Closed == "" {
					e.echo(s, b)
				}
			},
		},
	}
	for i := range all {
		all[i].Profile, all[i].alone = Reload, true
	}
	return all
}
