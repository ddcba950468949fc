package h1

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"wsgate/bridge"
	"wsgate/internal/loop"
	"wsgate/wskey"
)

// The codes of a backend that could not be asked, or gave no usable answer.
const (
	codeConnectFailed  = "connect-failed"
	codeConnectTimeout = "connect-timeout"
	codeTLSFailed      = "tls-failed"
	codeTLSTimeout     = "tls-timeout"
	codeDNSFailed      = "dns-failed"
	codeOpenTimeout    = "open-timeout"
	codeClosed         = "backend-closed"
	codeReset          = "backend-reset"
	codeBadHead        = "bad-head"
	codeHeadTooLarge   = "head-too-large"
	codeBadStatus      = "bad-status"
	codeBadFraming     = "bad-framing"
	codeTooManyInterim = "too-many-interim"
	codeBadHandshake   = "bad-handshake"
	codePorts          = "ports-exhausted"
	codeInternal       = "internal"
)

var (
	errClosed   = errors.New("connection ended before the answer's head")
	errInterim  = errors.New("too many interim answers")
	errNoLoop   = errors.New("loop cannot dial")
	errNoAnswer = errors.New("no answer in time")
)

// socket is what a backend connection has beside the methods of a Side; a
// *loop.Conn.
type socket interface {
	bridge.Side
	Finish(linger time.Duration)
}

// attempt is one opening handshake with the backend. It lives on its loop and
// is the Far of the connection until the answer's head is complete.
type attempt struct {
	// Immutable.
	b    *Backend
	l    bridge.Loop
	h    *bridge.Handshake
	done func(bridge.Side, bridge.Fields, error)

	timer bridge.Timer
	stop  func() // ends the lookup, dial or TLS handshake under way
	one   [1]netip.AddrPort
	addrs []netip.AddrPort // still to be tried
	to    target           // being tried
	from  sources          // for it

	sock socket
	out  []byte // the request, while not all of it is written
	off  int
	key  string
	sent bridge.Fields

	scan    scanner
	interim int
	content *content // the refusal's stream
	over    bool     // done was called, or cancel
}

func (a *attempt) start() {
	b := a.b
	if b.Network == "unix" {
		a.dial(target{network: "unix", path: b.Address})
		return
	}
	if ap, ok := b.literal(); ok {
		a.one[0] = ap
		a.addrs = a.one[:]
	} else if a.addrs = b.known(a.l.Now()); a.addrs == nil {
		b.lookup(func(list []netip.AddrPort, err error) {
			a.l.Post(func() { a.resolved(list, err) })
		})
		return
	}
	a.dialNext()
}

func (a *attempt) resolved(list []netip.AddrPort, err error) {
	switch {
	case a.over:
	case err != nil:
		a.fail(502, codeDNSFailed, err)
	default:
		a.addrs = list
		a.dialNext()
	}
}

func (a *attempt) dialNext() {
	addr := a.addrs[0]
	a.addrs = a.addrs[1:]
	a.dial(target{network: "tcp", addr: addr})
}

func (a *attempt) dial(t target) {
	a.to, a.from = t, a.b.sources(t)
	a.connect()
}

// connect dials the target from the source whose turn it is.
func (a *attempt) connect() {
	l, ok := a.l.(*loop.Loop)
	if !ok {
		a.l.Post(func() {
			if !a.over {
				a.fail(500, codeInternal, errNoLoop)
			}
		})
		return
	}
	if a.b.TLS != nil {
		a.dialTLS(l, a.to)
		return
	}
	a.stop = l.Dial(a.to.network, a.to.addr, a.to.path, a.dialOptions(), a.connected)
}

func (a *attempt) dialOptions() loop.DialOptions {
	return loop.DialOptions{
		Timeout:   orDefault(a.b.ConnectTimeout, defaultConnectTimeout),
		KeepAlive: a.b.keepAlive(),
		Source:    a.from.now,
	}
}

func (a *attempt) connected(c *loop.Conn, err error) {
	if err != nil {
		a.connectFailed(err)
		return
	}
	a.begin(c)
}

