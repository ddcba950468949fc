package e2e

import (
	"strings"
	"testing"

	"wsgate/conformance"
	gateways "wsgate/conformance/launch"
)

// TestConformance runs the whole suite against the program, once for each
// profile: everything passes.
func TestConformance(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	g := gateways.Wsgate(path)
	// Patience makes only failing cases slower.
	results, err := g.Suite(t.Context(), conformance.Options{Patience: 3})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if r.Verdict != conformance.Pass {
			t.Errorf("%s: %s: want %s, got %s\n%s", r.ID, r.Verdict, r.Want, r.Got, strings.Join(r.Frames, "\n"))
		}
	}
	t.Logf("%d cases passed", conformance.Count(results)[conformance.Pass])
}
