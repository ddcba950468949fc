#!/usr/bin/env bash
# Runs every fuzz target of the module for $FUZZ, one after the other.
# Minimising what is merely interesting would eat most of the time.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${FUZZ:=60s}" "${GO:=go}"
grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort | while read -r file; do
	dir=$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/^func //' | while read -r name; do
		echo "fuzz $dir $name for $FUZZ"
		"$GO" test "$dir" -run '^$' -fuzz "^$name\$" -fuzztime "$FUZZ" -fuzzminimizetime 5x </dev/null
	done
done
