#!/bin/bash
# The fabric is taken away under who works on two mounts, and given back: they go over to TCP, in time, and to RDMA again; no
# error, no other bytes, nothing done twice, no appended record lost. It is taken away in three ways: the wire is cut; answers
# are lost, so that what is asked is done, and asked again; a port goes down (and on siw up). In a guest (guest.sh), whose two devices are joined
# by a wire: RDMA goes over it, and TCP to the cluster's ports does not, so that only RDMA is cut.
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"
AT_MOST_MS=$(limit 20000) # 2 s, and ten times that on a busy machine

mkdir "$T/m1" "$T/m2"
cluster "$T/c" --osts 2 --listen 192.0.2.2
MGS=$(field "$T/c" mgs 0 address)
for port in $(sed -n '/^\[ports\]/,$s/.* = //p' "$T/c/cluster.conf"); do
	ip rule add pref 5 ipproto tcp dport "$port" lookup local && ip rule add pref 5 ipproto tcp sport "$port" lookup local ||
		fail "no rule for port $port"
done
# Else the second device, without the first one's port, would be reached by itself.
ip rule add pref 26 to 192.0.2.0/24 unreachable || fail "no rule"
mount_more "$T/m1"
mount_more "$T/m2"

# --- how they go ----------------------------------------------------------------------------------------------------------

counter() { # NAME: of both mounts
	for m in m1 m2; do getfattr --absolute-names --only-values -n strake.stats "$T/$m"; done |
		awk -v name="$1" '$1 == name { sum += $2; n++ } END { print sum; exit n != 2 }'
}
more() { [ "$(counter "$1")" -gt "$2" ]; } # NAME THAN
# goes_by KIND OTHER: all of the mounts' connections are of that kind.
goes_by() { [ "$(counter "connections_$1")" -ge 6 ] && [ "$(counter "connections_$2")" = 0 ]; }
served_by_rdma() {
	strake -m "$MGS" status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
sys.exit(not all(server["connections"]["rdma"] > 0 for server in status["mds"] + status["oss"]))'
}
# mgs_by_rdma COUNT: so many of the five others reach the MGS by RDMA, the rest by TCP.
mgs_by_rdma() {
	strake -m "$MGS" status --json | python3 -c '
import json, sys
rdma = int(sys.argv[1])
sys.exit(json.load(sys.stdin)["mgs"][0]["connections"] != {"tcp": 5 - rdma, "rdma": rdma})' "$1"
}

# --- who work -------------------------------------------------------------------------------------------------------------

tools=$(dirname "$0")/../tools
WORKERS=''
work() { # NAME COMMAND...
	"${@:2}" >"$T/$1.out" 2>&1 &
	WORKERS="$WORKERS $!"
	PIDS="$PIDS $!"
}
appending() {
	while [ ! -e "$T/stop" ]; do
		timeout 200 python3 "$tools/appenders.py" write "$T/m1/appended" "$T/m2/appended" 2 || return
		echo >>"$T/appended"
	done
}
mkdir "$T"/m1/{hammer,moved,appended}
: >"$T/appended"
work hammer hammer -p 2 -u "$T/stop" -c "$T/hammer.counts" "$T/m1/hammer"
for n in 1 2 3 4; do # at least one of them has something under way that must not be done twice
	work mover.$n python3 "$tools/mover.py" "$T/stop" "$T/mover.$n.counts" $n 1 "$T/m$((n % 2 + 1))/moved"
done
work appending appending

counts() { od -An -v -w8 -tu8 "$T"/{hammer,mover.*}.counts 2>/dev/null; }
appended() { wc -l <"$T/appended"; }
found() { tail -n 20 "$T"/{hammer,mover.*,appending}.out >&2 && fail "$1"; }
ended() { for worker in $WORKERS; do alive "$worker" || return 0; done && return 1; }
go_on() { ended || counts | paste - <(echo "$counted") | awk '$1 < $2 + 2 { waits = 1 } END { exit waits || NR < 6 }'; }
unharmed() { # WHAT
	counted=$(counts)
	await "all go on after $1" go_on
	! ended || found "who worked has ended after $1"
}

