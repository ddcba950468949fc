package loop

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// wire is a TLS 1.3 peer of single records, for what crypto/tls cannot say: it
// takes over a client connection after the handshake, with the secrets of its
// key log.
type wire struct {
	*net.TCPConn
	send, recv half
}

type half struct {
	secret, iv []byte
	aead       cipher.AEAD
	seq        uint64
}

const (
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
)

func expandLabel(secret []byte, label string, n int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(n))
	label = "tls13 " + label
	info = append(append(append(info, byte(len(label))), label...), 0)
	out, err := hkdf.Expand(sha256.New, secret, string(info), n)
	if err != nil {
		panic(err)
	}
	return out
}

func (h *half) set(secret []byte) {
	h.secret, h.seq = secret, 0
	h.iv = expandLabel(secret, "iv", 12)
	block, err := aes.NewCipher(expandLabel(secret, "key", 16))
	if err != nil {
		panic(err)
	}
	if h.aead, err = cipher.NewGCM(block); err != nil {
		panic(err)
	}
}

// update moves on to the next key (RFC 8446 section 7.2).
func (h *half) update() { h.set(expandLabel(h.secret, "traffic upd", 32)) }

func (h *half) nonce() []byte {
	n := bytes.Clone(h.iv)
	for i := range 8 {
		n[4+i] ^= byte(h.seq >> (56 - 8*i))
	}
	h.seq++
	return n
}

// record seals one record.
func (h *half) record(kind byte, data []byte) []byte {
	inner := append(bytes.Clone(data), kind)
	header := []byte{typeData, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(header[3:], uint16(len(inner)+16))
	return h.aead.Seal(header, h.nonce(), inner, header)
}

// open opens one record.
func (h *half) open(record []byte) (kind byte, data []byte, err error) {
	inner, err := h.aead.Open(nil, h.nonce(), record[5:], record[:5])
	if err != nil {
		return 0, nil, err
	}
	inner = bytes.TrimRight(inner, "\x00")
	return inner[len(inner)-1], inner[:len(inner)-1], nil
}

// keyUpdate is the message, with a request to answer in kind.
func (w *wire) keyUpdate(requested byte) []byte {
	r := w.send.record(typeHandshake, []byte{24, 0, 0, 1, requested})
	w.send.update()
	return r
}

// next reads one record.
func (w *wire) next() (kind byte, data []byte, err error) {
	header := make([]byte, 5)
	if _, err := io.ReadFull(w.TCPConn, header); err != nil {
		return 0, nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(header[3:]))
	if _, err := io.ReadFull(w.TCPConn, body); err != nil {
		return 0, nil, err
	}
	return w.recv.open(append(header, body...))
}

// want reads one record and checks it.
func (w *wire) want(t *testing.T, kind byte, data string) {
	t.Helper()
	k, d, err := w.next()
	if err != nil || k != kind || string(d) != data {
		t.Fatalf("got record type %d %q (%v), want %d %q", k, d, err, kind, data)
	}
}

// wired returns a TLS connection after its handshake over a shim and the wire to it.
func wired(t *testing.T) (*tls.Conn, *Shim, *wire) {
	t.Helper()
	var keys bytes.Buffer
	server, client := serverConfig(t, tls.VersionTLS13), clientConfig(tls.VersionTLS13)
	server.SessionTicketsDisabled = true // no record before ours
	client.KeyLogWriter = &keys
	sc, shim, cc, peer := shaken(t, server, client)
	if got := cc.ConnectionState().CipherSuite; got != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("got cipher suite %s, want TLS_AES_128_GCM_SHA256 (no AES in hardware?)", tls.CipherSuiteName(got))
	}
	w := &wire{TCPConn: peer}
	for line := range strings.Lines(keys.String()) {
		var label, random, secret string
		fmt.Sscan(line, &label, &random, &secret)
		key, err := hex.DecodeString(secret)
		if err != nil {
			t.Fatal(err)
		}
		switch label {
		case "CLIENT_TRAFFIC_SECRET_0":
			w.send.set(key)
		case "SERVER_TRAFFIC_SECRET_0":
			w.recv.set(key)
		}
	}
	return sc, shim, w
}
