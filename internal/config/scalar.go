package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Duration is a time such as 30s, 5m, 1h30m or 7d; 0 means off.
type Duration time.Duration

// Of returns the time.
func (d Duration) Of() time.Duration { return time.Duration(d) }

func (d Duration) String() string {
	t := time.Duration(d)
	if t == 0 {
		return "0"
	}
	s := t.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ParseDuration reads a Duration. It is never negative.
func ParseDuration(s string) (Duration, error) {
	if s == "0" || s == "off" {
		return 0, nil
	}
	bad := fmt.Errorf("%q is no time; say for example 30s, 5m, 1h30m or 7d, or 0 for off", s)
	rest, days := s, time.Duration(0)
	if n, after, ok := strings.Cut(s, "d"); ok {
		v, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return 0, bad
		}
		rest, days = after, time.Duration(v)*24*time.Hour
	}
	if rest == "" && days > 0 {
		return Duration(days), nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || d < 0 || d > 100*365*24*time.Hour || strings.ContainsAny(s, "+- ") {
		return 0, bad
	}
	return Duration(days + d), nil
}

// Size is a number of octets such as 65536, 64KiB, 16MiB or 1GiB.
type Size int64

var units = []struct {
	name string
	n    int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

func (s Size) String() string {
	for _, u := range units {
		if n := int64(s); n >= u.n && n%u.n == 0 && u.n > 1 {
			return strconv.FormatInt(n/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// ParseSize reads a Size. It is never negative.
func ParseSize(s string) (Size, error) {
	num, unit := s, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			num, unit = n, u.n
			break
		}
	}
	n, err := strconv.ParseUint(num, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%q is no size; say for example 64KiB or 1GiB", s)
	}
	return Size(int64(n) * unit), nil
}

// Secret is a value that no log and no output shows.
type Secret string

// String hides it.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString hides it, too.
func (s Secret) GoString() string { return s.String() }
