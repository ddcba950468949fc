// Package gateway puts the rooms of the house together: loops, listeners, the
// two fronts, the bridge and the backend. It is what cmd/wsgate runs and what
// end-to-end tests start.
package gateway

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"
	"time"
)

// Config is all that a gateway is told. In durations and limits 0 means off.
// Default returns one with the documented values.
type Config struct {
	Listen     []string // "https://host:port" or "http://host:port"
	Cert, Key  string   // PEM files of the https listeners
	SelfSigned bool     // make a certificate in memory instead
	Backend    string   // ws, wss, http, https or unix URL

	BackendCA         string
	BackendServerName string
	BackendCert       string
	BackendKey        string
	BackendInsecure   bool
	HostHeader        string // "backend", or "" to keep the client's

	ClientIdle, BackendIdle, Idle, MaxLife time.Duration
	ConnectTimeout, TLSTimeout             time.Duration
	OpenTimeout, Linger, StallTimeout      time.Duration
	DrainTime, PingInterval, KeepAlive     time.Duration
	HeaderTimeout, ResponseTimeout         time.Duration
	IdleConn                               time.Duration // front connections without a request

	MaxHeader           int // octets
	MaxStreams          int
	MaxTunnelsPerConn   int
	MaxTunnels          int
	MaxTunnelsPerClient int
	MaxPending          int
	MaxHandshakes       int   // TLS handshakes in progress
	BufferMemory        int64 // octets

	NoWebSocket     bool
	SynthesizeKey   bool // HTTP/1.1 handshakes without a key get one
	RejectNoVersion bool // HTTP/2 handshakes without a version are refused
	PathDots        bool
	NoVia           bool
	TrustedProxies  []string // CIDR
	Cores           int      // processors this process may use; 0: GOMAXPROCS
	Loops           int      // 0: one per core, at most 4
	Admin           string   // address; "" means none
	Log             string   // "text", "json" or "off"
	LogLevel        slog.Level
}

// Default returns the documented defaults.
func Default() Config {
	return Config{
		Idle: time.Hour, ConnectTimeout: 3 * time.Second, TLSTimeout: 5 * time.Second, OpenTimeout: 10 * time.Second,
		Linger: 30 * time.Second, StallTimeout: time.Minute, DrainTime: 30 * time.Second, KeepAlive: 30 * time.Second,
		HeaderTimeout: 10 * time.Second, ResponseTimeout: time.Minute, IdleConn: 3 * time.Minute,
		MaxHeader: 64 << 10, MaxStreams: 250, MaxTunnelsPerConn: 200, MaxPending: 1000, MaxHandshakes: 256,
		BufferMemory: 1 << 30, Log: "text",
	}
}

// Settle fills in the cores, from GOMAXPROCS, which knows the limit of a
// container, and the loops. Who changes GOMAXPROCS calls it before.
func (c *Config) Settle() {
	if c.Cores <= 0 {
		c.Cores = runtime.GOMAXPROCS(0)
	}
	if c.Loops <= 0 {
		c.Loops = min(c.Cores, 4)
	}
}

// off stands for "never" where a wire package takes 0 for its default.
const off = 10 * 365 * 24 * time.Hour

func orOff(d time.Duration) time.Duration {
	if d <= 0 {
		return off
	}
	return d
}

func orMany(n int) int {
	if n <= 0 {
		return 1 << 30
	}
	return n
}

// ConfigError says what is wrong with which option.
type ConfigError struct {
	Option string // as on the command line
	Err    error
}

func (e *ConfigError) Error() string { return e.Option + ": " + e.Err.Error() }
func (e *ConfigError) Unwrap() error { return e.Err }

func wrong(option, format string, args ...any) error {
	return &ConfigError{Option: option, Err: fmt.Errorf(format, args...)}
}

// front is a parsed --listen.
type front struct {
	name string // as given, for logs
	tls  bool
	addr string
}

func parseListen(s string) (front, error) {
	scheme, addr, ok := strings.Cut(s, "://")
	if !ok || scheme != "https" && scheme != "http" {
		return front{}, wrong("--listen", "%q is no https://host:port or http://host:port", s)
	}
	addr = strings.TrimSuffix(addr, "/")
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return front{}, wrong("--listen", "%q has no port; say for example %s://:8443", s, scheme)
	}
	return front{s, scheme == "https", addr}, nil
}

// backend is a parsed --backend.
type backend struct {
	network, address string
	tls              bool
	host             string // for Host and the server's name
}

func parseBackend(s string) (backend, error) {
	if s == "" {
		return backend{}, wrong("--backend", "missing; say for example --backend ws://127.0.0.1:3000")
	}
	u, err := url.Parse(s)
	if err != nil {
		return backend{}, wrong("--backend", "%q is no URL: %v", s, errors.Unwrap(err))
	}
	var up backend
	switch u.Scheme {
	case "ws", "http":
		up = backend{network: "tcp", host: u.Host}
	case "wss", "https":
		up = backend{network: "tcp", host: u.Host, tls: true}
	case "unix":
		if u.Host != "" || u.Path == "" {
			return backend{}, wrong("--backend", "%q names no socket; say for example unix:///run/app.sock", s)
		}
		return backend{network: "unix", address: u.Path, host: "localhost"}, nil
	default:
		return backend{}, wrong("--backend", "%q has none of the schemes ws, wss, http, https, unix", s)
	}
	if u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return backend{}, wrong("--backend", "%q has to be scheme://host:port and no more", s)
	}
	port := u.Port()
	if port == "" {
		port = "80"
		if up.tls {
			port = "443"
		}
	}
	up.address = net.JoinHostPort(u.Hostname(), port)
	return up, nil
}

// backendTLS makes the client side of TLS backends. ALPN is pinned to
// http/1.1, on which alone an Upgrade can ride.
func (c *Config) backendTLS(up backend) (*tls.Config, error) {
	if !up.tls {
		if c.BackendCA != "" || c.BackendServerName != "" || c.BackendCert != "" || c.BackendInsecure {
			return nil, wrong("--backend", "%q is no TLS backend, but TLS options are given; say wss:// or https://", c.Backend)
		}
		return nil, nil
	}
	host, _, _ := net.SplitHostPort(up.address)
	t := &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, ServerName: host,
		InsecureSkipVerify: c.BackendInsecure, DynamicRecordSizingDisabled: true,
		ClientSessionCache: tls.NewLRUClientSessionCache(256),
	}
	if c.BackendServerName != "" {
		t.ServerName = c.BackendServerName
	}
	if c.BackendCA != "" {
		pem, err := os.ReadFile(c.BackendCA)
		if err != nil {
			return nil, wrong("--backend-ca", "%w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, wrong("--backend-ca", "%q holds no PEM certificate", c.BackendCA)
		}
	}
	if (c.BackendCert == "") != (c.BackendKey == "") {
		return nil, wrong("--backend-cert", "a client certificate takes --backend-cert and --backend-key")
	}
	if c.BackendCert != "" {
		pair, err := tls.LoadX509KeyPair(c.BackendCert, c.BackendKey)
		if err != nil {
			return nil, wrong("--backend-cert", "%w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

func (c *Config) trusted() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range c.TrustedProxies {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err2 := netip.ParseAddr(s)
			if err2 != nil {
				return nil, wrong("--trusted-proxies", "%q is no address and no CIDR range", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
