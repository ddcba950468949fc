package conformance

import (
	"slices"
	"strings"
)

// Verdict is what came of a case.
type Verdict string

// Verdicts.
const (
	Pass   Verdict = "pass"
	Fail   Verdict = "fail"
	Skip   Verdict = "skip"   // not carried out; Got says why
	Broken Verdict = "broken" // it could not be judged: the gateway was not to be reached, or the suite erred
)

// Result is what came of a case against a gateway.
type Result struct {
	ID      string   `json:"id"`
	Rows    []int    `json:"rows"`
	RFC     string   `json:"rfc"`
	Section string   `json:"section"`
	Level   Level    `json:"level"`
	Verdict Verdict  `json:"verdict"`
	Want    string   `json:"want"`
	Got     string   `json:"got"` // of a skip: why
	MS      float64  `json:"ms"`
	Profile string   `json:"profile"`
	Title   string   `json:"title"`
	Notes   []string `json:"notes,omitempty"`  // allowed, but worth a look
	Frames  []string `json:"frames,omitempty"` // what passed on all connections, oldest first
}

// Part is the letter of the part of the list that the case is in.
func (r *Result) Part() string {
	c := Case{ID: r.ID, Rows: r.Rows}
	return c.Part()
}

// Citation is the RFC and its section.
func (r *Result) Citation() string {
	c := Case{RFC: r.RFC, Section: r.Section}
	return c.Citation()
}

// Bad reports whether the case was not kept, or could not be judged.
func (r *Result) Bad() bool { return r.Verdict == Fail || r.Verdict == Broken }

// FailOn is a bar: which levels make a run fail.
type FailOn string

// Bars.
const (
	FailOnMust   FailOn = "must"
	FailOnShould FailOn = "should"
	FailOnAll    FailOn = "all"
)

// counts reports whether a case of that level counts.
func (f FailOn) counts(l Level) bool {
	switch f {
	case FailOnAll:
		return true
	case FailOnShould:
		return l == Must || l == Should
	}
	return l == Must
}

// Judge returns the ids that make a run fail: those not kept at a level that
// counts and not known. Known failures that are none are returned too.
func Judge(results []Result, bar FailOn, known []string) (failed, surprises []string) {
	for _, r := range results {
		k := slices.Contains(known, r.ID)
		switch {
		case r.Bad() && bar.counts(r.Level) && !k:
			failed = append(failed, r.ID)
		case k && r.Verdict == Pass:
			surprises = append(surprises, r.ID)
		}
	}
	return failed, surprises
}

// ParseKnown reads a list of known failures: an id a line, what follows # is a
// remark.
func ParseKnown(text string) []string {
	var ids []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 0 {
			ids = append(ids, f[0])
		}
	}
	return ids
}

// Merge puts the results of runs with several profiles together: of each case
// what was carried out, if it was in any.
func Merge(runs ...[]Result) []Result {
	var all []Result
	at := make(map[string]int)
	for _, run := range runs {
		for _, r := range run {
			i, seen := at[r.ID]
			switch {
			case !seen:
				at[r.ID] = len(all)
				all = append(all, r)
			case all[i].Verdict == Skip && (r.Verdict != Skip || strings.HasPrefix(all[i].Got, needsProfile) && !strings.HasPrefix(r.Got, needsProfile)):
				all[i] = r
			}
		}
	}
	return all
}

// Count is how many results there are of each verdict.
func Count(results []Result) map[Verdict]int {
	n := make(map[Verdict]int)
	for _, r := range results {
		n[r.Verdict]++
	}
	return n
}
