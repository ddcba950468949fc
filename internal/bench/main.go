// Command bench measures wsgate and other gateways side by side: `make perf`,
// `make bench`, `make bench-quick` and `make bench-scale`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	ok, err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	suite, bin, results, only, docs, builds string
	rounds                                  int
	d                                       time.Duration
	more, report                            bool
}

func run(ctx context.Context) (bool, error) {
	var o options
	var scaling scaleOptions
	flag.StringVar(&o.suite, "suite", "full", "perf, quick, full or scale")
	flag.StringVar(&o.bin, "bin", "bin", "where wsgate, wsload and caddy are")
	flag.StringVar(&o.results, "results", "", "file for the measurements, one line each")
	flag.BoolVar(&o.more, "more", false, "add rounds to those in the file")
	flag.BoolVar(&o.report, "report", false, "measure nothing, report what is in the file")
	flag.StringVar(&o.only, "only", "", "keys of the works to run, by comma; \"list\" lists them")
	flag.IntVar(&o.rounds, "rounds", 0, "rounds; 0: as the suite has it")
	flag.DurationVar(&o.d, "for", 0, "time of one measurement; 0: as the suite has it")
	flag.StringVar(&o.docs, "docs", "", "directory with performance.md: table and plots are written there")
	flag.StringVar(&o.builds, "builds", "", "instead of other gateways: builds of wsgate by comma, each compared with the first")
	flag.IntVar(&scaling.tunnels, "tunnels", 0, "scale: tunnels; 0: nine tenths of the limit on descriptors")
	flag.DurationVar(&scaling.hold, "hold", 70*time.Second, "scale: how long they are held")
	flag.Parse()
	if o.suite == "scale" {
		return scale(ctx, o.bin, scaling)
	}
	all := suites()
	i := slices.IndexFunc(all, func(s suite) bool { return s.name == o.suite })
	if i < 0 {
		return false, fmt.Errorf("there is no suite %q", o.suite)
	}
	s := &all[i]
	if o.rounds > 0 {
		s.rounds = o.rounds
	}
	if o.d > 0 {
		s.d = o.d
	}
	if o.only == "list" {
		for _, w := range s.works {
			fmt.Printf("%-20s %s\n", w.key, w.name)
		}
		return true, nil
	}
	return s.bench(ctx, &o)
}

// bench measures and reports; it says whether all targets are met.
func (s *suite) bench(ctx context.Context, o *options) (bool, error) {
	l, err := newLab(ctx, o.bin)
	if err != nil {
		return false, err
	}
	defer l.close()
	if o.builds != "" {
		return s.compare(l, strings.Split(o.builds, ","), o)
	}
	all := l.contenders()
	for _, c := range all {
		if c.program == "" && slices.Contains(s.must, c.name) {
			return false, fmt.Errorf("%s is not installed; internal/bench/install.sh installs what is missing, as root on Debian", c.name)
		}
	}
	all = slices.DeleteFunc(all, func(c *contender) bool { return c.name != "wsgate" && !slices.Contains(s.peers, c.name) })
	r, err := s.results(l, all, o)
	if err != nil {
		return false, err
	}
	return s.tell(all, r, o)
}

// results measures, unless only a report is asked for, and reads what there is.
func (s *suite) results(l *lab, all []*contender, o *options) (results, error) {
	path := o.results
	if path == "" {
		path = filepath.Join(l.dir, "results")
	}
	if !o.report {
		if err := s.fill(l, all, o, path); err != nil {
			return nil, err
		}
	}
	return readResults(path)
}

// fill measures into the results file.
func (s *suite) fill(l *lab, all []*contender, o *options, path string) error {
	first, mode := 1, os.O_TRUNC
	if o.more {
		had, err := readResults(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		first, mode = had.last(o.only)+1, os.O_APPEND
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|mode, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	return s.measure(l, all, o.only, first, s.rounds, f)
}

// tell prints the comparison, and writes it down where that is wanted.
func (s *suite) tell(all []*contender, r results, o *options) (bool, error) {
	verdicts := s.judge(r)
	fmt.Println(s.conditions(all, r))
	fmt.Println(text(s.rows(verdicts)))
	defaults := s.defaults(r)
	if len(defaults) > 1 {
		fmt.Println("With one worker / with as many as each takes by itself:")
		fmt.Println(text(defaults))
	}
	met, missed := 0, []string{}
	for i := range verdicts {
		if v := &verdicts[i]; v.asked && v.met {
			met++
		} else if v.asked {
			missed = append(missed, v.title())
		}
	}
	fmt.Printf("%d targets met, %d missed", met, len(missed))
	if len(missed) > 0 {
		fmt.Printf(": %s", strings.Join(missed, "; "))
	}
	fmt.Println()
	for _, e := range r.errors() {
		fmt.Printf("failed: %s with %s, round %d: %s\n", e.Work, e.Contender, e.Round, e.Error)
	}
	ok := len(missed) == 0 && met > 0
	if o.docs == "" {
		return ok, nil
	}
	return ok, s.write(o.docs, all, r, verdicts)
}

// conditions say how the figures came about.
func (s *suite) conditions(all []*contender, r results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s. Medians of %d rounds (least-most), ratios by round.\n", r.span(), machine(), s.counted(r))
	for _, c := range all {
		if c.program == "" {
			fmt.Fprintf(&b, "%s is not installed.\n", c.name)
			continue
		}
		fmt.Fprintf(&b, "%s: %s; %s", c.name, c.version, c.single)
		if c.all != nil && len(s.columns) > 1 {
			fmt.Fprintf(&b, ", and %s", c.common)
		}
		b.WriteString(".\n")
	}
	return b.String()
}

// counted is how many rounds the work has that was measured least, of those
// that are measured in each round.
func (s *suite) counted(r results) int {
	least := 0
	for i := range s.works {
		w := &s.works[i]
		if n := len(r.of(w.key, "wsgate", columnOne, w.checks[0].figure)); n > 0 && !w.once && (least == 0 || n < least) {
			least = n
		}
	}
	return least
}
