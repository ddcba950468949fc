package conformance

import (
	"fmt"
	"strings"

	"wsgate/internal/rawpeer"
)

// Asked is an ordinary request by the version of its case, begun.
type Asked interface {
	Data(p string) error      // a piece of its content: DATA, or a chunk
	End() error               // of its content
	Leave() error             // the client goes away: RST_STREAM, or a cut connection
	Whole() (*Answer, error)  // its answer
	Answer() (*Answer, error) // the head of its answer
}

// Ask begins a request on a connection of its own. With open its content is to
// come; on HTTP/1.1 it is chunked unless the fields say otherwise.
func (e *Env) Ask(method, path string, open bool, fields ...string) Asked {
	if e.version() == h1 {
		return e.askH1(method, path, open, fields...)
	}
	m := e.anyMux()
	head := rawpeer.F(":method", method, ":scheme", m.Scheme(), ":path", path, ":authority", e.Authority())
	for _, f := range rawpeer.F(fields...) {
		head = append(head, rawpeer.Field{Name: strings.ToLower(f.Name), Value: f.Value})
	}
	return &askedStream{m.Send(append(head, e.Tag()), !open)}
}

type askedStream struct{ Stream }

func (a *askedStream) Data(p string) error { return a.Write([]byte(p)) }
func (a *askedStream) End() error          { return a.CloseWrite() }
func (a *askedStream) Leave() error        { return a.Reset() }

type askedH1 struct {
	c       *rawpeer.H1
	method  string
	chunked bool
}

func (e *Env) askH1(method, path string, open bool, fields ...string) Asked {
	a := &askedH1{c: e.H1(), method: method}
	f := append(rawpeer.F(fields...), e.Tag())
	if open && f.Get("Content-Length") == "" {
		a.chunked = true
		f = append(f, rawpeer.Field{Name: "Transfer-Encoding", Value: "chunked"})
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: %s\r\n", method, path, e.Authority())
	for _, x := range f {
		fmt.Fprintf(&b, "%s: %s\r\n", x.Name, x.Value)
	}
	e.Must(a.c.WriteString(b.String() + "\r\n"))
	return a
}

func (a *askedH1) Data(p string) error {
	if a.chunked {
		p = fmt.Sprintf("%x\r\n%s\r\n", len(p), p)
	}
	return a.c.WriteString(p)
}

func (a *askedH1) End() error {
	if a.chunked {
		return a.c.WriteString("0\r\n\r\n")
	}
	return nil
}

func (a *askedH1) Leave() error {
	a.c.Cut()
	return nil
}

func (a *askedH1) Answer() (*Answer, error) { return a.read("HEAD") } // no content is read

func (a *askedH1) Whole() (*Answer, error) { return a.read(a.method) }

func (a *askedH1) read(method string) (*Answer, error) {
	out := &Answer{}
	for {
		r, err := a.c.ReadResponse(method)
		if r != nil && r.Status/100 == 1 && r.Status != 101 {
			if out.First == nil {
				out.First = r.Fields
			}
			out.Interim = append(out.Interim, r.Status)
			continue
		}
		if r != nil {
			out.Status, out.Head, out.Body, out.Trailer = r.Status, r.Fields, r.Body, r.Trailer
		}
		out.End = err == nil
		if err == nil || isTimeout(err) || strings.Contains(err.Error(), "timeout") {
			return out, err
		}
		out.Closed = mismatchOf(err) // a connection that ends is a thing seen
		return out, nil
	}
}

// bothVersions makes a case of HTTP/2 and one of HTTP/1.1. The ID is without its
// version.
func bothVersions(c Case) []Case {
	a, b := c, c
	a.ID, b.ID = h2+"/"+c.ID, h1+"/"+c.ID
	return []Case{a, b}
}

// answered waits for a whole answer.
func (e *Env) answered(a Asked) *Answer {
	out, err := a.Whole()
	e.Must(err)
	return out
}

// WantAnswer waits for a whole answer with status and content.
func (e *Env) WantAnswer(a Asked, status int, content string) *Answer {
	out := e.answered(a)
	if out.Status != status || string(out.Body) != content || !out.End {
		e.Fail(fmt.Sprintf("status %d with %.60q, complete", status, content), "%v", out)
	}
	return out
}

// exchange has the backend give an answer to an ordinary request, ends its
// connection, and returns what the client saw.
func (e *Env) exchange(method, octets string) *Answer {
	a := e.Ask(method, e.Path("x"), false)
	b, _ := e.NextHead()
	e.Must(b.Write([]byte(crlf(octets))))
	_ = b.CloseWrite()
	out := e.answered(a)
	e.On("the backend's connection", b.WantEnded())
	return out
}

// crlf ends lines as the wire has them.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
