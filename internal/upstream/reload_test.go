package upstream

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestReload: servers that stay keep their tunnels, health and orders, whatever
// else changes; a tunnel's place comes back also when its generation is long gone.
func TestReload(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	bad := dead(t, "127.0.0.4")
	c := Config{
		Servers: append(servers(a, b), ServerConfig{Address: bad}),
		Passive: Passive{Failures: 1, BaseTime: time.Hour, MaxTime: time.Hour},
	}
	r := newRig(t, c)
	var tunnels []*conn
	for range 6 {
		tunnels = append(tunnels, r.open())
	}
	r.event("app " + bad + " ejected")
	r.up.Load().SetDrain(b.addr, true)
	for i := range 5 {
		c.Servers = append(append(servers(a, b), ServerConfig{Address: bad, Weight: i + 1}), servers(serve(t, fmt.Sprint("127.0.1.", i+1)))...)
		c.Balance.Policy = []Policy{RoundRobin, RandomTwo, Hash, LeastTunnels, RoundRobin}[i]
		c.ConnectTimeout = time.Duration(i+1) * time.Second
		r.reload(c)
	}
	st := r.up.Load().Status()
	if len(st) != 4 || st[0].Tunnels != 3 || st[1].Tunnels != 3 || st[1].State != Drained || st[2].State != Ejected || st[2].Weight != 5 || st[3].State != Up {
		t.Errorf("status: got %+v, want 3, 3 and drained, ejected with weight 5, up", st)
	}
	for _, x := range tunnels {
		x.echo("still here")
	}
	for range 6 {
		if x := r.open(); x.server == b.addr {
			t.Errorf("got a tunnel at the drained server")
		}
	}
	for _, x := range tunnels {
		x.end(r)
	}
	if s := r.stats(); s.Tunnels != 6 || s.Ejections != 1 {
		t.Errorf("got %+v, want 6 tunnels and the ejection of before", s)
	}
}

// TestRemoval: a server that is no longer configured gets nothing new, its
// tunnels live, and it is said who has to go.
func TestRemoval(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	r := newRig(t, Config{Servers: servers(a, b)})
	var there []*conn
	for range 4 {
		if x := r.open(); x.server == b.addr {
			there = append(there, x)
		}
	}
	u := r.reload(Config{Servers: servers(a)})
	if u.Has(b.addr) || !u.Has(a.addr) {
		t.Errorf("has: got %v for the one that is gone, %v for the other; want false, true", u.Has(b.addr), u.Has(a.addr))
	}
	for range 3 {
		if x := r.open(); x.server != a.addr {
			t.Errorf("got %s, want %s", x.server, a.addr)
		}
	}
	st := u.Status()
	if len(there) != 2 || len(st) != 2 || st[1].Name != b.addr || st[1].State != Gone || st[1].Tunnels != 2 {
		t.Errorf("status: got %+v, want the one that is gone with 2 tunnels", st)
	}
	for _, x := range there {
		x.echo("still here")
		x.end(r)
	}
	if st := u.Status(); len(st) != 1 {
		t.Errorf("status: got %+v, want nothing of the one that is gone", st)
	}
	// It comes back, as a new one.
	u = r.reload(Config{Servers: servers(a, b)})
	if x := r.open(); x.server != b.addr || !u.Has(b.addr) {
		t.Errorf("got %s, want %s", x.server, b.addr)
	}
}

// TestNotStarted: a generation that is only made changes nothing.
func TestNotStarted(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	r := newRig(t, Config{Servers: servers(a)})
	r.open()
	before := runtime.NumGoroutine()
	u, err := New(Config{Name: "app", Servers: servers(b), Active: &Active{}}, Env{}, r.up.Load())
	if err != nil {
		t.Fatal(err)
	}
	if !u.Has(b.addr) || u.Has(a.addr) {
		t.Errorf("has: got %v, %v, want what its configuration says", u.Has(b.addr), u.Has(a.addr))
	}
	if x := r.open(); x.server != a.addr {
		t.Errorf("got %s, want %s, which serves", x.server, a.addr)
	}
	if st := r.up.Load().Status(); len(st) != 1 || st[0].State != Up {
		t.Errorf("status: got %+v, want one server", st)
	}
	if n := runtime.NumGoroutine(); n > before+4 { // of the tunnel that was opened
		t.Errorf("got %d goroutines after %d, want none of a generation that does not run", n, before)
	}
}

// TestOldGeneration: what still asks an old generation is served by the new one.
func TestOldGeneration(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	r := newRig(t, Config{Servers: servers(a)})
	old := r.up.Load()
	r.reload(Config{Servers: servers(b)})
	r.up.Store(old)
	if x := r.open(); x.server != b.addr {
		t.Errorf("got %s, want %s", x.server, b.addr)
	}
}

