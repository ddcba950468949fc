package upstream

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer answers A and AAAA over UDP and TCP.
type dnsServer struct {
	addr string

	mu    sync.Mutex
	names map[string][]netip.Addr
	fails bool // SERVFAIL
	long  bool // truncated over UDP
	asked map[string]int
	hold  chan bool
}

func serveDNS(t *testing.T) *dnsServer {
	t.Helper()
	d := &dnsServer{names: make(map[string][]netip.Addr), asked: make(map[string]int)}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = ln.Addr().String()
	pc, err := net.ListenPacket("udp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close(); pc.Close() })
	go func() {
		for p := make([]byte, 4096); ; {
			n, from, err := pc.ReadFrom(p)
			if err != nil {
				return
			}
			q := append([]byte(nil), p[:n]...)
			go func() { pc.WriteTo(d.answer(q, "udp"), from) }()
		}
	}()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go d.serveTCP(c)
		}
	}()
	return d
}

func (d *dnsServer) serveTCP(c net.Conn) {
	defer c.Close()
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	p := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, p); err != nil {
		return
	}
	a := d.answer(p, "tcp")
	c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(a))), a...))
}

// answer makes the answer to a query (RFC 1035 section 4.1).
func (d *dnsServer) answer(query []byte, over string) []byte {
	d.mu.Lock()
	hold := d.hold
	d.mu.Unlock()
	if hold != nil {
		<-hold
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	name := strings.TrimSuffix(q.Name.String(), ".")
	d.asked[over]++
	addrs, known := d.names[name]
	head := dnsmessage.Header{ID: h.ID, Response: true, Authoritative: true, RecursionDesired: h.RecursionDesired, RecursionAvailable: true}
	switch {
	case d.fails:
		head.RCode = dnsmessage.RCodeServerFailure
	case !known:
		head.RCode = dnsmessage.RCodeNameError
	case d.long && over == "udp":
		head.Truncated, addrs = true, nil
	}
	b := dnsmessage.NewBuilder(nil, head)
	b.StartQuestions()
	b.Question(q)
	b.StartAnswers()
	for _, a := range addrs {
		r := dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, TTL: 0}
		switch {
		case a.Is4() && q.Type == dnsmessage.TypeA:
			b.AResource(r, dnsmessage.AResource{A: a.As4()})
		case a.Is6() && q.Type == dnsmessage.TypeAAAA:
			b.AAAAResource(r, dnsmessage.AAAAResource{AAAA: a.As16()})
		}
	}
	out, _ := b.Finish()
	return out
}

// set makes a name stand for addresses; none means that it does not exist.
func (d *dnsServer) set(name string, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, name)
	for _, a := range addrs {
		d.names[name] = append(d.names[name], netip.MustParseAddr(a))
	}
}

func (d *dnsServer) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

// resolver asks this server, over what the query is to go by.
func (d *dnsServer) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, d.addr)
	}}
}
