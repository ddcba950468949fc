package conformance

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"
)

// BackendName is the name in the certificate of the suite's TLS backend.
const BackendName = "backend.test"

// backendTLS is how the suite's backend speaks TLS: rightly, or wrongly in a way
// that a case chooses.
type backendTLS struct {
	pool  *x509.CertPool
	certs map[string]tls.Certificate
	mode  atomic.Pointer[string]
}

// Ways of the TLS backend.
const (
	tlsRight   = "right"
	tlsName    = "another name"
	tlsExpired = "expired"
	tlsUnknown = "unknown authority"
	tlsClient  = "asks for a client certificate"
)

// newBackendTLS takes authority and certificates from a folder, and makes what
// is missing.
func newBackendTLS(dir string) (*backendTLS, error) {
	if dir == "" {
		return nil, errors.New("the profile " + TLSBackend + " needs --tls-dir, a folder for certificates")
	}
	if err := MakeTLS(dir); err != nil {
		return nil, err
	}
	ca, err := tls.LoadX509KeyPair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"))
	if err != nil {
		return nil, fmt.Errorf("authority of the TLS backend: %w", err)
	}
	b := &backendTLS{pool: x509.NewCertPool(), certs: make(map[string]tls.Certificate)}
	b.pool.AddCert(ca.Leaf)
	other, err := issue(nil, "another authority", "", time.Hour)
	if err != nil {
		return nil, err
	}
	for _, x := range []struct {
		mode, name string
		life       time.Duration
		by         *tls.Certificate
	}{
		{tlsRight, BackendName, time.Hour, &ca},
		{tlsName, "other.test", time.Hour, &ca},
		{tlsExpired, BackendName, -time.Minute, &ca},
		{tlsUnknown, BackendName, time.Hour, &other},
	} {
		if b.certs[x.mode], err = issue(x.by, x.name, x.name, x.life); err != nil {
			return nil, err
		}
	}
	b.certs[tlsClient] = b.certs[tlsRight]
	b.set(tlsRight)
	return b, nil
}

func (b *backendTLS) set(mode string) { b.mode.Store(&mode) }

func (b *backendTLS) config() *tls.Config {
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		mode := *b.mode.Load()
		// No tickets: a resumed session shows no certificate.
		c := &tls.Config{Certificates: []tls.Certificate{b.certs[mode]}, NextProtos: []string{"http/1.1"}, SessionTicketsDisabled: true}
		if mode == tlsClient {
			c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, b.pool
		}
		return c, nil
	}}
}

// MakeTLS writes the files of the profile TLSBackend into a folder, unless they
// are there: ca.pem, ca-key.pem, client.pem, client-key.pem, and for each pair
// NAME-both.pem, which has the two in one file.
func MakeTLS(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, "ca.pem")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	ca, err := issue(nil, "wsconform", "", 24*365*time.Hour)
	if err != nil {
		return err
	}
	client, err := issue(&ca, "client", "client.test", 24*365*time.Hour)
	if err != nil {
		return err
	}
	return errors.Join(write(dir, "client", client), write(dir, "ca", ca))
}

// Issue makes a self-signed certificate for a host and writes
// NAME.pem and NAME-key.pem into a folder: for gateways that are started for a run.
func Issue(dir, name, host string) error {
	c, err := issue(nil, host, host, 24*time.Hour)
	if err != nil {
		return err
	}
	return write(dir, name, c)
}

func write(dir, name string, c tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, name+".pem"), certPEM, 0o644),
		os.WriteFile(filepath.Join(dir, name+"-key.pem"), keyPEM, 0o600),
		os.WriteFile(filepath.Join(dir, name+"-both.pem"), slices.Concat(certPEM, keyPEM), 0o600)) // as some programs want it
}

// issue makes a certificate for a host; by nil it signs itself and is an
// authority.
func issue(by *tls.Certificate, name, host string, life time.Duration) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return tls.Certificate{}, err
	}
	c := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		IsCA: by == nil, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if host != "" {
		c.DNSNames = []string{host}
	}
	parent, signer := c, any(key)
	if by != nil {
		parent, signer = by.Leaf, by.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}
