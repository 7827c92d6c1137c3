#!/bin/bash
# Unmounting: whoever waits for it knows that every byte is on the servers; whoever cannot, because they are away, is told
# so in time and loses nothing; and what hangs on dead servers can be ended.
. "$(dirname "$0")/installed.sh"
lay_over
cluster "$T/c" --osts 3
MGS=$(field "$T/c" mgs 0 address)
M=$T/m N=$T/n LOG=$T/mount.log
mkdir "$M" "$N"
head -c "$((${SCALE:-100} * 48 / 100 + 1))M" /dev/urandom >"$T/random"

# --- helpers ------------------------------------------------------------------------------------------------------------

# enter [OPTIONS]: mounts on $M; $daemon serves it.
enter() {
	mount -t strake -o "log=$LOG${1:+,$1}" "$MGS:/" "$M" || fail "mount ${1:-}"
	daemon=$(daemon_of "$M")
}
elsewhere() { mount -t strake "$MGS:/" "$N" || fail "mount elsewhere"; }
ended() { ! alive "$1"; }
is_hidden() { ! is_shown "$1"; }
osts() {
	strake cluster status "$T/c" --json | python3 -c '
import json, sys
print(*(e["pid"] for e in json.load(sys.stdin)["oss"]))'
}
freeze() { # PIDS...: from here on they are there and do not answer
	STOPPED=$*
	kill -STOP "$@" || fail "stopping servers"
}
thaw() {
	kill -CONT $STOPPED
	STOPPED=
}

# within SECONDS COMMAND...: its status; not later than that
exec 8>&2 # where a failure is told whatever becomes of the command's words
within() {
	limit=$1
	shift
	timeout -k 1 "$limit" "$@"
	within_status=$?
	[ "$within_status" != 124 ] && [ "$within_status" != 137 ] || fail "took more than $limit s: $*" 2>&8
	return $within_status
}

# A process that has a file open, or mapped only, and does what is written to its pipe.
#   act FILE open|map; do_act write:TEXT|close|exit, or `fill`, which has no end
act() {
	mkfifo "$T/words"
	python3 -u -c '
import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
size = 1 << 20
pages = None
if sys.argv[2] == "map": # not by the module mmap: it keeps the file open
    os.write(fd, b"0" * size)
    os.fsync(fd)
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    pages = libc.mmap(None, size, 3, 1, fd, 0)
    ctypes.memset(pages, 49, size) # they are all there, and dirty
    os.close(fd)
print("begun")
while True:
    word = sys.stdin.readline().strip()
    if word.startswith("write:"):
        text = word[6:].encode()
        if pages:
            ctypes.memmove(pages, (text * size)[:size], size)
        else:
            os.write(fd, text)
    elif word == "fill":
        while True:
            os.write(fd, b"0" * size)
    elif word == "close":
        os.close(fd)
    else:
        os._exit(0)
    print("done", word)' "$1" "$2" <"$T/words" >"$T/acts" 2>&1 &
	actor=$!
	PIDS="$PIDS $actor"
	exec 3>"$T/words"
	rm "$T/words"
	await "the actor to begin" grep -qs begun "$T/acts"
}
do_act() {
	echo "$1" >&3
	if [ "$1" = exit ]; then
		exec 3>&-
		wait "$actor"
	else
		await "the actor to do $1" grep -qxF "done $1" "$T/acts"
	fi
}
# dirty FILE TEXT: 1 MiB of TEXT through a mapping that nobody has flushed
dirty() {
	act "$1" map
	do_act "write:$2"
	do_act exit
}
text_sum() { python3 -c 'import hashlib, sys; print(hashlib.md5((sys.argv[1].encode() * (1 << 20))[:1 << 20]).hexdigest())' "$1"; }
has_text() { expect "content of $1" "$(text_sum "$2")" "$(md5sum <"$1" | cut -d' ' -f1)"; }

