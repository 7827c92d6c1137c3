#!/bin/bash
# Servers that die, hang and come back, and connections that are cut in the middle of whatever goes over them, under
# writers, readers and renamers on two mounts, who know what they must find. They see no error, nothing is lost, done twice
# or done in another order; they are only slow. SEED=N repeats the choices, not the moments.
#
# In a network of its own: what is lost with a connection is lost only while the link is down, since a loopback delivers
# whatever was sent before the end of a connection is told.
[ "$(id -u)" != 0 ] || [ -n "${OWN_NETWORK:-}" ] || exec env OWN_NETWORK=1 unshare -n bash "$0" "$@"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/chaos.sh"

command -v ss >/dev/null || skip "needs ss (make deps installs it)"
ip link set lo up || fail "no loopback"
start --osts 3 -o strict
mount_more "$T/m2" -o strict
chaos_begins "$T/m" "$T/m2"

# --- what happens to them -------------------------------------------------------------------------------------------------

servers() {
	strake cluster status "$T/c" --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
for role in "mgs", "mds", "oss":
    for index, server in enumerate(status[role]): print(role, index, server["pid"], server["address"].split(":")[-1])'
}
restart() { strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "restart: $(cat "$T/start.out")"; }
connections() { ss -tnH state established "$1"; }
# Either end of a connection; mostly of one that has bytes under way.
sever() { # FILTER
	some=$(connections "$1")
	busy=$(echo "$some" | awk '$1 + $2 > 0')
	[ $((RANDOM % 3)) = 0 ] || some=${busy:-$some}
	# shellcheck disable=SC2046 # the fields
	set -- $(echo "$some" | sed -n "$((RANDOM % $(echo "$some" | wc -l) + 1))p")
	[ $# -lt 4 ] || ss -tnHK state established src "$3" dst "$4" >"$T/severed"
}
# strand PID PORT: what the server is asked it does, and its answers do not arrive: the link is down when this returns.
strand() {
	kill -STOP "$1"
	piled_up 1 "sport = :$2"
	ip link set lo down
	kill -CONT "$1"
	piled_up 2 "sport = :$2"
}
# lose PORT: these answers are lost for good, also those of a server that is gone; the link is up again.
lose() {
	ss -tnHK "sport = :$1 or dport = :$1" >"$T/severed"
	ip link set lo up
}
# piled_up 1|2 FILTER: until bytes wait to be read, or to be sent, and no more come; an OST may have none for a while.
piled_up() {
	before=0
	for ((look = 0; look < 30; look++)); do
		bytes=$(connections "$2" | awk -v n="$1" '{ bytes += $n } END { print bytes + 0 }')
		[ "$bytes" = 0 ] || [ "$bytes" != "$before" ] || return
		before=$bytes
	done
}

for ((round = 1; round <= rounds; round++)); do
	mapfile -t all < <(servers)
	read -r role index pid port <<<"${all[RANDOM % ${#all[@]}]}"
	dice=$((RANDOM % 10))
	case $role:$dice in # a lost answer of the MGS is nothing much, of the MDS all the more
	mgs:[23678] | *:[26]) read -r role index pid port <<<"$(printf '%s\n' "${all[@]}" | grep ^mds)" ;;
	esac
	pids=$(printf '%s\n' "${all[@]}" | awk '{ print $3 }')
	ports=$(printf '%s\n' "${all[@]}" | awk '{ printf "%ssport = :%s or dport = :%s", n++ ? " or " : "", $4, $4 }')
	case $dice in
	0 | 1)
		deed="$role $index is killed"
		die "$pid"
		restart
		;;
	2 | 3)
		deed="$role $index is killed before its answers arrive"
		strand "$pid" "$port"
		die "$pid"
		lose "$port"
		restart
		;;
	4)
		deed="all are killed"
		# shellcheck disable=SC2086 # a list
		die $pids
		restart
		;;
	5)
		deed="connections end"
		for ((n = 0; n < 12; n++)); do sever "$ports"; done
		;;
	6 | 7 | 8)
		deed="the connections of $role $index end before its answers arrive"
		for ((n = 0; n < 3; n++)); do
			strand "$pid" "$port"
			lose "$port"
			await_progress
		done
		;;
	*)
		pause=$((RANDOM % 3 == 0 ? RANDOM % 2000 : RANDOM % 200))
		deed="$role $index is silent for $pause ms"
		hang "$pid" "$pause"
		;;
	esac
	await_progress
	round_is_over
done

chaos_ends
intact "$T/c" || fail "it is not as it must be"
strake cluster stop "$T/c" >/dev/null || fail "stop"
strake-mds --check -d "$T/c/mds0" >"$T/check" 2>&1 || { cat "$T/check"; fail "the MDT's state is not consistent"; }
