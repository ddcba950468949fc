//go:build !linux

package load

import (
	"errors"
	"net"
)

// ServeEcho needs Linux.
func ServeEcho(ln *net.TCPListener) error { return errors.New("the backend needs Linux") }
