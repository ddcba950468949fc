package config

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Errorf makes an error about the value at a path of keys, such as
// "routes[2].upstream": at its place in the file, or with its flag.
func (c *Config) Errorf(path, format string, args ...any) error {
	return Errors{c.origin.at(path, format, args...)}
}

// Flags says which flags stand for which paths (without indices), for a Config
// that was not read from a file.
func (c *Config) Flags(names map[string]string) { c.origin = &origin{flags: names} }

// Check looks for what single values do not show, and fills in names that were
// left out. The error is of type Errors.
func (c *Config) Check() error {
	if errs := c.check(); len(errs) > 0 {
		errs.sort()
		return errs
	}
	return nil
}

// checker gathers errors.
type checker struct {
	c    *Config
	errs Errors
}

func (k *checker) fail(path, format string, args ...any) {
	k.errs = append(k.errs, k.c.origin.at(path, format, args...))
}

func (c *Config) check() Errors {
	k := &checker{c: c}
	k.listeners()
	k.certificates()
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		k.upstream("upstreams."+name, c.Upstreams[name])
	}
	k.routes()
	for i, s := range c.Requests.TrustedProxies {
		if _, err := ParsePrefix(s); err != nil {
			k.fail(fmt.Sprintf("requests.trusted_proxies[%d]", i), "%v", err)
		}
	}
	k.closing("drain", c.Drain.Code, c.Drain.Reason)
	if a := c.Admin.Address; a != "" {
		if err := parseListen(a); err != nil {
			k.fail("admin.address", "%v", err)
		}
	}
	return k.errs
}

// closing checks what a Close frame may say (RFC 6455 sections 5.5 and 7.4).
func (k *checker) closing(path string, code int, reason string) {
	if code != 0 && (code < 1000 || code > 4999 || code == 1004 || code == 1005 || code == 1006 || code > 1014 && code < 3000) {
		k.fail(path+".code", "%d may not stand in a Close frame; 1000 to 1003, 1007 to 1014, or 3000 to 4999", code)
	}
	if len(reason) > 123 {
		k.fail(path+".reason", "is longer than 123 octets")
	}
}

func (k *checker) listeners() {
	c := k.c
	if len(c.Listeners) == 0 {
		k.fail("listeners", "nothing to listen on; say for example address: \":8443\"")
	}
	names, addresses := map[string]bool{}, map[string]bool{}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		path := fmt.Sprintf("listeners[%d]", i)
		if l.Address != "" {
			if err := parseListen(l.Address); err != nil {
				k.fail(path+".address", "%v", err)
			} else if _, port, _ := net.SplitHostPort(l.Address); addresses[l.Address] && port != "0" {
				k.fail(path+".address", "%q is listened on twice", l.Address)
			}
		}
		addresses[l.Address] = true
		if l.Name == "" {
			l.Name = l.Address
		} else if names[l.Name] && l.Name != l.Address {
			k.fail(path+".name", "a second listener with the name %q", l.Name)
		}
		names[l.Name] = true
		k.protocols(path, l)
		if s := l.QUIC.Secret; s != "" && len(s) < 16 {
			k.fail(path+".quic.secret", "is shorter than 16 characters")
		}
		if l.TLS == nil {
			continue
		}
		if len(c.Certificates) == 0 {
			k.fail(path+".tls", "TLS needs a certificate; name files under certificates, or say self_signed there")
		}
		for j, name := range l.TLS.Certificates {
			if of := k.certificateNames(); !slices.Contains(of, name) {
				k.fail(fmt.Sprintf("%s.tls.certificates[%d]", path, j), "%s", noneOf("certificate", name, of))
			}
		}
	}
}

func (k *checker) protocols(path string, l *Listener) {
	if len(l.Protocols) == 0 {
		l.Protocols = []string{"h1", "h2"}
		if l.TLS != nil {
			l.Protocols = append(l.Protocols, "h3")
		}
	}
	for i, p := range l.Protocols {
		at := fmt.Sprintf("%s.protocols[%d]", path, i)
		switch {
		case slices.Contains(l.Protocols[:i], p):
			k.fail(at, "%q stands twice", p)
		case p == "h3" && l.TLS == nil:
			k.fail(at, "HTTP/3 needs TLS; say tls: true")
		}
	}
}

// certificateNames are the names that listeners may use.
func (k *checker) certificateNames() []string {
	var out []string
	for i := range k.c.Certificates {
		out = append(out, k.c.Certificates[i].nameOrFile())
	}
	return out
}

func (x *Certificate) nameOrFile() string {
	switch {
	case x.Name != "":
		return x.Name
	case x.Cert != "":
		return x.Cert
	}
	return strings.Join(x.SelfSigned, ",")
}

