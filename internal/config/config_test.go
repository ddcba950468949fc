package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestBroken: each broken file gets the errors that stand beside it.
func TestBroken(t *testing.T) {
	t.Setenv("WSGATE_TEST_SHORT", "short")
	files, err := filepath.Glob("testdata/broken/*.yaml")
	if err != nil || len(files) < 60 {
		t.Fatalf("broken files: got %d (%v), want at least 60", len(files), err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(filepath.Base(file), src)
		var errs Errors
		if !errors.As(err, &errs) || len(errs) == 0 {
			t.Errorf("%s: got %v, want Errors", file, err)
			continue
		}
		golden := strings.TrimSuffix(file, ".yaml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := errs.Error() + "\n"; got != string(want) {
			t.Errorf("%s: got\n%swant\n%s", file, got, want)
		}
		if strings.Contains(errs.Error(), "hunter2") {
			t.Errorf("%s: a secret is shown", file)
		}
	}
}

const whole = `
listeners:
  - {name: public, address: ":8443", tls: {certificates: main, min_version: "1.3"}, protocols: [h2, h1]}
  - {address: "127.0.0.1:8080"}
certificates:
  - {name: main, cert: c.pem, key: k.pem}
upstreams:
  chat:
    servers:
      - ws://127.0.0.1:3001
      - {address: "wss://chat.internal", weight: 3, max_tunnels: 10}
    balance: sticky
    sticky: {secret: "${WSGATE_TEST_SECRET}", max_age: 7d}
    source_addresses: [127.0.0.2, 127.0.0.3]
    tls: {ca: ca.pem}
    health:
      active: {kind: websocket, path: /ws}
  web:
    servers: unix:///run/web.sock
routes:
  - name: chat
    match: {hosts: [Chat.Example.com, "*.chat.example.com"], prefix: /rooms/*, kind: websocket}
    upstream: chat
    ping: 30s
    timeouts: {idle: 1h30m, linger: 0}
    strip: extensions
  - match: {listeners: "127.0.0.1:8080"}
    redirect: {scheme: https}
  - upstream: web
`

func TestParse(t *testing.T) {
	t.Setenv("WSGATE_TEST_SECRET", "hunter2hunter2hunter2")
	c, err := Parse("x.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	chat := c.Upstreams["chat"]
	for _, x := range []struct {
		what      string
		got, want any
	}{
		{"certificates of the first listener", c.Listeners[0].TLS.Certificates, []string{"main"}},
		{"protocols of the first", c.Listeners[0].Protocols, []string{"h2", "h1"}},
		{"protocols of the second", c.Listeners[1].Protocols, []string{"h1", "h2"}},
		{"name of the second", c.Listeners[1].Name, "127.0.0.1:8080"},
		{"short server", chat.Servers[0], Server{Address: "ws://127.0.0.1:3001", Weight: 1}},
		{"long server", chat.Servers[1], Server{Address: "wss://chat.internal", Weight: 3, MaxTunnels: 10}},
		{"secret", string(chat.Sticky.Secret), "hunter2hunter2hunter2"},
		{"max age", chat.Sticky.MaxAge.Of(), 7 * 24 * time.Hour},
		{"cookie", chat.Sticky.Cookie, "wsgate"},
		{"one server for a list", c.Upstreams["web"].Servers[0].Address, "unix:///run/web.sock"},
		{"hosts", c.Routes[0].Match.Hosts, []string{"chat.example.com", "*.chat.example.com"}},
		{"idle", c.Routes[0].Timeouts.Idle.Of(), 90 * time.Minute},
		{"linger", *c.Routes[0].Timeouts.Linger, Duration(0)},
		{"stall is not said", c.Routes[0].Timeouts.Stall, (*Duration)(nil)},
		{"strip", c.Routes[0].Strip, []string{"extensions"}},
		{"name of the second route", c.Routes[1].Name, "listener=127.0.0.1:8080"},
		{"status of the redirect", c.Routes[1].Redirect.Status, 308},
		{"name of the third route", c.Routes[2].Name, "all"},
		{"default idle", c.Timeouts.Idle.Of(), time.Hour},
		{"default header", c.Limits.Header, Size(64 << 10)},
	} {
		if !reflect.DeepEqual(x.got, x.want) {
			t.Errorf("%s: got %v, want %v", x.what, x.got, x.want)
		}
	}
}

// TestEffective: what is printed holds all values, hides secrets, and is itself
// a file with the same meaning.
func TestEffective(t *testing.T) {
	t.Setenv("WSGATE_TEST_SECRET", "hunter2hunter2hunter2")
	c, err := Parse("x.yaml", []byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.Effective()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("hunter2")) || !bytes.Contains(out, []byte("secret: (secret)")) {
		t.Errorf("secrets: got\n%s", out)
	}
	again, err := Parse("again.yaml", bytes.Replace(out, []byte("(secret)"), []byte(`"${WSGATE_TEST_SECRET}"`), 1))
	if err != nil {
		t.Fatalf("what is printed cannot be read:\n%s\n%v", out, err)
	}
	again.origin, c.origin = nil, nil
	if !reflect.DeepEqual(again, c) {
		t.Errorf("what is printed means something else:\n%s", out)
	}
}

func TestSample(t *testing.T) {
	if _, err := Parse("sample.yaml", Sample); err != nil {
		t.Error(err)
	}
}

// TestOneUpstream: a file with one upstream needs no route.
func TestOneUpstream(t *testing.T) {
	c, err := Parse("x", []byte("listeners: [{address: ':80'}]\nupstreams: {app: {servers: ws://127.0.0.1:1}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Routes) != 1 || c.Routes[0].Upstream != "app" || c.Routes[0].Name != "all" {
		t.Errorf("routes: got %+v", c.Routes)
	}
}

// TestAliases: anchors, aliases and merges work; what they blow up to is bounded.
func TestAliases(t *testing.T) {
	c, err := Parse("x", []byte(`
listeners: [{address: ':80'}]
upstreams:
  a: &a
    servers: ws://127.0.0.1:1
    balance: random_two
  b:
    <<: *a
    servers: ws://127.0.0.1:2
routes: [{upstream: a, match: {path: /a}}, {upstream: b}]
`))
	if err != nil {
		t.Fatal(err)
	}
	if b := c.Upstreams["b"]; b.Balance != "random_two" || b.Servers[0].Address != "ws://127.0.0.1:2" {
		t.Errorf("merged: got %+v", b)
	}
	bomb := "listeners: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for range 9 {
		bomb = strings.ReplaceAll(bomb, "x", "*a")
	}
	if _, err := Parse("x", []byte(bomb)); err == nil {
		t.Error("a bomb of aliases passes")
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "off": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "250ms": 250 * time.Millisecond,
	} {
		if got, err := ParseDuration(in); err != nil || got.Of() != want {
			t.Errorf("%q: got %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "30", "-1s", "1", "d", "1d1", "s", "1y", "+1s", "1 s", "999999999h"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
	for in, want := range map[Duration]string{0: "0", seconds(30): "30s", seconds(3600): "1h", seconds(5400): "1h30m", seconds(90): "1m30s"} {
		if got := in.String(); got != want {
			t.Errorf("%d: got %q, want %q", in, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]Size{"0": 0, "65536": 65536, "64KiB": 65536, "1GiB": 1 << 30, "10B": 10} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"", "KiB", "-1", "1.5MiB", "1kb", "99999999999"} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q: got %v, want an error", in, got)
		}
	}
}

func TestNear(t *testing.T) {
	of := []string{"listeners", "routes", "upstreams"}
	for in, want := range map[string]string{"listners": "listeners", "route": "routes", "rotues": "routes", "lisen": "listeners", "upstream": "upstreams", "backend": ""} {
		if got := near(in, of); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// TestSecretsAreNamedSo: lines with the word are not shown in errors, so the keys
// of all secrets have to hold it.
func TestSecretsAreNamedSo(t *testing.T) {
	seen := 0
	var look func(of reflect.Type)
	look = func(of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice || of.Kind() == reflect.Map {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct {
			return
		}
		for _, f := range fieldsOf(of) {
			below := of.Field(f.index).Type
			if below == reflect.TypeFor[Secret]() {
				seen++
				if !strings.Contains(f.name, "secret") {
					t.Errorf("the key %q of a secret does not hold the word", f.name)
				}
			}
			look(below)
		}
	}
	look(reflect.TypeFor[Config]())
	if seen < 2 {
		t.Errorf("secrets: got %d, want 2 at least", seen)
	}
}

func TestSecretFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte("hunter2hunter2hunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := secret("file:" + file)
	if err != nil || string(s) != "hunter2hunter2hunter2" {
		t.Errorf("got %q, %v", string(s), err)
	}
	if s.String() != "(secret)" || s.GoString() != "(secret)" {
		t.Errorf("shown: got %q", s.String())
	}
}

func TestExpand(t *testing.T) {
	t.Setenv("WSGATE_TEST_A", "x${B}")
	for in, want := range map[string]string{"a": "a", "${WSGATE_TEST_A}/${WSGATE_TEST_A}": "x${B}/x${B}", "$${A}": "${A}", "$A": "$A"} {
		if got, err := expand(in); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
}

// FuzzParse: no panic on any octets, and no error without a message.
func FuzzParse(f *testing.F) {
	f.Add([]byte(whole))
	f.Add(Sample)
	files, _ := filepath.Glob("testdata/broken/*.yaml")
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := Parse("x", src)
		if (c == nil) == (err == nil) {
			t.Fatalf("got %v and %v", c, err)
		}
		if err != nil && err.Error() == "" {
			t.Fatal("an error without a word")
		}
		if c != nil {
			if _, err := c.Effective(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
