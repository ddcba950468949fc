package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// contender is a gateway that can be measured.
type contender struct {
	name    string
	program string // path, "" if it is not installed
	version string
	// one is its command with one worker, all of them with as many as it takes by
	// itself; nil: that is one, too.
	one, all func(*lab, place) (env []string, args []string)
	// h2tunnels: it carries WebSocket over HTTP/2 (RFC 8441).
	h2tunnels bool
	// h3tunnels: over HTTP/3, too (RFC 9220).
	h3tunnels bool
	// single says what its one worker is, and common what it has by itself.
	single, common string
}

// place is where a contender is to listen, and a directory for its files.
type place struct{ tls, plain, dir string }

// lab is what the contenders and the load share.
type lab struct {
	ctx             context.Context
	dir             string // for files
	wsgate, wsload  string // programs
	caddy           string // "" if it is not there
	cert, key, both string
	backend         *process
	backendAddr     string
	log             *os.File // what wsgate logs
}

// newLab makes certificates and starts the backend.
func newLab(ctx context.Context, bin string) (*lab, error) {
	dir, err := os.MkdirTemp("", "wsgate-bench")
	if err != nil {
		return nil, err
	}
	l := &lab{ctx: ctx, dir: dir, wsgate: filepath.Join(bin, "wsgate"), wsload: filepath.Join(bin, "wsload"), caddy: filepath.Join(bin, "caddy")}
	if err := l.open(); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *lab) open() (err error) {
	for _, p := range []string{l.wsgate, l.wsload} {
		if _, err := os.Stat(p); err != nil {
			return fmt.Errorf("%w; make builds it", err)
		}
	}
	if _, err := os.Stat(l.caddy); err != nil {
		l.caddy = ""
	}
	// Workers of other users read what is in it.
	if err = os.Chmod(l.dir, 0o755); err != nil {
		return err
	}
	if l.cert, l.key, l.both, err = certificate(l.dir); err != nil {
		return err
	}
	if l.log, err = os.Create(filepath.Join(l.dir, "wsgate.log")); err != nil {
		return err
	}
	l.backendAddr = freePort()
	if l.backend, err = start(os.Stderr, nil, l.wsload, "backend", "--listen", l.backendAddr); err != nil {
		return err
	}
	return waitFor(l.ctx, l.backendAddr)
}

func (l *lab) close() {
	if l.backend != nil {
		l.backend.stop()
	}
	if l.log != nil {
		l.log.Close()
	}
	os.RemoveAll(l.dir)
}

// found is the path of an installed program.
func found(name string) string {
	p, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return p
}

// contenders are all there are, installed or not. wsgate is the first.
func (l *lab) contenders() []*contender {
	all := []*contender{
		{name: "wsgate", program: l.wsgate, version: said(l.wsgate, "version"), h2tunnels: true, h3tunnels: true, single: "--loops 1", common: "its defaults", one: wsgateArgs("--loops", "1"), all: wsgateArgs()},
		{name: "haproxy", program: found("haproxy"), version: said("haproxy", "-v"), h2tunnels: true, single: "nbthread 1", common: "a thread for each core", one: haproxyArgs("nbthread 1"), all: haproxyArgs("")},
		{name: "nghttpx", program: found("nghttpx"), version: said("nghttpx", "--version"), h2tunnels: true, single: "--workers=1, its default", one: nghttpxArgs},
		{name: "caddy", program: l.caddy, version: said(l.caddy, "version"), h2tunnels: true, h3tunnels: true, single: "GOMAXPROCS=1", common: "GOMAXPROCS as many as cores", one: caddyArgs("GOMAXPROCS=1"), all: caddyArgs()},
		{name: "nginx", program: found("nginx"), version: said("nginx", "-v"), single: "worker_processes 1", common: "worker_processes auto, as Debian has it", one: nginxArgs("1"), all: nginxArgs("auto")},
	}
	return all
}

