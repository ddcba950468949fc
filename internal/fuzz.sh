#!/usr/bin/env bash
# Runs every fuzz target of the module for $FUZZ, one after the other.
# Minimising what is merely interesting would eat most of the time.
#
# Up to Go 1.26 a target may fail at the end of its time with nothing but
# "context deadline exceeded", which is the time that it was given
# (golang/go#75804). That alone is no finding: one has an input, a panic or a
# message of the target's own behind the FAIL, and ends the run.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${FUZZ:=60s}" "${GO:=go}"
out=$(mktemp)
trap 'rm -f "$out"' EXIT

only_time_was_up() {
	! grep -q 'Failing input written' "$out" && [ "$(sed -n '/^--- FAIL: /,$p' "$out" | sed -n 2,3p)" = $'    context deadline exceeded\nFAIL' ]
}

grep -rlE '^func Fuzz[A-Z]' --include='*_test.go' . | sort | while read -r file; do
	dir=$(dirname "$file")
	grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | sed 's/^func //' | while read -r name; do
		echo "fuzz $dir $name for $FUZZ"
		"$GO" test "$dir" -run '^$' -fuzz "^$name\$" -fuzztime "$FUZZ" -fuzzminimizetime 5x </dev/null 2>&1 | tee "$out" && continue
		only_time_was_up || exit 1
		echo "fuzz $dir $name: no finding; its time was up (golang/go#75804)"
	done
done
