package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wsgate/conformance"
)

// runFlags are those of run.
type runFlags struct {
	o        conformance.Options
	insecure bool
	failOn   string
	format   string
	out      string
	known    string
	verbose  bool
}

func runCommand() *cobra.Command {
	f := &runFlags{}
	cmd := &cobra.Command{
		Use:   "run --front URL --backend-listen HOST:PORT",
		Short: "Run the suite against a gateway",
		Long: "run plays a client of the gateway at --front and the backend behind it, for which it\n" +
			"listens at --backend-listen: configure the gateway with that address as its only backend,\n" +
			"for WebSocket and ordinary requests on all paths.\n" +
			"HTTP/3 is looked for at the UDP port of --front, or at --front-h3. Where it is not, its\n" +
			"cases are left out, which is one line of the report and no failure.\n" +
			"Cases that need another set-up of the gateway belong to other profiles and are left out;\n" +
			"`wsconform list --profiles` says which, and what they need.",
		Example: "  wsconform run --front https://127.0.0.1:8443 --front-plain http://127.0.0.1:8080 --backend-listen 127.0.0.1:9200 --insecure",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return f.run(cmd.Context()) },
	}
	p := cmd.Flags()
	p.StringVar(&f.o.Front, "front", "", "the gateway: https://host:port")
	p.StringVar(&f.o.Plain, "front-plain", "", "its cleartext front: http://host:port")
	p.StringVar(&f.o.BackendListen, "backend-listen", "", "host:port where the gateway expects its backend")
	p.BoolVar(&f.insecure, "insecure", false, "do not check the gateway's certificate")
	p.StringVar(&f.o.Authority, "authority", "", "host of requests (default: that of --front)")
	p.StringSliceVar(&f.o.Only, "only", nil, "ids to run, with stars: 'h2/*'; repeats")
	p.StringVar(&f.o.Profile, "profile", conformance.Base, "how the gateway is set up")
	p.StringVar(&f.o.TLSDir, "tls-dir", "", "folder of the certificates of the profile tls-backend; made if they are missing")
	p.StringVar(&f.failOn, "fail-on", "must", "levels that count for the exit code: must, should or all")
	p.StringVar(&f.format, "format", "text", "text, json, junit, markdown or html")
	p.StringVarP(&f.out, "output", "o", "", "file to write to (default: standard output)")
	p.StringVar(&f.known, "known-failures", "", "file of ids, one a line, that do not count")
	p.StringVar(&f.o.DrainCmd, "drain-cmd", "", "shell command that makes the gateway drain, at the end; without it part H is left out")
	p.StringVar(&f.o.ReloadCmd, "reload-cmd", "", "shell command that puts a configuration in place, for the profile reload")
	p.IntVar(&f.o.PID, "pid", 0, "process of the gateway, on this machine, for what looks at its memory")
	p.Float64Var(&f.o.Patience, "patience", 1, "scales the times that cases wait")
	p.BoolVarP(&f.verbose, "verbose", "v", false, "show every case, with all frames")
	return cmd
}

func (f *runFlags) run(ctx context.Context) error {
	bar, err := failOn(f.failOn)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	var known []string
	if f.known != "" {
		text, err := os.ReadFile(f.known)
		if err != nil {
			return err
		}
		if known, err = knownIDs(string(text)); err != nil {
			return fmt.Errorf("%s: %w", f.known, err)
		}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	line := newProgress()
	f.o.Progress = func(done, total int, r conformance.Result) { line.show("", done, total, r) }
	results, err := conformance.Run(ctx, f.o)
	line.clear()
	if err != nil {
		return err
	}
	if len(results) == 0 {
		return fmt.Errorf("no case matches --only %s", strings.Join(f.o.Only, ","))
	}
	report := conformance.Report{Gateway: f.o.Front, Date: time.Now(), Results: results}
	if err := output(f.out, func(w *os.File) error { return report.Write(w, f.format, f.verbose) }); err != nil {
		return err
	}
	return verdict(results, bar, known)
}

// check looks at the flags.
func (f *runFlags) check() error {
	if f.o.Front == "" || f.o.BackendListen == "" {
		return fmt.Errorf("--front and --backend-listen are needed; see wsconform run --help")
	}
	if !slices.Contains(conformance.Formats(), f.format) {
		return fmt.Errorf("no format %q; there are %s", f.format, strings.Join(conformance.Formats(), ", "))
	}
	if !slices.ContainsFunc(conformance.Profiles(), func(p conformance.Profile) bool { return p.Name == f.o.Profile }) {
		return fmt.Errorf("no profile %q; wsconform list --profiles has all", f.o.Profile)
	}
	if f.o.Patience <= 0 {
		return fmt.Errorf("--patience %v: want more than 0", f.o.Patience)
	}
	if u, err := url.Parse(f.o.Front); err == nil {
		host, _, _ := net.SplitHostPort(u.Host)
		f.o.TLS = &tls.Config{ServerName: host, InsecureSkipVerify: f.insecure}
	}
	return nil
}

func failOn(s string) (conformance.FailOn, error) {
	switch bar := conformance.FailOn(s); bar {
	case conformance.FailOnMust, conformance.FailOnShould, conformance.FailOnAll:
		return bar, nil
	}
	return "", fmt.Errorf("--fail-on %q: want must, should or all", s)
}

// knownIDs reads a list of known failures; an id that is none is an error, so
// that a renamed case does not go unnoticed.
func knownIDs(text string) ([]string, error) {
	ids := conformance.ParseKnown(text)
	for _, id := range ids {
		if _, err := conformance.Find(id); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// verdict is the end of a run, as an error: nil, or errFailed.
func verdict(results []conformance.Result, bar conformance.FailOn, known []string) error {
	failed, surprises := conformance.Judge(results, bar, known)
	for _, id := range surprises {
		fmt.Fprintf(os.Stderr, "wsconform: %s is a known failure and passes\n", id)
	}
	if len(failed) > 0 {
		return errFailed
	}
	return nil
}
