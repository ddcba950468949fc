package load

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// Kind is what a run was, which decides what its figures are per.
type Kind string

// The kinds of runs.
const (
	KindEcho       Kind = "echo"
	KindBulk       Kind = "bulk"
	KindOpen       Kind = "open"
	KindIdle       Kind = "idle"
	KindGet        Kind = "get"
	KindHandshakes Kind = "handshakes"
)

// Report is a result as programs read it. A figure that the run does not have is
// null: those of the target without a process id, say.
type Report struct {
	Opened          int64    `json:"opened"`
	Refused         int64    `json:"refused"`
	Errors          int64    `json:"errors"` // lost and silent tunnels, and messages that did not come back right
	Messages        int64    `json:"messages"`
	USPerMessage    *float64 `json:"us_per_message"`     // CPU of the target
	GenUSPerMessage *float64 `json:"gen_us_per_message"` // CPU of the generator
	SPerGiB         *float64 `json:"s_per_gib"`          // CPU of the target for each GiB that came back
	USPerTunnel     *float64 `json:"us_per_tunnel"`      // CPU of the target to open and close one
	KiBPerTunnel    *float64 `json:"kib_per_tunnel"`     // memory of the target
	P50             *float64 `json:"p50"`                // of the latency, in milliseconds
	P99             *float64 `json:"p99"`
	P999            *float64 `json:"p999"`
}

// Report returns the figures that a run of that kind has.
func (r *Result) Report(kind Kind) *Report {
	p := &Report{Opened: r.Opened, Refused: r.Refused, Errors: r.Errors, Messages: r.Messages}
	for at, q := range map[**float64]float64{&p.P50: 50, &p.P99: 99, &p.P999: 99.9} {
		if v, ok := r.Latency(q); ok {
			*at = &v
		}
	}
	over := func(d time.Duration, n float64, unit time.Duration) *float64 {
		if n <= 0 {
			return nil
		}
		v := float64(d) / float64(unit) / n
		return &v
	}
	n := float64(r.Messages)
	if kind == KindIdle {
		if r.Measured && r.Opened > 0 {
			v := float64(r.Grown) / 1024 / float64(r.Opened)
			p.KiBPerTunnel = &v
		}
		return p
	}
	p.GenUSPerMessage = over(r.GenCPU, n, time.Microsecond)
	switch {
	case !r.Measured:
	case kind == KindOpen || kind == KindHandshakes:
		p.USPerTunnel = over(r.CPU, n, time.Microsecond)
	default:
		p.USPerMessage = over(r.CPU, n, time.Microsecond)
		if kind == KindBulk {
			p.SPerGiB = over(r.CPU, float64(r.Octets)/(1<<30), time.Second)
		}
	}
	return p
}

// WriteJSON writes the report as one line of JSON.
func (r *Result) WriteJSON(w io.Writer, kind Kind) error {
	return json.NewEncoder(w).Encode(r.Report(kind))
}

// WriteText writes the result for people.
func (r *Result) WriteText(w io.Writer, kind Kind) {
	p, seconds := r.Report(kind), max(r.Elapsed.Seconds(), 1e-9)
	unit := map[Kind]string{KindOpen: "lives", KindGet: "requests", KindHandshakes: "handshakes"}[kind]
	if unit == "" {
		unit = "messages"
	}
	fmt.Fprintf(w, "tunnels    %d opened, %d refused; %d errors, %d silent\n", r.Opened, r.Refused, r.Errors, r.Silent)
	if kind == KindIdle {
		fmt.Fprintf(w, "%-10s %d came back; held for %.1f s\n", unit, r.Messages, seconds)
	} else {
		fmt.Fprintf(w, "%-10s %d in %.2f s, %.0f/s\n", unit, r.Messages, seconds, float64(r.Messages)/seconds)
	}
	if _, ok := r.Latency(50); ok {
		fmt.Fprint(w, "latency   ")
		for _, q := range []struct {
			name string
			q    float64
		}{{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p99.9", 99.9}, {"max", 100}} {
			v, _ := r.Latency(q.q)
			fmt.Fprintf(w, " %s %.3f ms ", q.name, v)
		}
		fmt.Fprintln(w)
	}
	figure := func(name string, v *float64, format string) {
		if v != nil {
			fmt.Fprintf(w, "%-10s "+format+"\n", name, *v)
		}
	}
	figure("target", p.USPerMessage, "%.2f µs of CPU for each of them")
	figure("target", p.USPerTunnel, "%.2f µs of CPU for each of them")
	if kind == KindBulk {
		figure("target", p.SPerGiB, "%.3f s of CPU for each GiB that came back")
		fmt.Fprintf(w, "%-10s %.1f MiB/s each way\n", "octets", float64(r.Octets)/(1<<20)/seconds)
	}
	figure("target", p.KiBPerTunnel, "%.2f KiB of memory (PSS) for each tunnel")
	if r.Measured && r.Memory > 0 {
		fmt.Fprintf(w, "%-10s %.1f MiB of memory (PSS) in all\n", "target", float64(r.Memory)/(1<<20))
	}
	if kind == KindIdle && r.Measured {
		fmt.Fprintf(w, "%-10s %.2f ms of CPU each second while idle\n", "target", float64(r.CPU)/float64(time.Millisecond)/seconds)
	}
	figure("generator", p.GenUSPerMessage, "%.2f µs of CPU for each of them")
	for _, t := range r.Trouble {
		fmt.Fprintln(w, "  "+t)
	}
}
