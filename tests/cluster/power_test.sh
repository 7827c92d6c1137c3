#!/bin/bash
# The power fails, at one durability event after the other: what was promised is there, and nothing else comes instead.
#
# The servers' data directories lie on lossyfs, which forgets what was not synced. Where it fails is drawn: an event, before
# or after it takes effect, and whether nothing, everything or some of what was not synced survives. POWER=NUMBER draws so
# many of each part (of PARTS, if not all). POWER=all goes through all of them, and POWER=FROM-TO through these events of
# each part, which says how many it has: all in slices. SEED repeats a run, which says its seed.
. "$(dirname "$0")/lib.sh"

SEED=${SEED:-$(date +%s)}
say "SEED=$SEED"
RANDOM=$((SEED % 32768))
POWER=${POWER:-$((1 + ${SCALE:-100} / 25))}
PARTS=${PARTS:-stopping leaving killing recovering beginning servers}
POLICIES=(nothing some everything nothing)
WHEN=(before after)
DISKS=()
operations=60 # of each witness in a part

# --- disks ----------------------------------------------------------------------------------------------------------------

# The OSTs' ledgers are memory, which goes with the power. One that stays all the same must not be believed.
mount -t tmpfs tmpfs /dev/shm || fail "a tmpfs of our own"

# disk NAME WORD...
disk() { lossyfs ask "$T/disk.$1" "${@:2}"; }
# disk_on NAME MNT
disk_on() {
	mkdir -p "$2"
	lossyfs "$2" "$T/disk.$1" >>"$T/lossyfs.log" 2>&1 || fail "lossyfs"
	DISKS+=("$1")
}
disk_cut() { disk "$1" cut "${@:2}" >"$T/cut" || fail "cut $*"; }
# ledger_gone SEED DIR...: that of the OST there, if any, by three seeds of four
ledger_gone() {
	[ $(($1 % 4)) != 3 ] || return
	for dir in "${@:2}"; do
		uuid=$(sed -n 's/^target = //p' "$dir/identity" 2>/dev/null) && rm -f "/dev/shm/strake-ost-$uuid"
	done
}
# Who hangs on a frozen disk is freed before anybody is waited for.
# shellcheck disable=SC2154 # disk
trap 'status=$?; for disk in "${DISKS[@]}"; do disk "$disk" cut nothing 0 >"$T/cut"; done; (exit $status); cleanup' EXIT
at_exit() { awk -v t="$T/" '$1 == "lossyfs" && index($2, t) == 1 { print $2 }' /proc/mounts | xargs -r umount; }

# --- the machine ----------------------------------------------------------------------------------------------------------

# Everybody but the disks.
inhabitants() {
	grep -lsF -f <(printf '%s\n' "$T/") /proc/[0-9]*/cmdline | cut -d / -f 3 | while read -r pid; do
		grep -sqxF lossyfs "/proc/$pid/comm" || echo "$pid"
	done
}
# everybody_killed: also whom they have started meanwhile. Who waits for a frozen disk is there until that is cut.
everybody_killed() {
	dead=' '
	while :; do
		more=$(for pid in $(inhabitants); do case $dead in *" $pid "*) ;; *) echo "$pid" ;; esac; done)
		[ -n "$more" ] || return
		# shellcheck disable=SC2086 # a list
		kill -9 $more 2>/dev/null
		dead="$dead$(echo "$more" | tr '\n' ' ')"
	done
}
everybody_gone() {
	for pid in $dead; do await "$pid gone" ! alive "$pid"; done
}
# killed PID...: at once, and waited for
killed() {
	kill -9 "$@" 2>/dev/null
	for pid; do await "$pid gone" ! alive "$pid"; done
}
machine_on() {
	timeout 60 strake cluster start "$T/c" --mount "$T/m" >"$T/start.out" 2>&1 || { cat "$T/start.out" && fail "start: $*"; }
}
# check_mdt DIR WHAT: of a copy, since it goes on with the log
check_mdt() {
	rm -rf "$T/copy"
	cp -r --sparse=always "$1" "$T/copy"
	strake-mds --check -d "$T/copy" >"$T/check.out" 2>&1 || { cat "$T/check.out" && fail "$2: strake-mds --check"; }
}
ask_witnesses() {
	for w in w0 w1; do
		[ ! -e "$T/$w.log" ] || witness check "$T/$w.log" "$T/m/$w" || fail "$*"
	done
}
# void_is_gone MDSLOG: since the MDS's last start both OSTs have destroyed what the MDT has lost.
void_is_gone() {
	awk '/state up to record/ { left = / 0 ranges of void/ ? 0 : 2 } /void numbers is destroyed/ { left-- } END { exit left > 0 }' "$1"
}
# fsck CLUSTER WHAT: clean, at once and when nothing is left to do
fsck() {
	strake -m "$(field "$1" mgs 0 address)" fsck >"$T/fsck.out" 2>&1 || { cat "$T/fsck.out" && fail "$2: strake fsck"; }
	await "$2: void numbers" void_is_gone "$1/log/mds0.log"
	strake -m "$(field "$1" mgs 0 address)" fsck >"$T/fsck.out" 2>&1 || { cat "$T/fsck.out" && fail "$2: strake fsck, later"; }
}

