package e2e

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// TestTransfers: 1 MiB up and down on each front, with a length and without.
func TestTransfers(t *testing.T) {
	big := string(bytes.Repeat([]byte("0123456789abcdef"), 64<<10))
	eachFront(t, nil, func(r *rig, front string) {
		for _, chunked := range []bool{false, true} {
			sent := make(chan error, 1)
			a := r.ask(front, "GET", "/", nil, nil)
			b := r.next()
			_, err := b.ReadHead()
			r.must(err)
			answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(big), big)
			if chunked {
				answer = fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(big), big)
			}
			go func() { sent <- b.Write([]byte(answer)) }()
			a.want("download", 200, big)
			r.must(<-sent)
			b.Close()

			fields, content := f("Content-Length", fmt.Sprint(len(big))), big
			if chunked {
				fields = nil
				if front != "h2" {
					fields, content = f("Transfer-Encoding", "chunked"), fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big)
				}
			}
			go func() {
				b, err := r.be.Next()
				if err != nil {
					sent <- err
					return
				}
				defer b.Close()
				h, body, err := readRequest(newReader(b))
				if err == nil && (body != big || (h.Fields.Get("Transfer-Encoding") == "chunked") != chunked) {
					err = fmt.Errorf("got %d octets, head %q", len(body), h.Raw)
				}
				b.Write(simple("ok"))
				sent <- err
			}()
			r.ask(front, "POST", "/", fields, &content).want("upload", 200, "ok")
			r.must(<-sent)
		}
	})
}

// TestHostRewriting: the backend's name in place of the client's, for requests
// and handshakes.
func TestHostRewriting(t *testing.T) {
	eachFront(t, func(c *gateway.Config) { c.HostHeader = "backend" }, func(r *rig, front string) {
		r.ask(front, "GET", "/", nil, nil)
		h, err := r.next().ReadHead()
		r.must(err)
		if front == "h2" {
			r.open(r.h2())
		}
		if v := h.Fields.Values("Host"); len(v) != 1 || v[0] != r.be.Addr() || h.Fields.Get("X-Forwarded-Host") != "localhost" {
			t.Errorf("%s: got Host %q, X-Forwarded-Host %q; want %q, localhost", front, v, h.Fields.Get("X-Forwarded-Host"), r.be.Addr())
		}
		c := r.h1(front != "h1")
		r.must(c.WriteString(rawpeer.UpgradeRequest("/chat")))
		h, err = r.next().AcceptUpgrade()
		r.must(err)
		if v := h.Fields.Values("Host"); len(v) != 1 || v[0] != r.be.Addr() {
			t.Errorf("%s: handshake: got Host %q, want %q", front, v, r.be.Addr())
		}
	})
}

// TestSlowReader: an answer that its client does not take holds the backend
// back, and goes on when it does.
func TestSlowReader(t *testing.T) {
	eachFront(t, nil, func(r *rig, front string) {
		a := &asked{r: r, front: front, method: "GET"}
		if front == "h2" {
			a.h2 = r.h2()
			a.h2.NoCredit = true
			a.id = a.h2.Get("/")
		} else {
			a = r.ask(front, "GET", "/", nil, nil)
		}
		b := r.next()
		_, err := b.ReadHead()
		r.must(err)
		r.must(b.Write([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")))
		piece := bytes.Repeat([]byte("x"), 64<<10)
		sent, stuck := 0, false
		for !stuck && sent < 64<<20 {
			b.Conn().SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
			n, err := b.Conn().Write(piece)
			sent += n
			stuck = err != nil
		}
		if !stuck {
			t.Fatalf("%s: %d octets went into a reader that takes nothing", front, sent)
		}
		if front == "h2" {
			if n := a.h2.Stream(a.id).Total; n > 65535 {
				t.Errorf("octets beyond the window: got %d", n)
			}
			r.must(a.h2.WantAlive())
			r.must(a.h2.WindowUpdate(0, 1<<30))
			r.must(a.h2.WindowUpdate(a.id, 1<<30))
		}
		r.must(b.CloseWrite())
		if got := a.answer(); len(got.body) != sent || !got.ended {
			t.Errorf("%s: got %d octets, ended %v %s; want %d", front, len(got.body), got.ended, got.how, sent)
		}
	})
}

// TestBesideTunnels: the limit of tunnels leaves room for requests (row 124).
func TestBesideTunnels(t *testing.T) {
	r := start(t, func(c *gateway.Config) { c.MaxTunnelsPerConn = 3 })
	c := r.h2()
	var tunnels []*rawpeer.BackendConn
	var ids []uint32
	for range 3 {
		id, b := r.open(c)
		ids, tunnels = append(ids, id), append(tunnels, b)
	}
	head, err := c.WantStatus(c.Connect("/chat"), 503)
	r.must(err)
	if head.Get("retry-after") == "" {
		t.Errorf("got %q, want retry-after", head)
	}
	id := c.Get("/")
	b := r.next()
	h, err := b.ReadHead()
	r.must(err)
	if h.Line != "GET / HTTP/1.1" {
		t.Errorf("the backend saw %q, want the GET", h.Line)
	}
	r.must(b.Write(simple("ok")))
	_, err = c.WantStatus(id, 200)
	r.must(err)
	r.must(c.WantData(id, []byte("ok")))
	for i, b := range tunnels {
		r.must(b.Write([]byte("still")))
		r.must(c.WantData(ids[i], []byte("still")))
	}
	r.must(tunnels[0].CloseWrite())
	r.must(c.WantEnd(ids[0]))
	r.must(c.End(ids[0]))
	r.must(tunnels[0].WantFIN())
	r.open(c) // the place is free
}
