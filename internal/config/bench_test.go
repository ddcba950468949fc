package config

import (
	"fmt"
	"strings"
	"testing"
)

func BenchmarkParse10000(b *testing.B) {
	var s strings.Builder
	s.WriteString("listeners: [{address: \":80\"}]\nupstreams: {app: {servers: \"ws://127.0.0.1:1\"}}\nroutes:\n")
	for i := range 10_000 {
		fmt.Fprintf(&s, "  - name: route-%d\n    match:\n      hosts: [host%d.example.com]\n      prefix: /v%d/rooms\n      kind: websocket\n    upstream: app\n    ping: 30s\n", i, i/4, i%4)
	}
	src := []byte(s.String())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("x", src); err != nil {
			b.Fatal(err)
		}
	}
}
