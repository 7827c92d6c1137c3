# For tests whose servers and clients are hosts of their own; after lib.sh:  . "$(dirname "$0")/hosts.sh"
#
# Each is a network namespace on one bridge: mgs, mds, oss0, oss1, c0 and c1 are 192.0.2.1 to 6, with FAMILY=6 fd00::1 to 6,
# and v1 to v6 there, p1 to p6 at the bridge (hub, in the namespace $tag). The servers run; $MGS and $key are how to reach them.
# DEVICES=siw|rxe: each has an RDMA device of that kind (in a guest); TRANSPORT: the servers' `transport`; APART=1: RDMA has
# links of its own, 198.51.100.1 to 6, r1 to r6 and q1 to q6, at a bridge of its own (fabric).
# shellcheck shell=bash

net=192.0.2. bits=24 any=0.0.0.0 once=
[ "${FAMILY:-4}" = 4 ] || { net=fd00:: bits=64 any=[::] once=nodad; } # an address is there at once
tag=st$$
ip netns add "$tag" 2>/dev/null || skip "no network namespaces here"
NS=$tag
remove_namespaces() { for n in $NS; do ip netns pids "$n" 2>/dev/null | xargs -r kill -9; ip netns del "$n"; done 2>/dev/null; }
at_exit() { remove_namespaces; }

# Where RDMA is, if there are devices: a host's end of the link, the other one, the bridge, and the addresses.
end=v hub_end=p hub=hub subnet=$net
[ -z "${APART:-}" ] || end=r hub_end=q hub=fabric subnet=198.51.100.
declare -A N SERVERS # the numbers of hosts, and the servers that run
bridge() { # NAME
	ip netns exec "$tag" ip link add name "$1" type bridge
	ip netns exec "$tag" ip link set "$1" up
}
link() { # HOST END BRIDGE ITS_END ADDRESS
	ip link add "$2" netns "$tag$1" type veth peer name "$4" netns "$tag"
	ip netns exec "$tag" ip link set "$4" master "$3" up
	ip netns exec "$tag$1" ip addr add "$5" dev "$2" $once
	ip netns exec "$tag$1" ip link set "$2" up
}
device() { # add|del HOST: its RDMA device
	local of="type $DEVICES netdev $end${N[$2]}"
	[ "$1" = add ] || of=
	# shellcheck disable=SC2086 # words
	on "$2" rdma link "$1" "$DEVICES-$tag-${N[$2]}" $of || fail "$1 the RDMA device of host $2"
}
bridge hub
[ -z "${APART:-}" ] || bridge $hub
host() { # NAME N
	N[$1]=$2
	NS="$NS $tag$1"
	ip netns add "$tag$1"
	link "$1" "v$2" hub "p$2" "$net$2/$bits"
	[ -z "${APART:-}" ] || link "$1" "$end$2" $hub "$hub_end$2" "$subnet$2/24"
	ip netns exec "$tag$1" ip link set lo up
	[ -z "${DEVICES:-}" ] || device add "$1"
}
on() { # HOST COMMAND...: a mount would be in a mount namespace of its own, see mount_on
	local h=$1
	shift
	ip netns exec "$tag$h" "$@"
}
# The address of host N, as it stands before a port.
at() { case $net in *:) echo "[$net$1]" ;; *) echo "$net$1" ;; esac; }
# Where host N listens at a port: everywhere, but on siw, where in namespaces nobody is reached by RDMA who does.
listen() { # N PORT
	if [ -n "${APART:-}" ]; then
		echo "rdma://$subnet$1:$2,$(at "$1"):$2"
	else
		[ "${DEVICES:-}" = siw ] && echo "$(at "$1"):$2" || echo "$any:$2"
	fi
}
server() { # HOST COMMAND...: not in a mount namespace of its own, which would keep mounts
	mkdir -p "$T/c/log"
	nsenter --net="/run/netns/$tag$1" "${@:2}" ${TRANSPORT:+--transport "$TRANSPORT"} >>"$T/c/log/$1.log" 2>&1 &
	disown $!
	SERVERS[$1]=$!
	PIDS="$PIDS $!"
}
serve() { # HOST: its server starts, perhaps again
	case $1 in
	mgs) server mgs strake-mgs -d "$T/mgs" -l "$(listen 1 9400)" ;;
	mds) server mds strake-mds -d "$T/mds" -l "$(listen 2 9401)" -m $MGS ;;
	oss*) server "$1" strake-oss -d "$T/ost${1#oss}" -l "$(listen "${N[$1]}" 9402)" -m $MGS ;;
	esac
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
[ -z "${APART:-}" ] || MGS=$(listen 1 9400)
strake format mgs -d "$T/mgs" -c fabric >/dev/null || fail "format mgs"
serve mgs
key=$T/mgs/cluster.key
up() { on c0 strake -m $MGS --key "$key" status >"$T/status"; }
await "the MGS" up
on mds strake format mds -d "$T/mds" -m $MGS --key "$key" >/dev/null || fail "format mds"
on oss0 strake format oss -d "$T/ost0" -m $MGS --key "$key" >/dev/null || fail "format oss 0"
serve oss0
serve mds
two() { on c0 strake -m $MGS --key "$key" status --json | python3 -c '
import json, sys
s = json.load(sys.stdin)
up = [t for t in s["oss"] + s["mds"] if t["state"].lower() == "up"]
sys.exit(len(up) != int(sys.argv[1]))' "$1"; }
await "MDT and OST 0 up" two 2
on oss1 strake format oss -d "$T/ost1" -m $MGS --key "$key" >/dev/null || fail "format oss 1"
serve oss1
await "all targets up" two 3

# --- how they go --------------------------------------------------------------------------------------------------------

counter() { # MNT NAME
	getfattr --absolute-names --only-values -n strake.stats "$T/$1" | awk -v name="$2" '$1 == name { print $2 }'
}
# goes_by_rdma MNT: all of that mount's connections.
goes_by_rdma() { [ "$(counter "$1" connections_rdma)" -gt 0 ] && [ "$(counter "$1" connections_tcp)" = 0 ]; }
# all_by_rdma: the servers' connections, to each other, too. The MGS has one of each of the five others. What it says is a log.
all_by_rdma() {
	on c0 strake -m $MGS --key "$key" status --json >"$T/status.log" && python3 -c '
import json, sys
status = json.load(open(sys.argv[1]))
others = [server["connections"] for server in status["mds"] + status["oss"]]
sys.exit(status["mgs"][0]["connections"] != {"tcp": 0, "rdma": 5} or
         len(others) != 3 or any(one["tcp"] != 0 or one["rdma"] == 0 for one in others))' "$T/status.log"
}
