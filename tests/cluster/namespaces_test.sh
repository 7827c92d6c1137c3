#!/bin/bash
# Servers and clients as separate hosts: each in a network namespace of its own, servers listening on the wildcard.
. "$(dirname "$0")/lib.sh"

tag=st$$
ip netns add "$tag" 2>/dev/null || skip "no network namespaces here"
NS=$tag
remove_namespaces() { for n in $NS; do ip netns pids "$n" 2>/dev/null | xargs -r kill -9; ip netns del "$n"; done 2>/dev/null; }
at_exit() { remove_namespaces; }

# A bridge in the first one, every host on it: 192.0.2.N
ip netns exec "$tag" ip link add name hub type bridge
ip netns exec "$tag" ip link set hub up
host() { # NAME N
	NS="$NS $tag$1"
	ip netns add "$tag$1"
	ip link add "v$2" netns "$tag$1" type veth peer name "p$2" netns "$tag"
	ip netns exec "$tag" ip link set "p$2" master hub up
	ip netns exec "$tag$1" ip addr add "192.0.2.$2/24" dev "v$2"
	ip netns exec "$tag$1" ip link set "v$2" up
	ip netns exec "$tag$1" ip link set lo up
}
on() { local h=$1; shift; ip netns exec "$tag$h" "$@"; }

host mgs 1; host mds 2; host oss0 3; host oss1 4; host c0 5; host c1 6
MGS=192.0.2.1:9400
server() { # HOST LOG COMMAND...
	local h=$1 log=$2
	shift 2
	mkdir -p "$T/c/log"
	ip netns exec "$tag$h" "$@" >"$T/c/log/$log.log" 2>&1 &
	PIDS="$PIDS $!"
}
strake format mgs -d "$T/mgs" -c fabric >/dev/null || fail "format mgs"
server mgs mgs strake-mgs -d "$T/mgs" -l 0.0.0.0:9400
key=$T/mgs/cluster.key
up() { on c0 strake -m $MGS --key "$key" status; }
await "the MGS" up
on mds strake format mds -d "$T/mds" -m $MGS --key "$key" >/dev/null || fail "format mds"
on oss0 strake format oss -d "$T/ost0" -m $MGS --key "$key" >/dev/null || fail "format oss 0"
server oss0 oss0 strake-oss -d "$T/ost0" -l 0.0.0.0:9402 -m $MGS
server mds mds strake-mds -d "$T/mds" -l 0.0.0.0:9401 -m $MGS
two() { on c0 strake -m $MGS --key "$key" status --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
up = [t for t in s["oss"] + s["mds"] if t["state"].lower() == "up"]
sys.exit(len(up) != int(sys.argv[1]))' "$1"; }
await "MDT and OST 0 up" two 2
on oss1 strake format oss -d "$T/ost1" -m $MGS --key "$key" >/dev/null || fail "format oss 1"
server oss1 oss1 strake-oss -d "$T/ost1" -l 0.0.0.0:9402 -m $MGS
await "all targets up" two 3
on c0 strake -m $MGS --key "$key" status >"$T/status"
grep -q '0\.0\.0\.0' "$T/status" && fail "a wildcard address was registered: $(cat "$T/status")"
grep -q '192\.0\.2\.3' "$T/status" || fail "OST 0 is not known by its address: $(cat "$T/status")"

for c in c0 c1; do
	mkdir "$T/$c"
	MOUNTS="$MOUNTS $T/$c"
	# ip netns exec makes a mount namespace of its own: keep to this one.
	nsenter --net="/run/netns/$tag$c" mount.strake --key "$key" $MGS:/ "$T/$c" || fail "mount on $c"
done
head -c 20000000 /dev/urandom >"$T/data"
cp "$T/data" "$T/c0/f" || fail "cp"
cmp -s "$T/data" "$T/c1/f" || fail "another host reads other bytes"
hammer -p 2 -n "$((3 * ${SCALE:-100}))" -s 5 "$T/c0" || fail "hammer"

# The MGS is needed only for changes of the map.
ip netns exec "$tag" ip link set p1 down
echo "without the MGS" >"$T/c1/g"
expect "read while the MGS is cut off" "without the MGS" "$(cat "$T/c1/g")"
ip netns exec "$tag" ip link set p1 up

# A server that cannot be reached for a while: the others wait for it, and go on.
ip netns exec "$tag" ip link set p4 down
cp "$T/data" "$T/c0/h" &
copy=$!
ip netns exec "$tag" ip link set p4 up
wait "$copy" || fail "cp across a cut"
cmp -s "$T/data" "$T/c1/h" || fail "other bytes after a cut"
for c in c0 c1; do strake umount "$T/$c" || fail "umount on $c"; done
on c0 strake -m $MGS --key "$key" fsck >"$T/fsck.out" 2>&1 || fail "fsck: $(cat "$T/fsck.out")"
