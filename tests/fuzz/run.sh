#!/bin/bash
# tests/fuzz/run.sh TARGET SECONDS: the target's own seeds, then that long of what libFuzzer makes of them. What ends it
# is kept in build/log, to be looked at with: TARGET FILE. With CORPUS=DIR it goes on from there, and keeps what it finds.
set -eu
target=$1 seconds=$2
mkdir -p build/log
if [ -n "${CORPUS:-}" ]; then
	corpus=$CORPUS/$(basename "$target")
	mkdir -p "$corpus"
else
	corpus=$(mktemp -d)
	trap 'rm -rf "$corpus"' EXIT
fi
"$target" "--seeds=$corpus"
"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -artifact_prefix=build/log/ \
	-print_final_stats=1 "$corpus"
