package operator

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wsgate/internal/config"
	"wsgate/internal/gateway"
)

// twoServers is a file with a route to two servers, and one more route.
func twoServers(a, b, more string) string {
	return `
listeners: [{address: "127.0.0.1:0"}]
drain: {time: 300ms}
upstreams:
  app: {servers: ["ws://` + a + `", "ws://` + b + `"], balance: round_robin}
routes:
  - {name: app, match: {hosts: [a.test]}, upstream: app}
` + more
}

// TestReloadKeepsTunnels: what still has its route and server lives, whatever
// else changes; what has lost one gets Close 1001 at the drain deadline (rows 134
// and 135).
func TestReloadKeepsTunnels(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	r := run(t, twoServers(one.addr, two.addr, "  - {name: gone, match: {hosts: [b.test]}, upstream: app}\n"))
	tunnels := map[string]*conn{}
	for range 2 {
		c := r.open(ask{host: "a.test", path: "/"})
		tunnels[c.server] = c
	}
	if len(tunnels) != 2 {
		t.Fatalf("tunnels: got servers %v, want one and two", tunnels)
	}
	gone := r.open(ask{host: "b.test", path: "/"})

	// A reload that touches nothing, and one that adds and changes other things.
	for _, more := range []string{
		"  - {name: gone, match: {hosts: [b.test]}, upstream: app}\n",
		"  - {name: gone, match: {hosts: [b.test, c.test]}, upstream: app, ping: 1h}\n  - {match: {hosts: [d.test]}, answer: {status: 404}}\nlimits: {header: 32KiB}\n",
	} {
		if rep := r.reload(twoServers(one.addr, two.addr, more)); rep.Ended != 0 || rep.Tunnels != 3 || rep.Closed != nil || rep.Opened != nil {
			t.Errorf("reload: got %+v, want nothing ended, closed or opened", rep)
		}
		for _, c := range tunnels {
			c.echo("after a reload")
		}
		gone.echo("after a reload")
	}
	// The route goes.
	started := time.Now()
	if rep := r.reload(twoServers(one.addr, two.addr, "")); rep.Ended != 1 {
		t.Errorf("without a route: got %+v, want 1 ended", rep)
	}
	gone.echo("until the deadline")
	gone.wantClose(1001)
	if d := time.Since(started); d < 300*time.Millisecond {
		t.Errorf("its Close came after %v, want the drain time of 300ms", d)
	}
	gone.Close()
	r.wantTunnels(2)
	// A server goes.
	if rep := r.reload(strings.Replace(twoServers(one.addr, two.addr, ""), `, "ws://`+two.addr+`"`, "", 1)); rep.Ended != 1 {
		t.Errorf("without a server: got %+v, want 1 ended", rep)
	}
	tunnels["two"].wantClose(1001)
	tunnels["one"].echo("still here")
	if code := <-two.closes; code != 1001 {
		t.Errorf("at the server that went: got Close %d, want 1001", code)
	}
	r.log.wants(t, "why=removed")
}

// TestReloadTakesBack: an order to end is taken back when its server returns
// before the deadline.
func TestReloadTakesBack(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	file := strings.Replace(twoServers(one.addr, two.addr, ""), "300ms", "1h", 1)
	r := run(t, file)
	var c *conn
	for c == nil || c.server != "two" {
		c = r.open(ask{host: "a.test", path: "/"})
	}
	without := strings.Replace(file, `, "ws://`+two.addr+`"`, "", 1)
	if rep := r.reload(without); rep.Ended == 0 {
		t.Fatalf("without a server: got %+v, want some ended", rep)
	}
	if rep := r.reload(file); rep.Ended != 0 {
		t.Errorf("with it again: got %+v, want none ended", rep)
	}
	// With a short time now: an order that was not taken back would be due.
	if rep := r.reload(strings.Replace(file, "1h", "1ms", 1)); rep.Ended != 0 {
		t.Errorf("once more: got %+v, want none ended", rep)
	}
	c.echo("still here")
}

// TestReloadBroken: a file that is wrong changes nothing and says why.
func TestReloadBroken(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	good := twoServers(one.addr, two.addr, "")
	r := run(t, good)
	c := r.open(ask{host: "a.test", path: "/"})
	for what, file := range map[string]string{
		"syntax":         "listeners: [",
		"unknown key":    good + "nonsense: 1\n",
		"no upstream":    strings.Replace(good, "upstream: app", "upstream: apq", 1),
		"no certificate": strings.Replace(good, `{address: "127.0.0.1:0"}`, `{address: "127.0.0.1:0"}, {address: "127.0.0.1:1", tls: true}`, 1) + "certificates: [{cert: /nowhere, key: /nowhere}]\n",
		"port in use":    strings.Replace(good, `{address: "127.0.0.1:0"}`, `{address: "127.0.0.1:0"}, {address: "`+one.addr+`"}`, 1),
	} {
		r.file.Store(&file)
		_, err := r.gw.Reload(context.Background(), false)
		if err == nil || !strings.Contains(err.Error(), "wsgate.yaml:") {
			t.Errorf("%s: got %v, want an error with its place", what, err)
		}
		c.echo("still here")
		r.open(ask{host: "a.test", path: "/"}).Close()
	}
	eventually(t, "5 errors in the log", func() bool { return strings.Count(r.log.String(), "the old configuration stays") == 5 })
}

