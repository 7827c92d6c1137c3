#!/bin/bash
# O_APPEND from two mounts, with the options that a mount has by default (tests/tools/appenders.py): no record is lost, torn or
# written over, whatever becomes of the MDS meanwhile.
. "$(dirname "$0")/lib.sh"

appenders=$(dirname "$0")/../tools/appenders.py
start --osts 3
mount_more "$T/m2"
run() { timeout 400 python3 "$appenders" "$@" || fail "$1"; }

run calls "$T/m" "$T/m2"
run write "$T/m" "$T/m2" $((${SCALE:-100} / 2 + 5))

# Killed while two mounts want to append.
mkdir "$T/m/killed"
run write "$T/m/killed" "$T/m2/killed" $((${SCALE:-100} + 5)) >"$T/write.out" 2>&1 &
writing=$!
for _ in 1 2; do
	sleep 1
	crash mds 0
	strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "the MDS does not start again"
done
wait $writing || { cat "$T/write.out" >&2; fail "appending while the MDS is killed"; }
