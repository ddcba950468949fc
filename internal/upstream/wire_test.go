package upstream

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

// where opens n tunnels with those fields and returns how many are at each server.
func (r *rig) where(n int, all []*backend, fields ...string) (out []int) {
	r.t.Helper()
	got := map[string]int{}
	for range n {
		got[r.open(fields...).server]++
	}
	for _, b := range all {
		out = append(out, got[b.addr])
	}
	return out
}

// TestPoliciesOnTheWire: each policy with real servers and weights.
func TestPoliciesOnTheWire(t *testing.T) {
	all := []*backend{serve(t, "127.0.0.2"), serve(t, "127.0.0.3"), serve(t, "127.0.0.4")}
	weighted := servers(all...)
	for i := range weighted {
		weighted[i].Weight = i + 1
	}
	r := newRig(t, Config{Servers: weighted})
	wantCounts(t, "least_tunnels, weights 1, 2, 3", r.where(12, all), 2, 4, 6)
	r = newRig(t, Config{Servers: weighted, Balance: Balance{Policy: RoundRobin}})
	wantCounts(t, "round_robin, weights 1, 2, 3", r.where(12, all), 2, 4, 6)
	r = newRig(t, Config{Servers: servers(all...), Balance: Balance{Policy: RoundRobin}})
	for i := range 6 {
		if got, want := r.open().server, all[i%3].addr; got != want {
			t.Errorf("round_robin, tunnel %d: got %s, want %s", i, got, want)
		}
	}
	r = newRig(t, Config{Servers: servers(all...), Balance: Balance{Policy: RandomTwo}})
	for i, n := range r.where(30, all) {
		if n < 6 {
			t.Errorf("random_two: got %d of 30 at server %d, want about 10", n, i)
		}
	}
}

// TestHashOnTheWire: what has the same key is at the same server, and the keys
// are at all of them.
func TestHashOnTheWire(t *testing.T) {
	all := []*backend{serve(t, "127.0.0.2"), serve(t, "127.0.0.3"), serve(t, "127.0.0.4")}
	named := servers(all...) // the hash is of names: the same in each run
	for i := range named {
		named[i].Name = string(rune('a' + i))
	}
	for _, x := range []struct {
		balance Balance
		fields  func(i int) []string
	}{
		{Balance{Policy: Hash, Key: HashHeader, Name: "X-User"}, func(i int) []string { return []string{"X-User", fmt.Sprint("u", i)} }},
		{Balance{Policy: Hash, Key: HashCookie, Name: "session"}, func(i int) []string { return []string{"Cookie", fmt.Sprint("a=b; session=s", i)} }},
		{Balance{Policy: Hash, Key: HashPath}, func(i int) []string { return []string{"path", fmt.Sprintf("/room/%d?x=%d", i/2, i)} }},
		{Balance{Policy: Hash, Key: HashClient}, func(i int) []string { return []string{"X-Forwarded-For", fmt.Sprint("198.51.100.", i)} }},
	} {
		r := newRig(t, Config{Servers: named, Balance: x.balance})
		used := map[string]bool{}
		for i := range 16 {
			first := r.open(x.fields(i)...)
			used[first.server] = true
			again := r.open(x.fields(i)...)
			if again.server != first.server {
				t.Errorf("%s: key %d: got %s, then %s, want the same", x.balance.Key, i, first.server, again.server)
			}
			first.leave() // so that the bound of 5/4 moves nothing
			again.end(r)
		}
		if want := 3; x.balance.Key != HashClient && len(used) != want {
			t.Errorf("%s: got %d servers used, want %d", x.balance.Key, len(used), want)
		}
		if x.balance.Key == HashClient && len(used) != 1 {
			t.Errorf("client: got %d servers used, want one: nobody is trusted", len(used))
		}
	}
	r := newRig(t, Config{Servers: servers(all...), Balance: Balance{Policy: Hash, Key: HashPath}})
	for i, n := range r.where(48, all, "path", "/the/one") {
		if n > 21 { // 5/4 of the third of 49, rounded up
			t.Errorf("one key, 48 tunnels: got %d at server %d, want 21 at most", n, i)
		}
	}
}

// TestSlowStartOnTheWire: a server that a reload adds gets few at first.
func TestSlowStartOnTheWire(t *testing.T) {
	all := []*backend{serve(t, "127.0.0.2"), serve(t, "127.0.0.3"), serve(t, "127.0.0.4")}
	var now atomic.Int64
	now.Store(1e18)
	clock := func(e *Env) { e.Now = func() time.Time { return time.Unix(0, now.Load()) } }
	r := newRig(t, Config{Servers: servers(all[:2]...), SlowStart: time.Minute}, clock)
	wantCounts(t, "two servers", r.where(40, all), 20, 20, 0)
	now.Add(int64(time.Hour))
	r.reload(Config{Servers: servers(all...), SlowStart: time.Minute}, clock)
	if got := r.where(10, all); got[2] < 1 || got[2] > 3 {
		t.Errorf("a new server: got %v, want two or so for it", got)
	}
	now.Add(int64(30 * time.Second))
	if got := r.where(10, all); got[2] < 8 {
		t.Errorf("half a minute later: got %v, want nearly all for it, which has few for half its weight", got)
	}
	now.Add(int64(time.Minute))
	if got := r.where(12, all); got[2] < 8 {
		t.Errorf("at its full weight: got %v, want nearly all for it", got)
	}
}
