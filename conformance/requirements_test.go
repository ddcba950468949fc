package conformance

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// lastRow is how many rows the list has that the suite is made from.
const lastRow = 232

// requirements reads testdata/requirements.txt: for each key the ids of its
// cases, or the words why there are none.
func requirements(t *testing.T) (ids map[string][]string, why map[string]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/requirements.txt")
	if err != nil {
		t.Fatal(err)
	}
	ids, why = make(map[string][]string), make(map[string]string)
	key := ""
	for line := range strings.Lines(string(text)) {
		switch {
		case line == "\n" || line[0] == '#':
			continue
		case line[0] != ' ':
			var rest string
			key, rest, _ = strings.Cut(line, ":")
			if _, twice := ids[key]; twice {
				t.Errorf("%s: got it twice", key)
			}
			line = rest
		}
		rest := strings.TrimSpace(line)
		if strings.HasPrefix(rest, "excuse: ") || strings.HasPrefix(rest, "pending: ") {
			why[key], ids[key] = rest, nil
			continue
		}
		ids[key] = append(ids[key], strings.Fields(rest)...)
	}
	return ids, why
}

// TestRequirements: every row of the list has cases, or a reason; every case
// stands for the rows that it names.
func TestRequirements(t *testing.T) {
	ids, why := requirements(t)
	of := make(map[string][]int)
	for row := 1; row <= lastRow; row++ {
		key := fmt.Sprint(row)
		named, ok := ids[key]
		if !ok || len(named) == 0 && why[key] == "" || len(named) > 0 && why[key] != "" {
			t.Errorf("row %d: got cases %q, reason %q; want cases or a reason", row, named, why[key])
		}
		for _, id := range named {
			of[id] = append(of[id], row)
		}
	}
	for key := range ids {
		if n, err := strconv.Atoi(key); err == nil && (n < 1 || n > lastRow) {
			t.Errorf("row %d: there is none", n)
		}
	}
	for _, c := range Cases() {
		if want := slices.Sorted(slices.Values(c.Rows)); !slices.Equal(of[c.ID], want) {
			t.Errorf("%s: got it at rows %v of requirements.txt, want %v", c.ID, of[c.ID], want)
		}
		delete(of, c.ID)
	}
	for id, rows := range of {
		t.Errorf("rows %v name %s: there is no such case", rows, id)
	}
}

// TestRFC8441: every sentence of RFC 8441 that binds somebody has a case, and
// every case that cites it at must or should stands for a sentence.
func TestRFC8441(t *testing.T) {
	text, err := os.ReadFile("testdata/rfc8441.txt")
	if err != nil {
		t.Fatal(err)
	}
	ids, why := requirements(t)
	named := make(map[string]bool)
	sentences := make(map[string]bool)
	musts := 0
	for line := range strings.Lines(string(text)) {
		if line[0] == '#' {
			continue
		}
		number, sentence, _ := strings.Cut(line, " ")
		musts += strings.Count(sentence, "MUST")
		key := "8441/" + number
		sentences[key] = true
		if len(ids[key]) == 0 && why[key] == "" {
			t.Errorf("%s %q: got no case and no excuse, want one", key, strings.TrimSpace(sentence))
		}
		for _, id := range ids[key] {
			named[id] = true
		}
	}
	if musts != 8 { // as often as the RFC has it behind its section 2
		t.Errorf("MUST in rfc8441.txt: got %d, want 8", musts)
	}
	for key := range ids {
		if strings.HasPrefix(key, "8441/") && !sentences[key] {
			t.Errorf("%s: there is no such sentence", key)
		}
	}
	for _, c := range Cases() {
		if c.RFC == "8441" && (c.Level == Must || c.Level == Should) && !named[c.ID] {
			t.Errorf("%s: got no sentence of RFC 8441 for it, want one", c.ID)
		}
		delete(named, c.ID)
	}
	for id := range named {
		t.Errorf("%s: there is no such case", id)
	}
}
