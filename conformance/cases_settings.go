package conformance

import (
	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// connectProtocol is SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 section 3).
const connectProtocol = http2.SettingEnableConnectProtocol

// settingsCases are part A.
func settingsCases() []Case {
	return append(announceCases(), []Case{
		{
			ID: "h2/settings/client-silent", Rows: []int{4}, RFC: "8441", Section: "3", Level: Must,
			Title: "extended CONNECT works for a client that did not send the setting itself",
			Text: Text{
				Sends: "client SETTINGS without SETTINGS_ENABLE_CONNECT_PROTOCOL, then an extended CONNECT",
				Sees:  "the handshake at the backend, 200 at the client",
				Rule:  "The setting is the server's word to clients. What a client sends has no meaning for a server.",
				Why:   "No browser sends it. A gateway that asked for it cut every browser socket (HAProxy 3.2.17).",
			},
			run: func(e *Env) { e.openOn(e.Mux()) },
		},
		clientSetting("one", 1), clientSetting("zero", 0),
		{
			ID: "h2/settings/client-two", Rows: []int{6}, RFC: "8441", Section: "3", Level: Must,
			Title: "a client's SETTINGS_ENABLE_CONNECT_PROTOCOL of 2 is an error or is ignored, each time alike",
			Text: Text{
				Sends: "client SETTINGS with the value 2, on two connections",
				Sees:  "GOAWAY PROTOCOL_ERROR, or a working handshake; the same both times",
				Rule:  "The value has to be 0 or 1. Receipt has no impact on a server, so that it may be ignored.",
				Why:   "A crash or a connection that hangs is a way to take a gateway down.",
			},
			run: settingTwo,
		},
		{
			ID: "h2/settings/one-flight", Rows: []int{8}, RFC: "9113", Section: "6.5.3", Level: Must,
			Title: "an extended CONNECT in the flight of the client preface is answered",
			Text: Text{
				Sends: "preface, SETTINGS and extended CONNECT at once, before the server's SETTINGS were read",
				Sees:  "200 after the handshake at the backend, or a stream error; no silence",
				Rule:  "A client need not wait for the server's SETTINGS; what it sends is judged as any request.",
				Why:   "A client that knows the gateway saves a round trip so.",
			},
			run: func(e *Env) {
				e.needTunnels()
				c := e.H2Quiet()
				e.Must(c.Preface())
				s := h2Mux{c}.Send(e.connect(h2Mux{c}), false)
				e.Behind(accepts)
				a, err := s.Answer()
				e.Must(err)
				if a.Status != 200 && !a.Malformed() {
					e.Fail("200 or a stream error", "%v", a)
				}
			},
		},
		{
			ID: "h2/settings/ack", Rows: []int{9}, RFC: "9113", Section: "6.5.3", Level: Must,
			Title: "each SETTINGS frame is acknowledged at once",
			Text: Text{
				Sends: "four SETTINGS frames, the first in the preface",
				Sees:  "four SETTINGS frames with ACK",
				Rule:  "A receiver emits an ACK for each SETTINGS frame once it applied it, immediately.",
				Why:   "A client may close a connection whose settings are not acknowledged (SETTINGS_TIMEOUT).",
			},
			run: func(e *Env) {
				c := e.H2()
				for range 3 {
					e.Must(c.Frame(http2.FrameSettings, 0, 0, nil))
				}
				e.Must(c.WantAcks(4))
				e.Must(c.WantAlive())
			},
		},
		{
			ID: "h2/settings/new-values-hold", Rows: []int{9}, RFC: "9113", Section: "6.5.3", Level: Must,
			Title: "a smaller initial window holds for all that is sent after its ACK",
			Text: Text{
				Sends: "SETTINGS with an initial window of 5, after the ACK a GET whose answer has 11 octets",
				Sees:  "5 octets, and the rest behind a WINDOW_UPDATE",
				Rule:  "After the ACK the values hold for all frames that follow.",
				Why:   "A client that gave no room has no place for what comes.",
			},
			run: smallWindow,
		},
		{
			ID: "h1/front/alpn", Rows: []int{10}, RFC: "9113", Section: "3.2", Level: Product,
			Title: "the port of HTTP/2 serves Upgrade to a client that offers http/1.1 alone",
			Text: Text{
				Sends: "a ClientHello with http/1.1 alone in ALPN, then an Upgrade",
				Sees:  "101 and a tunnel",
				Rule:  "Browsers have one port and one certificate for both.",
				Why:   "A first socket of a page goes over HTTP/1.1; so does every fallback (undici#4966).",
			},
			run: func(e *Env) {
				t, b := e.openH1(e.H1TLS())
				e.Must(t.Write([]byte("up")))
				e.Must(b.WantBytes([]byte("up")))
			},
		},
	}...)
}

// announceCases are those that look at what the server says of itself.
func announceCases() []Case {
	return []Case{
		{
			ID: "h2/settings/first-frame", Rows: []int{1}, RFC: "9113", Section: "3.4", Level: Must,
			Title: "the first frame of the server is SETTINGS",
			Text: Text{
				Sends: "preface and SETTINGS, by TLS with h2 in ALPN",
				Sees:  "SETTINGS as the first frame",
				Rule:  "The server's connection preface is a SETTINGS frame, which is the first that it sends.",
				Why:   "Clients end a connection that begins otherwise.",
			},
			run: func(e *Env) {
				c := e.H2()
				if t, err := c.WantFirst(); err != nil || t != http2.FrameSettings {
					e.Fail("SETTINGS as the first frame", "%v %v", t, err)
				}
			},
		},
		{
			ID: "h2/settings/enable-connect-protocol", Rows: []int{1}, RFC: "8441", Section: "3", Level: Must,
			Title: "SETTINGS_ENABLE_CONNECT_PROTOCOL is announced as 1, and as nothing else",
			Text: Text{
				Sends: "preface and SETTINGS",
				Sees:  "SETTINGS with 0x8 = 1, never another value of it",
				Rule:  "The value is 0 or 1; a client uses extended CONNECT only after it saw 1.",
				Why:   "Without it no browser opens a WebSocket over HTTP/2.",
			},
			run: func(e *Env) {
				c := e.H2()
				e.Must(c.Ping())
				said := false
				for _, s := range c.Settings() {
					if s.ID == connectProtocol {
						if said = true; s.Val != 1 {
							e.Fail("SETTINGS_ENABLE_CONNECT_PROTOCOL = 1", "%d", s.Val)
						}
					}
				}
				if !said {
					e.Fail("SETTINGS_ENABLE_CONNECT_PROTOCOL = 1", "no such setting in %v", c.Settings())
				}
			},
		},
		{
			ID: "h2/settings/off-not-announced", Rows: []int{2}, RFC: "8441", Section: "3", Level: Product, Profile: NoWebSocket,
			Title: "without WebSocket the setting is absent, or 0",
			Text: Text{
				Sends: "preface and SETTINGS, to a front that serves no WebSocket",
				Sees:  "no SETTINGS_ENABLE_CONNECT_PROTOCOL, or 0",
				Rule:  "What no route can serve is not announced.",
				Why:   "Browsers take the 1 for \"WebSocket works here\" and do not fall back (golang/go#71128).",
			},
			run: func(e *Env) {
				c := e.H2()
				e.Must(c.Ping())
				if v, ok := c.Setting(connectProtocol); ok && v != 0 {
					e.Fail("no SETTINGS_ENABLE_CONNECT_PROTOCOL, or 0", "%d", v)
				}
			},
		},
		offCase("off-connect", Must, "without WebSocket an extended CONNECT is malformed", func(e *Env, _ *rawpeer.H2, s Stream) { e.WantMalformed(s) }),
		offCase("off-connection-lives", Product, "an extended CONNECT that was not announced leaves its connection usable", func(e *Env, c *rawpeer.H2, s Stream) {
			e.whole(s)
			e.Must(c.WantAlive())
		}),
	}
}

func offCase(id string, level Level, title string, then func(*Env, *rawpeer.H2, Stream)) Case {
	return Case{
		ID: "h2/settings/" + id, Rows: []int{7}, RFC: "8441", Section: "3", Level: level, Profile: NoWebSocket,
		Title: title,
		Text: Text{
			Sends: "an extended CONNECT to a front that did not announce it",
			Sees:  "RST_STREAM PROTOCOL_ERROR or a complete 4xx; nothing at the backend; the connection goes on",
			Rule:  "For a peer that does not know the extension the request is malformed: a stream error (RFC 9113 section 8.1.1).",
			Why:   "A client that guesses must not cost others on the connection their requests.",
		},
		run: func(e *Env) {
			c := e.H2()
			then(e, c, h2Mux{c}.Send(e.connect(h2Mux{c}), false))
		},
	}
}

func clientSetting(name string, v uint32) Case {
	return Case{
		ID: "h2/settings/client-" + name, Rows: []int{5}, RFC: "8441", Section: "3", Level: Must,
		Title: "a client's own SETTINGS_ENABLE_CONNECT_PROTOCOL of " + name + " changes nothing",
		Text: Text{
			Sends: "client SETTINGS with the value " + name + ", then an extended CONNECT",
			Sees:  "no error; 200 after the handshake at the backend",
			Rule:  "Receipt of the setting by a server does not have any impact.",
			Why:   "Some clients send all settings that they know.",
		},
		run: func(e *Env) {
			e.needTunnels()
			c := e.H2(http2.Setting{ID: connectProtocol, Val: v})
			e.openOn(h2Mux{c})
			e.Must(c.WantAlive())
		},
	}
}

func settingTwo(e *Env) {
	e.needTunnels()
	var seen []string
	for range 2 {
		c := e.H2Quiet()
		e.Must(c.Preface(http2.Setting{ID: connectProtocol, Val: 2}))
		switch err := c.Ping(); {
		case err == nil:
			e.openOn(h2Mux{c})
			seen = append(seen, "served")
		default:
			e.On("in place of being ignored", c.WantGoAway(http2.ErrCodeProtocol))
			seen = append(seen, "GOAWAY")
		}
	}
	if seen[0] != seen[1] {
		e.Fail("the same answer each time", "%q", seen)
	}
}

func smallWindow(e *Env) {
	c := e.H2(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
	c.NoCredit = true
	e.Must(c.Frame(http2.FrameSettings, 0, 0, []byte{0, byte(http2.SettingInitialWindowSize), 0, 0, 0, 5}))
	e.Must(c.WantAcks(2))
	id := c.Headers(e.get(c.Scheme()), true)
	b, _ := e.NextHead()
	e.Must(b.Write(answer("200 OK", "hello world")))
	e.Must(c.WantData(id, []byte("hello")))
	e.Must(c.Ping())
	if n := c.Stream(id).Total; n != 5 {
		e.Fail("5 octets in a window of 5", "%d", n)
	}
	e.Must(c.WindowUpdate(id, 100))
	e.Must(c.WantData(id, []byte(" world")))
}

// get is an ordinary request of this case.
func (e *Env) get(scheme string) rawpeer.Fields {
	return append(rawpeer.F(":method", "GET", ":scheme", scheme, ":path", e.Path("get"), ":authority", e.Authority()), e.Tag())
}
