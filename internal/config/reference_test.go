package config

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
)

// TestReference: the table of keys in docs/configuration.md is what the types say.
func TestReference(t *testing.T) {
	const file = "../../docs/configuration.md"
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(old), "Begin -->\n")
	_, tail, ok2 := strings.Cut(rest, "<!-- KEYS: end")
	if !ok || !ok2 {
		t.Fatalf("%s: got no place for the keys", file)
	}
	var b strings.Builder
	b.WriteString("\n| key | default | meaning |\n|---|---|---|\n")
	keys(&b, "", reflect.ValueOf(*Default()))
	want := head + "Begin -->\n" + b.String() + "\n<!-- KEYS: end" + tail
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(old) != want {
		t.Errorf("%s is not what the types say; go test ./internal/config -run TestReference -update writes it anew", file)
	}
}

// keys writes a line for each key below a struct with its defaults.
func keys(b *strings.Builder, path string, v reflect.Value) {
	for _, f := range fieldsOf(v.Type()) {
		value := v.Field(f.index)
		of, name := value.Type(), path+f.name
		switch of.Kind() {
		case reflect.Slice:
			if of.Elem().Kind() == reflect.Struct {
				name += "[]"
			}
			of = of.Elem()
		case reflect.Map:
			if of.Elem().Kind() == reflect.Pointer {
				name += ".NAME"
			}
			of = of.Elem()
		}
		if of.Kind() == reflect.Pointer {
			of = of.Elem()
		}
		def := ""
		if k := value.Kind(); k != reflect.Slice && k != reflect.Map && k != reflect.Pointer && of.Kind() != reflect.Struct {
			def = fmt.Sprint(value)
		}
		words := f.doc
		if f.enum != "" && !strings.Contains(words, strings.Split(f.enum, ",")[0]+":") {
			words += ": `" + strings.ReplaceAll(f.enum, ",", "`, `") + "`"
		}
		if f.required {
			words += " (required)"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", name, def, strings.ReplaceAll(words, "|", "\\|"))
		if of.Kind() == reflect.Struct {
			made := reflect.New(of)
			setDefaults(made)
			if value.Kind() == reflect.Struct {
				made.Elem().Set(value)
			}
			keys(b, name+".", made.Elem())
		}
	}
}