# --- what happens to them -------------------------------------------------------------------------------------------------

take() { # HOW
	case $1 in
	wire) ip link set wires down ;;
	answers) tc qdisc add dev wire0 root netem loss 100% ;; # what goes to the first device
	port) ip link set rdma0 down ;;
	esac || fail "it cannot be taken away: $1"
	taken=${EPOCHREALTIME/./}
}
give() { # HOW
	case $1 in
	wire) ip link set wires up ;;
	answers) tc qdisc del dev wire0 root ;;
	port)
		ip link set rdma0 up && ip addr replace 192.0.2.1/24 dev rdma0 noprefixroute &&
			ip route replace 192.0.2.0/24 dev rdma0 src 192.0.2.1 table 100
		;;
	esac || fail "it cannot be given back: $1"
	taken=${EPOCHREALTIME/./}
}
ms() { echo $(((${EPOCHREALTIME/./} - taken) / 1000)); } # since it was taken away, or given back

# loses HOW: until all go by TCP.
loses() {
	local bytes resends silences served went mgs
	bytes=$(counter bytes_tcp) resends=$(counter resends) silences=$(counter rdma_silences)
	take "$1"
	await "a file's bytes go by TCP, without the $1" more bytes_tcp "$bytes"
	served=$(ms)
	await "the mounts go by TCP, without the $1" goes_by tcp rdma
	went=$(ms)
	await "the MGS is reached by TCP, without the $1" mgs_by_rdma 0
	mgs=$(ms)
	resends=$(($(counter resends) - resends)) silences=$(($(counter rdma_silences) - silences))
	say "without the $1: bytes by TCP after $served ms, all of the mounts after $went ms, the MGS after $mgs ms;" \
		"$resends calls sent again, $silences silences"
	[ "$went" -le "$AT_MOST_MS" ] || fail "without the $1 they went over in $went ms"
	# Where it just falls silent the calls' own deadlines, and in the end the device's, would lead to TCP, too.
	[ "$1" = port ] || [ "$silences" -gt 0 ] || fail "without the $1 none went over because RDMA was silent"
	unharmed "the loss of the $1"
	[ "$resends" -gt 0 ]
}
# returns HOW: until all go by RDMA.
returns() {
	local bytes runs
	bytes=$(counter bytes_rdma) runs=$(appended)
	give "$1"
	await "the mounts go by RDMA again, with the $1" goes_by rdma tcp
	await "the MGS is reached by RDMA again, with the $1" mgs_by_rdma 5
	say "with the $1: all by RDMA after $(ms) ms"
	unharmed "the return of the $1"
	await "what was appended while the $1 went and came is read" appends_on "$runs"
	more bytes_rdma "$bytes" || fail "nothing went by RDMA, with the $1"
}
appends_on() { ended || [ "$(appended)" -gt "$1" ]; } # RUNS

await "the mounts go by RDMA" goes_by rdma tcp
await "its servers say so" served_by_rdma
# The MDS, two OSSes and the mounts, none of which has named it by rdma://.
await "the MGS is reached by RDMA" mgs_by_rdma 5
unharmed "the beginning"
rounds=0
for how in wire answers port; do
	# Until calls were under way.
	for ((tries = 1, again = 1; again; tries++, rounds++)); do
		again=0
		loses $how || again=1
		# rxe, once its port was down with connections under way, makes no new ones.
		[ $how != port ] || [ ! -d /sys/class/infiniband/rxe0 ] || break 2
		returns $how
		[ $tries -lt 5 ] || [ $again = 0 ] || fail "in $tries losses of the $how no call was under way"
	done
done

touch "$T/stop"
for worker in $WORKERS; do wait "$worker" || found "something was wrong"; done
[ "$(counter transport_switches)" -ge $((4 * rounds)) ] || fail "they did not go over"
expect "bytes lost" 0 "$(counter bytes_lost)"
