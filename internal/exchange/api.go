// Package exchange joins an ordinary HTTP request on an event loop to the
// goroutine that runs its http.Handler. The wire packages h1 and h2 own the
// framing; this package owns the two bounded pipes between.
package exchange

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Responder is the wire's end of one exchange: an h2 stream or an h1
// connection. Its methods are called on the loop only and never call the
// Exchange back before they return.
type Responder interface {
	// Interim sends a 1xx answer. The header belongs to the Responder from now on.
	Interim(status int, h http.Header)
	// Head sends the final head. length is the Content-Length the handler set,
	// -1 if none. With end the answer is over with it: no body, no trailers.
	// The fields are end-to-end already; Date is in them.
	Head(status int, h http.Header, length int64, end bool)
	// Room is how much Write takes now; 0 means wait for Exchange.Writable.
	Room() int
	// Write takes a prefix of p as content.
	Write(p []byte) int
	// End ends the content in order, with trailers if there are any.
	End(trailer http.Header)
	// Abort says that the answer cannot be completed: RST_STREAM
	// INTERNAL_ERROR on h2, closing the connection on h1.
	Abort()
	// Credit says that the handler consumed n octets of the request's content.
	Credit(n int)
	// Done says that the handler has returned: its slot is free. It is the
	// last call. If the request's content was not read to its end the wire
	// decides what becomes of it.
	Done()
}

// Config is what all exchanges of a front share. It is never changed after use.
type Config struct {
	Handler http.Handler
	// Server is put into each request's context (http.ServerContextKey), which
	// httputil.ReverseProxy needs to abort truncated answers.
	Server *http.Server
	// Context is the parent of each request's context; nil means Background.
	Context context.Context
	// StallTimeout ends an exchange whose client takes nothing of a waiting
	// answer for so long; 0 means never.
	StallTimeout time.Duration
	// Panicked is told of panics of the handler other than
	// http.ErrAbortHandler, on the handler's goroutine; nil means nobody is.
	Panicked func(r *http.Request, value any, stack []byte)
}

// BodyWindow is the bound on request content that is held for a handler: what
// an h2 stream advertises, what an h1 connection reads ahead.
const BodyWindow = 64 << 10

// URL is what a handler sees of a request target in origin-form, or "*". What
// net/url cannot decode stands in Path as it came: whether a target may pass is
// not its to say.
func URL(target string) *url.URL {
	if u, err := url.ParseRequestURI(target); err == nil {
		return u
	}
	path, query, has := strings.Cut(target, "?")
	return &url.URL{Path: path, RawQuery: query, ForceQuery: has && query == ""}
}
