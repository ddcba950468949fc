package conformance

import (
	"slices"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

const closure = "An orderly end of TCP is END_STREAM, an exception is RST_STREAM with CANCEL, and the other way round."

// endCases: orderly ends, each direction by itself. On HTTP/1.1 they are row 178.
func endCases() []Case {
	both := func(id string, row int, section, title string, text Text, run func(*Env)) []Case {
		text.Rule = closure
		return []Case{
			{ID: "h2/end/" + id, Rows: []int{row}, RFC: "8441", Section: section, Level: Must, Title: title, Text: text, run: run},
			{ID: "h1/end/" + id, Rows: []int{178}, RFC: "9110", Section: "9.3.6", Level: Must, Title: title, Text: text, run: run},
		}
	}
	return slices.Concat(
		both(
			"backend-first", 103, "5", "the backend's FIN is an orderly end at the client, behind all its octets",
			Text{
				Sends: "the backend sends octets and FIN",
				Sees:  "all octets, then END_STREAM (FIN); what the client then sends reaches the backend, its end too",
				Why:   "A client that sees a reset reports 1006 to the page; one that sees nothing waits for ever (httpd).",
			}, func(e *Env) {
				t, b := e.Open()
				e.Must(b.Write([]byte("last words")))
				e.Must(b.CloseWrite())
				e.Must(t.WantBytes([]byte("last words")))
				e.Must(t.WantEnd())
				e.Must(t.Write([]byte("answer")))
				e.Must(b.WantBytes([]byte("answer")))
				e.Must(t.CloseWrite())
				e.Must(b.WantFIN())
			},
		),
		both(
			"client-first", 104, "5", "the client's end is FIN at the backend, and the other direction goes on",
			Text{
				Sends: "the client sends octets and an end; the backend sends octets afterwards, then FIN",
				Sees:  "octets and FIN at the backend; its octets at the client, then an orderly end",
				Why:   "Half-closed tunnels are how programs say \"that was all, and now your answer\" (caddy#8026, golang/go#35892): cut both, and the answer is lost.",
			}, func(e *Env) {
				t, b := e.Open()
				e.Must(t.Write([]byte("question")))
				e.Must(t.CloseWrite())
				e.Must(b.WantBytes([]byte("question")))
				e.Must(b.WantFIN())
				e.Must(b.Write([]byte("answer")))
				e.Must(t.WantBytes([]byte("answer")))
				e.Must(b.CloseWrite())
				e.Must(t.WantEnd())
			},
		),
		both(
			"tail-down", 105, "5", "a mebibyte that the backend sends before its FIN arrives whole",
			Text{
				Sends: "the backend sends 1 MiB and FIN at once",
				Sees:  "1 MiB at the client, then an orderly end",
				Why:   "The tail of a download is what gets lost when an end overtakes data.",
			}, func(e *Env) {
				t, b := e.Open()
				e.tail(func(p []byte) error { return both2(b.Write(p), b.CloseWrite) }, t.WantBytes, t.WantEnd)
			},
		),
		both(
			"tail-up", 104, "5", "a mebibyte that the client sends before its end arrives whole",
			Text{
				Sends: "the client sends 1 MiB and an end at once",
				Sees:  "1 MiB at the backend, then FIN",
				Why:   "The tail of an upload is what gets lost when an end overtakes data.",
			}, func(e *Env) {
				t, b := e.Open()
				e.tail(func(p []byte) error { return both2(t.Write(p), t.CloseWrite) }, b.WantBytes, b.WantFIN)
			},
		),
		both(
			"both-at-once", 105, "5", "ends from both sides at once are an orderly end for both",
			Text{
				Sends: "client and backend send an end at the same time",
				Sees:  "an orderly end at both, no reset",
				Why:   "It is how most sockets end: both sides close after the Close frames.",
			}, func(e *Env) {
				t, b := e.Open()
				e.Must(t.CloseWrite())
				e.Must(b.CloseWrite())
				e.Must(t.WantEnd())
				e.Must(b.WantFIN())
			},
		),
		moreEnds(),
	)
}

func both2(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}

// tail sends a mebibyte and an end.
func (e *Env) tail(send func([]byte) error, want func([]byte) error, end func() error) {
	big := pattern(1 << 20)
	sent := make(chan error, 1)
	go func() { sent <- send(big) }()
	e.Must(want(big))
	e.Must(end())
	e.Must(<-sent)
}

func moreEnds() []Case {
	return []Case{
		{
			ID: "h2/end/client-with-data", Rows: []int{104}, RFC: "8441", Section: "5", Level: Must,
			Title: "END_STREAM on a DATA frame with octets is octets, then FIN",
			Text: Text{
				Sends: "DATA with octets and END_STREAM",
				Sees:  "the octets at the backend, then FIN; the backend's octets at the client",
				Rule:  closure,
				Why:   "Libraries put the flag on the last frame that has data.",
			},
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				e.Must(s.Data([]byte("bye"), true))
				e.Must(b.WantBytes([]byte("bye")))
				e.Must(b.WantFIN())
				e.Must(b.Write([]byte("bye too")))
				e.Must(s.WantBytes([]byte("bye too")))
				e.Must(b.CloseWrite())
				e.Must(s.WantEnd())
			},
		},
		{
			ID: "h2/end/backend-closes-in-flight", Rows: []int{105}, RFC: "9110", Section: "9.3.6", Level: Must,
			Title: "what the backend sent before it closed both ways arrives, while client data is in flight",
			Text: Text{
				Sends: "the backend writes and closes both ways; the client sends all the while",
				Sees:  "the backend's octets, then END_STREAM or RST_STREAM",
				Rule:  "When a side closes, the intermediary attempts to send outstanding data that came from it, closes both, and discards what is left.",
				Why:   "The backend's last message says why it closed.",
			},
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				e.Must(b.Write([]byte("going down")))
				b.Close()
				_ = s.Data([]byte("still talking"), false)
				e.Must(s.WantBytes([]byte("going down")))
				if a := e.whole(s); !a.End && a.Reset == "" {
					e.Fail("END_STREAM or RST_STREAM", "%v", a)
				}
			},
		},
		{
			ID: "h2/end/close-then-no-reset", Rows: []int{111}, RFC: "9113", Section: "5.1", Level: Must,
			Title: "after both Close frames and both ends no RST_STREAM races the Close",
			Text: Text{
				Sends: "a Close frame from the backend and its end both ways; the client answers with Close and END_STREAM",
				Sees:  "the Close frame, END_STREAM, and no RST_STREAM",
				Rule:  "A stream that both sides ended is closed; there is nothing left to reset.",
				Why:   "A client that reads RST_STREAM before it read the Close frame reports 1006 (jetty#13349; so does Chromium).",
			},
			run: func(e *Env) {
				m := e.Mux()
				s, b := e.openOn(m)
				bye := wsFrame(0x88, false, []byte{0x0f, 0xa1})
				e.Must(b.Write(bye))
				b.Close()
				e.Must(s.WantBytes(bye))
				e.Must(s.WantEnd())
				e.Must(s.Data(wsFrame(0x88, true, []byte{0x0f, 0xa1}), true))
				e.Must(m.WantAlive())
				if a := e.whole(s); a.Reset != "" {
					e.Fail("no reset", "%v", a)
				}
			},
		},
		closeCode("1000", []byte{0x03, 0xe8}), closeCode("4999", []byte{0x13, 0x87}),
		{
			ID: "h2/end/refused-early", Rows: []int{112}, RFC: "9113", Section: "8.1", Level: May,
			Title: "a handshake that is refused while the client still sends gets a whole answer, then RST_STREAM NO_ERROR at the most",
			Text: Text{
				Sends: "an extended CONNECT that the backend refuses while the client sends DATA and no END_STREAM",
				Sees:  "403 with its content and END_STREAM; then RST_STREAM NO_ERROR, or nothing",
				Rule:  "A server that answered before the request was whole may ask the client to stop by RST_STREAM NO_ERROR.",
				Why:   "Any other code makes clients drop the answer.",
			},
			run: func(e *Env) {
				c := e.H2()
				e.needTunnels()
				s := h2Mux{c}.Send(e.connect(h2Mux{c}), false).(*h2Stream)
				b := e.nextOr(s)
				_, err := b.ReadHead()
				e.Must(err)
				e.Must(b.Write(answer("403 Forbidden", "not you")))
				a := e.whole(s)
				_ = s.Data([]byte("more"), false)
				e.Must(c.WantAlive())
				if a.Status != 403 || !a.End || string(a.Body) != "not you" {
					e.Fail("403, complete", "%v", a)
				}
				if st := c.Stream(s.id); st.Reset && st.Code != http2.ErrCodeNo && st.Code != http2.ErrCodeStreamClosed {
					e.Fail("RST_STREAM NO_ERROR, or none", "RST_STREAM %v", st.Code)
				}
			},
		},
	}
}

