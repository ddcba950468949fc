// Package route finds the route of a request.
//
// The most specific route that matches wins:
//
//  1. by listener: routes that name it before those for any;
//  2. by host: a name before *.name, a longer *.name before a shorter one, any
//     of them before routes without hosts;
//  3. by path, segment by segment from the left: a written segment before *,
//     a whole path before a prefix, a longer prefix before a shorter one;
//  4. by the number of further conditions (methods, headers, kind, http), each
//     header one;
//  5. the one that stands first.
//
// A route that fits by listener, host and path but not by its further conditions
// is passed over for the next one. Paths are compared octet by octet as they are
// forwarded: %2F is not /, and nothing is decoded.
package route

import (
	"slices"
	"strings"

	"wsgate/internal/config"
)

// Request is what is looked at of a request.
type Request struct {
	Listener  string // its name
	Authority string // host, or host:port
	Target    string // origin-form; the query is not looked at
	Method    string // "GET" for handshakes
	WebSocket bool   // an opening handshake
	Major     int    // HTTP version
	// Fields are asked only if a route has a condition on one; nil: there are none.
	Fields interface {
		Values(name string) []string
	}
}

// Table finds routes. It never changes; any goroutine may use it.
type Table struct {
	listeners map[string]*hosts // of the routes that name them
	any       *hosts            // of the others
}

// hosts has the paths of each host.
type hosts struct {
	exact map[string]*node
	wild  map[string]*node // by the name behind "*."
	any   *node
}

// node is a place in a path.
type node struct {
	segments map[string]*node
	star     *node
	whole    []candidate // the path ends here
	prefix   []candidate // the path begins so
}

// candidate is a route with what is left to be checked.
type candidate struct {
	index int
	rank  int // number of further conditions
	match *config.Match
}

// New makes a table of the matches of routes; what it returns are indices of
// them.
func New(routes []*config.Match) *Table {
	t := &Table{listeners: make(map[string]*hosts), any: newHosts()}
	for i, m := range routes {
		c := candidate{i, rank(m), m}
		if len(m.Listeners) == 0 {
			t.any.add(c)
		}
		for _, l := range m.Listeners {
			if t.listeners[l] == nil {
				t.listeners[l] = newHosts()
			}
			t.listeners[l].add(c)
		}
	}
	return t
}

func newHosts() *hosts { return &hosts{exact: make(map[string]*node), wild: make(map[string]*node)} }

func (t *hosts) add(c candidate) {
	if len(c.match.Hosts) == 0 {
		if t.any == nil {
			t.any = new(node)
		}
		t.any.add(c)
	}
	for _, h := range c.match.Hosts {
		of, name := t.exact, h
		if below, ok := strings.CutPrefix(h, "*."); ok {
			of, name = t.wild, below
		}
		if of[name] == nil {
			of[name] = new(node)
		}
		of[name].add(c)
	}
}

// rank counts conditions beside listener, host and path.
func rank(m *config.Match) int {
	n := len(m.Headers)
	for _, is := range []bool{len(m.Methods) > 0, m.Kind != "", len(m.HTTP) > 0} {
		if is {
			n++
		}
	}
	return n
}

// add puts a route at its place below n, which is that of the root.
func (n *node) add(c candidate) {
	path, whole := c.match.Path, true
	if path == "" {
		// A prefix is of whole segments: /a is /a and what begins with /a/.
		path, whole = strings.TrimSuffix(c.match.Prefix, "/"), false
	}
	at := n
	for path != "" {
		var seg string
		seg, path = cut(path)
		at = at.child(seg)
	}
	list := &at.prefix
	if whole {
		list = &at.whole
	}
	*list = append(*list, c)
	slices.SortStableFunc(*list, func(a, b candidate) int { return b.rank - a.rank })
}

// cut takes the first segment, "/a", off a path; the rest begins with "/" or is
// empty.
func cut(path string) (seg, rest string) {
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		return path[1 : 1+i], path[1+i:]
	}
	return path[1:], ""
}

func (n *node) child(seg string) *node {
	if seg == "*" {
		if n.star == nil {
			n.star = new(node)
		}
		return n.star
	}
	if n.segments == nil {
		n.segments = make(map[string]*node)
	}
	c := n.segments[seg]
	if c == nil {
		c = new(node)
		n.segments[seg] = c
	}
	return c
}

