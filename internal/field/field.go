// Package field knows the syntax of message heads that all HTTP versions share:
// tokens, field values, targets, authorities (RFC 9110 section 5, RFC 9113
// section 8, RFC 3986). Its functions are pure, allocate nothing unless they
// say so, and may be called from any goroutine.
package field

import (
	"net/netip"
	"strings"
)

// tchar marks the octets of a token (RFC 9110 section 5.6.2).
var tchar = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] = true
	}
	return t
}()

// Token reports whether s is a token (RFC 9110 section 5.6.2): a method, a
// field name, a list element.
func Token(s string) bool {
	for i := 0; i < len(s); i++ {
		if !tchar[s[i]] {
			return false
		}
	}
	return s != ""
}

// LowerToken reports whether s is a token without upper case letters, as the
// field names of HTTP/2 and HTTP/3 have to be (RFC 9113 section 8.2.1).
func LowerToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !tchar[c] || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return s != ""
}

// Value reports whether s may stand as a field value: no control octets but
// HTAB inside, no white space at either end (RFC 9110 section 5.5, RFC 9113
// section 8.2.1). The empty value is fine.
func Value(s string) bool {
	if s == "" {
		return true
	}
	if isBlank(s[0]) || isBlank(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if control[s[i]] {
			return false
		}
	}
	return true
}

// control marks the octets that no field value holds.
var control = func() (t [256]bool) {
	for c := range ' ' {
		t[c] = c != '\t'
	}
	t[0x7f] = true
	return t
}()

// Same reports whether two names or tokens are the same without regard to letter
// case (RFC 9110 sections 5.1 and 5.6.2). Only the letters of ASCII have a case here.
func Same(a, b string) bool {
	if len(a) != len(b) || a == b {
		return a == b
	}
	for i := 0; i < len(a); i++ {
		if a[i] != b[i] && lower[a[i]] != lower[b[i]] {
			return false
		}
	}
	return true
}

// lower maps the capital letters of ASCII to small ones.
var lower = func() (t [256]byte) {
	for c := range t {
		t[c] = byte(c)
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = byte(c - 'A' + 'a')
	}
	return t
}()

// Trim returns s without the optional white space around it (RFC 9110 section 5.6.3).
func Trim(s string) string {
	for s != "" && isBlank(s[0]) {
		s = s[1:]
	}
	for s != "" && isBlank(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	return s
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// PathVerdict is what Path says of a target.
type PathVerdict int

// The verdicts of Path.
const (
	PathOK        PathVerdict = iota
	PathMalformed             // no origin-form target at all
	PathRefused               // a target that this gateway does not forward: 400
)

// Path judges an origin-form target (RFC 9112 section 3.2.1). Control octets,
// SP, "#", an empty target and one without a leading "/" are malformed. Octets
// over 0x7e are refused, and so are "." and ".." segments, also as %2e, unless
// dots allows them: what is routed must be what the backend resolves.
func Path(p string, dots bool) PathVerdict {
	if p == "" || p[0] != '/' {
		return PathMalformed
	}
	verdict := PathOK
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c <= ' ' || c == 0x7f || c == '#':
			return PathMalformed
		case c > 0x7e:
			verdict = PathRefused
		}
	}
	if verdict == PathOK && !dots && hasDotSegment(p) {
		return PathRefused
	}
	return verdict
}

// hasDotSegment looks for "." and ".." segments in the path part of a target.
func hasDotSegment(p string) bool {
	if q := strings.IndexByte(p, '?'); q >= 0 {
		p = p[:q]
	}
	if strings.IndexByte(p, '.') < 0 && strings.IndexByte(p, '%') < 0 {
		return false
	}
	for p != "" {
		p = p[1:] // the slash
		seg := p
		if i := strings.IndexByte(p, '/'); i >= 0 {
			seg, p = p[:i], p[i:]
		} else {
			p = ""
		}
		if isDots(seg) {
			return true
		}
	}
	return false
}

func isDots(seg string) bool {
	n := 0
	for seg != "" {
		switch {
		case seg[0] == '.':
			seg = seg[1:]
		case len(seg) >= 3 && seg[0] == '%' && seg[1] == '2' && (seg[2]|0x20) == 'e':
			seg = seg[3:]
		default:
			return false
		}
		n++
	}
	return n == 1 || n == 2
}

// Authority reports whether a is host[:port] of RFC 3986 section 3.2 without
// userinfo, which RFC 9110 section 4.2.4 forbids here. The host is not empty.
func Authority(a string) bool {
	host, port, ok := splitAuthority(a)
	if !ok || host == "" || len(port) > 5 {
		return false
	}
	for i := 0; i < len(port); i++ {
		if port[i] < '0' || port[i] > '9' {
			return false
		}
	}
	if host[0] == '[' {
		ip, err := netip.ParseAddr(host[1 : len(host)-1])
		return err == nil && ip.Is6() && ip.Zone() == ""
	}
	for i := 0; i < len(host); i++ {
		if !regName[host[i]] {
			return false
		}
	}
	return true
}

// regName marks the octets of a reg-name (RFC 3986 section 3.2.2) but the
// comma, which would make one Host field look like a list of two.
var regName = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-'a'+'A'] = true, true
	}
	for _, c := range "-._~%!$&'()*+;=" {
		t[c] = true
	}
	return t
}()

func splitAuthority(a string) (host, port string, ok bool) {
	if strings.HasPrefix(a, "[") {
		i := strings.IndexByte(a, ']')
		if i < 0 {
			return "", "", false
		}
		host, a = a[:i+1], a[i+1:]
		if a == "" {
			return host, "", true
		}
		return host, a[1:], a[0] == ':'
	}
	host, port, _ = strings.Cut(a, ":")
	return host, port, true
}

// SameAuthority reports whether a and b name the same authority: the host
// without regard to letter case, the port with the scheme's default filled in
// (RFC 9110 section 4.2.3).
func SameAuthority(a, b, scheme string) bool {
	if a == b {
		return true
	}
	ha, pa, ok1 := splitAuthority(a)
	hb, pb, ok2 := splitAuthority(b)
	return ok1 && ok2 && Same(ha, hb) && portOf(pa, scheme) == portOf(pb, scheme)
}

func portOf(port, scheme string) string {
	if port != "" {
		return port
	}
	if scheme == "https" || scheme == "wss" {
		return "443"
	}
	return "80"
}

// HopByHop reports whether the field is one of those that an intermediary
// always removes (RFC 9110 section 7.6.1), in any letter case.
func HopByHop(name string) bool {
	switch len(name) {
	case 2:
		return Same(name, "te")
	case 7:
		return Same(name, "upgrade")
	case 10:
		return Same(name, "connection") || Same(name, "keep-alive")
	case 14:
		return Same(name, "http2-settings")
	case 16:
		return Same(name, "proxy-connection")
	case 17:
		return Same(name, "transfer-encoding")
	}
	return false
}

// ContentLength reads the Content-Length lines of a message (RFC 9110 section
// 8.6). Equal values, in one list or on several lines, collapse to one. It is
// false for anything that is no decimal number or is over 1<<62.
func ContentLength(values []string) (int64, bool) {
	n := int64(-1)
	for _, line := range values {
		for more := true; more; {
			var item string
			item, line, more = strings.Cut(line, ",")
			v, ok := digits(Trim(item))
			if !ok || n >= 0 && v != n {
				return 0, false
			}
			n = v
		}
	}
	return n, n >= 0
}

func digits(s string) (int64, bool) {
	if s == "" || len(s) > 19 {
		return 0, false
	}
	n := int64(0)
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		if n > (1<<62)/10 {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, n <= 1<<62
}
