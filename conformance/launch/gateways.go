package launch

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"text/template"

	"wsgate/conformance"
)

// Known are all gateways that can be started. Each is set up as its manual says
// for WebSocket and for what the profiles ask; what it has no means for, it has no
// set-up for.
func Known() []Gateway {
	return []Gateway{Wsgate("wsgate"), haproxy(), nghttpx(), apache(), nginx(), caddy()}
}

type setups = map[string]func(*place) ([]string, error)

// word takes a word out of what a program prints for its version.
func word(n int) func(string) string {
	return func(out string) string {
		f := strings.Fields(out)
		if n >= len(f) {
			return strings.TrimSpace(out)
		}
		return strings.TrimPrefix(strings.TrimPrefix(f[n], "nghttp2/"), "nginx/")
	}
}

// configured is a set-up by a file that is made of a template; args get its path
// for {file}.
func configured(name, text string, args ...string) func(*place) ([]string, error) {
	return func(at *place) ([]string, error) {
		t, err := template.New(name).Parse(text)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, at); err != nil {
			return nil, err
		}
		file := filepath.Join(at.Dir, name)
		if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
			return nil, err
		}
		out := make([]string, len(args))
		for i, a := range args {
			out[i] = strings.NewReplacer("{file}", file, "{dir}", at.Dir).Replace(a)
		}
		return out, nil
	}
}

// every is one set-up for several profiles.
func every(f func(*place) ([]string, error), profiles ...string) setups {
	all := make(setups)
	for _, p := range profiles {
		all[p] = f
	}
	return all
}

func haproxy() Gateway {
	const text = `global
	nbthread 2
	hard-stop-after 5s
{{if .Is "no-websocket"}}	h2-workaround-bogus-websocket-clients
{{end}}defaults
	mode http
	option forwardfor
	timeout connect 3s
	timeout client {{if .Is "short-times"}}1s{{else}}60s{{end}}
	timeout server {{if .Is "short-times"}}1s{{else}}60s{{end}}
	timeout http-request {{if .Is "short-times"}}1s{{else}}10s{{end}}
	timeout http-keep-alive {{if .Is "short-times"}}1s{{else}}60s{{end}}
	timeout queue 300ms
	timeout tunnel {{if .Is "short-times"}}3s{{else}}1h{{end}}
frontend front
	bind {{.HTTPS}} ssl crt {{.Both}} alpn h2,http/1.1
	bind {{.HTTP}}
{{if not (.Is "trusted-proxy")}}	http-request del-header X-Forwarded-For
	http-request del-header X-Forwarded-Proto
	http-request set-header X-Forwarded-Proto https if { ssl_fc }
	http-request set-header X-Forwarded-Proto http unless { ssl_fc }
{{end}}	default_backend back
backend back
	server s {{.Backend}}{{if .Is "limits"}} maxconn 4{{end}}{{if .Is "tls-backend"}} ssl verify required ca-file {{.TLS}}/ca.pem verifyhost backend.test sni str(backend.test) crt {{.TLS}}/client-both.pem{{end}}
`
	return Gateway{
		Name: "haproxy", Program: "haproxy", Package: "haproxy", version: []string{"-v"}, parse: word(2), drain: syscall.SIGUSR1,
		setups: every(configured("haproxy.cfg", text, "-db", "-f", "{file}"),
			conformance.Base, conformance.NoWebSocket, conformance.TLSBackend, conformance.BackendDown, conformance.ShortTimes, conformance.Limits, conformance.Trusted),
	}
}

