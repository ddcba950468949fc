package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wsgate/conformance"
	"wsgate/conformance/launch"
)

// compareFlags are those of compare.
type compareFlags struct {
	o       conformance.Options
	program map[string]string
	out     string
	fails   string
	reports string
	failOn  string
}

func compareCommand() *cobra.Command {
	f := &compareFlags{}
	var names []string
	for _, g := range launch.Known() {
		names = append(names, g.Name)
	}
	cmd := &cobra.Command{
		Use:   "compare GATEWAY...",
		Short: "Run the suite against installed gateways and write one table",
		Long: "compare starts each named gateway on loopback, with a configuration of its own making for\n" +
			"each profile that the gateway can be set up for, runs all cases and writes one table, as\n" +
			"FILE.md and FILE.html. Gateways: " + strings.Join(names, ", ") + ".\n" +
			"If FILE.md exists and has the lines " + begin + " and " + end + ",\n" +
			"the table goes between them.\n" +
			"It exits 0 if all were run, whatever failed, unless --fail-on is given.",
		Example:   "  wsconform compare wsgate haproxy nghttpx",
		Args:      cobra.MinimumNArgs(1),
		ValidArgs: names,
		RunE:      func(cmd *cobra.Command, args []string) error { return f.run(cmd.Context(), args) },
	}
	p := cmd.Flags()
	p.StringVarP(&f.out, "output", "o", "conformance", "file to write to, without its ending")
	p.StringToStringVar(&f.program, "program", nil, "where a gateway's program is, as caddy=bin/caddy; repeats (default: its name, in PATH)")
	p.StringSliceVar(&f.o.Only, "only", nil, "ids to run, with stars; repeats")
	p.Float64Var(&f.o.Patience, "patience", 1, "scales the times that cases wait")
	p.StringVar(&f.reports, "reports", "", "folder for a whole report of each gateway, with all frames: NAME.txt, .json, .xml, .html")
	p.StringVar(&f.fails, "fails", "", "file for who fails which case, as explain has it")
	p.StringVar(&f.failOn, "fail-on", "", "exit 1 if a case of that level fails: must, should or all")
	return cmd
}

func (f *compareFlags) run(ctx context.Context, names []string) error {
	var bar conformance.FailOn
	if f.failOn != "" {
		var err error
		if bar, err = failOn(f.failOn); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var gateways []*launch.Gateway
	c := conformance.Comparison{Date: time.Now(), Machine: machine()}
	for _, name := range names {
		g, err := launch.Find(name)
		if err != nil {
			return err
		}
		if path := f.program[name]; path != "" {
			if g.Program, err = filepath.Abs(path); err != nil {
				return err
			}
		}
		version, err := g.Installed()
		if err != nil {
			return err
		}
		gateways = append(gateways, g)
		c.Gateways = append(c.Gateways, conformance.Contender{Name: name, Version: version})
	}
	bad := false
	line := newProgress()
	for i, g := range gateways {
		o := f.o
		o.Progress = func(done, total int, r conformance.Result) { line.show(g.Name+" "+r.Profile+" ", done, total, r) }
		results, err := g.Suite(ctx, o)
		line.clear()
		if err != nil {
			return err
		}
		at := &c.Gateways[i]
		at.Results = results
		n := conformance.Count(results)
		fmt.Fprintf(os.Stderr, "%s %s: %d pass, %d fail, %d broken, %d left out\n", at.Name, at.Version,
			n[conformance.Pass], n[conformance.Fail], n[conformance.Broken], n[conformance.Skip])
		if err := f.report(at, c.Date); err != nil {
			return err
		}
		if bar != "" && verdict(results, bar, nil) != nil {
			bad = true
		}
	}
	if err := f.write(&c); err != nil {
		return err
	}
	if bad {
		return errFailed
	}
	return nil
}

// machine is what the comparison runs on.
func machine() string {
	return fmt.Sprintf("%d cores, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}

// report writes the whole reports of one gateway.
func (f *compareFlags) report(g *conformance.Contender, date time.Time) error {
	if f.reports == "" {
		return nil
	}
	if err := os.MkdirAll(f.reports, 0o755); err != nil {
		return err
	}
	r := conformance.Report{Gateway: g.Name + " " + g.Version, Date: date, Results: g.Results}
	for ending, format := range map[string]string{"txt": "text", "json": "json", "xml": "junit", "md": "markdown", "html": "html"} {
		err := output(filepath.Join(f.reports, g.Name+"."+ending), func(w *os.File) error { return r.Write(w, format, true) })
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	begin = "<!-- wsconform: begin -->"
	end   = "<!-- wsconform: end -->"
)

// write writes the table, and who fails what.
func (f *compareFlags) write(c *conformance.Comparison) error {
	var md bytes.Buffer
	if err := c.Markdown(&md); err != nil {
		return err
	}
	text := "# Conformance of WebSocket gateways\n\n" + md.String()
	old, err := os.ReadFile(f.out + ".md")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if head, rest, ok := strings.Cut(string(old), begin+"\n"); ok {
		if _, tail, ok := strings.Cut(rest, end); ok {
			text = head + begin + "\n" + md.String() + end + tail
		}
	}
	if err := os.WriteFile(f.out+".md", []byte(text), 0o644); err != nil {
		return err
	}
	if err := output(f.out+".html", func(w *os.File) error { return c.HTML(w) }); err != nil {
		return err
	}
	if f.fails == "" {
		return nil
	}
	return output(f.fails, func(w *os.File) error { return c.Fails(w) })
}
