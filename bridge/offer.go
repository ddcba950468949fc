package bridge

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Client is the front connection that a handshake came on. It is shared by all
// requests of that connection; Tunnels belongs to its loop, the rest never changes.
type Client struct {
	Remote netip.AddrPort
	Local  netip.AddrPort
	TLS    *tls.ConnectionState // nil on a cleartext connection
	// Listener is the name of the listener for logs.
	Listener string

	// Tunnels counts the tunnels and pending offers of this connection.
	Tunnels int
}

// Handshake is a WebSocket opening handshake freed from the HTTP version that
// carried it. It belongs to its offer, is read on the offer's loop, and is
// released after the answer.
type Handshake struct {
	Major     int    // HTTP version of the client: 1, 2 or 3
	Scheme    string // "http" or "https": what the transport is, not what was claimed
	Authority string // as the client sent it, checked
	Path      string // origin-form, octets as sent, checked: begins with "/"
	// Fields are the end-to-end fields in the client's order and spelling
	// (lower case on h2). Host, Connection, Upgrade, fields named in
	// Connection, HTTP2-Settings, TE, Expect, Content-Length: 0 and
	// Sec-WebSocket-Key are already gone; cookie crumbs are one field.
	// Sec-WebSocket-Version is still there for the bridge to judge.
	Fields Fields
	// Key is the one Sec-WebSocket-Key the client sent, "" if it sent none or
	// not exactly one. Whether it is valid is judged by package wskey.
	Key    string
	Client *Client
	// Server is the far half's server: a Backend that has several sets it
	// before it says that the far half is open. From then on it is the tunnel's.
	Server Server
}

// Server is one of a backend's servers, at which a tunnel holds a place.
type Server interface {
	// String names the server in logs.
	String() string
	// Release gives the place back, once, on the tunnel's loop.
	Release()
}

// Offer is one open question: shall there be a tunnel? It lives on a loop and
// is answered exactly once, by its owner.
type Offer interface {
	// Loop is the loop that the offer and its side live on.
	Loop() Loop
	Handshake() *Handshake
	// Accept answers 101 or 200, as the version has it, and returns the
	// client's side. The fields are the end-to-end fields of the answer:
	// Sec-WebSocket-Accept only if it is to be sent, no Connection, no Upgrade.
	Accept(Fields) Side
	// Refuse answers with an ordinary response.
	Refuse(*Refusal)
	// OnGone sets what is called when the client left before the answer. The
	// offer must not be answered after that.
	OnGone(func(*ResetError))
}

// Backend opens the far half of tunnels.
type Backend interface {
	// Open asks for the far half of the tunnel that h describes. The callback
	// runs on l, once, never before Open returns, never after cancel. The side
	// is nil if the error is not; the error may be a *Refusal: the far side's
	// own answer. Fields are the end-to-end fields of the 101, among them the
	// Sec-WebSocket-Accept for the client's own key if it sent a valid one.
	// cancel may be called at any time on l; after the callback it does nothing.
	Open(l Loop, h *Handshake, done func(Side, Fields, error)) (cancel func())
}

// Refusal is an ordinary response in the place of a tunnel. As an error it says
// that the far side, or the gateway itself, answered so.
type Refusal struct {
	Status int
	Fields Fields // end-to-end fields; no Content-Length, no hop-by-hop fields
	// The content is Body, or Stream if that is not nil.
	Body []byte
	// Stream delivers the content to the Far it is bound to: Data, then End,
	// or Broken if the backend cut it short. Who refuses an offer with a
	// Stream owns it: binds it or resets it.
	Stream Stream
	Length int64 // of Stream in octets, -1 if unknown
	// Code is the machine-readable reason of the gateway's own refusals, also
	// in the log; "" for a backend's answer.
	Code string
	// Foreign is true for a backend's own answer that is passed on.
	Foreign bool
	// Unsent is true if no octet of the handshake was written to a backend, so
	// that another may be asked.
	Unsent bool
	Cause  error // for the log
}

// explain gives a refusal of the gateway's own its one line of content: the
// status and the reason code that is also in the log.
func (r *Refusal) explain() {
	if r.Foreign || r.Body != nil || r.Stream != nil {
		return
	}
	r.Fields = append(r.Fields, Field{"Content-Type", "text/plain; charset=utf-8"}, Field{"Cache-Control", "no-store"})
	r.Body = fmt.Appendf(nil, "%d %s: %s\n", r.Status, strings.ToLower(http.StatusText(r.Status)), r.Code)
}

func (r *Refusal) Error() string {
	if r.Cause != nil {
		return r.Code + ": " + r.Cause.Error()
	}
	return r.Code
}

func (r *Refusal) Unwrap() error { return r.Cause }

// Stream is the reading half of a Side.
type Stream interface {
	Bind(Far)
	Resume()
	Reset(Reason)
}
