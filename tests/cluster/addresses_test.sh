#!/bin/bash
# Servers that listen at several addresses: the map names all of them, in order; who cannot reach the first uses another, and so does
# who has used the first, when it is gone. Servers are one network namespace, the client is another, on two networks between them.
. "$(dirname "$0")/lib.sh"

tag=st$$
at_exit() { for n in $tag-s $tag-c; do ip netns pids $n 2>/dev/null | xargs -r kill -9; ip netns del $n; done 2>/dev/null; }
ip netns add $tag-s 2>/dev/null && ip netns add $tag-c || skip "no network namespaces here"
servers() { ip netns exec $tag-s "$@"; }
client() { ip netns exec $tag-c "$@"; }
ip link add near netns $tag-s type veth peer name far netns $tag-c || fail "no link"
servers ip addr add 192.0.2.1/24 dev near && servers ip addr add 198.51.100.1/24 dev near &&
	client ip addr add 198.51.100.2/24 dev far || fail "no addresses"
for n in lo near; do servers ip link set $n up; done
for n in lo far; do client ip link set $n up; done

# --- a cluster ----------------------------------------------------------------------------------------------------------

MGS=192.0.2.1:9400,198.51.100.1:9400
key=$T/mgs/cluster.key
server() { # LOG COMMAND...
	mkdir -p "$T/c/log"
	servers "${@:2}" >"$T/c/log/$1.log" 2>&1 &
	PIDS="$PIDS $!"
}
status() { client strake -m $MGS --key "$key" status --json >"$T/out"; }
up() { status && python3 -c '
import json, sys
it = json.load(open(sys.argv[1]))
sys.exit(sum(target["state"].lower() == "up" for target in it["oss"] + it["mds"]) != int(sys.argv[2]))' "$T/out" "$1"; }
strake format mgs -d "$T/mgs" -c several >/dev/null || fail "format mgs"
server mgs strake-mgs -d "$T/mgs" -l $MGS
await "the MGS" up 0
servers strake format mds -d "$T/mds" -m $MGS --key "$key" >/dev/null || fail "format mds"
for n in 0 1; do servers strake format oss -i $n -d "$T/ost$n" -m $MGS --key "$key" >/dev/null || fail "format oss $n"; done
server mds strake-mds -d "$T/mds" -l 192.0.2.1,198.51.100.1 -m $MGS
server oss strake-oss -d "$T/ost0,$T/ost1" -l 192.0.2.1,198.51.100.1:9500 -m $MGS
await "all targets up" up 3

# --- what is told -------------------------------------------------------------------------------------------------------

told() { # ROLE N PORT PORT
	json "it['$1'][$2]['addresses'] == ['192.0.2.1:$3', '198.51.100.1:$4']"
}
status || fail "status"
told mds 0 9401 9401
told oss 0 9402 9500
told oss 1 9403 9501

# --- what is used -------------------------------------------------------------------------------------------------------

mkdir "$T/m"
MOUNTS=$T/m
mount_it() { nsenter --net="/run/netns/$tag-c" mount.strake --key "$key" "$MGS:/" "$T/m" -o "log=$T/m.log" || fail "mount"; }
# uses ADDRESS OTHER: all that the client is connected to, the MGS, the MDT and both OSTs, is there.
used() { client ss -Htn state established dst "$1" | wc -l; }
uses() { [ "$(used "$1")" -ge 4 ] && [ "$(used "$2")" = 0 ]; }

head -c 20000000 /dev/urandom >"$T/data"
mount_it
cp "$T/data" "$T/m/f" && sync "$T/m/f" || fail "cp by the second addresses"
uses 198.51.100.1 192.0.2.1 || fail "what is used: $(client ss -tn)"

# The first ones can be reached now: who connects anew takes them. Then they are gone, and it goes on.
strake umount "$T/m" || fail "umount"
client ip addr add 192.0.2.2/24 dev far || fail "no address"
mount_it
cmp "$T/data" "$T/m/f" || fail "other bytes"
uses 192.0.2.1 198.51.100.1 || fail "what is used then: $(client ss -tn)"
client ip addr del 192.0.2.2/24 dev far || fail "the address stays"
cp "$T/data" "$T/m/g" && sync "$T/m/g" && cmp "$T/data" "$T/m/g" || fail "cp without the first addresses"
await "the second addresses are used" uses 198.51.100.1 192.0.2.1
strake umount "$T/m" || fail "umount"
client strake -m $MGS --key "$key" fsck >"$T/fsck.out" 2>&1 || fail "fsck: $(cat "$T/fsck.out")"
