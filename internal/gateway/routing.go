package gateway

import (
	"net"
	"net/http"
	"strconv"
	"strings"

	"wsgate/bridge"
	"wsgate/internal/accesslog"
	"wsgate/internal/config"
	"wsgate/internal/forwarded"
	"wsgate/internal/reverse"
	"wsgate/internal/route"
	"wsgate/internal/upstream"
)

// routing is what a configuration says of requests. It never changes; a reload
// puts another one in its place, and tunnels keep the service they have.
type routing struct {
	config    *config.Config
	table     *route.Table
	routes    []*routed // in the order of the configuration
	byName    map[string]*routed
	upstreams map[string]*upstream.Upstream
	proxies   map[proxyKey]*reverse.Proxy
	policy    *forwarded.Policy
	certs     certificates
}

// routed is a route with what it does.
type routed struct {
	config   *config.Route
	service  *bridge.Service    // nil unless it leads to an upstream
	upstream *upstream.Upstream // the same
	handler  http.Handler       // of ordinary requests
}

// The codes of a request that no route takes, or whose route takes none now.
const (
	codeNoRoute     = "no-route"
	codeMisdirected = "misdirected"
	codeDrained     = "route-drained"
)

// find returns the route of a request, or the status and code that it is
// answered with.
func (g *Gateway) find(q *route.Request, shown *shown, serverName string) (r *routed, status int, code string) {
	t := g.routing.Load()
	i, known := t.table.Lookup(q)
	switch {
	case !known, shown != nil && !shown.authoritative(serverName, hostOf(q.Authority)):
		return nil, http.StatusMisdirectedRequest, codeMisdirected // RFC 9110 section 7.4
	case i < 0:
		return nil, http.StatusNotFound, codeNoRoute
	}
	r = t.routes[i]
	if d := g.drained.Load(); d != nil && (*d)[r.config.Name] {
		return r, http.StatusServiceUnavailable, codeDrained
	}
	return r, 0, ""
}

func hostOf(authority string) string {
	if host, _, err := net.SplitHostPort(authority); err == nil {
		return host
	}
	return strings.Trim(authority, "[]")
}

// serveOffer decides where a handshake goes, on its loop.
func (g *Gateway) serveOffer(o bridge.Offer, on *listener) {
	if !g.routing.Load().config.Requests.WebSocket {
		// Its connection is from before a reload that turned WebSocket off; what it
		// was told cannot be taken back (RFC 8441 section 3).
		g.bridge.Refuse(o, "", &bridge.Refusal{Status: http.StatusNotImplemented, Code: "websocket-off"})
		return
	}
	h, f := o.Handshake(), on.front.Load()
	q := route.Request{
		Listener: f.name, Authority: h.Authority, Target: h.Path, Method: http.MethodGet,
		WebSocket: true, Major: h.Major, Fields: &h.Fields,
	}
	serverName := ""
	if h.Client.TLS != nil {
		serverName = h.Client.TLS.ServerName
	}
	r, status, code := g.find(&q, f.shown, serverName)
	switch {
	case status == http.StatusServiceUnavailable:
		g.bridge.Refuse(o, r.config.Name, &bridge.Refusal{Status: status, Code: code, Fields: bridge.Fields{{Name: "Retry-After", Value: retryAfter}}})
	case status != 0:
		g.bridge.Refuse(o, "", &bridge.Refusal{Status: status, Code: code})
	case r.service != nil:
		r.strip(h)
		g.bridge.Serve(o, r.service)
	case r.config.Redirect != nil:
		g.bridge.Refuse(o, r.config.Name, &bridge.Refusal{
			Status: r.config.Redirect.Status, Code: "redirect", Body: []byte{},
			Fields: bridge.Fields{{Name: "Location", Value: r.location(h.Scheme, h.Authority, h.Path)}},
		})
	default:
		g.bridge.Refuse(o, r.config.Name, r.fixed())
	}
}

const retryAfter = "5" // seconds

