package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

// certificates holds what the https listeners show. Any goroutine.
type certificates struct {
	cert, key string // files; "" if made in memory
	current   atomic.Pointer[tls.Certificate]
}

func newCertificates(c *Config) (*certificates, error) {
	s := &certificates{cert: c.Cert, key: c.Key}
	switch {
	case c.SelfSigned && (c.Cert != "" || c.Key != ""):
		return nil, wrong("--self-signed", "not together with --cert and --key")
	case c.SelfSigned:
		made, err := SelfSigned()
		if err != nil {
			return nil, err
		}
		s.current.Store(made)
		return s, nil
	case c.Cert == "" || c.Key == "":
		return nil, wrong("--cert", "an https listener needs --cert and --key, or --self-signed")
	}
	return s, s.reload()
}

// reload reads the files again. On an error the old certificate stays.
func (s *certificates) reload() error {
	if s.cert == "" {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(s.cert, s.key)
	if err != nil {
		return wrong("--cert", "%w", err)
	}
	s.current.Store(&pair)
	return nil
}

// config is the TLS side of a listener: TLS 1.2 at least, h2 and h1 by ALPN.
// Records keep one size, so that a loop's output is cut evenly.
func (s *certificates) config() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, DynamicRecordSizingDisabled: true,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil },
	}
}

// SelfSigned makes a certificate for localhost, 127.0.0.1 and ::1 that lasts
// 90 days.
func SelfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "wsgate self-signed"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
