package enginetest

import "strings"

// Case is a head and what becomes of it.
type Case struct {
	Row    string   // of the case list, with a word on it
	Change []string // for Edit
	End    bool     // the client ends its direction with the head
	Want   string   // "offer", "malformed", or a status and a reason code
}

// Edit returns base with the pairs of change put in: a name that is there gets
// the new value, "-name" goes, "+name" and anything else is appended.
func Edit(base []string, change ...string) []string {
	out := append([]string(nil), base...)
	for i := 0; i+1 < len(change); i += 2 {
		name, value := change[i], change[i+1]
		at := -1
		for k := 0; k+1 < len(out); k += 2 {
			if out[k] == strings.TrimPrefix(name, "-") {
				at = k
			}
		}
		switch {
		case strings.HasPrefix(name, "-"):
			out = append(out[:at], out[at+2:]...)
		case strings.HasPrefix(name, "+") || at < 0:
			out = append(out, strings.TrimPrefix(name, "+"), value)
		default:
			out[at+1] = value
		}
	}
	return out
}

// Connect are changes to a good extended CONNECT for https or http and
// example.com, /chat, with sec-websocket-version and nothing else.
func Connect() []Case {
	return []Case{
		{"11 well-formed", nil, false, "offer"},
		{"12, 143 no scheme", []string{"-:scheme", ""}, false, "malformed"},
		{"13 no path", []string{"-:path", ""}, false, "malformed"},
		{"14 no authority", []string{"-:authority", ""}, false, "malformed"},
		{"15 host in its place", []string{"-:authority", "", "host", "example.com"}, false, "malformed"},
		{"16 empty path", []string{":path", ""}, false, "malformed"},
		{"17 path without slash", []string{":path", "chat"}, false, "malformed"},
		{"17 path star", []string{":path", "*"}, false, "malformed"},
		{"17 absolute path", []string{":path", "http://evil/"}, false, "malformed"},
		{"18 GET", []string{":method", "GET"}, false, "malformed"},
		{"19 protocol twice", []string{"+:protocol", "websocket"}, false, "malformed"},
		{"19 path twice", []string{"+:path", "/chat"}, false, "malformed"},
		{"19 method twice", []string{"+:method", "CONNECT"}, false, "malformed"},
		{"19 first copy empty", []string{":authority", "", "+:authority", "example.com"}, false, "malformed"},
		{"20 pseudo after regular", []string{"-:path", "", "+:path", "/chat"}, false, "malformed"},
		{"21 unknown pseudo", []string{"-sec-websocket-version", "", "+:foo", "x"}, false, "malformed"},
		{"21 status", []string{"-sec-websocket-version", "", "+:status", "200"}, false, "malformed"},
		{"22, 146 connect-udp", []string{":protocol", "connect-udp"}, false, "501 unknown-protocol"},
		{"22, 163 webtransport", []string{":protocol", "webtransport"}, false, "501 unknown-protocol"},
		{"23 h2c", []string{":protocol", "h2c"}, false, "501 unknown-protocol"},
		{"23 tls/1.2", []string{":protocol", "tls/1.2"}, false, "malformed"},
		{"24 mixed case", []string{":protocol", "WebSocket"}, false, "offer"},
		{"24 upper case", []string{":protocol", "WEBSOCKET"}, false, "offer"},
		{"25 list", []string{":protocol", "websocket, foo"}, false, "malformed"},
		{"25 version", []string{":protocol", "websocket/13"}, false, "malformed"},
		{"25 empty", []string{":protocol", ""}, false, "malformed"},
		{"25 space", []string{":protocol", "web socket"}, false, "malformed"},
		{"29 wss", []string{":scheme", "wss"}, false, "malformed"},
		{"29 ws", []string{":scheme", "ws"}, false, "malformed"},
		{"29 other scheme", []string{":scheme", "ftp"}, false, "400 unknown-scheme"},
		{"29 no scheme at all", []string{":scheme", "ht tp"}, false, "malformed"},
		{"31 connection", []string{"connection", "Upgrade"}, false, "malformed"},
		{"32 upgrade", []string{"upgrade", "websocket"}, false, "malformed"},
		{"33 keep-alive", []string{"keep-alive", "5"}, false, "malformed"},
		{"33 proxy-connection", []string{"proxy-connection", "close"}, false, "malformed"},
		{"33 transfer-encoding", []string{"transfer-encoding", "chunked"}, false, "malformed"},
		{"34 te gzip", []string{"te", "gzip"}, false, "malformed"},
		{"34 te trailers", []string{"te", "trailers"}, false, "offer"},
		{"35 ended", nil, true, "400 connect-with-content"},
		{"36 content-length", []string{"content-length", "5"}, false, "400 connect-with-content"},
		{"36 content-length 0", []string{"content-length", "0"}, false, "offer"},
		{"36 content-length no number", []string{"content-length", "+5"}, false, "malformed"},
		{"37 expect", []string{"expect", "100-continue"}, false, "offer"},
		{"38 userinfo", []string{":authority", "user:pw@example.com"}, false, "malformed"},
		{"39 other host", []string{"host", "other.example"}, false, "malformed"},
		{"39 host twice", []string{"+host", "example.com", "+host", "example.com"}, false, "malformed"},
		{"41 upper case name", []string{"Origin", "x"}, false, "malformed"},
		{"42 space in name", []string{"a b", "x"}, false, "malformed"},
		{"42 CR in name", []string{"a\rb", "x"}, false, "malformed"},
		{"42 LF in name", []string{"a\nb", "x"}, false, "malformed"},
		{"42 NUL in name", []string{"a\x00b", "x"}, false, "malformed"},
		{"42 DEL in name", []string{"a\x7fb", "x"}, false, "malformed"},
		{"42 0x80 in name", []string{"a\x80b", "x"}, false, "malformed"},
		{"42 empty name", []string{"", "x"}, false, "malformed"},
		{"43 colon in name", []string{"a:b", "x"}, false, "malformed"},
		{"44 injected line in cookie", []string{"cookie", "a=b\r\nx: y"}, false, "malformed"},
		{"44 injected line in origin", []string{"origin", "a\r\nx: y"}, false, "malformed"},
		{"44 injected line in subprotocol", []string{"sec-websocket-protocol", "a\r\nx: y"}, false, "malformed"},
		{"45 bare LF", []string{"origin", "a\nb"}, false, "malformed"},
		{"45 bare CR", []string{"origin", "a\rb"}, false, "malformed"},
		{"45 NUL", []string{"origin", "a\x00b"}, false, "malformed"},
		{"46 leading space", []string{"origin", " a"}, false, "malformed"},
		{"46 trailing tab", []string{"origin", "a\t"}, false, "malformed"},
		{"47 CRLF in path", []string{":path", "/a\r\nb"}, false, "malformed"},
		{"47 space in path", []string{":path", "/a b"}, false, "malformed"},
		{"47 hash in path", []string{":path", "/a#b"}, false, "malformed"},
		{"47 space in method", []string{":method", "CONN ECT"}, false, "malformed"},
		{"47 CRLF in authority", []string{":authority", "a\r\nb"}, false, "malformed"},
		{"48 raw UTF-8", []string{":path", "/caf\xc3\xa9"}, false, "400 bad-target"},
		{"48 backslash", []string{":path", `/a\b`}, false, "offer"},
		{"48 %00", []string{":path", "/a%00"}, false, "offer"},
		{"48 dot segments", []string{":path", "/a/../b"}, false, "400 path-dots"},
		{"48 coded dot segments", []string{":path", "/a/%2e%2e/b"}, false, "400 path-dots"},
		{"48 two slashes", []string{":path", "//host"}, false, "offer"},
		{"59 key", []string{"sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="}, false, "offer"},
		{"62 version is the bridge's", []string{"sec-websocket-version", "8"}, false, "offer"},
		{"144 both and different", []string{"host", "other.example"}, false, "malformed"},
		{"144 empty authority", []string{":authority", ""}, false, "malformed"},
		{"228 two keys", []string{"+sec-websocket-key", "a", "+sec-websocket-key", "b"}, false, "offer"},
		{"231 paren in name", []string{"a(b", "x"}, false, "malformed"},
		{"231 brace in name", []string{"a{b", "x"}, false, "malformed"},
	}
}

