# What every cluster test starts with:  . "$(dirname "$0")/lib.sh"
#
# A test is a short script: start, act, check. It gets a folder of its own ($T) and everything it starts through these
# functions is ended and removed when it exits, also when it fails. Needs root. Waits for events, never for time to pass.
# It runs in a mount namespace of its own, and has no mounts of others there: a copy of a mount keeps it alive when it is
# unmounted elsewhere, so tests that run at the same time would hold up each other's ends.
# What runs at its end is to be as it must be: `strake fsck` finds nothing. A test that breaks things on purpose, and leaves
# them so, says why in NO_FSCK.
# $BUILD is what is tested, $SCALE (percent) how much work is done; of a failed test the logs are kept in $LOGS, and
# everything in $T if $KEEP is set. $TRANSPORT and $LISTEN: what clusters are started with (RDMA, in a guest).
# shellcheck shell=bash

if [ "$(id -u)" = 0 ] && [ -z "${OWN_NAMESPACE:-}" ]; then
	exec env OWN_NAMESPACE=1 unshare -m --propagation private bash "$0" "$@"
fi
[ "$(id -u)" != 0 ] || awk '$3 ~ /^fuse(\.|$)/ { print $2 }' /proc/mounts | tac | while read -r m; do umount -i -l "$(printf %b "$m")"; done

set -u
BUILD=${BUILD:-$(cd "$(dirname "$0")/../.." && pwd)/build}
PATH="$BUILD/bin:$BUILD/tests:$PATH"
export PATH PYTHONDONTWRITEBYTECODE=1 # what it imports lies in the tree
NAME=$(basename "$0" .sh)
T=$(mktemp -d "${TMPDIR:-/tmp}/strake-$NAME.XXXXXX")
CLUSTERS='' MOUNTS='' PIDS=''
# Reports of sanitizers, also of daemons that have no other place to tell it.
for sanitizer in ASAN UBSAN TSAN; do
	declare -x "${sanitizer}_OPTIONS=$(printenv "${sanitizer}_OPTIONS"):log_path=$T/sanitizer"
done
at_exit() { :; } # a test may define it: runs after all was stopped

say() { printf '%s: %s\n' "$NAME" "$*"; }
fail() {
	say "FAILED: $*" >&2
	logs | while read -r log; do
		echo "--- the end of $log"
		tail -n 4 "$log"
	done >&2
	exit 1
}
skip() { say "SKIP: $*"; exit 77; }

[ "$(id -u)" = 0 ] || skip "needs root"
[ -c /dev/fuse ] || skip "needs /dev/fuse"
for tool in python3 getfattr setpriv nsenter ip ps; do
	command -v "$tool" >/dev/null || skip "needs $tool (make deps installs it)"
done

