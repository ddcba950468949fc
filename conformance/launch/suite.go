package launch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"wsgate/conformance"
)

// Suite starts the gateway once for each profile that has cases which Only
// matches, and runs them. Front, Plain, TLS, BackendListen, Profile, TLSDir,
// DrainCmd, ReloadCmd and PID of the options are the gateway's. One that cannot be started is
// an error; one that ends by itself is too, beside the results.
func (g *Gateway) Suite(ctx context.Context, o conformance.Options) ([]conformance.Result, error) {
	wanted := make(map[string]bool)
	for _, c := range conformance.Cases() {
		ok, err := conformance.Match(o.Only, c.ID)
		if err != nil {
			return nil, err
		}
		if ok {
			wanted[c.Profile] = true
		}
	}
	wanted[conformance.Base] = true // lists the cases of profiles that there is no set-up for
	var runs [][]conformance.Result
	var errs []error
	for _, profile := range g.Profiles() {
		if !wanted[profile] || ctx.Err() != nil {
			continue
		}
		results, err := g.one(ctx, profile, o)
		if results == nil {
			return nil, err
		}
		runs, errs = append(runs, results), append(errs, err)
	}
	return conformance.Merge(runs...), errors.Join(append(errs, ctx.Err())...)
}

func (g *Gateway) one(ctx context.Context, profile string, o conformance.Options) ([]conformance.Result, error) {
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
