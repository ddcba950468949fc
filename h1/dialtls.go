package h1

import (
	"context"
	"crypto/tls"

	"wsgate/internal/loop"
)

// dialTLS connects and shakes hands on a goroutine, for crypto/tls blocks, and
// comes back to the loop with the finished connection. The goroutine ends with
// the handshake, with its timeouts, or when the attempt is dropped.
func (a *attempt) dialTLS(l *loop.Loop, t target) {
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	address := t.path
	if t.network == "tcp" {
		address = t.addr.String()
	}
	go a.b.shake(ctx, t.network, address, a.dialOptions(), func(shim *loop.Shim, c *tls.Conn, err error, code string) {
		if !l.TryPost(func() { a.shaken(l, shim, c, err, code) }) && c != nil {
			shim.Close() // the loop has ended
		}
	})
}

// shake is the goroutine of dialTLS. code is "" or says which step failed.
func (b *Backend) shake(ctx context.Context, network, address string, o loop.DialOptions, then func(*loop.Shim, *tls.Conn, error, string)) {
	raw, err := loop.NetDialer(o).DialContext(ctx, network, address)
	if err != nil {
		then(nil, nil, err, codeConnectFailed)
		return
	}
	shim := loop.NewShim(raw, b.Slots)
	c := tls.Client(shim, b.tlsConfig())
	hctx, stop := context.WithTimeout(ctx, orDefault(b.TLSTimeout, defaultTLSTimeout))
	defer stop()
	if err := shim.Handshake(hctx, c); err != nil {
		raw.Close()
		code := codeTLSFailed
		// The context closes the connection: its own error says why.
		if isTimeout(err) || hctx.Err() == context.DeadlineExceeded {
			code = codeTLSTimeout
		}
		then(nil, nil, err, code)
		return
	}
	then(shim, c, nil, "")
}

// shaken takes over what shake brought back, on the loop.
func (a *attempt) shaken(l *loop.Loop, shim *loop.Shim, c *tls.Conn, err error, code string) {
	if a.over {
		if c != nil {
			shim.Close()
		}
		return
	}
	switch code {
	case "":
	case codeConnectFailed:
		a.connectFailed(err)
		return
	case codeTLSTimeout:
		a.fail(504, code, err)
		return
	default:
		a.fail(502, code, err)
		return
	}
	a.stop()
	a.stop = nil
	conn, err := l.AdoptTLS(c, shim)
	if err != nil {
		a.fail(502, codeTLSFailed, err)
		return
	}
	a.begin(conn)
}
