package route

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"wsgate/internal/config"
)

func TestLookup(t *testing.T) {
	routes := []*config.Match{
		0:  {},
		1:  {Hosts: []string{"a.example"}},
		2:  {Hosts: []string{"*.example"}},
		3:  {Hosts: []string{"*.b.example"}},
		4:  {Hosts: []string{"a.example"}, Prefix: "/chat"},
		5:  {Hosts: []string{"a.example"}, Path: "/chat/lobby"},
		6:  {Hosts: []string{"a.example"}, Path: "/chat/*/socket"},
		7:  {Hosts: []string{"a.example"}, Prefix: "/chat/*/files/"},
		8:  {Hosts: []string{"a.example"}, Prefix: "/chat", Kind: "websocket"},
		9:  {Hosts: []string{"a.example"}, Prefix: "/chat", Kind: "websocket", Headers: map[string]string{"X-Tenant": "blue"}},
		10: {Hosts: []string{"a.example"}, Path: "/up", Methods: []string{"POST", "PUT"}},
		11: {Prefix: "/only3", HTTP: []int{3}},
		12: {Hosts: []string{"inside.example"}, Listeners: []string{"private"}},
		13: {Hosts: []string{"::1"}, Path: "/"},
		14: {Hosts: []string{"a.example"}, Prefix: "/any", Headers: map[string]string{"X-Debug": "*"}},
		15: {Hosts: []string{"a.example"}, Path: "/a%2Fb"},
		16: {Listeners: []string{"redirects"}},
	}
	table := New(routes)
	for _, c := range []struct {
		authority, target string
		edit              func(*Request)
		want              int
	}{
		{"x.test", "/", nil, 0},
		{"a.example", "/", nil, 1},
		{"A.Example:8443", "/x?/chat", nil, 1},
		{"a.example.", "/", nil, 1},
		{"example", "/", nil, 0}, // *.example does not mean example
		{"c.example", "/", nil, 2},
		{"x.b.example", "/", nil, 3},
		{"x.y.b.example:1", "/", nil, 3},
		{".b.example", "/", nil, 2}, // no empty label
		{"a.example", "/chat", nil, 4},
		{"a.example", "/chat/", nil, 4},
		{"a.example", "/chatter", nil, 1},
		{"a.example", "/chat/lobby", nil, 5},
		{"a.example", "/chat/lobby/", nil, 4},
		{"a.example", "/chat/7/socket", nil, 6},
		{"a.example", "/chat//socket", nil, 4}, // * is not empty
		{"a.example", "/chat/7/files/x/y", nil, 7},
		{"a.example", "/chat/7/files", nil, 7},
		{"a.example", "/chat/7/file", nil, 4},
		{"a.example", "/chat/x", func(q *Request) { q.WebSocket = true }, 8},
		{"a.example", "/chat/x", func(q *Request) { q.WebSocket, q.Fields = true, http.Header{"X-Tenant": {"blue"}} }, 9},
		{"a.example", "/chat/x", func(q *Request) { q.WebSocket, q.Fields = true, http.Header{"X-Tenant": {"red"}} }, 8},
		{"a.example", "/chat/lobby", func(q *Request) { q.WebSocket = true }, 5},
		{"a.example", "/up", nil, 1},
		{"a.example", "/up", func(q *Request) { q.Method = "PUT" }, 10},
		{"x.test", "/only3", nil, 0},
		{"x.test", "/only3/x", func(q *Request) { q.Major = 3 }, 11},
		{"inside.example", "/", nil, 2},
		{"inside.example", "/", func(q *Request) { q.Listener = "private" }, 12},
		{"[::1]:8443", "/", nil, 13},
		{"[::1]", "/x", nil, 0},
		{"a.example", "/any", nil, 1},
		{"a.example", "/any", func(q *Request) { q.Fields = http.Header{"X-Debug": {""}} }, 14},
		{"a.example", "/a%2Fb", nil, 15},
		{"a.example", "/a/b", nil, 1},
		{"a.example", "/a%2fb", nil, 1}, // octet by octet
		{"a.example", "/chat/lobby", func(q *Request) { q.Listener = "redirects" }, 16},
	} {
		q := &Request{Listener: "public", Authority: c.authority, Target: c.target, Method: "GET", Major: 2}
		if c.edit != nil {
			c.edit(q)
		}
		if got, known := table.Lookup(q); got != c.want || !known {
			t.Errorf("%s%s: got route %d (known %v), want %d", c.authority, c.target, got, known, c.want)
		}
		if v := Explain(routes, q)[0]; v.Index != c.want || v.Failed != "" || v.Why == "" {
			t.Errorf("%s%s: explained by %+v, want route %d", c.authority, c.target, v, c.want)
		}
	}
}

