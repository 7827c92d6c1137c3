#!/bin/bash
# Servers and clients as separate hosts, each in a network namespace of its own with an RDMA device of its own: mounts go by
# RDMA, servers among themselves, too, what one writes another reads; on iWARP also while packets are lost; an idle client's host
# vanishes, is given up by all servers, and comes back; and the same where `transport` is rdma. FAMILY=6: by IPv6, and nothing is
# lost. In a guest (guest.sh).
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"
DEVICES=siw
[ ! -d /sys/class/infiniband/rxe0 ] || DEVICES=rxe
. "$(dirname "$0")/../cluster/hosts.sh"

for c in c0 c1; do mount_on $c "$T/$c" ${TRANSPORT:+-o "transport=$TRANSPORT"}; done
head -c 20000000 /dev/urandom >"$T/data"
cp "$T/data" "$T/c0/f" || fail "cp"
cmp -s "$T/data" "$T/c1/f" || fail "another host reads other bytes"
for c in c0 c1; do await "the mount on $c goes by RDMA" goes_by_rdma $c; done
await "the servers go by RDMA" all_by_rdma
hammer -p 2 -n "${SCALE:-100}" -s 5 "$T/c0" || fail "hammer"

# Of rxe, one lost packet in a hundred stops large transfers for many seconds: it is no test of ours.
if [ $DEVICES = siw ] && [ -z "${TRANSPORT:-}" ] && [ "${FAMILY:-4}" = 4 ]; then
	for n in 3 4 5; do ip netns exec "$tag" tc qdisc add dev "p$n" root netem loss 1% || fail "no netem"; done
	before=$(counter c0 bytes_rdma)
	hammer -p 2 -n "${SCALE:-100}" -s 6 "$T/c0" || fail "hammer while packets are lost"
	cp "$T/data" "$T/c0/g" || fail "cp while packets are lost"
	cmp -s "$T/data" "$T/c1/g" || fail "another host reads other bytes while packets are lost"
	[ "$(counter c0 bytes_rdma)" -gt "$before" ] || fail "nothing went by RDMA while packets were lost"
	say "switches of transport while packets were lost: $(counter c0 transport_switches)"
	for n in 3 4 5; do ip netns exec "$tag" tc qdisc del dev "p$n" root; done
fi

# What goes to c1, and what comes from it, is lost: no end of a connection is told of.
reach_c1() { # add|del
	ip netns exec "$tag" tc qdisc "$1" dev p6 root netem loss 100% &&
		ip netns exec "${tag}c1" tc qdisc "$1" dev v6 root netem loss 100% || fail "no netem"
}
given_up() {
	for server in mgs mds oss0 oss1; do
		grep -q 'client 192\.0\.2\.6:[0-9]* (client): cut off: it does not answer any more' "$T/c/log/$server.log" || return
	done
}
if [ "${FAMILY:-4}" = 4 ]; then
	reach_c1 add
	SECONDS=0
	PATIENCE=200 await "the servers give c1 up" given_up
	say "c1 was given up by all servers after $SECONDS s"
	reach_c1 del
	cmp -s "$T/data" "$T/c1/f" || fail "who was away reads other bytes"
fi
for c in c0 c1; do
	await "the mount on $c goes by RDMA in the end" goes_by_rdma $c
done
await "the servers go by RDMA in the end" all_by_rdma
for c in c0 c1; do
	expect "bytes lost of $c" 0 "$(counter $c bytes_lost)"
	strake umount "$T/$c" || fail "umount on $c"
done
on c0 strake -m $MGS --key "$key" fsck >"$T/fsck.out" 2>&1 || fail "fsck: $(cat "$T/fsck.out")"
# All of it once more.
[ -n "${TRANSPORT:-}" ] || TRANSPORT=rdma bash "$0" || fail "where transport is rdma"
