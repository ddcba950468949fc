package conformance

import (
	_ "embed"
	"strings"
)

// failures is written by `wsconform compare --fails`: an id a line, and the gateways
// that failed it.
//
//go:embed fails.txt
var failures string

// FailedBy are the gateways, with versions, that failed the case when they were
// last compared.
func (c *Case) FailedBy() []string {
	for line := range strings.Lines(failures) {
		id, by, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if ok && id == c.ID {
			return strings.Split(by, ", ")
		}
	}
	return nil
}