// maxHost is the longest name that DNS has.
const maxHost = 253

// Lookup returns the index of the request's route, -1 without one. known says
// whether there are routes for its host on its listener at all.
func (t *Table) Lookup(q *Request) (index int, known bool) {
	var buf [maxHost]byte
	host := lower(buf[:], hostOf(q.Authority))
	path, _, _ := strings.Cut(q.Target, "?")
	index = -1
	if l := t.listeners[q.Listener]; l != nil {
		index, known = l.lookup(q, host, path)
	}
	if index < 0 {
		i, also := t.any.lookup(q, host, path)
		return i, known || also
	}
	return index, known
}

func (t *hosts) lookup(q *Request, host []byte, path string) (index int, known bool) {
	index = -1
	if n := t.exact[string(host)]; n != nil {
		index, known = n.find(q, path), true
	}
	for rest := host; index < 0 && len(t.wild) > 0; {
		i := slices.Index(rest, '.')
		if i < 0 {
			break
		}
		rest = rest[i+1:]
		if n := t.wild[string(rest)]; n != nil && i > 0 {
			index, known = n.find(q, path), true
		}
	}
	if index < 0 && t.any != nil {
		index, known = t.any.find(q, path), true
	}
	return index, known
}

// find goes down the path and comes back up with the first that matches. No
// node is visited twice.
func (n *node) find(q *Request, path string) int {
	if path == "" {
		if i := first(n.whole, q); i >= 0 {
			return i
		}
		return first(n.prefix, q)
	}
	seg, rest := cut(path)
	if c := n.segments[seg]; c != nil {
		if i := c.find(q, rest); i >= 0 {
			return i
		}
	}
	if n.star != nil && seg != "" {
		if i := n.star.find(q, rest); i >= 0 {
			return i
		}
	}
	return first(n.prefix, q)
}

// first returns the first candidate whose further conditions hold.
func first(list []candidate, q *Request) int {
	for i := range list {
		if list[i].rank == 0 || further(list[i].match, q) == "" {
			return list[i].index
		}
	}
	return -1
}

// further names the first condition, beside listener, host and path, that does not
// hold.
func further(m *config.Match, q *Request) string {
	switch {
	case m.Kind == "websocket" && !q.WebSocket, m.Kind == "http" && q.WebSocket:
		return "kind"
	case len(m.HTTP) > 0 && !slices.Contains(m.HTTP, q.Major):
		return "http"
	case len(m.Methods) > 0 && !slices.Contains(m.Methods, q.Method):
		return "methods"
	}
	for name, want := range m.Headers {
		if !has(q, name, want) {
			return "headers." + name
		}
	}
	return ""
}

// has reports whether a line of that name has the value, or any for "*".
func has(q *Request, name, want string) bool {
	if q.Fields == nil {
		return false
	}
	v := q.Fields.Values(name)
	return len(v) > 0 && (want == "*" || slices.Contains(v, want))
}

// hostOf is the host of an authority, without port, brackets and final dot.
func hostOf(authority string) string {
	host := authority
	if rest, ok := strings.CutPrefix(host, "["); ok {
		host, _, _ = strings.Cut(rest, "]")
		return host
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 {
		host = host[:i]
	}
	return strings.TrimSuffix(host, ".")
}

// lower writes s into buf in lower case; nothing if it is too long for a host.
func lower(buf []byte, s string) []byte {
	if len(s) > len(buf) {
		return nil
	}
	for i := range len(s) {
		b := s[i]
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		buf[i] = b
	}
	return buf[:len(s)]
}

// CanServe reports whether a route with this match may get opening handshakes
// of that HTTP version on the listener.
func CanServe(m *config.Match, listener string, major int) bool {
	return m.Kind != "http" &&
		(len(m.Listeners) == 0 || slices.Contains(m.Listeners, listener)) &&
		(len(m.HTTP) == 0 || slices.Contains(m.HTTP, major)) &&
		(len(m.Methods) == 0 || slices.Contains(m.Methods, "GET"))
}
