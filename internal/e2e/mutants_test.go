package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"wsgate/conformance"
	gateways "wsgate/conformance/launch"
)

// mutant is wsgate with a fault: who tests the tests. Its file is a patch with a
// head that says in a sentence what is wrong, which cases run, and which of them
// have to fail.
type mutant struct {
	name  string
	what  string
	run   []string // patterns of ids
	fails []string
	hunks []hunk
}

// hunk is a change of one file: lines that stand there once, and what they become.
// Where they stand is found by themselves, not by numbers.
type hunk struct{ file, old, new string }

// readMutant reads a patch.
func readMutant(path string) (*mutant, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := &mutant{name: strings.TrimSuffix(filepath.Base(path), ".patch")}
	head, diff, ok := strings.Cut(string(text), "\n--- ")
	if !ok {
		return nil, fmt.Errorf("%s: no patch", path)
	}
	what := []string{}
	to := &what
	for line := range strings.Lines(head) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "Run:"); ok {
			to, line = &m.run, rest
		} else if rest, ok := strings.CutPrefix(line, "Fails:"); ok {
			to, line = &m.fails, rest
		}
		*to = append(*to, strings.Fields(line)...)
	}
	m.what = strings.Join(what, " ")
	if m.what == "" || len(m.run) == 0 || len(m.fails) == 0 {
		return nil, fmt.Errorf("%s: want a sentence, Run: and Fails:", path)
	}
	m.hunks, err = readHunks("--- " + diff)
	return m, err
}

func readHunks(diff string) (all []hunk, err error) {
	file := ""
	for line := range strings.Lines(diff) {
		switch {
		case strings.HasPrefix(line, "--- "):
		case strings.HasPrefix(line, "+++ "):
			file = strings.TrimPrefix(strings.TrimSpace(line[4:]), "b/")
		case strings.HasPrefix(line, "@@"):
			all = append(all, hunk{file: file})
		case len(all) == 0:
			return nil, fmt.Errorf("patch begins with %q", line)
		default:
			h := &all[len(all)-1]
			if line[0] != '+' {
				h.old += line[1:]
			}
			if line[0] != '-' {
				h.new += line[1:]
			}
		}
	}
	return all, nil
}

// apply returns the files that the patch changes, as they are then.
func (m *mutant) apply(root string) (map[string]string, error) {
	files := make(map[string]string)
	for _, h := range m.hunks {
		text, ok := files[h.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, h.file))
			if err != nil {
				return nil, err
			}
			text = string(b)
		}
		if n := strings.Count(text, h.old); n != 1 {
			return nil, fmt.Errorf("mutants/%s.patch does not apply to %s: these lines stand there %d times, want once; who moved them moves the patch:\n%s", m.name, h.file, n, h.old)
		}
		files[h.file] = strings.Replace(text, h.old, h.new, 1)
	}
	return files, nil
}

// build makes the program with the mutant's files in the place of ours.
func (m *mutant) build(dir string) (string, error) {
	root, err := filepath.Abs("../..")
	if err != nil {
		return "", err
	}
	files, err := m.apply(root)
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for name, text := range files {
		path := filepath.Join(dir, m.name+"-"+strings.ReplaceAll(name, "/", "-"))
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(root, name)] = path
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	list := filepath.Join(dir, m.name+".json")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		return "", err
	}
	program := filepath.Join(dir, m.name)
	// No profile: with one all packages would be compiled anew.
	cmd := exec.Command("go", "build", "-overlay", list, "-pgo=off", "-ldflags=-s -w", "-o", program, "./cmd/wsgate")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return program, nil
}

func mutants(t *testing.T) []*mutant {
	t.Helper()
	paths, err := filepath.Glob("mutants/*.patch")
	if err != nil {
		t.Fatal(err)
	}
	var all []*mutant
	for _, p := range paths {
		m, err := readMutant(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// TestMutants: each mutant fails the cases that its patch names. Two at a time.
func TestMutants(t *testing.T) {
	dir := t.TempDir()
	work := make(chan *mutant)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for m := range work {
				t.Run(m.name, func(t *testing.T) { m.test(t, dir) })
			}
		})
	}
	for _, m := range mutants(t) {
		work <- m
	}
	close(work)
	wg.Wait()
}

func (m *mutant) test(t *testing.T, dir string) {
	program, err := m.build(dir)
	if err != nil {
		t.Error(err)
		return
	}
	defer os.Remove(program)
	g := gateways.Wsgate(program)
	results, err := g.Suite(t.Context(), conformance.Options{Only: m.run, Patience: 0.3})
	if err != nil {
		t.Logf("the mutant did not survive: %v", err)
	}
	verdicts := make(map[string]conformance.Result)
	var failed []string
	for _, r := range results {
		verdicts[r.ID] = r
		if r.Verdict == conformance.Fail {
			failed = append(failed, r.ID)
		}
	}
	t.Logf("%s Fails: %s", m.what, strings.Join(failed, " "))
	for _, id := range m.fails {
		if r, ok := verdicts[id]; !ok || r.Verdict != conformance.Fail {
			t.Errorf("%s: got %q %s %s, want it to fail with this mutant", id, r.Verdict, r.Got, strings.Join(r.Notes, ", "))
		}
	}
}

// TestMutantsReach: every patch applies and names cases that there are, and every
// case of these parts fails for at least one mutant. Of a case that is played on
// two versions one is enough.
func TestMutantsReach(t *testing.T) {
	killed, ids := make(map[string]bool), make(map[string]bool)
	cases := conformance.Cases()
	for _, c := range cases {
		ids[c.ID] = true
	}
	all := mutants(t)
	for _, m := range all {
		if _, err := m.apply("../.."); err != nil {
			t.Error(err)
		}
		for _, id := range m.fails {
			if !ids[id] {
				t.Errorf("%s: there is no case %q", m.name, id)
			}
			killed[id] = true
		}
	}
	// What no few lines of ours can break: quic-go does it, or the suite itself needs
	// it to find HTTP/3 at all.
	unbroken := []string{"h3/settings/client-silent", "h3/early/setting-kept", "h3/path/migration"}
	for _, c := range cases {
		twin := "h2" + c.ID[2:] // of a case on HTTP/3
		switch {
		case !slices.Contains([]string{"B", "D", "E", "F", "G", "I"}, c.Part()) || killed[c.ID] || slices.Contains(unbroken, c.ID):
		case c.Part() == "I" && ids[twin]: // it is asked of the twin
		default:
			t.Errorf("%s: got no mutant that fails it, want one", c.ID)
		}
	}
	if len(all) < 25 {
		t.Errorf("mutants: got %d, want at least 25", len(all))
	}
}