// Ordinary are changes to a good GET.
func Ordinary() []Case {
	return []Case{
		{"GET", nil, true, "200"},
		{"143 no scheme", []string{"-:scheme", ""}, true, "malformed"},
		{"144, 181 other host", []string{"host", "other"}, true, "malformed"},
		{"145 host alone", []string{"-:authority", "", "host", "example.com"}, true, "200"},
		{"144 neither", []string{"-:authority", ""}, true, "malformed"},
		{"144 empty authority", []string{":authority", ""}, true, "malformed"},
		{"144 empty host alone", []string{"-:authority", "", "host", ""}, true, "malformed"},
		{"no method", []string{"-:method", ""}, true, "malformed"},
		{"OPTIONS star", []string{":method", "OPTIONS", ":path", "*"}, true, "200"},
		{"GET star", []string{":path", "*"}, true, "malformed"},
		{"183 length without content", []string{"content-length", "3"}, true, "malformed"},
		{"204 +5", []string{"content-length", "+5"}, false, "malformed"},
		{"204 5, 5 and 6", []string{"+content-length", "5", "+content-length", "6"}, false, "malformed"},
		{"48 no URL", []string{":path", "/%zz"}, true, "200"},
		{"upgrade", []string{"upgrade", "h2c"}, true, "malformed"},
		{"dots", []string{":path", "/./a"}, true, "400 path-dots"},
	}
}