func closeCode(name string, code []byte) Case {
	return Case{
		ID: "h2/end/close-code-" + name, Rows: []int{113}, RFC: "6455", Section: "7.1.1", Level: Should,
		Title: "the backend's Close " + name + " reaches the client, and an orderly end behind it",
		Text: Text{
			Sends: "a Close frame with " + name + " from the backend, an answer from the client, FIN from the backend",
			Sees:  "the same frame, then END_STREAM",
			Rule:  "The server closes first, once both Close frames have passed; the client sees the code.",
			Why:   "Applications tell by the code whether to connect again.",
		},
		run: func(e *Env) {
			s, b := e.openOn(e.Mux())
			e.Must(b.Write(wsFrame(0x88, false, code)))
			e.Must(s.WantBytes(wsFrame(0x88, false, code)))
			e.Must(s.Write(wsFrame(0x88, true, code)))
			e.Must(b.WantBytes(wsFrame(0x88, true, code)))
			e.Must(b.CloseWrite())
			e.Must(s.WantEnd())
		},
	}
}

// resetCases: ends that are none.
func resetCases() []Case {
	why := "A peer that takes a crash for an orderly end believes that it has all of a message, or of a file."
	return []Case{
		{
			ID: "h2/end/backend-reset", Rows: []int{106}, RFC: "8441", Section: "5", Level: Must,
			Title: "the backend's TCP RST is RST_STREAM at the client, and no END_STREAM before it",
			Text:  Text{Sends: "the backend resets its connection", Sees: "RST_STREAM CANCEL or CONNECT_ERROR, no END_STREAM", Rule: closure, Why: why},
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				e.echo(s, b)
				b.Reset()
				e.Must(s.WantReset())
				if a := e.whole(s); a.End {
					e.Fail("no END_STREAM", "%v", a)
				}
			},
		},
		{
			ID: "h2/end/backend-reset-cancel", Rows: []int{106}, RFC: "8441", Section: "5", Level: Should,
			Title: "the code for a backend's RST is CANCEL",
			Text:  Text{Sends: "the backend resets its connection", Sees: "RST_STREAM CANCEL", Rule: closure, Why: "It is the code that clients of RFC 8441 expect."},
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				b.Reset()
				e.Must(c.WantReset(s.id, http2.ErrCodeCancel))
			},
		},
		{
			ID: "h2/end/client-reset", Rows: []int{107}, RFC: "8441", Section: "5", Level: Must,
			Title: "the client's RST_STREAM ends the backend's connection",
			Text:  Text{Sends: "RST_STREAM CANCEL on an open tunnel", Sees: "the end of the backend's connection at once", Rule: closure, Why: "Backends keep sessions, subscriptions and locks for sockets that are gone."},
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				e.echo(s, b)
				e.Must(s.Reset())
				e.Must(b.WantEnded())
			},
		},
		{
			ID: "h2/end/client-reset-rst", Rows: []int{107}, RFC: "8441", Section: "5", Level: Should,
			Title: "the client's RST_STREAM is a TCP RST at the backend, not an orderly FIN",
			Text:  Text{Sends: "RST_STREAM CANCEL on an open tunnel", Sees: "a TCP RST at the backend", Rule: closure, Why: why},
			run: func(e *Env) {
				s, b := e.openOn(e.Mux())
				e.echo(s, b)
				e.Must(s.Reset())
				e.Must(b.WantRST())
			},
		},
		gone("client-gone", Must, "a connection that is cut ends all its tunnels at their backends", "the end of both backends' connections", (*rawpeer.BackendConn).WantEnded),
		gone("client-gone-rst", Product, "a connection that is cut is a TCP RST at its backends within a second", "a TCP RST at both within a second", (*rawpeer.BackendConn).WantRST),
	}
}