// said is the first line of what a program prints about itself.
func said(name string, arg string) string {
	if name == "" {
		return ""
	}
	out, _ := exec.Command(name, arg).CombinedOutput() // not installed: nothing
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// running is a contender that runs.
type running struct {
	*process
	place
}

// run starts a contender afresh and waits until it listens. A port that was free
// may be taken by the time it is asked for: then others are tried.
func (l *lab) run(c *contender, column string) (r *running, err error) {
	for range 3 {
		if r, err = l.try(c, column); err == nil || l.ctx.Err() != nil {
			return r, err
		}
	}
	return nil, err
}

func (l *lab) try(c *contender, column string) (*running, error) {
	dir, err := os.MkdirTemp(l.dir, c.name)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	r := &running{place: place{tls: freePort(), plain: freePort(), dir: dir}}
	args := c.one
	if column == columnDefault {
		args = c.all
	}
	env, argv := args(l, r.place)
	errs := l.log
	if c.name != "wsgate" {
		if errs, err = os.Create(filepath.Join(dir, "stderr")); err != nil {
			return nil, err
		}
		defer errs.Close()
	}
	if r.process, err = start(errs, env, c.program, argv...); err != nil {
		return nil, err
	}
	for _, addr := range []string{r.tls, r.plain} {
		if err := waitFor(l.ctx, addr); err != nil {
			r.stop()
			said, _ := os.ReadFile(errs.Name())
			return nil, fmt.Errorf("%s: %w: %s", c.name, err, said)
		}
	}
	return r, nil
}

func (r *running) stop() {
	r.process.stop()
	os.RemoveAll(r.dir)
}

func wsgateArgs(more ...string) func(*lab, place) ([]string, []string) {
	return func(l *lab, p place) ([]string, []string) {
		return nil, append([]string{
			"run", "--listen", "https://" + p.tls, "--listen", "http://" + p.plain,
			"--cert", l.cert, "--key", l.key, "--backend", "ws://" + l.backendAddr,
		}, more...)
	}
}

// file writes a configuration and returns its path.
func (p place) file(name, text string) string {
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		panic(err) // a directory of our own
	}
	return path
}

func haproxyArgs(global string) func(*lab, place) ([]string, []string) {
	return func(l *lab, p place) ([]string, []string) {
		return nil, []string{"-db", "-f", p.file("haproxy.cfg", fmt.Sprintf(`global
	%s
	tune.h2.max-concurrent-streams 250
defaults
	mode http
	timeout connect 5s
	timeout client 1h
	timeout server 1h
	timeout tunnel 1h
frontend tls
	bind %s ssl crt %s alpn h2,http/1.1 curves X25519
	default_backend echo
frontend plain
	bind %s
	default_backend echo
backend echo
	server one %s
`, global, p.tls, l.both, p.plain, l.backendAddr))}
	}
}

func nghttpxArgs(l *lab, p place) ([]string, []string) {
	comma := func(addr string) string { return strings.Replace(addr, ":", ",", 1) }
	return nil, []string{
		"--conf=/dev/null", "--frontend=" + comma(p.tls), "--frontend=" + comma(p.plain) + ";no-tls", "--backend=" + comma(l.backendAddr),
		"--workers=1", "--no-ocsp", "--accesslog-file=/dev/null", "--errorlog-file=/dev/null", "--log-level=FATAL",
		"--frontend-http2-max-concurrent-streams=250", "--ecdh-curves=X25519", l.key, l.cert,
	}
}

func caddyArgs(env ...string) func(*lab, place) ([]string, []string) {
	return func(l *lab, p place) ([]string, []string) {
		env := append([]string{"GODEBUG=http2xconnect=1", "HOME=" + p.dir, "XDG_DATA_HOME=" + p.dir, "XDG_CONFIG_HOME=" + p.dir}, env...)
		return env, []string{"run", "--adapter", "caddyfile", "--config", p.file("Caddyfile", fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	log {
		output discard
	}
	servers {
		protocols h1 h2 h3
	}
}
https://%s {
	bind 127.0.0.1
	tls %s %s {
		curves x25519
	}
	reverse_proxy %s
}
http://%s {
	bind 127.0.0.1
	reverse_proxy %[4]s
}
`, p.tls, l.cert, l.key, l.backendAddr, p.plain))}
	}
}

func nginxArgs(workers string) func(*lab, place) ([]string, []string) {
	return func(l *lab, p place) ([]string, []string) {
		return nil, []string{"-p", p.dir, "-e", "/dev/null", "-c", p.file("nginx.conf", fmt.Sprintf(`daemon off;
worker_processes %s;
pid nginx.pid;
error_log /dev/null;
events {
	worker_connections 10000;
}
http {
	access_log off;
	keepalive_requests 1000000000;
	http2_max_concurrent_streams 250;
	map $http_upgrade $up {
		default upgrade;
		'' '';
	}
	upstream echo {
		server %s;
		keepalive 64;
	}
	server {
		listen %s ssl http2;
		listen %s;
		ssl_certificate %s;
		ssl_certificate_key %s;
		ssl_protocols TLSv1.2 TLSv1.3;
		ssl_ecdh_curve X25519;
		location / {
			proxy_pass http://echo;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $up;
			proxy_set_header Host $host;
			proxy_read_timeout 1h;
		}
	}
}
`, workers, l.backendAddr, p.tls, p.plain, l.cert, l.key))}
	}
}