# --- whoever mounts next sees every byte --------------------------------------------------------------------------------

round=0
for how in umount umount:fuse "umount -i" "strake umount" "strake umount -l" "strake umount -f"; do
	round=$((round + 1))
	case $how in *:fuse) enter fstype=fuse ;; *) enter ;; esac
	dd if="$T/random" of="$M/big.$round" bs=1M status=none || fail "dd"
	echo "round $round" >"$M/small.$round"
	dirty "$M/mapped.$round" "$round:"
	case $how in
	"umount -i") umount -i "$M" || fail "umount -i" ;; # umount(2) alone: the next mount waits for the daemon
	"strake umount -f") sync -f "$M" && leave "$M" $how ;; # what the kernel has not written it gives up
	*) leave "$M" ${how%:fuse} ;;
	esac
	elsewhere
	! alive "$daemon" || fail "a mount came up beside the daemon that still wrote, after $how"
	cmp "$T/random" "$N/big.$round" || fail "a big file, after $how"
	expect "a small file, after $how" "round $round" "$(cat "$N/small.$round")"
	has_text "$N/mapped.$round" "$round:"
	leave "$N"
done

# With OSTs that do not answer for a while, the daemon has something to write when it is unmounted: umount waits for that,
# by either type, and after umount(2) the next mount does.
for how in umount umount:fuse "umount -i" "strake umount"; do
	case $how in *:fuse) enter fstype=fuse ;; *) enter ;; esac
	act "$M/slow" map
	freeze $(osts)
	do_act "write:slow $how"
	do_act exit
	if [ "$how" = "umount -i" ]; then
		umount -i "$M" || fail "umount -i"
		mount -t strake "$MGS:/" "$N" &
		waiter=$!
	else
		${how%:fuse} "$M" &
		waiter=$!
	fi
	await "the daemon to know that it is unmounted, by $how" is_leaving "$daemon"
	alive "$daemon" || fail "the daemon ended with unwritten bytes"
	alive "$waiter" || fail "$how did not wait for the daemon"
	! is_shown "$N" || fail "mounted beside the daemon that still wrote"
	thaw
	wait "$waiter" || fail "$how, or the mount after it, failed when the OSTs were back"
	! alive "$daemon" || fail "$how, or the mount after it, did not wait for the daemon's end"
	is_shown "$N" || elsewhere
	has_text "$N/slow" "slow $how"
	leave "$N"
done

# --- in use -------------------------------------------------------------------------------------------------------------

enter
act "$M/held" open
do_act write:one
for how in umount "strake umount"; do
	within 5 $how "$M" 2>"$T/said" && fail "$how took away a mount in use"
	grep -q "in use" "$T/said" || fail "$how of a mount in use said: $(cat "$T/said")"
done
do_act write:two
expect "content while in use" onetwo "$(cat "$M/held")"
within 5 strake umount -l "$M" 2>"$T/said" || fail "strake umount -l"
grep -q "detached; its daemon (pid $daemon)" "$T/said" || fail "strake umount -l said: $(cat "$T/said")"
! is_shown "$M" || fail "still mounted after umount -l"
do_act write:three
alive "$daemon" || fail "the daemon went while a file was open"
do_act close
await "the daemon to end when nobody uses the mount" ended "$daemon"
do_act exit
elsewhere
expect "content after umount -l" onetwothree "$(cat "$N/held")"
leave "$N"

# In another mount namespace it lives on; who unmounts it here is told.
enter
unshare -m sleep 1000 &
other=$!
PIDS="$PIDS $other"
await "another namespace" grep -qs " $M " "/proc/$other/mounts"
within 10 strake umount "$M" 2>"$T/said" || fail "umount of a mount that lives on elsewhere"
grep -q "other mount namespaces" "$T/said" || fail "of the other namespace it said: $(cat "$T/said")"
alive "$daemon" || fail "the daemon went though another namespace has the mount"
kill "$other"
await "the daemon to end with the other namespace" ended "$daemon"

