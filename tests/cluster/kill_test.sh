#!/bin/bash
# kill -9 and restart of each server under writers with a verifier: no error, nothing lost, nothing foreign.
. "$(dirname "$0")/lib.sh"

start --osts 3
ops=$((4 * ${SCALE:-100}))

# Writers, one run after the other until told to stop.
writers() {
	seed=$1
	while [ ! -e "$T/stop" ]; do
		hammer -p 4 -n "$ops" -s "$seed" "$T/m" || exit 1
		seed=$((seed + 1))
	done
}
writers 31 >"$T/hammer.out" 2>&1 &
hammer=$!
PIDS="$PIDS $hammer"

begun() { [ -n "$(ls -A "$T/m")" ]; }
restart() {
	strake cluster start "$T/c" >"$T/start.out" 2>&1 || { cat "$T/start.out"; fail "restart of $1"; }
	kill -0 "$hammer" 2>/dev/null || { cat "$T/hammer.out"; fail "the writers ended after $1 was killed"; }
}
await "the writers have begun" begun
victims=(mds:0 oss:0 mgs:0 oss:1 mds:0 oss:2 mds:0 mgs:0 oss:0 mds:0)
for victim in "${victims[@]:0:3+${SCALE:-100}/14}"; do
	crash "${victim%:*}" "${victim#*:}"
	restart "$victim"
done

# All at once.
servers=$(strake cluster status "$T/c" --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
print(*(e["pid"] for k in ("mgs", "mds", "oss") for e in s[k]))')
# shellcheck disable=SC2086 # a list
kill -9 $servers
for pid in $servers; do await "server $pid gone" ! alive "$pid"; done
restart "everything"

touch "$T/stop"
wait "$hammer" || { cat "$T/hammer.out"; fail "hammer"; }
intact "$T/c" || fail "it is not as it must be"
strake cluster stop "$T/c" >/dev/null || fail "stop"
look() { find "$T/c/mds0" -printf '%P %i %s %T@ %m\n' | sort; }
check() { strake-mds --check -d "$T/c/mds0" >"$T/check" 2>&1 || { cat "$T/check"; fail "$1"; }; }
look >"$T/before"
check "the MDT's state is not consistent"
look | diff "$T/before" - || fail "--check has changed the data directory"
# Nor need it be one that can be written.
mount --bind "$T/c/mds0" "$T/c/mds0" && mount -o remount,bind,ro "$T/c/mds0" || fail "mount"
check "a state that can only be read"
umount "$T/c/mds0" || fail "umount"
