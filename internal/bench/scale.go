package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"wsgate/internal/load"
)

// scaleOptions say how many tunnels, for how long.
type scaleOptions struct {
	tunnels int
	hold    time.Duration
}

// perConn is the tunnels of a connection, wsgate's default for the most.
const perConn = 200

// scale holds as many idle tunnels through one wsgate as descriptors allow, and
// says what they cost. It reports whether each of them answered at the end.
func scale(ctx context.Context, bin string, o scaleOptions) (bool, error) {
	limit, err := raiseLimit()
	if err != nil {
		return false, err
	}
	n := o.tunnels
	if n == 0 {
		n = limit / 10 * 9
	}
	n -= n % perConn
	if n == 0 {
		return false, fmt.Errorf("a limit of %d descriptors leaves no room for tunnels", limit)
	}
	l, err := newLab(ctx, bin)
	if err != nil {
		return false, err
	}
	defer l.close()
	fmt.Printf("%s\n%s\nlimit on descriptors: %d, soft and hard; %d tunnels, %d on a connection, from addresses in 127.0.0.0/8\n",
		machine(), l.contenders()[0].version, limit, n, perConn)
	c := &contender{name: "wsgate", program: l.wsgate, one: wsgateArgs("--ping-interval", "30s")}
	target, err := l.run(c, columnOne)
	if err != nil {
		return false, err
	}
	defer target.stop()
	return hold(&measurement{lab: l, target: target}, n, o.hold)
}

// hold opens the tunnels, and reads the meters while they idle.
func hold(m *measurement, n int, d time.Duration) (bool, error) {
	// One life, so that what the first brings along is not counted.
	if _, err := m.load("idle --http 2 --conns 1 --tunnels 1 --hold 1s"); err != nil {
		return false, err
	}
	pid := m.target.pid()
	before, err := readMemory(pid)
	if err != nil {
		return false, err
	}
	p, err := m.background(fmt.Sprintf("idle --http 2 --conns %d --tunnels %d --from 127.0.0.0/8 --hold %s", n/perConn, perConn, seconds(d)))
	if err != nil {
		return false, err
	}
	defer p.stop()
	line, err := p.hear("holding")
	if err != nil {
		return false, err
	}
	_, opened, _ := strings.Cut(line, "opened in ")
	var took float64
	if _, err := fmt.Sscanf(opened, "%f s", &took); err != nil {
		return false, fmt.Errorf("wsload says %q", line)
	}
	fmt.Printf("opened           %.1f s, %.0f tunnels/s\n", took, float64(n)/took)
	time.Sleep(5 * time.Second) // what was needed to open them is given back
	after, err := readMemory(pid)
	if err != nil {
		return false, err
	}
	fmt.Printf("user memory      %.2f KiB a tunnel (PSS of the gateway, %.1f MiB in all)\n", float64(after.user-before.user)/1024/float64(n), float64(after.user)/(1<<20))
	fmt.Printf("kernel memory    %.2f KiB a tunnel (Slab, PageTables and KernelStack of the machine: both ends of the backend's connection, and all processes)\n", float64(after.kernel-before.kernel)/1024/float64(n))
	return idling(m, p, n, d-10*time.Second)
}

// idling reads the processor time of the hold, then waits for the last echoes.
func idling(m *measurement, p *process, n int, d time.Duration) (bool, error) {
	from, err := load.CPU(m.target.pid())
	if err != nil {
		return false, err
	}
	began := time.Now()
	select {
	case <-time.After(d):
	case <-m.lab.ctx.Done():
		return false, m.lab.ctx.Err()
	}
	to, err := load.CPU(m.target.pid())
	if err != nil {
		return false, err
	}
	took := time.Since(began).Seconds()
	fmt.Printf("CPU while idle   %.2f ms a second with a Ping each way every 30 s (%.0f s; %.1f µs for each Ping and its Pong)\n",
		float64((to-from).Microseconds())/1000/took, took, float64((to-from).Microseconds())/took/(2*float64(n)/30))
	report, err := p.report()
	if err != nil {
		return false, err
	}
	ok := report.Opened == int64(n) && report.Refused+report.Errors == 0 && report.Messages == int64(2*n)
	fmt.Printf("last echo        %d opened, %d refused, %d errors; %d of %d messages came back\n", report.Opened, report.Refused, report.Errors, report.Messages, 2*n)
	return ok, nil
}

// report waits for the end of a wsload and returns what it prints.
func (p *process) report() (*load.Report, error) {
	b, err := io.ReadAll(p.out)
	if err != nil {
		return nil, err
	}
	r := new(load.Report)
	return r, json.Unmarshal(b, r)
}

// raiseLimit raises the soft limit on descriptors to the hard one.
func raiseLimit() (int, error) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit on descriptors: %w", err)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 0, fmt.Errorf("limit on descriptors: %w", err)
	}
	return int(l.Max), nil
}

// memory is octets of a process, and of the kernel in all.
type memory struct{ user, kernel int64 }

func readMemory(pid int) (m memory, err error) {
	if m.user, err = load.PSS(pid); err != nil {
		return m, err
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, err
	}
	for line := range strings.Lines(string(b)) {
		var name string
		var kib int64
		if n, _ := fmt.Sscan(line, &name, &kib); n == 2 && (name == "Slab:" || name == "PageTables:" || name == "KernelStack:") {
			m.kernel += kib << 10
		}
	}
	return m, nil
}
