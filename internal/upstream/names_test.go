package upstream

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"wsgate/bridge"
)

// named is the servers of one port at several addresses, so that a name can
// stand for them.
func named(t *testing.T, hosts ...string) (port string, all map[string]*backend) {
	t.Helper()
	all = make(map[string]*backend)
	for _, h := range hosts {
		if port == "" {
			all[h] = serve(t, h)
			_, port, _ = net.SplitHostPort(all[h].addr)
			continue
		}
		all[h] = serve(t, net.JoinHostPort(h, port))
	}
	return port, all
}

// TestNames: a name's addresses are servers of their own; changes take effect in
// the interval; tunnels to an address that vanished live on; a lookup that fails
// changes nothing.
func TestNames(t *testing.T) {
	port, all := named(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
	d := serveDNS(t)
	d.set("app.test", "127.0.0.2", "127.0.0.3")
	entry := "app.test:" + port
	c := Config{Servers: []ServerConfig{{Address: entry}}, ResolveInterval: 10 * time.Millisecond}
	r := newRig(t, c, func(e *Env) { e.Resolver = d.resolver() })
	seen := map[string]*conn{}
	for range 4 { // the first waits for the lookup
		x := r.open()
		seen[x.server] = x
	}
	if len(seen) != 2 {
		t.Fatalf("got tunnels at %v, want at both addresses", seen)
	}
	r.event("app " + entry + " +[127.0.0.2 127.0.0.3] -[]")
	at := func(host string) string { return entry + "@" + net.JoinHostPort(host, port) }
	if st := r.up.Load().Status(); len(st) != 2 || st[0].Name != at("127.0.0.2") || st[0].Entry != entry || st[0].Address != "127.0.0.2:"+port {
		t.Errorf("status: got %+v, want the two addresses", st)
	}

	d.set("app.test", "127.0.0.4", "127.0.0.3")
	r.event("app " + entry + " +[127.0.0.4] -[127.0.0.2]")
	for range 6 {
		if x := r.open(); x.server == all["127.0.0.2"].addr {
			t.Errorf("got a tunnel at an address that has vanished")
		}
	}
	old := seen[all["127.0.0.2"].addr]
	old.echo("still here")
	u := r.up.Load()
	if st := u.Status(); len(st) != 3 || st[2].Name != at("127.0.0.2") || st[2].State != Gone || st[2].Tunnels != 2 {
		t.Errorf("status: got %+v, want the address that is gone with 2 tunnels", st)
	}
	if !u.Has(at("127.0.0.2")) {
		t.Errorf("has %s: got false, want true: its entry is there", at("127.0.0.2"))
	}

	d.change(func() { d.fails = true })
	r.event("app " + entry + " not resolved")
	for range 3 {
		r.open()
	}
	d.change(func() { d.fails = false })
	d.set("app.test", "127.0.0.2")
	r.event("app " + entry + " +[127.0.0.2] -[127.0.0.3 127.0.0.4]")
	if x := r.open(); x.server != all["127.0.0.2"].addr {
		t.Errorf("got %s, want %s", x.server, all["127.0.0.2"].addr)
	}
	if st := u.Status(); st[0].Tunnels != 3 {
		t.Errorf("status: got %+v, want the tunnels that it had", st[0])
	}
	d.set("app.test")
	r.event("app " + entry + " not resolved")
	r.open()
}

// TestLongAnswer: an answer that is too long for UDP comes over TCP; both
// families are taken.
func TestLongAnswer(t *testing.T) {
	d := serveDNS(t)
	want := []string{}
	for i := range 40 {
		want = append(want, netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}).String())
	}
	want = append(want, "::1")
	d.set("many.test", want...)
	d.change(func() { d.long = true })
	r := newRig(t, Config{Servers: []ServerConfig{{Address: "many.test:80", Weight: 7}}}, func(e *Env) { e.Resolver = d.resolver() })
	until(t, "41 servers", func() bool { return len(r.up.Load().Status()) == 41 })
	var got []string
	for _, s := range r.up.Load().Status() {
		host, _, _ := net.SplitHostPort(s.Address)
		got = append(got, host)
		if s.Weight != 7 {
			t.Errorf("%s: got weight %d, want that of the entry", s.Name, s.Weight)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	d.change(func() {
		if d.asked["tcp"] == 0 {
			t.Errorf("got no query over TCP")
		}
	})
}

// TestUnknownName: 502, and a tunnel once the name is known.
func TestUnknownName(t *testing.T) {
	port, all := named(t, "127.0.0.2")
	d := serveDNS(t)
	r := newRig(t, Config{Servers: []ServerConfig{{Address: "app.test:" + port}}, ResolveInterval: 10 * time.Millisecond},
		func(e *Env) { e.Resolver = d.resolver() })
	_, res, err := r.try()
	if err == nil || res == nil || res.StatusCode != 502 {
		t.Errorf("got %v, %v, want 502", res, err)
	}
	r.refusal("502 dns-failed")
	r.event("app app.test:" + port + " not resolved")
	d.set("app.test", "127.0.0.2")
	r.event("app app.test:" + port + " +[127.0.0.2] -[]")
	if x := r.open(); x.server != all["127.0.0.2"].addr {
		t.Errorf("got %s, want %s", x.server, all["127.0.0.2"].addr)
	}
}

// TestFirstLookupIsWaitedFor: also where there is no queue.
func TestFirstLookupIsWaitedFor(t *testing.T) {
	port, _ := named(t, "127.0.0.2")
	d := serveDNS(t)
	d.set("app.test", "127.0.0.2")
	hold := make(chan bool)
	d.change(func() { d.hold = hold })
	r := newRig(t, Config{Servers: []ServerConfig{{Address: "app.test:" + port}}}, func(e *Env) { e.Resolver = d.resolver() })
	out := make(chan answer, 2)
	r.later("first", out)
	r.later("second", out)
	r.waiting(2)
	close(hold)
	for range 2 {
		if x := <-out; x.conn == nil {
			t.Errorf("%s: got %v, want a tunnel", x.name, x.res)
		}
	}
}

// TestSlowDNS: who waits for it too long is told that it is the DNS.
func TestSlowDNS(t *testing.T) {
	d := serveDNS(t)
	hold := make(chan bool)
	defer close(hold)
	d.change(func() { d.hold = hold })
	r := newRig(t, Config{Servers: []ServerConfig{{Address: "app.test:80"}}, QueueTime: 30 * time.Millisecond}, func(e *Env) { e.Resolver = d.resolver() })
	if _, res, err := r.try(); err == nil || res == nil || res.StatusCode != 502 {
		t.Errorf("got %v, %v, want 502", res, err)
	}
	r.refusal("502 dns-failed")
	if _, err := r.up.Load().Visit(newRequest(t)); err == nil || !strings.Contains(err.Error(), "dns-failed: no server has an address yet") {
		t.Errorf("request: got %v, want dns-failed", err)
	}
}

// TestReloadKeepsNames: a new generation begins with the addresses of the old
// one, also when the DNS fails at that time.
func TestReloadKeepsNames(t *testing.T) {
	port, all := named(t, "127.0.0.2")
	d := serveDNS(t)
	d.set("app.test", "127.0.0.2")
	c := Config{Servers: []ServerConfig{{Address: "app.test:" + port}}}
	with := func(e *Env) { e.Resolver = d.resolver() }
	r := newRig(t, c, with)
	r.open()
	d.change(func() { d.fails = true })
	c.Servers[0].Weight = 5
	u := r.reload(c, with)
	if st := u.Status(); len(st) != 1 || st[0].Tunnels != 1 || st[0].Weight != 5 {
		t.Errorf("status: got %+v, want the server of before with its tunnel", st)
	}
	if x := r.open(); x.server != all["127.0.0.2"].addr {
		t.Errorf("got %s, want %s", x.server, all["127.0.0.2"].addr)
	}
}

// TestNamesOfTLS: the name, not its address, is asked for and checked.
func TestNamesOfTLS(t *testing.T) {
	s := secureEcho(t, "app.test")
	_, port, _ := net.SplitHostPort(s.addr)
	d := serveDNS(t)
	d.set("app.test", "127.0.0.1")
	d.set("other.test", "127.0.0.1")
	for name, good := range map[string]bool{"app.test": true, "other.test": false} {
		r := newRig(t, Config{
			Servers: []ServerConfig{{Address: name + ":" + port, TLS: true}}, TLS: s.client, HostOfServer: true,
			Retry: Retry{Attempts: -1},
		}, func(e *Env) { e.Resolver = d.resolver() })
		_, _, err := r.direct(&bridge.Handshake{Major: 1, Scheme: "http", Authority: "front", Path: "/"})
		if (err == nil) != good {
			t.Errorf("%s: got %v, want success %v", name, err, good)
		}
		if good {
			if got := <-s.hosts; got != "app.test:"+port {
				t.Errorf("Host: got %q, want that of the server", got)
			}
		}
	}
}

// TestChecksEndWithTheAddress: one that has vanished is not checked any more.
func TestChecksEndWithTheAddress(t *testing.T) {
	port, all := named(t, "127.0.0.2", "127.0.0.3")
	d := serveDNS(t)
	d.set("app.test", "127.0.0.2", "127.0.0.3")
	c := checks(Active{Kind: CheckHTTP, Statuses: []int{400}}, ServerConfig{Address: "app.test:" + port})
	for _, b := range all {
		b.set(func(b *backend) { b.web = status(400) })
	}
	c.ResolveInterval = 10 * time.Millisecond
	r := newRig(t, c, func(e *Env) { e.Resolver = d.resolver() })
	gone, stays := all["127.0.0.2"], all["127.0.0.3"]
	until(t, "checks of both", func() bool { return gone.asked.Load() > 0 && stays.asked.Load() > 0 })
	r.event("app app.test:" + port + " +[127.0.0.2 127.0.0.3] -[]")
	d.set("app.test", "127.0.0.3")
	r.event("app app.test:" + port + " +[] -[127.0.0.2]")
	were, then := gone.asked.Load(), stays.asked.Load()
	until(t, "ten more checks of the one that stays", func() bool { return stays.asked.Load() > then+10 })
	if n := gone.asked.Load(); n > were+1 { // one may have been under way
		t.Errorf("got %d more checks of the one that is gone, want none", n-were)
	}
}
