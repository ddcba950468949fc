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
	ctx, cancel := context.WithTimeout(d.ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", d.cmd)
	cmd.WaitDelay = time.Second // of what it left behind nobody waits for output
	out, err := cmd.CombinedOutput()
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		d.err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out)))
	}
	close(d.begun)
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
