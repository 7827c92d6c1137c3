# For tests whose servers and clients are hosts of their own; after lib.sh:  . "$(dirname "$0")/hosts.sh"
#
# Each is a network namespace on one bridge: mgs, mds, oss0, oss1, c0 and c1 are 192.0.2.1 to 6, with FAMILY=6 fd00::1 to 6,
# and v1 to v6 there. The servers run; $MGS and $key are how to reach them. DEVICES=siw|rxe: each has an RDMA device of that
# kind (in a guest); TRANSPORT: the servers' `transport`.
# shellcheck shell=bash

net=192.0.2. bits=24 any=0.0.0.0 once=
[ "${FAMILY:-4}" = 4 ] || { net=fd00:: bits=64 any=[::] once=nodad; } # an address is there at once
tag=st$$
ip netns add "$tag" 2>/dev/null || skip "no network namespaces here"
NS=$tag
remove_namespaces() { for n in $NS; do ip netns pids "$n" 2>/dev/null | xargs -r kill -9; ip netns del "$n"; done 2>/dev/null; }
at_exit() { remove_namespaces; }

ip netns exec "$tag" ip link add name hub type bridge
ip netns exec "$tag" ip link set hub up
host() { # NAME N
	NS="$NS $tag$1"
	ip netns add "$tag$1"
	ip link add "v$2" netns "$tag$1" type veth peer name "p$2" netns "$tag"
	ip netns exec "$tag" ip link set "p$2" master hub up
	ip netns exec "$tag$1" ip addr add "$net$2/$bits" dev "v$2" $once
	ip netns exec "$tag$1" ip link set "v$2" up
	ip netns exec "$tag$1" ip link set lo up
	[ -z "${DEVICES:-}" ] || ip netns exec "$tag$1" rdma link add "$DEVICES-$tag-$2" type "$DEVICES" netdev "v$2" ||
		fail "no RDMA device for host $1"
}
on() { # HOST COMMAND...: a mount would be in a mount namespace of its own, see mount_on
	local h=$1
	shift
	ip netns exec "$tag$h" "$@"
}
# The address of host N, as it stands before a port.
at() { case $net in *:) echo "[$net$1]" ;; *) echo "$net$1" ;; esac; }
# Where host N listens: everywhere, but on siw, where in namespaces nobody is reached by RDMA who does.
listen() { [ "${DEVICES:-}" = siw ] && at "$1" || echo "$any"; }
server() { # HOST LOG COMMAND...
	local h=$1 log=$2
	shift 2
	mkdir -p "$T/c/log"
	ip netns exec "$tag$h" "$@" ${TRANSPORT:+--transport "$TRANSPORT"} >"$T/c/log/$log.log" 2>&1 &
	PIDS="$PIDS $!"
}
mount_on() { # HOST MNT [OPTIONS]
	local h=$1
	shift
	mkdir -p "$1"
	MOUNTS="$MOUNTS $1"
	nsenter --net="/run/netns/$tag$h" mount.strake --key "$key" "$MGS:/" "$@" || fail "mount on $h"
}

# --- the cluster --------------------------------------------------------------------------------------------------------

host mgs 1; host mds 2; host oss0 3; host oss1 4; host c0 5; host c1 6
MGS=$(at 1):9400
[ "${TRANSPORT:-}" != rdma ] || MGS=rdma://$MGS
strake format mgs -d "$T/mgs" -c fabric >/dev/null || fail "format mgs"
server mgs mgs strake-mgs -d "$T/mgs" -l "$(listen 1):9400"
key=$T/mgs/cluster.key
up() { on c0 strake -m $MGS --key "$key" status >"$T/status"; }
await "the MGS" up
on mds strake format mds -d "$T/mds" -m $MGS --key "$key" >/dev/null || fail "format mds"
on oss0 strake format oss -d "$T/ost0" -m $MGS --key "$key" >/dev/null || fail "format oss 0"
server oss0 oss0 strake-oss -d "$T/ost0" -l "$(listen 3):9402" -m $MGS
server mds mds strake-mds -d "$T/mds" -l "$(listen 2):9401" -m $MGS
two() { on c0 strake -m $MGS --key "$key" status --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
up = [t for t in s["oss"] + s["mds"] if t["state"].lower() == "up"]
sys.exit(len(up) != int(sys.argv[1]))' "$1"; }
await "MDT and OST 0 up" two 2
on oss1 strake format oss -d "$T/ost1" -m $MGS --key "$key" >/dev/null || fail "format oss 1"
server oss1 oss1 strake-oss -d "$T/ost1" -l "$(listen 4):9402" -m $MGS
await "all targets up" two 3
