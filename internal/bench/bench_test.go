package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample is the results of three rounds of two works.
func sample() results {
	var r results
	add := func(work, contender, column, figure string, values ...float64) {
		for i, v := range values {
			r = append(r, record{At: time.Unix(0, 0).UTC(), Work: work, Contender: contender, Column: column, Round: i + 1, Figures: figures{figure: v}})
		}
	}
	add("echo64-1x100", "wsgate", columnOne, "us", 5, 6, 12)
	add("echo64-1x100", "haproxy", columnOne, "us", 10, 9, 20)
	add("echo64-1x100", "nghttpx", columnOne, "us", 8, 10, 16)
	add("echo64-1x100", "haproxy", columnDefault, "us", 11, 12, 13)
	add("idle2-100x50-64", "wsgate", columnOne, "kib", 1.5, 1.7, 1.8)
	r = append(r, record{At: time.Unix(0, 0).UTC(), Work: "open", Contender: "caddy", Column: columnOne, Round: 1, Error: "no"})
	return r
}

func full() *suite {
	all := suites()
	return &all[slices.IndexFunc(all, func(s suite) bool { return s.name == "full" })]
}

// TestJudge: the best peer is the one with the lower median, the ratio is the
// median of the rounds' ratios, and a bound looks at the figure alone.
func TestJudge(t *testing.T) {
	v := full().judge(sample())
	if len(v) != 2 {
		t.Fatalf("got %d verdicts, want 2: of what was measured", len(v))
	}
	echo, idle := v[0], v[1]
	// haproxy 9, 10, 20: median 10; nghttpx 8, 10, 16: median 10 too; the first counts.
	if echo.peer != "haproxy" || echo.ratio.median != 0.6 || echo.ratio.min != 0.5 || echo.word() != "met" {
		t.Errorf("got %s, ratio %+v, %s, want haproxy, 0.5 to 0.667 around 0.6, met", echo.peer, echo.ratio, echo.word())
	}
	if idle.figures["wsgate"].median != 1.7 || idle.word() != "MISSED" {
		t.Errorf("got %+v, %s, want 1.7 over 1.6, missed", idle.figures, idle.word())
	}
	// Without the peer there is nothing that could be met.
	alone := results{{Work: "echo64-1x100", Contender: "wsgate", Column: columnOne, Round: 1, Figures: figures{"us": 1}}}
	if v := full().judge(alone); len(v) != 1 || v[0].met {
		t.Errorf("got %+v without peers, want a miss", v)
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   map[int]float64
		want spread
	}{
		{nil, spread{}},
		{map[int]float64{1: 2}, spread{2, 2, 2, 1}},
		{map[int]float64{1: 4, 2: 2}, spread{3, 2, 4, 2}},
		{map[int]float64{1: 9, 2: 1, 3: 5}, spread{5, 1, 9, 3}},
	} {
		if got := spreadOf(c.in); got != c.want {
			t.Errorf("%v: got %+v, want %+v", c.in, got, c.want)
		}
	}
}

// TestResults: lines are read back, rounds go on where they ended.
func TestResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range sample() {
		json.NewEncoder(f).Encode(r)
	}
	f.Close()
	r, err := readResults(path)
	if err != nil || len(r) != len(sample()) || r.last("") != 3 || r.last("open,get") != 1 || len(r.errors()) != 1 {
		t.Errorf("got %d records to round %d, %d errors, %v; want %d to 3, 1 error", len(r), r.last(""), len(r.errors()), err, len(sample()))
	}
}

// TestKeys: works are told apart by their keys, and each has a first check whose
// figure stands for it.
func TestKeys(t *testing.T) {
	for _, s := range suites() {
		seen := make(map[string]bool)
		for _, w := range s.works {
			if seen[w.key] || len(w.checks) == 0 || w.run == nil || w.args == "" || w.seconds == 0 {
				t.Errorf("%s: got %+v, want a key of its own, checks, something to run", s.name, w)
			}
			seen[w.key] = true
		}
	}
}

