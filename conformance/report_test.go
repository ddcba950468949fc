package conformance

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"time"
)

// sample is a report with all verdicts, and with text that has to be escaped.
func sample() Report {
	return Report{Gateway: "gate <1>", Date: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), Results: []Result{
		{ID: "h2/connect/open", Rows: []int{11}, RFC: "8441", Section: "4", Level: Must, Verdict: Pass, MS: 1.5, Title: "opens", Profile: Base},
		{ID: "h2/fields/name-nul", Rows: []int{42}, RFC: "9113", Section: "8.2.1", Level: Must, Verdict: Fail, Want: "a & b | c", Got: "<script>\"\x00\"", Frames: []string{"client 1 -> x\x01y"}, Title: "NUL", Profile: Base},
		{ID: "h1/upgrade/open", Rows: []int{164}, Level: Product, Verdict: Skip, Got: "needs the profile x", Title: "skips", Profile: "x"},
		{ID: "h1/upgrade/head", Rows: []int{165}, RFC: "6455", Section: "4.2.1", Level: Must, Verdict: Broken, Want: "a connection", Got: "refused", Title: "breaks", Profile: Base},
	}}
}

func written(t *testing.T, format string, verbose bool) string {
	t.Helper()
	r := sample()
	var b bytes.Buffer
	if err := r.Write(&b, format, verbose); err != nil {
		t.Fatalf("%s: %v", format, err)
	}
	return b.String()
}

// TestJSON: the keys of a result are an interface.
func TestJSON(t *testing.T) {
	text := written(t, "json", false)
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var got struct {
		Gateway string
		Date    string
		Results []struct {
			ID, RFC, Section, Level, Verdict, Want, Got, Profile, Title string
			Rows                                                        []int
			MS                                                          float64
			Notes, Frames                                               []string
		}
	}
	if err := d.Decode(&got); err != nil {
		t.Fatal(err)
	}
	if r := got.Results[1]; len(got.Results) != 4 || r.ID != "h2/fields/name-nul" || r.Rows[0] != 42 || r.Verdict != "fail" || r.Got != "<script>\"\x00\"" {
		t.Errorf("got %+v", got)
	}
	for _, key := range []string{`"id"`, `"rows"`, `"rfc"`, `"section"`, `"level"`, `"verdict"`, `"want"`, `"got"`, `"ms"`} {
		if strings.Count(text, key+":") != 4 {
			t.Errorf("%s: got it %d times, want 4", key, strings.Count(text, key+":"))
		}
	}
}

// TestJUnit: the XML is well-formed, and its counts are those of its cases.
func TestJUnit(t *testing.T) {
	text := written(t, "junit", false)
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	var got junitSuites
	if err := xml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Tests != 4 || got.Failures != 1 || got.Errors != 1 {
		t.Errorf("got %d tests, %d failures, %d errors; want 4, 1, 1", got.Tests, got.Failures, got.Errors)
	}
	n := 0
	for _, s := range got.Suites {
		failures, errors, skipped := 0, 0, 0
		for _, c := range s.Cases {
			n++
			failures += map[bool]int{true: 1}[c.Failure != nil]
			errors += map[bool]int{true: 1}[c.Error != nil]
			skipped += map[bool]int{true: 1}[c.Skipped != nil]
		}
		if len(s.Cases) != s.Tests || failures != s.Failures || errors != s.Errors || skipped != s.Skipped {
			t.Errorf("%s: got %d cases, %d %d %d; says %d, %d %d %d", s.Name, len(s.Cases), failures, errors, skipped, s.Tests, s.Failures, s.Errors, s.Skipped)
		}
	}
	if n != 4 || len(got.Suites) != 3 {
		t.Errorf("got %d cases in %d suites, want 4 in 3", n, len(got.Suites))
	}
}

// TestPages: what a gateway said is text and no markup, and nothing is lost.
func TestPages(t *testing.T) {
	html := written(t, "html", false)
	if strings.Contains(html, "<script") || strings.Contains(html, "gate <1>") {
		t.Errorf("got markup of a gateway in the page:\n%s", html)
	}
	md := written(t, "markdown", false)
	if !strings.Contains(md, `a & b \| c`) || strings.Contains(md, "<script") {
		t.Errorf("got %s", md)
	}
	text := written(t, "text", false)
	if strings.Contains(text, "PASS h2/connect/open") || !strings.Contains(text, "client 1 -> x") || !strings.Contains(text, "1 case: need another set-up of the gateway (x)") {
		t.Errorf("got %s", text)
	}
	if text = written(t, "text", true); !strings.Contains(text, "PASS h2/connect/open") {
		t.Errorf("verbose: got %s", text)
	}
	for _, id := range []string{"h2/connect/open", "h2/fields/name-nul", "h1/upgrade/open", "h1/upgrade/head"} {
		if !strings.Contains(html, id) || !strings.Contains(md, id) {
			t.Errorf("%s: got a page without it", id)
		}
	}
	r := sample()
	if err := r.Write(io.Discard, "pdf", false); err == nil {
		t.Error("an unknown format: got no error")
	}
}

// TestComparison: tables of two gateways.
func TestComparison(t *testing.T) {
	a, b := sample(), sample()
	b.Results[1].Verdict = Pass
	c := Comparison{Date: a.Date, Machine: "here", Gateways: []Contender{{"one", "1.0", a.Results}, {"two", "2.0", b.Results}}}
	var md, html, fails bytes.Buffer
	for _, err := range []error{c.Markdown(&md), c.HTML(&html), c.Fails(&fails)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := "| h2/fields/name-nul | must | RFC 9113 section 8.2.1 | **FAIL** | pass |"; !strings.Contains(md.String(), want) {
		t.Errorf("got no line %q in\n%s", want, &md)
	}
	if got := fails.String(); got != "h2/fields/name-nul\tone 1.0\n" {
		t.Errorf("fails: got %q", got)
	}
	if n := strings.Count(html.String(), `<td class="fail">`); n != 1 {
		t.Errorf("failed cells: got %d, want 1", n)
	}
}
