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

# An OSS makes room for its descriptors before it has threads: they would wait for each growth of their table.
pid=$(field "$T/c" oss 0 pid)
most=$(awk '/^Max open files/ { print $4 < 4096 ? $4 : 4096 }' "/proc/$pid/limits")
room=$(awk '/^FDSize:/ { print $2 }' "/proc/$pid/status")
[ "$room" -ge "$most" ] || fail "an OSS has room for $room descriptors, not for $most"

# What is missing is started again.
crash oss 1
strake cluster start "$T/c" >/dev/null || fail "starting what is missing"
expect "content after a lost OSS" "first words" "$(cat "$T/m/file")"

# A killed OST leaves a ledger for its next start, a stopped cluster nothing.
ledgers() { for dir in "$T"/c/ost*; do ls "/dev/shm/strake-ost-$(sed -n 's/^target = //p' "$dir/identity")"; done 2>/dev/null; }
if [ "$(stat -f -c %T /dev/shm)" = tmpfs ]; then
	expect "ledgers" 3 "$(ledgers | wc -l)"
	grep -q "nothing is lost" "$T/c/log/ost1.log" || fail "the killed OST thinks that something is lost"
fi
crash oss 2
strake cluster stop "$T/c" >/dev/null || fail "stop of what partly runs"
expect "ledgers of a stopped cluster" "" "$(ledgers)"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "third start"

# Started without standard descriptors a daemon opens nothing in their place.
mkdir "$T/n"
mount.strake "$MGS:/" "$T/n" -o "log=$T/n.log" <&- >&- 2>&- || fail "mount without standard descriptors"
expect "content of that mount" "first words" "$(cat "$T/n/file")"
daemon=$(strake cluster status "$T/c" --json | python3 -c '
import json, sys
print(*(m["pid"] for m in json.load(sys.stdin)["mounts"] if m["path"] == sys.argv[1]))' "$T/n")
expect "its descriptors" "/dev/null /dev/null $T/n.log" "$(readlink "/proc/$daemon/fd/0" "/proc/$daemon/fd/1" "/proc/$daemon/fd/2" | paste -sd' ')"
strake umount "$T/n" || fail "umount"

# A mount that lives on in another namespace only is none here.
unshare -m sleep 1000 &
other=$!
PIDS="$PIDS $other"
await "another namespace" has_own_mounts "$other"
strake umount "$T/m" 2>"$T/said" || fail "umount: $(cat "$T/said")"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start beside a mount elsewhere"
expect "content beside a mount elsewhere" "first words" "$(cat "$T/m/file")"
kill "$other"

# Killed a moment ago and not yet gone: seen, waited for, and started again. A tracer makes that moment as long as we like.
hold() { # PID: kills it and holds it in its last moment until there is a line to read
	python3 -c '
import ctypes, os, signal, sys
SEIZE, TRACE_EXIT, EVENT_EXIT, WALL = 0x4206, 0x40, 6, 0x40000000
pid = int(sys.argv[1])
ptrace = ctypes.CDLL(None).ptrace
ptrace.argtypes = [ctypes.c_long] * 4
assert ptrace(SEIZE, pid, 0, TRACE_EXIT) == 0
os.kill(pid, signal.SIGKILL)
assert os.waitpid(pid, WALL)[1] >> 8 == signal.SIGTRAP | EVENT_EXIT << 8
print("held", flush=True)
sys.stdin.readline()' "$1"
}
mkfifo "$T/go"
for victim in mgs mds oss mounts; do
	pid=$(field "$T/c" $victim 0 pid)
	rm -f "$T/held" # of the last one: it is emptied only when the fifo is open
	hold "$pid" <"$T/go" >"$T/held" &
	holder=$!
	PIDS="$PIDS $holder"
	exec 3>"$T/go"
	await "process $pid to be held" grep -qs held "$T/held"
	strake cluster start "$T/c" --mount "$T/m" >"$T/start.out" 2>&1 3>&- &
	starter=$!
	await "start to wait for the end of $victim" grep -q "(pid $pid) was killed and is just ending" "$T/start.out"
	exec 3>&-
	wait "$holder" || fail "the holder of $victim"
	wait "$starter" || { cat "$T/start.out"; fail "start after $victim was killed"; }
	[ "$(field "$T/c" $victim 0 pid)" != "$pid" ] || fail "start took a dying process for $victim"
	expect "content after $victim was killed" "first words" "$(cat "$T/m/file")"
done

# One that runs when start looks, and ends while start waits for it to be usable.
pid=$(field "$T/c" oss 0 pid)
kill -STOP "$pid"
connections() { strake -m "$MGS" status --json | python3 -c 'import json, sys; print(sum(json.load(sys.stdin)["mgs"][0]["connections"].values()))'; }
has_more() { [ "$(connections)" -gt "$1" ]; }
down() { strake -m "$MGS" status --json | python3 -c 'import json, sys; sys.exit(json.load(sys.stdin)["oss"][0]["state"] != "down")'; }
await "OST 0 to be counted as down" down
grep -q ' warning: epoch [0-9]*: OST-0 is down, at' "$T/c/log/mgs.log" || fail "the MGS's log does not warn of it: $(cat "$T/c/log/mgs.log")"
before=$(connections)
strake cluster start "$T/c" >"$T/start.out" 2>&1 &
starter=$!
await "start to ask the MGS" has_more "$before"
kill -9 "$pid"
wait "$starter" || { cat "$T/start.out"; fail "start while OST 0 ended"; }
grep -q "ost0 (pid $pid) has ended" "$T/start.out" || fail "start did not see OST 0 end: $(cat "$T/start.out")"
expect "content after OST 0 ended" "first words" "$(cat "$T/m/file")"
