package e2e

import (
	"fmt"
	"strings"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// asked is an ordinary request on one of the fronts.
type asked struct {
	r      *rig
	front  string
	method string
	h2     *rawpeer.H2
	id     uint32
	h1     *rawpeer.H1
}

// answered is what a client saw of an answer.
type answered struct {
	status  string
	interim string // statuses of 1xx answers
	first   rawpeer.Fields
	head    rawpeer.Fields
	body    string
	trailer rawpeer.Fields
	ended   bool   // in order
	how     string // or how else
}

var frontNames = []string{"h2", "h1", "h1 over TLS"}

// ask begins a request on a connection of its own: its head, and whole content
// if that is not nil.
func (r *rig) ask(front, method, path string, fields rawpeer.Fields, content *string) *asked {
	r.t.Helper()
	a := &asked{r: r, front: front, method: method}
	if front == "h2" {
		a.h2 = r.h2()
		head := append(f(":method", method, ":scheme", "https", ":path", path, ":authority", "localhost"), lower(fields)...)
		a.id = a.h2.Headers(head, content == nil)
		if content != nil {
			r.must(a.h2.Send(a.id, []byte(*content)))
			r.must(a.h2.End(a.id))
		}
		return a
	}
	a.h1 = r.h1(front != "h1")
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\n", method, path)
	for _, x := range fields {
		fmt.Fprintf(&b, "%s: %s\r\n", x.Name, x.Value)
	}
	if content != nil && fields.Get("Transfer-Encoding") == "" && fields.Get("Content-Length") == "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(*content))
	}
	b.WriteString("\r\n")
	if content != nil {
		b.WriteString(*content)
	}
	r.must(a.h1.WriteString(b.String()))
	return a
}

func lower(in rawpeer.Fields) (out rawpeer.Fields) {
	for _, x := range in {
		out = append(out, rawpeer.Field{Name: strings.ToLower(x.Name), Value: x.Value})
	}
	return out
}

// data sends a piece of content: DATA, or a chunk.
func (a *asked) data(p string) {
	a.r.t.Helper()
	if a.h2 != nil {
		a.r.must(a.h2.Send(a.id, []byte(p)))
		return
	}
	a.r.must(a.h1.WriteString(fmt.Sprintf("%x\r\n%s\r\n", len(p), p)))
}

// end ends the content.
func (a *asked) end() {
	a.r.t.Helper()
	if a.h2 != nil {
		a.r.must(a.h2.End(a.id))
		return
	}
	a.r.must(a.h1.WriteString("0\r\n\r\n"))
}

// leave is the client's going away: RST_STREAM, or a cut connection.
func (a *asked) leave() {
	a.r.t.Helper()
	if a.h2 != nil {
		a.r.must(a.h2.Reset(a.id, http2.ErrCodeCancel))
		return
	}
	a.h1.Cut()
}

// answer waits for the whole answer.
func (a *asked) answer() (out answered) {
	a.r.t.Helper()
	if a.h2 == nil {
		return a.answerH1()
	}
	s, err := a.h2.WantOver(a.id)
	if err != nil {
		a.r.t.Error(err)
	}
	out.ended = s.End
	if s.Reset {
		out.how = s.Code.String()
	} else if !s.End {
		out.how = "nothing"
	}
	out.body = string(s.Data)
	for _, h := range s.Heads {
		switch st := h.Get(":status"); {
		case st == "":
			out.trailer = h
		case st[0] == '1':
			out.interim += " " + st
			out.first = h
		default:
			out.status, out.head = st, h
		}
	}
	return out
}

func (a *asked) answerH1() (out answered) {
	a.r.t.Helper()
	for {
		resp, err := a.h1.ReadResponse(a.method)
		if resp != nil && resp.Status/100 == 1 {
			out.interim += fmt.Sprint(" ", resp.Status)
			out.first = resp.Fields
			continue
		}
		if resp != nil {
			out.status, out.head, out.body, out.trailer = fmt.Sprint(resp.Status), resp.Fields, string(resp.Body), resp.Trailer
		}
		if err != nil {
			out.how = err.Error()
		}
		out.ended = err == nil
		return out
	}
}

// want checks a whole answer.
func (a *asked) want(name string, status int, body string) answered {
	a.r.t.Helper()
	got := a.answer()
	if got.status != fmt.Sprint(status) || got.body != body || !got.ended {
		a.r.t.Errorf("%s, %s: got status %s, content %.80q, ended %v %s; want %d %.80q", name, a.front, got.status, got.body, got.ended, got.how, status, body)
	}
	return got
}

// wantCut checks that an answer is not complete and does not look so.
func (a *asked) wantCut(name string) {
	a.r.t.Helper()
	got := a.answer()
	if got.ended || a.h2 != nil && got.how != http2.ErrCodeInternal.String() || a.h2 == nil && strings.Contains(got.how, "timeout") {
		a.r.t.Errorf("%s, %s: got status %s, ended %v %s; want it cut", name, a.front, got.status, got.ended, got.how)
	}
}

// simple is an answer with content after which the backend's connection ends.
func simple(content string) []byte {
	return []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(content), content))
}
