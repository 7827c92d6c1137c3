#!/bin/bash
# A cluster and a mount begin without RDMA devices, which come then: they are used. And a device is taken out under a verifier's
# writing and reading, and put in again: the clients', then the servers'. The mount goes on by TCP, and by RDMA again with what is another
# device now; no error, no other bytes. In a guest (guest.sh), by rxe: siw does not let a device go that somebody has.
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/infiniband/rxe0 ] || skip "it runs in the guest of tests/guest/guest.sh, by rxe"

# Of the mount at $M, to the MDT and OSTs.
counter() { getfattr --absolute-names --only-values -n strake.stats "$M" | awk -v name="$1" '$1 == name { print $2 }'; }
# goes_by KIND OTHER: all of the mount's connections are of that kind.
goes_by() { [ "$(counter "connections_$1")" -gt 0 ] && [ "$(counter "connections_$2")" = 0 ]; }

# --- a device that comes later -------------------------------------------------------------------------------------------

# So do all others, to the MGS, where nobody connects to it anew.
reach_mgs() { strake -m "$MGS" status | grep -q "^  MGS: $MGS + rdma, .*, 0 connections by TCP, 3 by RDMA$"; }

for n in 0 1; do rdma link del rxe$n || fail "taking rxe$n out"; done
cluster "$T/d" --osts 1 --listen 192.0.2.2
MGS=$(field "$T/d" mgs 0 address)
M=$T/l
mount_more "$M"
echo words >"$M/file" && sync "$M/file" || fail "a write without RDMA"
expect "connections by RDMA without a device" 0 "$(counter connections_rdma)"
for n in 0 1; do rdma link add rxe$n type rxe netdev rdma$n || fail "putting rxe$n in"; done
PATIENCE=120 await "the mount goes by RDMA, which was not there" goes_by rdma tcp
PATIENCE=120 await "the MGS is reached by RDMA, which was not there" reach_mgs
expect "the file" words "$(cat "$M/file")"
for log in mgs mds0 ost0; do
	expect "lines of RDMA in the log of $log" 1 "$(grep -c "listened on by RDMA" "$T/d/log/$log.log")"
done
strake umount "$M" || fail "umount"
strake cluster stop "$T/d" >/dev/null || fail "stop"

# --- one that goes and comes ---------------------------------------------------------------------------------------------

M=$T/m
cluster "$T/c" --osts 2 --listen 192.0.2.2
MGS=$(field "$T/c" mgs 0 address)
mount_more "$M"

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