// TestDryRun says how many tunnels a reload would end, and ends none.
func TestDryRun(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	file := twoServers(one.addr, two.addr, "")
	r := run(t, file)
	var all []*conn
	for range 10 {
		all = append(all, r.open(ask{host: "a.test", path: "/"}))
	}
	without := strings.Replace(file, `, "ws://`+two.addr+`"`, "", 1)
	r.file.Store(&without)
	rep, err := r.gw.Reload(context.Background(), true)
	if err != nil || rep.Ended != 5 || rep.Tunnels != 10 || !rep.DryRun {
		t.Errorf("dry run: got %+v, %v; want 5 of 10 ended", rep, err)
	}
	for _, c := range all {
		c.echo("still here")
	}
	if got := two.tunnels.Load(); got != 5 {
		t.Errorf("tunnels at the server: got %d, want 5", got)
	}
}

// TestOldRules: a tunnel keeps the rules that it was opened with, a new one gets
// the new ones.
func TestOldRules(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	file := twoServers(one.addr, two.addr, "timeouts: {idle: 1h}\n")
	r := run(t, file)
	old := r.open(ask{host: "a.test", path: "/"})
	r.reload(strings.Replace(file, "idle: 1h", "idle: 100ms", 1))
	r.open(ask{host: "a.test", path: "/"}).wantClose(1001)
	old.echo("by the rules of before")
}

// TestListeners: those that stay are not closed, also when their options
// change; those that go stop accepting, those that come accept.
func TestListeners(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	file := func(l string) string {
		return strings.Replace(twoServers(one.addr, two.addr, ""), `[{address: "127.0.0.1:0"}]`, l, 1)
	}
	r := run(t, file(`[{name: first, address: "127.0.0.5:0"}]`))
	c := r.open(ask{host: "a.test", path: "/"})
	addr := r.at(0)
	rep := r.reload(file(`[{name: renamed, address: "127.0.0.5:0", protocols: [h1]}, {name: second, address: "127.0.0.6:0"}]`))
	if fmt.Sprint(rep.Opened, rep.Closed) != "[second] []" {
		t.Errorf("got opened %v, closed %v; want second, none", rep.Opened, rep.Closed)
	}
	if r.at(0) != addr {
		t.Errorf("the first listener moved from %s to %s", addr, r.at(0))
	}
	second := r.open(ask{listener: 1, host: "a.test", path: "/"})
	rep = r.reload(file(`[{name: second, address: "127.0.0.6:0"}]`))
	if fmt.Sprint(rep.Opened, rep.Closed) != "[] [renamed]" {
		t.Errorf("got opened %v, closed %v; want none, renamed", rep.Opened, rep.Closed)
	}
	c.echo("its listener is gone")
	second.echo("still here")
	eventually(t, "nobody accepts on a listener that went", func() bool {
		x, err := net.Dial("tcp", addr)
		if err == nil {
			x.Close()
		}
		return err != nil
	})
	wrong := file(`[{name: second, address: "127.0.0.6:0", tls: true}]`) + "certificates: [{self_signed: localhost}]\n"
	r.file.Store(&wrong)
	if _, err := r.gw.Reload(context.Background(), false); err == nil || !strings.Contains(err.Error(), "listeners[0].tls") {
		t.Errorf("TLS put on a running listener: got %v, want an error", err)
	}
}

// TestWatch: the file itself is followed, from when it was read: a change before
// the gateway stands is not lost.
func TestWatch(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	file := filepath.Join(t.TempDir(), "wsgate.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	good := twoServers(one.addr, two.addr, "reload: {watch: true}\n")
	texts := []string{strings.Replace(good, "a.test", "a.test, b.test", 1), "listeners: [", strings.Replace(good, "a.test", "a.test, c.test", 1)}
	write(texts[0])
	r := run(t, good, func(o *gateway.Options) {
		o.File, o.Load = file, func() (*config.Config, error) { return config.Load(file) }
	})
	c := r.open(ask{host: "a.test", path: "/"})
	for n, text := range texts {
		if n > 0 {
			write(text)
		}
		if n == 1 {
			r.log.wants(t, "the old configuration stays")
			continue
		}
		host := []string{"b.test", "", "c.test"}[n]
		eventually(t, host+" is served", func() bool {
			x, _ := r.dial(ask{host: host, path: "/"})
			return x != nil
		})
	}
	c.echo("still here")
}
