package conformance

import (
	_ "embed"
	"html/template"
	"io"
)

//go:embed report.html.tmpl
var reportHTML string

// page is what both templates share.
func page(name, text string, more template.FuncMap) (*template.Template, error) {
	return template.New(name).Funcs(more).Funcs(template.FuncMap{
		"count":   func(v Verdict, all []Result) int { return Count(all)[v] },
		"version": OfVersion, "versions": Versions, "name": VersionName, "level": OfLevel, "levels": Levels, "mark": mark, "title": PartTitle,
		"parts": func() (letters []string) {
			for _, p := range parts {
				letters = append(letters, p.letter)
			}
			return letters
		},
		"part": OfPart,
	}).Parse(text)
}

func (r *Report) html(w io.Writer) error {
	t, err := page("report", reportHTML, nil)
	if err != nil {
		return err
	}
	return t.Execute(w, r)
}
