package upstream

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ t time.Time }

func (c *clock) now() time.Time { return c.t }

// bench is an upstream without a wire: servers s0, s1, ... with weights, a clock,
// and chance that is the same in each run.
type bench struct {
	*Upstream
	t     testing.TB
	clock *clock
}

func newBench(t testing.TB, c Config, weights ...int) *bench {
	t.Helper()
	b := &bench{t: t, clock: &clock{time.Unix(1e9, 0)}}
	b.follow(nil, c, weights...)
	return b
}

// follow makes the next generation.
func (b *bench) follow(old *Upstream, c Config, weights ...int) {
	b.t.Helper()
	for i, w := range weights {
		c.Servers = append(c.Servers, ServerConfig{Name: fmt.Sprint("s", i), Address: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250+1), Weight: w})
	}
	c.Name = "app"
	u, err := New(c, Env{Now: b.clock.now, Rand: rand.New(rand.NewPCG(1, 2)).Uint64}, old)
	if err != nil {
		b.t.Fatal(err)
	}
	u.Start()
	b.t.Cleanup(u.Close)
	if old != nil {
		old.Close()
	}
	b.Upstream = u
}

// tunnel opens a tunnel and returns the entry that has it, "" if there is none.
func (b *bench) tunnel(w want) string {
	e := b.take(&w)
	if e == nil {
		return ""
	}
	e.opened()
	return e.of.Name
}

// counts are the tunnels of each server in the order of the table.
func (b *bench) counts() (out []int) {
	for _, s := range b.Status() {
		out = append(out, s.Tunnels)
	}
	return out
}

func (b *bench) server(name string) *server {
	b.t.Helper()
	for _, e := range b.table.Load().list {
		if e.of.Name == name {
			return e.server
		}
	}
	b.t.Fatalf("no server %q", name)
	return nil
}

func wantCounts(t *testing.T, what string, got []int, want ...int) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// TestLeastTunnels: by weight, with handshakes and requests counted, and where a
// tunnel has ended the next one goes.
func TestLeastTunnels(t *testing.T) {
	b := newBench(t, Config{}, 1, 2, 3)
	for range 60 {
		b.tunnel(want{})
	}
	wantCounts(t, "60 tunnels", b.counts(), 10, 20, 30)
	for range 6 {
		b.server("s1").Release()
	}
	for range 6 {
		if got := b.tunnel(want{}); got != "s1" {
			t.Errorf("got %s, want s1, which has the fewest for its weight", got)
		}
	}

	b = newBench(t, Config{}, 1, 1)
	first, second := b.take(&want{}), b.take(&want{kind: request})
	if first.server == second.server {
		t.Errorf("got both at %s, want a handshake under way to count", first.id)
	}
	if third := b.take(&want{}); b.take(&want{}).server == third.server {
		t.Errorf("got two at %s, want a request under way to count", third.id)
	}
}

// TestEqualsShare: the first of equals is not always the same.
func TestEqualsShare(t *testing.T) {
	got := map[string]int{}
	b := newBench(t, Config{}, 1, 1, 1, 1)
	for range 4000 {
		e := b.take(&want{})
		got[e.of.Name]++
		e.leave(tunnel)
	}
	for name, n := range got {
		if n < 800 || n > 1200 {
			t.Errorf("%s: got %d of 4000, want about 1000", name, n)
		}
	}
}

// TestSlowStart: a server that is new gets its share over the time, not all at
// once; so does one that has come back.
func TestSlowStart(t *testing.T) {
	c := Config{SlowStart: 100 * time.Second}
	b := newBench(t, c, 1, 1)
	for range 100 { // at the start all are new: it changes nothing
		b.tunnel(want{})
	}
	wantCounts(t, "at the start", b.counts(), 50, 50)
	b.clock.t = b.clock.t.Add(time.Hour)
	b.follow(b.Upstream, c, 1, 1, 1)
	for _, x := range []struct {
		after time.Duration
		most  int // of the new one, while the others have 50 and more
	}{{0, 5}, {20 * time.Second, 11}, {50 * time.Second, 27}, {100 * time.Second, 56}} {
		b.clock.t = time.Unix(1e9, 0).Add(time.Hour + x.after)
		for b.server("s2").load() < 200 {
			e := b.take(&want{})
			if e.of.Name != "s2" {
				e.leave(tunnel)
				break
			}
			e.opened()
		}
		got := b.server("s2").load()
		if got > x.most || got < x.most-6 {
			t.Errorf("after %v: got %d at the new server, want about %d", x.after, got, x.most)
		}
	}

	s := b.server("s0")
	s.marks.set(down, true)
	s.checkedUp(&Upstream{config: Config{Active: &Active{Rise: 1, Fall: 1}}, env: b.env, ledger: b.ledger}, nil)
	if p := (pick{u: b.Upstream, now: b.clock.t.UnixNano()}); p.share(b.table.Load().list[0]) != 10 {
		t.Errorf("weight of a tunnel where one has come back: got %v, want 10", p.share(b.table.Load().list[0]))
	}
}

