package load

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Target is what is loaded and how it is spoken to.
type Target struct {
	Addr string      // host:port to dial
	Path string      // of handshakes and requests
	TLS  *tls.Config // nil: cleartext
	HTTP int         // version: 1, 2 or 3
	// Sources are the local addresses that connections come from in turn, all of
	// an IPv4 prefix of at most 30 bits, such as 127.0.0.0/8; zero: the kernel
	// chooses.
	Sources netip.Prefix
	PID     int // of the process whose CPU and memory count; 0: none
}

// ParseTarget reads a ws, wss, http or https URL.
func ParseTarget(s string, version int) (*Target, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, fmt.Errorf("url %q: %w", s, err)
	}
	t := &Target{HTTP: version, Path: u.RequestURI()}
	port := "80"
	switch u.Scheme {
	case "wss", "https":
		port = "443"
		t.TLS = &tls.Config{ServerName: u.Hostname()}
	case "ws", "http":
	default:
		return nil, fmt.Errorf("url %q: the scheme is none of ws, wss, http, https", s)
	}
	if u.Host == "" {
		return nil, fmt.Errorf("url %q: no host", s)
	}
	switch {
	case version < 1 || version > 3:
		return nil, fmt.Errorf("HTTP version %d is none of 1, 2 and 3", version)
	case version == 3 && t.TLS == nil:
		return nil, fmt.Errorf("url %q: HTTP/3 has TLS always; want wss or https", s)
	}
	if u.Port() != "" {
		port = u.Port()
	}
	t.Addr = net.JoinHostPort(u.Hostname(), port)
	return t, nil
}

func (t *Target) scheme() string {
	if t.TLS == nil {
		return "http"
	}
	return "https"
}

// authority is the host as requests name it: a default port is left out.
func (t *Target) authority() string {
	if port := map[string]string{"http": ":80", "https": ":443"}[t.scheme()]; strings.HasSuffix(t.Addr, port) {
		return strings.TrimSuffix(t.Addr, port)
	}
	return t.Addr
}

// dialTime bounds TCP connect and TLS handshake.
const dialTime = 10 * time.Second

// dial opens the n-th connection, with TLS if the target has it.
func (t *Target) dial(ctx context.Context, n int) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	d := net.Dialer{LocalAddr: t.source(n)}
	c, err := d.DialContext(ctx, "tcp", t.Addr)
	if err != nil || t.TLS == nil {
		return c, err
	}
	proto := "h2"
	if t.HTTP == 1 {
		proto = "http/1.1"
	}
	config := t.TLS.Clone()
	config.NextProtos = []string{proto}
	tc := tls.Client(c, config)
	if err := tc.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", t.Addr, err)
	}
	if got := tc.ConnectionState().NegotiatedProtocol; t.HTTP == 2 && got != proto {
		c.Close()
		return nil, fmt.Errorf("%s does not take HTTP/2: ALPN chose %q", t.Addr, got)
	}
	return tc, nil
}

// source is the local address of the n-th connection; nil lets the kernel choose.
func (t *Target) source(n int) net.Addr {
	if !t.Sources.IsValid() {
		return nil
	}
	base := t.Sources.Masked().Addr().As4()
	size := uint32(1) << (32 - t.Sources.Bits())
	// The first and the last address of a prefix are often not usable.
	host := 1 + uint32(n)%(size-2)
	v := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
	v |= host
	return &net.TCPAddr{IP: net.IPv4(byte(v>>24), byte(v>>16), byte(v>>8), byte(v))}
}
