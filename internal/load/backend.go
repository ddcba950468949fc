// Package load makes WebSocket load and measures what it costs the gateway
// under test. It knows nothing of the gateway: any that bridges RFC 8441 to
// HTTP/1.1 can be its target.
package load

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"

	"wsgate/internal/rawpeer"
)

// ServeEcho is a cheap HTTP/1.1 WebSocket echo server. It returns when ln is
// closed. Each message costs it one read and one write; whole frames only are
// echoed, unmasked, and a Close frame ends the connection after its echo. An
// ordinary GET is answered with 1 KiB.
func ServeEcho(ln net.Listener) error {
	for {
		c, err := ln.Accept()
		if err != nil {
			return err
		}
		go serveEcho(c)
	}
}

var page = []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024))

// serveEcho is one connection of the echo server.
func serveEcho(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 4096)
	for {
		key, upgrade, err := readRequest(r)
		if err != nil {
			return
		}
		if upgrade {
			answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + rawpeer.AcceptFor(key) + "\r\n\r\n"
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
			break
		}
		if _, err := c.Write(page); err != nil {
			return
		}
	}
	early, _ := r.Peek(r.Buffered())
	e := echo{c: c}
	if len(early) > 0 && !e.feed(append([]byte(nil), early...)) {
		return
	}
	r = nil
	e.run()
}

func readRequest(r *bufio.Reader) (key string, upgrade bool, err error) {
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", false, err
		}
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			return key, upgrade, nil
		}
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); {
		case strings.EqualFold(name, "Sec-WebSocket-Key"):
			key = value
		case strings.EqualFold(name, "Upgrade"):
			upgrade = true
		}
	}
}

// echo turns masked frames round.
type echo struct {
	c    net.Conn
	rest []byte // of an incomplete frame
	out  []byte
}

func (e *echo) run() {
	buf := make([]byte, 4096)
	for {
		n, err := e.c.Read(buf)
		if n > 0 && !e.feed(buf[:n]) {
			return
		}
		if err != nil {
			return
		}
		if n == len(buf) && n < 1<<17 {
			buf = make([]byte, 2*n) // bulk wants large reads, idle tunnels small buffers
		}
	}
}

// feed echoes the whole frames of p and reports whether to go on.
func (e *echo) feed(p []byte) bool {
	if len(e.rest) > 0 {
		e.rest = append(e.rest, p...)
		p = e.rest
	}
	e.out = e.out[:0]
	closed := false
	for {
		head, size, ok := frameSize(p)
		if !ok || len(p) < head+size {
			break
		}
		key := p[head-4 : head]
		e.out = appendHead(e.out, p[0], size)
		at := len(e.out)
		e.out = append(e.out, p[head:head+size]...)
		if !bytes.Equal(key, zeroKey[:]) {
			for i := range size {
				e.out[at+i] ^= key[i&3]
			}
		}
		closed = closed || p[0]&0xf == 8
		p = p[head+size:]
	}
	e.rest = append(e.rest[:0], p...)
	if len(e.rest) == 0 && cap(e.rest) > 4096 {
		e.rest = nil
	}
	if len(e.out) > 0 {
		if _, err := e.c.Write(e.out); err != nil {
			return false
		}
		if cap(e.out) > 4096 && len(e.rest) == 0 {
			e.out = nil
		}
	}
	return !closed
}

var zeroKey [4]byte

// frameSize reads the head of a masked frame: its length with the mask, and
// that of the payload.
func frameSize(p []byte) (head, size int, ok bool) {
	if len(p) < 6 {
		return 0, 0, false
	}
	switch n := int(p[1] & 0x7f); n {
	case 126:
		return 8, int(binary.BigEndian.Uint16(p[2:])), len(p) >= 8
	case 127:
		if len(p) < 14 {
			return 0, 0, false
		}
		return 14, int(binary.BigEndian.Uint64(p[2:])), true
	default:
		return 6, n, true
	}
}

// appendHead appends the head of an unmasked frame.
func appendHead(b []byte, first byte, size int) []byte {
	switch {
	case size < 126:
		return append(b, first, byte(size))
	case size < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, first, 126), uint16(size))
	}
	return binary.BigEndian.AppendUint64(append(b, first, 127), uint64(size))
}

// message is a masked binary frame with a zero key, so that masking costs nothing.
func message(size int) []byte {
	b := appendHead(nil, 0x82, size)
	b[1] |= 0x80
	b = append(b, zeroKey[:]...)
	return append(b, make([]byte, size)...)
}
