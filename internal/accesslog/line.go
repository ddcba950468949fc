package accesslog

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/netip"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// line is a line of a tunnel in the making: octet for octet what slog's
// handlers would write, at a quarter of their price. A gateway that opens and
// closes tunnels all the time spends more on its log than on its parsers.
type line struct {
	b    []byte
	json bool

	stamp  []byte // the time of the line before, as text
	second int64  // of it
}

func (l *line) begin(at time.Time, level slog.Level, message string) {
	l.b = l.b[:0]
	if l.json {
		l.b = append(l.b, `{"time":"`...)
		l.b = at.AppendFormat(l.b, time.RFC3339Nano)
		l.b = append(l.b, '"')
	} else {
		l.b = append(l.b, "time="...)
		l.b = append(l.b, l.text(at)...)
	}
	l.str("level", level.String())
	l.str("msg", message)
}

// text is the time in a line of text. Many lines have a second in common.
func (l *line) text(at time.Time) []byte {
	const layout = "2006-01-02T15:04:05.000Z07:00"
	if s := at.Unix(); s != l.second || l.stamp == nil {
		l.second = s
		l.stamp = at.AppendFormat(l.stamp[:0], layout)
		return l.stamp
	}
	const point = len("2006-01-02T15:04:05.")
	ms := at.Nanosecond() / 1e6
	l.stamp[point], l.stamp[point+1], l.stamp[point+2] = byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10)
	return l.stamp
}

func (l *line) end() []byte {
	if l.json {
		l.b = append(l.b, '}')
	}
	l.b = append(l.b, '\n')
	return l.b
}

func (l *line) key(name string) {
	if l.json {
		l.b = append(l.b, `,"`...)
		l.b = append(l.b, name...)
		l.b = append(l.b, `":`...)
		return
	}
	l.b = append(l.b, ' ')
	l.b = append(l.b, name...)
	l.b = append(l.b, '=')
}

func (l *line) str(name, v string) {
	l.key(name)
	switch {
	case !l.json && bare(v):
		l.b = append(l.b, v...)
	case !l.json:
		l.b = strconv.AppendQuote(l.b, v)
	case safe(v):
		l.b = append(l.b, '"')
		l.b = append(l.b, v...)
		l.b = append(l.b, '"')
	default:
		l.b = appendJSON(l.b, v)
	}
}

func (l *line) addr(name string, v netip.AddrPort) {
	if !v.IsValid() || v.Addr().Zone() != "" { // a zone may hold anything
		l.str(name, v.String())
		return
	}
	l.key(name)
	if l.json {
		l.b = append(l.b, '"')
	}
	l.b = v.AppendTo(l.b)
	if l.json {
		l.b = append(l.b, '"')
	}
}

func (l *line) integer(name string, v int) {
	l.key(name)
	l.b = strconv.AppendInt(l.b, int64(v), 10)
}

func (l *line) count(name string, v uint64) {
	l.key(name)
	l.b = strconv.AppendUint(l.b, v, 10)
}

// float takes 0 and what is between 1e-6 and 1e21, as spans of time are.
func (l *line) float(name string, v float64) {
	l.key(name)
	format := byte('g')
	if l.json {
		format = 'f'
	}
	l.b = strconv.AppendFloat(l.b, v, format, -1, 64)
}

func (l *line) boolean(name string, v bool) {
	l.key(name)
	l.b = strconv.AppendBool(l.b, v)
}

// bare reports whether v needs no quotes in a line of text.
func bare(v string) bool {
	for _, r := range v {
		switch {
		case r <= ' ' || r == '"' || r == '=':
			return false
		case r < utf8.RuneSelf:
		case r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r):
			return false
		}
	}
	return v != ""
}

// safe reports whether v needs no escapes in JSON.
func safe(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// appendJSON appends v as a JSON string.
func appendJSON(b []byte, v string) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // a string
	}
	return append(b, bytes.TrimSuffix(out.Bytes(), []byte{'\n'})...)
}
