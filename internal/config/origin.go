package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// origin is where the values of a Config were said.
type origin struct {
	file  string
	src   []byte
	root  ast.Node          // of src, while errors are likely
	flags map[string]string // by path without indices, for what flags say
}

// at makes an error at the place of a path, or of its nearest parent.
func (o *origin) at(path, format string, args ...any) *Error {
	e := &Error{Option: path, Message: fmt.Sprintf(format, args...)}
	if o == nil {
		return e
	}
	if flag, ok := o.flags[withoutIndices(path)]; ok {
		e.Option = flag
	}
	if o.file == "" {
		return e
	}
	e.File = o.file
	if path != "" {
		e.Message = path + ": " + e.Message
	}
	root := o.root
	if root == nil { // it was good when it was read; now something that it names is not
		d := decoder{o: o}
		root = d.parse(o.src)
	}
	if root != nil {
		f := finder{anchors: make(map[string]ast.Node)}
		o.mark(e, f.find(root, path))
	}
	return e
}

// mark puts an error at a token.
func (o *origin) mark(e *Error, t *token.Token) {
	if t == nil || t.Position == nil {
		return
	}
	e.Line, e.Column = t.Position.Line, t.Position.Column
	line := lineOf(o.src, e.Line)
	// A line that may hold a secret is not shown.
	if !strings.Contains(strings.ToLower(line), "secret") {
		e.Source = line
	}
}

// lineOf is the nth line, from 1.
func lineOf(src []byte, n int) string {
	for ; n > 1; n-- {
		i := bytes.IndexByte(src, '\n')
		if i < 0 {
			return ""
		}
		src = src[i+1:]
	}
	line, _, _ := bytes.Cut(src, []byte("\n"))
	return strings.TrimRight(string(line), "\r")
}

// tokenOf is where a node begins: a mapping with its first key.
func tokenOf(n ast.Node) *token.Token {
	switch m := n.(type) {
	case *ast.MappingNode:
		if !m.IsFlowStyle && len(m.Values) > 0 {
			return m.Values[0].Key.GetToken()
		}
	case *ast.MappingValueNode:
		return m.Key.GetToken()
	}
	return n.GetToken()
}

func withoutIndices(path string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(path, "[")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		_, path, _ = strings.Cut(after, "]")
	}
}

// finder goes down a path of keys.
type finder struct{ anchors map[string]ast.Node }

// find returns the token of the value at the path below n, or of the last node
// on the way that is there.
func (f *finder) find(n ast.Node, path string) *token.Token {
	at := tokenOf(n)
	for hops := 0; path != "" && hops < 4*maxDepth; hops++ {
		path = strings.TrimPrefix(path, ".")
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
			continue
		case *ast.AliasNode:
			return at // what stands elsewhere is named here
		case *ast.SequenceNode:
			var i int
			if k, err := fmt.Sscanf(path, "[%d]", &i); k != 1 || err != nil || i >= len(v.Values) {
				return at
			}
			_, path, _ = strings.Cut(path, "]")
			n = v.Values[i]
		default:
			key, value, rest := step(n, path)
			if key == nil {
				// One value may stand for a list of it.
				if strings.HasPrefix(path, "[0]") {
					path = path[len("[0]"):]
					continue
				}
				return at
			}
			at, path = key.GetToken(), rest
			if value == nil || value.Type() == ast.NullType {
				return at
			}
			n = value
		}
		at = tokenOf(n)
	}
	return at
}

// step finds the longest key of a mapping that the path begins with.
func step(n ast.Node, path string) (key ast.MapKeyNode, value ast.Node, rest string) {
	var all []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		all = m.Values
	case *ast.MappingValueNode:
		all = []*ast.MappingValueNode{m}
	}
	longest := -1
	for _, p := range all {
		k := keyOf(p)
		after, ok := strings.CutPrefix(path, k)
		if ok && len(k) > longest && (after == "" || after[0] == '.' || after[0] == '[') {
			longest, key, value, rest = len(k), p.Key, p.Value, after
		}
	}
	return key, value, rest
}
