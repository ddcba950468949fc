package watch

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, what string, told <-chan bool) {
	t.Helper()
	select {
	case <-told:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: not told within 10 s", what)
	}
}

func start(t *testing.T, file string) <-chan bool {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return since(t, file, string(text))
}

// since starts a watcher of a file that was read as text.
func since(t *testing.T, file, text string) <-chan bool {
	t.Helper()
	told := make(chan bool, 100)
	w, err := Files(map[string]Sum{file: SumOf([]byte(text))}, 20*time.Millisecond, func() { told <- true })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return told
}

// TestFile: a file that is written, replaced, and one that says the same again.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	write(t, file, "one")
	told := start(t, file)
	write(t, file, "two")
	wait(t, "written", told)
	write(t, file+".new", "three")
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
	wait(t, "replaced", told)
	write(t, file, "three")                    // the same again
	write(t, filepath.Join(dir, "other"), "x") // another file
	write(t, file, "four")
	wait(t, "written again", told)
	if len(told) != 0 {
		t.Errorf("told %d times more, want once", len(told))
	}
}

// TestBefore: what changed after the caller's reading and before the watcher was
// there is told, and only that.
func TestBefore(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a")
	write(t, file, "two")
	told := since(t, file, "one")
	wait(t, "written before the start", told)
	write(t, file, "three")
	wait(t, "written after it", told)
	if len(told) != 0 {
		t.Errorf("told %d times more, want once each", len(told))
	}
}

// TestLink is how Kubernetes mounts change: a link to a folder is turned.
func TestLink(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"v1", "v2", "v3"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, d, "a"), d)
	}
	turn := func(to string) {
		t.Helper()
		tmp := filepath.Join(dir, "tmp")
		if err := os.Symlink(to, tmp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, "now")); err != nil {
			t.Fatal(err)
		}
	}
	turn("v1")
	if err := os.Symlink("now/a", filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	told := start(t, filepath.Join(dir, "a"))
	turn("v2")
	wait(t, "first turn", told)
	turn("v3")
	wait(t, "second turn", told)
}