mount -t tmpfs tmpfs "$M"
strake umount "$M" 2>"$T/said" && fail "strake umount took away a tmpfs"
grep -q "no StrakeFS but tmpfs" "$T/said" || fail "of a tmpfs it said: $(cat "$T/said")"
umount "$M"
strake umount "$M" 2>"$T/said" && fail "unmounted nothing"
grep -q "nothing is mounted" "$T/said" || fail "of nothing it said: $(cat "$T/said")"

# --- signals ------------------------------------------------------------------------------------------------------------

# The first one unmounts when idle, and nothing is lost.
enter
dirty "$M/signalled" "by signal"
kill -TERM "$daemon"
await "the daemon to end by SIGTERM" ended "$daemon"
! is_shown "$M" || fail "still mounted after SIGTERM"
elsewhere
has_text "$N/signalled" "by signal"
leave "$N"

# In use it is detached, and ends with the last file; also when it writes out already, the first signal is no order to stop.
enter
act "$M/busy" open
kill -TERM "$daemon"
await "the mount to be detached by SIGTERM" is_hidden "$M"
do_act write:afterwards
alive "$daemon" || fail "SIGTERM ended the daemon while a file was open"
do_act close
await "the daemon to end with the last file" ended "$daemon"
do_act exit
enter
expect "what was written after SIGTERM" afterwards "$(cat "$M/busy")"

act "$M/later" map
freeze $(osts)
do_act "write:goes on"
do_act exit
umount -i "$M" || fail "umount -i"
await "the daemon to know that it is unmounted" is_leaving "$daemon"
kill -TERM "$daemon"
await "the daemon to note the signal" grep -q "going on to write out" "$LOG"
alive "$daemon" || fail "the first signal ended a daemon that was writing out"
thaw
await "the daemon to end when all is written" ended "$daemon"
elsewhere
has_text "$N/later" "goes on"
leave "$N"

# The second one ends it at once, and says what that costs.
enter
act "$M/lost" map
freeze $(osts)
do_act "write:lost"
do_act exit
umount -i "$M" || fail "umount -i"
await "the daemon to know that it is unmounted" is_leaving "$daemon"
: >"$LOG"
kill -TERM "$daemon"
await "the daemon to note the signal" grep -q "going on to write out" "$LOG"
kill -TERM "$daemon"
await "the daemon to end by the second signal" ended "$daemon"
grep -q "warning: second signal: ending at once; [1-9][0-9]* bytes of 1 files" "$LOG" || fail "it said: $(cat "$LOG")"
thaw

# --- the servers are away -----------------------------------------------------------------------------------------------

# They are there and do not answer: umount and whatever asks only for the mount itself answer all the same.
enter
act "$M/away" map
freeze $(all_servers)
do_act "write:away"
do_act exit
for how in "stat $M" "df $M" "mountpoint -q $M" "strake -m $MGS status"; do
	within 5 $how >"$T/said" 2>&1
	status=$?
	case $how in
	*status) [ $status = 1 ] || fail "status of dead servers: $status" ;;
	*) [ $status = 0 ] || fail "$how: $(cat "$T/said")" ;;
	esac
done
within 25 strake umount "$M" 2>"$T/said" && fail "umount says all is well though nothing is written"
grep -q "[1-9][0-9]* bytes of 1 files are not yet written.*daemon (pid $daemon) goes on" "$T/said" || fail "umount said: $(cat "$T/said")"
! is_shown "$M" || fail "still mounted"
alive "$daemon" || fail "the daemon gave up"
thaw
await "the daemon to end when the servers are back" ended "$daemon"
elsewhere
has_text "$N/away" "away"
leave "$N"

# They are gone; they come back, and all is there.
enter
act "$M/gone" map
for pid in $(all_servers); do
	kill -9 "$pid"
	await "server $pid gone" ended "$pid"
