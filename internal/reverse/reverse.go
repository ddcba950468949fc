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

	"wsgate/bridge"
	"wsgate/internal/forwarded"
	"wsgate/internal/loop"
	"wsgate/internal/upstream"
)

// Config says how requests go out.
type Config struct {
	// Upstream chooses the server of each request, and how long it may take.
	Upstream  *upstream.Upstream
	Forwarded *forwarded.Policy
	MaxHeader int64 // of an answer's head, octets
	// ResponseTimeout is how long a server may take for the head of an answer;
	// 0: as the upstream has it, less: off.
	ResponseTimeout time.Duration
}

func (c *Config) responseTimeout() time.Duration {
	switch d := c.ResponseTimeout; {
	case d == 0:
		return c.Upstream.ResponseTimeout()
	default:
		return max(d, 0)
	}
}

// Failed is told why a request could not be answered by a server, with the
// reason code that the client got. Called on the request's goroutine.
type Failed func(r *http.Request, code string, err error)

// Proxy is the handler of ordinary requests. It is safe for concurrent use.
type Proxy struct {
	config  Config
	failed  Failed
	pool    *http.Transport
	reverse httputil.ReverseProxy
}

// New makes the handler. failed may be nil.
func New(c Config, failed Failed) *Proxy {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // and nothing else: net/http's HTTP/2 stays off
	p := &Proxy{config: c, failed: failed}
	p.pool = &http.Transport{
		Protocols:              protocols,
		DisableCompression:     true,
		DialContext:            c.dial, // TLS too: the pool need not know
		ResponseHeaderTimeout:  c.responseTimeout(),
		MaxResponseHeaderBytes: c.MaxHeader,
		ExpectContinueTimeout:  time.Second,
		MaxIdleConnsPerHost:    1000,
		IdleConnTimeout:        90 * time.Second,
	}
	p.reverse = httputil.ReverseProxy{
		Rewrite: p.rewrite, Transport: transport{p.pool}, BufferPool: &bufferPool{},
		ModifyResponse: answered, ErrorHandler: p.fail,
		ErrorLog: log.New(io.Discard, "", 0), // a cut answer stands in the access log
	}
	return p
}

// Close closes the connections that no request is using. Requests go on.
func (p *Proxy) Close() { p.pool.CloseIdleConnections() }

// stay is a request's visit to the upstream; it is in the request's context.
type stay struct {
	visit  *upstream.Visit
	secure bool // the client came over https
}

type stayKey struct{}

func stayOf(r *http.Request) *stay { return r.Context().Value(stayKey{}).(*stay) }

// ServeHTTP answers what is the gateway's own to answer and forwards the rest.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
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
	v, err := p.config.Upstream.Visit(r)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	defer v.Leave()
	s := &stay{visit: v, secure: scheme(r) == "https"}
	p.reverse.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), stayKey{}, s)))
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
func (p *Proxy) rewrite(pr *httputil.ProxyRequest) {
	in, out := pr.In, pr.Out
	out.URL.Scheme = "http" // the pool's; transport sets the host
	target(out.URL, in.RequestURI)
	out.Host = in.Host
	// Filled when the request's content has been read to its end.
	out.Trailer = in.Trailer
	o := forwarded.Origin{Major: in.ProtoMajor, Scheme: scheme(in), Host: in.Host}
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

// scheme is what the client came by.
func scheme(in *http.Request) string {
	switch {
	case in.URL.Scheme != "": // the front's own knowledge
		return in.URL.Scheme
	case in.TLS != nil:
		return "https"
	}
	return "http"
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

// answered looks at the head of an answer. A 101 that nobody asked for is
// refused (RFC 9110 section 7.8).
func answered(r *http.Response) error {
	if r.StatusCode == http.StatusSwitchingProtocols {
		return errUpgrade
	}
	s := stayOf(r.Request)
	if c := s.visit.Answered(r.StatusCode, s.secure); c != "" {
		r.Header.Add("Set-Cookie", c)
	}
	return nil
}

var errUpgrade = errors.New("backend switches protocols although nobody asked")

// fail answers for an upstream that did not.
func (p *Proxy) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, code := classify(err)
	p.report(r, code, err)
	if status == 0 {
		panic(http.ErrAbortHandler) // the client has left, or broke its own request
	}
	// Visit.Again has heard of a dial that failed.
	if s, ok := r.Context().Value(stayKey{}).(*stay); ok && !errors.As(err, new(*dialError)) && r.Context().Err() == nil {
		s.visit.Failed(err)
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", retryAfter)
	}
	Plain(w, status, code)
}

// retryAfter is what a client is asked to wait, in seconds.
const retryAfter = "5"

func (p *Proxy) report(r *http.Request, code string, err error) {
	if p.failed != nil {
		p.failed(r, code, err)
	}
}

// classify turns an error of the transport into a status and a reason code.
func classify(err error) (int, string) {
	var refused *bridge.Refusal
	var op *net.OpError
	var timeout net.Error
	isTimeout := errors.As(err, &timeout) && timeout.Timeout()
	switch {
	case errors.Is(err, context.Canceled):
		return 0, "client-gone"
	case errors.As(err, &refused): // there was no place
		return refused.Status, refused.Code
	case loop.PortsExhausted(err):
		return http.StatusServiceUnavailable, "ports-exhausted"
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
