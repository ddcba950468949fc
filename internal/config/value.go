package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

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
