package conformance

import (
	"fmt"
	"io"
	"strings"
)

// cell makes text safe for a cell of a table.
func cell(s string) string {
	s = strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "<", "&lt;", "`", "'", "*", "\\*", "_", "\\_").Replace(s)
	if r := []rune(s); len(r) > 240 {
		s = string(r[:240]) + "…"
	}
	return s
}

func (r *Report) markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Conformance of %s\n\n%s, wsconform.\n\n", cell(r.Gateway), r.Date.UTC().Format("2006-01-02 15:04 UTC"))
	b.WriteString("| level | pass | fail | broken | skip |\n|---|---|---|---|---|\n")
	row := func(name string, results []Result) {
		n := Count(results)
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d |\n", name, n[Pass], n[Fail], n[Broken], n[Skip])
	}
	for _, l := range Levels() {
		row(string(l), OfLevel(r.Results, l))
	}
	row("**all**", r.Results)
	if lines := r.Skipped(); len(lines) > 0 {
		b.WriteString("\nLeft out:\n\n")
		for _, l := range lines {
			fmt.Fprintf(&b, "* %s\n", cell(l))
		}
	}
	b.WriteString("\n## What failed\n\n")
	if n := Count(r.Results); n[Fail]+n[Broken] == 0 {
		b.WriteString("Nothing.\n")
	} else {
		b.WriteString("| case | level | rule | wanted | seen |\n|---|---|---|---|---|\n")
		for _, x := range r.Results {
			if x.Bad() {
				fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", x.ID, x.Level, x.Citation(), cell(x.Want), cell(x.Got))
			}
		}
	}
	for _, p := range parts {
		results := OfPart(r.Results, p.letter)
		if len(results) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n## %s. %s\n\n| | case | level | rule | the gateway |\n|---|---|---|---|---|\n", p.letter, p.title)
		for _, x := range results {
			fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", mark(x.Verdict), x.ID, x.Level, x.Citation(), cell(x.Title))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mark is a verdict in a table: what is not well stands out.
func mark(v Verdict) string {
	switch v {
	case Fail:
		return "**FAIL**"
	case Broken:
		return "**BROKEN**"
	case Skip:
		return "–"
	}
	return "pass"
}
