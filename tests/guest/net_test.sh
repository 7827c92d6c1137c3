#!/bin/bash
# strake net, and strake net test, where there are devices: in a guest (guest.sh) with two, joined by a wire.
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"
kind=rxe protocol=RoCE
[ -d /sys/class/infiniband/rxe0 ] || kind=siw protocol=iWARP

says() { grep -q -- "$1" "$T/out" || fail "it says '$(cat "$T/out")', not '$1'"; }

# --- devices ----------------------------------------------------------------------------------------------------------

strake net >"$T/out" || fail "strake net"
# As the kernel tells it, in words such as "10 Gb/sec (4X SDR)"; packets of 9000 bytes have room for 4096 of data.
rate() { cut -d' ' -f 1 "/sys/class/infiniband/$1/ports/1/rate"; }
for n in 0 1; do
	says "^${kind}$n port 1: active, $protocol over Ethernet, $(rate "$kind$n") Gbit/s, MTU 4096, 192.0.2.$((n + 1)) (rdma$n)$"
done
strake net --json >"$T/out" || fail "strake net --json"
json "[d['name'] for d in it['devices']] == ['${kind}0', '${kind}1'] and it['reason'] is None"
json "it['devices'][1]['addresses'] == [{'address': '192.0.2.2', 'interface': 'rdma1'}]"
json "all(d['rate_mbit_per_s'] == 1000 * $(rate "${kind}0") and d['mtu'] == 4096 for d in it['devices'])"
json "all(d['state'] == 'active' and d['link_layer'] == 'Ethernet' and d['protocol'] == '$protocol' for d in it['devices'])"
ip link set rdma1 mtu 1500
small() { strake net >"$T/out" && grep -q "^${kind}1 .*, MTU 1024, " "$T/out"; }
await "the port has smaller packets" small
ip link set rdma1 mtu 9000
ip link set rdma1 down
down() { strake net >"$T/out" && grep -q "^${kind}1 port 1: down" "$T/out"; }
await "the port is down" down
ip link set rdma1 up
ip addr replace 192.0.2.2/24 dev rdma1 noprefixroute
ip route replace 192.0.2.0/24 dev rdma1 src 192.0.2.2 table 101
up() { strake net >"$T/out" && grep -q "^${kind}1 port 1: active.*192.0.2.2 (rdma1)" "$T/out"; }
await "the port is up again" up
ip addr del 192.0.2.2/24 dev rdma1
strake net >"$T/out" || fail "strake net"
says "^${kind}1 port 1: active.*, no IP address: not used until its network interface has one$"
ip addr add 192.0.2.2/24 dev rdma1 noprefixroute
ip route replace 192.0.2.0/24 dev rdma1 src 192.0.2.2 table 101
await "the port has its address again" up

# A kernel's devices that libibverbs has no driver for.
drivers=$(dirname "$(find /usr/lib -name "lib$kind-rdmav*.so" | head -n 1)")
mount -t tmpfs none "$drivers" || fail "cannot hide the drivers"
strake net >"$T/out" 2>/dev/null || fail "strake net without drivers"
says "No RDMA here: the kernel has RDMA devices, but libibverbs finds none"
# warned DIR REASON: each of its servers says once why there is no RDMA.
warned() {
	local log
	for log in "$1"/log/{mgs,mds0,ost0}.log; do
		expect "warnings of no RDMA in $log" 1 "$(grep -c "warning: RDMA is not used: $2" "$log")"
	done
}
cluster "$T/d" --osts 1 --listen 192.0.2.2
warned "$T/d" "the kernel has RDMA devices, but libibverbs finds none"
strake cluster stop "$T/d" >/dev/null || fail "stop"
umount "$drivers"

# A connection manager that cannot be opened, as where its module is not loaded, or in a container.
hidden() { unshare -m sh -c 'mount --bind /dev/null /dev/infiniband/rdma_cm && exec "$@"' sh "$@"; }
manager="the kernel's connection manager cannot be opened: modprobe rdma_ucm"
hidden strake net >"$T/out"
expect "exit status without a connection manager" 1 $?
says "^${kind}0 port 1: active, $protocol over Ethernet, .*addresses not known$"
says "^No RDMA here: $manager"
hidden strake net --json >"$T/out"
expect "exit status without a connection manager" 1 $?
json "len(it['devices']) == 2 and 'rdma_ucm' in it['reason']"
hidden strake cluster start "$T/n" --listen 192.0.2.2 --transport rdma >"$T/out" 2>&1 && fail "RDMA without a connection manager"
says "transport is rdma, but $manager"
CLUSTERS="$CLUSTERS $T/h"
hidden strake cluster start "$T/h" --osts 1 --listen 192.0.2.2 >"$T/out" || fail "a cluster without a connection manager"
warned "$T/h" "$manager"
strake cluster stop "$T/h" >/dev/null || fail "stop"

# --- a test -----------------------------------------------------------------------------------------------------------

