#!/bin/bash
# What cluster/chaos_test.sh does, by RDMA: servers die, hang and come back, mounts hang, connections end, and words are lost for a
# while: all there are, what one host says, what it is told, what one says to another, also between servers. Who works sees no error,
# nothing is lost, done twice or done in another order. Each server and each mount is a host with an RDMA device of its own.
# On rxe RDMA has links of its own first, and only these are cut: all go on by TCP meanwhile. Then, and on siw, there is nothing else,
# and all wait. SEED=N repeats the choices, not the moments. In a guest (guest.sh).
. "$(dirname "$0")/../cluster/lib.sh"
[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"
. "$(dirname "$0")/../cluster/chaos.sh"

# With siw no attempt by RDMA may be given up since TCP was faster: that may take the listening socket along (ARCHITECTURE.md).
DEVICES=siw
[ ! -d /sys/class/infiniband/rxe0 ] || DEVICES=rxe
[ $DEVICES = rxe ] || TRANSPORT=rdma
[ "${TRANSPORT:-}" = rdma ] || APART=1
. "$(dirname "$0")/../cluster/hosts.sh"

for c in c0 c1; do mount_on $c "$T/$c" -o "strict${TRANSPORT:+,transport=$TRANSPORT}"; done
# all_go WHEN: by RDMA, before long. A look takes some time.
all_go() { PATIENCE=20 await "all go by RDMA $1" by_rdma; }
by_rdma() { goes_by_rdma c0 && goes_by_rdma c1 && all_by_rdma; }
all_go "at first"
chaos_begins "$T/c0" "$T/c1"

# --- what is lost -----------------------------------------------------------------------------------------------------------

# lose all | FROM>TO | HOST> | >HOST...: that is lost until `heal`. No port goes down, and no end of a connection is told of.
lose() {
	local what from to
	LOST=$*
	for what in "$@"; do
		from=${what%>*} to=${what#*>}
		case $what in
		all) ip netns exec "$tag" ip link set "$hub" down ;;
		*\>) on "$from" tc qdisc add dev "$end${N[$from]}" root netem loss 100% ;;
		\>*) ip netns exec "$tag" tc qdisc add dev "$hub_end${N[$to]}" root netem loss 100% ;;
		*) on "$from" ip neigh replace "$subnet${N[$to]}" dev "$end${N[$from]}" lladdr 02:00:00:00:00:00 nud permanent ;;
		esac || fail "it cannot be lost: $what"
	done
}
heal() {
	local what from to
	for what in $LOST; do
		from=${what%>*} to=${what#*>}
		case $what in
		all) ip netns exec "$tag" ip link set "$hub" up ;;
		*\>) on "$from" tc qdisc del dev "$end${N[$from]}" root ;;
		\>*) ip netns exec "$tag" tc qdisc del dev "$hub_end${N[$to]}" root ;;
		*) on "$from" ip neigh del "$subnet${N[$to]}" dev "$end${N[$from]}" ;;
		esac || fail "it cannot be healed: $what"
	done
}
# settles COMMAND...: until what it counts has begun and stands still for some looks; it may never begin.
settles() {
	local before=0 look now same=0
	for ((look = 0; look < 40 && same < 5; look++)); do
		now=$("$@")
		if [ "$now" != 0 ] && [ "$now" = "$before" ]; then same=$((same + 1)); else same=0; fi
		before=$now
		sleep 0.02 # between two looks
	done
}
sent_to() { on "$1" cat "/sys/class/net/$end${N[$1]}/statistics/rx_packets"; }
lost_from() { on "$1" tc -s qdisc show dev "$end${N[$1]}" | awk '/dropped/ { sub(",", "", $7); print $7 }'; }
# strand SERVER: what it is asked it does, and its answers do not arrive, when this returns.
strand() {
	kill -STOP "${SERVERS[$1]}"
	settles sent_to "$1"
	lose "$1>"
	kill -CONT "${SERVERS[$1]}"
	settles lost_from "$1"
}
# sever HOST: all of its connections by RDMA end.
sever() {
	if [ $DEVICES = siw ]; then
		for other in "${!N[@]}"; do
			on "$other" ss -tnHK "src $subnet${N[$1]} or dst $subnet${N[$1]}" >"$T/severed"
		done
	else
		device del "$1" && device add "$1"
	fi
}
# lasts [WHAT...]: that, or what is lost already, is lost until all have gone on by TCP, or for a while: mostly a short one, at times
# longer than anybody waits for an answer.
lasts() {
	[ $# = 0 ] || lose "$@"
	if [ -n "${APART:-}" ] && [ $((RANDOM % 2)) = 0 ]; then
		deed="$deed, until all have gone on"
		await_progress
	else
		pause=$((RANDOM % 4))
		case $pause in
		0) pause=$((11000 + RANDOM % 2000)) ;;
		1) pause=$((RANDOM % 4000)) ;;
		*) pause=$((RANDOM % 400)) ;;
		esac
		deed="$deed for $pause ms"
		passes $pause
	fi
	heal
}

