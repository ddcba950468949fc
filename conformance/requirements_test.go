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

// TestRFCs: every sentence of RFC 8441 and of RFC 9220 that binds somebody has a
// case or an excuse, and every case that cites one of them at must or should stands
// for a sentence of it.
func TestRFCs(t *testing.T) {
	for _, x := range []struct {
		rfc           string
		musts, should int // as often as the RFC has the words behind its section 2
	}{{"8441", 8, 0}, {"9220", 0, 1}} {
		t.Run(x.rfc, func(t *testing.T) { sentences(t, x.rfc, x.musts, x.should) })
	}
}

func sentences(t *testing.T, rfc string, wantMust, wantShould int) {
	text, err := os.ReadFile("testdata/rfc" + rfc + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	ids, why := requirements(t)
	named := make(map[string]bool)
	keys := make(map[string]bool)
	musts, should := 0, 0
	for line := range strings.Lines(string(text)) {
		if line[0] == '#' {
			continue
		}
		number, sentence, _ := strings.Cut(line, " ")
		musts += strings.Count(sentence, "MUST")
		should += strings.Count(sentence, "SHOULD")
		key := rfc + "/" + number
		keys[key] = true
		if len(ids[key]) == 0 && why[key] == "" {
			t.Errorf("%s %q: got no case and no excuse, want one", key, strings.TrimSpace(sentence))
		}
		for _, id := range ids[key] {
			named[id] = true
		}
	}
	if musts != wantMust || should != wantShould {
		t.Errorf("rfc%s.txt: got %d MUST and %d SHOULD, want %d and %d", rfc, musts, should, wantMust, wantShould)
	}
	for key := range ids {
		if strings.HasPrefix(key, rfc+"/") && !keys[key] {
			t.Errorf("%s: there is no such sentence", key)
		}
	}
	for _, c := range Cases() {
		if c.RFC == rfc && (c.Level == Must || c.Level == Should) && !named[c.ID] {
			t.Errorf("%s: got no sentence of RFC %s for it, want one", c.ID, rfc)
		}
		delete(named, c.ID)
	}
	for id := range named {
		t.Errorf("%s: there is no such case", id)
	}
}

// TestAgain: what is played once more on HTTP/3 speaks of HTTP/3, and cites what
// holds there.
func TestAgain(t *testing.T) {
	n := 0
	for _, c := range again(Cases()) {
		n++
		if slices.Contains([]string{"8441", "9113", "7541"}, c.RFC) || c.RFC != "" && c.Section == "" {
			t.Errorf("%s: got RFC %s section %q, want one of HTTP/3", c.ID, c.RFC, c.Section)
		}
		for _, text := range []string{c.Title, c.Text.Sends, c.Text.Sees, c.Text.Rule, c.Text.Why} {
			for _, word := range []string{"RST_STREAM", "END_STREAM", "REFUSED_STREAM", "PROTOCOL_ERROR", "HTTP/2", "HPACK", "RFC 9113", "PING"} {
				if strings.Contains(text, word) {
					t.Errorf("%s: got %q in %q, want words of HTTP/3", c.ID, word, text)
				}
			}
		}
	}
	if n < 250 {
		t.Errorf("repeated cases: got %d", n)
	}
}