func TestTakes(t *testing.T) {
	nginx, wsgate := &contender{name: "nginx", all: nginxArgs("auto")}, &contender{name: "wsgate", h2tunnels: true, h3tunnels: true, all: wsgateArgs()}
	echo, echo3, get, idle := echo(64, 1, 1), echo3(1, 1), get(), idle(2, 1, 1, 64)
	for _, c := range []struct {
		w      *work
		c      *contender
		column string
		want   bool
	}{
		{&echo, nginx, columnOne, false},
		{&get, nginx, columnOne, true},
		{&echo, wsgate, columnDefault, true},
		{&idle, wsgate, columnDefault, false},
		{&echo3, &contender{name: "haproxy", h2tunnels: true}, columnOne, false},
		{&echo3, wsgate, columnDefault, true},
		{&get, &contender{name: "nghttpx"}, columnDefault, false},
	} {
		if got := c.w.takes(c.c, c.column); got != c.want {
			t.Errorf("%s with %s, %s: got %v, want %v", c.w.key, c.c.name, c.column, got, c.want)
		}
	}
}

func TestTables(t *testing.T) {
	s := full()
	rows := s.rows(s.judge(sample()))
	got := markdown(rows)
	for _, want := range []string{
		"| echo 64 B, 1x100 [µs] | 6.00 (5.00-12.0) | 10.0 (9.00-20.0) | 10.0 (8.00-16.0) |  |  | 0.60 (0.50-0.67) of haproxy | <= 0.80 | met |",
		"| idle tunnel, 100x50, after 64 B each [KiB] | 1.70 (1.50-1.80) |  |  |  |  |  | <= 1.60 KiB | MISSED |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("got\n%swant in it\n%s", got, want)
		}
	}
	if got, want := markdown(s.defaults(sample())), "| echo 64 B, 1x100 [µs] | 6.00 / the same | 10.0 / 12.0 | 10.0 / the same |  |  |"; !strings.Contains(got, want) {
		t.Errorf("got\n%swant in it\n%s", got, want)
	}
	if lines := strings.Split(text(rows), "\n"); len(lines) != 4 || !strings.HasPrefix(lines[1], "echo 64 B, 1x100 [µs]  ") {
		t.Errorf("got %q, want a head and two lines", lines)
	}
}

// TestDocs: what stands around the figures stays, and plots are written.
func TestDocs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "performance.md")
	s := full()
	all := []*contender{{name: "wsgate", program: "x", version: "v"}, {name: "haproxy"}}
	if err := os.WriteFile(path, []byte("no place"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := s.write(dir, all, sample(), s.judge(sample())); err == nil {
		t.Error("got no error without a place for the figures, want one")
	}
	if err := os.WriteFile(path, []byte("above\n"+docsBegin+"\nstale\n"+docsEnd+"\nbelow\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.write(dir, all, sample(), s.judge(sample())); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := string(b)
	if !strings.HasPrefix(got, "above\n"+docsBegin) || !strings.HasSuffix(got, docsEnd+"\nbelow\n") || strings.Contains(got, "stale") {
		t.Errorf("got %q, want the old figures replaced and nothing else", got)
	}
	for _, want := range []string{"haproxy is not installed", "Not measured: `open` with caddy", "](plots/echo.svg)", "`echo --http 2 --conns 1 --tunnels 100 --size 64`"} {
		if !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "plots", "memory.svg")); err != nil {
		t.Error(err)
	}
}

// TestPlots: plots are well-formed, say every median, and know both schemes.
func TestPlots(t *testing.T) {
	for _, p := range full().plots(sample()) {
		got := p.svg()
		for d := xml.NewDecoder(strings.NewReader(got)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", p.file, err)
			}
		}
		for _, g := range p.groups {
			for _, b := range g.bars {
				if !strings.Contains(got, ">"+number(b.median)+"<") {
					t.Errorf("%s: got no %s, want the median of %s", p.file, number(b.median), b.series)
				}
			}
		}
		if !strings.Contains(got, "prefers-color-scheme:dark") {
			t.Errorf("%s: got one scheme, want two", p.file)
		}
	}
}
