package config

import (
	"bytes"
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

// Load reads and checks a file. The error is of type Errors if it is the file
// that is wrong.
func Load(file string) (*Config, error) {
	src, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, src)
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

// scalar decodes a single value.
func (d *decoder) scalar(n ast.Node, v reflect.Value, path *trail, f field) {
	t := n.GetToken()
	text, ok := textOf(n)
	if !ok {
		d.fail(t, "%s has to be %s", path, kindOf(v))
		return
	}
	text, err := expand(text)
	if err == nil {
		err = assign(v, n, text)
	}
	if err == nil {
		err = f.allows(v)
	}
	if err != nil {
		d.fail(t, "%s: %v", path, err)
	}
}

// textOf returns the text of a scalar.
func textOf(n ast.Node) (string, bool) {
	switch s := n.(type) {
	case *ast.StringNode:
		return s.Value, true
	case *ast.LiteralNode:
		return s.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return strings.TrimSpace(n.GetToken().Value), true
	}
	return "", false
}

func kindOf(v reflect.Value) string {
	switch v.Interface().(type) {
	case Duration:
		return "a time such as 30s"
	case Size:
		return "a size such as 64KiB"
	}
	switch v.Kind() {
	case reflect.Int:
		return "a number"
	case reflect.Float64:
		return "a number"
	case reflect.Bool:
		return "true or false"
	}
	return "a text"
}

// assign reads text as the type of v asks.
func assign(v reflect.Value, n ast.Node, text string) error {
	switch p := v.Addr().Interface().(type) {
	case *Duration:
		d, err := ParseDuration(text)
		*p = d
		return err
	case *Size:
		s, err := ParseSize(text)
		*p = s
		return err
	case *Secret:
		s, err := secret(text)
		*p = s
		return err
	case *string:
		*p = text
		return nil
	case *bool:
		if b, ok := n.(*ast.BoolNode); ok {
			*p = b.Value
			return nil
		}
		return fmt.Errorf("%q is neither true nor false", text)
	case *int:
		i, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is no whole number", text)
		}
		*p = int(i)
		return nil
	case *float64:
		x, err := strconv.ParseFloat(text, 64)
		if err != nil || x != x {
			return fmt.Errorf("%q is no number", text)
		}
		*p = x
		return nil
	}
	return fmt.Errorf("cannot be set")
}

// allows checks a value against its tags.
func (f *field) allows(v reflect.Value) error {
	if f.enum != "" && v.Kind() == reflect.String {
		of := strings.Split(f.enum, ",")
		if s := v.String(); !slices.Contains(of, s) {
			return errors.New(noneOf("value", s, of))
		}
	}
	var x float64
	switch v.Kind() {
	case reflect.Int, reflect.Int64:
		x = float64(v.Int())
	case reflect.Float64:
		x = v.Float()
	default:
		return nil
	}
	low, okLow := number(f.min)
	high, okHigh := number(f.max)
	switch {
	case okLow && x < low || okHigh && x > high:
		return fmt.Errorf("%v is not %s", v, between(f, okLow, okHigh, v))
	}
	return nil
}

func number(s string) (float64, bool) {
	if s == "" {
		return 0, false
	}
	x, err := strconv.ParseFloat(s, 64)
	return x, err == nil
}

func between(f *field, low, high bool, v reflect.Value) string {
	show := func(s string) string {
		if v.Type() == reflect.TypeFor[Size]() {
			n, _ := strconv.ParseInt(s, 10, 64)
			return Size(n).String()
		}
		return s
	}
	switch {
	case v.Type() == reflect.TypeFor[Duration]():
		return "more than 0"
	case low && high:
		return fmt.Sprintf("between %s and %s", show(f.min), show(f.max))
	case low:
		return "at least " + show(f.min)
	}
	return "at most " + show(f.max)
}

// expand replaces ${NAME} by the environment's value; $${ stands for ${.
func expand(s string) (string, error) {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "${")
		if !ok {
			b.WriteString(s)
			return b.String(), nil
		}
		if escaped, ok := strings.CutSuffix(before, "$"); ok {
			b.WriteString(escaped + "${")
			s = after
			continue
		}
		name, rest, ok := strings.Cut(after, "}")
		if !ok {
			return "", fmt.Errorf("%q is not closed by }; write $${ for the text ${", "${"+after)
		}
		value, ok := os.LookupEnv(name)
		if !ok {
			return "", fmt.Errorf("the environment has no %q; set it, or write $${ for the text ${", name)
		}
		b.WriteString(before + value)
		s = rest
	}
}

// secret reads a file: value; anything else is the secret itself.
func secret(s string) (Secret, error) {
	file, ok := strings.CutPrefix(s, "file:")
	if !ok {
		return Secret(s), nil
	}
	p, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	return Secret(strings.TrimRight(string(p), "\r\n")), nil
}
