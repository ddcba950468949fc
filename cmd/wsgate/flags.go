package main

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"wsgate/internal/gateway"
)

// addFlags binds the options of `wsgate run` to c, with c's values as defaults.
func addFlags(f *pflag.FlagSet, c *gateway.Config) {
	f.SortFlags = false
	f.StringArrayVar(&c.Listen, "listen", c.Listen, "https://host:port (h3 over UDP, h2 and h1 by ALPN) or http://host:port (h1, and h2 with prior knowledge); repeats; no host means IPv4 and IPv6")
	f.StringVar(&c.Cert, "cert", c.Cert, "PEM certificate chain of the https listeners; read again on SIGHUP")
	f.StringVar(&c.Key, "key", c.Key, "PEM private key of the https listeners; read again on SIGHUP")
	f.BoolVar(&c.SelfSigned, "self-signed", c.SelfSigned, "make a certificate for localhost, 127.0.0.1 and ::1 in memory")
	f.StringVar(&c.Backend, "backend", c.Backend, "ws://, wss://, http://, https://host:port or unix:///path.sock")
	f.StringVar(&c.BackendCA, "backend-ca", c.BackendCA, "PEM certificates that a TLS backend is checked against")
	f.StringVar(&c.BackendServerName, "backend-server-name", c.BackendServerName, "name to ask for and to check at a TLS backend")
	f.StringVar(&c.BackendCert, "backend-cert", c.BackendCert, "PEM client certificate for a TLS backend")
	f.StringVar(&c.BackendKey, "backend-key", c.BackendKey, "PEM key of --backend-cert")
	f.BoolVar(&c.BackendInsecure, "backend-insecure", c.BackendInsecure, "do not check the certificate of a TLS backend")
	f.StringVar(&c.HostHeader, "host-header", "client", "Host at the backend: client, as the client sent it, or backend")

	f.DurationVar(&c.ClientIdle, "client-idle", c.ClientIdle, "end a tunnel whose client sends nothing for so long; 0: off, here and below")
	f.DurationVar(&c.BackendIdle, "backend-idle", c.BackendIdle, "end a tunnel whose backend sends nothing for so long")
	f.DurationVar(&c.Idle, "idle", c.Idle, "end a tunnel in which nothing moves for so long")
	f.DurationVar(&c.MaxLife, "max-life", c.MaxLife, "end a tunnel after so long")
	f.DurationVar(&c.ConnectTimeout, "connect-timeout", c.ConnectTimeout, "for one connection to the backend")
	f.DurationVar(&c.TLSTimeout, "tls-timeout", c.TLSTimeout, "for a TLS handshake with the backend")
	f.DurationVar(&c.OpenTimeout, "open-timeout", c.OpenTimeout, "for a whole WebSocket handshake with the backend")
	f.DurationVar(&c.Linger, "linger", c.Linger, "how long the second direction of a tunnel may outlive the first")
	f.DurationVar(&c.StallTimeout, "stall-timeout", c.StallTimeout, "reset a tunnel whose octets wait for so long")
	f.DurationVar(&c.DrainTime, "drain-time", c.DrainTime, "how long a stop may take")
	f.DurationVar(&c.PingInterval, "ping-interval", c.PingInterval, "send a WebSocket Ping into a direction silent for so long")
	f.DurationVar(&c.KeepAlive, "keepalive", c.KeepAlive, "TCP keep-alive on both legs, and an HTTP/2 PING on quiet connections")
	f.DurationVar(&c.HeaderTimeout, "header-timeout", c.HeaderTimeout, "for a TLS handshake, a preface or the head of a request")
	f.DurationVar(&c.ResponseTimeout, "response-timeout", c.ResponseTimeout, "for the head of the backend's answer to an ordinary request")
	f.DurationVar(&c.IdleConn, "idle-connection", c.IdleConn, "close a front connection without a request for so long")

	f.Var((*size)(&c.MaxHeader), "max-header", "largest head of a request")
	f.IntVar(&c.MaxStreams, "max-streams", c.MaxStreams, "concurrent streams of an HTTP/2 connection")
	f.IntVar(&c.MaxTunnelsPerConn, "max-tunnels-per-conn", c.MaxTunnelsPerConn, "of them tunnels")
	f.IntVar(&c.MaxTunnels, "max-tunnels", c.MaxTunnels, "tunnels in all")
	f.IntVar(&c.MaxTunnelsPerClient, "max-tunnels-per-client", c.MaxTunnelsPerClient, "tunnels of one address, of one /64 with IPv6")
	f.IntVar(&c.MaxPending, "max-pending", c.MaxPending, "WebSocket handshakes in flight to the backend")
	f.IntVar(&c.MaxHandshakes, "max-tls-handshakes", c.MaxHandshakes, "TLS handshakes in progress; above it accepting waits")
	f.Var((*size64)(&c.BufferMemory), "buffer-memory", "octets that all connections together may queue")

	f.BoolVar(&c.NoH3, "no-h3", c.NoH3, "serve no HTTP/3 beside HTTP/2 and HTTP/1.1 on https listeners")
	f.DurationVar(&c.AltSvc, "alt-svc", c.AltSvc, "how long clients may remember that HTTP/3 is served; 0: they are not told")
	f.IntVar(&c.QUICRetryAbove, "quic-retry-above", c.QUICRetryAbove, "QUIC handshakes under way with clients who have not shown their address; above it they are asked to")
	f.BoolVar(&c.NoWebSocket, "no-websocket", c.NoWebSocket, "carry ordinary requests only; extended CONNECT is not announced")
	f.Var(&choice{set: func(v string) { c.SynthesizeKey = v == "synthesize" }, is: "reject", of: []string{"reject", "synthesize"}}, "missing-key", "an HTTP/1.1 handshake without Sec-WebSocket-Key")
	f.Var(&choice{set: func(v string) { c.RejectNoVersion = v == "reject" }, is: "repair", of: []string{"repair", "reject"}}, "missing-version", "an HTTP/2 handshake without Sec-WebSocket-Version")
	f.Var(&choice{set: func(v string) { c.PathDots = v == "allow" }, is: "refuse", of: []string{"refuse", "allow"}}, "path-dots", "targets with . and .. segments")
	f.StringSliceVar(&c.TrustedProxies, "trusted-proxies", c.TrustedProxies, "CIDR ranges whose X-Forwarded-* are believed")
	f.BoolVar(&c.NoVia, "no-via", c.NoVia, "send no Via to the backend; loops are then not found")

	f.IntVar(&c.Loops, "loops", c.Loops, "event loops; 0: one per core, at most 4")
	f.StringVar(&c.Admin, "admin", c.Admin, "address for /live, /ready, /counters and pprof, say 127.0.0.1:9901")
	f.Var(&choice{set: func(v string) { c.Log = v }, is: c.Log, of: []string{"text", "json", "off"}}, "log", "format of the log on standard error")
	f.Var(&level{&c.LogLevel}, "log-level", "debug, info, warn or error")
}

