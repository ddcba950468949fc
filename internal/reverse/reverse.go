// Package reverse carries ordinary HTTP requests to the backend over pooled
// HTTP/1.1 connections, by httputil.ReverseProxy.
package reverse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"wsgate/internal/forwarded"
)

// Config says where requests go. All durations: 0 means off.
type Config struct {
	Network string      // "tcp" or "unix"
	Address string      // host:port, or the path of the socket
	TLS     *tls.Config // nil: plain. ALPN is pinned to http/1.1
	// HostHeader replaces the client's Host; "" keeps it.
	HostHeader      string
	Forwarded       *forwarded.Policy
	ConnectTimeout  time.Duration
	TLSTimeout      time.Duration
	ResponseTimeout time.Duration // from the request's end to the head of the answer
	KeepAlive       time.Duration // of TCP
	MaxHeader       int64         // of an answer's head, octets
}

// Failed is told why a request could not be answered by the backend, with the
// reason code that the client got. Called on the request's goroutine.
type Failed func(r *http.Request, code string, err error)

// New makes the handler. It is safe for concurrent use. failed may be nil.
func New(c Config, failed Failed) http.Handler {
	plain, secure := c.dialers()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // and nothing else: net/http's HTTP/2 stays off
	t := &http.Transport{
		Protocols:              protocols,
		DisableCompression:     true,
		DialContext:            plain,
		DialTLSContext:         secure,
		ResponseHeaderTimeout:  c.ResponseTimeout,
		MaxResponseHeaderBytes: c.MaxHeader,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConnsPerHost:    100,
		IdleConnTimeout:        90 * time.Second,
	}
	p := &proxy{config: c, failed: failed}
	p.reverse = httputil.ReverseProxy{
		Rewrite: p.rewrite, Transport: transport{t}, BufferPool: &bufferPool{},
		ModifyResponse: noUpgrade, ErrorHandler: p.fail,
		ErrorLog: log.New(io.Discard, "", 0), // a cut answer stands in the access log
	}
	return p
}

type proxy struct {
	config  Config
	failed  Failed
	reverse httputil.ReverseProxy
}

// ServeHTTP answers what is the gateway's own to answer and forwards the rest.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Method == http.MethodTrace: // it would show a client's cookies to a script
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS")
		Plain(w, http.StatusMethodNotAllowed, "trace-off")
		return
	case r.Method == http.MethodOptions && !forwards(r): // RFC 9110 section 7.6.2
		w.Header().Set("Allow", "GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS")
		w.WriteHeader(http.StatusNoContent)
		return
	case p.config.Forwarded.Loops(r.Header["Via"]):
		p.report(r, "loop", nil)
		Plain(w, http.StatusBadGateway, "loop")
		return
	}
	p.reverse.ServeHTTP(w, r)
}

// forwards counts Max-Forwards down and reports whether the request may go on.
func forwards(r *http.Request) bool {
	v := r.Header.Get("Max-Forwards")
	n, err := strconv.ParseUint(v, 10, 31)
	if v == "" || err != nil {
		return true
	}
	if n > 0 {
		r.Header.Set("Max-Forwards", strconv.FormatUint(n-1, 10))
	}
	return n > 0
}

// rewrite makes the backend's request. Hop-by-hop fields and those named in
// Connection are gone by now, so the gateway's own can not be removed that way
// (RFC 9110 section 7.6.1).
func (p *proxy) rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out
	out.URL.Scheme = "http"
	if p.config.TLS != nil {
		out.URL.Scheme = "https"
	}
	out.URL.Host = p.config.Address
	if p.config.Network == "unix" {
		out.URL.Host = "unix"
	}
	target(out.URL, in.RequestURI)
	out.Host = in.Host
	if p.config.HostHeader != "" {
		out.Host = p.config.HostHeader
	}
	// Filled when the request's content has been read to its end.
	out.Trailer = in.Trailer
	o := forwarded.Origin{Major: in.ProtoMajor, Scheme: in.URL.Scheme, Host: in.Host}
	switch {
	case o.Scheme != "": // the front's own knowledge
	case in.TLS != nil:
		o.Scheme = "https"
	default:
		o.Scheme = "http"
	}
	if a, err := netip.ParseAddrPort(in.RemoteAddr); err == nil {
		o.Remote = a.Addr()
	}
	// ReverseProxy has taken the forwarding fields out; a trusted proxy's are
	// looked up in the request as it came.
	p.config.Forwarded.Apply(o, outgoing{out.Header, in.Header})
	if p.config.Forwarded.Trusts(o.Remote) && in.Header["Forwarded"] != nil {
		out.Header["Forwarded"] = in.Header["Forwarded"]
	}
}

// outgoing are the fields of a request on its way out; what the client said is
// read from those it came with.
type outgoing struct {
	http.Header
	in http.Header
}

func (o outgoing) Get(name string) string { return strings.Join(o.in.Values(name), ", ") }

// target sets the request target so that it goes out octet by octet as it came;
// transport sees to a path that begins with "//".
func target(u *url.URL, raw string) {
	path, query, has := strings.Cut(raw, "?")
	u.Opaque, u.RawQuery, u.ForceQuery = path, query, has && query == ""
}

// noUpgrade refuses a 101 that nobody asked for (RFC 9110 section 7.8).
func noUpgrade(r *http.Response) error {
	if r.StatusCode == http.StatusSwitchingProtocols {
		return errUpgrade
	}
	return nil
}

var errUpgrade = errors.New("backend switches protocols although nobody asked")

// fail answers for a backend that did not.
func (p *proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, code := classify(err)
	p.report(r, code, err)
	if status == 0 {
		panic(http.ErrAbortHandler) // the client has left, or broke its own request
	}
	Plain(w, status, code)
}

func (p *proxy) report(r *http.Request, code string, err error) {
	if p.failed != nil {
		p.failed(r, code, err)
	}
}

// classify turns an error of the transport into a status and a reason code.
func classify(err error) (int, string) {
	var op *net.OpError
	var dns *net.DNSError
	var timeout net.Error
	isTimeout := errors.As(err, &timeout) && timeout.Timeout()
	switch {
	case errors.Is(err, context.Canceled):
		return 0, "client-gone"
	case errors.As(err, &dns):
		return http.StatusBadGateway, "dns-failed"
	case errors.As(err, &op) && op.Op == "dial":
		if isTimeout {
			return http.StatusGatewayTimeout, "connect-timeout"
		}
		return http.StatusBadGateway, "connect-failed"
	case isTimeout && strings.Contains(err.Error(), "TLS handshake"):
		return http.StatusGatewayTimeout, "tls-timeout"
	case isTimeout:
		return http.StatusGatewayTimeout, "response-timeout"
	case errors.As(err, new(*tls.CertificateVerificationError)), errors.As(err, new(tls.RecordHeaderError)), errors.As(err, new(tls.AlertError)):
		return http.StatusBadGateway, "tls-failed"
	}
	return http.StatusBadGateway, "bad-answer"
}

// Plain is an answer of the gateway's own: one line with its reason code, which
// is in the log as well.
func Plain(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, fmt.Sprintf("%d %s: %s\n", status, strings.ToLower(http.StatusText(status)), code))
}

// bufferPool lends httputil.ReverseProxy its copy buffers.
type bufferPool struct{ pool sync.Pool }

func (b *bufferPool) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 32<<10)
}

func (b *bufferPool) Put(p []byte) { b.pool.Put(&p) }
