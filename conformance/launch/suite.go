package launch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"wsgate/conformance"
)

// Suite starts the gateway once for each profile that has cases which Only
// matches, and runs them: those of base, and beside them the other profiles one
// after the other, which mostly wait. Front, Plain, TLS, BackendListen, Profile,
// TLSDir, DrainCmd, ReloadCmd and PID of the options are the gateway's. One that
// cannot be started is an error; one that ends by itself is too, beside the
// results.
func (g *Gateway) Suite(ctx context.Context, o conformance.Options) ([]conformance.Result, error) {
	profiles, err := g.wanted(o.Only)
	if err != nil {
		return nil, err
	}
	if f := o.Progress; f != nil {
		var mu sync.Mutex
		o.Progress = func(done, total int, r conformance.Result) {
			mu.Lock()
			defer mu.Unlock()
			f(done, total, r)
		}
	}
	runs, errs := make([][]conformance.Result, len(profiles)), make([]error, len(profiles))
	var wg sync.WaitGroup
	wg.Go(func() { runs[0], errs[0] = g.one(ctx, profiles[0], o) })
	for i := 1; i < len(profiles) && ctx.Err() == nil; i++ {
		runs[i], errs[i] = g.one(ctx, profiles[i], o)
	}
	wg.Wait()
	for i := range runs {
		if runs[i] == nil && errs[i] != nil {
			return nil, errs[i]
		}
	}
	return conformance.Merge(runs...), errors.Join(append(errs, ctx.Err())...)
}

// wanted are the profiles that have cases and a set-up. Base, which lists the
// cases of profiles without one, is always the first.
func (g *Gateway) wanted(only []string) ([]string, error) {
	have := make(map[string]bool)
	for _, c := range conformance.Cases() {
		ok, err := conformance.Match(only, c.ID)
		if err != nil {
			return nil, err
		}
		if ok {
			have[c.Profile] = true
		}
	}
	have[conformance.Base] = true
	return slices.DeleteFunc(g.Profiles(), func(p string) bool { return !have[p] }), nil
}

// one is the run of one profile. A port that was free may be taken before it is
// used: then it is tried again with others.
func (g *Gateway) one(ctx context.Context, profile string, o conformance.Options) (results []conformance.Result, err error) {
	for range 3 {
		if results, err = g.try(ctx, profile, o); results != nil || ctx.Err() != nil {
			break
		}
	}
	return results, err
}

func (g *Gateway) try(ctx context.Context, profile string, o conformance.Options) ([]conformance.Result, error) {
	p, err := g.Start(profile)
	if err != nil {
		return nil, err
	}
	defer p.Stop()
	o.Front, o.Plain, o.TLS = p.Front, p.Plain, &tls.Config{InsecureSkipVerify: true}
	o.BackendListen, o.TLSDir, o.Profile, o.DrainCmd, o.ReloadCmd, o.PID = p.Backend, p.TLSDir, profile, p.Drain, p.Reload, p.PID
	o.Authority = "localhost:" + port(p.Front)
	results, err := conformance.Run(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s, profile %s: %w; it printed: %s", g.Name, profile, err, p.Log())
	}
	if drained := p.Drain != "" && (profile == conformance.Base || profile == conformance.LateGoAway); !p.Running() && !drained {
		return results, fmt.Errorf("%s, profile %s: it ended by itself: %s", g.Name, profile, p.Log())
	}
	return results, nil
}

// port is that of a URL with host and port.
func port(url string) string { return url[strings.LastIndexByte(url, ':')+1:] }
