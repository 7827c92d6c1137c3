#!/bin/bash
# tests/fuzz/run.sh TARGET SECONDS: the target's own seeds, then that long of what libFuzzer makes of them. What ends it
# is kept in build/log, to be looked at with: TARGET FILE; the status is 1 then (libFuzzer's own 77 would say: skipped).
# With CORPUS=DIR it goes on from there, and keeps what it finds.
set -eu
target=$1 seconds=$2
mkdir -p build/log
work=$(mktemp -d -p /dev/shm) # some targets work with files, thousands of times a second
trap 'rm -rf "$work"' EXIT
corpus=${CORPUS:+$CORPUS/$(basename "$target")}
corpus=${corpus:-$work/corpus}
mkdir -p "$corpus" "$work/tmp"
export TMPDIR=$work/tmp
"$target" "--seeds=$corpus"
"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -error_exitcode=1 -timeout_exitcode=1 -artifact_prefix=build/log/ \
	-print_final_stats=1 "$corpus"