done
do_act "write:gone"
do_act exit
within 25 umount "$M" 2>"$T/said" && fail "umount(8) says all is well though nothing is written"
grep -q "[1-9][0-9]* bytes of 1 files are not yet written.*daemon (pid $daemon) goes on" "$T/said" || fail "umount(8) said: $(cat "$T/said")"
! is_shown "$M" || fail "still mounted"
strake cluster start "$T/c" >"$T/start.out" 2>&1 || { cat "$T/start.out"; fail "restart"; }
await "the daemon to end when the servers are back" ended "$daemon"
elsewhere
has_text "$N/gone" "gone"
leave "$N"

# Nothing to write: nothing to wait for.
enter
echo clean >"$M/clean"
sync "$M/clean"
freeze $(all_servers)
within 10 umount "$M" || fail "umount of a clean mount"
await "the daemon to end though the servers are away" ended "$daemon"
thaw

# --- what hangs on dead servers -----------------------------------------------------------------------------------------

# Waits in the kernel for a file of ours, or for who waits for its directory.
is_asking() { grep -q "fuse_\|path_\|filename_" "/proc/$1/stack"; }
# hang NAME: freezes all servers under processes that then wait for them: $hanging. What the first of them has written
# before is with the daemon, as the OSTs are frozen first: the MDT has to be asked about the file before it takes bytes.
hang() {
	servers=$(all_servers)
	act "$M/written.$1" open
	freeze $(osts)
	do_act "write:$1"
	freeze $servers
	echo fill >&3
	exec 3>&-
	hanging=$actor
	for how in "cat $M/big.1" "ls -l $M" "stat $M/nobody" "mkdir $M/new"; do
		$how >/dev/null 2>&1 &
		hanging="$hanging $!"
	done
	PIDS="$PIDS $hanging"
	for pid in $hanging; do await "process $pid ($(tr "\0" " " <"/proc/$pid/cmdline")) to ask the daemon" is_asking "$pid"; done
}

enter
hang 1
for pid in $hanging; do kill -9 "$pid"; done
for pid in $hanging; do await "process $pid to end by SIGKILL" ended "$pid"; done
thaw
echo "still works" >"$M/works"
leave "$M"

# umount -f ends all of that, and the daemon, in time; what it held is logged as lost.
enter
hang 2
: >"$LOG"
within 25 umount -f "$M" 2>"$T/said" && fail "umount -f says all is well"
grep -q "is given up" "$T/said" || fail "umount -f said: $(cat "$T/said")"
grep -q "[1-9][0-9]* bytes of [1-9] files were not written out and are lost" "$LOG" || fail "the daemon logged: $(cat "$LOG")"
! is_shown "$M" || fail "still mounted after umount -f"
! alive "$daemon" || fail "umount -f left the daemon"
for pid in $hanging; do await "process $pid to end by umount -f" ended "$pid"; done
thaw
enter
expect "content after umount -f" "still works" "$(cat "$M/works")"
leave "$M"

# --- the daemon dies ----------------------------------------------------------------------------------------------------

enter
echo before >"$M/before"
kill -9 "$daemon"
await "the daemon to die" ended "$daemon"
stat "$M" >"$T/said" 2>&1 && fail "a mount without a daemon answers"
grep -q "not connected" "$T/said" || fail "a mount without a daemon says: $(cat "$T/said")"
mount -t strake "$MGS:/" "$M" 2>"$T/said" && fail "mounted over a dead mount"
grep -q "strake umount" "$T/said" || fail "mounting over a dead mount it said: $(cat "$T/said")"
within 5 strake umount "$M" || fail "strake umount of a dead mount"
! is_shown "$M" || fail "a dead mount is still there"
! grep -qs "TARGET=$M " /run/mount/utab || fail "umount(8)'s table still has it: $(cat /run/mount/utab)"
enter
expect "content after the daemon died" before "$(cat "$M/before")"
leave "$M"