# An epoch that was heard of is never given again. Every start makes some.
epoch=0
epochs_grow() {
	had=$epoch
	epoch=$(sed -n 's/.*: epoch \([0-9]*\):.*/\1/p' "$T/c/log/mgs.log" | tail -n 1)
	[ "$epoch" -gt "$had" ] || fail "$*: the epoch was $had and is $epoch"
}

# stop_at N before|after COMMAND...: at the N-th event after COMMAND has begun, or when that has ended, everybody is killed.
# Who waits for the disk stays until that is cut.
stop_at() {
	count=$(disk machine count)
	disk machine freeze "$1" "$2" >"$T/frozen" &
	freezer=$!
	"${@:3}" >"$T/work.out" 2>&1 &
	worker=$!
	wait -n -p ended "$freezer" "$worker"
	status=$?
	if [ "$ended" = "$worker" ]; then
		[ "$status" = 0 ] || { cat "$T/work.out" && fail "${*:3}: before it was stopped"; }
		events=$(($(disk machine count) - count)) # there are fewer than we had believed
	fi
	disown "$worker" "$freezer" 2>/dev/null
	killed "$worker"
	everybody_killed
}

# power_fails N before|after POLICY SEED COMMAND...: for servers and clients, at that event
power_fails() {
	description="${*:5}: power fails $2 event $1, $3 survives, seed $4"
	stop_at "$1" "$2" "${@:5}"
	disk_cut machine "$3" "$4"
	everybody_gone
	ledger_gone "$4" "$T/disk"/ost?
	say "$description: $(cat "$T/frozen")"
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
	stop_at $((1 + RANDOM % 80)) before work "$1"
	disk_cut machine kept 0
	everybody_gone
}

# The second power failure comes while the first is being recovered from.
recovering() { machine_on "recovering"; }

# --- servers and clients lose it together ---------------------------------------------------------------------------------

wipe() {
	everybody_killed
	everybody_gone
	rm -rf "$T/disk"/* "$T"/w?.log
	epoch=0
	mkdir "$T/disk"/{mgs,mds0,ost0,ost1}
	disk_cut machine everything 0
}

# rounds_of EVENTS EACH: first, and last of them, which is not done; drawn: or does the round decide?
rounds_of() {
	drawn=no
	case $POWER in
	all) first=0 last=$(($1 * $2)) ;;
	*-*) first=$(((${POWER%-*} - 1) * $2)) last=$(((${POWER#*-} < $1 ? ${POWER#*-} : $1) * $2)) ;;
	*) first=0 last=$POWER drawn=yes ;;
	esac
}

# part KIND: how many events it has, and then the power fails in it
part() {
	"before_$1" "$SEED"
	count=$(disk machine count)
	"$1" "$SEED"
	events=$(($(disk machine count) - count))
	ask_witnesses "$1"
	say "$1: $events events"
	rounds_of $((events + 1)) 6
	for ((i = first; i < last; i++)); do
		event=$((1 + RANDOM % events)) when=${WHEN[RANDOM % 2]} policy=${POLICIES[RANDOM % 4]}
		[ "$i" != 0 ] || { event=1000000 policy=nothing; } # when COMMAND has ended
		[ "$drawn" = yes ] || event=$((1 + i / 6)) when=${WHEN[i % 2]} policy=${POLICIES[i / 2 % 3]}
		"before_$1" $((SEED + i))
		power_fails "$event" "$when" "$policy" $((SEED + i)) "$1" $((SEED + i))
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

disk_on machine "$T/disk"
strake format mgs -d "$T/disk/new" >/dev/null || fail "format"
disk_cut machine nothing 0
[ -e "$T/disk/new/identity" ] || fail "a data directory was formatted and is gone"

mkdir "$T/m"
cluster "$T/c" --osts 2
strake cluster stop "$T/c" >/dev/null || fail "stop"
for server in mgs mds0 ost0 ost1; do
	rm -r "$T/c/$server"
	ln -s "$T/disk/$server" "$T/c/$server"
done
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
	timeout 10 lossyfs ask "$T/disk.$5" freeze "$1" "$2" >"$T/frozen" || disk "$5" freeze 0 before >"$T/frozen"
	for server in "${@:6}"; do disk "$server" freeze 0 before >>"$T/frozen"; done
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
rounds_of 30 8
[ "$drawn" = no ] || last=$((last + 2))
for ((i = first; i < last; i++)); do
	event=$((1 + i / 8)) && [ "$drawn" = no ] || event=$((1 + RANDOM % 30))
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
	timeout 60 strake-mds $option -d "$T/copy" >"$T/check.out" 2>&1 && fail "a damaged log was taken: $option"
	grep -q "$(basename "$segment").*offset 4096" "$T/check.out" || { cat "$T/check.out" && fail "a damaged log: $option"; }
done
strake cluster start "$T_C" >"$T/start.out" 2>&1 || { cat "$T/start.out" && fail "the log itself"; }
fsck "$T_C" "the end"
strake cluster stop "$T_C" >/dev/null || fail "stop"
check_mdt "$T_C/mds0" "the end"
