package conformance

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"wsgate/internal/rawpeer"
)

// play carries one case out, without a gateway.
func play(c Case) Result {
	r := &runner{o: Options{Patience: 1}}
	return r.one(&c, 1)
}

// TestVerdicts: a case ends with a verdict whatever it does, and in time.
func TestVerdicts(t *testing.T) {
	for name, x := range map[string]struct {
		run       func(*Env)
		verdict   Verdict
		want, got string
	}{
		"returns":    {func(*Env) {}, Pass, "", ""},
		"a mismatch": {func(e *Env) { e.Must(&rawpeer.Mismatch{Want: "a", Got: "b"}) }, Fail, "a", "b"},
		"named":      {func(e *Env) { e.On("step", &rawpeer.Mismatch{Want: "a", Got: "b"}) }, Fail, "step: a", "b"},
		"an error":   {func(e *Env) { e.Must(errors.New("gone")) }, Fail, "no error", "gone"},
		"fails":      {func(e *Env) { e.Fail("a", "%d", 7) }, Fail, "a", "7"},
		"skips":      {func(e *Env) { e.Skip("no %s", "front") }, Skip, "", "no front"},
		"breaks":     {func(e *Env) { e.broken("a connection", errors.New("refused")) }, Broken, "a connection", "refused"},
		"panics":     {func(*Env) { panic("oh") }, Broken, "no panic", "oh"},
		"hangs":      {func(e *Env) { <-e.done }, Fail, "an end of the case", "none in 50ms"},
	} {
		got := play(Case{ID: "h2/test/case", run: x.run, limit: 50 * time.Millisecond})
		if got.Verdict != x.verdict || got.Want != x.want || !strings.HasPrefix(got.Got, x.got) {
			t.Errorf("%s: got %s, want %q, got %q; want %s, %q, %q", name, got.Verdict, got.Want, got.Got, x.verdict, x.want, x.got)
		}
	}
}

// TestFinish: what a case opened is closed at its end, also what comes later.
func TestFinish(t *testing.T) {
	closed := 0
	var env *Env
	play(Case{ID: "h2/test/case", run: func(e *Env) {
		env = e
		e.later(func() { closed++ })
	}})
	env.keep("client", func() []rawpeer.Note { return nil }, func() { closed++ })
	if closed != 2 {
		t.Errorf("closed: got %d, want 2", closed)
	}
}

// TestUnreachable: a gateway that is not there, and one that does not reach the
// backend, are no results but an error in a line.
func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	for name, x := range map[string]struct {
		o           Options
		unreachable bool
		want        string
	}{
		"nobody listens": {Options{Front: "https://" + addr, BackendListen: "127.0.0.1:0"}, true, "cannot be reached"},
		"no scheme":      {Options{Front: addr, BackendListen: "127.0.0.1:0"}, false, "want https://host:port"},
		"plain scheme":   {Options{Front: "https://" + addr, Plain: "https://" + addr, BackendListen: "127.0.0.1:0"}, false, "want http://host:port"},
		"backend":        {Options{Front: "https://" + addr, BackendListen: "nowhere"}, false, "backend"},
		"no folder":      {Options{Front: "https://" + addr, BackendListen: "127.0.0.1:0", Profile: TLSBackend}, false, "--tls-dir"},
	} {
		_, err := Run(t.Context(), x.o)
		if err == nil || IsUnreachable(err) != x.unreachable || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want a line with %q", name, err, x.want)
		}
	}
}

// TestKeyDigest: the suite's own digest of a key is that of RFC 6455 section 1.3.
func TestKeyDigest(t *testing.T) {
	if got := rawpeer.AcceptFor("dGhlIHNhbXBsZSBub25jZQ=="); got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("got %q", got)
	}
}

// TestMatch: patterns of ids.
func TestMatch(t *testing.T) {
	for _, x := range []struct {
		pattern, id string
		want        bool
	}{
		{"h2/*", "h2/connect/open", true},
		{"*/open", "h2/connect/open", true},
		{"h2/connect/open", "h2/connect/open", true},
		{"h2/connect", "h2/connect/open", false},
		{"h1/*", "h2/connect/open", false},
	} {
		if got, err := Match([]string{x.pattern}, x.id); got != x.want || err != nil {
			t.Errorf("%s, %s: got %v %v, want %v", x.pattern, x.id, got, err, x.want)
		}
	}
	if ok, err := Match(nil, "h2/connect/open"); !ok || err != nil {
		t.Errorf("no pattern: got %v %v, want true", ok, err)
	}
	if _, err := Match([]string{"["}, "x"); err == nil {
		t.Error("a broken pattern: got no error")
	}
	if _, err := Find("h2/connect/ope"); err == nil || !strings.Contains(err.Error(), `did you mean "h2/connect/open"`) {
		t.Errorf("Find: got %v, want a near id", err)
	}
}

// TestJudge: which results make a run fail.
func TestJudge(t *testing.T) {
	results := []Result{
		{ID: "a", Level: Must, Verdict: Pass},
		{ID: "b", Level: Must, Verdict: Fail},
		{ID: "c", Level: Should, Verdict: Fail},
		{ID: "d", Level: Product, Verdict: Fail},
		{ID: "e", Level: Must, Verdict: Broken},
		{ID: "f", Level: Must, Verdict: Skip},
		{ID: "g", Level: May, Verdict: Fail},
	}
	for bar, want := range map[FailOn]string{FailOnMust: "b e", FailOnShould: "b c e", FailOnAll: "b c d e g"} {
		if failed, _ := Judge(results, bar, nil); strings.Join(failed, " ") != want {
			t.Errorf("%s: got %v, want %s", bar, failed, want)
		}
	}
	known := ParseKnown("# all of them\nb # since 2.6\n\n  a\n")
	failed, surprises := Judge(results, FailOnMust, known)
	if !slices.Equal(failed, []string{"e"}) || !slices.Equal(surprises, []string{"a"}) {
		t.Errorf("known failures %q: got %v and %v, want e and a", known, failed, surprises)
	}
	merged := Merge([]Result{{ID: "a", Verdict: Skip}, {ID: "b", Verdict: Pass}}, []Result{{ID: "a", Verdict: Fail}, {ID: "b", Verdict: Skip}, {ID: "c", Verdict: Skip}})
	if len(merged) != 3 || merged[0].Verdict != Fail || merged[1].Verdict != Pass || merged[2].Verdict != Skip {
		t.Errorf("merged: got %v", merged)
	}
}
