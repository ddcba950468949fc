package conformance

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"golang.org/x/net/http2"

	"wsgate/internal/rawpeer"
)

// has is what the gateway can do: "" yes, or why not.
type has struct{ h2, h2c, tunnels, h3, tunnels3 string }

const (
	noHTTP3  = "no HTTP/3"
	noTunnel = "the gateway does not announce SETTINGS_ENABLE_CONNECT_PROTOCOL"
)

// look finds out what the gateway can do.
func (r *runner) look() {
	var wg sync.WaitGroup
	wg.Go(func() { r.has.h2, r.has.tunnels = r.lookH2() })
	wg.Go(func() { r.has.h2c = r.lookH2C() })
	wg.Go(func() { r.has.h3, r.has.tunnels3 = r.lookH3() })
	wg.Wait()
}

// patience is how long a want waits.
func (r *runner) patience() time.Duration {
	return time.Duration(float64(casePatience) * r.o.Patience)
}

// greet exchanges SETTINGS of HTTP/2.
func (r *runner) greet(addr string, config *tls.Config) (*rawpeer.H2, error) {
	c, err := rawpeer.DialH2Quiet(addr, config)
	if err != nil {
		return nil, err
	}
	c.Patience = r.patience()
	if err = c.Preface(); err == nil {
		_, err = c.WantFirst()
	}
	if err == nil {
		err = c.Ping()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

func (r *runner) lookH2() (h2, tunnels string) {
	c, err := r.greet(r.front, r.o.TLS)
	if err != nil {
		why := fmt.Sprintf("the gateway does not speak HTTP/2 by ALPN: %v", err)
		return why, why
	}
	defer c.Close()
	if v, _ := c.Setting(http2.SettingEnableConnectProtocol); v != 1 {
		return "", noTunnel
	}
	return "", ""
}

func (r *runner) lookH2C() string {
	if r.plain == "" {
		return "no cleartext front was named"
	}
	c, err := r.greet(r.plain, nil)
	if err != nil {
		return "the gateway does not speak HTTP/2 in cleartext with prior knowledge"
	}
	c.Close()
	return ""
}

func (r *runner) lookH3() (h3, tunnels string) {
	if nobodyAt(r.front3) {
		return noHTTP3, noHTTP3
	}
	c, err := rawpeer.DialH3Quiet(r.front3, r.o.TLS)
	if err != nil {
		why := fmt.Sprintf("%s: %v", noHTTP3, err)
		return why, why
	}
	defer c.Close()
	c.Patience = r.patience()
	if err = c.Greet(); err == nil {
		_, err = c.WantFirst()
	}
	if err != nil {
		why := fmt.Sprintf("%s: %v", noHTTP3, err)
		return why, why
	}
	if v, _ := c.Setting(settingConnectOnH3); v != 1 {
		return "", noTunnel + " on HTTP/3"
	}
	return "", ""
}

// nobodyAt reports whether a host says that nobody listens at a UDP port; most
// say nothing.
func nobodyAt(addr string) bool {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return true
	}
	defer c.Close()
	if _, err = c.Write([]byte{0}); err == nil {
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = c.Read(make([]byte, 1))
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}
