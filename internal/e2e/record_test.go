package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"wsgate/internal/rawpeer"
)

// recorder is a backend that serves: it notes every whole request, answers
// ordinary ones with 200 "ok", keeps their connections and echoes in tunnels.
type recorder struct {
	r   *rig
	got chan string
	n   int // markers
}

// record lets the rig's backend serve until the end of the test.
func (r *rig) record() *recorder {
	rec := &recorder{r: r, got: make(chan string, 1000)}
	stop := make(chan struct{})
	r.t.Cleanup(func() { close(stop) })
	go func() {
		for {
			b, err := r.be.Next()
			select {
			case <-stop:
				return
			default:
			}
			if err == nil {
				go rec.serve(b)
			}
		}
	}()
	return rec
}

func (rec *recorder) serve(b *rawpeer.BackendConn) {
	defer b.Close()
	in := bufio.NewReader(b)
	for {
		h, body, err := readRequest(in)
		if err != nil {
			return
		}
		rec.got <- summary(h, body)
		if h.Fields.Get("Upgrade") == "" {
			if b.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")) != nil {
				return
			}
			continue
		}
		if b.Answer101(h) != nil {
			return
		}
		_, _ = io.Copy(b.Conn(), in)
		return
	}
}

// readRequest reads a whole request as it stands on the wire.
func readRequest(in *bufio.Reader) (*rawpeer.Head, string, error) {
	h := &rawpeer.Head{}
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, "", err
		}
		h.Raw += line
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			break
		}
		if h.Line == "" {
			h.Line = line
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		h.Fields = append(h.Fields, rawpeer.Field{Name: name, Value: strings.TrimSpace(value)})
	}
	var body []byte
	if h.Fields.Get("Transfer-Encoding") != "" {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return nil, "", err
			}
			n, err := strconv.ParseUint(strings.TrimSpace(line), 16, 31)
			if err != nil {
				return nil, "", err
			}
			p := make([]byte, n+2)
			if n == 0 {
				break
			}
			if _, err := io.ReadFull(in, p); err != nil {
				return nil, "", err
			}
			body = append(body, p[:n]...)
		}
		for { // trailers
			line, err := in.ReadString('\n')
			if err != nil {
				return nil, "", err
			}
			if line == "\r\n" {
				return h, string(body), nil
			}
		}
	}
	n, _ := strconv.Atoi(h.Fields.Get("Content-Length"))
	body = make([]byte, n)
	_, err := io.ReadFull(in, body)
	return h, string(body), err
}

// summary is a request in one line: request line, hosts, what is of the
// connection, content.
func summary(h *rawpeer.Head, body string) string {
	s := h.Line + " " + strings.Join(h.Fields.Values("Host"), "|")
	for _, name := range []string{"Connection", "Upgrade", "HTTP2-Settings", "Expect", "Keep-Alive", "Transfer-Encoding", "Content-Length"} {
		if v := h.Fields.Values(name); v != nil {
			s += fmt.Sprintf(" %s=%s", name, strings.Join(v, "|"))
		}
	}
	if body != "" {
		s += " " + strconv.Quote(body)
	}
	return s
}

// seen returns the whole requests that reached the backend since the last call,
// joined by "; ". A handshake of its own, on a connection of its own, comes
// after them all.
func (rec *recorder) seen() string {
	rec.r.t.Helper()
	rec.n++
	marker := fmt.Sprintf("/marker-%d", rec.n)
	c := rec.r.h1(false)
	defer c.Close()
	rec.r.must(c.WriteString(rawpeer.UpgradeRequest(marker)))
	_, err := c.WantStatus("GET", http.StatusSwitchingProtocols)
	rec.r.must(err)
	var all []string
	for s := range rec.got {
		if strings.HasPrefix(s, "GET "+marker+" ") {
			break
		}
		all = append(all, s)
	}
	return strings.Join(all, "; ")
}
