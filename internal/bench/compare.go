package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// compare measures builds of wsgate beside each other: what a change brings.
func (s *suite) compare(l *lab, builds []string, o *options) (bool, error) {
	var all []*contender
	for _, path := range builds {
		if _, err := os.Stat(path); err != nil {
			return false, err
		}
		all = append(all, &contender{name: filepath.Base(path), program: path, h2tunnels: true, h3tunnels: true, one: wsgateArgs("--loops", "1"), all: wsgateArgs()})
	}
	for i := range s.works {
		s.works[i].only = nil
	}
	r, err := s.results(l, all, o)
	if err != nil {
		return false, err
	}
	rows := [][]string{{"work"}}
	for _, c := range all {
		rows[0] = append(rows[0], c.name)
	}
	for i := range s.works {
		if row := s.works[i].beside(all, r); row != nil {
			rows = append(rows, row...)
		}
	}
	fmt.Println(text(rows))
	for _, e := range r.errors() {
		fmt.Printf("failed: %s with %s, round %d: %s\n", e.Work, e.Contender, e.Round, e.Error)
	}
	return true, nil
}

// beside are the cells of a work: its figures with each build, and the ratio to
// the first, by round.
func (w *work) beside(all []*contender, r results) (rows [][]string) {
	seen := make(map[string]bool)
	for _, c := range w.checks {
		if seen[c.figure] {
			continue
		}
		seen[c.figure] = true
		first := r.of(w.key, all[0].name, columnOne, c.figure)
		if len(first) == 0 {
			continue
		}
		v := verdict{work: w, check: c}
		row := []string{v.title(), spreadOf(first).String()}
		for _, other := range all[1:] {
			f := r.of(w.key, other.name, columnOne, c.figure)
			q := spreadOf(quotients(f, first))
			row = append(row, fmt.Sprintf("%v: %.2f (%.2f-%.2f)", spreadOf(f), q.median, q.min, q.max))
		}
		rows = append(rows, row)
	}
	return rows
}
