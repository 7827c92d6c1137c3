#!/bin/bash
# No server runs on an empty folder, on another server's data, or on another cluster's; nothing is formatted twice.
. "$(dirname "$0")/lib.sh"

refuses() { # WHAT PATTERN COMMAND...
	local what=$1 pattern=$2
	shift 2
	timeout "$(limit 20)" "$@" >"$T/out" 2>&1 && fail "$what was accepted"
	[ $? != 124 ] || fail "$what hung"
	grep -qE "$pattern" "$T/out" || fail "$what: '$(cat "$T/out")' does not say '$pattern'"
}

start --osts 1
mkdir "$T/empty"
refuses "an empty folder" "strake format oss" strake-oss -d "$T/empty" -l 127.0.0.1:0 -m "$MGS"
refuses "an empty folder" "strake format mds" strake-mds -d "$T/empty" -l 127.0.0.1:0 -m "$MGS"
refuses "an OST's folder under an MDS" "" strake-mds -d "$T/c/ost0" -l 127.0.0.1:0 -m "$MGS"
refuses "a folder in use" "" strake-oss -d "$T/c/ost0" -l 127.0.0.1:0 -m "$MGS"
refuses "formatting twice" "" strake format oss -d "$T/c/ost0" -m "$MGS" --key "$T/c/mgs/cluster.key"

# A second cluster's OST does not join this one.
cluster "$T/c2" --osts 1
strake cluster stop "$T/c2" >/dev/null || fail "stop"
(exec strake-oss -d "$T/c2/ost0" -l 127.0.0.1:0 -m "$MGS") >"$T/foreign.log" 2>&1 &
PIDS="$PIDS $!"
await "the foreign OST complains" grep -qiE "filesystem|key|refus" "$T/foreign.log"
expect "OSTs" 1 "$(strake -m "$MGS" status --json | python3 -c '
import json, sys
print(len(json.load(sys.stdin)["oss"]))')"

# The wrong key opens nothing.
head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$T/key"
echo >>"$T/key"
chmod 600 "$T/key"
refuses "a wrong key" "key" strake -m "$MGS" --key "$T/key" status
