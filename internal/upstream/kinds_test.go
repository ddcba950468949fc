package upstream

import (
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// TestUnixAndTLS: servers of all kinds in one upstream: tunnels, requests and
// checks reach each.
func TestUnixAndTLS(t *testing.T) {
	plain := serve(t, "127.0.0.2")
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	p := new(http.Protocols)
	p.SetHTTP1(true)
	local := &backend{addr: "unix", keys: make(map[string]bool)}
	local.server = &http.Server{Handler: local, Protocols: p}
	go local.server.Serve(ln)
	t.Cleanup(func() { local.server.Close() })
	secure := secureEcho(t, "app.test")

	c := Config{
		Servers: []ServerConfig{
			{Address: plain.addr},
			{Name: "local", Network: "unix", Address: path},
			{Name: "secure", Address: secure.addr, TLS: true, Host: "app.test"},
		},
		TLS: secure.client, Active: &Active{Kind: CheckWebSocket, Interval: time.Hour},
		Sources: addrs("127.0.0.11"), Limits: Limits{},
	}
	r := newRig(t, c)
	for range 9 {
		r.open().echo("hello")
	}
	st := r.up.Load().Status()
	for i, want := range []string{plain.addr, "local@" + path, "secure@" + secure.addr} {
		if st[i].Name != want || st[i].Tunnels != 3 || st[i].State != Up {
			t.Errorf("status: got %+v, want %s with 3 tunnels", st[i], want)
		}
	}
	for range 3 {
		v, err := r.up.Load().Visit(newRequest(t))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := v.Server().Dial(t.Context())
		if err != nil {
			t.Errorf("%s: %v", v.Server(), err)
			continue
		}
		conn.Close()
		defer v.Leave() // so that the next goes elsewhere
	}
	checked := func() bool {
		for _, e := range r.up.Load().table.Load().list {
			e.mu.Lock()
			done := e.checked
			e.mu.Unlock()
			if !done {
				return false
			}
		}
		return true
	}
	until(t, "a check of each", checked)
	if got := r.drainEvents(); len(got) != 0 {
		t.Errorf("events: got %q, want none: all are up", got)
	}
}
