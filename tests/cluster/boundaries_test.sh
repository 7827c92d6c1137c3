#!/bin/bash
# The power fails at each boundary of durability of a script, one after the other: each fsync and rename of each server, in
# each of its steps. What was promised is there, and nothing else comes instead.
#
# A step does one thing on a machine that is quiet, and ends when that is quiet again. So every file is synced and renamed as
# often whenever it is done, and a boundary, that is to say a step, a file and the how manieth time, comes again: "step" says
# how many there are. At each the power fails before it and nothing survives that was not synced, or some, or only what was
# done in directories; after it, and nothing survives; and when the step is over.
#
# POWER=NUMBER draws so many of them, POWER=all goes through all, POWER=FROM-TO through these of each of STEPS (the first
# words of those below; if not all): all in slices. SEED repeats a run, which says its seed. On a machine that others use, too,
# one sync may be two, or what is to come be late: of all it goes through those that came twice, and tries each TRIES times.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/power.sh"

SEED=${SEED:-$(date +%s)}
say "SEED=$SEED"
RANDOM=$((SEED % 32768))
POWER=${POWER:-$([ "${SCALE:-100}" -ge 1000 ] && echo all || echo $((1 + ${SCALE:-100} / 25)))}
TRIES=20 # the fourth sync of the log in "cut" comes in one of three
QUIET=200 # ms: an MDT syncs its log within 100
WAYS=('before nothing' 'after nothing' 'before some' 'before names')
SERVERS='mgs mds0 ost0 ost1'

# --- the script ---------------------------------------------------------------------------------------------------------

# A step: its name, what is done before, what it is. The words of one are a function's, or operations of the witness (,).
# A stripe has 64 KiB, 16 blocks: of 32 blocks each OST has one object, so that it does one thing after the other. Between
# what is done before and the step the machine is quiet.
file='create 0, write 0 0 32, fsync 0'
unsynced='create 1, write 1 0 32'
script=(
	'create' 'clear' 'create 0'
	'mkdir' 'clear' 'mkdir 0, fsyncdir 0'
	'write' 'clear' "$file"
	'overwrite' "clear, $file" 'write 0 4 24, fsync 0'
	'grow' "clear, create 0, write 0 0 8" 'write 0 8 24, fsync 0'
	'name' 'clear' 'create 0, write 0 0 32, rename 0 9, fsyncdir 1'
	'cut' "clear, $file" 'write 0 4 24, truncate 0 10, fsync 0'
	'regrow' "clear, $file" 'truncate 0 10, write 0 12 4, fsync 0' # which tells the OSTs of the cut
	'empty' "clear, $file" 'truncate 0 0, write 0 0 20'
	'punch' "clear, $file" 'punch 0 4 20, fsync 0'
	'link' "clear, $file" 'link 0 17, remove 0, fsyncdir 0'
	'replace' "anew, $file, $unsynced" 'rename 1 0, fsyncdir 0'
	'remove' "anew, $file" 'remove 0, fsyncdir 0'
	'unlink' "anew, $file" 'remove 0' # nobody asks when that is durable
	'lose' "anew, $unsynced" 'remove 1'
	'roll' 'anew, filled' 'rolled' # to the log's next segment
	'checkpoint' "clear, $file" 'checkpointed'
	'stop' "clear, $file, $unsynced" 'stopped'
	'start' "clear, $file, $unsynced, stop" 'started'
	'replay' "clear, $file, $unsynced, kill" 'found'      # of everybody
	'recovery' "clear, $file, $unsynced, power" 'started' # which has failed
	'mount' "clear, $file, $unsynced" 'mounted_again'     # the mount is killed
	'beginning' 'nothing' 'started'
)

checkpoints() { grep -c 'fdatasync /mds0/.*\.mdb' "$T/lossyfs.log"; }
checkpoint_came() { [ "$(checkpoints)" -gt "$had" ]; }
checkpointed() {
	had=$(checkpoints)
	await "a checkpoint" checkpoint_came
}
# long_records NUMBER|new: one after the other, until there is a new segment; one has room for 128.
long_records() {
	python3 - "$T/m" "$T/disk/mds0/log" "$1" <<-'END' || exit 1
		import glob, os, sys
		mount, log, number = sys.argv[1:]
		segments = lambda: len(glob.glob(log + "/0*.seg"))
		fd, had, n = os.open(mount, os.O_RDONLY), segments(), 0
		while segments() == had if number == "new" else n < int(number):
		    os.setxattr(fd, "user.long", bytes(65000))
		    if number == "new":
		        os.fsync(fd)
		    n += 1
	END
}
filled() {
	witness_does 'fsyncdir 0'
	long_records new
	long_records 127
}
rolled() {
	long_records 1
	settle
	witness_does 'create 0' 'write 0 0 8' 'fsync 0'
}
stopped() { strake cluster stop "$T/c" >/dev/null || exit 1; }
started() { machine_on "it starts"; }
found() {
	started
	ask_witness "after a kill"
}
mounted_again() {
	killed "$(field "$T/c" mounts 0 pid)"
	machine_on "after the mount was killed"
	ask_witness "after the mount was killed"
}

ask_witness() { [ ! -e "$T/w0.log" ] || witness check "$T/w0.log" "$T/m/w0" || fail "$*"; }
settle() { disk machine settle "$QUIET" >/dev/null; }

