#!/bin/bash
# No server answers: the OSTs have died, the MDS and the MGS are there and silent. What asks for the mount itself answers
# in time all the same, what hangs can be ended, and unmounting comes back in time and says what is not written; when the
# servers are back it is.
. "$(dirname "$0")/unmounting.sh"

BY_STRAKE=$T/by_strake BY_UMOUNT=$T/by_umount CLEAN=$T/clean HUNG=$T/hung FORCED=$T/forced
mkdir "$BY_STRAKE" "$BY_UMOUNT" "$CLEAN" "$HUNG" "$FORCED"

# --- before -------------------------------------------------------------------------------------------------------------

enter
echo big >"$M/big"
declare -A DAEMON
for mount in "$BY_STRAKE" "$BY_UMOUNT" "$CLEAN" "$HUNG"; do
	enter "$mount"
	DAEMON[$mount]=$daemon
done
LOG=$T/forced.log
enter "$FORCED"
DAEMON[$FORCED]=$daemon

act one "$BY_STRAKE/one" map
act two "$BY_UMOUNT/two" map
echo clean >"$CLEAN/clean"
sync "$CLEAN/clean"
act hung "$HUNG/hung" open
act forced "$FORCED/forced" open
# The MDT has to be asked about a file before the first write to it. What was written then is with the daemons.
osts=$(servers oss) others=$(servers mgs mds)
freeze $osts
do_act hung write:begun
do_act forced write:begun
kill -9 $osts
for pid in $osts; do await "OST $pid gone" ended "$pid"; done
freeze $others
do_act one write:one
do_act one exit
do_act two write:two
do_act two exit

# Waits in the kernel for a file of ours, or for who waits for its directory.
is_asking() { sleeps_in "$1" "fuse_\|path_\|filename_\|iterate_dir" "0|1|83|217|257|262|332"; }
# hang WHO MNT: what then waits for servers: $hanging
hang() {
	tell_act "$1" fill
	hanging=${ACTOR[$1]}
	for how in "cat $2/big" "ls -l $2" "stat $2/nobody" "mkdir $2/new"; do
		$how >/dev/null 2>&1 &
		hanging="$hanging $!"
	done
	PIDS="$PIDS $hanging"
	for pid in $hanging; do await "process $pid ($(tr "\0" " " <"/proc/$pid/cmdline")) to ask the daemon" is_asking "$pid"; done
}

# --- meanwhile: all of this at the same time, as each waits for seconds -------------------------------------------------

jobs=
at_once() {
	("$@") &
	jobs="$jobs $!"
}

the_mount_itself() {
	for how in "stat $M" "df $M" "mountpoint -q $M"; do
		within 10 $how >"$T/said.itself" 2>&1 || fail "$how: $(cat "$T/said.itself")"
	done
}
the_status() {
	within 10 strake -m "$MGS" status >"$T/said.status" 2>&1
	expect "status of dead servers" 1 $?
}
unmount() { # MNT COMMAND...
	within 10 "${@:2}" "$1" 2>"$1.said" && fail "$2 says all is well though nothing is written"
	grep -q "[1-9][0-9]* bytes of 1 files are not yet written.*daemon (pid ${DAEMON[$1]}) goes on" "$1.said" ||
		fail "$* said: $(cat "$1.said")"
	! is_shown "$1" || fail "$1 is still mounted"
	alive "${DAEMON[$1]}" || fail "the daemon gave up"
}
unmount_clean() { # nothing to write: nothing to wait for
	within 10 umount "$CLEAN" || fail "umount of a clean mount"
	has_done "${DAEMON[$CLEAN]}" || fail "umount of a clean mount left the daemon"
}
killing() {
	kill -9 $hanging
	for pid in $hanging; do await "process $pid to end by SIGKILL" ended "$pid"; done
}
force() { # ends what hangs, and the daemon; what that held is logged as lost
	within 10 umount -f "$FORCED" 2>"$T/said.forced" && fail "umount -f says all is well"
	grep -q "is given up" "$T/said.forced" || fail "umount -f said: $(cat "$T/said.forced")"
	grep -q "[1-9][0-9]* bytes of [1-9] files were not written out and are lost" "$LOG" || fail "the daemon logged: $(cat "$LOG")"
	! is_shown "$FORCED" || fail "still mounted after umount -f"
	! alive "${DAEMON[$FORCED]}" || fail "umount -f left the daemon"
	for pid in $hanging; do await "process $pid to end by umount -f" ended "$pid"; done
}

at_once the_mount_itself
at_once the_status
at_once unmount "$BY_STRAKE" strake umount
at_once unmount "$BY_UMOUNT" umount
at_once unmount_clean
hang hung "$HUNG"
at_once killing
hang forced "$FORCED"
at_once force
for job in $jobs; do wait "$job" || exit 1; done

# --- afterwards ---------------------------------------------------------------------------------------------------------

kill -9 $others
for pid in $others; do await "server $pid gone" ended "$pid"; done
STOPPED=
strake cluster start "$T/c" >"$T/start.out" 2>&1 || { cat "$T/start.out"; fail "restart"; }
for mount in "$BY_STRAKE" "$BY_UMOUNT"; do
	await "the daemon of $mount to end when the servers are back" ended "${DAEMON[$mount]}"
done
elsewhere
has_text "$N/one" one
has_text "$N/two" two
for mount in "$M" "$HUNG" "$N"; do
	echo works >"$mount/works" || fail "writing to $mount when the servers are back"
	leave "$mount"
done
