package conformance

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestGolden: ids, rows, rules, levels and titles are an interface: who changes
// them does so knowingly, by `go run ./cmd/wsconform list > conformance/testdata/cases.txt`.
func TestGolden(t *testing.T) {
	want, err := os.ReadFile("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if err := List(&got); err != nil {
		t.Fatal(err)
	}
	old := make(map[string]bool)
	for line := range strings.Lines(string(want)) {
		old[line] = true
	}
	for line := range strings.Lines(got.String()) {
		if !old[line] {
			t.Errorf("not in testdata/cases.txt: %s", strings.TrimSpace(line))
		}
		delete(old, line)
	}
	for line := range old {
		t.Errorf("in testdata/cases.txt alone: %s", strings.TrimSpace(line))
	}
}

// TestCases: each case is whole.
func TestCases(t *testing.T) {
	ids := make(map[string]bool)
	id := regexp.MustCompile(`^h[123]/[a-z0-9-]+/[A-Za-z0-9-]+$`)
	rfc := regexp.MustCompile(`^[0-9]{4}$`)
	profiles := make(map[string]bool)
	for _, p := range Profiles() {
		profiles[p.Name] = true
	}
	for _, c := range Cases() {
		if !id.MatchString(c.ID) || ids[c.ID] {
			t.Errorf("id %q: got it twice, or not as version/topic/name", c.ID)
		}
		ids[c.ID] = true
		if c.Part() == "" || !profiles[c.Profile] || c.run == nil {
			t.Errorf("%s: got part %q, profile %q; want rows, a profile, and something to run", c.ID, c.Part(), c.Profile)
		}
		if c.Title == "" || strings.HasSuffix(c.Title, ".") || len(c.Title) > 120 || c.Text.Sends == "" || c.Text.Sees == "" || c.Text.Rule == "" || c.Text.Why == "" {
			t.Errorf("%s: got title %q, text %+v; want a line, and all of the text", c.ID, c.Title, c.Text)
		}
		if ofRFC := c.Level == Must || c.Level == Should || c.Level == May; ofRFC && !rfc.MatchString(c.RFC) || (c.RFC == "") != (c.Section == "") {
			t.Errorf("%s: level %s: got RFC %q section %q", c.ID, c.Level, c.RFC, c.Section)
		}
	}
	if n := len(ids); n < 850 {
		t.Errorf("cases: got %d", n)
	}
}
