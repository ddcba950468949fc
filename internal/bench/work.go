package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"wsgate/internal/load"
)

// figures are what one measurement yields, by name: "us", "p99".
type figures map[string]float64

// work is one row: something that is measured with each contender.
type work struct {
	key, name string
	only      []string // contenders it is measured with; nil: all that can
	tunnels2  bool     // it needs WebSocket over HTTP/2
	tunnels3  bool     // over HTTP/3
	once      bool     // one round is enough
	memory    bool     // it says nothing about the number of workers
	seconds   float64  // how long is measured, in units of the suite's time
	args      string   // of wsload, for people
	run       func(m *measurement) (figures, error)
	checks    []check
}

// check is what is asked of a figure of wsgate's.
type check struct {
	figure, unit, what string
	against            string  // best: the better one of haproxy and nghttpx; a contender's name; "": nobody
	limit              float64 // of the ratio, or of the figure itself; 0: nothing is asked
}

const best = "best peer"

// measurement is one contender at one work.
type measurement struct {
	lab    *lab
	target *running
	args   string        // of the work
	d      time.Duration // how long to measure
}

// load runs wsload at the target and returns what it reports. Anything lost or
// refused is an error: its figures would not be those of the others.
func (m *measurement) load(args string) (*load.Report, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(m.lab.ctx, m.lab.wsload, m.argv(args)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	r := new(load.Report)
	if e := json.Unmarshal(out.Bytes(), r); e != nil {
		return nil, fmt.Errorf("wsload %s: %s", args, strings.TrimSpace(errs.String()))
	}
	if err != nil {
		return nil, fmt.Errorf("wsload %s: %d refused, %d errors: %s", args, r.Refused, r.Errors, strings.TrimSpace(errs.String()))
	}
	return r, nil
}

// argv completes the arguments of wsload. "plain" before them is for the cleartext
// listener, "straight" for the backend, past the gateway.
func (m *measurement) argv(args string) []string {
	url := "wss://" + m.target.tls + "/"
	rest, plain := strings.CutPrefix(args, "plain ")
	if plain {
		url = "ws://" + m.target.plain + "/"
	}
	rest, straight := strings.CutPrefix(rest, "straight ")
	if straight {
		url = "ws://" + m.lab.backendAddr + "/"
	}
	return append(strings.Fields(rest), "--url", url, "--insecure", "--tls-group", "X25519", "--pid", strconv.Itoa(m.target.pid()), "--format", "json")
}

// background starts wsload beside what is measured.
func (m *measurement) background(args string) (*process, error) {
	return start(nil, nil, m.lab.wsload, m.argv(args)...)
}

// leftover starts wsload beside what is measured, on what processor time others
// leave (SCHED_IDLE): the lowest nice value still keeps them waiting for a slice.
func (m *measurement) leftover(args string) (*process, error) {
	return start(nil, nil, "chrt", append([]string{"--idle", "0", m.lab.wsload}, m.argv(args)...)...)
}

// seconds is a flag's value.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s" }

var errNoFigure = errors.New("the report has no such figure")

// single is a work that is one run of wsload.
func single(w work, name string, figure func(*load.Report) *float64) work {
	if w.seconds == 0 {
		w.seconds = 1
	}
	w.run = func(m *measurement) (figures, error) {
		args := m.args
		if !strings.Contains(args, "idle") {
			args += " --for " + seconds(m.d)
		}
		r, err := m.load(args)
		if err != nil {
			return nil, err
		}
		v := figure(r)
		if v == nil {
			return nil, errNoFigure
		}
		f := figures{name: *v}
		for name, q := range map[string]*float64{"p50": r.P50, "p99": r.P99, "p999": r.P999} {
			if q != nil {
				f[name] = *q
			}
		}
		return f, nil
	}
	return w
}

func usPerMessage(r *load.Report) *float64 { return r.USPerMessage }
func usPerTunnel(r *load.Report) *float64  { return r.USPerTunnel }
func sPerGiB(r *load.Report) *float64      { return r.SPerGiB }
func kibPerTunnel(r *load.Report) *float64 { return r.KiBPerTunnel }

func shape(conns, tunnels int) string { return fmt.Sprintf("%dx%d", conns, tunnels) }

// echo is messages in a closed loop.
func echo(size, conns, tunnels int, checks ...check) work {
	octets := map[int]string{64: "64 B", 1024: "1 KiB"}[size]
	return single(work{
		key: fmt.Sprintf("echo%d-%s", size, shape(conns, tunnels)), name: fmt.Sprintf("echo %s, %s", octets, shape(conns, tunnels)),
		tunnels2: true, checks: checks,
		args: fmt.Sprintf("echo --http 2 --conns %d --tunnels %d --size %d", conns, tunnels, size),
	}, "us", usPerMessage)
}

// echo1 is the same over HTTP/1.1, plain or with TLS.
func echo1(plain string, checks ...check) work {
	name := "TLS"
	if plain != "" {
		name = "plain"
	}
	return single(work{
		key: "echo-h1-" + name, name: "echo 64 B, h1 " + name + ", 500", checks: checks,
		args: plain + "echo --http 1 --conns 500 --tunnels 1 --size 64",
	}, "us", usPerMessage)
}

// settled lets what only a young process does be over before it is measured: a QUIC
// connection looks for its path MTU (RFC 9000 section 14.3), a Go program grows its
// heap.
const settled = " --warm-up 2s"

// echo3 is the same over HTTP/3.
func echo3(conns, tunnels int, checks ...check) work {
	return single(work{
		key: "echo-h3-" + shape(conns, tunnels), name: "echo 64 B, h3, " + shape(conns, tunnels), tunnels3: true, seconds: 2, checks: checks,
		args: fmt.Sprintf("echo --http 3 --conns %d --tunnels %d --size 64", conns, tunnels) + settled,
	}, "us", usPerMessage)
}

// rated is messages in an open loop.
func rated(checks ...check) work {
	return single(work{
		key: "rate", name: "echo at 8000 msg/s, 50x10", tunnels2: true, seconds: 3, checks: checks,
		args: "echo --http 2 --conns 50 --tunnels 10 --size 64 --rate 8000",
	}, "us", usPerMessage)
}

func openClose(checks ...check) work {
	return single(work{
		key: "open", name: "open + close, h2", tunnels2: true, seconds: 2, checks: checks,
		args: "open --http 2 --conns 10 --tunnels 5" + settled,
	}, "us", usPerTunnel)
}

func openClose3(checks ...check) work {
	return single(work{
		key: "open-h3", name: "open + close, h3", tunnels3: true, seconds: 2, checks: checks,
		args: "open --http 3 --conns 10 --tunnels 5" + settled,
	}, "us", usPerTunnel)
}

func openClose1(checks ...check) work {
	return single(work{
		key: "open-h1", name: "open + close, h1 plain", seconds: 2, checks: checks,
		args: "plain open --http 1 --conns 50 --tunnels 1" + settled,
	}, "us", usPerTunnel)
}

func bulk(checks ...check) work {
	return single(work{
		key: "bulk", name: "bulk 64 KiB, h2", tunnels2: true, checks: checks,
		args: "bulk --http 2 --conns 4 --tunnels 4 --size 65536 --inflight 4",
	}, "s", sPerGiB)
}

func bulk1(checks ...check) work {
	return single(work{
		key: "bulk-h1", name: "bulk 64 KiB, h1 TLS", checks: checks,
		args: "bulk --http 1 --conns 16 --tunnels 1 --size 65536 --inflight 4",
	}, "s", sPerGiB)
}

// idle is memory. size is that of the one message on each tunnel before.
func idle(version, conns, tunnels, size int, checks ...check) work {
	kind, octets := shape(conns, tunnels), "64 B"
	switch version {
	case 1:
		kind = fmt.Sprintf("h1 TLS, %d", conns)
	case 3:
		kind = "h3, " + kind
	}
	if size == 16<<10 {
		octets = "16 KiB"
	}
	return single(work{
		key: fmt.Sprintf("idle%d-%s-%d", version, shape(conns, tunnels), size), name: fmt.Sprintf("idle tunnel, %s, after %s each", kind, octets),
		tunnels2: version == 2, tunnels3: version == 3, memory: true, checks: checks,
		args: fmt.Sprintf("idle --http %d --conns %d --tunnels %d --size %d --hold 3s", version, conns, tunnels, size),
	}, "kib", kibPerTunnel)
}

func get(checks ...check) work {
	return single(work{
		key: "get", name: "GET of 1 KiB over h2, 50x10", checks: checks,
		args: "get --http 2 --conns 50 --tunnels 10" + settled,
	}, "us", usPerMessage)
}

// storm is messages in an open loop during TLS handshakes, and without them. The
// clients of the handshakes give way to everything else: elsewhere they run on
// machines of their own. What the load has to bear by itself is measured as well:
// the same messages past the gateway, during the same handshakes.
func storm(checks ...check) work {
	const (
		messages = "--size 64 --rate 2000" + settled + " --for "
		through  = "echo --http 2 --conns 50 --tunnels 10 " + messages
		straight = "straight echo --http 1 --conns 500 --tunnels 1 " + messages
		shaking  = "handshakes --conns 64"
	)
	return work{
		key: "storm", name: "2000 msg/s, 50x10, during 64 parallel TLS handshakes", tunnels2: true, seconds: 3, checks: checks,
		args: through + "3s; chrt --idle 0 wsload " + shaking,
		run: func(m *measurement) (figures, error) {
			without, err := m.load(through + seconds(m.d))
			if err != nil {
				return nil, err
			}
			p, err := m.leftover(shaking + " --warm-up 0s --for 60s")
			if err != nil {
				return nil, err
			}
			defer p.stop()
			began := time.Now()
			during, err := m.load(through + seconds(m.d))
			if err != nil {
				return nil, err
			}
			past, err := m.load(straight + seconds(m.d))
			if err != nil {
				return nil, err
			}
			took := time.Since(began)
			shaken, err := p.interrupt()
			if err != nil {
				return nil, err
			}
			return figures{
				"p99": *during.P99, "p50": *during.P50, "p999": *during.P999, "without": *without.P99, "straight": *past.P99,
				"handshakes": float64(shaken.Messages) / took.Seconds(),
			}, nil
		},
	}
}

// growth is the same load with more and more idle tunnels beside it.
func growth(idle []int, checks ...check) work {
	const args = "echo --http 2 --conns 10 --tunnels 10 --size 64 --rate 8000"
	return work{
		key: "growth", name: "100 tunnels at 8000 msg/s beside idle ones", only: []string{"wsgate"}, tunnels2: true, seconds: 3, checks: checks,
		args: args + "; wsload idle",
		run: func(m *measurement) (figures, error) {
			f := figures{}
			for _, n := range idle {
				us, err := m.beside(n, args+" --for "+seconds(m.d))
				if err != nil {
					return nil, fmt.Errorf("beside %d idle tunnels: %w", n, err)
				}
				f[usBeside(n)] = us
				f["growth"] = max(f["growth"], us/f[usBeside(0)])
			}
			return f, nil
		},
	}
}

// usBeside is the name of a figure of growth.
func usBeside(n int) string { return "us" + strconv.Itoa(n) }

// beside measures a load while n more tunnels idle.
func (m *measurement) beside(n int, args string) (float64, error) {
	if n > 0 {
		p, err := m.background(fmt.Sprintf("idle --http 2 --conns %d --tunnels %d --hold 10m", (n+199)/200, min(n, 200)))
		if err != nil {
			return 0, err
		}
		defer p.stop()
		if _, err := p.hear("holding " + strconv.Itoa(n) + " tunnels"); err != nil {
			return 0, err
		}
	}
	r, err := m.load(args)
	if err != nil {
		return 0, err
	}
	return *r.USPerMessage, nil
}
