#!/bin/bash
# The fabric is taken away under a verifier's writing and reading, and given back: the mount goes on by TCP, and by RDMA again;
# no error, no other bytes. In a guest (guest.sh), whose two devices are joined by a wire: RDMA goes over it, and TCP to the
# cluster's ports does not, so that only RDMA is cut.
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"

mkdir "$T/m"
cluster "$T/c" --osts 2 --listen 192.0.2.2
MGS=$(field "$T/c" mgs 0 address)
for port in $(sed -n '/^\[ports\]/,$s/.* = //p' "$T/c/cluster.conf"); do
	ip rule add pref 5 ipproto tcp dport "$port" lookup local && ip rule add pref 5 ipproto tcp sport "$port" lookup local ||
		fail "no rule for port $port"
done
mount_more "$T/m"

counter() { getfattr --absolute-names --only-values -n strake.stats "$T/m" | awk -v name="$1" '$1 == name { print $2 }'; }
# goes_by KIND OTHER: all of the mount's connections are of that kind.
goes_by() { [ "$(counter "connections_$1")" -gt 0 ] && [ "$(counter "connections_$2")" = 0 ]; }
served_by_rdma() {
	strake -m "$MGS" status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
sys.exit(not all(server["connections"]["rdma"] > 0 for server in status["mds"] + status["oss"]))'
}
# mgs_by_rdma COUNT: so many of the four who stay reach the MGS by RDMA, the others by TCP, as does who asks here.
mgs_by_rdma() {
	strake -m "$MGS" status --json | python3 -c '
import json, sys
rdma = int(sys.argv[1])
sys.exit(json.load(sys.stdin)["mgs"][0]["connections"] != {"tcp": 5 - rdma, "rdma": rdma})' "$1"
}

work_begins
await "the mount goes by RDMA" goes_by rdma tcp
await "its servers say so" served_by_rdma
# The MDS, two OSSes and the mount, none of which has named it by rdma://.
await "the MGS is reached by RDMA" mgs_by_rdma 4
for ((round = 0; round < ${ROUNDS:-3}; round++)); do
	before=$(counter bytes_tcp)
	ip link set wires down
	await "the mount goes by TCP" goes_by tcp rdma
	await "the MGS is reached by TCP" mgs_by_rdma 0
	unharmed "the loss of the fabric"
	[ "$(counter bytes_tcp)" -gt "$before" ] || fail "nothing went by TCP"
	before=$(counter bytes_rdma)
	ip link set wires up
	await "the mount goes by RDMA again" goes_by rdma tcp
	await "the MGS is reached by RDMA again" mgs_by_rdma 4
	unharmed "the return of the fabric"
	[ "$(counter bytes_rdma)" -gt "$before" ] || fail "nothing went by RDMA"
done
work_ends
[ "$(counter transport_switches)" -ge $((2 * round)) ] || fail "it did not go over"
expect "bytes lost" 0 "$(counter bytes_lost)"