// strip keeps what the route says from the server.
func (r *routed) strip(h *bridge.Handshake) {
	for _, what := range r.config.Strip {
		switch what {
		case "subprotocols":
			h.Fields = h.Fields.Without("Sec-WebSocket-Protocol")
		case "extensions":
			h.Fields = h.Fields.Without("Sec-WebSocket-Extensions")
		}
	}
}

// location is the URL of a redirect.
func (r *routed) location(scheme, authority, target string) string {
	d := r.config.Redirect
	if d.Scheme != "" {
		scheme = d.Scheme
	}
	switch {
	case d.Host != "":
		authority = d.Host
	case d.Scheme != "" || d.Port != 0: // the port of the request is that of another scheme
		if host, _, err := net.SplitHostPort(authority); err == nil {
			authority = host
			if strings.Contains(host, ":") {
				authority = "[" + host + "]"
			}
		}
	}
	if d.Port != 0 {
		authority += ":" + strconv.Itoa(d.Port)
	}
	if d.Path != "" {
		target = d.Path
	}
	return scheme + "://" + authority + target
}

// fixed is the fixed answer as a refusal of a handshake.
func (r *routed) fixed() *bridge.Refusal {
	a := r.config.Answer
	f := &bridge.Refusal{Status: a.Status, Code: "answer", Body: []byte(a.Body)}
	for name, v := range a.Headers {
		f.Fields = append(f.Fields, bridge.Field{Name: name, Value: v})
	}
	if a.Body != "" && f.Fields.Count("Content-Type") == 0 {
		f.Fields = append(f.Fields, bridge.Field{Name: "Content-Type", Value: "text/plain; charset=utf-8"})
	}
	return f
}

// serveHTTP decides where an ordinary request goes, on its goroutine.
func (g *Gateway) serveHTTP(w http.ResponseWriter, r *http.Request, on *listener) {
	f := on.front.Load()
	if r.ProtoMajor < 3 && on.udp.Load() != nil {
		w = &alternative{ResponseWriter: w, on: on}
	}
	q := route.Request{Listener: f.name, Authority: r.Host, Target: r.RequestURI, Method: r.Method, Major: r.ProtoMajor, Fields: r.Header}
	serverName := ""
	if r.TLS != nil {
		serverName = r.TLS.ServerName
	}
	to, status, code := g.find(&q, f.shown, serverName)
	if to != nil {
		accesslog.Route(r, to.config.Name)
	}
	if status != 0 {
		accesslog.Reason(r, code)
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", retryAfter)
		}
		reverse.Plain(w, status, code)
		return
	}
	to.handler.ServeHTTP(w, r)
}

// alternative puts Alt-Svc into the final head of an answer, whatever a server
// said of itself there: what is so when the head goes out.
type alternative struct {
	http.ResponseWriter
	on   *listener
	done bool
}

// WriteHeader implements http.ResponseWriter.
func (a *alternative) WriteHeader(status int) {
	if status >= 200 && !a.done {
		a.done = true
		if v := a.on.alternative(); v != "" {
			a.Header().Set("Alt-Svc", v)
		}
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *alternative) Write(p []byte) (int, error) {
	if !a.done {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(p)
}

// Unwrap serves http.ResponseController.
func (a *alternative) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush implements http.Flusher, which httputil.ReverseProxy looks for.
func (a *alternative) Flush() {
	if !a.done {
		a.WriteHeader(http.StatusOK)
	}
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// redirect answers an ordinary request.
func (r *routed) redirect(w http.ResponseWriter, req *http.Request) {
	scheme := "http"
	if req.URL.Scheme == "https" || req.TLS != nil {
		scheme = "https"
	}
	w.Header().Set("Location", r.location(scheme, req.Host, req.RequestURI))
	w.WriteHeader(r.config.Redirect.Status)
}

// answer is the fixed answer to an ordinary request.
func (r *routed) answer(w http.ResponseWriter, _ *http.Request) {
	f := r.fixed()
	for _, x := range f.Fields {
		w.Header().Add(x.Name, x.Value)
	}
	w.WriteHeader(f.Status)
	_, _ = w.Write(f.Body)
}
