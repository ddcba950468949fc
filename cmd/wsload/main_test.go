package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"wsgate/internal/load"
)

// buffer is output that a test may read meanwhile.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
	// said is closed once want has been written.
	want string
	said chan struct{}
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	had := strings.Contains(b.b.String(), b.want)
	n, err := b.b.Write(p)
	if b.want != "" && !had && strings.Contains(b.b.String(), b.want) {
		close(b.said)
	}
	return n, err
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// backend starts `wsload backend` and returns its address.
func backend(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out := &buffer{want: "\n", said: make(chan struct{})}
	done := make(chan int)
	go func() { done <- run(ctx, []string{"backend", "--listen", "127.0.0.1:0"}, out, io.Discard) }()
	<-out.said
	t.Cleanup(func() {
		cancel()
		if code := <-done; code != 0 {
			t.Errorf("backend: got exit code %d, want 0", code)
		}
	})
	return strings.TrimSpace(strings.TrimPrefix(out.String(), "listening on "))
}

// TestJSON: the keys are those that scripts rely on, and each kind of run has
// its figures.
func TestJSON(t *testing.T) {
	url := "ws://" + backend(t) + "/"
	all := []string{"errors", "gen_us_per_message", "kib_per_tunnel", "messages", "opened", "p50", "p99", "p999", "refused", "s_per_gib", "us_per_message", "us_per_tunnel"}
	for _, c := range []struct {
		args []string
		want []string // keys that are not null
	}{
		{[]string{"echo", "--for", "200ms"}, []string{"us_per_message", "gen_us_per_message", "p50", "p99", "p999"}},
		{[]string{"bulk", "--for", "200ms"}, []string{"us_per_message", "s_per_gib"}},
		{[]string{"open", "--for", "200ms"}, []string{"us_per_tunnel", "gen_us_per_message", "p50"}},
		{[]string{"idle", "--hold", "200ms"}, []string{"kib_per_tunnel", "p50"}},
		{[]string{"get", "--for", "200ms"}, []string{"us_per_message", "p50"}},
	} {
		t.Run(c.args[0], func(t *testing.T) {
			out, errs := &buffer{}, &buffer{}
			args := append(c.args, "--url", url, "--http", "1", "--conns", "4", "--tunnels", "1", "--format", "json", "--pid", strconv.Itoa(os.Getpid()))
			if code := run(t.Context(), args, out, errs); code != 0 {
				t.Fatalf("got exit code %d, want 0: %s", code, errs)
			}
			var got map[string]*float64
			if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
				t.Fatalf("got %q: %v, want JSON", out, err)
			}
			var keys []string
			for k := range got {
				keys = append(keys, k)
			}
			slices.Sort(keys)
			if !slices.Equal(keys, all) {
				t.Errorf("got the keys %q, want %q", keys, all)
			}
			for _, k := range append(c.want, "opened", "messages") {
				if got[k] == nil {
					t.Errorf("%s: got null, want a figure", k)
				}
			}
		})
	}
}

func TestText(t *testing.T) {
	url := "ws://" + backend(t) + "/"
	out, errs := &buffer{}, &buffer{}
	if code := run(t.Context(), []string{"echo", "--url", url, "--http", "1", "--conns", "2", "--tunnels", "1", "--for", "200ms", "--rate", "500", "--verify", "--pid", strconv.Itoa(os.Getpid())}, out, errs); code != 0 {
		t.Fatalf("got exit code %d, want 0: %s", code, errs)
	}
	for _, want := range []string{"echo " + url + " HTTP/1, 2 x 1, 64 octets, open loop at 500/s", "tunnels    2 opened, 0 refused; 0 errors, 0 silent", " p50 ", " p90 ", " p99 ", " p99.9 ", " max ", "generator", "µs of CPU for each of them", "MiB of memory (PSS) in all"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got\n%swant %q in it", out, want)
		}
	}
}

// TestInterrupt: a run that is interrupted prints what it has measured.
func TestInterrupt(t *testing.T) {
	url := "ws://" + backend(t) + "/"
	ctx, cancel := context.WithCancel(t.Context())
	out, errs := &buffer{}, &buffer{want: "holding 3 tunnels", said: make(chan struct{})}
	go func() {
		<-errs.said
		cancel()
	}()
	if code := run(ctx, []string{"idle", "--url", url, "--http", "1", "--conns", "3", "--tunnels", "1", "--hold", "1h"}, out, errs); code != 0 {
		t.Fatalf("got exit code %d, want 0: %s", code, errs)
	}
	if !strings.Contains(out.String(), "3 opened") {
		t.Errorf("got %q, want what was measured", out)
	}
}

// TestTrouble: a peer that ends tunnels is reported, by exit code too.
func TestTrouble(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for n := 0; ; n++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			if n > 0 {
				c.Close()
				continue
			}
			go io.Copy(c, io.MultiReader(strings.NewReader("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")))
		}
	}()
	out, errs := &buffer{}, &buffer{}
	if code := run(t.Context(), []string{"echo", "--url", "ws://" + ln.Addr().String(), "--http", "1", "--conns", "2", "--tunnels", "1", "--for", "100ms"}, out, errs); code != 1 {
		t.Errorf("got exit code %d, want 1", code)
	}
	if !strings.Contains(errs.String(), "no tunnel opened") {
		t.Errorf("got %q, want no tunnel opened", errs)
	}
}

func TestUsage(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"echo", "say where the target is"},
		{"echo --url ftp://x/", "none of ws, wss, http, https"},
		{"echo --url ws://x/ --http 4", "none of 1, 2 and 3"},
		{"echo --url ws://x/ --http 3", "HTTP/3 has TLS always"},
		{"echo --url ws://x/ --http 1 --tunnels 3", "a connection carries one"},
		{"echo --url ws://x/ --format xml", "neither text nor json"},
		{"echo --url wss://x/ --tls-group P224", "none of X25519"},
		{"echo --url ws://x/ --from 127.0.0.1/32", "prefix of at most 30 bits"},
		{"echo --what", "unknown flag"},
		{"echo more", "unexpected argument"},
		{"ech", "unknown command"},
	} {
		out, errs := &buffer{}, &buffer{}
		if code := run(t.Context(), strings.Fields(c.args), out, errs); code != 2 || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%s: got exit code %d, %q, want 2 and %q", c.args, code, errs, c.want)
		}
	}
	if kinds := kinds(); kinds[0].name != load.KindEcho {
		t.Errorf("got %q first, want echo", kinds[0].name)
	}
}
