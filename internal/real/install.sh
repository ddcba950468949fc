#!/usr/bin/env bash
# Installs what the tests with real clients need and is not there yet: Debian
# packages when root, npm packages by their lock file. What cannot be installed
# fails with one line that names it.
set -euo pipefail
cd "$(dirname "$0")"

need=()
have() { command -v "$1" >/dev/null 2>&1; }
have chromium || need+=(chromium)
have curl || need+=(curl)
have gtlsclient || need+=(ngtcp2-client)
have node || need+=(nodejs)
have npm || need+=(npm)
[ -x /usr/bin/python3 ] && /usr/bin/python3 -c 'import websockets' 2>/dev/null || need+=(python3 python3-websockets)
if [ ${#need[@]} -gt 0 ]; then
	[ "$(id -u)" = 0 ] || { echo "test-real: missing ${need[*]}; only root can install them: apt-get install ${need[*]}" >&2; exit 1; }
	have apt-get || { echo "test-real: missing ${need[*]}, and this is no Debian system" >&2; exit 1; }
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq >/dev/null || { echo "test-real: apt-get update failed" >&2; exit 1; }
	for p in "${need[@]}"; do
		apt-get install -y -qq "$p" >/dev/null 2>&1 || { echo "test-real: cannot install the Debian package $p" >&2; exit 1; }
	done
fi
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 20 ] || { echo "test-real: node $(node --version) is too old, 20 or newer is needed" >&2; exit 1; }
if ! cmp -s node/package-lock.json node/node_modules/.wsgate-lock 2>/dev/null; then
	(cd node && npm ci --silent --no-audit --no-fund >/dev/null 2>&1) || { echo "test-real: cannot install the npm packages of internal/real/node/package-lock.json" >&2; exit 1; }
	cp node/package-lock.json node/node_modules/.wsgate-lock
fi
