package launch

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"wsgate/conformance"
)

// Wsgate is wsgate, by the path of its program.
func Wsgate(program string) Gateway {
	run := func(more ...string) func(*place) ([]string, error) {
		return func(at *place) ([]string, error) {
			scheme := "ws"
			if at.profile == conformance.TLSBackend {
				scheme = "wss"
			}
			args := []string{
				"run", "--listen", "https://" + at.HTTPS, "--listen", "http://" + at.HTTP, "--cert", at.Cert, "--key", at.Key,
				"--backend", scheme + "://" + at.Backend, "--log-level", "warn",
			}
			for _, a := range more {
				args = append(args, strings.ReplaceAll(a, "{tls}", at.TLS))
			}
			return args, nil
		}
	}
	return Gateway{
		Name: "wsgate", Program: program, version: []string{"version"}, drain: syscall.SIGTERM, quit: syscall.SIGKILL,
		parse: word(1),
		setups: setups{
			conformance.Base:        run("--drain-time", "3s"),
			conformance.NoWebSocket: run("--no-websocket"),
			conformance.TLSBackend: run("--backend-ca", "{tls}/ca.pem", "--backend-server-name", conformance.BackendName,
				"--backend-cert", "{tls}/client.pem", "--backend-key", "{tls}/client-key.pem"),
			conformance.BackendDown: run(),
			conformance.ShortTimes:  run("--header-timeout", "1s", "--idle-connection", "1s", "--open-timeout", "1s", "--idle", "3s"),
			conformance.Limits:      run("--max-pending", "4"),
			conformance.Trusted:     run("--trusted-proxies", "127.0.0.0/8"),
			conformance.Relaxed:     run("--missing-key", "synthesize"),
			conformance.Strict:      run("--missing-version", "reject"),
			conformance.TwoServers: wsgateFile(`upstreams:
  back: {servers: ["ws://127.0.0.1:1", "ws://{{.Backend}}"], balance: round_robin, health: {passive: {failures: 0}}}
`),
			conformance.Hosts: wsgateFile(oneUpstream + `routes:
  - match: {hosts: [localhost]}
    upstream: back
`),
			conformance.Strip: wsgateFile(oneUpstream + `routes:
  - upstream: back
    strip: [extensions]
`),
			conformance.LateGoAway: wsgateFile(oneUpstream + `drain: {time: 1s, goaway: late}
`),
			conformance.Reload: wsgateReload,
		},
	}
}

const (
	wsgateListeners = `listeners:
  - {name: tls, address: "{{.HTTPS}}", tls: true}
  - {name: plain, address: "{{.HTTP}}"}
certificates:
  - {cert: "{{.Cert}}", key: "{{.Key}}"}
log: {level: warn}
`
	oneUpstream = `upstreams:
  back: {servers: "ws://{{.Backend}}"}
`
)

// wsgateFile is a set-up by a configuration file: listeners, and more of it.
func wsgateFile(more string) func(*place) ([]string, error) {
	return configured("wsgate.yaml", wsgateListeners+more, "run", "-c", "{file}")
}

// wsgateReload writes the configurations of the profile Reload and a command that
// puts one of them in place.
func wsgateReload(at *place) ([]string, error) {
	admin, err := freePort(at.profile)
	if err != nil {
		return nil, err
	}
	common := wsgateListeners + oneUpstream + "admin: {address: 127.0.0.1:" + admin + "}\n"
	removed := func(action string) string {
		return "routes:\n  - {name: rest, upstream: back}\n  - {name: removed, match: {prefix: /removed}, " + action + "}\n"
	}
	for name, text := range map[string]string{
		"base": removed("upstream: back"), "no-route": removed("answer: {status: 404}"),
		"no-websocket": removed("upstream: back") + "requests: {websocket: false}\n",
	} {
		if _, err := configured(name+".yaml", common+text)(at); err != nil {
			return nil, err
		}
	}
	script := fmt.Sprintf("cd %s && cp \"$1.yaml\" wsgate.yaml && %s reload --admin 127.0.0.1:%s\n", at.Dir, at.program, admin)
	at.Reload = filepath.Join(at.Dir, "reload.sh")
	if err := os.WriteFile(at.Reload, []byte(script), 0o600); err != nil {
		return nil, err
	}
	at.Reload = "/bin/sh " + at.Reload
	return configured("wsgate.yaml", common+removed("upstream: back"), "run", "-c", "{file}")(at)
}
