package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// maxNodes bounds what a file may hold once its aliases are followed; maxDepth
// how deep it may be.
const (
	maxFile  = 32 << 20
	maxNodes = 2_000_000
	maxDepth = 100
)

// Load reads and checks a file. The error is of type Errors if it is the file
// that is wrong.
func Load(file string) (*Config, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, src)
}

// Text is what was read of the file, nil for a Config that is not from one. It
// must not be changed.
func (c *Config) Text() []byte {
	if c.origin == nil {
		return nil
	}
	return c.origin.src
}

// Parse checks the text of a file; name is for its errors, which are of type
// Errors.
func Parse(name string, src []byte) (c *Config, err error) {
	d := &decoder{o: &origin{file: name, src: src}, fields: make(map[reflect.Type][]field)}
	// The library has known panics on odd input; none of them may end a running
	// gateway that is asked to reload.
	defer func() {
		if v := recover(); v != nil {
			c, err = nil, Errors{{File: name, Message: fmt.Sprintf("is no YAML that can be read: %v", v)}}
		}
	}()
	c = Default()
	c.origin = d.o
	if len(src) > maxFile {
		return nil, Errors{{File: name, Message: "is larger than 32 MiB"}}
	}
	if node := d.parse(src); node != nil {
		d.o.root = node
		defer func() { d.o.root = nil }() // it is large, and seldom asked again
		d.decode(node, reflect.ValueOf(c).Elem(), nil, field{}, 0)
	}
	if len(d.errs) == 0 {
		d.errs = c.check()
	}
	if len(d.errs) > 0 {
		d.errs.sort()
		return nil, d.errs
	}
	return c, nil
}

// decoder turns nodes into values and gathers what is wrong with them.
type decoder struct {
	o       *origin
	errs    Errors
	anchors map[string]ast.Node
	fields  map[reflect.Type][]field // of structs met so far
	nodes   int
}

// fieldsOf is the function of that name, once for each type.
func (d *decoder) fieldsOf(t reflect.Type) []field {
	f, ok := d.fields[t]
	if !ok {
		f = fieldsOf(t)
		d.fields[t] = f
	}
	return f
}

func (d *decoder) fail(t *token.Token, format string, args ...any) {
	e := &Error{File: d.o.file, Message: fmt.Sprintf(format, args...)}
	d.o.mark(e, t)
	d.errs = append(d.errs, e)
}

// parse returns the body of the one document, nil if there is none.
func (d *decoder) parse(src []byte) ast.Node {
	f, err := parser.ParseBytes(src, 0)
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) {
			d.fail(y.GetToken(), "%s", y.GetMessage())
		} else {
			d.errs = append(d.errs, &Error{File: d.o.file, Message: err.Error()})
		}
		return nil
	}
	var body ast.Node
	for _, doc := range f.Docs {
		switch {
		case doc.Body == nil:
		case body != nil:
			d.fail(doc.Body.GetToken(), "a second document; the file has to be one")
			return nil
		default:
			body = doc.Body
		}
	}
	d.anchors = make(map[string]ast.Node)
	if body == nil || body.Type() == ast.NullType || body.Type() == ast.CommentType {
		d.errs = append(d.errs, &Error{File: d.o.file, Message: "says nothing; wsgate config init writes a file to begin with"})
		return nil
	}
	return body
}

// trail is a path of keys on the way down; a string is made of it for errors only.
type trail struct {
	up    *trail
	key   string
	index int // of a list, if key is ""
}

func (t *trail) String() string {
	switch {
	case t == nil:
		return ""
	case t.key == "":
		return t.up.String() + "[" + strconv.Itoa(t.index) + "]"
	case t.up == nil:
		return t.key
	}
	return t.up.String() + "." + t.key
}

// field is what the tags of a struct field say.
type field struct {
	name, doc, enum, min, max string
	required                  bool
	index                     int
}

// fieldsOf returns the fields of a struct that the file may name.
func fieldsOf(t reflect.Type) []field {
	var out []field
	for i := range t.NumField() {
		tag := t.Field(i).Tag
		if name := tag.Get("yaml"); name != "" {
			out = append(out, field{
				name: name, doc: tag.Get("doc"), enum: tag.Get("enum"), min: tag.Get("min"), max: tag.Get("max"),
				required: tag.Get("required") != "", index: i,
			})
		}
	}
	return out
}

// resolve follows anchors and aliases.
func (d *decoder) resolve(n ast.Node, depth int) (ast.Node, int) {
	for n != nil && depth <= maxDepth {
		depth++
		switch v := n.(type) {
		case *ast.AnchorNode:
			d.anchors[v.Name.GetToken().Value] = v.Value
			n = v.Value
		case *ast.AliasNode:
			name := v.Value.GetToken().Value
			to := d.anchors[name]
			if to == nil {
				d.fail(v.GetToken(), "unknown alias %q", name)
			}
			n = to
		case *ast.TagNode:
			n = v.Value
		default:
			return n, depth
		}
	}
	return n, depth
}

// decode puts a node into v, which is settable.
func (d *decoder) decode(n ast.Node, v reflect.Value, path *trail, f field, depth int) {
	n, depth = d.resolve(n, depth)
	if n == nil {
		return
	}
	if d.nodes++; d.nodes > maxNodes || depth > maxDepth {
		if d.nodes != maxNodes+2 {
			d.nodes = maxNodes + 1
			d.fail(tokenOf(n), "the file holds too much, or too deep, once its aliases are followed")
		}
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		d.pointer(n, v, path, f, depth)
	case reflect.Struct:
		d.structure(n, v, path, depth)
	case reflect.Slice:
		d.list(n, v, path, f, depth)
	case reflect.Map:
		d.mapping(n, v, path, f, depth)
	default:
		d.scalar(n, v, path, f)
	}
}