func nghttpx() Gateway {
	run := func(more ...string) func(*place) ([]string, error) {
		return func(at *place) ([]string, error) {
			backend := "127.0.0.1," + at.backendPort
			if at.Is(conformance.TLSBackend) {
				backend += ";;tls;sni=" + conformance.BackendName
			}
			args := []string{
				"--conf=/dev/null", "--frontend=127.0.0.1," + at.FrontPort, "--frontend=127.0.0.1," + at.PlainPort + ";no-tls", "--backend=" + backend,
				"--workers=2", "--no-ocsp", "--accesslog-file=/dev/null", "--log-level=ERROR", "--add-x-forwarded-for",
			}
			for _, a := range more {
				args = append(args, strings.ReplaceAll(a, "{tls}", at.TLS))
			}
			return append(args, at.Key, at.Cert), nil
		}
	}
	const strip = "--strip-incoming-x-forwarded-for"
	return Gateway{
		Name: "nghttpx", Program: "nghttpx", Package: "nghttp2-proxy", version: []string{"--version"}, parse: word(1), drain: syscall.SIGQUIT,
		setups: setups{
			conformance.Base:        run(strip),
			conformance.BackendDown: run(strip),
			conformance.TLSBackend:  run(strip, "--cacert={tls}/ca.pem", "--client-cert-file={tls}/client.pem", "--client-private-key-file={tls}/client-key.pem"),
			conformance.ShortTimes: run(strip, "--frontend-read-timeout=1s", "--frontend-http2-read-timeout=1s", "--frontend-keep-alive-timeout=1s",
				"--backend-read-timeout=3s"),
			conformance.Trusted: run("--no-strip-incoming-x-forwarded-proto", "--no-add-x-forwarded-proto"),
		},
	}
}

func apache() Gateway {
	const text = `ServerRoot {{.Dir}}
PidFile {{.Dir}}/apache.pid
DefaultRuntimeDir {{.Dir}}
Mutex file:{{.Dir}} default
ErrorLog /dev/stderr
LogLevel error
ServerName localhost
User www-data
Group www-data
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
LoadModule http2_module /usr/lib/apache2/modules/mod_http2.so
LoadModule proxy_module /usr/lib/apache2/modules/mod_proxy.so
LoadModule proxy_http_module /usr/lib/apache2/modules/mod_proxy_http.so
LoadModule headers_module /usr/lib/apache2/modules/mod_headers.so
LoadModule reqtimeout_module /usr/lib/apache2/modules/mod_reqtimeout.so
ServerLimit 4
StartServers 2
ThreadsPerChild 128
MaxRequestWorkers 512
Timeout {{if .Is "short-times"}}1{{else}}60{{end}}
KeepAliveTimeout {{if .Is "short-times"}}1{{else}}60{{end}}
RequestReadTimeout header={{if .Is "short-times"}}1{{else}}20{{end}}
ProxyTimeout {{if .Is "short-times"}}3{{else}}60{{end}}
H2WebSockets {{if .Is "no-websocket"}}off{{else}}on{{end}}
ProxyPreserveHost On
ProxyVia On
TraceEnable Off
{{if not (.Is "trusted-proxy")}}RequestHeader unset X-Forwarded-For
RequestHeader set X-Forwarded-Proto expr=%{REQUEST_SCHEME}
{{end}}ProxyPass / http://{{.Backend}}/ retry=0{{if not (.Is "no-websocket")}} upgrade=websocket{{end}}
Listen {{.HTTPS}} https
Listen {{.HTTP}} http
<VirtualHost {{.HTTPS}}>
	Protocols h2 http/1.1
	SSLEngine on
	SSLCertificateFile {{.Cert}}
	SSLCertificateKeyFile {{.Key}}
</VirtualHost>
<VirtualHost {{.HTTP}}>
	Protocols h2c http/1.1
</VirtualHost>
`
	return Gateway{
		Name: "apache", Program: "/usr/sbin/apache2", Package: "apache2", version: []string{"-v"}, drain: syscall.SIGWINCH,
		parse: func(out string) string {
			_, v, _ := strings.Cut(out, "Apache/")
			return word(0)(v)
		},
		setups: every(configured("apache.conf", text, "-f", "{file}", "-DFOREGROUND"),
			conformance.Base, conformance.NoWebSocket, conformance.BackendDown, conformance.ShortTimes, conformance.Trusted),
	}
}

