package conformance

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// drain is the one drain of a run: every case of part H brings the gateway where
// it wants it, and when all are there the command is given.
type drain struct {
	ctx   context.Context
	cmd   string
	mu    sync.Mutex
	away  int           // cases that are not there yet
	begun chan struct{} // closed once the command ended
	err   error         // of the command; read it after begun
	here  map[*Env]bool
}

func newDrain(ctx context.Context, cmd string, cases int) *drain {
	return &drain{ctx: ctx, cmd: cmd, away: cases, begun: make(chan struct{}), here: make(map[*Env]bool)}
}

// arrive counts a case as there, once. The last one gives the command.
func (d *drain) arrive(e *Env) {
	d.mu.Lock()
	if d.here[e] {
		d.mu.Unlock()
		return
	}
	d.here[e] = true
	d.away--
	last := d.away == 0
	d.mu.Unlock()
	if !last {
		return
	}
	d.err = shell(d.ctx, d.cmd)
	close(d.begun)
}

// shell runs a command of the user's, for ten seconds at the most.
func shell(ctx context.Context, line string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", line)
	cmd.WaitDelay = time.Second // of what it left behind nobody waits for output
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return fmt.Errorf("%s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// Reload puts the configuration of that name in place.
func (e *Env) Reload(name string) {
	if err := shell(context.Background(), e.run.o.ReloadCmd+" "+name); err != nil {
		e.broken("the reload command to succeed", err)
	}
}

// leave is arrive for a case that ended, maybe before it was there.
func (d *drain) leave(e *Env) { d.arrive(e) }

// Drain waits until all cases of part H are ready and the gateway was told to
// drain.
func (e *Env) Drain() {
	d := e.run.drain
	d.arrive(e)
	<-d.begun
	if d.err != nil {
		e.broken("the drain command to succeed", d.err)
	}
}
