package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// plot is horizontal bars in groups: a group is a work, a bar a contender.
type plot struct {
	file, title, unit string
	log               bool // scale
	groups            []group
}

type group struct {
	name string
	bars []bar
}

type bar struct {
	series string
	spread
}

// plots are the pictures of a comparison, without those there is nothing for.
func (s *suite) plots(r results) (out []plot) {
	for _, p := range []struct {
		plot
		figures []string // of the one work, or one of all works
		keys    []string // of the works; a trailing * stands for the rest
	}{
		{plot{file: "echo.svg", title: "CPU of the gateway for each echoed message", unit: "µs"}, []string{"us"}, []string{"echo64-*", "echo1024-*", "rate", "echo-h1-*", "echo-h3-*"}},
		{plot{file: "open.svg", title: "CPU of the gateway to open and close a tunnel, and for a GET", unit: "µs"}, []string{"us"}, []string{"open", "open-h1", "open-h3", "get"}},
		{plot{file: "bulk.svg", title: "CPU of the gateway for each GiB echoed in messages of 64 KiB", unit: "s"}, []string{"s"}, []string{"bulk", "bulk-h1"}},
		{plot{file: "memory.svg", title: "Memory of the gateway for each idle tunnel (PSS)", unit: "KiB", log: true}, []string{"kib"}, []string{"idle*"}},
		{plot{file: "latency.svg", title: "Latency at 8000 messages a second, 50x10, open loop", unit: "ms", log: true}, []string{"p50", "p99", "p999"}, []string{"rate"}},
		{plot{file: "growth.svg", title: "CPU for each message beside idle tunnels, wsgate", unit: "µs"}, nil, []string{"growth"}},
	} {
		for i := range s.works {
			w := &s.works[i]
			if !matches(w.key, p.keys) {
				continue
			}
			names := p.figures
			if names == nil {
				for _, c := range w.checks[1:] {
					names = append(names, c.figure)
				}
			}
			for _, f := range names {
				g := group{name: w.name}
				if len(names) > 1 {
					g.name = strings.NewReplacer("us", "beside ", "p999", "p99.9").Replace(f)
				}
				for _, c := range append([]string{"wsgate"}, s.peers...) {
					if v := spreadOf(r.of(w.key, c, columnOne, f)); v.n > 0 {
						g.bars = append(g.bars, bar{c, v})
					}
				}
				if len(g.bars) > 0 {
					p.groups = append(p.groups, g)
				}
			}
		}
		if len(p.groups) > 0 {
			out = append(out, p.plot)
		}
	}
	return out
}

func matches(key string, patterns []string) bool {
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(key, prefix) || p == key {
			return true
		}
	}
	return false
}

// style has colours that can be told apart in light and dark, and told from the
// ground by at least 3 to 1.
const style = `
.ground{fill:#ffffff}.text{fill:#1f2328}.faint{fill:#59636e}.grid{stroke:#d1d9e0}.whisker{stroke:#1f2328}
.wsgate{fill:#0969da}.haproxy{fill:#8250df}.nghttpx{fill:#1a7f37}.caddy{fill:#bc4c00}.nginx{fill:#7d8590}
@media (prefers-color-scheme:dark){
.ground{fill:#0d1117}.text{fill:#f0f6fc}.faint{fill:#9198a1}.grid{stroke:#3d444d}.whisker{stroke:#f0f6fc}
.wsgate{fill:#4493f8}.haproxy{fill:#ab7df8}.nghttpx{fill:#3fb950}.caddy{fill:#db6d28}.nginx{fill:#7d8590}
}`

const (
	plotWidth  = 900
	labelWidth = 290
	valueWidth = 90
	barHeight  = 13
	barGap     = 3
	groupGap   = 14
	headHeight = 62
)

// svg draws a plot.
func (p *plot) svg() string {
	most, least := 0.0, math.Inf(1)
	height := headHeight
	for _, g := range p.groups {
		height += len(g.bars)*(barHeight+barGap) + groupGap
		for _, b := range g.bars {
			most, least = max(most, b.max), min(least, b.min)
		}
	}
	height += 24
	low := 0.0
	if p.log {
		low = math.Pow(10, math.Floor(math.Log10(max(least, 1e-6))))
	}
	x := func(v float64) float64 {
		const span = plotWidth - labelWidth - valueWidth
		if p.log {
			return labelWidth + span*math.Log(max(v, low)/low)/math.Log(max(most, low*10)/low)
		}
		return labelWidth + span*v/most
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%[1]d" height="%[2]d" font-family="system-ui,sans-serif" font-size="12" role="img" aria-label="%s">`+"\n", plotWidth, height, html.EscapeString(p.title))
	fmt.Fprintf(&b, "<style>%s</style>\n<rect class=\"ground\" width=\"%d\" height=\"%d\"/>\n", style, plotWidth, height)
	title := p.title + " [" + p.unit + "], less is better"
	if p.log {
		title += "; logarithmic"
	}
	fmt.Fprintf(&b, "<text class=\"text\" x=\"14\" y=\"24\" font-size=\"15\" font-weight=\"600\">%s</text>\n", html.EscapeString(title))
	p.legend(&b)
	for _, t := range p.ticks(low, most) {
		fmt.Fprintf(&b, "<line class=\"grid\" x1=\"%.1f\" x2=\"%[1]f\" y1=\"%d\" y2=\"%d\"/><text class=\"faint\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>\n",
			x(t), headHeight-6, height-24, x(t), height-8, html.EscapeString(short(t)))
	}
	y := headHeight
	for _, g := range p.groups {
		n := len(g.bars) * (barHeight + barGap)
		fmt.Fprintf(&b, "<text class=\"text\" x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", labelWidth-10, y+n/2+2, html.EscapeString(g.name))
		for _, bar := range g.bars {
			mid := y + barHeight/2
			fmt.Fprintf(&b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>", bar.series, labelWidth, y, max(x(bar.median)-labelWidth, 1), barHeight)
			if bar.n > 1 {
				fmt.Fprintf(&b, "<line class=\"whisker\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%d\" y2=\"%[3]d\"/>", x(bar.min), x(bar.max), mid)
			}
			fmt.Fprintf(&b, "<text class=\"text\" x=\"%.1f\" y=\"%d\" font-size=\"11\">%s</text>\n", x(bar.max)+6, y+barHeight-2, number(bar.median))
			y += barHeight + barGap
		}
		y += groupGap
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// legend names the series that there are.
func (p *plot) legend(b *strings.Builder) {
	seen, x := make(map[string]bool), labelWidth
	for _, g := range p.groups {
		for _, bar := range g.bars {
			if seen[bar.series] {
				continue
			}
			seen[bar.series] = true
			fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"36\" width=\"12\" height=\"12\" rx=\"2\"/><text class=\"text\" x=\"%d\" y=\"46\">%[1]s</text>\n", bar.series, x, x+17)
			x += 36 + 8*len(bar.series)
		}
	}
}

// ticks are round values of the scale.
func (p *plot) ticks(low, most float64) (out []float64) {
	if p.log {
		for t := low; t <= most*1.0001; t *= 10 {
			out = append(out, t)
		}
		return out
	}
	step := math.Pow(10, math.Floor(math.Log10(most)))
	for _, f := range []float64{0.1, 0.2, 0.5, 1} {
		if most/(step*f) <= 6 {
			step *= f
			break
		}
	}
	for n := 0; float64(n)*step <= most; n++ {
		out = append(out, float64(n)*step)
	}
	return out
}

// short is a number without zeros that say nothing.
func short(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.4g", v), ".0") }
