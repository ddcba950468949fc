// Command perf measures wsgate and nghttpx side by side, in interleaved rounds,
// and exits 1 if a target is missed. `make perf` runs it.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"wsgate/internal/gateway"
	"wsgate/internal/load"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "backend" {
		backend(os.Args[2])
		return
	}
	rounds := flag.Int("rounds", 5, "rounds; the median of their ratios counts")
	each := flag.Duration("for", time.Second, "time of one measurement")
	only := flag.String("only", "", "run the rows whose name contains this")
	binary := flag.String("wsgate", "", "the wsgate program")
	flag.Parse()
	ok, err := measure(*binary, *rounds, *each, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "perf:", err)
		os.Exit(1)
	}
	if !ok {
		os.Exit(1)
	}
}

// backend is the echo server, in a process of its own.
func backend(addr string) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(ln.Addr())
	fmt.Fprintln(os.Stderr, load.ServeEcho(ln.(*net.TCPListener)))
}

// row is one figure with the ratio to nghttpx that is asked for; limit is an
// absolute bound on wsgate's own figure instead.
type row struct {
	name, unit   string
	ratio, limit float64
	run          func(*load.Target, time.Duration) (float64, error)
}

func perMessage(r *load.Result, err error) (float64, error) {
	if err == nil && (r.Messages == 0 || r.Errors+r.Refused > 0) {
		err = fmt.Errorf("not all went well: %+v", r)
	}
	if err != nil {
		return 0, err
	}
	return float64(r.CPU.Microseconds()) / float64(r.Messages), nil
}

const warmUp = 300 * time.Millisecond

func rows() []row {
	echo := func(conns, tunnels int) func(*load.Target, time.Duration) (float64, error) {
		return func(t *load.Target, d time.Duration) (float64, error) {
			return perMessage(load.Echo(context.Background(), t, load.Options{Conns: conns, Tunnels: tunnels, Size: 64, For: d, WarmUp: warmUp}))
		}
	}
	return []row{
		{"echo 64 B, 1x100", "µs", 0.90, 0, echo(1, 100)},
		{"echo 64 B, 50x10", "µs", 0.80, 0, echo(50, 10)},
		{"echo 64 B, 500x1", "µs", 0.85, 0, echo(500, 1)},
		{"open + close", "µs", 1.00, 0, func(t *load.Target, d time.Duration) (float64, error) {
			return perMessage(load.Open(context.Background(), t, load.Options{Conns: 10, Tunnels: 5, For: d, WarmUp: warmUp}))
		}},
		{"idle tunnel, 100x50", "KiB", 0, 2.0, func(t *load.Target, _ time.Duration) (float64, error) {
			r, err := load.Idle(context.Background(), t, load.Options{Conns: 100, Tunnels: 50, Size: 64, Hold: 3 * time.Second})
			if err != nil {
				return 0, err
			}
			return float64(r.Grown) / 1024 / float64(r.Opened), nil
		}},
	}
}

// proc is a started program.
type proc struct {
	cmd  *exec.Cmd
	addr string
}

func start(name string, args ...string) (*proc, error) {
	cmd := exec.Command(name, args...)
	cmd.Stderr = nil
	return &proc{cmd: cmd}, cmd.Start()
}

func (p *proc) stop() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// freePort asks the kernel for a port below the ephemeral range, so that no
// outgoing connection takes it meanwhile.
func freePort() string {
	for {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		if ln, err := net.Listen("tcp", addr); err == nil {
			ln.Close()
			return addr
		}
	}
}

func waitFor(addr string) error {
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			c.Close()
			return nil
		}
	}
	return fmt.Errorf("nothing listens on %s", addr)
}

// certificate writes a self-signed certificate and its key to dir.
func certificate(dir string) (cert, key string, err error) {
	made, err := gateway.SelfSigned()
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		return "", "", err
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	if err = os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]}), 0o600); err == nil {
		err = os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	return cert, key, err
}

// The programs under test, each started afresh for each measurement of memory
// and once for the rest.
type contender struct {
	name  string
	start func() (*proc, error)
}

