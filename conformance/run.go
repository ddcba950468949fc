package conformance

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"wsgate/internal/rawpeer"
)

// Options say which gateway to run against, and how.
type Options struct {
	Front         string      // https URL of the gateway
	Plain         string      // http URL of the gateway, "" if it has none
	FrontH3       string      // host:port where it serves HTTP/3, "" for that of Front
	TLS           *tls.Config // of the client; nil checks certificates as usual
	BackendListen string      // host:port that the gateway takes for its backend
	Authority     string      // in requests; "" is the host of Front
	Profile       string      // how the gateway was set up; "" is Base
	TLSDir        string      // files of the profile TLSBackend; made if they are not there
	Only          []string    // patterns of ids, see Match
	Patience      float64     // scales all times that cases wait; 0 is 1
	DrainCmd      string      // shell command that makes the gateway drain; "" leaves part H out
	ReloadCmd     string      // shell command that puts a configuration in place, see the profile Reload
	PID           int         // process of the gateway on this machine; 0 leaves out what looks at it

	// Progress, if it is not nil, is called for each result, one at a time.
	Progress func(done, total int, r Result)
}

// casePatience is how long a want waits; caseLimit is how long a case may take.
const (
	casePatience = 2 * time.Second
	caseLimit    = 15 * time.Second
	sideBySide   = 12 // cases at once
)

// Unreachable says that there is no gateway to run against, or that it does not
// reach the suite's backend.
type Unreachable struct{ err error }

func (u *Unreachable) Error() string { return u.err.Error() }
func (u *Unreachable) Unwrap() error { return u.err }

// runner is one run.
type runner struct {
	o      Options
	front  string // host:port
	front3 string // the same, of UDP
	plain  string
	hub    *hub
	id     string // part of tokens
	has    has
	drain  *drain
}

// Run carries all cases of the options' profile out and returns a result for each
// case, also for those of other profiles. The error is an *Unreachable, or says
// which option is wrong.
func Run(ctx context.Context, o Options) ([]Result, error) {
	r, err := newRunner(o)
	if err != nil {
		return nil, err
	}
	if r.hub != nil {
		defer r.hub.close()
	}
	if err := r.reach(); err != nil {
		return nil, &Unreachable{err}
	}
	r.look()
	return r.all(ctx)
}

func newRunner(o Options) (*runner, error) {
	if o.Patience <= 0 {
		o.Patience = 1
	}
	if o.Profile == "" {
		o.Profile = Base
	}
	r := &runner{o: o}
	u, err := url.Parse(o.Front)
	if err != nil || u.Scheme != "https" || u.Port() == "" {
		return nil, fmt.Errorf("front %q: want https://host:port", o.Front)
	}
	r.front, r.front3 = u.Host, u.Host
	if o.FrontH3 != "" {
		if _, _, err := net.SplitHostPort(o.FrontH3); err != nil {
			return nil, fmt.Errorf("HTTP/3 front %q: want host:port", o.FrontH3)
		}
		r.front3 = o.FrontH3
	}
	if o.Plain != "" {
		u, err := url.Parse(o.Plain)
		if err != nil || u.Scheme != "http" || u.Port() == "" {
			return nil, fmt.Errorf("cleartext front %q: want http://host:port", o.Plain)
		}
		r.plain = u.Host
	}
	if o.Authority == "" {
		r.o.Authority = r.front
	}
	if o.TLS == nil {
		host, _, _ := net.SplitHostPort(r.front)
		r.o.TLS = &tls.Config{ServerName: host}
	}
	p := make([]byte, 3)
	_, _ = rand.Read(p) // never fails
	r.id = hex.EncodeToString(p)
	if err := r.listen(); err != nil {
		return nil, err
	}
	return r, nil
}

// listen opens the backend.
func (r *runner) listen() (err error) {
	var b *backendTLS
	switch r.o.Profile {
	case BackendDown:
		return nil
	case TLSBackend:
		if b, err = newBackendTLS(r.o.TLSDir); err != nil {
			return err
		}
	}
	if r.hub, err = newHub(r.o.BackendListen, b); err != nil {
		return fmt.Errorf("backend: %w", err)
	}
	return nil
}

// reach sends an ordinary request through the gateway.
func (r *runner) reach() error {
	c, err := rawpeer.DialH1(r.front, r.o.TLS)
	if err != nil {
		return fmt.Errorf("the gateway at %s cannot be reached: %w", r.o.Front, err)
	}
	defer c.Close()
	if r.plain != "" {
		p, err := rawpeer.DialH1(r.plain, nil)
		if err != nil {
			return fmt.Errorf("the gateway at %s cannot be reached: %w", r.o.Plain, err)
		}
		p.Close()
	}
	if r.hub == nil {
		return nil
	}
	cl := r.hub.claim(r.token(0), func(*rawpeer.BackendConn) {})
	defer r.hub.release(cl)
	c.Patience = time.Duration(float64(5*time.Second) * r.o.Patience)
	if err := c.WriteString("GET /" + cl.token + fence + " HTTP/1.1\r\nHost: " + r.o.Authority + "\r\n\r\n"); err != nil {
		return err
	}
	resp, err := c.ReadResponse("GET")
	switch {
	case err != nil:
		return fmt.Errorf("the gateway at %s does not answer an ordinary request: %w", r.o.Front, err)
	case resp.Status != 200 || string(resp.Body) != "fence":
		return fmt.Errorf("the gateway at %s does not reach the backend at %s: it answers an ordinary request %q", r.o.Front, r.o.BackendListen, resp.Line)
	}
	return nil
}

