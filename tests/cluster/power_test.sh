#!/bin/bash
# The power fails at a durability event of random work: what was promised is there, and nothing else comes instead.
#
# The servers' data directories lie on lossyfs, which forgets what was not synced. Where it fails is drawn: an event, before
# or after it takes effect, and whether nothing, everything or some of what was not synced survives. POWER=NUMBER draws so
# many of each part (of PARTS, if not all). SEED repeats a run, which says its seed. (boundaries_test goes through all there
# are in a script.)
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/power.sh"

SEED=${SEED:-$(date +%s)}
say "SEED=$SEED"
RANDOM=$((SEED % 32768))
POWER=${POWER:-$((1 + ${SCALE:-100} / 25))}
PARTS=${PARTS:-stopping leaving killing recovering beginning servers}
POLICIES=(nothing some everything nothing)
WHEN=(before after)
operations=60 # of each witness in a part

ask_witnesses() {
	for w in w0 w1; do
		[ ! -e "$T/$w.log" ] || witness check "$T/$w.log" "$T/m/$w" || fail "$*"
	done
}

# --- what is done meanwhile -----------------------------------------------------------------------------------------------

# Two witnesses at once.
work() {
	witness run -n "$operations" -s "$1" "$T/w0.log" "$T/m/w0" &
	witness run -n "$operations" -s "$((1 + $1))" "$T/w1.log" "$T/m/w1" || exit 1
	wait $! || exit 1
}

# From data directories that are just there to the first files.
beginning() {
	machine_on "the first time"
	MGS=$(field "$T/c" mgs 0 address)
	for w in w0 w1; do strake -m "$MGS" client mkdir -S 64K -c 2 "/$w" >"$T/mkdir.out" || exit 1; done
	work "$1"
}

# A clean stop: everything becomes durable, the MDT makes a checkpoint.
stopping() {
	work "$1"
	strake cluster stop "$T/c" >/dev/null || exit 1
	machine_on "after a stop"
}

# The mount is killed. What it had not synced is in the OSTs' page cache; who finds it there and fsyncs it has it.
leaving() {
	work "$1"
	killed "$(field "$T/c" mounts 0 pid)"
	machine_on "after a kill"
	ask_witnesses "after a kill"
	work "$1"
}

# Everybody was killed; likewise.
killing() {
	machine_on "after a kill"
	ask_witnesses "after a kill"
	work "$1"
}
before_killing() {
	stop_at $((1 + RANDOM % 80)) before '' work "$1"
	disk_cut machine kept 0
	everybody_gone
}

# The second power failure comes while the first is being recovered from.
recovering() { machine_on "recovering"; }

# --- servers and clients lose it together ---------------------------------------------------------------------------------

# part KIND: how many events it has, and then the power fails in it
part() {
	"before_$1" "$SEED"
	count=$(disk machine count)
	"$1" "$SEED"
	events=$(($(disk machine count) - count))
	ask_witnesses "$1"
	say "$1: $events events"
	for ((i = 0; i < POWER; i++)); do
		event=$((1 + RANDOM % events)) when=${WHEN[RANDOM % 2]} policy=${POLICIES[RANDOM % 4]}
		[ "$i" != 0 ] || { event=1000000 policy=nothing; } # when COMMAND has ended
		"before_$1" $((SEED + i))
		power_fails "$event" "$when" "$policy" $((SEED + i)) '' "$1" $((SEED + i))
		[ ! -e "$T/w0.log" ] || check_mdt "$T/disk/mds0" "$description"
		machine_on "$description"
		epochs_grow "$description"
		ask_witnesses "$description"
		fsck "$T/c" "$description"
	done
}
before_beginning() { wipe; }
before_stopping() { :; }
before_leaving() { :; }
before_recovering() {
	work "$1"
	everybody_killed
	everybody_gone
	disk_cut machine some "$1"
}

machine_made
strake format mgs -d "$T/disk/new" >/dev/null || fail "format"
disk_cut machine nothing 0
[ -e "$T/disk/new/identity" ] || fail "a data directory was formatted and is gone"
wipe
beginning "$SEED" >"$T/work.out" || { cat "$T/work.out" && fail "beginning"; }
epochs_grow "beginning"
ask_witnesses "beginning"
for kind in $PARTS; do [ "$kind" = servers ] || part "$kind"; done
strake cluster stop "$T/c" >/dev/null || fail "stop"
case " $PARTS " in *" servers "*) ;; *) exit 0 ;; esac

# --- servers lose it, alone and together; the clients live -----------------------------------------------------------------

# With every change synced before it is answered: what the MDT has lost otherwise, clients do not send again yet.
T_C=$T/e
cluster "$T_C" --osts 2 --durability strict
strake cluster stop "$T_C" >/dev/null || fail "stop"
for server in mgs mds0 ost0 ost1; do
	rm -r "${T_C:?}/$server"
	disk_on "$server" "$T_C/$server"
