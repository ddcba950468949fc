package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

func (k *checker) routes() {
	c := k.c
	if len(c.Routes) == 0 {
		if len(c.Upstreams) != 1 {
			k.fail("routes", "no request would be served; name a route, or just one upstream")
			return
		}
		for name := range c.Upstreams { // one upstream and no route: it takes all
			c.Routes = []Route{{Upstream: name}}
		}
	}
	names := map[string]bool{}
	matches := map[string]int{}
	for i := range c.Routes {
		r := &c.Routes[i]
		path := fmt.Sprintf("routes[%d]", i)
		k.match(path+".match", &r.Match)
		k.action(path, r)
		if r.Drain != nil {
			k.closing(path+".drain", r.Drain.Code, r.Drain.Reason)
		}
		key := r.Match.String()
		if j, ok := matches[key]; ok {
			k.fail(path, "is never used: routes[%d] matches just the same", j)
		}
		matches[key] = i
		if r.Name == "" {
			r.Name = key
		} else if names[r.Name] {
			k.fail(path+".name", "a second route with the name %q", r.Name)
		}
		names[r.Name] = true
	}
}

func (k *checker) action(path string, r *Route) {
	n := 0
	for _, is := range []bool{r.Upstream != "", r.Redirect != nil, r.Answer != nil} {
		if is {
			n++
		}
	}
	if n != 1 {
		k.fail(path, "needs one of upstream, redirect and answer, and no more")
	}
	if r.Upstream != "" && k.c.Upstreams[r.Upstream] == nil {
		k.fail(path+".upstream", "%s", noneOf("upstream", r.Upstream, slices.Sorted(maps.Keys(k.c.Upstreams))))
	}
	if d := r.Redirect; d != nil {
		k.redirect(path+".redirect", d)
	}
	if a := r.Answer; a != nil {
		k.answer(path+".answer", a)
	}
}

func (k *checker) redirect(path string, d *Redirect) {
	switch d.Status {
	case 301, 302, 303, 307, 308:
	default:
		k.fail(path+".status", "%d is no redirect; 301, 302, 303, 307 or 308", d.Status)
	}
	switch {
	case d.Scheme == "" && d.Host == "" && d.Port == 0 && d.Path == "":
		k.fail(path, "changes nothing; say for example scheme: https")
	case strings.ContainsAny(d.Host, " \t\r\n/@?#"):
		k.fail(path+".host", "%q is no host", d.Host)
	case d.Path != "" && (d.Path[0] != '/' || !visible(d.Path)):
		k.fail(path+".path", "%q does not begin with / or holds octets that no target may hold", d.Path)
	}
	if _, _, err := net.SplitHostPort(d.Host); err == nil && d.Port != 0 {
		k.fail(path+".port", "stands in host already")
	}
}

func (k *checker) answer(path string, a *Answer) {
	if (a.Status == 204 || a.Status == 205 || a.Status == 304) && a.Body != "" {
		k.fail(path+".body", "a %d has no content (RFC 9110 section 6.4.1)", a.Status)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Headers)) {
		at := path + ".headers." + name
		switch strings.ToLower(name) {
		case "connection", "content-length", "transfer-encoding", "upgrade", "keep-alive", "te", "trailer", "proxy-connection":
			k.fail(at, "the gateway makes %s by itself", name)
		default:
			if v := a.Headers[name]; !token7230(name) || strings.ContainsAny(v, "\r\n\x00") || strings.TrimSpace(v) != v {
				k.fail(at, "is no field (RFC 9110 section 5)")
			}
		}
	}
}

func (k *checker) match(path string, m *Match) {
	listeners := make([]string, len(k.c.Listeners))
	for i := range k.c.Listeners {
		listeners[i] = k.c.Listeners[i].Name
	}
	for i, name := range m.Listeners {
		if !slices.Contains(listeners, name) {
			k.fail(fmt.Sprintf("%s.listeners[%d]", path, i), "%s", noneOf("listener", name, listeners))
		}
	}
	for i := range m.Hosts {
		k.host(fmt.Sprintf("%s.hosts[%d]", path, i), &m.Hosts[i])
	}
	if m.Path != "" && m.Prefix != "" {
		k.fail(path+".prefix", "not together with path")
	}
	k.pattern(path+".path", m.Path)
	k.pattern(path+".prefix", m.Prefix)
	for i, s := range m.Methods {
		at := fmt.Sprintf("%s.methods[%d]", path, i)
		switch {
		case !token7230(s) || s != strings.ToUpper(s):
			k.fail(at, "%q is no method; they are written in capitals", s)
		case m.Kind == "websocket" && s != "GET":
			k.fail(at, "a handshake counts as GET and never as %s", s)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		at := path + ".headers." + name
		switch {
		case !token7230(name):
			k.fail(at, "%q is no name of a field", name)
		case strings.EqualFold(name, "host"):
			k.fail(at, "use hosts")
		}
	}
}

// host checks and lowers a host name, *.name or IP address.
func (k *checker) host(path string, h *string) {
	s := strings.ToLower(strings.TrimSuffix(*h, "."))
	name := strings.TrimPrefix(s, "*.")
	if a, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil && name == s {
		*h = a.String()
		return
	}
	bad := name == "" || len(name) > 253 || strings.Contains(name, "..") || name[0] == '.'
	for _, b := range []byte(name) {
		bad = bad || b <= ' ' || b >= 0x7f || strings.IndexByte("*:/?#@[]\\", b) >= 0
	}
	if bad {
		k.fail(path, "%q is no host name; without scheme, port and path, and * only as the first label", *h)
	}
	*h = s
}

// pattern checks a path or prefix.
func (k *checker) pattern(path, p string) {
	if p == "" {
		return
	}
	if p[0] != '/' || !visible(p) || strings.Contains(p, "?") {
		k.fail(path, "%q does not begin with /, or holds octets that no path may hold", p)
		return
	}
	for seg := range strings.SplitSeq(p[1:], "/") {
		if seg != "*" && strings.Contains(seg, "*") {
			k.fail(path, "%q: * stands for a whole segment only", p)
		}
	}
}

// visible reports whether a target may hold these octets as they are: 0x21 to
// 0x7e but for # (docs/architecture.md section 7).
func visible(s string) bool {
	for _, b := range []byte(s) {
		if b <= ' ' || b >= 0x7f || b == '#' {
			return false
		}
	}
	return true
}

// String names the match in one line, the same for the same conditions.
func (m *Match) String() string {
	var b strings.Builder
	add := func(s string) {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(s)
	}
	list := func(name string, v []string) {
		if len(v) > 0 {
			v = slices.Sorted(slices.Values(v))
			add(name + strings.Join(v, ","))
		}
	}
	list("", m.Hosts)
	switch {
	case m.Path != "":
		add(m.Path)
	case m.Prefix != "":
		add(strings.TrimSuffix(m.Prefix, "/") + "/**")
	}
	list("method=", m.Methods)
	for _, name := range slices.Sorted(maps.Keys(m.Headers)) {
		add(strings.ToLower(name) + "=" + m.Headers[name])
	}
	if m.Kind != "" {
		add("kind=" + m.Kind)
	}
	if len(m.HTTP) > 0 {
		v := make([]string, len(m.HTTP))
		for i, n := range slices.Sorted(slices.Values(m.HTTP)) {
			v[i] = strconv.Itoa(n)
		}
		add("http=" + strings.Join(v, ","))
	}
	list("listener=", m.Listeners)
	if b.Len() == 0 {
		return "all"
	}
	return b.String()
}