# --- what happens to them -------------------------------------------------------------------------------------------------

servers=(mgs mds mds oss0 oss1) # the MDS all the more
links=(c0 mds c1 mds c0 oss0 c1 oss1 mds oss0 mds oss1 mds oss0 mds oss1 mgs mds mgs oss0) # two by two
daemon() { for pid in $(ip netns pids "$tag$1"); do [ "$(cat "/proc/$pid/comm")" != mount.strake ] || echo "$pid"; done; }

for ((round = 1; round <= rounds; round++)); do
	h=${servers[RANDOM % ${#servers[@]}]}
	c=c$((RANDOM % 2))
	case $((RANDOM % 11)) in
	0)
		deed="$h is killed"
		die "${SERVERS[$h]}"
		serve "$h"
		;;
	1 | 2)
		deed="$h is killed before its answers arrive"
		strand "$h"
		die "${SERVERS[$h]}"
		heal
		serve "$h"
		;;
	3)
		deed="all are killed"
		die "${SERVERS[@]}"
		for h in mgs oss0 mds oss1; do serve $h; done
		;;
	4)
		deed="the answers of $h are lost"
		strand "$h"
		lasts
		;;
	5)
		[ $((RANDOM % 3)) != 0 ] || h=$c
		deed="what goes to $h is lost"
		lasts ">$h"
		;;
	6)
		[ $((RANDOM % 3)) != 0 ] || h=$c
		deed="$h is cut off"
		lasts ">$h" "$h>"
		;;
	7)
		n=$((RANDOM % (${#links[@]} / 2) * 2)) a=${links[n]} b=${links[n + 1]}
		case $((RANDOM % 3)) in
		0) set -- "$a>$b" ;;
		1) set -- "$b>$a" ;;
		2) set -- "$a>$b" "$b>$a" ;;
		esac
		deed="what goes $* is lost"
		lasts "$@"
		;;
	8)
		deed="all is lost"
		lasts all
		;;
	9)
		pause=$((RANDOM % 3 == 0 ? RANDOM % 2000 : RANDOM % 200)) pid=${SERVERS[$h]}
		[ $((RANDOM % 3)) != 0 ] || h=$c pid=$(daemon $c)
		deed="$h is silent for $pause ms"
		hang "$pid" $pause
		;;
	10)
		[ -n "${APART:-}" ] || [ $DEVICES = siw ] || h=$c
		deed="the connections of $h end"
		[ $h = $c ] || { deed="$deed before its answers arrive" && strand $h; }
		sever $h
		[ $h = $c ] || heal
		;;
	esac
	await_progress
	for h in "${!SERVERS[@]}"; do alive "${SERVERS[$h]}" || found "$h has ended in round $round: $deed"; done
	round_is_over
	# Else they would be by TCP most of the time: RDMA that has just failed rests for a while.
	[ -z "${APART:-}" ] || [ $((round % 2)) = 0 ] || all_go "after $deed"
done

chaos_ends
all_go "in the end"
for c in c0 c1; do
	expect "bytes lost of $c" 0 "$(counter $c bytes_lost)"
	[ -z "${TRANSPORT:-}" ] || expect "bytes by TCP of $c" 0 "$(counter $c bytes_tcp)"
	say "switches of transport on $c: $(counter $c transport_switches), calls sent again: $(counter $c resends)"
	strake umount "$T/$c" || fail "umount on $c"
done
on c0 strake -m $MGS --key "$key" fsck >"$T/fsck.out" 2>&1 || fail "fsck: $(cat "$T/fsck.out")"
kill "${SERVERS[mds]}"
await "the MDS has stopped" ! alive "${SERVERS[mds]}"
strake-mds --check -d "$T/mds" >"$T/check" 2>&1 || { cat "$T/check"; fail "the MDT's state is not consistent"; }
[ -n "${TRANSPORT:-}" ] || TRANSPORT=rdma bash "$0" || fail "where transport is rdma"
