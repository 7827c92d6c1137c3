#!/bin/bash
# An RDMA device is taken out under a verifier's writing and reading, and put in again: the clients', then the servers'. The mount
# goes on by TCP, and by RDMA again with what is another device now; no error, no other bytes. In a guest (guest.sh), by rxe: siw does
# not let a device go that somebody has.
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/infiniband/rxe0 ] || skip "it runs in the guest of tests/guest/guest.sh, by rxe"

mkdir "$T/m"
cluster "$T/c" --osts 2 --listen 192.0.2.2
MGS=$(field "$T/c" mgs 0 address)
mount_more "$T/m"

counter() { getfattr --absolute-names --only-values -n strake.stats "$T/m" | awk -v name="$1" '$1 == name { print $2 }'; }
# goes_by KIND OTHER: all of the mount's connections are of that kind.
goes_by() { [ "$(counter "connections_$1")" -gt 0 ] && [ "$(counter "connections_$2")" = 0 ]; }

before=$(for server in mgs mds oss; do field "$T/c" "$server" 0 pid; done)
work_begins
for n in 0 1 1; do
	await "the mount goes by RDMA" goes_by rdma tcp
	rdma link del rxe$n || fail "taking rxe$n out"
	await "the mount goes by TCP without rxe$n" goes_by tcp rdma
	unharmed "the loss of rxe$n"
	rdma link add rxe$n type rxe netdev rdma$n || fail "putting rxe$n in"
done
await "the mount goes by RDMA again" goes_by rdma tcp
unharmed "the return of the devices"
work_ends
expect "the servers that run" "$before" "$(for server in mgs mds oss; do field "$T/c" "$server" 0 pid; done)"
expect "bytes lost" 0 "$(counter bytes_lost)"
