package head

import (
	"context"
	"net/http"
	"strings"

	"wsgate/bridge"
	"wsgate/internal/exchange"
)

// EndToEnd copies the fields that a backend may see.
func (q *Request) EndToEnd() bridge.Fields {
	f := make(bridge.Fields, 0, len(q.Fields))
	cookie := false
	for i := range q.Fields {
		name, value := q.Fields[i].Name, q.Fields[i].Value
		switch name {
		case "host", "te", "expect", "content-length", "sec-websocket-key", "http2-settings":
			continue
		case "cookie":
			if cookie {
				continue
			}
			cookie = true
			if q.crumbs > 1 {
				value = q.cookie()
			}
		}
		f = append(f, bridge.Field{Name: name, Value: value})
	}
	return f
}

// HTTP makes the http.Request of an ordinary request, without content. Its URL has
// the given scheme; ctx is what exchange.New takes of a context. end says that
// there is no content.
func (q *Request) HTTP(ctx context.Context, major int, scheme, remote string, client *bridge.Client, end bool) *http.Request {
	u := exchange.URL(q.Path)
	u.Scheme = scheme
	host := q.Authority
	if q.have&pAuthority == 0 {
		host = q.Host
	}
	proto := "HTTP/2.0"
	if major == 3 {
		proto = "HTTP/3.0"
	}
	r := &http.Request{
		Method: q.Method, URL: u, Proto: proto, ProtoMajor: major,
		Header: q.httpHeader(), Host: host, RemoteAddr: remote, RequestURI: q.Path,
		TLS: client.TLS, ContentLength: q.Length,
	}
	if end {
		r.ContentLength = 0
	}
	for _, v := range r.Header["Trailer"] {
		for _, name := range strings.Split(v, ",") {
			name = http.CanonicalHeaderKey(strings.TrimSpace(name))
			switch name {
			case "Transfer-Encoding", "Trailer", "Content-Length", "":
				continue // RFC 9110 section 6.5.1
			}
			if r.Trailer == nil {
				r.Trailer = make(http.Header)
			}
			r.Trailer[name] = nil
		}
	}
	delete(r.Header, "Trailer")
	return r.WithContext(ctx)
}

// httpHeader is the edge where fields become an http.Header.
func (q *Request) httpHeader() http.Header {
	h := make(http.Header, len(q.Fields))
	values := make([]string, len(q.Fields)) // one allocation for the common case
	cookie := false
	for i := range q.Fields {
		name, value := q.Fields[i].Name, q.Fields[i].Value
		switch name {
		case "host", "te", "http2-settings":
			continue
		case "cookie":
			if cookie {
				continue
			}
			cookie = true
			if q.crumbs > 1 {
				value = q.cookie()
			}
		}
		key := http.CanonicalHeaderKey(name)
		if had := h[key]; had != nil {
			h[key] = append(had, value)
			continue
		}
		values[0] = value
		h[key] = values[:1:1]
		values = values[1:]
	}
	return h
}

// Trailers makes a header of a trailer section (RFC 9113 section 8.1). The
// string says why it is malformed.
func Trailers(fields bridge.Fields) (http.Header, string) {
	if len(fields) == 0 {
		return nil, ""
	}
	h := make(http.Header, len(fields))
	for i := range fields {
		name, value := fields[i].Name, fields[i].Value
		if strings.HasPrefix(name, ":") {
			return nil, "pseudo-header field in trailers"
		}
		var q Request
		q.Length = -1
		if why := q.regular(name, value); why != "" {
			return nil, why
		}
		switch name {
		case "te", "host", "content-length", "trailer", "cookie", "authorization":
			continue // RFC 9110 section 6.5.1: never merged into a head
		}
		h.Add(name, value)
	}
	return h, ""
}