// TestKnown: a host without any route on the listener is not known.
func TestKnown(t *testing.T) {
	table := New([]*config.Match{
		{Hosts: []string{"a.example"}, Path: "/x"}, {Hosts: []string{"*.b.example"}, Listeners: []string{"private"}},
	})
	for _, c := range []struct {
		listener, host string
		index          int
		known          bool
	}{
		{"public", "a.example", -1, true},
		{"public", "c.example", -1, false},
		{"public", "x.b.example", -1, false},
		{"private", "x.b.example", 1, true},
		{"private", "b.example", -1, false},
	} {
		q := &Request{Listener: c.listener, Authority: c.host, Target: "/", Method: "GET", Major: 2}
		if i, known := table.Lookup(q); i != c.index || known != c.known {
			t.Errorf("%s on %s: got %d, %v; want %d, %v", c.host, c.listener, i, known, c.index, c.known)
		}
	}
}

// TestLookupIsExplain: the table and the judgement of each route by itself agree.
func TestLookupIsExplain(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	path := func(segs ...string) (p string) {
		for range rnd.IntN(4) + 1 {
			p += "/" + pick(segs...)
		}
		return p
	}
	for range 300 {
		var routes []*config.Match
		for range 12 {
			m := new(config.Match)
			for range rnd.IntN(3) {
				m.Hosts = append(m.Hosts, pick("a.x", "b.x", "*.x", "c.b.x", "*.b.x"))
			}
			switch rnd.IntN(3) {
			case 0:
				m.Path = path("a", "b", "*", "")
			case 1:
				m.Prefix = path("a", "b", "*")
			}
			m.Kind = pick("", "", "websocket", "http")
			if rnd.IntN(3) == 0 {
				m.HTTP = []int{1 + rnd.IntN(2)}
			}
			if rnd.IntN(4) == 0 {
				m.Listeners = []string{pick("p", "q")}
			}
			routes = append(routes, m)
		}
		table := New(routes)
		for range 50 {
			q := &Request{
				Listener: pick("p", "q"), Authority: pick("a.x", "b.x", "c.b.x", "d.c.b.x", "x", "y"), Target: path("a", "b", "c", ""),
				Method: "GET", WebSocket: rnd.IntN(2) == 0, Major: 1 + rnd.IntN(2),
			}
			want := -1
			if v := Explain(routes, q)[0]; v.Failed == "" {
				want = v.Index
			}
			if got, _ := table.Lookup(q); got != want {
				t.Fatalf("%+v: got route %d, want %d", *q, got, want)
			}
		}
	}
}

func TestCanServe(t *testing.T) {
	for _, c := range []struct {
		m    config.Match
		want bool
	}{
		{config.Match{}, true},
		{config.Match{Kind: "http"}, false},
		{config.Match{HTTP: []int{1, 3}}, false},
		{config.Match{Listeners: []string{"q"}}, false},
		{config.Match{Methods: []string{"POST"}}, false},
		{config.Match{Kind: "websocket", HTTP: []int{2}, Listeners: []string{"p"}, Methods: []string{"GET"}}, true},
	} {
		if got := CanServe(&c.m, "p", 2); got != c.want {
			t.Errorf("%+v: got %v, want %v", c.m, got, c.want)
		}
	}
}

func tenThousand() []*config.Match {
	var routes []*config.Match
	for i := range 10_000 {
		m := &config.Match{Hosts: []string{fmt.Sprintf("host%d.example.com", i%2500)}}
		switch i / 2500 {
		case 0:
			m.Prefix = "/"
		case 1:
			m.Prefix = "/chat"
		case 2:
			m.Path = "/rooms/*/socket"
		case 3:
			m.Prefix, m.Kind = "/chat", "websocket"
		}
		routes = append(routes, m)
	}
	return append(routes, &config.Match{Hosts: []string{"*.example.com"}}, &config.Match{})
}

func TestLookupAllocates(t *testing.T) {
	table := New(tenThousand())
	q := &Request{Listener: "p", Authority: "HOST77.example.com:8443", Target: "/rooms/9/socket?x=1", Method: "GET", WebSocket: true, Major: 2}
	if n := testing.AllocsPerRun(100, func() { table.Lookup(q) }); n != 0 {
		t.Errorf("allocations: got %v, want 0", n)
	}
}

func BenchmarkRoute10000(b *testing.B) {
	table := New(tenThousand())
	for name, q := range map[string]*Request{
		"segment": {Authority: "host77.example.com:8443", Target: "/rooms/9/socket?x=1", Method: "GET", WebSocket: true, Major: 2},
		"prefix":  {Authority: "host2400.example.com", Target: "/chat/a/b/c", Method: "GET", WebSocket: true, Major: 2},
		"wild":    {Authority: "other.example.com", Target: "/a/b/c/d/e", Method: "GET", Major: 2},
		"any":     {Authority: "a.b.c.d.example.org", Target: "/", Method: "GET", Major: 1},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if i, _ := table.Lookup(q); i < 0 {
					b.Fatal("no route")
				}
			}
		})
	}
}

func BenchmarkNew10000(b *testing.B) {
	routes := tenThousand()
	for b.Loop() {
		New(routes)
	}
}
