package config

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

// Effective is the Config as a file that says everything: defaults and made
// names included, the environment put in, secrets hidden.
func (c *Config) Effective() ([]byte, error) {
	return yaml.MarshalWithOptions(tree(reflect.ValueOf(*c)), yaml.IndentSequence(true))
}

// tree turns values into what the library writes; nil if nothing is said.
func tree(v reflect.Value) any {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		return tree(v.Elem())
	}
	if s, ok := v.Interface().(fmt.Stringer); ok { // Duration, Size, Secret
		return s.String()
	}
	switch v.Kind() {
	case reflect.Struct:
		out := yaml.MapSlice{}
		for _, f := range fieldsOf(v.Type()) {
			if below := tree(v.Field(f.index)); below != nil {
				out = append(out, yaml.MapItem{Key: f.name, Value: below})
			}
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case reflect.Slice:
		var out []any
		for i := range v.Len() {
			out = append(out, tree(v.Index(i)))
		}
		if out == nil {
			return nil
		}
		return out
	case reflect.Map:
		out := yaml.MapSlice{}
		keys := slices.SortedFunc(maps.Keys(asMap(v)), strings.Compare)
		for _, k := range keys {
			out = append(out, yaml.MapItem{Key: k, Value: tree(v.MapIndex(reflect.ValueOf(k)))})
		}
		if len(out) == 0 {
			return nil
		}
		return out
	case reflect.String:
		if v.Len() == 0 {
			return nil
		}
		// A text that holds ${ is read back as the same text.
		return strings.ReplaceAll(v.String(), "${", "$${")
	}
	return v.Interface()
}

func asMap(v reflect.Value) map[string]bool {
	out := make(map[string]bool, v.Len())
	for _, k := range v.MapKeys() {
		out[k.String()] = true
	}
	return out
}
