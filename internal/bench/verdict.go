package main

// verdict is what came of a check.
type verdict struct {
	work    *work
	check   check
	figures map[string]spread // of the contenders with one worker
	peer    string            // whom wsgate is compared with; "" nobody
	ratio   spread            // of the rounds
	met     bool
	asked   bool // there is a target
}

// word says it in a word.
func (v *verdict) word() string {
	switch {
	case !v.asked:
		return "reported"
	case v.met:
		return "met"
	}
	return "MISSED"
}

// judge compares the records with what is asked. Works that were not measured
// are left out.
func (s *suite) judge(r results) (out []verdict) {
	for i := range s.works {
		w := &s.works[i]
		for _, c := range w.checks {
			v := verdict{work: w, check: c, figures: make(map[string]spread), asked: c.limit > 0}
			for _, name := range append([]string{"wsgate"}, s.peers...) {
				if f := spreadOf(r.of(w.key, name, columnOne, c.figure)); f.n > 0 {
					v.figures[name] = f
				}
			}
			if len(v.figures) == 0 {
				continue
			}
			own, ok := v.figures["wsgate"]
			value := own.median
			if c.against != "" {
				v.peer = c.against
				if c.against == best {
					v.peer = lower(v.figures, "haproxy", "nghttpx")
				}
				_, there := v.figures[v.peer]
				ok = ok && there
				v.ratio = spreadOf(quotients(r.of(w.key, "wsgate", columnOne, c.figure), r.of(w.key, v.peer, columnOne, c.figure)))
				value = v.ratio.median
			}
			v.met = ok && value <= c.limit
			out = append(out, v)
		}
	}
	return out
}

// lower is the one of two with the lower median.
func lower(f map[string]spread, a, b string) string {
	x, okA := f[a]
	y, okB := f[b]
	if !okB || okA && x.median <= y.median {
		return a
	}
	return b
}