done
strake cluster start "$T_C" --mount "$T/n" >"$T/start.out" 2>&1 || { cat "$T/start.out" && fail "start"; }

# Writers, one run after the other until told to stop.
writers() {
	seed=$1
	while [ ! -e "$T/stop" ]; do
		hammer -p 3 -n 300 -s "$seed" "$T/n" || exit 1
		seed=$((seed + 1))
	done
}
writers "$SEED" >"$T/hammer.out" 2>&1 &
hammer=$!
PIDS="$PIDS $hammer"

pids_of() { for server; do sed -n '1s/[^0-9].*//p' "$T_C/run/$server.pid"; done; }

# servers_back DESCRIPTION SEED SERVER...: from what has survived; nobody's work is disturbed
servers_back() {
	description=$1
	say "$1"
	for pid in $pids; do await "$pid gone" ! alive "$pid"; done
	dirs=("${@:3}")
	ledger_gone "$2" "${dirs[@]/#/$T_C/}"
	strake cluster start "$T_C" >"$T/start.out" 2>&1 || { cat "$T/start.out" && fail "$description: restart"; }
	kill -0 "$hammer" 2>/dev/null || { cat "$T/hammer.out" && fail "$description: the writers ended"; }
}

# servers_lose N before|after POLICY SEED SERVER...: the first one's disk decides when
servers_lose() {
	disk "$5" freeze "$1" "$2" >"$T/freeze"
	timeout 10 lossyfs ask "$T/disk.$5" frozen >"$T/frozen" || {
		disk "$5" freeze 0 before >"$T/freeze"
		disk "$5" frozen >"$T/frozen"
	}
	for server in "${@:6}"; do disk "$server" freeze 0 before >"$T/freeze"; done
	pids=$(pids_of "${@:5}")
	# shellcheck disable=SC2086 # a list
	kill -9 $pids
	for server in "${@:5}"; do disk_cut "$server" "$3" "$4"; done
	servers_back "power fails $2 event $1, $3 survives, seed $4: ${*:5}: $(head -n 1 "$T/frozen")" "$4" "${@:5}"
}

# servers_stop SEED SERVER...: cleanly, and then the power fails: all is durable
servers_stop() {
	pids=$(pids_of "${@:2}")
	# shellcheck disable=SC2086 # a list
	kill $pids
	for pid in $pids; do await "$pid gone" ! alive "$pid"; done
	for server in "${@:2}"; do disk_cut "$server" nothing 0; done
	servers_back "power fails after a stop: ${*:2}" "$@"
}

begun() { [ -n "$(ls -A "$T/n")" ]; }
await "the writers have begun" begun
for ((i = 0; i < POWER + 2; i++)); do
	event=$((1 + RANDOM % 30))
	servers='mds0 mgs ost0 ost1'
	case $((i % 8)) in
	0) servers=mds0 ;;
	1) servers=ost0 ;;
	3) servers=ost1 ;;
	4) servers='ost1 mds0' ;;
	5) servers='ost0 mgs' ;;
	6) servers_stop $((SEED + i)) ost0 ost1 && continue ;;
	7) servers_stop $((SEED + i)) mds0 mgs ost1 && continue ;;
	esac
	# shellcheck disable=SC2086 # a list
	servers_lose $event "${WHEN[RANDOM % 2]}" "${POLICIES[RANDOM % 4]}" $((SEED + i)) $servers
done
touch "$T/stop"
wait "$hammer" || { cat "$T/hammer.out" && fail "hammer"; }

# --- a log's damaged middle ------------------------------------------------------------------------------------------------

# What is torn off at its end was dropped without a word all the time. What was synced once is missed, and nobody serves it.
for file in a b c; do touch "$T/n/$file" || fail "touch"; done
pids=$(pids_of mds0)
kill -9 "$pids"
await "mds0 gone" ! alive "$pids"
rm -rf "$T/copy"
cp -r --sparse=always "$T_C/mds0" "$T/copy"
segment=$(find "$T/copy/log" -name '0*.seg' | sort | tail -n 1)
byte=$(od -An -tu1 -j 4120 -N 1 "$segment")
printf '%b' "\\x$(printf %x $((byte ^ 1)))" | dd of="$segment" bs=1 seek=4120 conv=notrunc status=none
for option in --check --durability=strict; do
	timeout "$(limit 60)" strake-mds $option -d "$T/copy" >"$T/check.out" 2>&1 && fail "a damaged log was taken: $option"
	grep -q "$(basename "$segment").*offset 4096" "$T/check.out" || { cat "$T/check.out" && fail "a damaged log: $option"; }
done
strake cluster start "$T_C" >"$T/start.out" 2>&1 || { cat "$T/start.out" && fail "the log itself"; }
fsck "$T_C" "the end"
strake cluster stop "$T_C" >/dev/null || fail "stop"
check_mdt "$T_C/mds0" "the end"