func contenders(dir, binary, backend string) ([]contender, error) {
	cert, key, err := certificate(dir)
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("nghttpx"); err != nil {
		return nil, fmt.Errorf("nghttpx is not installed; as root: apt-get install nghttp2-proxy")
	}
	run := func(f func(addr string) (*proc, error)) func() (*proc, error) {
		return func() (*proc, error) {
			addr := freePort()
			p, err := f(addr)
			if err != nil {
				return nil, err
			}
			p.addr = addr
			return p, waitFor(addr)
		}
	}
	log, err := os.Create(filepath.Join(dir, "wsgate.log"))
	if err != nil {
		return nil, err
	}
	return []contender{
		{"wsgate", run(func(addr string) (*proc, error) {
			cmd := exec.Command(binary, "run", "--listen", "https://"+addr, "--cert", cert, "--key", key, "--backend", "ws://"+backend, "--loops", "1")
			cmd.Stderr = log
			return &proc{cmd: cmd}, cmd.Start()
		})},
		{"nghttpx", run(func(addr string) (*proc, error) {
			host, port, _ := net.SplitHostPort(addr)
			bhost, bport, _ := net.SplitHostPort(backend)
			return start("nghttpx", "--conf=/dev/null", "--frontend="+host+","+port, "--backend="+bhost+","+bport,
				"--workers=1", "--no-ocsp", "--accesslog-file=/dev/null", "--errorlog-file=/dev/null", "--log-level=FATAL",
				"--frontend-http2-max-concurrent-streams=250", "--ecdh-curves=X25519", key, cert)
		})},
	}, nil
}

// measure runs the rounds and prints the table; it reports whether all targets are met.
func measure(binary string, rounds int, each time.Duration, only string) (bool, error) {
	dir, err := os.MkdirTemp("", "wsgate-perf")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	if binary == "" {
		return false, fmt.Errorf("say which program with -wsgate")
	}
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	addr := freePort()
	be, err := start(self, "backend", addr)
	if err != nil {
		return false, err
	}
	defer be.stop()
	if err := waitFor(addr); err != nil {
		return false, err
	}
	all, err := contenders(dir, binary, addr)
	if err != nil {
		return false, err
	}
	figures := map[string]map[string][]float64{}
	for n := range rounds {
		for _, r := range rows() {
			if !strings.Contains(r.name, only) {
				continue
			}
			// One right after the other: a slow spell of the machine meets both.
			for _, i := range rand.Perm(len(all)) {
				v, err := one(all[i], r, each)
				if err != nil {
					return false, fmt.Errorf("%s: %s: %w", all[i].name, r.name, err)
				}
				if figures[r.name] == nil {
					figures[r.name] = map[string][]float64{}
				}
				figures[r.name][all[i].name] = append(figures[r.name][all[i].name], v)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", n+1, rounds)
	}
	return report(figures, rounds), nil
}

// one measures one row with one contender, started afresh.
func one(c contender, r row, each time.Duration) (float64, error) {
	p, err := c.start()
	if err != nil {
		return 0, err
	}
	defer p.stop()
	return r.run(&load.Target{
		Addr: p.addr, Path: "/", HTTP: 2, PID: p.cmd.Process.Pid,
		// The same key exchange for all: Go's default group is dearer than OpenSSL's.
		TLS: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, CurvePreferences: []tls.CurveID{tls.X25519}},
	}, each)
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if len(v) == 0 {
		return 0
	}
	return v[len(v)/2]
}

// quotients compares round by round.
func quotients(a, b []float64) []float64 {
	q := make([]float64, len(a))
	for i := range a {
		q[i] = a[i] / b[i]
	}
	return q
}

func report(figures map[string]map[string][]float64, rounds int) bool {
	fmt.Printf("medians of %d rounds (min-max); processor time of the gateway process per message or tunnel, memory as PSS growth;\nratio: median of the ratios of each round\n\n", rounds)
	fmt.Printf("%-22s %-22s %-22s %-7s %-8s %s\n", "work", "wsgate", "nghttpx", "ratio", "target", "")
	met := true
	for _, r := range rows() {
		f := figures[r.name]
		if f == nil {
			continue
		}
		us, ratio := median(f["wsgate"]), median(quotients(f["wsgate"], f["nghttpx"]))
		target, good := fmt.Sprintf("<= %.2f", r.ratio), ratio <= r.ratio
		if r.limit > 0 {
			target, good = fmt.Sprintf("<= %.1f %s", r.limit, r.unit), us <= r.limit
		}
		word := "met"
		if !good {
			word, met = "MISSED", false
		}
		fmt.Printf("%-22s %-22s %-22s %-7.2f %-8s %s\n", r.name, spread(f["wsgate"], r.unit), spread(f["nghttpx"], r.unit), ratio, target, word)
	}
	return met
}

func spread(v []float64, unit string) string {
	return fmt.Sprintf("%.2f %s (%.2f-%.2f)", median(v), unit, slices.Min(v), slices.Max(v))
}
