package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// record is one measurement, a line of the results file.
type record struct {
	At        time.Time `json:"at"`
	Work      string    `json:"work"`
	Contender string    `json:"contender"`
	Column    string    `json:"column"`
	Round     int       `json:"round"`
	Figures   figures   `json:"figures,omitempty"`
	Error     string    `json:"error,omitempty"`
}

// takes reports whether a contender runs a work with that column.
func (w *work) takes(c *contender, column string) bool {
	switch {
	case w.only != nil && !slices.Contains(w.only, c.name):
		return false
	case w.tunnels2 && !c.h2tunnels || w.tunnels3 && !c.h3tunnels:
		return false
	case column == columnDefault:
		return c.all != nil && !w.memory && w.only == nil
	}
	return true
}

// entry is a contender with a number of workers.
type entry struct {
	c      *contender
	column string
}

// rounds measures: in each round each work with each contender, one contender
// right after the other, so that a slow spell of the machine meets all of them.
// Works and contenders come in random order. Each measurement is a line in out.
func (s *suite) measure(l *lab, all []*contender, only string, first, rounds int, out io.Writer) error {
	for n := range rounds {
		for _, i := range rand.Perm(len(s.works)) {
			w := &s.works[i]
			if !chosen(w.key, only) || w.once && n > 0 {
				continue
			}
			var entries []entry
			for _, c := range all {
				for _, column := range s.columns {
					if r := first + n; column == columnDefault && r != 1 && r != 3 {
						continue // beside the point: two rounds will do
					}
					if c.program != "" && w.takes(c, column) {
						entries = append(entries, entry{c, column})
					}
				}
			}
			rand.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
			for _, e := range entries {
				r := l.one(w, e, s.d)
				r.Round = first + n
				if err := l.ctx.Err(); err != nil {
					return err
				}
				if r.Error != "" {
					fmt.Fprintf(os.Stderr, "%s: %s (%s): %s\n", w.name, e.c.name, e.column, r.Error)
				}
				if err := json.NewEncoder(out).Encode(r); err != nil {
					return err
				}
			}
			progress("round %d of %d: %s", n+1, rounds, w.name)
		}
	}
	progress("")
	return nil
}

// progress writes over one line of a terminal.
func progress(format string, args ...any) {
	if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
		fmt.Fprintf(os.Stderr, "\r\x1b[K"+format, args...)
	}
}

// one measures one work with one contender, started afresh.
func (l *lab) one(w *work, e entry, d time.Duration) (r record) {
	r = record{At: time.Now().UTC().Truncate(time.Second), Work: w.key, Contender: e.c.name, Column: e.column}
	target, err := l.run(e.c, e.column)
	if err == nil {
		defer target.stop()
		r.Figures, err = w.run(&measurement{lab: l, target: target, args: w.args, d: time.Duration(w.seconds * float64(d))})
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// results are the records of a file.
type results []record

func readResults(path string) (all results, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var r record
		if err := d.Decode(&r); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, r)
	}
}

// last is the highest round of the works with those keys, by comma; "": of all.
func (r results) last(only string) (n int) {
	for i := range r {
		if chosen(r[i].Work, only) {
			n = max(n, r[i].Round)
		}
	}
	return n
}

// chosen reports whether a work is one of those, by comma; "": all.
func chosen(key, only string) bool {
	return only == "" || slices.Contains(strings.Split(only, ","), key)
}

// of returns a figure of a contender, by round.
func (r results) of(work, contender, column, figure string) map[int]float64 {
	v := make(map[int]float64)
	for i := range r {
		x := &r[i]
		if x.Work == work && x.Contender == contender && x.Column == column {
			if f, ok := x.Figures[figure]; ok {
				v[x.Round] = f
			}
		}
	}
	return v
}

// errors returns what went wrong.
func (r results) errors() (out []record) {
	for i := range r {
		if r[i].Error != "" {
			out = append(out, r[i])
		}
	}
	return out
}

// spread is a median with what lies around it.
type spread struct {
	median, min, max float64
	n                int
}

func spreadOf[K comparable](m map[K]float64) spread {
	var v []float64
	for _, x := range m {
		v = append(v, x)
	}
	if len(v) == 0 {
		return spread{}
	}
	slices.Sort(v)
	mid := v[len(v)/2]
	if len(v)%2 == 0 {
		mid = (v[len(v)/2-1] + mid) / 2
	}
	return spread{mid, v[0], v[len(v)-1], len(v)}
}

// quotients are the ratios of the rounds that both have.
func quotients(a, b map[int]float64) map[int]float64 {
	q := make(map[int]float64)
	for n, x := range a {
		if y := b[n]; y > 0 {
			q[n] = x / y
		}
	}
	return q
}