// TestChecksEndWithTheirConfiguration: a server that checks took out is in again
// when nothing checks it any more.
func TestChecksEndWithTheirConfiguration(t *testing.T) {
	a := serve(t, "127.0.0.2")
	c := checks(Active{Kind: CheckHTTP}, servers(a)...)
	a.set(func(a *backend) { a.web = status(500) })
	r := newRig(t, c)
	r.event("app " + a.addr + " down")
	u := r.reload(c)
	if st := u.Status()[0]; st.State != Down {
		t.Errorf("the same checks: got %s, want down as before", st.State)
	}
	c.Active = nil
	u = r.reload(c)
	if st := u.Status()[0]; st.State != Up {
		t.Errorf("no checks: got %s, want up", st.State)
	}
}

// TestSetDrain: by the name of a server and by that of its entry, also for
// addresses to come.
func TestSetDrain(t *testing.T) {
	port, all := named(t, "127.0.0.2", "127.0.0.3")
	d := serveDNS(t)
	d.set("app.test", "127.0.0.2")
	entry := "app.test:" + port
	other := serve(t, "127.0.0.9")
	c := Config{Servers: append(servers(other), ServerConfig{Address: entry}), ResolveInterval: 10 * time.Millisecond}
	r := newRig(t, c, func(e *Env) { e.Resolver = d.resolver() })
	r.event("app " + entry + " +[127.0.0.2] -[]")
	u := r.up.Load()
	if u.SetDrain("nobody", true) {
		t.Errorf("a server that is not there: got true, want false")
	}
	if !u.SetDrain(entry, true) {
		t.Errorf("by the entry: got false, want true")
	}
	d.set("app.test", "127.0.0.2", "127.0.0.3")
	r.event("app " + entry + " +[127.0.0.3] -[]")
	for range 4 {
		if x := r.open(); x.server != other.addr {
			t.Errorf("got %s, want %s", x.server, other.addr)
		}
	}
	if !u.SetDrain(entry+"@127.0.0.3:"+port, false) {
		t.Errorf("one of its addresses: got false, want true")
	}
	if x := r.open(); x.server != all["127.0.0.3"].addr {
		t.Errorf("got %s, want %s, which is in again", x.server, all["127.0.0.3"].addr)
	}
	u.SetDrain(entry, false)
	r.first(all["127.0.0.2"].addr)
	if x := r.open(); x.server != all["127.0.0.2"].addr {
		t.Errorf("got %s, want %s, which is in again", x.server, all["127.0.0.2"].addr)
	}
}

// TestDrainKeepsTunnels: a drained server keeps its tunnels, and its sticky
// clients go elsewhere.
func TestDrainKeepsTunnels(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	r := newRig(t, Config{Servers: servers(a, b), Balance: sticky(Cookie{})})
	x := r.open()
	r.up.Load().SetDrain(x.server, true)
	y := r.open("Cookie", pair(x.head))
	if y.server == x.server || pair(y.head) == "" {
		t.Errorf("got %s and cookie %q, want the other and its cookie", y.server, pair(y.head))
	}
	x.echo("still here")
	if st := r.up.Load().Status(); st[0].State == st[1].State || st[0].Tunnels != 1 || st[1].Tunnels != 1 {
		t.Errorf("status: got %+v, want one drained, a tunnel at each", st)
	}
}

// TestReloadUnderTraffic: a hundred reloads while clients come and go: each gets a
// tunnel, none is cut, and no place is lost.
func TestReloadUnderTraffic(t *testing.T) {
	a, b := serve(t, "127.0.0.2"), serve(t, "127.0.0.3")
	c := Config{Servers: servers(a, b), Limits: Limits{MaxTunnels: 12}, QueueLength: 100, QueueTime: time.Minute}
	r := newRig(t, c)
	stay := []*conn{r.open(), r.open(), r.open(), r.open()}
	stop := make(chan bool)
	var wg sync.WaitGroup
	var opened atomic.Int64
	for i := range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				x, res, err := r.try()
				if err != nil {
					t.Errorf("client %d: got %v, %q, want a tunnel", i, err, said(res))
					return
				}
				m := fmt.Sprint("message ", i)
				x.WriteMessage(websocket.TextMessage, []byte(m))
				if _, got, err := x.ReadMessage(); err != nil || string(got) != m {
					t.Errorf("client %d: got %q, %v, want %q", i, got, err, m)
				}
				(&conn{Conn: x}).leave()
				opened.Add(1)
			}
		})
	}
	for i := range 100 {
		c.Servers[0].Weight, c.Servers[1].Weight = 1+i%3, 1+i%2
		c.Balance.Policy = []Policy{LeastTunnels, RoundRobin, RandomTwo, Hash}[i%4]
		r.reload(c)
		until(t, "clients after a reload", func() bool { return opened.Load() >= int64(10*i) })
	}
	close(stop)
	wg.Wait()
	for _, x := range stay {
		x.echo("still here")
		x.leave()
	}
	until(t, "end of all tunnels", func() bool { s := r.stats(); return s.Tunnels == 0 && s.Pending == 0 && s.Waiting == 0 })
	for _, s := range r.up.Load().Status() {
		if s.Tunnels != 0 || s.Pending != 0 {
			t.Errorf("status: got %+v, want nothing left", s)
		}
	}
	t.Logf("%d tunnels opened and closed during 100 reloads", opened.Load())
}

