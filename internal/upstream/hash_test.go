package upstream

import (
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"wsgate/bridge"
)

// TestHashIsTheSameEverywhere: replicas and later versions have to agree.
func TestHashIsTheSameEverywhere(t *testing.T) {
	w := want{}
	w.add("user-1")
	var a want
	a.setAddr(netip.MustParseAddr("192.0.2.7"))
	got := []uint64{w.key, a.key, mix(hashString(hashSeed, "10.0.0.1:80"))}
	want := []uint64{0x32d092a54d3dba11, 0x419b297d2721cf9, 0x5a3b59db3b7b2671}
	if !slices.Equal(got, want) {
		t.Errorf("got %#x, want %#x", got, want)
	}
}

// place is where the keys go with nothing under way.
func place(b *bench, keys int) map[int]string {
	out := make(map[int]string, keys)
	for i := range keys {
		w := want{}
		w.add(fmt.Sprint("user-", i))
		e := b.take(&w)
		out[i] = e.of.Name
		e.leave(tunnel)
	}
	return out
}

// near: what chance makes of want is within five standard deviations.
func near(got, want int) bool {
	return math.Abs(float64(got-want)) <= 5*math.Sqrt(float64(want))
}

func moved(a, b map[int]string) (n int) {
	for k := range a {
		if a[k] != b[k] {
			n++
		}
	}
	return n
}

// TestHash: keys are spread by weight; adding a server moves the share that it
// gets and no other key, as does taking one away; two processes agree.
func TestHash(t *testing.T) {
	const keys = 10_000
	c := Config{Balance: Balance{Policy: Hash, Key: HashHeader, Name: "X-User"}}
	for _, x := range []struct {
		weights []int
		more    int // weight of one more server
	}{
		{[]int{1, 1, 1}, 1},
		{slices.Repeat([]int{1}, 10), 1},
		{slices.Repeat([]int{1}, 100), 1},
		{[]int{1, 2, 3, 4}, 5},
	} {
		b := newBench(t, c, x.weights...)
		before := place(b, keys)
		if n := moved(before, place(newBench(t, c, x.weights...), keys)); n != 0 {
			t.Errorf("%v: another process: got %d of %d keys elsewhere, want none", x.weights, n, keys)
		}
		total := 0
		for _, w := range x.weights {
			total += w
		}
		share := map[string]int{}
		for _, s := range before {
			share[s]++
		}
		for i, w := range x.weights {
			got, want := share[fmt.Sprint("s", i)], keys*w/total
			if !near(got, want) {
				t.Errorf("%v: s%d: got %d keys, want about %d", x.weights, i, got, want)
			}
		}

		more := newBench(t, c, append(slices.Clone(x.weights), x.more)...)
		after := place(more, keys)
		n, want := moved(before, after), keys*x.more/(total+x.more)
		if !near(n, want) {
			t.Errorf("%v and %d: got %d of %d keys moved, want about %d", x.weights, x.more, n, keys, want)
		}
		t.Logf("%d servers and one more of weight %d: %d of %d keys move, %.4f; its share is %.4f", len(x.weights), x.more, n, keys, float64(n)/keys, float64(x.more)/float64(total+x.more))
		added := fmt.Sprint("s", len(x.weights))
		for k, s := range after {
			if s != before[k] && s != added {
				t.Fatalf("%v: key %d: got %s after %s, want the new server or none other", x.weights, k, s, before[k])
			}
		}

		b.SetDrain("s0", true)
		for k, s := range place(b, keys) {
			if before[k] != "s0" && s != before[k] {
				t.Fatalf("%v: s0 is gone: key %d: got %s after %s, want no move", x.weights, k, s, before[k])
			}
		}
	}
}

// TestBoundedLoad: a key that everybody has does not go to one server alone: none
// gets more than 5/4 of its share, and below ten tunnels nothing moves.
func TestBoundedLoad(t *testing.T) {
	c := Config{Balance: Balance{Policy: Hash, Key: HashPath}}
	b := newBench(t, c, 1, 1, 2)
	w := want{}
	w.add("/the/one")
	first := ""
	for i := range 1000 {
		got := b.tunnel(w)
		if first == "" {
			first = got
		}
		if i < boundFloor && got != first {
			t.Errorf("tunnel %d: got %s, want %s as the first", i, got, first)
		}
		for k, n := range b.counts() {
			weight := []int{1, 1, 2}[k]
			if most := max(boundFloor, (5*(i+1)*weight+15)/16); n > most {
				t.Fatalf("%d tunnels: got %d at s%d, want %d at most", i+1, n, k, most)
			}
		}
	}
	t.Logf("1000 tunnels of one key at weights 1, 1, 2: %v", b.counts())
	// With many keys, few are away from home.
	b = newBench(t, c, slices.Repeat([]int{1}, 10)...)
	home := newBench(t, c, slices.Repeat([]int{1}, 10)...)
	away := 0
	const keys = 10_000
	for i := range keys {
		w := want{}
		w.add(fmt.Sprint("/", i))
		e := home.take(&w)
		e.leave(tunnel)
		if b.tunnel(w) != e.of.Name {
			away++
		}
	}
	if away > keys/50 {
		t.Errorf("got %d of %d keys away from home, want one in fifty at most", away, keys)
	}
	t.Logf("%d keys at 10 servers: %d away from home, %v", keys, away, b.counts())
}