// connectFailed goes on to the next source of ports, then to the next address of
// the name: nothing was written yet (RFC 9110 section 9.2.2 allows no more for
// what may not be repeated).
func (a *attempt) connectFailed(err error) {
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
	ports := loop.PortsExhausted(err)
	switch {
	case ports && a.from.next(a.b.Sources):
		a.connect()
	case len(a.addrs) > 0:
		a.dialNext()
	case ports:
		a.settle(&bridge.Refusal{
			Status: 503, Code: codePorts, Unsent: true, Cause: err,
			Fields: bridge.Fields{{Name: "Retry-After", Value: retryAfter}},
		})
	case isTimeout(err):
		a.fail(504, codeConnectTimeout, err)
	default:
		a.fail(502, codeConnectFailed, err)
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// begin writes the handshake to a connection that stands.
func (a *attempt) begin(s socket) {
	a.stop = nil
	a.sock = s
	a.key = wskey.New()
	a.sent = a.h.Fields
	if a.b.Decorate != nil {
		a.sent = a.b.Decorate(a.h, append(make(bridge.Fields, 0, len(a.sent)+8), a.sent...))
	}
	host := a.b.HostHeader
	if host == "" {
		host = a.h.Authority
	}
	size := 256 + len(a.h.Path) + len(host)
	for i := range a.sent {
		size += len(a.sent[i].Name) + len(a.sent[i].Value) + 4
	}
	var err error
	a.out, err = appendHandshake(a.l.Buffer(size), a.h.Path, host, a.key, a.sent, a.h.Major >= 2)
	if err != nil {
		a.fail(400, codeBadHandshake, err)
		return
	}
	s.Bind(a)
	a.flush()
}

// flush writes what the socket takes of the request.
func (a *attempt) flush() {
	a.off += a.sock.Write(a.out[a.off:])
	if a.off == len(a.out) {
		a.freeOut()
	}
}

func (a *attempt) freeOut() {
	if a.out != nil {
		a.l.Free(a.out)
		a.out = nil
	}
}

// Writable implements bridge.Far.
func (a *attempt) Writable() {
	if a.out != nil {
		a.flush()
	}
}

// Want implements bridge.Far: a head is read in small pieces, for what comes
// behind it has to be kept by the socket.
func (a *attempt) Want() int {
	if a.over {
		return 0
	}
	return 4 << 10
}

// Data implements bridge.Far: it takes the octets of heads and no more.
func (a *attempt) Data(p []byte) int {
	n := 0
	for !a.over && n < len(p) {
		head, k, err := a.scan.feed(a.l, p[n:])
		n += k
		switch {
		case err != nil:
			a.badHead(err)
		case head != nil:
			s := string(head)
			a.scan.release(a.l)
			a.answered(s)
		}
	}
	return n
}

// answered judges a complete head.
func (a *attempt) answered(head string) {
	r, err := parseResponse(head, orDefault(a.b.MaxFields, defaultMaxFields))
	switch {
	case err != nil:
		a.badHead(err)
	case r.status == 101:
		a.switched(&r)
	case r.status < 200:
		// RFC 9110 section 15.2: any number of interim answers may come, and
		// a gateway that did not ask for them may drop them.
		if a.interim++; a.interim > maxInterim {
			a.settle(&bridge.Refusal{Status: 502, Code: codeTooManyInterim, Cause: errInterim})
		}
	default:
		a.refused(&r)
	}
}

func (a *attempt) badHead(err error) {
	code := codeBadHead
	switch err {
	case errLongHead, errManyLines:
		code = codeHeadTooLarge
	case errStatus:
		code = codeBadStatus
	case errVersion:
		code = codeBadVersion
	}
	a.settle(&bridge.Refusal{Status: 502, Code: code, Cause: err})
}

// switched lets a 101 through the gate.
func (a *attempt) switched(r *response) {
	if code := gate(r, a.sent, a.key); code != "" {
		a.settle(&bridge.Refusal{Status: 502, Code: code, Cause: fmt.Errorf("backend answers 101 that opens no tunnel: %s", code)})
		return
	}
	// RFC 9112 section 6.1 and RFC 9110 section 8.6: a 101 has no framing of
	// content; what a server put there is dropped with the hop-by-hop fields.
	f := withoutAccept(endToEnd(r.fields))
	if wskey.Valid(a.h.Key) {
		// The digest is that of the client's own key, never of ours.
		f = append(f, bridge.Field{Name: "Sec-WebSocket-Accept", Value: wskey.Accept(a.h.Key)})
	}
	a.open(f)
}

// withoutAccept drops the answer to this hop's key.
func withoutAccept(f bridge.Fields) bridge.Fields { return f.Without("Sec-WebSocket-Accept") }

// refused takes a final answer that is no 101.
func (a *attempt) refused(r *response) {
	kind, length, err := r.framing()
	if err != nil {
		a.settle(&bridge.Refusal{Status: 502, Code: codeBadFraming, Cause: err})
		return
	}
	f := &bridge.Refusal{Status: r.status, Foreign: true, Fields: withoutAccept(endToEnd(r.fields))}
	if kind != frameNone {
		a.content = &content{l: a.l, sock: a.sock, body: newBody(kind, length)}
		f.Stream, f.Length = a.content, length
	}
	a.settle(f)
}

// settle delivers a refusal. The connection is closed, never used again; the one
// of a foreign answer once its content is over.
func (a *attempt) settle(r *bridge.Refusal) {
	switch {
	case r.Stream != nil:
		a.sock = nil // the stream's
	case r.Foreign:
		a.sock.Finish(finishTime)
		a.sock = nil
	}
	a.drop(bridge.ReasonProtocol)
	a.over = true
	a.done(nil, nil, r)
}

// open delivers a connection that stands. The octets behind the 101 are still
// the socket's: its next owner gets them.
func (a *attempt) open(f bridge.Fields) {
	s := a.sock
	a.sock = nil
	a.drop(bridge.ReasonUnknown)
	a.over = true
	a.done(s, f, nil)
}

// End implements bridge.Far.
func (a *attempt) End() {
	switch {
	case a.over && a.content != nil:
		a.content.End()
	case !a.over:
		a.fail(502, codeClosed, errClosed)
	}
}

// Broken implements bridge.Far.
func (a *attempt) Broken(e *bridge.ResetError) {
	switch {
	case a.over && a.content != nil:
		a.content.Broken(e)
	case !a.over:
		a.fail(502, codeReset, e)
	}
}

// expired: the whole of it took too long.
func (a *attempt) expired() {
	if !a.over {
		a.fail(504, codeOpenTimeout, errNoAnswer)
	}
}

func (a *attempt) fail(status int, code string, cause error) {
	a.settle(&bridge.Refusal{Status: status, Code: code, Unsent: a.sock == nil, Cause: cause})
}

// drop frees all that the attempt holds.
func (a *attempt) drop(reason bridge.Reason) {
	a.timer.Stop()
	if a.stop != nil {
		a.stop()
		a.stop = nil
	}
	if a.sock != nil {
		a.sock.Reset(reason)
		a.sock = nil
	}
	a.freeOut()
	a.scan.release(a.l)
}

// cancel ends the attempt without a callback.
func (a *attempt) cancel() {
	if !a.over {
		a.over = true
		a.content = nil
		a.drop(bridge.ReasonFarSide)
	}
}