// choice is a flag with few words to choose from.
type choice struct {
	set func(string)
	is  string
	of  []string
}

func (c *choice) String() string { return c.is }
func (c *choice) Type() string   { return strings.Join(c.of, "|") }

func (c *choice) Set(v string) error {
	for _, w := range c.of {
		if v == w {
			c.is = v
			c.set(v)
			return nil
		}
	}
	return fmt.Errorf("%q is none of %s", v, strings.Join(c.of, ", "))
}

type level struct{ l *slog.Level }

func (l *level) String() string { return strings.ToLower(l.l.String()) }
func (l *level) Type() string   { return "level" }

func (l *level) Set(v string) error {
	if err := l.l.UnmarshalText([]byte(v)); err != nil {
		return fmt.Errorf("%q is none of debug, info, warn, error", v)
	}
	return nil
}

// size is a flag in octets: a number, or one with KiB, MiB or GiB.
type (
	size   int
	size64 int64
)

var units = []struct {
	name string
	n    int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func parseSize(s string) (int64, error) {
	for _, u := range units {
		if num, ok := strings.CutSuffix(s, u.name); ok {
			n, err := strconv.ParseInt(num, 10, 32)
			if err != nil || n < 0 {
				break
			}
			return n * u.n, nil
		}
	}
	if n, err := strconv.ParseInt(s, 10, 48); err == nil && n >= 0 {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no size; say for example 64KiB", s)
}

func formatSize(n int64) string {
	for _, u := range units {
		if n >= u.n && n%u.n == 0 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	return "0"
}

func (s *size) String() string   { return formatSize(int64(*s)) }
func (s *size) Type() string     { return "size" }
func (s *size64) String() string { return formatSize(int64(*s)) }
func (s *size64) Type() string   { return "size" }

func (s *size) Set(v string) error {
	n, err := parseSize(v)
	if err == nil && (n < 1024 || n > 16<<20) {
		err = fmt.Errorf("%q is not between 1KiB and 16MiB", v)
	}
	*s = size(n)
	return err
}

func (s *size64) Set(v string) error {
	n, err := parseSize(v)
	*s = size64(n)
	return err
}
