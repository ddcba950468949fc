package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Error is one thing that is wrong, and where.
type Error struct {
	File         string // "" if it was not said in a file
	Line, Column int    // from 1; 0 if it was not said in a file
	Option       string // the flag or the path of keys, such as "routes[2].upstream"
	Message      string // with what is allowed
	Source       string // the line in the file
}

// Error gives the place and the message, and below them the line with a caret.
func (e *Error) Error() string {
	var b strings.Builder
	switch {
	case e.File != "" && e.Line > 0:
		fmt.Fprintf(&b, "%s:%d:%d: %s", e.File, e.Line, e.Column, e.Message)
	case e.File != "":
		fmt.Fprintf(&b, "%s: %s", e.File, e.Message)
	case e.Option != "":
		fmt.Fprintf(&b, "%s: %s", e.Option, e.Message)
	default:
		b.WriteString(e.Message)
	}
	if e.Source == "" {
		return b.String()
	}
	number := fmt.Sprintf("%5d", e.Line)
	// A tab stays one, so that the caret stands where the column is.
	pad := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, firstRunes(e.Source, e.Column-1))
	fmt.Fprintf(&b, "\n%s | %s\n%s | %s^", number, e.Source, strings.Repeat(" ", len(number)), pad)
	return b.String()
}

func firstRunes(s string, n int) string {
	i := 0
	for ; n > 0 && i < len(s); n-- {
		_, w := utf8.DecodeRuneInString(s[i:])
		i += w
	}
	return s[:i]
}

// Errors are all that is wrong, in the order of the file.
type Errors []*Error

// most is how many errors are shown.
const most = 20

func (e Errors) Error() string {
	var b strings.Builder
	for i, one := range e {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == most {
			fmt.Fprintf(&b, "and %d more", len(e)-most)
			break
		}
		b.WriteString(one.Error())
	}
	return b.String()
}

func (e Errors) sort() {
	slices.SortStableFunc(e, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// near returns the candidate that s is probably meant to be, "" if there is none.
func near(s string, of []string) string {
	best, at := "", max(1, len(s)/3)+1
	for _, c := range of {
		if d := distance(strings.ToLower(s), strings.ToLower(c)); d < at {
			best, at = c, d
		}
	}
	if best == "" && len(s) > 3 {
		for _, c := range of {
			if strings.HasPrefix(c, strings.ToLower(s[:3])) {
				return c
			}
		}
	}
	return best
}

// distance counts the letters to change, add, drop or swap (optimal string
// alignment).
func distance(a, b string) int {
	two := make([]int, len(b)+1)
	one := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(one[j]+1, row[j-1]+1, one[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], two[j-2]+1)
			}
		}
		two, one, row = one, row, two
	}
	return one[len(b)]
}

// noneOf says that s is none of the words, and which one may be meant.
func noneOf(what, s string, of []string) string {
	m := fmt.Sprintf("unknown %s %q", what, s)
	if n := near(s, of); n != "" {
		m += fmt.Sprintf("; did you mean %q?", n)
	}
	switch {
	case len(of) == 0:
		return m + "; there is none"
	case !strings.HasSuffix(m, "?"):
		m += ";"
	}
	return m + " allowed: " + strings.Join(of, ", ")
}
