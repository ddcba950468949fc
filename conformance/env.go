package conformance

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// Env is what a case has at hand: clients of the gateway, the backend behind it,
// and a way to say what went wrong. It belongs to one case; its methods are
// called from the goroutine of the case, and end it when what they are to do
// fails.
type Env struct {
	run      *runner
	c        *Case
	token    string
	claim    *claim
	patience time.Duration

	mu      sync.Mutex
	over    bool
	done    chan struct{} // closed at the end of the case
	closers []func()
	tapes   []tape
	notes   []string
	clients int
	backs   int
}

// tape is the journal of a connection.
type tape struct {
	who   string
	notes func() []rawpeer.Note
}

// stop ends a case; it is what Env's methods panic with.
type stop struct {
	verdict   Verdict
	want, got string
}

// Must ends the case as failed unless err is nil.
func (e *Env) Must(err error) {
	if err == nil {
		return
	}
	var m *rawpeer.Mismatch
	if errors.As(err, &m) {
		panic(stop{Fail, m.Want, m.Got})
	}
	panic(stop{Fail, "no error", err.Error()})
}

// On ends the case as failed unless err is nil, and says what it was about.
func (e *Env) On(what string, err error) {
	if err == nil {
		return
	}
	var m *rawpeer.Mismatch
	if errors.As(err, &m) {
		panic(stop{Fail, what + ": " + m.Want, m.Got})
	}
	panic(stop{Fail, what, err.Error()})
}

// Fail ends the case as failed.
func (e *Env) Fail(want, got string, args ...any) { panic(stop{Fail, want, fmt.Sprintf(got, args...)}) }

// Skip ends the case as one that cannot be carried out here.
func (e *Env) Skip(why string, args ...any) { panic(stop{Skip, "", fmt.Sprintf(why, args...)}) }

// broken ends the case as one that could not be judged.
func (e *Env) broken(want string, err error) { panic(stop{Broken, want, err.Error()}) }

// Note keeps something that is allowed but worth a look.
func (e *Env) Note(format string, args ...any) {
	e.mu.Lock()
	e.notes = append(e.notes, fmt.Sprintf(format, args...))
	e.mu.Unlock()
}

// Short is a time in which nothing is to happen that would have happened: it only
// makes a wrong pass likelier, never a wrong failure.
func (e *Env) Short() time.Duration { return 50 * time.Millisecond }

// Wait is d, scaled by the patience of the run.
func (e *Env) Wait(d time.Duration) time.Duration {
	return time.Duration(float64(d) * e.run.o.Patience)
}

// Path is a path of this case.
func (e *Env) Path(name string) string { return "/" + e.token + "/" + name }

// Tag is a field that says whose a request is, where its path cannot.
func (e *Env) Tag() rawpeer.Field { return rawpeer.Field{Name: "x-case", Value: e.token} }

// Authority is the host of the gateway's front, as requests name it.
func (e *Env) Authority() string { return e.run.o.Authority }

// keep has a connection closed at the end of the case, and its journal shown.
func (e *Env) keep(kind string, notes func() []rawpeer.Note, close func()) {
	e.mu.Lock()
	over := e.over
	e.closers = append(e.closers, close)
	n := &e.clients
	if kind == "backend" {
		n = &e.backs
	}
	*n++
	e.tapes = append(e.tapes, tape{fmt.Sprintf("%s %d", kind, *n), notes})
	e.mu.Unlock()
	if over {
		close()
	}
}

// later has f called at the end of the case.
func (e *Env) later(f func()) {
	e.mu.Lock()
	e.closers = append(e.closers, f)
	e.mu.Unlock()
}

// finish closes all that the case opened.
func (e *Env) finish() {
	e.mu.Lock()
	if !e.over {
		e.over = true
		close(e.done)
	}
	closers := e.closers
	e.closers = nil
	e.mu.Unlock()
	for _, f := range closers {
		f()
	}
}

// frames is what passed on all connections of the case.
func (e *Env) frames() []string {
	e.mu.Lock()
	tapes := e.tapes
	e.mu.Unlock()
	type line struct {
		who string
		rawpeer.Note
	}
	var all []line
	for _, t := range tapes {
		for _, n := range t.notes() {
			all = append(all, line{t.who, n})
		}
	}
	sort.SliceStable(all, func(i, j int) bool { return all[i].At.Before(all[j].At) })
	out := make([]string, len(all))
	for i, l := range all {
		out[i] = fmt.Sprintf("%9.3f ms  %-10s %s", float64(l.At.Sub(all[0].At).Microseconds())/1000, l.who, l.Text)
	}
	return out
}

