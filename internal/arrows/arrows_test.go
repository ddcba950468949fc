// Package arrows checks which room of the house may import which.
package arrows

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	frames = "golang.org/x/net/http2" // constants and Framer
	hpack  = "golang.org/x/net/http2/hpack"
)

// allowed are the rooms and what each may import beside the standard library.
// What only tests import is free.
var allowed = map[string][]string{
	"wsgate/wskey":  {},
	"wsgate/bridge": {"wsgate/internal/field", "wsgate/internal/loop"},
	"wsgate/h1": {
		"wsgate/bridge", "wsgate/wskey", "wsgate/internal/loop", "wsgate/internal/exchange", "wsgate/internal/field",
	},
	"wsgate/h2": {
		"wsgate/bridge", "wsgate/internal/exchange", "wsgate/internal/field", "wsgate/internal/head", "wsgate/internal/refusal", hpack,
	},
	"wsgate/h3": {
		"wsgate/bridge", "wsgate/internal/exchange", "wsgate/internal/field", "wsgate/internal/head", "wsgate/internal/refusal",
		"github.com/quic-go/quic-go", "github.com/quic-go/qpack",
	},
	"wsgate/internal/loop":      {"golang.org/x/sys/unix"},
	"wsgate/internal/field":     {},
	"wsgate/internal/refusal":   {"wsgate/bridge"},
	"wsgate/internal/head":      {"wsgate/bridge", "wsgate/internal/exchange", "wsgate/internal/field"},
	"wsgate/internal/exchange":  {"wsgate/bridge", "wsgate/internal/field"},
	"wsgate/internal/forwarded": {"wsgate/bridge"},
	"wsgate/internal/reverse":   {"wsgate/bridge", "wsgate/internal/forwarded", "wsgate/internal/loop", "wsgate/internal/upstream"},
	"wsgate/internal/accesslog": {"wsgate/bridge"},
	"wsgate/internal/upstream":  {"wsgate/bridge", "wsgate/h1", "wsgate/wskey", "wsgate/internal/loop"},
	"wsgate/internal/gateway": {
		"wsgate/bridge", "wsgate/h1", "wsgate/h2", "wsgate/h3", "wsgate/internal/accesslog", "wsgate/internal/exchange",
		"wsgate/internal/forwarded", "wsgate/internal/loop", "wsgate/internal/reverse", "wsgate/internal/upstream",
		"wsgate/internal/config", "wsgate/internal/route", "wsgate/internal/watch",
	},
	"wsgate/internal/config": {
		"github.com/goccy/go-yaml", "github.com/goccy/go-yaml/ast", "github.com/goccy/go-yaml/parser", "github.com/goccy/go-yaml/token",
	},
	"wsgate/internal/route":    {"wsgate/internal/config"},
	"wsgate/internal/watch":    {"github.com/fsnotify/fsnotify"},
	"wsgate/internal/operator": {},
	"wsgate/internal/demo":     {"github.com/gorilla/websocket"},
	"wsgate/cmd/wsgate": {
		"wsgate/internal/config", "wsgate/internal/route", "wsgate/internal/gateway", "wsgate/internal/demo",
		"github.com/spf13/cobra", "github.com/spf13/pflag",
	},
	// An oracle shares no bug with the accused: neither knows a room of the gateway.
	"wsgate/internal/rawpeer": {
		frames, hpack, "github.com/quic-go/quic-go", "github.com/quic-go/quic-go/quicvarint", "github.com/quic-go/qpack",
	},
	"wsgate/conformance":        {"wsgate/internal/rawpeer", frames},
	"wsgate/conformance/launch": {"wsgate/conformance"},
	"wsgate/cmd/wsconform":      {"wsgate/conformance", "wsgate/conformance/launch", "github.com/spf13/cobra"},
	"wsgate/internal/load": {
		"wsgate/internal/rawpeer", frames, hpack, "golang.org/x/sys/unix", "github.com/HdrHistogram/hdrhistogram-go",
		"github.com/quic-go/quic-go", "github.com/quic-go/quic-go/quicvarint", "github.com/quic-go/qpack",
	},
	"wsgate/cmd/wsload":          {"wsgate/internal/load", "github.com/spf13/cobra", "github.com/spf13/pflag"},
	"wsgate/internal/bench":      {"wsgate/internal/load"},
	"wsgate/internal/sidetest":   {"wsgate/bridge"},
	"wsgate/internal/enginetest": {"wsgate/bridge"},
	"wsgate/internal/ownnet":     {"golang.org/x/sys/unix"},
	"wsgate/internal/e2e":        {},
	"wsgate/internal/real":       {},
	"wsgate/internal/arrows":     {},
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Imports    []string
	DepOnly    bool
}

