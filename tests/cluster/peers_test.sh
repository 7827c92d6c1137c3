#!/bin/bash
# Wrong peers and a wrong wire: each is refused or survived, in time, with a clear line in the log, and the mounts of others
# never notice: on one of them the hammer compares every byte all the time.
. "$(dirname "$0")/lib.sh"

tools=$(cd "$(dirname "$0")/../tools" && pwd)
tag=wire$$
at_exit() { ip netns del "$tag" 2>/dev/null; }
scale=${SCALE:-100}

start --osts 2
key=$T/c/mgs/cluster.key

# --- somebody at work -------------------------------------------------------------------------------------------------

work_begins
. "$(dirname "$0")/attacks.sh"
role_of() { case $1 in mds) echo mdt ;; oss) echo ost ;; *) echo "$1" ;; esac; }
memory() { awk '/^VmRSS/ { print int($2 / 1024) }' "/proc/$(field "$T/c" "$1" 0 pid)/status"; } # MiB
pids_before=$(pids)
wrong_peer() { # SERVER ATTACK...
	local server=$1
	shift
	timeout 300 python3 "$tools/wrong_peer.py" "$key" "$(field "$T/c" "$server" 0 address)" "$(role_of "$server")" "$@"
}

# --- peers ------------------------------------------------------------------------------------------------------------

attack garbage "refused: it does not speak our protocol"
attack greetings "refused: no protocol version in common: the server speaks 1 to 1, the client 99 to 99" \
	"refused: this is filesystem [-0-9a-f]+, not 78787878" "refused: malformed greeting"
attack wrong_key "refused: wrong key: the client's cluster key is not the server's"
attack replay "refused: wrong key"
attack reflect "refused: wrong key"
attack flipped "cut off: a damaged message"
attack lies "cut off: a message longer than allowed" "cut off: a message that breaks the protocol" \
	"cut off: a message of another protocol version"
attack strangers "refused .* \(0xfff\): Operation not supported" "refused .*: Bad message"
attack silent "cut off: no complete greeting in time" "cut off: silent in the middle of a message"
NOISE=$((20 * scale)) attack noise

# All memory that an OST has for bulk, in the hands of those who went silent: others wait a second or two, not for the 10 s
# that a frame may take.
wrong_peer oss hoard &
job=$!
while alive $job; do
	timeout 8 dd if=/dev/urandom of="$T/m/beside" bs=1M count=2 conv=fsync 2>/dev/null || fail "a write beside those who hoard memory"
done
wait $job || fail "hoard"
unharmed "those who hoard memory"

# Who is refused all the time fills no disk: 100 lines at once, then one more every 6 s.
lines() { for server in $servers; do wc -l <"$(log_of "$server")"; done | sort -n | tail -n 1; }
before=$(lines)
FLOOD=7 on_all flood
[ $(($(lines) - before)) -lt 130 ] || fail "a flood of peers that were refused has filled a log with $(($(lines) - before)) lines"
unharmed "a flood"
told() { wrong_peer "$1" garbage && grep -q "lines like the last ones not shown" "$(log_of "$1")"; }
for server in $servers; do await "the $server says that it said less" told "$server"; done

# Connections that do nothing, half of them by the key; others are served meanwhile, and more can be mounted.
most=$(ulimit -Hn)
[ "$most" -gt 11000 ] && IDLE=10000 || IDLE=$((most - 500))
IDLE=$((IDLE * scale / 100))
declare -A had
jobs=
for server in $servers; do
	had[$server]=$(memory "$server")
	IDLE=$IDLE HOLD=$T/hold.$server wrong_peer "$server" idle &
	jobs="$jobs $!"
done
held() { # by all, or one has failed
	local server job
	for job in $jobs; do alive "$job" || return 0; done
	for server in $servers; do [ -e "$T/hold.$server" ] || return 1; done
}
PATIENCE=300 await "$IDLE idle connections to each server" held
mount_more "$T/m1"
ls "$T/m1/work" >/dev/null || fail "a mount beside $IDLE idle connections to each server"
strake umount "$T/m1" || fail "umount"
for server in $servers; do
	after=$(memory "$server")
	say "$server: $IDLE idle connections, ${had[$server]} MiB before, $after MiB after"
	[ $((after - ${had[$server]})) -lt 64 ] || fail "idle connections took $((after - ${had[$server]})) MiB of the $server"
done
rm -f "$T"/hold.*
for job in $jobs; do wait "$job" || fail "idle connections"; done
unharmed "idle connections"
expect "the servers that run, after all of that" "$pids_before" "$(pids)"

# --- a wrong wire -----------------------------------------------------------------------------------------------------

# A mount in a network namespace where what answers at the servers' addresses is tests/tools/bad_wire.py.
if ip netns add "$tag" 2>/dev/null && ip netns exec "$tag" ip link set lo up; then
	ports=$(for server in mgs:0 mds:0 oss:0 oss:1; do field "$T/c" ${server%:*} ${server#*:} address | sed 's/.*://'; done)
	mkfifo "$T/orders" "$T/answers"
	# shellcheck disable=SC2086 # a list
	python3 "$tools/bad_wire.py" "/run/netns/$tag" $ports <"$T/orders" >"$T/answers" &
	PIDS="$PIDS $!"
	exec 8>"$T/orders" 9<"$T/answers"
	wire() { echo "$*" >&8 && read -r -t 30 answer <&9 && [ "$answer" = ok ] || fail "the wire does not answer"; }
	read -r -t 30 answer <&9 || fail "there is no wire"
	mkdir "$T/m2" "$T/m/wire"
	MOUNTS="$MOUNTS $T/m2"
	nsenter --net="/run/netns/$tag" mount.strake --key "$key" "$MGS:/" "$T/m2" || fail "mount by the wire"
	for faults in flip "drop twice insert" cut "flip drop twice insert cut"; do
		wire "$faults"
		timeout 300 hammer -p 2 -n $((2 * scale)) -s 3 "$T/m2/wire" || fail "the hammer on a wire with $faults"
		wire ""
		unharmed "a wire with $faults"
	done
	wire "stall"
	timeout 300 hammer -p 2 -n $((scale / 2)) -s 4 "$T/m2/wire" || fail "the hammer on a wire that stalls"
	wire ""
	unharmed "a wire that stalls"
	strake umount "$T/m2" || fail "umount by the wire"
	exec 8>&-
	say "the wire: $(cat <&9)"
	grep -qE "warning: .*(damaged|breaks the protocol)" "$T/c/log/mds0.log" || fail "the MDS's log does not tell of the wire"
fi
work_ends
