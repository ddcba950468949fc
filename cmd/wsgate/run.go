package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wsgate/internal/config"
	"wsgate/internal/demo"
	"wsgate/internal/gateway"
)

func runCommand() *cobra.Command {
	c, file := gateway.Default(), ""
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the gateway, by flags in front of one backend or by a configuration file",
		Example: "  wsgate run -c wsgate.yaml\n" +
			"  wsgate run --listen https://:8443 --cert cert.pem --key key.pem --backend ws://127.0.0.1:3001\n" +
			"  wsgate run --listen https://127.0.0.1:8443 --listen http://127.0.0.1:8080 --self-signed --backend http://app:3000",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file != "" {
				return serveFile(cmd.Flags(), file)
			}
			return serveFlags(c)
		},
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "configuration file; instead of all other flags")
	addFlags(cmd.Flags(), &c)
	return cmd
}

func demoCommand() *cobra.Command {
	c := gateway.Default()
	c.Listen = []string{"https://127.0.0.1:8443", "https://[::1]:8443"}
	c.SelfSigned = true
	c.DrainTime = 2 * time.Second // nobody waits for a demo to end
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the gateway with a backend inside; open https://localhost:8443/",
		Args:  noArgs,
		RunE:  func(*cobra.Command, []string) error { return serveDemo(c) },
	}
	cmd.Flags().StringArrayVar(&c.Listen, "listen", c.Listen, "where to listen")
	cmd.Flags().StringVar(&c.Admin, "admin", c.Admin, "address for /live, /ready, /counters and pprof")
	return cmd
}

// serveDemo runs the gateway before the demo backend.
func serveDemo(c gateway.Config) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("demo backend: %w", err)
	}
	backend := demo.New()
	defer backend.Close()
	go backend.Serve(ln)
	c.Backend = "ws://" + ln.Addr().String()
	c.Listen = withoutMissingIPv6(c.Listen)
	fmt.Fprintf(os.Stderr, "open https://localhost:8443/ (the certificate is self-signed)\n")
	return serveFlags(c)
}

// withoutMissingIPv6 leaves ::1 out on a machine without IPv6.
func withoutMissingIPv6(listen []string) []string {
	ln, err := net.Listen("tcp", "[::1]:0")
	if err == nil {
		ln.Close()
		return listen
	}
	if !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT) {
		return listen
	}
	var out []string
	for _, l := range listen {
		if l != "https://[::1]:8443" {
			out = append(out, l)
		}
	}
	return out
}

// serveFlags runs a gateway as the flags say it.
func serveFlags(c gateway.Config) error {
	w, err := c.Whole()
	if err != nil {
		return err
	}
	return serve(w, gateway.Options{Log: os.Stderr})
}

// serveFile runs a gateway by its file, which holds all there is to say.
func serveFile(flags *pflag.FlagSet, file string) error {
	var other string
	flags.Visit(func(f *pflag.Flag) {
		if f.Name != "config" {
			other = f.Name
		}
	})
	if other != "" {
		return usageError{fmt.Errorf("--%s does not go together with --config; say it in %q", other, file)}
	}
	load := func() (*config.Config, error) { return config.Load(file) }
	c, err := load()
	if err != nil {
		return err
	}
	return serve(c, gateway.Options{Log: os.Stderr, File: file, Load: load})
}

// serve runs a gateway until it is told to stop. SIGTERM and SIGINT drain, a
// second one ends at once; SIGHUP reads the file again, or with flags the
// certificates.
func serve(c *config.Config, o gateway.Options) error {
	o.Cores = gateway.Settle(c)
	setProcs(o.Cores, c.Loops)
	raiseLimit()
	go spareCollections(time.Tick(heapTick))
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	g, err := gateway.Run(c, o)
	if err != nil {
		return err
	}
	defer g.Close()
	// net/http has words for the standard logger now and then.
	log.SetFlags(0)
	log.SetOutput(lines{g})
	for s := range signals {
		if s != syscall.SIGHUP {
			break
		}
		if o.Load != nil {
			_, _ = g.Reload(context.Background(), false) // logged; the old one stays
		} else {
			_ = g.ReloadCertificates() // logged; the old ones stay
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for s := range signals {
			if s != syscall.SIGHUP {
				cancel()
				return
			}
		}
	}()
	g.Drain(ctx)
	return nil
}

// lines turns what is written to the standard logger into lines of the gateway's.
type lines struct{ g *gateway.Gateway }

func (l lines) Write(p []byte) (int, error) {
	l.g.Log().Warn(strings.TrimSpace(string(p)))
	return len(p), nil
}

// setProcs sees to it that there are more Ps than loops: a loop in traffic keeps
// its P while it sleeps.
func setProcs(cores, loops int) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(cores, loops+1))
	}
}

// raiseLimit raises the soft limit on descriptors to the hard one: Go's runtime
// stops one short of it. Without the right to, the limit stays as it is.
func raiseLimit() {
	var l syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l) == nil && l.Cur < l.Max {
		l.Cur = l.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
	}
}