// packages lists all packages of the module for a system. The profile of cmd/wsgate
// is left out, since with it a package is listed once for each command built with it.
func packages(t *testing.T, system string) (all []listed) {
	t.Helper()
	cmd := exec.Command("go", "list", "-pgo=off", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %v\n%s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// outside reports whether a path is none of the standard library.
func outside(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return first == "wsgate" || strings.Contains(first, ".")
}

// TestArrows: every arrow between rooms is in the table, and every room; and the
// table holds no more.
func TestArrows(t *testing.T) {
	used := make(map[[2]string]bool)
	for _, system := range []string{"linux", "darwin"} {
		seen := make(map[string]bool)
		for _, p := range packages(t, system) {
			seen[p.ImportPath] = true
			may, ok := allowed[p.ImportPath]
			if !ok {
				t.Errorf("%s: got a new room %s, want it in the table", system, p.ImportPath)
			}
			for _, to := range p.Imports {
				used[[2]string{p.ImportPath, to}] = true
				if outside(to) && !slices.Contains(may, to) {
					t.Errorf("%s: got a new arrow %s -> %s, want one of %q", system, p.ImportPath, to, may)
				}
			}
		}
		for room := range allowed {
			if !seen[room] {
				t.Errorf("%s: got no room %s, want none in the table that is not there", system, room)
			}
		}
	}
	for room, may := range allowed {
		for _, to := range may {
			if !used[[2]string{room, to}] {
				t.Errorf("got no arrow %s -> %s on any system, want none in the table that is not used", room, to)
			}
		}
	}
}

// TestNoSecondHTTP2: the HTTP/2 of net/http and x/net stays off.
func TestNoSecondHTTP2(t *testing.T) {
	forbidden := map[string][]string{
		frames: {"Server", "ServeConnOpts", "Transport", "ClientConn", "ConfigureServer", "ConfigureTransport", "ConfigureTransports"},
	}
	switches := []string{"SetHTTP2", "SetUnencryptedHTTP2", "ForceAttemptHTTP2"}
	files := 0
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if d != nil && d.IsDir() && (d.Name() == "node_modules" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		names := make(map[string]string) // of imports in this file
		for _, i := range file.Imports {
			p := strings.Trim(i.Path.Value, `"`)
			name := p[strings.LastIndexByte(p, '/')+1:]
			if i.Name != nil {
				name = i.Name.Name
			}
			names[name] = p
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.Ident:
				if slices.Contains(switches, n.Name) {
					t.Errorf("%s: got %s, want net/http's HTTP/2 off", path, n.Name)
				}
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && slices.Contains(forbidden[names[x.Name]], n.Sel.Name) {
					t.Errorf("%s: got http2.%s, want frames and constants alone", path, n.Sel.Name)
				}
			case *ast.CompositeLit:
				wantProtocols(t, path, names, n)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 50 {
		t.Errorf("files: got %d, want all of the module", files)
	}
}

// wantProtocols: an http.Transport, and an http.Server with a handler, say
// which protocols they speak.
func wantProtocols(t *testing.T, path string, names map[string]string, lit *ast.CompositeLit) {
	t.Helper()
	sel, ok := lit.Type.(*ast.SelectorExpr)
	if !ok {
		return
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok || names[x.Name] != "net/http" || sel.Sel.Name != "Transport" && sel.Sel.Name != "Server" {
		return
	}
	var keys []string
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			keys = append(keys, kv.Key.(*ast.Ident).Name)
		}
	}
	if (sel.Sel.Name == "Transport" || slices.Contains(keys, "Handler")) && !slices.Contains(keys, "Protocols") {
		t.Errorf("%s: got an http.%s without Protocols, want HTTP/1 alone", path, sel.Sel.Name)
	}
}
