#!/bin/bash
# A cluster from nothing: starts, tells its state, mounts, stops, starts again with its data, and leaves nothing behind.
. "$(dirname "$0")/lib.sh"

start --osts 3
expect "servers" "1 1 3 1" "$(strake cluster status "$T/c" --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
print(*(len(s[k]) for k in ("mgs", "mds", "oss", "mounts")))')"
strake -m "$MGS" status >"$T/status" || fail "status"
grep -q 'OST targets: 3' "$T/status" || fail "status shows no three OSTs: $(cat "$T/status")"

echo "first words" >"$T/m/file"
mkdir "$T/m/dir"
strake cluster start "$T/c" >/dev/null || fail "starting a running cluster"

pids=$(strake cluster status "$T/c" --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
print(*(e["pid"] for k in ("mgs", "mds", "oss", "mounts") for e in s[k]))')
strake cluster stop "$T/c" >/dev/null || fail "stop"
for pid in $pids; do await "process $pid gone" ! alive "$pid"; done
! grep -q " $T/" /proc/mounts || fail "still mounted"
strake cluster status "$T/c" >/dev/null && fail "status of a stopped cluster says all is well"

strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "second start"
expect "address" "$MGS" "$(field "$T/c" mgs 0 address)"
expect "content" "first words" "$(cat "$T/m/file")"
[ -d "$T/m/dir" ] || fail "the directory is gone"

# What is missing is started again.
crash oss 1
strake cluster start "$T/c" >/dev/null || fail "starting what is missing"
expect "content after a lost OSS" "first words" "$(cat "$T/m/file")"
