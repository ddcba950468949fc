package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"wsgate/internal/gateway"
	"wsgate/internal/rawpeer"
)

// ways3 are the ends of tunnels and of handshakes on HTTP/3. Those with open false
// begin with the request.
var ways3 = []struct {
	name, path string
	open       bool
	end        func(c *rawpeer.H3, id int64) error // nil: with the connection
}{
	{"client FIN first", "/end", true, func(c *rawpeer.H3, id int64) error {
		return errors.Join(c.End(id), c.WantEnd(id))
	}},
	{"backend FIN first", "/fin", true, func(c *rawpeer.H3, id int64) error {
		return errors.Join(c.Data(id, hello, false), c.WantEnd(id), c.End(id))
	}},
	{"Close handshake", "/close", true, func(c *rawpeer.H3, id int64) error {
		return errors.Join(c.Data(id, bye, false), c.WantData(id, byeBack), c.WantEnd(id), c.End(id))
	}},
	{"client RESET_STREAM", "/end", true, func(c *rawpeer.H3, id int64) error {
		c.ResetStream(id, 0x10c)
		return c.WantReset(id, 0x10c)
	}},
	{"client STOP_SENDING", "/end", true, func(c *rawpeer.H3, id int64) error {
		c.StopSending(id, 0x10c)
		return c.WantStop(id, 0x10c)
	}},
	{"backend RST", "/rst", true, func(c *rawpeer.H3, id int64) error {
		return errors.Join(c.Data(id, hello, false), c.WantReset(id, 0x10c))
	}},
	{"connection closed", "/end", true, nil},
	{"refused by the backend", "/refuse", false, func(c *rawpeer.H3, id int64) error {
		_, err := c.WantStatus(id, 403)
		return errors.Join(err, c.WantData(id, []byte("no")), c.WantEnd(id))
	}},
	{"refused by the gateway", "/.", false, func(c *rawpeer.H3, id int64) error {
		_, err := c.WantStatus(id, 400)
		return err
	}},
	{"given up before the answer", "/mute", false, func(c *rawpeer.H3, id int64) error {
		c.ResetStream(id, 0x10c)
		return c.WantReset(id, 0x10c)
	}},
	{"malformed", "", false, func(c *rawpeer.H3, id int64) error { return c.WantReset(id, 0x10e) }},
}

// crowd3 is crowd over HTTP/3. It returns how many tunnels it opened.
func (p *process) crowd3(n, way int, ready *sync.WaitGroup, goOn <-chan struct{}) (opened int, err error) {
	w := ways3[way]
	c, err := rawpeer.DialH3(p.https, clientTLS)
	if err != nil {
		ready.Done()
		return 0, err
	}
	defer c.Close()
	c.Patience = 30 * time.Second
	if !w.open {
		ready.Done()
		<-goOn
		for range n {
			if err := w.end(c, c.Connect(w.path)); err != nil {
				return 0, fmt.Errorf("%s: %w", w.name, err)
			}
		}
		return 0, c.WantAlive()
	}
	ids, err := openMany(c, n, w.path)
	ready.Done()
	if err != nil {
		return 0, fmt.Errorf("%s: %w", w.name, err)
	}
	<-goOn
	if w.end == nil {
		return n, nil
	}
	for _, id := range ids {
		if err := w.end(c, id); err != nil {
			return n, fmt.Errorf("%s: %w", w.name, err)
		}
	}
	return n, c.WantAlive()
}

// wave3 opens n streams of each way on a connection of its own, all at once, and
// ends them. It returns how many tunnels were opened and how many there were at once.
func (p *process) wave3(n int) (opened int, peak int64) {
	p.t.Helper()
	var ready, done sync.WaitGroup
	goOn := make(chan struct{})
	var mu sync.Mutex
	var errs []error
	for way := range ways3 {
		ready.Add(1)
		done.Go(func() {
			k, err := p.crowd3(n, way, &ready, goOn)
			mu.Lock()
			defer mu.Unlock()
			opened += k
			if err != nil {
				errs = append(errs, err)
			}
		})
	}
	ready.Wait()
	peak = p.counters().Tunnels
	close(goOn)
	done.Wait()
	p.must(errors.Join(errs...))
	return opened, peak
}

// TestTenThousandTunnelsH3 opens them over HTTP/3 and ends them in all ways, with
// requests that are refused, given up and malformed between them. Afterwards there
// are as many goroutines, descriptors and loop entries as before and no more memory;
// a drain ends the last ones in order.
func TestTenThousandTunnelsH3(t *testing.T) {
	p := runsBefore(t, "", "ws://"+backendAt(t), "--drain-time", "3s")
	begin := time.Now()
	const perConn = 180
	quiet := func(c gateway.Counters) bool { return c.Tunnels == 0 && c.Pending == 0 && c.H3Connections == 0 }
	p.wave3(perConn) // fills what is kept for the next ones
	// live are the counters with the heap that is reachable, which the profile as
	// text measures before it makes garbage of its own.
	live := func() gateway.Counters {
		p.get("/debug/pprof/heap?debug=1&gc=1")
		_, text := p.get("/debug/pprof/heap?debug=1&gc=1") // what pools keep goes with the second collection
		c := p.counters()
		_, rest, _ := bytes.Cut(text, []byte("\n# HeapAlloc = "))
		heap, _, _ := bytes.Cut(rest, []byte("\n"))
		var err error
		c.HeapBytes, err = strconv.ParseUint(string(heap), 10, 64)
		p.must(err)
		return c
	}
	var before gateway.Counters
	same := 0
	p.until("figures that stand still", 20*time.Second, func(gateway.Counters) bool {
		c := live()
		if same++; !quiet(c) || c.Descriptors != before.Descriptors || c.Goroutines != before.Goroutines || c.Entries != before.Entries || c.HeapBytes+64<<10 < before.HeapBytes {
			before, same = c, 0
		}
		return same == 5
	})
	opened, most := 0, int64(0)
	for opened < 10000 {
		n, peak := p.wave3(perConn)
		opened, most = opened+n, max(most, peak)
	}
	var after gateway.Counters
	p.until("figures as before", 20*time.Second, func(gateway.Counters) bool {
		after = live()
		return quiet(after) && after.Descriptors == before.Descriptors && after.Goroutines == before.Goroutines && after.Entries == before.Entries &&
			after.HeapBytes < before.HeapBytes+512<<10 // 50 octets a tunnel, which takes 400; slices, maps and the runtime's list of goroutines keep their size
	})
	if got := int(after.Opened - before.Opened); got != opened {
		t.Errorf("tunnels opened: got %d, want %d", got, opened)
	}
	t.Logf("%d tunnels in %v, %d at once; before: %d descriptors, %d goroutines, %d loop entries, %d KiB of heap; after: %d, %d, %d, %d KiB",
		opened, time.Since(begin).Round(time.Millisecond), most, before.Descriptors, before.Goroutines, before.Entries, before.HeapBytes>>10,
		after.Descriptors, after.Goroutines, after.Entries, after.HeapBytes>>10)

	c, err := rawpeer.DialH3(p.https, clientTLS)
	p.must(err)
	t.Cleanup(c.Close)
	ids, err := openMany(c, 100, "/close")
	p.must(err)
	p.signal(syscall.SIGTERM)
	for _, id := range ids {
		p.must(c.WantData(id, frame(0x88, false, closeOf(1001, ""))))
		p.must(c.Data(id, frame(0x88, true, closeOf(1001, "")), true))
		p.must(c.WantEnd(id))
	}
	p.must(c.WantClosed(0x100))
	p.wantExit(0)
}
