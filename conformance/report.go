package conformance

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Report is the results of a run, and of what.
type Report struct {
	Gateway string    `json:"gateway"` // name and version, or its URL
	Date    time.Time `json:"date"`
	Results []Result  `json:"results"`
}

// Formats are the formats of a report.
func Formats() []string { return []string{"text", "json", "junit", "markdown", "html"} }

// Write writes the report in a format.
func (r *Report) Write(w io.Writer, format string, verbose bool) error {
	switch format {
	case "text":
		return r.text(w, verbose)
	case "json":
		return r.json(w)
	case "junit":
		return r.junit(w)
	case "markdown":
		return r.markdown(w)
	case "html":
		return r.html(w)
	}
	return fmt.Errorf("no format %q; there are %s", format, strings.Join(Formats(), ", "))
}

// text is for people at a terminal: what failed, with the frames around it, and
// a summary. verbose has every case, with all frames.
func (r *Report) text(w io.Writer, verbose bool) error {
	var b strings.Builder
	for _, x := range r.Results {
		if x.Bad() || verbose {
			x.detail(&b, verbose)
		}
	}
	r.summary(&b)
	_, err := io.WriteString(w, b.String())
	return err
}

// shownFrames is how many frames a failing case shows where not all are asked for.
const shownFrames = 30

func (x *Result) detail(b *strings.Builder, verbose bool) {
	fmt.Fprintf(b, "%s %s (%s", strings.ToUpper(string(x.Verdict)), x.ID, x.Level)
	if c := x.Citation(); c != "" {
		fmt.Fprintf(b, ", %s", c)
	}
	fmt.Fprintf(b, ")\n  %s\n", x.Title)
	if x.Want != "" {
		fmt.Fprintf(b, "  want: %s\n", x.Want)
	}
	if x.Got != "" {
		fmt.Fprintf(b, "  %s: %s\n", map[bool]string{true: "why ", false: "got "}[x.Verdict == Skip], x.Got)
	}
	for _, n := range x.Notes {
		fmt.Fprintf(b, "  note: %s\n", n)
	}
	frames := x.Frames
	if !verbose && len(frames) > shownFrames {
		fmt.Fprintf(b, "  (%d earlier lines; -v shows all)\n", len(frames)-shownFrames)
		frames = frames[len(frames)-shownFrames:]
	}
	for _, f := range frames {
		fmt.Fprintf(b, "    %s\n", f)
	}
	b.WriteByte('\n')
}

// summary is counts by level, and why cases were left out.
func (r *Report) summary(b *strings.Builder) {
	fmt.Fprintf(b, "%-8s %6s %6s %6s %6s\n", "", "pass", "fail", "broken", "skip")
	row := func(name string, results []Result) {
		n := Count(results)
		fmt.Fprintf(b, "%-8s %6d %6d %6d %6d\n", name, n[Pass], n[Fail], n[Broken], n[Skip])
	}
	for _, l := range Levels() {
		row(string(l), OfLevel(r.Results, l))
	}
	row("all", r.Results)
	for _, why := range r.Skipped() {
		fmt.Fprintf(b, "left out: %s\n", why)
	}
}

// Skipped says why cases were not carried out, and how many for each reason.
func (r *Report) Skipped() (lines []string) {
	n := make(map[string]int)
	var order, profiles []string
	unset := 0
	for _, x := range r.Results {
		if x.Verdict != Skip {
			continue
		}
		if profile, ok := strings.CutPrefix(x.Got, needsProfile); ok {
			if unset++; !slices.Contains(profiles, profile) {
				profiles = append(profiles, profile)
			}
			continue
		}
		if n[x.Got]++; n[x.Got] == 1 {
			order = append(order, x.Got)
		}
	}
	for _, why := range order {
		lines = append(lines, fmt.Sprintf("%s: %s", cases(n[why]), why))
	}
	if unset > 0 {
		lines = append(lines, fmt.Sprintf("%s: need another set-up of the gateway (%s)", cases(unset), strings.Join(profiles, ", ")))
	}
	return lines
}

func cases(n int) string {
	if n == 1 {
		return "1 case"
	}
	return fmt.Sprintf("%d cases", n)
}

// OfLevel are the results of a level.
func OfLevel(all []Result, l Level) []Result {
	return slices.DeleteFunc(slices.Clone(all), func(r Result) bool { return r.Level != l })
}

// Versions are the versions of HTTP that cases are played on, as ids begin, oldest
// first.
func Versions() []string { return []string{h1, h2, h3} }

// VersionName is a version in words.
func VersionName(version string) string {
	return map[string]string{h1: "HTTP/1.1", h2: "HTTP/2", h3: "HTTP/3"}[version]
}

// OfVersion are the results of a version.
func OfVersion(all []Result, version string) []Result {
	return slices.DeleteFunc(slices.Clone(all), func(r Result) bool { return !strings.HasPrefix(r.ID, version+"/") })
}

// OfPart are the results of a part.
func OfPart(all []Result, letter string) []Result {
	return slices.DeleteFunc(slices.Clone(all), func(r Result) bool { return r.Part() != letter })
}

func (r *Report) json(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// JUnit XML, as CI servers read it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Time     string       `xml:"time,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name      string      `xml:"name,attr"`
		Timestamp string      `xml:"timestamp,attr"`
		Tests     int         `xml:"tests,attr"`
		Failures  int         `xml:"failures,attr"`
		Errors    int         `xml:"errors,attr"`
		Skipped   int         `xml:"skipped,attr"`
		Time      string      `xml:"time,attr"`
		Cases     []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name      string     `xml:"name,attr"`
		ClassName string     `xml:"classname,attr"`
		Time      string     `xml:"time,attr"`
		Skipped   *junitWord `xml:"skipped"`
		Error     *junitWord `xml:"error"`
		Failure   *junitWord `xml:"failure"`
	}
	junitWord struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr,omitempty"`
		Text    string `xml:",chardata"`
	}
)

func seconds(ms float64) string { return fmt.Sprintf("%.3f", ms/1000) }

func (r *Report) junit(w io.Writer) error {
	all := junitSuites{Name: "wsconform " + r.Gateway}
	var total float64
	for _, p := range parts {
		results := OfPart(r.Results, p.letter)
		if len(results) == 0 {
			continue
		}
		n := Count(results)
		s := junitSuite{
			Name: p.letter + ". " + p.title, Timestamp: r.Date.UTC().Format("2006-01-02T15:04:05"),
			Tests: len(results), Failures: n[Fail], Errors: n[Broken], Skipped: n[Skip],
		}
		var ms float64
		for _, x := range results {
			ms += x.MS
			s.Cases = append(s.Cases, x.junit())
		}
		s.Time = seconds(ms)
		total += ms
		all.Suites = append(all.Suites, s)
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Errors += s.Errors
	}
	all.Time = seconds(total)
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", " ")
	if err := e.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

func (x *Result) junit() junitCase {
	i := strings.LastIndexByte(x.ID, '/')
	c := junitCase{Name: x.ID, ClassName: strings.ReplaceAll(x.ID[:i], "/", "."), Time: seconds(x.MS)}
	var b strings.Builder
	x.detail(&b, true)
	switch x.Verdict {
	case Skip:
		c.Skipped = &junitWord{Message: x.Got}
	case Fail:
		c.Failure = &junitWord{Message: "want " + x.Want + ", got " + x.Got, Type: string(x.Level), Text: b.String()}
	case Broken:
		c.Error = &junitWord{Message: x.Got, Type: string(x.Level), Text: b.String()}
	}
	return c
}
