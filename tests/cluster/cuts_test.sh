#!/bin/bash
# Connections that are cut in the middle of each kind of frame: every operation between all programs of a cluster, request
# and answer, before it, in its header, body and bulk, and after it (tests/tools/cuts.py). Nobody sees an error, and nothing
# is done twice.
. "$(dirname "$0")/lib.sh"

tag=cuts$$
hosts="mgs mds oss host"
at_exit() { for h in $hosts; do ip netns del "$tag$h" 2>/dev/null; done; }
for h in $hosts; do
	ip netns add "$tag$h" 2>/dev/null && ip netns exec "$tag$h" ip link set lo up || skip "no network namespaces here"
done
on() { nsenter --net="/run/netns/$tag$1" "${@:2}"; } # and in the test's mount namespace
server() { # HOST COMMAND...: its log has the host's name
	mkdir -p "$T/c/log"
	nsenter --net="/run/netns/$tag$1" "${@:2}" >>"$T/c/log/$1.log" 2>&1 &
	PIDS="$PIDS $!"
	echo $! >"$T/$1.pid"
	disown $! # one that is killed is no news
}

# --- a cluster, each server on a host of its own, with the wire between them --------------------------------------------

mkdir "$T/m" "$T/m2"
mkfifo "$T/orders" "$T/answers"
python3 "$(dirname "$0")/../tools/cuts.py" "$tag" "$T/m" "$T/m2" <"$T/orders" >"$T/answers" 2>"$T/cuts.out" &
cuts=$!
PIDS="$PIDS $cuts"
exec 8>"$T/orders" 9<"$T/answers"
read -r -t 30 answer <&9 && [ "${answer-}" = listens ] || fail "there is no wire: $(cat "$T/cuts.out")"

key=$T/mgs/cluster.key
export STRAKE_MGS=127.0.0.1:9400 STRAKE_KEY=$key
strake format mgs -d "$T/mgs" >/dev/null || fail "format mgs"
server mgs strake-mgs -d "$T/mgs" -l 127.0.0.1:9400
up() { on host strake status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
sys.exit(sum(target["state"].lower() == "up" for target in status["oss"] + status["mds"]) != int(sys.argv[1]))' "$1"; }
await "the MGS" up 0
on mds strake format mds -d "$T/mds" -m 127.0.0.1:9400 >/dev/null || fail "format mds"
for n in 0 1; do on oss strake format oss -i $n -d "$T/ost$n" -m 127.0.0.1:9400 >/dev/null || fail "format oss $n"; done
start_mds() { server mds strake-mds -d "$T/mds" -l 127.0.0.1:9401 -m 127.0.0.1:9400; }
start_mds
server oss strake-oss -d "$T/ost0,$T/ost1" -l 127.0.0.1:9402 -m 127.0.0.1:9400
await "all targets up" up 3
for m in m m2; do
	MOUNTS="$MOUNTS $T/$m"
	on host mount.strake "127.0.0.1:9400:/" "$T/$m" -o "strict,workers=2,log=$T/$m.log" || fail "mount"
done

# --- the cuts ---------------------------------------------------------------------------------------------------------

whole() { on host strake fsck >"$T/fsck.out" 2>&1 || fail "fsck: $(cat "$T/fsck.out")"; }
echo go >&8
while read -r order <&9; do
	case $order in
	session)
		on host strake client ls / >"$T/ls.out" 2>&1 || fail "strake client: $(cat "$T/ls.out")"
		expect "sessions" 2 $(($(grep -c "session .*: opened" "$T/c/log/mds.log") - $(grep -c "session .*: closed" "$T/c/log/mds.log")))
		;;
	fsck) whole ;;
	net) on host strake net test 127.0.0.1:9400 --seconds 0.1 >"$T/net.out" 2>&1 || fail "strake net test: $(cat "$T/net.out")" ;;
	restart)
		pid=$(cat "$T/mds.pid")
		kill -9 "$pid" || fail "no MDS to kill"
		await "the MDS gone" ! alive "$pid"
		start_mds
		;;
	*) break ;;
	esac
	echo "done" >&8
done
[ "$order" = "all right" ] || fail "$(cat "$T/cuts.out")"
say "$(cat "$T/cuts.out")"
for m in m m2; do strake umount "$T/$m" || fail "umount"; done
whole
echo end >&8
wait $cuts || fail "the wire"