// TestKeys: what tunnels and requests are told apart by, the same for both; a
// client without it goes to the least.
func TestKeys(t *testing.T) {
	proxy := netip.MustParseAddr("10.1.1.1")
	for _, x := range []struct {
		key        HashKey
		name       string
		peer, path string
		fields     bridge.Fields
		same       want // a key made by hand
	}{
		{HashClient, "", "192.0.2.7:1234", "/", nil, byAddr("192.0.2.7")},
		{HashClient, "", "[::ffff:192.0.2.7]:1234", "/", nil, byAddr("192.0.2.7")},
		{HashClient, "", "[2001:db8:1:2:3::4]:1", "/", nil, byAddr("2001:db8:1:2::")},
		{HashClient, "", "192.0.2.7:1", "/", bridge.Fields{{Name: "X-Forwarded-For", Value: "9.9.9.9"}}, byAddr("192.0.2.7")},
		{HashClient, "", "10.1.1.1:1", "/", bridge.Fields{{Name: "X-Forwarded-For", Value: "9.9.9.9, 192.0.2.7, 10.1.1.1"}}, byAddr("192.0.2.7")},
		{HashClient, "", "10.1.1.1:1", "/", bridge.Fields{{Name: "X-Forwarded-For", Value: "192.0.2.7, unknown"}}, byAddr("10.1.1.1")},
		{HashHeader, "X-User", "192.0.2.7:1", "/", bridge.Fields{{Name: "x-user", Value: "a"}, {Name: "X-USER", Value: "b"}}, byParts("a", "b")},
		{HashHeader, "X-User", "192.0.2.7:1", "/", nil, want{}},
		{HashHeader, "host", "192.0.2.7:1", "/", nil, byParts("app.example")},
		{HashCookie, "id", "192.0.2.7:1", "/", bridge.Fields{{Name: "Cookie", Value: "x=1; id=abc ;id=z"}}, byParts("abc")},
		{HashCookie, "id", "192.0.2.7:1", "/", bridge.Fields{{Name: "Cookie", Value: `id="abc"`}}, byParts("abc")},
		{HashCookie, "id", "192.0.2.7:1", "/", bridge.Fields{{Name: "Cookie", Value: "xid=abc"}}, want{}},
		{HashPath, "", "192.0.2.7:1", "/room/7?token=1", nil, byParts("/room/7")},
	} {
		b := newBench(t, Config{Balance: Balance{Policy: Hash, Key: x.key, Name: x.name}}, 1)
		b.env.Trusts = func(a netip.Addr) bool { return a == proxy }
		h := &bridge.Handshake{Path: x.path, Authority: "app.example", Fields: x.fields, Client: &bridge.Client{Remote: netip.MustParseAddrPort(x.peer)}}
		r := &http.Request{Host: "app.example", RemoteAddr: x.peer, RequestURI: x.path, Header: http.Header{}}
		for _, f := range x.fields {
			r.Header.Add(f.Name, f.Value)
		}
		for what, got := range map[string]want{"handshake": b.ofHandshake(h), "request": b.ofRequest(r)} {
			if got.keyed != x.same.keyed || got.key != x.same.key {
				t.Errorf("%s %q of %s, path %s, fields %v: got %v %#x, want %v %#x", x.key, x.name, what, x.path, x.fields, got.keyed, got.key, x.same.keyed, x.same.key)
			}
		}
	}
	b := newBench(t, Config{Balance: Balance{Policy: Hash, Key: HashHeader, Name: "X-User"}}, 1, 1)
	for range 10 {
		b.tunnel(want{})
	}
	wantCounts(t, "without a key", b.counts(), 5, 5)
}

func byAddr(s string) (w want) {
	w.setAddr(netip.MustParseAddr(s))
	return w
}

func byParts(parts ...string) (w want) {
	for _, s := range parts {
		w.add(s)
	}
	return w
}
