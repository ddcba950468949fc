package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"wsgate/wskey"
)

// maxCheckHead bounds the head of an answer to a check, in octets.
const maxCheckHead = 64 << 10

// farewell is how long a server has to answer the Close frame of a check.
const farewell = time.Second

// check asks a server again and again whether it is fit. It is a goroutine of
// the generation and ends with it, or when the server leaves the table.
func (u *Upstream) check(ctx context.Context, p *endpoint) {
	a := u.config.Active
	p.mu.Lock()
	known := p.checked
	p.mu.Unlock()
	if known && !sleep(ctx, time.Duration(u.env.Rand()%uint64(a.Interval))) {
		return // after a reload the checks of a thousand servers do not come at once
	}
	for {
		err := u.checkOnce(ctx, p)
		if ctx.Err() != nil {
			return
		}
		p.checkedUp(u, err)
		if !sleep(ctx, a.Interval-time.Duration(u.env.Rand()%uint64(a.Interval/10+1))) {
			return
		}
	}
}

// sleep waits; false if the context ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// checkOnce is one check. The error says why the server is not fit.
func (u *Upstream) checkOnce(ctx context.Context, p *endpoint) error {
	a := u.config.Active
	ctx, stop := context.WithTimeout(ctx, a.Timeout)
	defer stop()
	conn, err := p.dial(ctx, u)
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	switch a.Kind {
	case CheckHTTP:
		err = checkHTTP(conn, p, a)
	case CheckWebSocket:
		err = checkWebSocket(conn, p, a)
	}
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("no answer in %v", a.Timeout)
	}
	if err != nil {
		return fmt.Errorf("check of %s: %w", a.Path, err)
	}
	return nil
}

func (a *Active) host(p *endpoint) string {
	if a.Host != "" {
		return a.Host
	}
	return p.of.Host
}

// ask sends a GET with those fields and reads the head of the answer.
func ask(conn net.Conn, p *endpoint, a *Active, fields string) (*http.Response, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: wsgate-check\r\n%s\r\n", a.Path, a.host(p), fields); err != nil {
		return nil, err
	}
	return http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxCheckHead)), nil)
}

func checkHTTP(conn net.Conn, p *endpoint, a *Active) error {
	r, err := ask(conn, p, a, "Connection: close\r\n")
	if err != nil {
		return err
	}
	good := r.StatusCode >= 200 && r.StatusCode < 400
	if len(a.Statuses) > 0 {
		good = slices.Contains(a.Statuses, r.StatusCode)
	}
	if !good {
		return fmt.Errorf("status %d", r.StatusCode)
	}
	return nil
}

// checkWebSocket makes an opening handshake (RFC 6455 section 4.1) and takes its
// leave with a Close frame.
func checkWebSocket(conn net.Conn, p *endpoint, a *Active) error {
	key := wskey.New()
	r, err := ask(conn, p, a, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+key+"\r\n")
	switch {
	case err != nil:
		return err
	case r.StatusCode != http.StatusSwitchingProtocols:
		return fmt.Errorf("status %d and no WebSocket", r.StatusCode)
	case !strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		return fmt.Errorf("101 without Upgrade: websocket")
	case !token(r.Header["Connection"], "upgrade"):
		return fmt.Errorf("101 without Connection: Upgrade")
	case r.Header.Get("Sec-Websocket-Accept") != wskey.Accept(key):
		return fmt.Errorf("101 with a wrong Sec-WebSocket-Accept")
	}
	// Close 1000, masked with zeros (sections 5.3 and 7.4.1).
	_, _ = conn.Write([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
	_ = conn.SetReadDeadline(time.Now().Add(farewell))
	_, _ = io.CopyN(io.Discard, conn, maxCheckHead)
	return nil
}

// token reports whether one of the lists holds the token.
func token(lines []string, want string) bool {
	for _, line := range lines {
		for item := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(item), want) {
				return true
			}
		}
	}
	return false
}
