package operator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"wsgate/internal/rawpeer"
)

// authority signs certificates in a folder.
type authority struct {
	t    *testing.T
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.cert, a.key = a.sign("ca", nil, true)
	return a
}

// file is the path of a file of that name and end.
func (a *authority) file(name, end string) string { return filepath.Join(a.dir, name+"."+end) }

// issue writes NAME.pem and NAME.key for names and addresses.
func (a *authority) issue(name string, names ...string) { a.sign(name, names, false) }

func (a *authority) sign(name string, names []string, ca bool) (*x509.Certificate, *ecdsa.PrivateKey) {
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
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: ca, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			c.IPAddresses = append(c.IPAddresses, ip)
		} else {
			c.DNSNames = append(c.DNSNames, n)
		}
	}
	parent, signer := c, key
	if !ca {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	must(err)
	kder, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	// The pair is put in place by renames: half of it is never read as whole.
	write := func(end, kind string, der []byte) {
		tmp := a.file(name, end+".new")
		must(os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		must(os.Rename(tmp, a.file(name, end)))
	}
	write("key", "PRIVATE KEY", kder)
	write("pem", "CERTIFICATE", der)
	out, err := x509.ParseCertificate(der)
	must(err)
	return out, key
}

// shown is the certificate that a listener shows for a name.
func (r *rig) shown(listener int, name string) *x509.Certificate {
	r.t.Helper()
	c, err := tls.Dial("tcp", r.at(listener), &tls.Config{InsecureSkipVerify: true, ServerName: name})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0]
}

// TestCertificates: chosen by SNI, read again when the files change; a request
// for another certificate's host is answered 421 (row 203).
func TestCertificates(t *testing.T) {
	ca := newAuthority(t)
	ca.issue("one", "one.test", "also.test")
	ca.issue("two", "two.test", "*.two.test")
	s := serve(t, "a", "127.0.0.2")
	r := run(t, `
listeners:
  - {address: "127.0.0.1:0", tls: true}
  - {address: "127.0.0.1:0", tls: {certificates: [second]}}
certificates:
  - {cert: `+ca.file("one", "pem")+`, key: `+ca.file("one", "key")+`}
  - {name: second, cert: `+ca.file("two", "pem")+`, key: `+ca.file("two", "key")+`}
upstreams: {a: {servers: "ws://`+s.addr+`"}}
`)
	for name, want := range map[string]string{"one.test": "one", "ALSO.test": "one", "two.test": "two", "x.two.test": "two", "x.y.two.test": "one", "": "one", "other.test": "one"} {
		if got := r.shown(0, name).Subject.CommonName; got != want {
			t.Errorf("for %q: got %q, want %q", name, got, want)
		}
	}
	if got := r.shown(1, "one.test").Subject.CommonName; got != "two" {
		t.Errorf("on a listener with one: got %q, want two", got)
	}
	c := r.h2(0, true, "one.test")
	for host, status := range map[string]int{"one.test": 200, "also.test": 200, "two.test": 421, "x.two.test:8443": 421} {
		if _, err := c.WantStatus(c.Headers(rawpeer.ConnectFields("https", host, "/"), false), status); err != nil {
			t.Errorf("a socket to %s on a connection for one.test: %v", host, err)
		}
		id := c.Headers(rawpeer.F(":method", "GET", ":scheme", "https", ":authority", host, ":path", "/"), true)
		if _, err := c.WantStatus(id, status); err != nil {
			t.Errorf("a request to %s on a connection for one.test: %v", host, err)
		}
	}
	before := r.shown(0, "one.test").SerialNumber
	tunnel := r.open(ask{secure: true, host: "one.test", path: "/"})
	ca.issue("one", "one.test")
	eventually(t, "the new certificate", func() bool { return r.shown(0, "one.test").SerialNumber.Cmp(before) != 0 })
	tunnel.echo("still here")
	// Half a pair is no reason to change anything.
	if err := os.WriteFile(ca.file("one", "key"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	now := r.shown(0, "one.test").SerialNumber
	r.log.wants(t, "certificates not reloaded, the old ones stay")
	if r.shown(0, "one.test").SerialNumber.Cmp(now) != 0 {
		t.Error("the certificate changed to nonsense")
	}
}
