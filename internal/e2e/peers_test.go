package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }

// authority issues certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t, dir: t.TempDir()}
	pair := a.issue("ca", time.Hour, "")
	a.cert, a.key = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name+".pem") }

// issue makes a certificate and its files NAME.pem and NAME-key.pem.
func (a *authority) issue(name string, life time.Duration, host string) tls.Certificate {
	a.t.Helper()
	must := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		IsCA: a.cert == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if host != "" {
		c.DNSNames = []string{host}
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	must(err)
	leaf, err := x509.ParseCertificate(der)
	must(err)
	pkcs, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	must(os.WriteFile(a.file(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(a.file(name+"-key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs}), 0o600))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// TestSecureBackend: names, authorities, client certificates and ALPN of TLS
// backends, for tunnels and requests (row 99).
func TestSecureBackend(t *testing.T) {
	ca, foreign := newAuthority(t), newAuthority(t)
	good := ca.issue("good", time.Hour, "app.test")
	expired := ca.issue("expired", -time.Minute, "app.test")
	unknown := foreign.issue("unknown", time.Hour, "app.test")
	client := ca.issue("client", time.Hour, "")
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	asks := func(c *tls.Config) { c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, pool }
	named := func(c *gateway.Config) { c.BackendCA, c.BackendServerName = ca.file("ca"), "app.test" }
	for _, x := range []struct {
		name   string
		cert   tls.Certificate
		server func(*tls.Config)
		edit   func(*gateway.Config)
		ok     bool
	}{
		{"CA and name", good, nil, named, true},
		{"TLS 1.2", good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, named, true},
		{"unchecked", unknown, nil, func(c *gateway.Config) { c.BackendInsecure = true }, true},
		{"wrong name", good, nil, func(c *gateway.Config) { named(c); c.BackendServerName = "other.test" }, false},
		{"the address is no name of it", good, nil, func(c *gateway.Config) { named(c); c.BackendServerName = "" }, false},
		{"unknown authority", unknown, nil, named, false},
		{"system's authorities", good, nil, func(c *gateway.Config) { c.BackendServerName = "app.test" }, false},
		{"expired", expired, nil, named, false},
		{"TLS 1.1", good, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, named, false},
		{"client certificate", good, asks, func(c *gateway.Config) {
			named(c)
			c.BackendCert, c.BackendKey = ca.file("client"), ca.file("client-key")
		}, true},
		{"no client certificate", good, asks, named, false},
		{"another client certificate", good, asks, func(c *gateway.Config) {
			named(c)
			c.BackendCert, c.BackendKey = foreign.file("unknown"), foreign.file("unknown-key")
		}, false},
	} {
		config := &tls.Config{Certificates: []tls.Certificate{x.cert}, NextProtos: []string{"h2", "http/1.1"}}
		if x.server != nil {
			x.server(config)
		}
		be, err := rawpeer.NewBackend("127.0.0.1:0", config)
		if err != nil {
			t.Fatal(err)
		}
		r := startWith(t, be, "wss://"+be.Addr(), x.edit)
		h := r.h1(false)
		r.must(h.WriteString(rawpeer.UpgradeRequest("/chat")))
		b := r.next()
		head, err := b.AcceptUpgrade()
		if (err == nil) != x.ok {
			t.Errorf("%s: handshake at the backend: got %v", x.name, err)
		}
		status := 502
		if x.ok {
			status = 101
			state := b.Conn().(*tls.Conn).ConnectionState()
			if state.NegotiatedProtocol != "http/1.1" || state.ServerName != "app.test" && x.name != "unchecked" {
				t.Errorf("%s: got ALPN %q, name %q; want http/1.1, app.test", x.name, state.NegotiatedProtocol, state.ServerName)
			}
			if x.name == "client certificate" && (len(state.PeerCertificates) != 1 || !state.PeerCertificates[0].Equal(client.Leaf)) {
				t.Errorf("%s: got %d certificates, want the client's", x.name, len(state.PeerCertificates))
			}
			if head.Fields.Get("X-Forwarded-Proto") != "http" {
				t.Errorf("%s: X-Forwarded-Proto: got %q, want the front's", x.name, head.Fields.Get("X-Forwarded-Proto"))
			}
		}
		_, err = h.WantStatus("GET", status)
		r.check(x.name, err)
		if x.ok {
			r.must(h.WriteString("up"))
			r.check(x.name, b.WantBytes([]byte("up")))
			r.must(b.Write([]byte("down")))
			r.check(x.name, h.WantBytes([]byte("down")))
			r.must(h.CloseWrite())
			r.check(x.name, b.WantFIN())
			r.must(b.CloseWrite())
			r.check(x.name, h.WantFIN())
		}
		b.Close()

		a := r.ask("h2", "GET", "/", nil, nil)
		b = r.next()
		_, err = b.ReadHead()
		if (err == nil) != x.ok {
			t.Errorf("%s: request at the backend: got %v", x.name, err)
		}
		if x.ok {
			if p := b.Conn().(*tls.Conn).ConnectionState().NegotiatedProtocol; p != "http/1.1" {
				t.Errorf("%s: ALPN of requests: got %q, want http/1.1", x.name, p)
			}
			r.must(b.Write(simple("ok")))
			a.want(x.name, 200, "ok")
		} else if got := a.answer(); got.status != "502" || !got.ended {
			t.Errorf("%s: request: got %s, want 502", x.name, got.status)
		}
		b.Close()
		be.Close()
		r.gw.Close()
	}
}

// libraries are echo servers and clients that know nothing of each other: what
// they have in common is RFC 6455.
var echoServers = map[string]http.HandlerFunc{
	"gorilla": func(w http.ResponseWriter, r *http.Request) {
		up := gorilla.Upgrader{Subprotocols: []string{"echo"}, EnableCompression: true, CheckOrigin: func(*http.Request) bool { return true }}
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, p, err := c.ReadMessage()
			if err != nil {
				return
			}
			if string(p) == "bye" {
				c.WriteControl(gorilla.CloseMessage, gorilla.FormatCloseMessage(4001, "bye"), time.Now().Add(time.Second))
				c.ReadMessage() // the answer
				return
			}
			c.WriteMessage(kind, p)
		}
	},
	"coder": func(w http.ResponseWriter, r *http.Request) {
		c, err := coder.Accept(w, r, &coder.AcceptOptions{Subprotocols: []string{"echo"}, InsecureSkipVerify: true, CompressionMode: coder.CompressionContextTakeover})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 22)
		for {
			kind, p, err := c.Read(r.Context())
			if err != nil {
				return
			}
			if string(p) == "bye" {
				c.Close(4001, "bye")
				return
			}
			c.Write(r.Context(), kind, p)
		}
	},
}

// wsClient is what the clients have in common.
type wsClient struct {
	echo func(p []byte) ([]byte, error)
	bye  func() (int, error) // the Close code after "bye"
	sub  string
}

var wsClients = map[string]func(ctx context.Context, url string) (*wsClient, error){
	"gorilla": func(ctx context.Context, url string) (*wsClient, error) {
		d := gorilla.Dialer{TLSClientConfig: clientTLS, Subprotocols: []string{"other", "echo"}, EnableCompression: true}
		c, _, err := d.DialContext(ctx, url, nil)
		if err != nil {
			return nil, err
		}
		deadline, _ := ctx.Deadline()
		c.SetReadDeadline(deadline)
		return &wsClient{
			sub: c.Subprotocol(),
			echo: func(p []byte) ([]byte, error) {
				if err := c.WriteMessage(gorilla.BinaryMessage, p); err != nil {
					return nil, err
				}
				_, got, err := c.ReadMessage()
				return got, err
			},
			bye: func() (int, error) {
				defer c.Close()
				if err := c.WriteMessage(gorilla.TextMessage, []byte("bye")); err != nil {
					return 0, err
				}
				_, _, err := c.ReadMessage()
				if e := new(gorilla.CloseError); errors.As(err, &e) {
					return e.Code, nil
				}
				return 0, err
			},
		}, nil
	},
	"coder": func(ctx context.Context, url string) (*wsClient, error) {
		c, _, err := coder.Dial(ctx, url, &coder.DialOptions{
			HTTPClient:   &http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS}},
			Subprotocols: []string{"other", "echo"}, CompressionMode: coder.CompressionContextTakeover,
		})
		if err != nil {
			return nil, err
		}
		c.SetReadLimit(1 << 22)
		return &wsClient{
			sub: c.Subprotocol(),
			echo: func(p []byte) ([]byte, error) {
				if err := c.Write(ctx, coder.MessageBinary, p); err != nil {
					return nil, err
				}
				_, got, err := c.Read(ctx)
				return got, err
			},
			bye: func() (int, error) {
				defer c.CloseNow()
				if err := c.Write(ctx, coder.MessageText, []byte("bye")); err != nil {
					return 0, err
				}
				_, _, err := c.Read(ctx)
				if code := coder.CloseStatus(err); code > 0 {
					return int(code), nil
				}
				return 0, err
			},
		}, nil
	},
}

// TestLibraries: each client through the gateway to each server, in cleartext
// and over TLS at both ends.
func TestLibraries(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	for server, h := range echoServers {
		for _, secure := range []bool{false, true} {
			s := httptest.NewUnstartedServer(h)
			if secure {
				s.StartTLS()
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			r := startWith(t, nil, s.URL, func(c *gateway.Config) { c.BackendInsecure = secure })
			for client, dial := range wsClients {
				name := client + " to " + server
				url := "ws://" + r.http
				if secure {
					url = "wss://" + r.https
				}
				ctx, cancel := context.WithTimeout(t.Context(), 2*rawpeer.Patience)
				c, err := dial(ctx, url+"/echo")
				if err != nil {
					t.Fatalf("%s, TLS %v: %v", name, secure, err)
				}
				if c.sub != "echo" {
					t.Errorf("%s: subprotocol: got %q, want echo", name, c.sub)
				}
				for _, p := range [][]byte{{}, []byte("hello"), big} {
					if got, err := c.echo(p); err != nil || !bytes.Equal(got, p) {
						t.Errorf("%s, TLS %v: echo of %d octets: got %d, %v", name, secure, len(p), len(got), err)
					}
				}
				if code, err := c.bye(); code != 4001 || err != nil {
					t.Errorf("%s, TLS %v: Close code: got %d, %v; want 4001", name, secure, code, err)
				}
				cancel()
			}
			r.settle("tunnels", func(c gateway.Counters) bool { return c.Tunnels == 0 })
			if n := strings.Count(r.log.String(), "reset=true"); n != 0 {
				t.Errorf("%s: got %d resets in the log, want none", server, n)
			}
			r.gw.Close()
		}
	}
}
