#!/bin/bash
# A client holds no more memory than it was told, whatever is written or read through it.
. "$(dirname "$0")/lib.sh"

case $BUILD in *san-*) skip "sanitizers' own memory hides it" ;; esac
start --osts 2
mount_more "$T/m2" -o memory=64M
pid=$(strake cluster status "$T/c" --json | python3 -c '
import json, sys
print([m["pid"] for m in json.load(sys.stdin)["mounts"] if m["path"] == sys.argv[1]][0])' "$T/m2")
peak() { awk '/^VmHWM/ { print $2 }' "/proc/$pid/status"; }

for i in 1 2 3; do dd if=/dev/zero of="$T/m2/f$i" bs=1M count=256 2>/dev/null & done
wait
for i in 1 2 3; do cat "$T/m2/f$i" >/dev/null & done
wait
say "peak $(peak) KiB"
[ "$(peak)" -lt $((128 * 1024)) ] || fail "the client has used $(peak) KiB with memory=64M"
for i in 1 2 3; do expect "size" $((256 << 20)) "$(stat -c %s "$T/m2/f$i")"; done

# Files that are gone are forgotten.
now() { awk '/^VmRSS/ { print $2 }' "/proc/$pid/status"; }
come_and_go() {
	python3 -c '
import os, sys
for i in range(3000): os.close(os.open(f"{sys.argv[1]}/gone{i}", os.O_CREAT | os.O_WRONLY))
for i in range(3000): os.unlink(f"{sys.argv[1]}/gone{i}")' "$T/m2" || fail "files that come and go"
}
come_and_go
before=$(now)
for round in 1 2 3; do come_and_go; done
say "$before KiB, then $(now) KiB"
[ $(($(now) - before)) -lt 2048 ] || fail "the client keeps what is gone: $before KiB, then $(now) KiB"
