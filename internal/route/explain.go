package route

import (
	"cmp"
	"slices"
	"strings"

	"wsgate/internal/config"
)

// Verdict says of one route whether it matches a request.
type Verdict struct {
	Index int
	// Failed is the condition that does not hold: "hosts", "path", "prefix",
	// "methods", "headers.NAME", "kind", "http" or "listeners"; "" if all hold.
	Failed string
	// Why says how specific the route is for this request.
	Why string

	listener, host, further int
	path                    []int
}

// Explain judges every route of the matches that New was given: those that match
// first, the most specific one, which Lookup returns, at their head; then those
// that fail, the nearest first. It looks at each route by itself and takes time
// in proportion to their number.
func Explain(routes []*config.Match, q *Request) []Verdict {
	host := strings.ToLower(hostOf(q.Authority))
	path, _, _ := strings.Cut(q.Target, "?")
	out := make([]Verdict, len(routes))
	for i, m := range routes {
		out[i] = judge(i, m, q, host, path)
	}
	slices.SortStableFunc(out, func(a, b Verdict) int {
		if c := cmp.Compare(stage(a.Failed), stage(b.Failed)); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(b.listener, a.listener), cmp.Compare(b.host, a.host), slices.Compare(b.path, a.path), cmp.Compare(b.further, a.further), cmp.Compare(a.Index, b.Index))
	})
	return out
}

// stage is how far a route came.
func stage(failed string) int {
	switch failed {
	case "":
		return 0
	case "listeners":
		return 4
	case "hosts":
		return 3
	case "path", "prefix":
		return 2
	}
	return 1
}

func judge(i int, m *config.Match, q *Request, host, path string) Verdict {
	v := Verdict{Index: i, further: rank(m)}
	var why []string
	if len(m.Listeners) > 0 {
		if !slices.Contains(m.Listeners, q.Listener) {
			v.Failed = "listeners"
			return v
		}
		v.listener = 1
		why = append(why, "its listener is named")
	}
	h, ok := hostRank(m.Hosts, host)
	v.host = h
	if !ok {
		v.Failed = "hosts"
		return v
	}
	switch {
	case h == 1<<20:
		why = append(why, "its host is named")
	case h > 0:
		why = append(why, "its host lies under a *. name")
	default:
		why = append(why, "it is for any host")
	}
	pattern, whole := m.Path, true
	if pattern == "" {
		pattern, whole = strings.TrimSuffix(m.Prefix, "/"), false
	}
	if v.path, ok = pathRank(pattern, whole, path); !ok {
		v.Failed = "prefix"
		if whole {
			v.Failed = "path"
		}
		return v
	}
	switch {
	case whole:
		why = append(why, "path "+m.Path+" is the whole path")
	case m.Prefix != "":
		why = append(why, "prefix "+m.Prefix+" begins it")
	default:
		why = append(why, "it is for any path")
	}
	if v.Failed = further(m, q); v.Failed != "" {
		return v
	}
	if v.further > 0 {
		why = append(why, "its further conditions hold")
	}
	v.Why = strings.Join(why, ", ")
	return v
}

// hostRank is 0 for any host, the length of the name behind "*.", or 1<<20 for
// the name itself.
func hostRank(hosts []string, host string) (int, bool) {
	if len(hosts) == 0 {
		return 0, true
	}
	best, ok := 0, false
	for _, h := range hosts {
		switch below, wild := strings.CutPrefix(h, "*."); {
		case !wild && h == host:
			return 1 << 20, true
		case wild && strings.HasSuffix(host, "."+below) && len(host) > len(below)+1:
			best, ok = max(best, len(below)), true
		}
	}
	return best, ok
}

// pathRank compares segment by segment: 3 for a written one, 2 for *, then 1 at
// the end for a whole path, 0 for a prefix.
func pathRank(pattern string, whole bool, path string) ([]int, bool) {
	var out []int
	for pattern != "" {
		if path == "" {
			return nil, false
		}
		var want, seg string
		want, pattern = cut(pattern)
		seg, path = cut(path)
		switch {
		case want == "*" && seg != "":
			out = append(out, 2)
		case want == seg:
			out = append(out, 3)
		default:
			return nil, false
		}
	}
	if !whole {
		return append(out, 0), true
	}
	return append(out, 1), path == ""
}