func (k *checker) certificates() {
	names := map[string]bool{}
	for i := range k.c.Certificates {
		x := &k.c.Certificates[i]
		path := fmt.Sprintf("certificates[%d]", i)
		switch {
		case len(x.SelfSigned) > 0 && (x.Cert != "" || x.Key != ""):
			k.fail(path+".self_signed", "not together with cert and key")
		case len(x.SelfSigned) == 0 && (x.Cert == "" || x.Key == ""):
			k.fail(path, "needs cert and key, or self_signed")
		}
		x.Name = x.nameOrFile()
		if x.Name != "" && names[x.Name] {
			k.fail(path, "a second certificate with the name %q", x.Name)
		}
		names[x.Name] = true
	}
}

func (k *checker) upstream(path string, u *Upstream) {
	if len(u.Servers) == 0 {
		k.fail(path+".servers", "names no server; say for example - ws://127.0.0.1:3000")
	}
	anyTLS, perServer := false, false
	seen := map[string]bool{}
	for i := range u.Servers {
		s := &u.Servers[i]
		at := fmt.Sprintf("%s.servers[%d].address", path, i)
		a, err := ParseServer(s.Address)
		switch {
		case s.Address == "": // said already
		case err != nil:
			k.fail(at, "%v", err)
		case seen[a.Network+a.Address]:
			k.fail(at, "%q stands twice; use weight for a larger share", s.Address)
		}
		seen[a.Network+a.Address] = true
		anyTLS = anyTLS || a.TLS
		perServer = perServer || s.MaxTunnels > 0 || s.MaxPending > 0
	}
	k.balance(path, u)
	if u.Host != "client" && u.Host != "backend" {
		k.fail(path+".host", "%q is neither client nor backend", u.Host)
	}
	for i, s := range u.Sources {
		if a, err := netip.ParseAddr(s); err != nil || a.Zone() != "" {
			k.fail(fmt.Sprintf("%s.source_addresses[%d]", path, i), "%q is no IP address", s)
		}
	}
	if t := u.TLS; t != nil {
		if !anyTLS {
			k.fail(path+".tls", "no server has TLS; say wss:// or https://")
		}
		if (t.Cert == "") != (t.Key == "") {
			k.fail(path+".tls.cert", "a client certificate takes cert and key")
		}
	}
	if a := u.Health.Active; a != nil {
		k.active(path+".health.active", a)
	}
	if p := u.Health.Passive; p.Failures > 0 && (p.Eject == 0 || p.MaxEject < p.Eject) {
		k.fail(path+".health.passive.eject", "has to be more than 0 and not more than max_eject")
	}
	if l := u.Limits; l.Queue > 0 && (l.Tunnels == 0 && l.Pending == 0 && !perServer || l.QueueTime == 0) {
		k.fail(path+".limits.queue", "a queue needs a limit to wait for (tunnels, pending, or those of a server) and a queue_time")
	}
}

func (k *checker) balance(path string, u *Upstream) {
	switch {
	case u.Balance == "hash" && u.Hash == nil:
		k.fail(path+".balance", "hash needs the key hash, for example hash: {on: client}")
	case u.Balance != "hash" && u.Hash != nil:
		k.fail(path+".hash", "counts only with balance: hash")
	case u.Balance == "sticky" && u.Sticky == nil:
		k.fail(path+".balance", "sticky needs the key sticky with a secret")
	case u.Balance != "sticky" && u.Sticky != nil:
		k.fail(path+".sticky", "counts only with balance: sticky")
	}
	if h := u.Hash; h != nil {
		named := h.On == "header" || h.On == "cookie"
		switch {
		case named && !token7230(h.Name):
			k.fail(path+".hash.name", "on: %s needs a name", h.On)
		case !named && h.Name != "":
			k.fail(path+".hash.name", "counts only on a header or a cookie")
		}
	}
	if s := u.Sticky; s != nil {
		if len(s.Secret) < 16 {
			k.fail(path+".sticky.secret", "is shorter than 16 characters")
		}
		if !token7230(s.Cookie) {
			k.fail(path+".sticky.cookie", "%q is no name of a cookie", s.Cookie)
		}
		if strings.ContainsAny(s.Path+s.Domain, "; ,\r\n") || !strings.HasPrefix(s.Path, "/") {
			k.fail(path+".sticky.path", "path has to begin with / and neither path nor domain may hold ; or white space")
		}
	}
}

func (k *checker) active(path string, a *ActiveHealth) {
	if !strings.HasPrefix(a.Path, "/") || strings.ContainsAny(a.Path, " \r\n\t#") {
		k.fail(path+".path", "%q does not begin with / or holds white space", a.Path)
	}
	if strings.ContainsAny(a.Host, " \r\n\t/") {
		k.fail(path+".host", "%q is no host", a.Host)
	}
	for i, s := range a.Status {
		if s < 200 || s > 599 {
			k.fail(fmt.Sprintf("%s.status[%d]", path, i), "%d is no status of an answer", s)
		}
	}
	if len(a.Status) > 0 && a.Kind != "http" {
		k.fail(path+".status", "counts only with kind: http")
	}
}

// token7230 reports whether s is a token (RFC 9110 section 5.6.2).
func token7230(s string) bool {
	for _, r := range []byte(s) {
		if r <= ' ' || r >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, r) >= 0 {
			return false
		}
	}
	return s != ""
}