// TestRoundRobin: turns by weight, spread evenly.
func TestRoundRobin(t *testing.T) {
	c := Config{Balance: Balance{Policy: RoundRobin}}
	for _, x := range []struct {
		weights []int
		want    string
	}{
		{[]int{1}, "0000"},
		{[]int{1, 1, 1}, "012012012"},
		{[]int{5, 1, 1}, "0001200" + "0001200"},
		{[]int{3, 2}, "01010" + "01010"},
		{[]int{2, 1}, "010" + "010"},
	} {
		b := newBench(t, c, x.weights...)
		var got strings.Builder
		for range len(x.want) {
			got.WriteString(b.tunnel(want{})[1:])
		}
		if got.String() != x.want {
			t.Errorf("weights %v: got %s, want %s", x.weights, got.String(), x.want)
		}
	}
}

// TestRoundRobinReturns: who was away does not catch up.
func TestRoundRobinReturns(t *testing.T) {
	b := newBench(t, Config{Balance: Balance{Policy: RoundRobin}}, 1, 1, 1)
	b.SetDrain("s1", true)
	for range 300 {
		b.tunnel(want{})
	}
	wantCounts(t, "without s1", b.counts(), 150, 0, 150)
	b.SetDrain("s1", false)
	for range 30 {
		b.tunnel(want{})
	}
	got := b.counts()
	if got[1] < 10 || got[1] > 11 {
		t.Errorf("s1 is back: got %v, want 10 of 30 for it", got)
	}
}

// TestRandomTwo: the better of two: no server is far from its share, and the
// choice is not that of the least alone.
func TestRandomTwo(t *testing.T) {
	weights := slices.Repeat([]int{1}, 20)
	b := newBench(t, Config{Balance: Balance{Policy: RandomTwo}}, weights...)
	off := 0
	for range 2000 {
		least := math.MaxInt
		for _, e := range b.table.Load().list {
			least = min(least, e.load())
		}
		e := b.take(&want{})
		if e.load() > least+1 {
			off++
		}
		e.opened()
	}
	for i, n := range b.counts() {
		if n < 95 || n > 105 {
			t.Errorf("s%d: got %d of 2000 at 20, want 100 within 5", i, n)
		}
	}
	if off == 0 {
		t.Errorf("got the least each time, want two at random")
	}
	// One is left: it is found, whatever chance says.
	for i := range 19 {
		b.SetDrain(fmt.Sprint("s", i), true)
	}
	for range 100 {
		if got := b.tunnel(want{}); got != "s19" {
			t.Fatalf("got %q, want s19, the only one", got)
		}
	}
}

// TestSticky: the client's own server if it is fit, else the least, and then
// the cookie is another one.
func TestSticky(t *testing.T) {
	c := Config{Balance: Balance{Policy: Sticky, Cookie: Cookie{Secret: []byte("0123456789abcdef")}}}
	b := newBench(t, c, 1, 1, 1)
	s1 := b.table.Load().list[1]
	for range 10 {
		if got := b.tunnel(want{tag: s1.tag}); got != "s1" {
			t.Errorf("got %s, want s1, whose cookie it is", got)
		}
	}
	if got := b.tunnel(want{tag: "forged"}); got == "s1" {
		t.Errorf("a cookie of nobody's: got s1, want the least")
	}
	s1.marks.set(down, true)
	w := want{tag: s1.tag}
	e := b.take(&w)
	if e == nil || e == s1 {
		t.Fatalf("s1 is down: got %v, want another", e)
	}
	if c := b.cookie(e, w.tag, true); !strings.HasPrefix(c, "wsgate="+e.tag+";") || !strings.Contains(c, "; Secure") {
		t.Errorf("cookie after falling back: got %q, want that of %s", c, e.id)
	}
	s1.marks.set(down, false)
	b.SetDrain("s1", true)
	if got := b.tunnel(want{tag: s1.tag}); got == "s1" {
		t.Errorf("s1 is drained: got s1")
	}
	b.SetDrain("s1", false)
	if got := b.tunnel(want{tag: s1.tag}); got != "s1" {
		t.Errorf("s1 is back: got %s", got)
	}
}

