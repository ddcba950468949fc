// Package conformance is the suite that a gateway runs against: cases that play
// both ends at once, a client that speaks HTTP/3, HTTP/2 or HTTP/1.1 to the gateway and
// the HTTP/1.1 backend behind it, and judge what either sees.
//
// It is a black box suite. It knows no gateway, not even the one it lives with:
// an oracle shares no bug with the accused.
//
// A Case is a value. Run carries cases out against a gateway and returns a Result
// for each; nothing is stored in a case, nothing is printed, nothing exits.
package conformance

import (
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Level says how binding what a case demands is. The first three are of the RFC
// that the case names.
type Level string

// Levels, from what an RFC demands to what is only good manners.
const (
	Must    Level = "must"
	Should  Level = "should"
	May     Level = "may"
	Interop Level = "interop" // a real client or server needs it
	DoS     Level = "dos"     // robustness; the limit is stated
	Product Level = "product" // no RFC rule, the policy of a good gateway
)

// Levels are all levels, the most binding first.
func Levels() []Level { return []Level{Must, Should, May, Interop, DoS, Product} }

// Case is one thing that a gateway has to do.
type Case struct {
	ID      string // stable, by topic: h2/connect/unknown-protocol
	Rows    []int  // of the list that the suite is made from; see testdata/requirements.txt
	RFC     string // its number, "" where no RFC speaks of it
	Section string
	Level   Level
	Profile string // the set-up of the gateway that it needs; see Profiles
	Title   string // what the gateway does, in a line
	Text    Text

	alone bool          // it may disturb others, or be disturbed
	slow  bool          // it takes seconds: begun first
	drain bool          // it needs the gateway to drain
	limit time.Duration // how long it may take; 0 is caseLimit
	run   func(*Env)
}

// Text is a case in words, for who looks at a failure.
type Text struct {
	Sends string // what is sent, by whom
	Sees  string // what has to be seen, where
	Rule  string // the rule, in our words
	Why   string // what breaks for users without it
}

// Citation is the RFC and its section, "" where no RFC speaks of the case.
func (c *Case) Citation() string {
	if c.RFC == "" {
		return ""
	}
	return "RFC " + c.RFC + " section " + c.Section
}

// RowList is the rows, with commas.
func (c *Case) RowList() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(c.Rows), " ", ","), "[]")
}

// List writes all cases, one a line: id, rows, RFC and section, level, title.
func List(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range Cases() {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", c.ID, c.RowList(), c.Citation(), c.Level, c.Title)
	}
	return t.Flush()
}

// Part is the letter of the part of the list that the case's first row is in;
// what is played on HTTP/3 is all in one.
func (c *Case) Part() string {
	if len(c.Rows) == 0 {
		return ""
	}
	if c.version() == h3 {
		return "I"
	}
	return partOf(c.Rows[0])
}

// parts are the parts of the list: their letters, titles and first rows.
var parts = []struct {
	letter, title string
	first, last   int
	more          []int
}{
	{"A", "Announcing extended CONNECT", 1, 10, nil},
	{"B", "The head of an extended CONNECT", 11, 40, []int{224}},
	{"C", "Field syntax on the way to HTTP/1.1", 41, 56, []int{231}},
	{"D", "The opening handshake over extended CONNECT", 57, 75, []int{228}},
	{"E", "What the backend sees, and its answer", 76, 100, []int{225}},
	{"F", "Tunnel data and ends", 101, 116, []int{229}},
	{"G", "Flow control, fairness, limits", 117, 130, []int{230, 232}},
	{"H", "GOAWAY, drain and reload", 131, 137, nil},
	{"I", "HTTP/3", 138, 163, nil},
	{"J", "Upgrade over HTTP/1.1", 164, 180, []int{226, 227}},
	{"K", "Ordinary requests", 181, 205, nil},
	{"L", "Parsing HTTP/1.1", 206, 223, nil},
}

// version is the first word of the id: h3, h2 or h1.
func (c *Case) version() string { return c.ID[:min(2, len(c.ID))] }

func partOf(row int) string {
	for _, p := range parts {
		if p.first <= row && row <= p.last || slices.Contains(p.more, row) {
			return p.letter
		}
	}
	return ""
}

// PartTitle is what a part is about.
func PartTitle(letter string) string {
	for _, p := range parts {
		if p.letter == letter {
			return p.title
		}
	}
	return ""
}

// Cases are all cases, in the order of the parts.
func Cases() []Case {
	all := slices.Concat(settingsCases(), connectCases(), refusedCases(), fieldCases(), sectionCases(),
		openingCases(), gateCases(), backendCases(), frameCases(), tunnelCases(), flowCases(), floodCases(), drainCases(),
		upgradeH1Cases(), requestCases(), parseCases(), configCases())
	all = append(all, slices.Concat(again(all), http3Cases())...)
	for i := range all {
		if all[i].Profile == "" {
			all[i].Profile = Base
		}
	}
	slices.SortStableFunc(all, func(a, b Case) int { return strings.Compare(a.Part(), b.Part()) })
	return all
}

// Find returns the case of that id.
func Find(id string) (Case, error) {
	all := Cases()
	for _, c := range all {
		if c.ID == id {
			return c, nil
		}
	}
	for _, c := range all {
		if strings.HasSuffix(c.ID, id) || strings.Contains(c.ID, id) {
			return Case{}, fmt.Errorf("no case %q; did you mean %q?", id, c.ID)
		}
	}
	return Case{}, fmt.Errorf("no case %q; wsconform list has all", id)
}

// Match reports whether an id matches one of the patterns, in which a star stands
// for any octets: h2/* or */half-close. No pattern matches all.
func Match(patterns []string, id string) (bool, error) {
	if len(patterns) == 0 {
		return true, nil
	}
	for _, p := range patterns {
		// path.Match stops a star at a slash; ids are no paths.
		ok, err := path.Match(strings.ReplaceAll(p, "/", "\x00"), strings.ReplaceAll(id, "/", "\x00"))
		if err != nil {
			return false, fmt.Errorf("pattern %q: %w", p, err)
		}
		if ok {
			return true, nil
		}
	}
	return false, nil
}