// tapeH2 readies a client for the case.
func (e *Env) tapeH2(c *rawpeer.H2) *rawpeer.H2 {
	c.Patience = e.patience
	e.keep("client", c.Notes, c.Close)
	return c
}

// H2 connects over TLS and exchanges SETTINGS.
func (e *Env) H2(settings ...http2.Setting) *rawpeer.H2 {
	c := e.H2Quiet()
	e.Must(c.Preface(settings...))
	_, err := c.WantFirst()
	e.Must(err)
	return c
}

// H2Quiet connects over TLS and says nothing.
func (e *Env) H2Quiet() *rawpeer.H2 {
	if e.run.has.h2 != "" {
		e.Skip("%s", e.run.has.h2)
	}
	return e.h2At(e.run.front, e.run.o.TLS)
}

// H2C connects in cleartext, with prior knowledge (RFC 9113 section 3.3).
func (e *Env) H2C() *rawpeer.H2 {
	if e.run.has.h2c != "" {
		e.Skip("%s", e.run.has.h2c)
	}
	c := e.h2At(e.run.plain, nil)
	e.Must(c.Preface())
	_, err := c.WantFirst()
	e.Must(err)
	return c
}

func (e *Env) h2At(addr string, config *tls.Config) *rawpeer.H2 {
	c, err := rawpeer.DialH2Quiet(addr, config)
	if err != nil {
		e.broken("a connection to "+addr, err)
	}
	return e.tapeH2(c)
}

// needTunnels ends the case where extended CONNECT is not announced.
func (e *Env) needTunnels() {
	why := e.run.has.tunnels
	if e.version() == h3 {
		why = e.run.has.tunnels3
	}
	if why != "" {
		e.Skip("%s", why)
	}
}

// H1 connects in cleartext, or by TLS where there is no cleartext front.
func (e *Env) H1() *rawpeer.H1 {
	if e.run.plain == "" {
		return e.H1TLS()
	}
	return e.h1At(e.run.plain, nil)
}

// H1TLS connects by TLS, with http/1.1 in ALPN.
func (e *Env) H1TLS() *rawpeer.H1 { return e.h1At(e.run.front, e.run.o.TLS) }

func (e *Env) h1At(addr string, config *tls.Config) *rawpeer.H1 {
	c, err := rawpeer.DialH1(addr, config)
	if err != nil {
		e.broken("a connection to "+addr, err)
	}
	c.Patience = e.patience
	e.keep("client", c.Notes, c.Close)
	return c
}

// Next waits for the next connection at the backend that is of this case.
func (e *Env) Next() *rawpeer.BackendConn {
	timer := time.NewTimer(e.patience)
	defer timer.Stop()
	select {
	case c := <-e.claim.conns:
		return c
	case <-timer.C:
		e.Fail("a request at the backend", "none in %v", e.patience)
		return nil
	}
}

// NextHead is Next, and the head that came on it.
func (e *Env) NextHead() (*rawpeer.BackendConn, *rawpeer.Head) {
	b := e.Next()
	h, err := b.ReadHead()
	e.Must(err)
	return b, h
}

// Behind has f meet the next connection at the backend, if one comes, beside the
// case: where an answer may come without the backend.
func (e *Env) Behind(f func(*rawpeer.BackendConn)) {
	go func() {
		select {
		case b := <-e.claim.conns:
			f(b)
		case <-e.done:
		}
	}()
}

// accepts is a backend that opens a tunnel.
func accepts(b *rawpeer.BackendConn) { _, _ = b.AcceptUpgrade() }

// joined is called by the hub for each connection of the case.
func (e *Env) joined(c *rawpeer.BackendConn) {
	c.Patience = e.patience
	e.keep("backend", c.Notes, c.Close)
}

// Untouched checks that nothing of this case reached the backend: a request
// behind it, on a connection of its own, has arrived first.
func (e *Env) Untouched() {
	e.fence()
	select {
	case b := <-e.claim.conns:
		h, err := b.ReadHead()
		if err != nil {
			e.Fail("nothing at the backend", "%v", err)
		}
		e.Fail("nothing at the backend", "%q", h.Raw)
	default:
	}
}

// fence sends a request of the suite's own through the gateway.
func (e *Env) fence() {
	c := e.H1()
	e.Must(c.WriteString("GET " + e.Path(strings.TrimPrefix(fence, "/")) + " HTTP/1.1\r\nHost: " + e.Authority() + "\r\n\r\n"))
	_, err := c.WantStatus("GET", 200)
	e.On("an ordinary request behind it", err)
	c.Close()
}

// after is a channel that is written to after d.
func (e *Env) after(d time.Duration) <-chan time.Time { return time.After(d) }
