package main

import (
	"fmt"
	"strings"
	"time"
)

// suite is what one command measures.
type suite struct {
	name    string
	works   []work
	rounds  int
	d       time.Duration
	peers   []string // beside wsgate, as far as they are installed
	must    []string // of them those without which there is nothing to say
	columns []string
}

// Columns of a contender: one worker, and as many as it takes by itself.
const (
	columnOne     = "one"
	columnDefault = "default"
)

var both = []string{columnOne, columnDefault}

// ratio asks that a figure of wsgate's is at most limit of another's.
func ratio(figure, unit, against string, limit float64) check {
	return check{figure: figure, unit: unit, against: against, limit: limit}
}

// bound asks that a figure of wsgate's is at most limit; 0 asks nothing.
func bound(figure, unit, what string, limit float64) check {
	return check{figure: figure, unit: unit, what: what, limit: limit}
}

// suites are the commands: perf is a part with bounds of its own, quick is full
// in little time.
func suites() []suite {
	c := []string{"haproxy", "nghttpx"}
	return []suite{
		{
			name: "perf", rounds: 5, d: time.Second, peers: []string{"nghttpx"}, must: []string{"nghttpx"}, columns: []string{columnOne},
			works: []work{
				echo(64, 1, 100, ratio("us", "µs", "nghttpx", 0.90)),
				echo(64, 50, 10, ratio("us", "µs", "nghttpx", 0.80)),
				echo(64, 500, 1, ratio("us", "µs", "nghttpx", 0.85)),
				openClose(ratio("us", "µs", "nghttpx", 1.00)),
				idle(2, 100, 50, 64, bound("kib", "KiB", "", 2.0)),
			},
		},
		{
			name: "full", rounds: 5, d: time.Second, peers: append(c, "caddy", "nginx"), must: c, columns: both,
			works: works([]int{64, 1024}, []int{0, 1000, 5000, 15000}),
		},
		{
			name: "quick", rounds: 3, d: 500 * time.Millisecond, peers: append(c, "caddy"), must: c, columns: []string{columnOne},
			works: hurry(works([]int{64}, []int{0, 5000})),
		},
	}
}

// works are the rows of the comparison.
func works(sizes, idles []int) []work {
	var w []work
	for _, size := range sizes {
		w = append(w,
			echo(size, 1, 100, ratio("us", "µs", best, 0.80)),
			echo(size, 50, 10, ratio("us", "µs", best, 0.75)),
			echo(size, 500, 1, ratio("us", "µs", best, 0.80)))
	}
	growing := []check{bound("growth", "", "the most to the least", 1.15)}
	for _, n := range idles {
		growing = append(growing, bound(usBeside(n), "µs", fmt.Sprintf("beside %d", n), 0))
	}
	return append(w,
		rated(ratio("us", "µs", best, 0.75), ratio("p99", "ms", best, 1.0), ratio("p50", "ms", best, 0)),
		storm(bound("p99", "ms", "p99", 5), bound("without", "ms", "p99 without handshakes", 0),
			bound("straight", "ms", "p99 during them past the gateway", 0), bound("handshakes", "", "handshakes a second", 0)),
		openClose(ratio("us", "µs", best, 1.0)),
		openClose1(ratio("us", "µs", best, 1.0)),
		bulk(ratio("s", "s/GiB", best, 0.75)),
		bulk1(ratio("s", "s/GiB", best, 0.90)),
		idle(2, 100, 50, 64, bound("kib", "KiB", "", 1.6)),
		idle(2, 2000, 1, 64, bound("kib", "KiB", "", 16)),
		idle(1, 2000, 1, 64, bound("kib", "KiB", "", 16)),
		idle(2, 2000, 1, 16<<10, bound("kib", "KiB", "", 32)),
		idle(1, 2000, 1, 16<<10, bound("kib", "KiB", "", 32)),
		get(ratio("us", "µs", "caddy", 0.6), ratio("us", "µs", "nghttpx", 0)),
		growth(idles, growing...),
		echo1("plain ", ratio("us", "µs", best, 0)),
		echo1("", ratio("us", "µs", best, 0)),
		echo3(1, 100, ratio("us", "µs", "caddy", 0.6)),
		echo3(50, 10, ratio("us", "µs", "caddy", 0.6)),
		echo3(500, 1, ratio("us", "µs", "caddy", 0.6)),
		openClose3(ratio("us", "µs", "caddy", 0)),
		idle(3, 100, 50, 64, bound("kib", "KiB", "", 15)),
		idle(3, 1000, 1, 64, bound("kib", "KiB", "", 0)))
}

// hurry leaves out what takes long: memory and growth are measured once, and
// with wsgate alone; there is nothing random about them. Only over HTTP/3 are
// processes given time to settle.
func hurry(all []work) (w []work) {
	for _, x := range all {
		switch {
		case x.memory && x.key != "idle2-100x50-64":
			continue
		case x.memory || x.key == "growth" || x.key == "storm":
			x.only, x.once = []string{"wsgate"}, true
		case x.key == "get" || x.key == "echo-h3-50x10":
		case x.tunnels3:
			continue
		default:
			x.only = []string{"wsgate", "haproxy", "nghttpx"}
		}
		if args, ok := strings.CutSuffix(x.args, settled); ok && !x.tunnels3 {
			x.args, x.seconds = args, 1
		}
		w = append(w, x)
	}
	return w
}
