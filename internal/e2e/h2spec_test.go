package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"wsgate/internal/demo"
	"wsgate/internal/gateway"
)

// TestH2spec runs h2spec, over TLS and in cleartext with prior knowledge. Its
// newest release has 145 cases, and one more with --strict. In cleartext one
// case looks at something else than HTTP/2: what does not begin with the preface
// is an HTTP/1.1 request on that port, and this one gets its 400 (RFC 9112
// section 3) before the connection closes, where h2spec wants no more than the
// close.
func TestH2spec(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	backend := demo.New()
	t.Cleanup(backend.Close)
	go backend.Serve(ln)
	r := startWith(t, nil, "ws://"+ln.Addr().String(), func(c *gateway.Config) { c.Log = "off" })
	summary := regexp.MustCompile(`(?m)^\d+ tests, \d+ passed, \d+ skipped, \d+ failed$`)
	for _, x := range []struct {
		name, addr string
		args       []string
		cases      int
		h1         int // cases that HTTP/1.1 answers
	}{
		{"TLS", r.https, []string{"-t", "-k"}, 145, 0},
		{"TLS strict", r.https, []string{"-t", "-k", "--strict"}, 146, 0},
		{"cleartext", r.http, nil, 145, 1},
		{"cleartext strict", r.http, []string{"--strict"}, 146, 1},
	} {
		t.Run(x.name, func(t *testing.T) {
			host, port, err := net.SplitHostPort(x.addr)
			if err != nil {
				t.Fatal(err)
			}
			args := append([]string{"tool", "-modfile=internal/tools/go.mod", "h2spec", "-h", host, "-p", port}, x.args...)
			cmd := exec.Command("go", args...)
			cmd.Dir = "../.."
			out, err := cmd.CombinedOutput()
			want := fmt.Sprintf("%d tests, %d passed, 0 skipped, %d failed", x.cases, x.cases-x.h1, x.h1)
			got := summary.FindString(string(out))
			if got != want || (err == nil) != (x.h1 == 0) {
				t.Fatalf("got %q and %v, want %q\n%s", got, err, want, strings.TrimSpace(string(out)))
			}
			_, failures, _ := strings.Cut(string(out), "Failures:")
			if x.h1 > 0 && !(strings.Contains(failures, "2: Sends invalid connection preface") && strings.Contains(failures, "looked like an HTTP/1.1 header")) {
				t.Fatalf("got another failure than HTTP/1.1's answer to what is no preface\n%s", failures)
			}
			t.Log("h2spec:", got)
		})
	}
}
