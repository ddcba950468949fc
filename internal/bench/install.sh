#!/bin/sh
# Installs the gateways that wsgate is measured beside: those named, or all of
# them. From Debian: haproxy, nghttpx, nginx; as root, and without leaving a
# daemon running that was not running before. Caddy is built from its Go module
# into bin/caddy.
set -eu
cd "$(dirname "$0")/../.."
caddy=v2.11.9

# daemon PROGRAM: whether it runs.
daemon() { [ -n "$(pidof "$1" 2>/dev/null)" ]; }

debian() { # PROGRAM PACKAGE
	command -v "$1" >/dev/null && return
	[ "$(id -u)" = 0 ] || { echo "$1 is missing and cannot be installed without root: apt-get install $2" >&2; exit 1; }
	ran=no; daemon "$1" && ran=yes
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$2" >/dev/null; } ||
		{ echo "$1 is missing and could not be installed: apt-get install $2" >&2; exit 1; }
	if [ $ran = no ] && daemon "$1"; then service "$1" stop >/dev/null 2>&1 || true; fi
}

build_caddy() {
	[ -x bin/caddy ] && return
	bin="$PWD/bin"
	dir="$(mktemp -d)"
	trap 'rm -rf "$dir"' EXIT
	mkdir -p "$bin"
	cat >"$dir/main.go" <<-'GO'
	package main

	import (
		caddycmd "github.com/caddyserver/caddy/v2/cmd"
		_ "github.com/caddyserver/caddy/v2/modules/standard"
	)

	func main() { caddycmd.Main() }
	GO
	echo "building caddy $caddy; this takes some minutes" >&2
	(cd "$dir" && ${GO:-go} mod init caddy >/dev/null 2>&1 && ${GO:-go} get "github.com/caddyserver/caddy/v2@$caddy" >/dev/null 2>&1 &&
		${GO:-go} mod tidy >/dev/null 2>&1 && ${GO:-go} build -trimpath -o "$bin/caddy" .) ||
		{ echo "caddy $caddy could not be built from its Go module" >&2; exit 1; }
}

for name in ${*:-haproxy nghttpx nginx caddy}; do
	case $name in
	haproxy) debian haproxy haproxy ;;
	nghttpx) debian nghttpx nghttp2-proxy ;;
	nginx) debian nginx nginx-light ;;
	caddy) build_caddy ;;
	esac
done