# Every daemon's. Looks into no mount: its servers may be dead.
logs() {
	# shellcheck disable=SC2086 # a list of words
	for dir in $(printf '%s\n' "$T/c" $CLUSTERS | sort -u); do find "$dir/log" -name '*.log' 2>/dev/null; done
	for log in "$T"/*.log "$T"/sanitizer.*; do [ -f "$log" ] && echo "$log"; done
}

# descendants PID: all processes that it has started and that have not become daemons.
descendants() {
	for child in $(ps -o pid= --ppid "$1"); do
		descendants "$child"
		echo "$child"
	done
}

# runs DIR: all of that cluster's servers.
runs() {
	strake cluster status "$1" --json 2>/dev/null | python3 -c '
import json, sys
status = json.load(sys.stdin)
servers = [server for role in ("mgs", "mds", "oss") for server in status[role]]
sys.exit(not all(server["running"] and server["state"] in ("up", "full", "degraded") for server in servers))' 2>/dev/null
}

# intact DIR: of a cluster that runs: all of it is as it must be.
intact() {
	timeout 120 strake -m "$(field "$1" mgs 0 address)" fsck >"$T/fsck.out" 2>&1 && return
	echo "$NAME: fsck says $?:" >&2
	head -n 40 "$T/fsck.out" >&2
	return 1
}

# The ledgers of OSTs that were killed and will not come back (oss/README.md).
forget_ledgers() {
	find "$T" -name identity -exec grep -lx "role = ost" {} + 2>/dev/null | while read -r identity; do
		rm -f "/dev/shm/strake-ost-$(sed -n 's/^target = //p' "$identity")"
	done
}

cleanup() {
	status=$?
	trap - EXIT INT TERM
	disown -a
	for pid in $PIDS $(descendants $$); do kill -9 "$pid"; done 2>/dev/null
	for mount in $MOUNTS; do timeout 60 strake umount "$mount" >/dev/null 2>&1 || umount -l "$mount" 2>/dev/null; done
	for cluster in $CLUSTERS; do
		[ "$status" != 0 ] || [ -n "${NO_FSCK:-}" ] || ! runs "$cluster" || intact "$cluster" || status=1
	done
	for cluster in $CLUSTERS; do
		timeout 120 strake cluster stop "$cluster" >"$T/stop.out" 2>&1 || { cat "$T/stop.out" >&2; status=1; }
	done
	at_exit
	# Assertions, and sanitizers that have found something.
	last_words='Sanitizer|runtime error:|Assertion'
	guilty=$(logs | xargs -r grep -lE "$last_words")
	if [ -n "$guilty" ]; then
		echo "$guilty"
		echo "$NAME: last words:" >&2
		logs | xargs grep -hE -A 24 "$last_words" | head -n 100 >&2
		status=1
	fi
	case $status in
	0 | 77) ;;
	*) [ -z "${LOGS:-}" ] || { mkdir -p "$LOGS" && logs | xargs -r cp --backup=numbered -t "$LOGS"; } ;;
	esac
	if grep -q " $T/" /proc/mounts; then
		echo "$NAME: left mounted:" >&2
		grep " $T/" /proc/mounts >&2
		awk -v t="$T/" 'index($2, t) == 1 { print $2 }' /proc/mounts | while read -r m; do umount -l "$m"; done
		status=1
	fi
	forget_ledgers
	if [ "$status" != 0 ] && [ -n "${KEEP:-}" ]; then say "kept: $T" >&2; else rm -rf "$T"; fi
	exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# cluster DIR [ARGS]: brings one up and has it stopped at the end.
cluster() {
	case " $CLUSTERS " in *" $1 "*) ;; *) CLUSTERS="$CLUSTERS $1" ;; esac
	set -- "$@" ${TRANSPORT:+--transport "$TRANSPORT"} ${LISTEN:+--listen "$LISTEN"}
	strake cluster start "$@" >"$T/start.out" 2>&1 || { cat "$T/start.out" >&2; fail "cluster start $*"; }
}

# start [ARGS]: the usual: a cluster in $T/c mounted on $T/m; $MGS is its address.
start() {
	mkdir -p "$T/m"
	cluster "$T/c" --mount "$T/m" "$@"
	MGS=$(field "$T/c" mgs 0 address)
}

# What a command says, within 20 s; it is in $T/out then.
says() { # STATUS PATTERN COMMAND...
	local status=$1 pattern=$2
	shift 2
	timeout "$(limit 20)" "$@" >"$T/out" 2>&1
	expect "exit status of '$*'" "$status" $?
	grep -qE -- "$pattern" "$T/out" || fail "'$*' says '$(cat "$T/out")', not '$pattern'"
}

# json EXPRESSION: Python's, true of the JSON in $T/out, which is `it`
json() { python3 -c "import json, sys; it = json.load(open('$T/out')); assert $1, it" || fail "$1"; }

# mount_more MNT [ARGS]: another mount of that cluster.
mount_more() {
	mkdir -p "$1"
	MOUNTS="$MOUNTS $1"
	strake -m "$MGS" mount "$@" || fail "mount $*"
}

# field DIR mgs|mds|oss|mounts N KEY: out of cluster status --json
field() {
	strake cluster status "$1" --json | python3 -c '
import json, sys
print(json.load(sys.stdin)[sys.argv[1]][int(sys.argv[2])][sys.argv[3]])' "$2" "$3" "$4"
}

# alive PID: a process that is there and no zombie; one whose first thread has ended before the others counts as there
alive() { awk '/^State:/ { z = $2 ~ /[ZX]/ } /^Threads:/ { t = $2 } END { exit !(NR > 0 && (!z || t > 1)) }' "/proc/$1/status" 2>/dev/null; }

# sleeps_in PID PATTERN CALLS: it sleeps in the kernel where its stack has PATTERN. A kernel may tell of no stacks (that of
# guest/guest.sh, which says uml_curr_cpu for any wchan): there, in one of these system calls, by their numbers on x86-64.
sleeps_in() {
	local stack
	stack=$(cat "/proc/$1/stack" 2>/dev/null)
	if [ -n "$stack" ]; then grep -q "$2" <<<"$stack"; else grep -qsE "^($3) " "/proc/$1/syscall"; fi
}

# crash ROLE N: kill -9 and wait until it is gone.
crash() {
	pid=$(field "$T/c" "$1" "$2" pid)
	kill -9 "$pid" || fail "no $1 $2 to kill"
	await "$1 $2 gone" ! alive "$pid"
}

# await WHAT COMMAND...: until the command succeeds, $PATIENCE (60) seconds at most.
await() {
	what=$1
	shift
	tries=0
	until if [ "$1" = ! ]; then ! "${@:2}" 2>/dev/null; else "$@" 2>/dev/null; fi; do
		tries=$((tries + 1))
		[ "$tries" -lt $((${PATIENCE:-60} * 10)) ] || fail "did not happen within ${PATIENCE:-60} s: $what"
		sleep 0.1 # between two looks
	done
}

# has_own_mounts PID: it is in another mount namespace than this one.
has_own_mounts() { [ "$(readlink "/proc/$1/ns/mnt")" != "$(readlink /proc/self/ns/mnt)" ]; }

# limit SECONDS: what must not take longer may take three times as long where sanitizers slow it down, and $LEAVING seconds more
# where the kernel has a program wait at its end.
limit() { case $BUILD in *san-*) echo $((3 * $1 + ${LEAVING:-0})) ;; *) echo $(($1 + ${LEAVING:-0})) ;; esac; }

# expect WHAT WANTED GOT
expect() { [ "$2" = "$3" ] || fail "$1: wanted '$2', got '$3'"; }

# same A B: the same files, bytes, modes, owners, times and links
same() {
	left=$(cd "$1" && listing) right=$(cd "$2" && listing)
	if [ "$left" != "$right" ]; then
		printf '%s\n' "$left" >"$T/left"
		printf '%s\n' "$right" >"$T/right"
		diff "$T/left" "$T/right" | head -n 10 >&2
		fail "$1 and $2 differ"
	fi
	(cd "$1" && find . -type f -print0) | while IFS= read -r -d '' file; do
		cmp "$1/$file" "$2/$file" || exit 1
	done >&2 || fail "$1 and $2 differ"
}
listing() {
	find . -mindepth 1 \( -type d -printf '%P %y %m %U %G %T@\n' -o -printf '%P %y %m %U %G %s %n %l %T@\n' \) | LC_ALL=C sort
}

# work_begins: the hammer works in $T/m/work, one round after the other, and compares every byte, until work_ends.
work_begins() {
	mkdir "$T/m/work"
	: >"$T/work.out"
	work_rounds &
	WORKER=$!
}
work_rounds() {
	local seed=1
	until [ -e "$T/enough" ]; do
		hammer -p 2 -n 30 -s $seed "$T/m/work" >>"$T/work.out" 2>&1 || return 1
		seed=$((seed + 1))
	done
}
work_fails() { cat "$T/work.out" >&2; fail "after $1 the hammer finds other bytes"; }
# unharmed WHAT: after that it goes on, and finds what it wrote.
unharmed() {
	alive "$WORKER" || work_fails "$1"
	local rounds
	rounds=$(wc -l <"$T/work.out")
	goes_on() { [ "$(wc -l <"$T/work.out")" -gt "$rounds" ] || ! alive "$WORKER"; }
	await "the hammer goes on after $1" goes_on
	alive "$WORKER" || work_fails "$1"
}
work_ends() {
	touch "$T/enough"
	wait "$WORKER" || work_fails "all of it"
}
