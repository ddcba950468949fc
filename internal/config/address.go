package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// ServerAddress is a parsed address of a server.
type ServerAddress struct {
	Network string // "tcp" or "unix"
	Address string // host:port, or the path of the socket
	TLS     bool
	Host    string // for the Host field, as it was written
}

// ParseServer reads the address of a server.
func ParseServer(s string) (ServerAddress, error) {
	u, err := url.Parse(s)
	if err != nil {
		return ServerAddress{}, fmt.Errorf("%q is no URL; say for example ws://127.0.0.1:3000", s)
	}
	var a ServerAddress
	switch u.Scheme {
	case "ws", "http":
		a = ServerAddress{Network: "tcp", Host: u.Host}
	case "wss", "https":
		a = ServerAddress{Network: "tcp", Host: u.Host, TLS: true}
	case "unix":
		if u.Host != "" || u.Path == "" {
			return ServerAddress{}, fmt.Errorf("%q names no socket; say for example unix:///run/app.sock", s)
		}
		return ServerAddress{Network: "unix", Address: u.Path, Host: "localhost"}, nil
	default:
		return ServerAddress{}, fmt.Errorf("%q has none of the schemes ws, wss, http, https, unix", s)
	}
	if u.Hostname() == "" || u.User != nil || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return ServerAddress{}, fmt.Errorf("%q has to be scheme://host:port and no more", s)
	}
	port := u.Port()
	if port == "" {
		port = "80"
		if a.TLS {
			port = "443"
		}
	}
	if !goodPort(port) {
		return ServerAddress{}, fmt.Errorf("%q has no port between 1 and 65535", s)
	}
	a.Address = net.JoinHostPort(u.Hostname(), port)
	return a, nil
}

func goodPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// parseListen checks host:port.
func parseListen(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || port == "" {
		return fmt.Errorf("%q has no port; say for example :8443 or 127.0.0.1:8443", s)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q has no port between 0 and 65535", s)
	}
	if strings.ContainsAny(host, "/ ") {
		return fmt.Errorf("%q is no address; say for example :8443 or 127.0.0.1:8443", s)
	}
	return nil
}

// AdminAddress is where the admin listener listens: without a host on loopback.
func (a *Admin) Listen() string {
	if strings.HasPrefix(a.Address, ":") {
		return "127.0.0.1" + a.Address
	}
	return a.Address
}

// ParsePrefix reads an address or a CIDR range.
func ParsePrefix(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no address and no CIDR range", s)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
