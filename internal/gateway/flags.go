package gateway

import (
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"wsgate/internal/config"
)

// Config is the short form of a configuration, as the flags of wsgate run say
// it: one backend for all requests. In durations and limits 0 means off.
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

	NoH3           bool          // https listeners serve no HTTP/3
	AltSvc         time.Duration // how long clients may remember that they do
	QUICRetryAbove int           // QUIC handshakes with clients who have not shown their address

	NoWebSocket     bool
	SynthesizeKey   bool // HTTP/1.1 handshakes without a key get one
	RejectNoVersion bool // HTTP/2 handshakes without a version are refused
	PathDots        bool
	NoVia           bool
	TrustedProxies  []string // CIDR
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
		BufferMemory: 1 << 30, AltSvc: 10 * time.Minute, QUICRetryAbove: 200, Log: "text",
	}
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

// backendName is the upstream of the short form, and its route.
const backendName = "backend"

// flagOf names the flags that stand for paths of a configuration.
var flagOf = map[string]string{
	"listeners":                         "--listen",
	"listeners.address":                 "--listen",
	"listeners.tls":                     "--cert",
	"certificates":                      "--cert",
	"certificates.cert":                 "--cert",
	"certificates.key":                  "--key",
	"certificates.self_signed":          "--self-signed",
	"upstreams.backend.servers.address": "--backend",
	"upstreams.backend.tls":             "--backend",
	"upstreams.backend.tls.ca":          "--backend-ca",
	"upstreams.backend.tls.cert":        "--backend-cert",
	"upstreams.backend.host":            "--host-header",
	"requests.trusted_proxies":          "--trusted-proxies",
	"admin.address":                     "--admin",
	"drain.time":                        "--drain-time",
	"limits.header":                     "--max-header",
}

// Whole is the same as a whole configuration, checked.
func (c *Config) Whole() (*config.Config, error) {
	w := config.Default()
	w.Flags(flagOf)
	if err := c.listeners(w); err != nil {
		return nil, err
	}
	if c.Backend == "" {
		return nil, wrong("--backend", "missing; say for example --backend ws://127.0.0.1:3000")
	}
	w.Upstreams = map[string]*config.Upstream{backendName: c.upstream()}
	w.Routes = []config.Route{{Name: backendName, Upstream: backendName}}
	w.Limits = config.Limits{
		Header: config.Size(c.MaxHeader), Streams: c.MaxStreams, TunnelsPerConnection: c.MaxTunnelsPerConn,
		Tunnels: c.MaxTunnels, TunnelsPerClient: c.MaxTunnelsPerClient, Pending: c.MaxPending,
		TLSHandshakes: c.MaxHandshakes, BufferMemory: config.Size(c.BufferMemory),
	}
	d := func(t time.Duration) config.Duration { return config.Duration(t) }
	w.Timeouts = config.Timeouts{
		Header: d(c.HeaderTimeout), IdleConnection: d(c.IdleConn), Keepalive: d(c.KeepAlive),
		Idle: d(c.Idle), ClientIdle: d(c.ClientIdle), BackendIdle: d(c.BackendIdle), MaxLife: d(c.MaxLife),
		Linger: d(c.Linger), Stall: d(c.StallTimeout), Ping: d(c.PingInterval),
	}
	w.Requests.WebSocket, w.Requests.Via, w.Requests.TrustedProxies = !c.NoWebSocket, !c.NoVia, c.TrustedProxies
	if c.SynthesizeKey {
		w.Requests.MissingKey = "synthesize"
	}
	if c.RejectNoVersion {
		w.Requests.MissingVersion = "reject"
	}
	if c.PathDots {
		w.Requests.PathDots = "allow"
	}
	w.Drain.Time = d(c.DrainTime)
	w.Log = config.Log{Format: c.Log, Level: strings.ToLower(c.LogLevel.String())}
	w.Admin.Address, w.Loops = c.Admin, c.Loops
	return w, w.Check()
}

// listeners reads --listen and the flags of certificates.
func (c *Config) listeners(w *config.Config) error {
	anyTLS := false
	for _, s := range c.Listen {
		scheme, addr, ok := strings.Cut(s, "://")
		if !ok || scheme != "https" && scheme != "http" {
			return wrong("--listen", "%q is no https://host:port or http://host:port", s)
		}
		addr = strings.TrimSuffix(addr, "/")
		if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
			return wrong("--listen", "%q has no port; say for example %s://:8443", s, scheme)
		}
		l := config.Listener{Name: s, Address: addr, AltSvc: config.Duration(c.AltSvc), QUIC: config.QUIC{RetryAbove: max(c.QUICRetryAbove, 1)}}
		if scheme == "https" {
			anyTLS = true
			l.TLS = &config.ListenerTLS{MinVersion: "1.2"}
			if c.NoH3 {
				l.Protocols = []string{"h1", "h2"}
			}
		}
		w.Listeners = append(w.Listeners, l)
	}
	if len(c.Listen) == 0 {
		return wrong("--listen", "nothing to listen on; say for example --listen https://:8443")
	}
	if !anyTLS {
		return nil
	}
	x := config.Certificate{Cert: c.Cert, Key: c.Key}
	switch {
	case c.SelfSigned && (c.Cert != "" || c.Key != ""):
		return wrong("--self-signed", "not together with --cert and --key")
	case c.SelfSigned:
		x.SelfSigned = []string{"localhost", "127.0.0.1", "::1"}
	case c.Cert == "" || c.Key == "":
		return wrong("--cert", "an https listener needs --cert and --key, or --self-signed")
	}
	w.Certificates = []config.Certificate{x}
	return nil
}

// upstream is the one backend.
func (c *Config) upstream() *config.Upstream {
	u := config.DefaultUpstream()
	u.Servers = []config.Server{{Address: c.Backend, Weight: 1}}
	if c.HostHeader != "" {
		u.Host = c.HostHeader
	}
	if c.BackendCA != "" || c.BackendServerName != "" || c.BackendCert != "" || c.BackendKey != "" || c.BackendInsecure {
		u.TLS = &config.UpstreamTLS{CA: c.BackendCA, ServerName: c.BackendServerName, Cert: c.BackendCert, Key: c.BackendKey, Insecure: c.BackendInsecure}
	}
	d := func(t time.Duration) config.Duration { return config.Duration(t) }
	u.Timeouts = config.UpstreamTimeouts{
		Connect: d(c.ConnectTimeout), TLS: d(c.TLSTimeout), Open: d(c.OpenTimeout), Response: d(c.ResponseTimeout), Keepalive: d(c.KeepAlive),
	}
	return u
}
