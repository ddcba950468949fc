package accesslog

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"
)

// TestLine: a tunnel's line is what slog's handler makes of the same attributes.
func TestLine(t *testing.T) {
	at := time.Date(2026, 11, 26, 3, 4, 5, 678901234, time.FixedZone("", 3600))
	texts := []string{
		"", "/chat", "with space", "a=b", `quo"te`, `back\slash`, "tab\t", "nul\x00", "del\x7f", "<&>", "é", "\u2028",
		"bad\xff", "\u00a0", "\u200b", "日本", "\u0085", "\ufffd", "\x1b[31m",
	}
	floats := []float64{0, 0.307, 1, 1e-6, 12345678, 1e20}
	for _, json := range []bool{false, true} {
		for _, text := range texts {
			for _, f := range floats {
				var want bytes.Buffer
				var h slog.Handler = slog.NewTextHandler(&want, nil)
				if json {
					h = slog.NewJSONHandler(&want, nil)
				}
				r := slog.NewRecord(at, slog.LevelInfo, "tunnel end", 0)
				r.AddAttrs(slog.String("text", text), slog.Float64("float", f), slog.Int("int", -7), slog.Uint64("count", 1<<63), slog.Bool("bool", true))
				if err := h.Handle(context.Background(), r); err != nil {
					t.Fatal(err)
				}
				l := line{json: json}
				l.begin(at, slog.LevelInfo, "tunnel end")
				l.str("text", text)
				l.float("float", f)
				l.integer("int", -7)
				l.count("count", 1<<63)
				l.boolean("bool", true)
				if got := string(l.end()); got != want.String() {
					t.Errorf("json %v, text %q, float %g:\ngot  %swant %s", json, text, f, got, &want)
				}
			}
		}
	}
}

// TestLineAddr: an address is the text of its own.
func TestLineAddr(t *testing.T) {
	for _, at := range []netip.AddrPort{
		{},
		netip.MustParseAddrPort("192.0.2.7:8080"), netip.MustParseAddrPort("[2001:db8::1]:443"),
		netip.AddrPortFrom(netip.MustParseAddr("fe80::1%a=\" b"), 1), netip.AddrPortFrom(netip.MustParseAddr("::ffff:192.0.2.7"), 65535),
	} {
		for _, json := range []bool{false, true} {
			got, want := line{json: json}, line{json: json}
			got.addr("client", at)
			want.str("client", at.String())
			if string(got.b) != string(want.b) {
				t.Errorf("json %v: got %s, want %s", json, got.b, want.b)
			}
		}
	}
}

// TestLineTimes: the time is slog's from line to line, forward and back.
func TestLineTimes(t *testing.T) {
	var l line
	at := time.Date(2026, 12, 31, 23, 59, 58, 0, time.FixedZone("", -3600))
	for _, step := range []time.Duration{0, 7, 93, 900, -1, 999, 12000, -12000, 3600000} {
		at = at.Add(step*time.Millisecond + 999*time.Microsecond)
		var want bytes.Buffer
		if err := slog.NewTextHandler(&want, nil).Handle(context.Background(), slog.NewRecord(at, slog.LevelInfo, "x", 0)); err != nil {
			t.Fatal(err)
		}
		l.begin(at, slog.LevelInfo, "x")
		if got := string(l.end()); got != want.String() {
			t.Errorf("got %q, want %q", got, &want)
		}
	}
}

// BenchmarkTunnelLines is the price of a tunnel's two lines.
func BenchmarkTunnelLines(b *testing.B) {
	l := &Log{}
	e := [2]event{{at: time.Now(), message: opened, tunnel: sample}, {at: time.Now(), message: ended, tunnel: sample, end: sampleEnd}}
	b.ReportAllocs()
	for b.Loop() {
		for i := range e {
			l.tunnel(&e[i])
			l.line.end()
		}
	}
}