func nginx() Gateway {
	const text = `daemon off;
worker_processes 2;
worker_rlimit_nofile 20000;
error_log stderr error;
pid {{.Dir}}/nginx.pid;
events { worker_connections 8192; }
http {
	access_log off;
	client_body_temp_path {{.Dir}}/body;
	proxy_temp_path {{.Dir}}/proxy;
	fastcgi_temp_path {{.Dir}}/fastcgi;
	uwsgi_temp_path {{.Dir}}/uwsgi;
	scgi_temp_path {{.Dir}}/scgi;
	map $http_upgrade $connection_upgrade { default upgrade; '' close; }
	client_header_timeout {{if .Is "short-times"}}1s{{else}}60s{{end}};
	keepalive_timeout {{if .Is "short-times"}}1s{{else}}75s{{end}};
	server {
		listen {{.HTTPS}} ssl http2;
		listen {{.HTTP}};
		ssl_certificate {{.Cert}};
		ssl_certificate_key {{.Key}};
		location / {
			proxy_pass {{.BackendScheme}}://{{.Backend}};
			proxy_http_version 1.1;
			proxy_request_buffering off;
			proxy_buffering off;
			proxy_set_header Host $http_host;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $connection_upgrade;
			proxy_read_timeout {{if .Is "short-times"}}3s{{else}}60s{{end}};
{{if .Is "trusted-proxy"}}			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
{{else}}			proxy_set_header X-Forwarded-For $remote_addr;
			proxy_set_header X-Forwarded-Proto $scheme;
{{end}}{{if .Is "tls-backend"}}			proxy_ssl_name backend.test;
			proxy_ssl_server_name on;
			proxy_ssl_verify on;
			proxy_ssl_session_reuse off;
			proxy_ssl_trusted_certificate {{.TLS}}/ca.pem;
			proxy_ssl_certificate {{.TLS}}/client.pem;
			proxy_ssl_certificate_key {{.TLS}}/client-key.pem;
{{end}}		}
	}
}
`
	return Gateway{
		Name: "nginx", Program: "nginx", Package: "nginx", version: []string{"-v"}, parse: word(2), drain: syscall.SIGQUIT,
		setups: every(configured("nginx.conf", text, "-c", "{file}", "-p", "{dir}"),
			conformance.Base, conformance.TLSBackend, conformance.BackendDown, conformance.ShortTimes, conformance.Trusted),
	}
}

func caddy() Gateway {
	const text = `{
	admin off
	auto_https off
	storage file_system {{.Dir}}
	log {
		level ERROR
	}
	servers {
		protocols h1 h2 h2c h3
{{if .Is "short-times"}}		timeouts {
			read_header 1s
			idle 1s
		}
{{end}}	}
}
(back) {
	bind 127.0.0.1
	reverse_proxy {{.BackendScheme}}://{{.Backend}} {
{{if .Is "trusted-proxy"}}		trusted_proxies 127.0.0.0/8
{{end}}{{if .Is "tls-backend"}}		transport http {
			tls_trust_pool file {{.TLS}}/ca.pem
			tls_server_name backend.test
			tls_client_auth {{.TLS}}/client.pem {{.TLS}}/client-key.pem
		}
{{end}}{{if .Is "short-times"}}		transport http {
			response_header_timeout 1s
		}
		stream_timeout 3s
{{end}}	}
}
https://:{{.FrontPort}} {
	tls {{.Cert}} {{.Key}}
	import back
}
http://:{{.PlainPort}} {
	import back
}
`
	return Gateway{
		// Its HTTP/2 is net/http's, which announces extended CONNECT by this word alone.
		Name: "caddy", Program: "caddy", Package: "caddy", Env: []string{"GODEBUG=http2xconnect=1"},
		version: []string{"version"}, parse: word(0), drain: syscall.SIGTERM,
		setups: every(configured("Caddyfile", text, "run", "--adapter", "caddyfile", "--config", "{file}"),
			conformance.Base, conformance.BackendDown, conformance.ShortTimes, conformance.Trusted, conformance.TLSBackend),
	}
}
