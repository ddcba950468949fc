package load

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// TestProcessTree: what a child uses counts for its parent.
func TestProcessTree(t *testing.T) {
	// The shell waits for a child that computes.
	cmd := exec.Command("sh", "-c", "sh -c 'while :; do :; done' & wait")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	t.Cleanup(func() {
		for _, p := range tree(pid) {
			if q, err := os.FindProcess(p); err == nil {
				q.Kill()
			}
		}
		cmd.Wait()
	})
	var used time.Duration
	for end := time.Now().Add(20 * time.Second); used < 50*time.Millisecond; time.Sleep(tick) { // until the child has computed
		if time.Now().After(end) {
			t.Fatalf("got %v of CPU, want that of the child", used)
		}
		var err error
		if used, err = CPU(pid); err != nil {
			t.Fatal(err)
		}
	}
	alone, err := PSS(os.Getpid())
	if err != nil || alone < 1<<20 {
		t.Errorf("got %d octets (%v) for this process, want a MiB at least", alone, err)
	}
	both, err := PSS(pid)
	if err != nil || both == 0 || len(tree(pid)) != 2 {
		t.Errorf("got %d octets (%v) in %d processes, want some in 2", both, err, len(tree(pid)))
	}
	if d, err := CPU(0); d != 0 || err != nil {
		t.Errorf("got %v, %v for no process, want 0", d, err)
	}
	if _, err := CPU(1 << 30); err == nil {
		t.Error("got no error for a process that is not there, want one")
	}
}
