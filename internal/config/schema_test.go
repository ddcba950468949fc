package config

import (
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/jsonschema-go/jsonschema"
)

var update = flag.Bool("update", false, "write schema.json and golden files anew")

// TestSchema: schema.json is what the types say.
func TestSchema(t *testing.T) {
	s := schemaOf(reflect.TypeFor[Config](), field{})
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", "wsgate"
	want, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	if *update {
		if err := os.WriteFile("schema.json", want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(Schema) != string(want) {
		t.Error("schema.json is not what the types say; go test ./internal/config -run TestSchema -update writes it anew")
	}
}

// TestSchemaJudges: the schema takes the sample and the examples, and refuses
// what the decoder refuses for its shape.
func TestSchemaJudges(t *testing.T) {
	var s jsonschema.Schema
	if err := json.Unmarshal(Schema, &s); err != nil {
		t.Fatal(err)
	}
	r, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(text string) error {
		var v any
		if err := yaml.Unmarshal([]byte(text), &v); err != nil {
			t.Fatal(err)
		}
		return r.Validate(v)
	}
	if err := judge(string(Sample)); err != nil {
		t.Errorf("the sample: %v", err)
	}
	for name, text := range map[string]string{
		"unknown key":   "lisen: []",
		"wrong type":    "limits: {streams: many}",
		"wrong word":    "drain: {goaway: never}",
		"no unit":       "drain: {time: 30}",
		"missing key":   "listeners: [{name: a}]",
		"out of bounds": "limits: {header: 1}",
	} {
		if judge(text) == nil {
			t.Errorf("%s: %q passes the schema", name, text)
		}
		if _, err := Parse("x", []byte(text)); err == nil {
			t.Errorf("%s: %q passes the decoder", name, text)
		}
	}
}

// fromEnvironment is a value that the environment gives.
const fromEnvironment = `\$\{[^}]+\}`

// schemaOf makes the schema of a type. f is what the tags of its field say.
func schemaOf(t reflect.Type, f field) *jsonschema.Schema {
	s := plainSchema(t, f)
	s.Description = f.doc
	return s
}

func plainSchema(t reflect.Type, f field) *jsonschema.Schema {
	switch t {
	case reflect.TypeFor[Duration]():
		return &jsonschema.Schema{Types: []string{"string", "integer"}, Pattern: `^(0|off|[0-9]+d([0-9.]+(h|m|s|ms|us|µs|ns))*|([0-9.]+(h|m|s|ms|us|µs|ns))+)$|` + fromEnvironment, Maximum: jsonschema.Ptr(0.0)}
	case reflect.TypeFor[Size]():
		return bounded(&jsonschema.Schema{Types: []string{"string", "integer"}, Pattern: `^[0-9]+([KMG]i)?B?$|` + fromEnvironment}, f)
	case reflect.TypeFor[*ListenerTLS]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "boolean"}, structSchema(t.Elem())}}
	case reflect.TypeFor[Server]():
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{{Type: "string"}, structSchema(t)}}
	}
	switch t.Kind() {
	case reflect.Pointer:
		return plainSchema(t.Elem(), f)
	case reflect.Struct:
		return structSchema(t)
	case reflect.Map:
		return &jsonschema.Schema{Types: []string{"object", "null"}, AdditionalProperties: plainSchema(t.Elem(), field{})}
	case reflect.Slice:
		one := plainSchema(t.Elem(), f)
		list := &jsonschema.Schema{Type: "array", Items: one}
		if t.Elem().Kind() == reflect.Struct && t.Elem() != reflect.TypeFor[Server]() {
			return list
		}
		return &jsonschema.Schema{AnyOf: []*jsonschema.Schema{list, one}}
	case reflect.Int:
		return bounded(&jsonschema.Schema{Types: []string{"integer", "string"}, Pattern: fromEnvironment}, f)
	case reflect.Float64:
		return bounded(&jsonschema.Schema{Types: []string{"number", "string"}, Pattern: fromEnvironment}, f)
	case reflect.Bool:
		return &jsonschema.Schema{Type: "boolean"}
	}
	s := &jsonschema.Schema{Types: []string{"string", "number", "boolean"}} // every scalar is a text
	if f.enum != "" {
		s = &jsonschema.Schema{}
		for _, w := range strings.Split(f.enum, ",") {
			s.Enum = append(s.Enum, w)
			if x, err := strconv.ParseFloat(w, 64); err == nil {
				s.Enum = append(s.Enum, x)
			}
		}
	}
	return s
}

func bounded(s *jsonschema.Schema, f field) *jsonschema.Schema {
	if x, ok := number(f.min); ok {
		s.Minimum = &x
	}
	if x, ok := number(f.max); ok {
		s.Maximum = &x
	}
	return s
}

func structSchema(t reflect.Type) *jsonschema.Schema {
	s := &jsonschema.Schema{Types: []string{"object", "null"}, Properties: map[string]*jsonschema.Schema{}, AdditionalProperties: &jsonschema.Schema{Not: &jsonschema.Schema{}}}
	for _, f := range fieldsOf(t) {
		s.Properties[f.name] = schemaOf(t.Field(f.index).Type, f)
		s.PropertyOrder = append(s.PropertyOrder, f.name)
		if f.required {
			s.Required = append(s.Required, f.name)
		}
	}
	return s
}
