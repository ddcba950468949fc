package launch

import (
	"strings"
	"syscall"

	"wsgate/conformance"
)

// Known are all gateways that can be started.
func Known() []Gateway {
	return []Gateway{Wsgate("wsgate")}
}

// Wsgate is wsgate, by the path of its program.
func Wsgate(program string) Gateway {
	run := func(more ...string) func(*place) ([]string, error) {
		return func(at *place) ([]string, error) {
			scheme := "ws"
			if at.profile == conformance.TLSBackend {
				scheme = "wss"
			}
			args := []string{
				"run", "--listen", "https://" + at.https, "--listen", "http://" + at.http, "--cert", at.cert, "--key", at.key,
				"--backend", scheme + "://" + at.backend, "--log-level", "warn",
			}
			for _, a := range more {
				args = append(args, strings.ReplaceAll(a, "{tls}", at.tls))
			}
			return args, nil
		}
	}
	return Gateway{
		Name: "wsgate", Program: program, version: []string{"version"}, drain: syscall.SIGTERM, quit: syscall.SIGKILL,
		parse: func(out string) string { return strings.Join(strings.Fields(out)[1:2], " ") },
		setups: map[string]func(*place) ([]string, error){
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
		},
	}
}