# witness_does OPERATION...
witness_does() {
	[ -e "$T/w0.log" ] || strake -m "$(field "$T/c" mgs 0 address)" client mkdir -S 64K -c 2 /w0 >"$T/mkdir.out" || fail "mkdir"
	witness "do" "$T/w0.log" "$T/m/w0" "$@" || exit 1
}
# step WORDS: until the machine is quiet again
step() {
	if declare -F "$1" >/dev/null; then
		"$1"
	else
		mapfile -t operations <<<"${1//, /$'\n'}"
		witness_does "${operations[@]}"
	fi
	settle
}
# before_step WORDS
before_step() {
	local last=${1##*, } words=$1 first=${1%%, *}
	case $first in
	clear)
		settle
		witness_does clear
		;;
	nothing | anew) # there are no sessions of mounts that are dead, whose leases others would wait for
		wipe
		[ "$first" = nothing ] || machine_on "anew"
		;;
	esac
	words=${words#"$first"}
	words=${words#, }
	case $last in stop | kill | power) words=${words%, *} ;; esac
	settle
	[ -z "$words" ] || step "$words"
	case $last in
	stop) stopped ;;
	kill) everybody_killed && disk_cut machine kept 0 && everybody_gone ;;
	power) everybody_killed && disk_cut machine nothing 0 && everybody_gone ;;
	esac
	settle
}

# --- its boundaries -----------------------------------------------------------------------------------------------------

# labels FILE: what is synced or renamed there, the same words each time
labels() { sed -E 's/[0-9a-f]{8,}/N/g; s/(objects)\/[0-9a-f]{2}/\1\/XX/' "$1"; }

# afterwards DESCRIPTION: the machine is on again
afterwards() {
	[ ! -e "$T/w0.log" ] || check_mdt "$T/disk/mds0" "$1"
	machine_on "$1"
	epochs_grow "$1"
	ask_witness "$1"
	fsck "$T/c" "$1"
}

# events_of I: the step is done, the power fails when it is over; prints of each event NTH WHAT FILE, NTH of those
events_of() {
	before_step "${script[$1 + 1]}"
	from=$(wc -l <"$T/lossyfs.log")
	power_fails 1000000 before nothing "$SEED" '' step "${script[$1 + 2]}" >&2
	tail -n +$((from + 1)) "$T/lossyfs.log" >"$T/events"
	labels "$T/events" | awk '/^[0-9]+ / { print ++n[$2 $3], $2, $3 }'
	afterwards "$description" >&2
}
# learn I [again]: $T/boundaries.I has them; those that came both times
learn() {
	local file=$T/boundaries.$1
	events_of "$1" >"$file"
	[ -z "${2:-}" ] || { events_of "$1" >"$file.again" && grep -xFf "$file.again" "$file" >"$file.both" && mv "$file.both" "$file"; }
	say "${script[$1]}: $(for server in $SERVERS; do printf '%s %d, ' "$server" "$(grep -c " /$server/" "$file")"; done)$(wc -l <"$file") boundaries"
}

# fails_at I BOUNDARY WAY: false if it did not come this time
fails_at() {
	local nth event label glob
	read -r nth event label <<<"$(sed -n "$2p" "$T/boundaries.$1")"
	glob=${label//XX/??}
	before_step "${script[$1 + 1]}"
	# shellcheck disable=SC2086 # two words
	power_fails "$nth" $3 $((SEED + $2)) "$event ${glob//N/[0-9a-f]*}" step "${script[$1 + 2]}"
	rounds=$((rounds + 1))
	afterwards "${script[$1]}, $description"
	[ "$(labels "$T/frozen")" = "frozen ${3% *} $event $label" ]
}
# surely_fails_at I BOUNDARY WAY
surely_fails_at() {
	for ((try = 0; try < TRIES; try++)); do
		! fails_at "$@" || return 0
	done
	say "$3: did not come again: ${script[$1]}, $(sed -n "$2p" "$T/boundaries.$1")"
	missed=$((missed + 1))
}

machine_made
started
epochs_grow "the first start"
boundaries=0 rounds=0 missed=0
case $POWER in
all) first=1 last=1000 ;;
*-*) first=${POWER%-*} last=${POWER#*-} ;;
*) last=0 ;;
esac
if [ "$last" != 0 ]; then
	for ((I = 0; I < ${#script[@]}; I += 3)); do
		case " ${STEPS:-${script[I]}} " in *" ${script[I]} "*) ;; *) continue ;; esac
		learn $I again
		there=$(wc -l <"$T/boundaries.$I")
		boundaries=$((boundaries + there))
		for ((i = first; i <= (last < there ? last : there); i++)); do
			for way in "${WAYS[@]}"; do surely_fails_at $I $i "$way"; done
		done
	done
	say "$boundaries boundaries, $rounds power failures"
	[ $missed = 0 ] || fail "$missed did not come again"
else
	for ((n = 0; n < POWER; n++)); do
		I=$((RANDOM % (${#script[@]} / 3) * 3))
		[ -e "$T/boundaries.$I" ] || learn $I
		fails_at $I $((1 + RANDOM % $(wc -l <"$T/boundaries.$I"))) "${WAYS[RANDOM % ${#WAYS[@]}]}"
	done
fi
stopped