func (r *runner) token(n int) string { return fmt.Sprintf("wc%sn%dz", r.id, n) }

// all carries the cases out: first those that get along side by side, then the
// rest one by one, at last those for which the gateway drains, all at once.
func (r *runner) all(ctx context.Context) ([]Result, error) {
	var cases []Case
	for _, c := range Cases() {
		ok, err := Match(r.o.Only, c.ID)
		if err != nil {
			return nil, err
		}
		if ok {
			cases = append(cases, c)
		}
	}
	results := make([]Result, len(cases))
	var together, alone, draining []int
	for i := range cases {
		c := &cases[i]
		why := r.cannot(c)
		switch {
		case why != "":
			results[i] = result(c, stop{Skip, "", why})
		case c.drain:
			draining = append(draining, i)
		case c.alone:
			alone = append(alone, i)
		default:
			together = append(together, i)
		}
	}
	p := &progress{f: r.o.Progress, total: len(together) + len(alone) + len(draining)}
	do := func(i int) {
		if ctx.Err() != nil {
			results[i] = result(&cases[i], stop{Skip, "", "the run was ended"})
			return
		}
		results[i] = r.one(&cases[i], i+1)
		p.done(results[i])
	}
	slices.SortStableFunc(together, func(a, b int) int {
		switch {
		case cases[a].slow == cases[b].slow:
			return 0
		case cases[a].slow:
			return -1
		}
		return 1
	})
	crowd(together, sideBySide, do)
	crowd(alone, 1, do)
	r.drain = newDrain(ctx, r.o.DrainCmd, len(draining))
	crowd(draining, len(draining), do)
	return results, nil
}

// needsProfile begins the reason of cases that belong to another run.
const needsProfile = "needs the profile "

// cannot says why a case is not for this run, or "".
func (r *runner) cannot(c *Case) string {
	switch {
	case c.version() == h3 && r.has.h3 != "": // one reason for all
		return r.has.h3
	case c.Profile != r.o.Profile:
		return needsProfile + c.Profile
	case c.drain && r.o.DrainCmd == "":
		return "needs --drain-cmd"
	case c.Profile == Reload && r.o.ReloadCmd == "":
		return "needs --reload-cmd"
	}
	return ""
}

// crowd calls do for each i, n at a time.
func crowd(all []int, n int, do func(int)) {
	work := make(chan int)
	var wg sync.WaitGroup
	for range min(n, len(all)) {
		wg.Go(func() {
			for i := range work {
				do(i)
			}
		})
	}
	for _, i := range all {
		work <- i
	}
	close(work)
	wg.Wait()
}

// progress calls a function for one result at a time.
type progress struct {
	f     func(done, total int, r Result)
	mu    sync.Mutex
	n     int
	total int
}

func (p *progress) done(r Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	if p.f != nil {
		p.f(p.n, p.total, r)
	}
}

// one carries a case out. It returns in bounded time, whatever the case does.
func (r *runner) one(c *Case, n int) Result {
	e := &Env{run: r, c: c, token: r.token(n), done: make(chan struct{}), patience: r.patience()}
	if r.hub != nil {
		e.claim = r.hub.claim(e.token, e.joined)
		defer r.hub.release(e.claim)
	}
	limit := c.limit
	if limit == 0 {
		limit = caseLimit
	}
	limit = time.Duration(float64(limit) * max(r.o.Patience, 1))
	begin := time.Now()
	ended := make(chan stop, 1)
	go func() { ended <- e.carryOut() }()
	var s stop
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case s = <-ended:
	case <-timer.C:
		e.finish() // its connections end, and so does what waits for them
		s = stop{Fail, "an end of the case", fmt.Sprintf("none in %v", limit)}
	}
	if c.drain {
		r.drain.leave(e)
	}
	e.finish()
	res := result(c, s)
	res.MS = float64(time.Since(begin).Microseconds()) / 1000
	e.mu.Lock()
	res.Notes = e.notes
	e.mu.Unlock()
	res.Frames = e.frames()
	return res
}

// carryOut runs the case and says how it ended.
func (e *Env) carryOut() (s stop) {
	defer func() {
		switch x := recover().(type) {
		case nil:
		case stop:
			s = x
		default:
			s = stop{Broken, "no panic", fmt.Sprintf("%v\n%s", x, debug.Stack())}
		}
	}()
	e.c.run(e)
	return stop{verdict: Pass}
}

func result(c *Case, s stop) Result {
	return Result{
		ID: c.ID, Rows: c.Rows, RFC: c.RFC, Section: c.Section, Level: c.Level, Profile: c.Profile, Title: c.Title,
		Verdict: s.verdict, Want: s.want, Got: strings.TrimSpace(s.got),
	}
}

// IsUnreachable reports whether err says that there is no gateway.
func IsUnreachable(err error) bool {
	var u *Unreachable
	return errors.As(err, &u)
}
