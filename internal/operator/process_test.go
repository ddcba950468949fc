package operator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"wsgate/internal/config"
	"wsgate/internal/gateway"
)

// binaryDir holds the program that the tests run; see program.
var binaryDir string

// program builds the program, once, and returns its path.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "wsgate-operator-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "wsgate")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/wsgate")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if binaryDir != "" {
		os.RemoveAll(binaryDir)
	}
	os.Exit(code)
}

// command runs the program to its end in a folder.
func command(t testing.TB, dir string, args ...string) (code int, out, errs string) {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &o, &e
	if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), o.String(), e.String()
}

// process is a gateway that runs by a file in a folder of its own.
type process struct {
	t    testing.TB
	dir  string
	cmd  *exec.Cmd
	log  *log
	addr []string // of the listeners
	adm  string
	over chan struct{}
}

// start runs wsgate run -c wsgate.yaml.
func start(t testing.TB, file string) *process {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, dir: t.TempDir(), log: new(log), over: make(chan struct{})}
	p.write(file)
	p.cmd = exec.Command(path, "run", "-c", "wsgate.yaml")
	p.cmd.Dir, p.cmd.Stderr = p.dir, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		close(p.over)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.over
		if t.Failed() {
			t.Logf("log of the program:\n%.10000s", p.log)
		}
	})
	eventually(t, "the program runs", func() bool { return strings.Contains(p.log.String(), "msg=admin") })
	for _, m := range regexp.MustCompile(`msg=listening .*address=(\S+)`).FindAllStringSubmatch(p.log.String(), -1) {
		p.addr = append(p.addr, m[1])
	}
	p.adm = regexp.MustCompile(`msg=admin address=(\S+)`).FindStringSubmatch(p.log.String())[1]
	return p
}

