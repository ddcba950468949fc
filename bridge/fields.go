package bridge

import (
	"strings"

	"wsgate/internal/field"
)

// Field is one header field line in its sender's spelling.
type Field struct{ Name, Value string }

// Fields are header fields in their order. Names compare without regard to
// letter case (RFC 9110 section 5.1).
type Fields []Field

// Get returns the value of the first field of that name, "" if there is none.
func (f Fields) Get(name string) string {
	for i := range f {
		if field.Same(f[i].Name, name) {
			return f[i].Value
		}
	}
	return ""
}

// Count returns how many lines have that name.
func (f Fields) Count(name string) int {
	n := 0
	for i := range f {
		if field.Same(f[i].Name, name) {
			n++
		}
	}
	return n
}

// Values returns the values of all fields of that name in order.
func (f Fields) Values(name string) []string {
	var v []string
	for i := range f {
		if field.Same(f[i].Name, name) {
			v = append(v, f[i].Value)
		}
	}
	return v
}

// Without returns f without the fields of that name. It reuses f's memory.
func (f Fields) Without(name string) Fields {
	out := f[:0]
	for _, x := range f {
		if !field.Same(x.Name, name) {
			out = append(out, x)
		}
	}
	return out
}

// Tokens calls yield for each element of the comma-separated lists in all
// fields of that name (RFC 9110 section 5.6.1), white space trimmed, empty
// elements left out, until yield returns false.
func (f Fields) Tokens(name string, yield func(string) bool) {
	for i := range f {
		if !field.Same(f[i].Name, name) {
			continue
		}
		for rest := f[i].Value; rest != ""; {
			var item string
			item, rest, _ = strings.Cut(rest, ",")
			if item = field.Trim(item); item != "" && !yield(item) {
				return
			}
		}
	}
}

// HasToken reports whether one of the lists in the fields of that name holds
// the token, without regard to letter case.
func (f Fields) HasToken(name, token string) bool {
	found := false
	f.Tokens(name, func(t string) bool {
		found = field.Same(t, token)
		return !found
	})
	return found
}
