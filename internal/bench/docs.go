package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

const (
	docsBegin = "<!-- make bench: begin; everything up to the end is written by it -->"
	docsEnd   = "<!-- make bench: end -->"
)

// write puts the comparison into performance.md, and its plots beside it.
func (s *suite) write(dir string, all []*contender, r results, verdicts []verdict) error {
	path := filepath.Join(dir, "performance.md")
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), docsBegin)
	_, after, ok2 := strings.Cut(rest, docsEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no place for the figures, between %q and %q", path, docsBegin, docsEnd)
	}
	var b strings.Builder
	b.WriteString(before + docsBegin + "\n\n")
	for line := range strings.Lines(s.conditions(all, r)) {
		b.WriteString(strings.TrimRight(line, "\n") + "  \n")
	}
	b.WriteString("\n" + markdown(s.rows(verdicts)))
	if d := s.defaults(r); len(d) > 1 {
		b.WriteString("\nMedians with one worker / with as many as each takes by itself:\n\n" + markdown(d))
	}
	for _, e := range r.errors() {
		why, _, _ := strings.Cut(e.Error, "\n")
		fmt.Fprintf(&b, "\nNot measured: `%s` with %s (%s) in round %d: %s\n", e.Work, e.Contender, e.Column, e.Round, why)
	}
	plots := s.plots(r)
	if err := os.MkdirAll(filepath.Join(dir, "plots"), 0o755); err != nil {
		return err
	}
	for i := range plots {
		p := &plots[i]
		if err := os.WriteFile(filepath.Join(dir, "plots", p.file), []byte(p.svg()), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&b, "\n![%s](plots/%s)\n", p.title, p.file)
	}
	b.WriteString("\nThe load of each row; `--url`, `--insecure`, `--tls-group X25519`, `--pid` and `--for` come on top, and `plain` stands for the cleartext listener:\n\n" + markdown(s.commands(r)))
	b.WriteString("\n" + docsEnd + after)
	return os.WriteFile(path, []byte(b.String()), 0o644)
}

// commands are the arguments of wsload for each work that was measured.
func (s *suite) commands(r results) [][]string {
	out := [][]string{{"work", "wsload"}}
	for i := range s.works {
		w := &s.works[i]
		if len(r.of(w.key, "wsgate", columnOne, w.checks[0].figure)) > 0 {
			out = append(out, []string{w.name, "`" + w.args + "`"})
		}
	}
	return out
}
