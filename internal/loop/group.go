package loop

import (
	"context"
	"runtime/pprof"
	"strconv"
	"sync"
)

// crowded is the busy share from which Pick goes on to the next loop.
const crowded = 0.6

// Group is a fixed set of loops with one goroutine each.
type Group struct {
	loops []*Loop
	wg    sync.WaitGroup
}

// NewGroup makes n loops (at least 1) with the IDs 0 to n-1. It starts nothing.
func NewGroup(n int) (*Group, error) {
	g := &Group{}
	for id := range max(n, 1) {
		l, err := New(Config{ID: id})
		if err != nil {
			g.Stop()
			return nil, err
		}
		g.loops = append(g.loops, l)
	}
	return g, nil
}

// Start runs every loop on a goroutine of its own, labelled "loop-0" and so on
// for profiles. Call it once.
func (g *Group) Start() {
	for _, l := range g.loops {
		g.wg.Go(func() {
			labels := pprof.Labels("goroutine", "loop-"+strconv.Itoa(l.id))
			pprof.Do(context.Background(), labels, func(context.Context) { l.Run() })
		})
	}
}

// Stop stops every loop and returns once all have ended. Any goroutine, but not
// on a loop of the group.
func (g *Group) Stop() {
	for _, l := range g.loops {
		l.Stop()
	}
	g.wg.Wait()
}

// Pick returns the loop for a new connection: the first whose busy share over the
// last second is under 60 %, else the least busy one. Any goroutine.
func (g *Group) Pick() *Loop {
	best, least := g.loops[0], 2.0
	for _, l := range g.loops {
		busy := l.Busy()
		if busy < crowded {
			return l
		}
		if busy < least {
			best, least = l, busy
		}
	}
	return best
}

// Loops returns the loops in the order of their IDs. The slice is shared.
func (g *Group) Loops() []*Loop { return g.loops }
