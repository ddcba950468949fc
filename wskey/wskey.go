// Package wskey makes, checks and answers the key of a WebSocket opening
// handshake: Sec-WebSocket-Key and Sec-WebSocket-Accept of RFC 6455.
//
// All functions may be called from any goroutine.
package wskey

import (
	"crypto/rand"
	"crypto/sha1"
	"encoding/base64"
	"strings"
)

const (
	nonceLen  = 16 // octets in a key once decoded (RFC 6455 section 4.1 item 7)
	keyLen    = 24 // base64 of nonceLen octets
	acceptLen = 28 // base64 of a SHA-1 digest

	// guid is appended to the key before it is hashed (RFC 6455 section 1.3).
	guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
)

// New returns a fresh key: 16 random octets in base64, 24 characters
// (RFC 6455 section 4.1 item 7). The octets come from the system's random
// source, each key its own: no two handshakes share one.
func New() string {
	var nonce [nonceLen]byte
	var key [keyLen]byte
	rand.Read(nonce[:]) // never fails: it ends the program rather than be predictable
	base64.StdEncoding.Encode(key[:], nonce[:])
	return string(key[:])
}

// Valid reports whether key is the base64 of exactly 16 octets
// (RFC 6455 section 4.2.1 item 5) in its one canonical spelling: standard
// alphabet, padded, no white space, no stray bits behind the last octet.
func Valid(key string) bool {
	// A length of 24 alone is not enough: it may hold 17 or 18 octets. The last
	// character before the padding has two bits of the nonce; the others are 0.
	if len(key) != keyLen || key[keyLen-2:] != "==" || sextet[key[keyLen-3]]&0xf != 0 {
		return false
	}
	for i := range keyLen - 2 {
		if sextet[key[i]] > 63 {
			return false
		}
	}
	return true
}

// sextet is what a character of base64 stands for (RFC 4648 section 4), 255 for
// any other octet.
var sextet = func() (t [256]byte) {
	for i := range t {
		t[i] = 255
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	return t
}()

// Accept returns the Sec-WebSocket-Accept that answers key: the base64 of the
// SHA-1 digest of the key and a fixed text (RFC 6455 section 1.3). It does not
// judge the key.
func Accept(key string) string {
	a := accept(key)
	return string(a[:])
}

// Match reports whether answer is the Sec-WebSocket-Accept for key. White
// space around the answer is ignored, letter case is not
// (RFC 6455 section 4.1, client requirement 4).
func Match(answer, key string) bool {
	a := accept(key)
	return strings.Trim(answer, " \t") == string(a[:])
}

func accept(key string) (out [acceptLen]byte) {
	var buf [keyLen + len(guid)]byte
	in := append(buf[:0], key...)
	in = append(in, guid...)
	sum := sha1.Sum(in)
	base64.StdEncoding.Encode(out[:], sum[:])
	return out
}