func (p *process) write(file string) {
	p.t.Helper()
	if err := os.WriteFile(filepath.Join(p.dir, "wsgate.yaml"), []byte(file), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// tell runs a command of the program beside it.
func (p *process) tell(args ...string) (code int, out, errs string) {
	p.t.Helper()
	return command(p.t, p.dir, append(args, "--admin", p.adm)...)
}

// TestInit: in an empty folder the file passes the check and runs; it is never
// written over.
func TestInit(t *testing.T) {
	dir := t.TempDir()
	if code, _, errs := command(t, dir, "check"); code != 1 || !strings.Contains(errs, "wsgate config init") {
		t.Errorf("check without a file: got %d %q, want 1 and what to do", code, errs)
	}
	if code, _, errs := command(t, dir, "config", "init"); code != 0 {
		t.Fatalf("config init: got %d %q", code, errs)
	}
	if code, out, errs := command(t, dir, "check"); code != 0 || !strings.Contains(out, "good") {
		t.Errorf("check: got %d %q %q, want 0", code, out, errs)
	}
	if code, _, errs := command(t, dir, "config", "init"); code != 1 || !strings.Contains(errs, "stays as it is") {
		t.Errorf("config init again: got %d %q, want 1", code, errs)
	}
	text, err := os.ReadFile(filepath.Join(dir, "wsgate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	// As it is, but for ports that may be taken here.
	file := strings.NewReplacer(`":8443"`, `"127.0.0.1:0"`, `"127.0.0.1:8080"`, `"127.0.0.1:0"`, "# admin:", "admin:", `#   address: "127.0.0.1:9901"`, `  address: "127.0.0.1:0"`).Replace(string(text))
	p := start(t, file)
	if len(p.addr) != 2 {
		t.Errorf("listeners: got %v, want 2", p.addr)
	}
	if code, out, errs := p.tell("reload"); code != 0 || !strings.Contains(out, "reloaded: 1 routes") {
		t.Errorf("reload: got %d %q %q", code, out, errs)
	}
}

// TestCheck: exit codes, places, and files that are named.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "x.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	good := "listeners: [{address: ':0'}]\nupstreams: {app: {servers: 'ws://127.0.0.1:1', balance: sticky, sticky: {secret: hunter2hunter2hunter2}}}\n"
	write(good)
	if code, out, _ := command(t, dir, "check", "-c", "x.yaml", "--effective"); code != 0 || !strings.Contains(out, "idle: 1h") || !strings.Contains(out, "secret: (secret)") || strings.Contains(out, "hunter2") {
		t.Errorf("--effective: got %d\n%s", code, out)
	}
	write(good + "lisen: 1\nupstrems: 2\n")
	code, _, errs := command(t, dir, "check", "-c", "x.yaml")
	if want := "x.yaml:3:1: unknown key \"lisen\""; code != 1 || !strings.HasPrefix(errs, want) || !strings.Contains(errs, "x.yaml:4:1") || !strings.Contains(errs, "did you mean \"upstreams\"?") || !strings.Contains(errs, "      | ^") {
		t.Errorf("two unknown keys: got %d\n%s\nwant 1 and both places", code, errs)
	}
	for what, text := range map[string]string{
		"certificate": "listeners: [{address: ':0', tls: true}]\ncertificates: [{cert: none.pem, key: none.key}]\nupstreams: {app: {servers: 'ws://127.0.0.1:1'}}\n",
		"ca":          "listeners: [{address: ':0'}]\nupstreams: {app: {servers: 'wss://127.0.0.1:1', tls: {ca: none.pem}}}\n",
	} {
		write(text)
		if code, _, errs := command(t, dir, "check", "-c", "x.yaml"); code != 1 || !strings.HasPrefix(errs, "x.yaml:") || !strings.Contains(errs, "no such file") {
			t.Errorf("a %s that is not there: got %d %q", what, code, errs)
		}
	}
	if code, _, errs := command(t, dir, "run", "-c", "x.yaml", "--idle", "1h"); code != 2 || !strings.Contains(errs, "--idle") {
		t.Errorf("a flag beside a file: got %d %q, want 2", code, errs)
	}
}

func TestSchemaCommand(t *testing.T) {
	code, out, _ := command(t, t.TempDir(), "config", "schema")
	var v map[string]any
	if err := json.Unmarshal([]byte(out), &v); code != 0 || err != nil || v["$schema"] == nil || v["properties"] == nil {
		t.Errorf("got %d, %v, %.100q", code, err, out)
	}
}

func TestRouteCommand(t *testing.T) {
	dir := t.TempDir()
	file := `
listeners:
  - {name: plain, address: ":80"}
  - {name: secure, address: ":443", tls: true}
certificates: [{self_signed: localhost}]
upstreams: {app: {servers: "ws://127.0.0.1:1"}, chat: {servers: "ws://127.0.0.1:2"}}
routes:
  - {match: {listeners: [plain]}, redirect: {scheme: https}}
  - {name: rooms, match: {hosts: [a.test], prefix: /rooms, kind: websocket}, upstream: chat}
  - {name: rest, match: {hosts: [a.test]}, upstream: app}
  - {name: blue, match: {hosts: [a.test], headers: {X-Tenant: blue}}, upstream: app}
`
	if err := os.WriteFile(filepath.Join(dir, "wsgate.yaml"), []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"wss://a.test/rooms/7"}, 0, []string{`route "rooms" (routes[1]): upstream chat`, "prefix /rooms begins it", `also matches, but is less specific: "rest"`}},
		{[]string{"https://a.test/rooms/7"}, 0, []string{`route "rest"`, `does not match: "rooms" (routes[1]): by kind`}},
		{[]string{"https://a.test/", "--header", "X-Tenant: blue"}, 0, []string{`route "blue"`, "further conditions"}},
		{[]string{"http://a.test/x"}, 0, []string{"redirect 308"}},
		{[]string{"https://b.test/"}, 1, []string{"421"}},
		{[]string{"https://b.test/", "--all"}, 1, []string{"by hosts"}},
		{[]string{"ftp://b.test/"}, 2, nil},
		{nil, 2, nil},
	} {
		code, out, errs := command(t, dir, append([]string{"route"}, c.args...)...)
		if code != c.code {
			t.Errorf("%q: got exit %d %q, want %d", c.args, code, errs, c.code)
		}
		for _, w := range c.want {
			if !strings.Contains(out, w) {
				t.Errorf("%q: got\n%s, want %q in it", c.args, out, w)
			}
		}
	}
}

// TestOrders: signals and commands to a running program.
func TestOrders(t *testing.T) {
	one, two := serve(t, "one", "127.0.0.2"), serve(t, "two", "127.0.0.3")
	file := twoServers(one.addr, two.addr, "admin: {address: \"127.0.0.1:0\"}\n")
	p := start(t, file)
	if code, out, errs := p.tell("reload", "--dry-run"); code != 0 || !strings.Contains(out, "would reload: 1 routes; ends 0 of 0 tunnels") {
		t.Errorf("dry run: got %d %q %q", code, out, errs)
	}
	p.write(strings.Replace(file, "hosts: [a.test]", "hosts: [a.test, b.test]", 1))
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	p.log.wants(t, "msg=reloaded")
	p.write("listeners: [")
	if code, _, errs := p.tell("reload"); code != 1 || !strings.Contains(errs, "wsgate.yaml:1:") {
		t.Errorf("reload of a broken file: got %d %q, want 1 and the place", code, errs)
	}
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two errors in the log", func() bool { return strings.Count(p.log.String(), "the old configuration stays") == 2 })
	if code, out, errs := p.tell("drain", "server", one.addr); code != 0 || !strings.Contains(out, "is drained") {
		t.Errorf("drain server: got %d %q %q", code, out, errs)
	}
	if code, _, errs := p.tell("drain", "route", "ap"); code != 1 || !strings.Contains(errs, `"app"`) {
		t.Errorf("drain of an unknown route: got %d %q", code, errs)
	}
	if code, _, errs := command(t, p.dir, "reload", "--admin", "127.0.0.1:1"); code != 1 || !strings.Contains(errs, "refused") {
		t.Errorf("nobody there: got %d %q", code, errs)
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-p.over
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("after a drain: got exit %d, want 0", code)
	}
}

// TestFlagsAreDocumented: docs/flags.md has every flag of wsgate run.
func TestFlagsAreDocumented(t *testing.T) {
	_, out, _ := command(t, t.TempDir(), "run", "--help")
	doc, err := os.ReadFile("../../docs/flags.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`--[a-z0-9-]+`).FindAllString(out[strings.Index(out, "Flags:"):], -1)
	if len(found) < 40 {
		t.Fatalf("flags: got %q, want at least 40", found)
	}
	for _, f := range found {
		if f != "--help" && !bytes.Contains(doc, []byte("`"+f+"`")) {
			t.Errorf("docs/flags.md does not have %s", f)
		}
	}
}

// TestFlagsAreAFile: the flags build the same value as a file.
func TestFlagsAreAFile(t *testing.T) {
	f := gateway.Default()
	f.Listen = []string{"https://127.0.0.1:8443", "http://127.0.0.1:8080"}
	f.SelfSigned, f.Backend, f.PingInterval, f.MaxTunnels = true, "wss://app:3000", 1_000_000_000, 7
	f.BackendServerName, f.TrustedProxies, f.NoVia = "inner", []string{"10.0.0.0/8"}, true
	flags, err := f.Whole()
	if err != nil {
		t.Fatal(err)
	}
	file, err := config.Parse("x", []byte(`
listeners:
  - {name: "https://127.0.0.1:8443", address: "127.0.0.1:8443", tls: true}
  - {name: "http://127.0.0.1:8080", address: "127.0.0.1:8080"}
certificates: [{self_signed: [localhost, 127.0.0.1, "::1"]}]
upstreams:
  backend: {servers: "wss://app:3000", tls: {server_name: inner}}
routes: [{name: backend, upstream: backend}]
timeouts: {ping: 1s}
limits: {tunnels: 7}
requests: {trusted_proxies: 10.0.0.0/8, via: false}
`))
	if err != nil {
		t.Fatal(err)
	}
	a, err := flags.Effective()
	if err != nil {
		t.Fatal(err)
	}
	b, err := file.Effective()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		t.Errorf("flags say\n%s\nthe file says\n%s", a, b)
	}
}
