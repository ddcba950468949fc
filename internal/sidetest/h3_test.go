package sidetest_test

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"

	"wsgate/bridge"
	"wsgate/h3"
	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
	"wsgate/internal/sidetest"
)

// quicPeer is the peer of an HTTP/3 stream.
type quicPeer struct {
	c  *rawpeer.H3
	id int64
}

func (p *quicPeer) Read(b []byte) (int, error) {
	n, err := p.c.Read(p.id, b)
	if errors.Is(err, rawpeer.ErrStreamReset) {
		err = sidetest.ErrReset
	}
	return n, err
}

func (p *quicPeer) Write(b []byte) (int, error) {
	for n := 0; n < len(b); n += 10_000 {
		if err := p.c.Data(p.id, b[n:min(n+10_000, len(b))], false); err != nil {
			return n, err
		}
	}
	return len(b), nil
}

func (p *quicPeer) CloseWrite() error { return p.c.End(p.id) }

func (p *quicPeer) Reset() error {
	p.c.ResetStream(p.id, 0x10c)
	p.c.StopSending(p.id, 0x10c)
	return nil
}

func TestH3(t *testing.T) {
	cert := must[*tls.Certificate](t)(gateway.SelfSigned())
	sidetest.Test(t, func(t *testing.T) sidetest.Pair {
		l := newLoop(t)
		offers := make(chan bridge.Offer, 1)
		server := &h3.Server{Offer: func(o bridge.Offer) { offers <- o }}
		pc := must[*net.UDPConn](t)(net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}))
		ln := must[*h3.Listener](t)(server.Listen(pc, h3.Binding{TLS: &tls.Config{Certificates: []tls.Certificate{*cert}}, Pick: func() bridge.Loop { return l }}))
		t.Cleanup(func() { ln.Close() })
		c := must[*rawpeer.H3](t)(rawpeer.DialH3(pc.LocalAddr().String(), &tls.Config{InsecureSkipVerify: true}))
		t.Cleanup(c.Close)
		id := c.Connect("/")
		o := <-offers
		sides := make(chan bridge.Side)
		l.Post(func() { sides <- o.Accept(nil) })
		side := <-sides
		must[rawpeer.Fields](t)(c.WantStatus(id, 200))
		return sidetest.Pair{Side: side, Loop: l, Peer: &quicPeer{c, id}}
	})
}
