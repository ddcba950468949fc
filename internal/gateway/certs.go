package gateway

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"wsgate/internal/config"
	"wsgate/internal/watch"
)

// certificates are those of a configuration, loaded. They never change.
type certificates struct {
	named map[string]*tls.Certificate
	files map[string]watch.Sum // that they were read from
}

// loadCertificates reads the files. One that is made in memory is taken over
// from the ones before.
func loadCertificates(c *config.Config, before certificates) (certificates, error) {
	out := certificates{named: make(map[string]*tls.Certificate), files: make(map[string]watch.Sum)}
	for i := range c.Certificates {
		x := &c.Certificates[i]
		path := fmt.Sprintf("certificates[%d]", i)
		if len(x.SelfSigned) > 0 {
			made := before.named[x.Name]
			if made == nil || !covers(made, x.SelfSigned) {
				var err error
				if made, err = SelfSigned(x.SelfSigned...); err != nil {
					return out, err
				}
			}
			out.named[x.Name] = made
			continue
		}
		cert, err := os.ReadFile(x.Cert)
		if err != nil {
			return out, c.Errorf(path+".cert", "%v", err)
		}
		key, err := os.ReadFile(x.Key)
		if err != nil {
			return out, c.Errorf(path+".key", "%v", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return out, c.Errorf(path+".cert", "%q with key %q: %v", x.Cert, x.Key, err)
		}
		out.named[x.Name] = &pair
		out.files[x.Cert], out.files[x.Key] = watch.SumOf(cert), watch.SumOf(key)
	}
	return out, nil
}

func covers(c *tls.Certificate, names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return c.Leaf.VerifyHostname(n) != nil })
}

// shown are the certificates of a listener, found by name. They never change.
type shown struct {
	first *tls.Certificate
	exact map[string][]*tls.Certificate
	wild  map[string][]*tls.Certificate // by the name behind "*."
	many  bool
}

// newShown takes the named certificates, all if there are no names.
func newShown(c *config.Config, all certificates, names []string) *shown {
	s := &shown{exact: make(map[string][]*tls.Certificate), wild: make(map[string][]*tls.Certificate)}
	for i := range c.Certificates {
		name := c.Certificates[i].Name
		if len(names) > 0 && !slices.Contains(names, name) {
			continue
		}
		x := all.named[name]
		if s.first == nil {
			s.first = x
		} else {
			s.many = true
		}
		of := x.Leaf.DNSNames
		for _, ip := range x.Leaf.IPAddresses {
			of = append(of, ip.String())
		}
		for _, n := range of {
			n = strings.ToLower(n)
			if below, ok := strings.CutPrefix(n, "*."); ok {
				s.wild[below] = append(s.wild[below], x)
			} else {
				s.exact[n] = append(s.exact[n], x)
			}
		}
	}
	return s
}

// named returns the certificates for a name, the first of all without one.
func (s *shown) named(name string) []*tls.Certificate {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if found := s.exact[name]; found != nil {
		return found
	}
	// RFC 6125 section 6.4.3: * stands for one label.
	if _, below, ok := strings.Cut(name, "."); ok {
		if found := s.wild[below]; found != nil {
			return found
		}
	}
	return []*tls.Certificate{s.first}
}

// choose answers a ClientHello: among those for its name the first whose key
// the client can check.
func (s *shown) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	found := s.named(hello.ServerName)
	for _, x := range found {
		if hello.SupportsCertificate(x) == nil {
			return x
		}
	}
	return found[0]
}

// get is choose for crypto/tls.
func (s *shown) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.choose(hello), nil
}

// authoritative reports whether a connection for serverName may carry requests
// for host: whether host has the same certificates (RFC 9113 section 9.1.1, RFC
// 9110 section 7.4).
func (s *shown) authoritative(serverName, host string) bool {
	if !s.many || serverName == host {
		return true
	}
	a, b := s.named(serverName), s.named(host)
	return slices.ContainsFunc(a, func(x *tls.Certificate) bool { return slices.Contains(b, x) })
}

// keyOf is what a certificate's private key gives for other keys: the same after a
// restart and wherever the certificate is used. nil if it cannot be read.
func keyOf(c *tls.Certificate) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil // it lies in hardware; then tokens are made from a random key
	}
	sum := sha256.Sum256(append([]byte("wsgate quic"), der...))
	return sum[:]
}

// SelfSigned makes a certificate for names and addresses that lasts 90 days;
// without any for localhost, 127.0.0.1 and ::1.
func SelfSigned(names ...string) (*tls.Certificate, error) {
	if len(names) == 0 {
		names = []string{"localhost", "127.0.0.1", "::1"}
	}
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
		BasicConstraintsValid: true,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, n)
		}
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
