package field

import "testing"

func TestToken(t *testing.T) {
	for s, want := range map[string]bool{"": false, "websocket": true, "WebSocket": true, "a b": false, "a:b": false, "a(": false, "x\x00": false, "é": false, "!#$%&'*+-.^_`|~0": true} {
		if got := Token(s); got != want {
			t.Errorf("Token(%q): got %v, want %v", s, got, want)
		}
	}
	for s, want := range map[string]bool{"": false, "cookie": true, "Cookie": false, "a@b": false} {
		if got := LowerToken(s); got != want {
			t.Errorf("LowerToken(%q): got %v, want %v", s, got, want)
		}
	}
}

func TestValue(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "a": true, "a b": true, "a\tb": true, " a": false, "a ": false, "\ta": false, "a\t": false,
		"a\r\nx: y": false, "a\nb": false, "a\rb": false, "a\x00b": false, "a\x7f": false, "\x80\xff": true,
	} {
		if got := Value(s); got != want {
			t.Errorf("Value(%q): got %v, want %v", s, got, want)
		}
	}
}

func TestPath(t *testing.T) {
	for _, c := range []struct {
		path string
		dots bool
		want PathVerdict
	}{
		{"/", false, PathOK},
		{"/chat?room=1&x=..", false, PathOK},
		{"/a%2fb%00", false, PathOK},
		{"/a\\b//c", false, PathOK},
		{"/.well-known/x", false, PathOK},
		{"/...", false, PathOK},
		{"", false, PathMalformed},
		{"*", false, PathMalformed},
		{"chat", false, PathMalformed},
		{"http://evil/", false, PathMalformed},
		{"/a b", false, PathMalformed},
		{"/a\r\nb", false, PathMalformed},
		{"/a#b", false, PathMalformed},
		{"/\x7f", false, PathMalformed},
		{"/é", false, PathRefused},
		{"/..", false, PathRefused},
		{"/a/../b", false, PathRefused},
		{"/a/./b", false, PathRefused},
		{"/a/%2e%2E/b", false, PathRefused},
		{"/a/.%2e?x", false, PathRefused},
		{"/a/../b", true, PathOK},
	} {
		if got := Path(c.path, c.dots); got != c.want {
			t.Errorf("Path(%q, %v): got %v, want %v", c.path, c.dots, got, c.want)
		}
	}
}

func TestAuthority(t *testing.T) {
	for s, want := range map[string]bool{
		"example.org": true, "example.org:8443": true, "EXAMPLE.org:": true, "127.0.0.1:80": true, "[::1]:8443": true, "[::1]": true,
		"": false, ":80": false, "user@h": false, "user:pw@h": false, "a b": false, "a, b": false, "a:b": false, "a:1:2": false,
		"[::1": false, "[zz]": false, "[::1]x": false, "[127.0.0.1]": false, "a/b": false, "h:123456": false, "h\r\n": false,
	} {
		if got := Authority(s); got != want {
			t.Errorf("Authority(%q): got %v, want %v", s, got, want)
		}
	}
}

func TestSameAuthority(t *testing.T) {
	for _, c := range []struct {
		a, b, scheme string
		want         bool
	}{
		{"h", "H", "https", true},
		{"h:443", "H", "https", true},
		{"h:80", "h", "https", false},
		{"h:80", "h", "http", true},
		{"[::1]:443", "[::1]", "https", true},
		{"h", "other", "https", false},
	} {
		if got := SameAuthority(c.a, c.b, c.scheme); got != c.want {
			t.Errorf("SameAuthority(%q, %q, %q): got %v, want %v", c.a, c.b, c.scheme, got, c.want)
		}
	}
}

func TestHopByHop(t *testing.T) {
	for s, want := range map[string]bool{
		"TE": true, "Upgrade": true, "Connection": true, "keep-alive": true, "HTTP2-Settings": true, "Proxy-Connection": true,
		"Transfer-Encoding": true, "Trailer": false, "Cookie": false, "Content-Length": false,
	} {
		if got := HopByHop(s); got != want {
			t.Errorf("HopByHop(%q): got %v, want %v", s, got, want)
		}
	}
}

func TestContentLength(t *testing.T) {
	for _, c := range []struct {
		in   []string
		want int64
		ok   bool
	}{
		{[]string{"5"}, 5, true},
		{[]string{"0"}, 0, true},
		{[]string{"5, 5"}, 5, true},
		{[]string{"5", "5"}, 5, true},
		{nil, 0, false},
		{[]string{""}, 0, false},
		{[]string{"5,"}, 0, false},
		{[]string{"+5"}, 0, false},
		{[]string{"-5"}, 0, false},
		{[]string{"0x5"}, 0, false},
		{[]string{"5 5"}, 0, false},
		{[]string{"5", "6"}, 0, false},
		{[]string{"99999999999999999999"}, 0, false},
		{[]string{"9223372036854775807"}, 0, false},
	} {
		got, ok := ContentLength(c.in)
		if ok != c.ok || ok && got != c.want {
			t.Errorf("ContentLength(%q): got %d %v, want %d %v", c.in, got, ok, c.want, c.ok)
		}
	}
}

func TestSame(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "", true},
		{"Host", "host", true},
		{"HOST", "host", true},
		{"host", "hosts", false},
		{"host", "hast", false},
		{"Upgrade", "uPGRADE", true},
		{"@", "`", false},
		{"[", "{", false},
		{"É", "é", false},
		{"ſ", "s", false},
		{"\u212a12", "kkkkk", false},
	} {
		if got := Same(c.a, c.b); got != c.want {
			t.Errorf("Same(%q, %q): got %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestTrim(t *testing.T) {
	for s, want := range map[string]string{"": "", " ": "", " \t ": "", "a": "a", " a b\t": "a b", "\ta": "a", "a ": "a", "\u00a0a": "\u00a0a", "\na": "\na"} {
		if got := Trim(s); got != want {
			t.Errorf("Trim(%q): got %q, want %q", s, got, want)
		}
	}
}
