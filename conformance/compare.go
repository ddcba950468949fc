package conformance

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"
)

// Comparison is the results of several gateways.
type Comparison struct {
	Date     time.Time
	Machine  string // what they ran on
	Gateways []Contender
}

// Contender is a gateway of a comparison.
type Contender struct {
	Name    string
	Version string
	Results []Result
}

// Result is what came of a case.
func (c *Contender) Result(id string) Result {
	for _, r := range c.Results {
		if r.ID == id {
			return r
		}
	}
	return Result{ID: id, Verdict: Skip, Got: "not run"}
}

// Cases are those of the comparison, in order.
func (c *Comparison) Cases() []Result {
	if len(c.Gateways) == 0 {
		return nil
	}
	return c.Gateways[0].Results
}

// Markdown writes the tables of the comparison.
func (c *Comparison) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, `wsconform compare`, %s.\n\n", c.Date.UTC().Format("2006-01-02"), c.Machine)
	c.summary(&b)
	b.WriteString("\nWhat was not carried out:\n\n")
	for _, g := range c.Gateways {
		r := Report{Results: g.Results}
		if lines := r.Skipped(); len(lines) > 0 {
			fmt.Fprintf(&b, "* %s: %s\n", g.Name, strings.ReplaceAll(strings.Join(lines, "; "), "_", "\\_"))
		}
	}
	for _, p := range parts {
		rows := OfPart(c.Cases(), p.letter)
		if len(rows) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n### %s. %s\n\n| case | level | rule |%s\n|---|---|---|%s\n", p.letter, p.title, c.columns(func(g Contender) string { return g.Name }), strings.Repeat("---|", len(c.Gateways)))
		for _, x := range rows {
			fmt.Fprintf(&b, "| %s | %s | %s |%s\n", x.ID, x.Level, x.Citation(), c.columns(func(g Contender) string { return mark(g.Result(x.ID).Verdict) }))
		}
	}
	b.WriteString("\n### What was seen where it failed\n\n")
	for _, g := range c.Gateways {
		failed := slices.DeleteFunc(slices.Clone(g.Results), func(r Result) bool { return !r.Bad() })
		if len(failed) == 0 {
			continue
		}
		fmt.Fprintf(&b, "<details><summary>%s %s: %d cases</summary>\n\n| case | level | wanted | seen |\n|---|---|---|---|\n", g.Name, g.Version, len(failed))
		for _, x := range failed {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", x.ID, x.Level, cell(x.Want), cell(x.Got))
		}
		b.WriteString("\n</details>\n\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *Comparison) columns(f func(Contender) string) string {
	var b strings.Builder
	for _, g := range c.Gateways {
		fmt.Fprintf(&b, " %s |", f(g))
	}
	return b.String()
}

func (c *Comparison) summary(b *strings.Builder) {
	fmt.Fprintf(b, "| passed of those carried out |%s\n|---|%s\n", c.columns(func(g Contender) string { return g.Name + " " + g.Version }), strings.Repeat("---|", len(c.Gateways)))
	row := func(name string, of func([]Result) []Result) {
		fmt.Fprintf(b, "| %s |%s\n", name, c.columns(func(g Contender) string { return Score(of(g.Results)) }))
	}
	for _, l := range Levels() {
		row(string(l), func(all []Result) []Result { return OfLevel(all, l) })
	}
	row("**all**", func(all []Result) []Result { return all })
	for _, v := range Versions() {
		row(VersionName(v), func(all []Result) []Result { return OfVersion(all, v) })
	}
	fmt.Fprintf(b, "| not carried out |%s\n", c.columns(func(g Contender) string { return fmt.Sprint(Count(g.Results)[Skip]) }))
}

// Score is how many cases passed of those that were carried out, a dash if none
// was.
func Score(results []Result) string {
	n := Count(results)
	if n[Pass]+n[Fail]+n[Broken] == 0 {
		return "–"
	}
	return fmt.Sprintf("%d of %d", n[Pass], n[Pass]+n[Fail]+n[Broken])
}

// Fails writes who failed which case, as explain shows it.
func (c *Comparison) Fails(w io.Writer) error {
	var b strings.Builder
	for _, x := range c.Cases() {
		var by []string
		for _, g := range c.Gateways {
			if g.Result(x.ID).Verdict == Fail {
				by = append(by, g.Name+" "+g.Version)
			}
		}
		if by != nil {
			fmt.Fprintf(&b, "%s\t%s\n", x.ID, strings.Join(by, ", "))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

//go:embed compare.html.tmpl
var compareHTML string

// HTML writes the comparison as a page.
func (c *Comparison) HTML(w io.Writer) error {
	t, err := page("compare", compareHTML, template.FuncMap{"score": Score})
	if err != nil {
		return err
	}
	return t.Execute(w, c)
}
