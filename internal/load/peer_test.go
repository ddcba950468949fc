package load

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wsgate/internal/rawpeer"
)

// listen gives each connection that comes to serve, on a goroutine of its own.
func listen(t *testing.T, serve func(net.Conn)) *Target {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c)
			}()
		}
	}()
	return &Target{Addr: ln.Addr().String(), Path: "/", HTTP: 1}
}

// upgraded answers an opening handshake and returns the reader behind it.
func upgraded(c net.Conn) *bufio.Reader {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return r
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "+rawpeer.AcceptFor(rawpeer.Key)+"\r\n\r\n")
	return r
}

// echoing answers messages one by one; before each it asks what to do, which
// says false to stop.
func echoing(c net.Conn, before func(n int) bool) {
	m, r, in := &mirror{up: true}, upgraded(c), make([]byte, 4096)
	for n := 0; ; n++ {
		k, err := r.Read(in)
		if err != nil || !before(n) {
			return
		}
		c.Write(m.feed(nil, in[:k]))
	}
}

// reset ends a connection by RST.
func reset(c net.Conn) {
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// stall reads and answers nothing.
func stall(c net.Conn) { io.Copy(io.Discard, c) }

// h2peer is an HTTP/2 server that does with each request what it is told.
type h2peer struct {
	settings []http2.Setting
	// request is asked for each HEADERS, data for each DATA; nil: messages come back.
	request func(f *http2.Framer, id uint32)
	data    func(f *http2.Framer, id uint32, p []byte)
}

// extended announces WebSocket (RFC 8441 section 3).
var extended = []http2.Setting{{ID: http2.SettingEnableConnectProtocol, Val: 1}}

func (p *h2peer) listen(t *testing.T) *Target {
	target := listen(t, p.serve)
	target.HTTP = 2
	return target
}

func (p *h2peer) serve(c net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil {
		return
	}
	f := http2.NewFramer(c, c)
	mirrors := make(map[uint32]*mirror)
	f.WriteSettings(p.settings...)
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			return
		}
		switch fr := fr.(type) {
		case *http2.HeadersFrame:
			p.request(f, fr.StreamID)
		case *http2.DataFrame:
			if n := uint32(len(fr.Data())); n > 0 {
				f.WriteWindowUpdate(0, n)
				f.WriteWindowUpdate(fr.StreamID, n)
			}
			if p.data != nil {
				p.data(f, fr.StreamID, fr.Data())
				continue
			}
			m := mirrors[fr.StreamID]
			if m == nil {
				m = &mirror{up: true}
				mirrors[fr.StreamID] = m
			}
			f.WriteData(fr.StreamID, false, m.feed(nil, fr.Data()))
		}
	}
}

// status answers with a header block of :status alone.
func status(f *http2.Framer, id uint32, status string, end bool) {
	var b bytes.Buffer
	hpack.NewEncoder(&b).WriteField(hpack.HeaderField{Name: ":status", Value: status})
	f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: b.Bytes(), EndStream: end, EndHeaders: true})
}

// accept answers 200.
func accept(f *http2.Framer, id uint32) { status(f, id, "200", false) }

// few are options of a run that is over soon.
func few(conns, tunnels int) Options {
	return Options{Conns: conns, Tunnels: tunnels, Size: 64, For: 100 * time.Millisecond, OpenTimeout: 300 * time.Millisecond}
}
