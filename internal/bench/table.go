package main

import (
	"fmt"
	"strings"
	"time"
)

// number writes three digits that say something.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (s spread) String() string {
	if s.n < 2 {
		return number(s.median)
	}
	return fmt.Sprintf("%s (%s-%s)", number(s.median), number(s.min), number(s.max))
}

// title is a verdict's name with its unit.
func (v *verdict) title() string {
	t := v.work.name
	if v.check.figure != "us" && v.check.what == "" && v.work.key == "rate" {
		t += ", " + v.check.figure
	}
	if v.check.what != "" {
		t += ", " + v.check.what
	}
	if v.check.unit != "" {
		t += " [" + v.check.unit + "]"
	}
	return t
}

func (v *verdict) target() string {
	switch {
	case !v.asked:
		return ""
	case v.check.against == "":
		return "<= " + strings.TrimSpace(number(v.check.limit)+" "+v.check.unit)
	}
	return fmt.Sprintf("<= %.2f", v.check.limit)
}

func (v *verdict) compared() string {
	if v.ratio.n == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f) of %s", v.ratio.median, v.ratio.min, v.ratio.max, v.peer)
}

// rows are the cells of the comparison, the first row being its head.
func (s *suite) rows(all []verdict) [][]string {
	names := append([]string{"wsgate"}, s.peers...)
	out := [][]string{append(append([]string{"work"}, names...), "ratio", "target", "")}
	for i := range all {
		v := &all[i]
		row := []string{v.title()}
		for _, n := range names {
			cell := ""
			if f, ok := v.figures[n]; ok {
				cell = f.String()
			}
			row = append(row, cell)
		}
		out = append(out, append(row, v.compared(), v.target(), v.word()))
	}
	return out
}

// defaults are the cells of the second column: medians with one worker and with
// as many as a contender takes by itself.
func (s *suite) defaults(r results) [][]string {
	names := append([]string{"wsgate"}, s.peers...)
	out := [][]string{append([]string{"work"}, names...)}
	for i := range s.works {
		w := &s.works[i]
		if len(w.checks) == 0 || w.memory || w.only != nil {
			continue
		}
		c, any := w.checks[0], false
		row := []string{fmt.Sprintf("%s [%s]", w.name, c.unit)}
		for _, n := range names {
			one, many := spreadOf(r.of(w.key, n, columnOne, c.figure)), spreadOf(r.of(w.key, n, columnDefault, c.figure))
			cell := ""
			if one.n > 0 {
				cell = number(one.median) + " / "
				if many.n > 0 {
					any = true
					cell += number(many.median)
				} else {
					cell += "the same"
				}
			}
			row = append(row, cell)
		}
		if any {
			out = append(out, row)
		}
	}
	return out
}

// text aligns cells for a terminal.
func text(rows [][]string) string {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	var b strings.Builder
	for _, r := range rows {
		line := ""
		for i, c := range r {
			line += c + strings.Repeat(" ", width[i]-len([]rune(c))+2)
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// markdown writes cells as a table.
func markdown(rows [][]string) string {
	var b strings.Builder
	for i, r := range rows {
		b.WriteString("| " + strings.Join(r, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(r)) + "|\n")
		}
	}
	return b.String()
}

// span is when the records were made.
func (r results) span() string {
	if len(r) == 0 {
		return ""
	}
	from, to := r[0].At, r[len(r)-1].At
	if from.Format(time.DateOnly) == to.Format(time.DateOnly) {
		return from.Format(time.DateOnly)
	}
	return from.Format(time.DateOnly) + " to " + to.Format(time.DateOnly)
}