func gone(id string, level Level, title, sees string, want func(*rawpeer.BackendConn) error) Case {
	return Case{
		ID: "h2/end/" + id, Rows: []int{108}, RFC: "9113", Section: "8.5", Level: level, Title: title,
		Text: Text{
			Sends: "the TCP connection of two tunnels is cut, without GOAWAY",
			Sees:  sees,
			Rule:  "The end of the connection is the end of each of its streams.",
			Why:   "Laptops close and trains enter tunnels: most sockets end so.",
		},
		run: func(e *Env) {
			m := e.Mux()
			s, b := e.openOn(m)
			_, b2 := e.openOn(m)
			e.echo(s, b)
			m.Cut()
			if level == Product {
				b.Patience, b2.Patience = e.Wait(time.Second), e.Wait(time.Second)
			}
			e.Must(want(b))
			e.Must(want(b2))
		},
	}
}

// strayCases: frames that come where none may.
func strayCases() []Case {
	return []Case{
		{
			ID: "h2/end/data-after-end", Rows: []int{109}, RFC: "9113", Section: "5.1", Level: Must,
			Title: "DATA behind END_STREAM is STREAM_CLOSED and never reaches the backend",
			Text: Text{
				Sends: "DATA with END_STREAM, then DATA, on one of two tunnels",
				Sees:  "RST_STREAM STREAM_CLOSED; no stray octet at the backend",
				Rule:  "A stream that is half-closed by its peer takes no more frames but WINDOW_UPDATE, PRIORITY and RST_STREAM.",
				Why:   "Octets behind an end belong to no message.",
			},
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				e.Must(s.Data([]byte("last"), true))
				e.Must(c.Data(s.id, []byte("stray"), false))
				e.WantStreamError(s, http2.ErrCodeStreamClosed)
				e.Must(b.WantBytes([]byte("last")))
				e.WantNothingMore(b)
			},
		},
		{
			ID: "h2/end/data-after-end-alone", Rows: []int{109}, RFC: "9113", Section: "5.4.2", Level: Product,
			Title: "DATA behind END_STREAM costs that tunnel, not its neighbour",
			Text: Text{
				Sends: "DATA with END_STREAM, then DATA, on one of two tunnels",
				Sees:  "the other tunnel echoes, no GOAWAY",
				Rule:  "It is a stream error; to end the connection is allowed, but it costs all.",
				Why:   "On HTTP/2 all sockets of a page share a connection.",
			},
			run: func(e *Env) {
				c, s, _ := e.tunnelH2()
				t, b := e.openOn(h2Mux{c})
				e.Must(s.Data(nil, true))
				e.Must(c.Data(s.id, []byte("stray"), false))
				e.Must(c.Ping())
				e.echo(t, b)
				e.Must(c.WantAlive())
			},
		},
		{
			ID: "h2/end/frames-after-reset", Rows: []int{110}, RFC: "9113", Section: "5.1", Level: Must,
			Title: "DATA and WINDOW_UPDATE that cross the gateway's RST_STREAM are ignored",
			Text: Text{
				Sends: "a tunnel whose backend resets; DATA and WINDOW_UPDATE on its stream right behind RST_STREAM",
				Sees:  "no GOAWAY; a tunnel on the same connection echoes, and the connection's window is whole",
				Rule:  "An endpoint that sent RST_STREAM has to be ready for frames that were under way; DATA counts for the connection's flow control.",
				Why:   "Each backend that restarts would cost its clients all other sockets.",
			},
			run: func(e *Env) {
				c, s, b := e.tunnelH2()
				b.Reset()
				if a := e.whole(s); a.Reset == "" {
					e.Note("the backend's reset came as %v", a)
				}
				_, before := c.Windows(s.id)
				for range 4 {
					e.Must(c.Data(s.id, make([]byte, 16000), false))
				}
				e.Must(c.WindowUpdate(s.id, 1))
				e.Must(c.WantAlive())
				t, b2 := e.openOn(h2Mux{c})
				e.echo(t, b2)
				if before < 1<<20 { // a large window need not be given back at once
					e.On("the connection's window", c.WantWindow(0, before+30000))
				}
			},
		},
	}
}