measured() { # TRANSPORT
	json "all(t['latency_us']['min'] > 0 and t['to_server_bytes_per_s'] > 0 and t['from_server_bytes_per_s'] > 0 and t['lost_calls'] == 0
		for t in it['transports'] if t['transport'] == '$1' and t['measured'])"
	json "[t['measured'] for t in it['transports'] if t['transport'] == '$1'] == [True]"
}
cluster "$T/c" --osts 1 --listen 192.0.2.2
MGS=$(field "$T/c" mgs 0 address)
# That they have RDMA is told; who asks is not counted.
tells() {
	strake -m "$MGS" status >"$T/out" && grep -q "^  MGS: $MGS + rdma, .*, 0 connections by TCP, 2 by RDMA$" "$T/out" &&
		[ "$(grep -c "─ [MO][DS]T-0: 192.0.2.2:[0-9]* + rdma (" "$T/out")" = 2 ]
}
await "strake status tells of RDMA" tells
strake -m "$MGS" status --json >"$T/out" || fail "strake status"
json "[a.startswith('rdma://192.0.2.2:') for a in it['mgs'][0]['rdma_addresses']] == [True]"
for role in mgs mds oss; do
	address=$(field "$T/c" $role 0 address)
	strake -m "$MGS" net test "$address" --seconds 0.3 --json >"$T/out" || fail "$role: $(cat "$T/out")"
	measured tcp
	measured rdma
	json "it['passed'] and it['transports'][1]['address'].startswith('rdma://192.0.2.2:')"
	[ $role != oss ] || say "$kind $(tr -d ' \n' <"$T/out")"
done
# By the address that it has told.
rdma=$(python3 -c "import json; print(json.load(open('$T/out'))['transports'][1]['address'])")
strake -m "$MGS" net test "$rdma" --transport rdma --seconds 0.1 --json >"$T/out" || fail "$rdma: $(cat "$T/out")"
json "[t['transport'] for t in it['transports']] == ['rdma'] and it['address'] == '$rdma'"
measured rdma
strake -m "$MGS" net test "$rdma" --seconds 0.1 --json >"$T/out" || fail "$rdma, auto: $(cat "$T/out")"
measured tcp
measured rdma
strake -m "$MGS" net test "$rdma" --transport tcp >"$T/out" 2>&1 && fail "$rdma by TCP"
says "is an address of RDMA, and --transport is tcp"

# Memory that may not be pinned: TCP, and why is told, here and at a server.
limited() { (ulimit -l 64 && exec setpriv --bounding-set -ipc_lock "$@"); }
pin="memory for RDMA cannot be pinned: raise RLIMIT_MEMLOCK"
limited strake -m "$MGS" net test "$rdma" --transport rdma --seconds 0.1 >"$T/out" 2>&1 && fail "RDMA without memory for it"
says "$pin"
mkdir "$T/m"
MOUNTS="$T/m"
limited strake -m "$MGS" mount "$T/m" -o log="$T/mount.log" 2>>"$T/mount.log" || fail "a mount without memory for RDMA"
echo words >"$T/m/file" && sync "$T/m/file" || fail "no write without memory for RDMA"
by_tcp() {
	getfattr --absolute-names --only-values -n strake.stats "$T/m" >"$T/out" && grep -q '^connections_tcp [1-9]' "$T/out" &&
		grep -qx 'connections_rdma 0' "$T/out"
}
await "the mount goes by TCP" by_tcp
told() { grep -q "$1: by TCP now, not by RDMA: rdma://192.0.2.2:.*: $pin" "$T/mount.log"; }
for target in mgs mdt0 ost0; do await "the mount says why it reaches $target by TCP" told $target; done
CLUSTERS="$CLUSTERS $T/l"
limited strake cluster start "$T/l" --osts 1 --listen 192.0.2.2 >"$T/out" || fail "a cluster without memory for RDMA"
strake -m "$(field "$T/l" mgs 0 address)" net test "$(field "$T/l" oss 0 address)" --seconds 0.1 --json >"$T/out"
expect "exit status where memory is missing at the server" 1 $?
measured tcp
json "'refused' in it['transports'][1]['reason']"
grep -q "warning: client 192.0.2.*: refused: $pin" "$T"/l/log/*.log || fail "no server says why"
strake cluster stop "$T/l" >/dev/null || fail "stop"

# A fabric that does not answer: TCP is measured, and what is wrong is told.
for port in $(sed -n '/^\[ports\]/,$s/.* = //p' "$T/c/cluster.conf"); do
	ip rule add pref 5 ipproto tcp dport "$port" lookup local && ip rule add pref 5 ipproto tcp sport "$port" lookup local ||
		fail "no rule for port $port"
done
ip link set wires down
strake -m "$MGS" net test "$(field "$T/c" oss 0 address)" --seconds 0.1 --json >"$T/out"
expect "exit status without the fabric" 1 $?
measured tcp
json "not it['passed'] and not it['transports'][1]['measured'] and 'rdma://192.0.2.2:' in it['transports'][1]['reason']"
ip link set wires up
again() { strake -m "$MGS" net test "$(field "$T/c" oss 0 address)" --seconds 0.1 >"$T/out" 2>&1; }
await "the fabric is measured again" again

# A server that listens by RDMA only is found by its plain address, too.
strake cluster stop "$T/c" >/dev/null || fail "stop"
cluster "$T/r" --osts 1 --listen 192.0.2.2 --transport rdma
MGS=$(field "$T/r" mgs 0 address)
strake -m "$MGS" net test "${MGS#rdma://}" --seconds 0.1 --json >"$T/out" || fail "by RDMA only: $(cat "$T/out")"
measured rdma
json "it['transports'][0]['reason'] == 'the server does not listen by it' and it['passed']"