// pointer makes what v points to; a struct may be named by a short form.
func (d *decoder) pointer(n ast.Node, v reflect.Value, path *trail, f field, depth int) {
	made := reflect.New(v.Type().Elem())
	setDefaults(made)
	if _, ok := made.Interface().(*ListenerTLS); ok {
		if b, ok := n.(*ast.BoolNode); ok { // tls: true
			if b.Value {
				v.Set(made)
			}
			return
		}
	}
	d.decode(n, made.Elem(), path, f, depth)
	v.Set(made)
}

func setDefaults(v reflect.Value) {
	if s, ok := v.Interface().(interface{ setDefaults() }); ok {
		s.setDefaults()
	}
}

// pairs returns the entries of a mapping, those merged in by << last.
func (d *decoder) pairs(n ast.Node, depth int) ([]*ast.MappingValueNode, bool) {
	var all []*ast.MappingValueNode
	switch m := n.(type) {
	case *ast.MappingNode:
		all = m.Values
	case *ast.MappingValueNode:
		all = []*ast.MappingValueNode{m}
	default:
		return nil, false
	}
	var own, merged []*ast.MappingValueNode
	for _, p := range all {
		if !p.Key.IsMergeKey() {
			own = append(own, p)
			continue
		}
		if depth > maxDepth {
			return own, true
		}
		from, below := d.resolve(p.Value, depth+1)
		sources := []ast.Node{from}
		if s, ok := from.(*ast.SequenceNode); ok {
			sources = s.Values
		}
		for _, s := range sources {
			s, _ = d.resolve(s, below)
			if s == nil {
				continue
			}
			more, ok := d.pairs(s, below+1)
			if !ok {
				d.fail(s.GetToken(), "<< takes mappings only")
			}
			merged = append(merged, more...)
		}
	}
	for _, m := range merged {
		if !slices.ContainsFunc(own, func(p *ast.MappingValueNode) bool { return keyOf(p) == keyOf(m) }) {
			own = append(own, m)
		}
	}
	return own, true
}

func keyOf(p *ast.MappingValueNode) string {
	if s, ok := p.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return p.Key.GetToken().Value
}

// structure decodes a mapping with known keys.
func (d *decoder) structure(n ast.Node, v reflect.Value, path *trail, depth int) {
	fields := d.fieldsOf(v.Type())
	if s, ok := n.(*ast.StringNode); ok && v.Type() == reflect.TypeFor[Server]() { // just the address
		d.scalar(s, v.FieldByName("Address"), &trail{up: path, key: "address"}, field{})
		return
	}
	if n.Type() == ast.NullType && path != nil { // a key with nothing under it: all defaults
		return
	}
	pairs, ok := d.pairs(n, depth)
	if !ok {
		d.fail(tokenOf(n), "%s has to be a mapping with keys %s", what(path), names(fields))
		return
	}
	for _, p := range pairs {
		key := keyOf(p)
		i := slices.IndexFunc(fields, func(f field) bool { return f.name == key })
		if i < 0 {
			d.fail(p.Key.GetToken(), "%s", noneOf("key", key, strings.Split(names(fields), ", ")))
			continue
		}
		d.decode(p.Value, v.Field(fields[i].index), &trail{up: path, key: key}, fields[i], depth)
	}
	for _, f := range fields {
		said := func(p *ast.MappingValueNode) bool { return keyOf(p) == f.name }
		if f.required && v.Field(f.index).IsZero() && !slices.ContainsFunc(pairs, said) {
			d.fail(tokenOf(n), "%s lacks the key %q", what(path), f.name)
		}
	}
}

func what(path *trail) string {
	if path == nil {
		return "the file"
	}
	return path.String()
}

func names(fields []field) string {
	out := make([]string, len(fields))
	for i, f := range fields {
		out[i] = f.name
	}
	return strings.Join(out, ", ")
}

// list decodes a sequence; one value may stand for a list of it.
func (d *decoder) list(n ast.Node, v reflect.Value, path *trail, f field, depth int) {
	var values []ast.Node
	switch s := n.(type) {
	case *ast.SequenceNode:
		values = s.Values
	case *ast.NullNode:
	default:
		if v.Type().Elem().Kind() == reflect.Struct && v.Type() != reflect.TypeFor[[]Server]() {
			d.fail(tokenOf(n), "%s has to be a list", path)
			return
		}
		values = []ast.Node{n}
	}
	// The length is fixed before, so that nothing moves.
	out := reflect.MakeSlice(v.Type(), len(values), len(values))
	for i, e := range values {
		setDefaults(out.Index(i).Addr())
		d.decode(e, out.Index(i), &trail{up: path, index: i}, f, depth)
	}
	v.Set(out)
}

// mapping decodes a mapping with names of the operator's own.
func (d *decoder) mapping(n ast.Node, v reflect.Value, path *trail, f field, depth int) {
	if n.Type() == ast.NullType {
		return
	}
	pairs, ok := d.pairs(n, depth)
	if !ok {
		d.fail(tokenOf(n), "%s has to be a mapping", path)
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(pairs))
	for _, p := range pairs {
		key := keyOf(p)
		below := &trail{up: path, key: key}
		value := reflect.New(v.Type().Elem()).Elem()
		if p.Value == nil || p.Value.Type() == ast.NullType {
			d.fail(p.Key.GetToken(), "%s is empty", below)
			continue
		}
		d.decode(p.Value, value, below, f, depth)
		out.SetMapIndex(reflect.ValueOf(key), value)
	}
	v.Set(out)
}