// TestPanic: with no fit server all are used but those that the operator took out.
func TestPanic(t *testing.T) {
	b := newBench(t, Config{}, 1, 1, 1, 1)
	b.server("s0").marks.set(down, true)
	b.server("s1").until.Store(b.clock.t.Add(time.Hour).UnixNano())
	b.server("s1").marks.set(ejected, true)
	b.SetDrain("s2", true)
	for range 10 {
		b.tunnel(want{})
	}
	wantCounts(t, "one is fit", b.counts(), 0, 0, 0, 10)
	b.SetDrain("s3", true)
	for range 10 {
		b.tunnel(want{})
	}
	wantCounts(t, "none is fit", b.counts(), 5, 5, 0, 10)
	b.SetDrain("s0", true)
	b.SetDrain("s1", true)
	if got := b.tunnel(want{}); got != "" {
		t.Errorf("all drained: got %s, want none", got)
	}
	if r := b.refusal(); r.Status != 503 || r.Code != codeNoServer || r.Fields.Get("Retry-After") == "" {
		t.Errorf("all drained: got %+v, want 503 %s with Retry-After", r, codeNoServer)
	}
}

// TestTrial: when an ejection is over one handshake at a time may show that the
// server works; a failure ejects it for twice as long.
func TestTrial(t *testing.T) {
	c := Config{Passive: Passive{Failures: 3, BaseTime: 10 * time.Second, MaxTime: 35 * time.Second}}
	b := newBench(t, c, 1, 1)
	s0 := b.server("s0")
	boom := fmt.Errorf("boom")
	for range 2 {
		s0.failed(b.Upstream, boom)
	}
	s0.succeeded(b.Upstream)
	for range 2 {
		s0.failed(b.Upstream, boom)
	}
	if st := s0.state(b.clock.t); st != Up {
		t.Errorf("2 failures in a row: got %s, want up", st)
	}
	s0.failed(b.Upstream, boom)
	for i, d := range []time.Duration{10, 20, 35, 35} {
		least, most := d*time.Second, d*time.Second*11/10
		left := time.Unix(0, s0.until.Load()).Sub(b.clock.t)
		if left < least || left > most || s0.state(b.clock.t) != Ejected {
			t.Errorf("ejection %d: got %v, %s, want %v to %v", i, left, s0.state(b.clock.t), least, most)
		}
		if st := b.Status()[0]; st.LastFailure != "boom" || st.EjectedUntil.Sub(b.clock.t) != left {
			t.Errorf("status: got %+v, want the failure and the time", st)
		}
		b.clock.t = b.clock.t.Add(left)
		if st := s0.state(b.clock.t); st != Trial {
			t.Errorf("ejection %d is over: got %s, want trial", i, st)
		}
		s1 := b.server("s1")
		for range 5 { // so that s0 is the one to be taken
			s1.count.n.Add(oneTunnel)
		}
		e := b.take(&want{})
		if e.server != s0 {
			t.Fatalf("trial: got %s, want s0", e.id)
		}
		for range 3 {
			o := b.take(&want{})
			if o.server != s1 {
				t.Errorf("another during the trial: got %s, want s1", o.id)
			}
			o.leave(tunnel)
		}
		s0.failed(b.Upstream, boom)
		e.leave(tunnel)
	}
	b.clock.t = b.clock.t.Add(time.Minute)
	b.take(&want{}).opened()
	s0.succeeded(b.Upstream)
	if st := s0.state(b.clock.t); st != Up {
		t.Errorf("after a success: got %s, want up", st)
	}
	b.clock.t = b.clock.t.Add(36 * time.Second) // well for longer than the longest ejection
	for range 3 {
		s0.failed(b.Upstream, boom)
	}
	if left := time.Unix(0, s0.until.Load()).Sub(b.clock.t); left > 11*time.Second {
		t.Errorf("ejection after a good time: got %v, want the first one's 10 s", left)
	}
	if n := b.Stats().Ejections; n != 6 {
		t.Errorf("ejections: got %d, want 6", n)
	}
}