// TestClose: the goroutines of a generation end with it, also those that wait for
// a name or for the answer to a check.
func TestClose(t *testing.T) {
	a := held(t, "127.0.0.2")
	d := serveDNS(t)
	d.set("app.test", "127.0.0.2")
	before := runtime.NumGoroutine()
	c := checks(Active{Kind: CheckHTTP}, append(servers(a), ServerConfig{Address: "app.test:1"})...)
	c.Name, c.ResolveInterval = "app", time.Millisecond
	u, err := New(c, Env{Resolver: d.resolver()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	u.Start()
	until(t, "a check and a lookup", func() bool { return a.asked.Load() > 0 && len(u.Status()) == 2 })
	u.Close()
	u.Close()
	until(t, "end of all goroutines but the server's", func() bool { return runtime.NumGoroutine() <= before+4 })
}

// TestConfigErrors: each is one line that names the option.
func TestConfigErrors(t *testing.T) {
	ok := []ServerConfig{{Address: "127.0.0.1:80"}}
	for want, c := range map[string]Config{
		`upstream "app": no servers`:                                     {},
		`server "x" is not host:port`:                                    {Servers: []ServerConfig{{Address: "x"}}},
		`server "x:99999" has no port between`:                           {Servers: []ServerConfig{{Address: "x:99999"}}},
		`a unix socket has no path`:                                      {Servers: []ServerConfig{{Network: "unix"}}},
		`network "udp" is neither tcp nor unix`:                          {Servers: []ServerConfig{{Network: "udp", Address: "x:1"}}},
		`weight is not between 1 and 1000`:                               {Servers: []ServerConfig{{Address: "x:1", Weight: 1001}}},
		`server "127.0.0.1:80" stands there twice`:                       {Servers: append(ok, ok...)},
		`server "a" stands there twice`:                                  {Servers: []ServerConfig{{Name: "a", Address: "x:1"}, {Name: "a", Address: "x:2"}}},
		`server "127.0.0.1:80" has TLS, but`:                             {Servers: []ServerConfig{{Address: "127.0.0.1:80", TLS: true}}},
		`source address "0.0.0.0" is none`:                               {Servers: ok, Sources: []netip.Addr{netip.IPv4Unspecified()}},
		`balance "best" is none of`:                                      {Servers: ok, Balance: Balance{Policy: "best"}},
		`hash key "x" is none of`:                                        {Servers: ok, Balance: Balance{Policy: Hash, Key: "x"}},
		`hash on a cookie has no name`:                                   {Servers: ok, Balance: Balance{Policy: Hash, Key: HashCookie}},
		`secret of the sticky cookie has 3 octets; it takes at least 16`: {Servers: ok, Balance: Balance{Policy: Sticky, Cookie: Cookie{Secret: []byte("abc")}}},
		`sticky cookie: http: invalid Cookie.Name`:                       {Servers: ok, Balance: Balance{Policy: Sticky, Cookie: Cookie{Name: "a b", Secret: secret}}},
		`secure "maybe" of the sticky cookie`:                            {Servers: ok, Balance: Balance{Policy: Sticky, Cookie: Cookie{Secure: "maybe", Secret: secret}}},
		`check "ping" is none of`:                                        {Servers: ok, Active: &Active{Kind: "ping"}},
		`path "x" of the check does not begin with /`:                    {Servers: ok, Active: &Active{Path: "x"}},
	} {
		c.Name = "app"
		_, err := New(c, Env{}, nil)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), `upstream "app": `) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// TestBeforeStart: who asks too early waits.
func TestBeforeStart(t *testing.T) {
	u, err := New(Config{Name: "app", Servers: []ServerConfig{{Address: "127.0.0.1:1"}}}, Env{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		v, err := u.Visit(newRequest(t))
		if err == nil {
			v.Leave()
		}
		got <- err
	}()
	until(t, "one waiting", func() bool { return u.Stats().Waiting == 1 })
	u.Start()
	defer u.Close()
	if err := <-got; err != nil {
		t.Errorf("got %v, want a place", err)
	}
}
