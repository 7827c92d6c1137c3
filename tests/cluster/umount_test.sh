#!/bin/bash
# Unmounting, by whichever way and also while it is in use: whoever waits for it knows that every byte is on the servers.
. "$(dirname "$0")/unmounting.sh"

# One that writes out is waited for as long as it gets on, however slow its servers are: here, of a cluster of its own, since that
# lasts longer than all below, which goes on beside it. (One that has only entered itself.)
cluster "$T/slow"
enter
leave "$M" # there is a place to enter itself
python3 - "$MOUNTS" "$(field "$T/slow" mgs 0 address)" "$T/written" <<'PY' &
import os, sys, time
folder, mgs, written = sys.argv[1:]
entry, start = f"{folder}/{os.getpid()}", open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19]
for held in range(33, 0, -1): # the pace is what is tested: longer than the 30 s that one may take that does not get on
    with open(entry + ".new", "w") as f:
        f.write(f"pid = {os.getpid()}\nstarttime = {start}\nmountpoint = /nowhere\nsource = {mgs}:/\n"
                f"device = 0:0 0\nleaving = {held} 1 0\n")
    os.rename(entry + ".new", entry)
    time.sleep(1)
open(written, "x").close()
os.unlink(entry)
PY
writer=$!
PIDS="$PIDS $writer"
await "a mount that writes out" is_leaving "$writer"
within 60 strake cluster stop "$T/slow" >"$T/stopped" 2>&1 &
stopping=$!

# --- whoever mounts next sees every byte --------------------------------------------------------------------------------

head -c "$((${SCALE:-100} * 16 / 100 + 1))M" /dev/urandom >"$T/random"
round=0
for how in umount umount:fuse "umount -i" "strake umount" "strake umount -l" "strake umount -f"; do
	round=$((round + 1))
	case $how in *:fuse) enter "$M" fstype=fuse ;; *) enter ;; esac
	dd if="$T/random" of="$M/big.$round" bs=1M status=none || fail "dd"
	echo "round $round" >"$M/small.$round"
	dirty "$M/mapped.$round" "$round:"
	case $how in
	"umount -i") umount -i "$M" || fail "umount -i" ;; # umount(2) alone: the next mount waits for the daemon
	"strake umount -f") sync -f "$M" && leave "$M" $how ;; # what the kernel has not written it gives up
	*) leave "$M" ${how%:fuse} ;;
	esac
	elsewhere
	! is_entered "$daemon" || fail "a mount came up beside the daemon that still wrote, after $how"
	cmp "$T/random" "$N/big.$round" || fail "a big file, after $how"
	expect "a small file, after $how" "round $round" "$(cat "$N/small.$round")"
	has_text "$N/mapped.$round" "$round:"
	leave "$N"
done

# With OSTs that do not answer for a while, the daemon has something to write when it is unmounted: umount waits for that,
# by either type, and after umount(2) the next mount does.
for how in umount umount:fuse "umount -i" "strake umount"; do
	case $how in *:fuse) enter "$M" fstype=fuse ;; *) enter ;; esac
	act writer "$M/slow" map
	freeze $(servers oss)
	do_act writer "write:slow $how"
	do_act writer exit
	if [ "$how" = "umount -i" ]; then
		umount -i "$M" || fail "umount -i"
		mount -t strake "$MGS:/" "$N" 2>"$T/said" &
		waiter=$!
	else
		${how%:fuse} "$M" 2>"$T/said" &
		waiter=$!
	fi
	await "the daemon to know that it is unmounted, by $how" is_leaving "$daemon"
	alive "$daemon" || fail "the daemon ended with unwritten bytes"
	# A second is plenty for a mount that does not wait.
	[ "$how" != "umount -i" ] || ! timeout 1 tail -s 0.05 -f --pid "$waiter" /dev/null || fail "mounted beside the daemon that still wrote"
	thaw
	if ! wait "$waiter"; then # a machine so busy that umount's patience with silent servers ended before they were back
		grep -q "are not yet written" "$T/said" || fail "$how, or the mount after it, failed: $(cat "$T/said")"
		await "the daemon to end" ended "$daemon"
	fi
	! is_entered "$daemon" || fail "$how, or the mount after it, did not wait for the daemon"
	is_shown "$N" || elsewhere
	has_text "$N/slow" "slow $how"
	leave "$N"
done

# --- in use -------------------------------------------------------------------------------------------------------------

enter
act user "$M/held" open
do_act user write:one
for how in umount "strake umount"; do
	within 5 $how "$M" 2>"$T/said" && fail "$how took away a mount in use"
	grep -q "in use" "$T/said" || fail "$how of a mount in use said: $(cat "$T/said")"
done
do_act user write:two
expect "content while in use" onetwo "$(cat "$M/held")"
within 5 strake umount -l "$M" 2>"$T/said" || fail "strake umount -l"
grep -q "detached; its daemon (pid $daemon)" "$T/said" || fail "strake umount -l said: $(cat "$T/said")"
! is_shown "$M" || fail "still mounted after umount -l"
do_act user write:three
alive "$daemon" || fail "the daemon went while a file was open"
do_act user close
await "the daemon to end when nobody uses the mount" ended "$daemon"
do_act user exit
elsewhere
expect "content after umount -l" onetwothree "$(cat "$N/held")"
leave "$N"

# Who waits for a server's answer keeps it in use no longer than that takes.
enter "$M" strict
freeze $(servers mds)
cat "$M/held" >"$T/looked" &
looker=$!
await "somebody to wait for the MDS" sleeps_in "$looker" "fuse_\|request_wait" "257"
strake umount "$M" 2>"$T/said" &
waiter=$!
# reaped_by PID: it has waited for a child, which was refused; or has ended itself
reaped_by() { [ "$(cut -d ' ' -f 11 "/proc/$1/stat" 2>/dev/null || echo 1)" != 0 ]; }
await "umount to be refused" reaped_by "$waiter"
thaw
wait "$waiter" || fail "umount under somebody who only looked said: $(cat "$T/said")"
wait "$looker"
expect "what he saw" onetwothree "$(cat "$T/looked")"
! alive "$daemon" || fail "umount returned before the daemon had ended"

# In another mount namespace it lives on; who unmounts it here is told.
enter
unshare -m sleep 1000 &
other=$!
PIDS="$PIDS $other"
await "another namespace" has_own_mounts "$other"
within 10 strake umount "$M" 2>"$T/said" || fail "umount of a mount that lives on elsewhere"
grep -q "other mount namespaces" "$T/said" || fail "of the other namespace it said: $(cat "$T/said")"
alive "$daemon" || fail "the daemon went though another namespace has the mount"
kill "$other"
await "the daemon to end with the other namespace" ended "$daemon"

# What another mount namespace has at the same path is another's mount, with a daemon of its own: that is left alone, also by
# force, and whether there is one here or not.
enter_elsewhere() { # $theirs serves it, $holder is in that namespace
	before=$(daemon_of "$M")
	unshare -m --propagation private bash -c 'umount -i -l "$1"; mount -t strake -o "log=$3" "$2:/" "$1" && touch "$4" &&
		exec sleep 1000' - "$M" "$MGS" "$T/theirs.log" "$T/entered" &
	holder=$!
	PIDS="$PIDS $holder"
	await "a mount in another namespace" test -e "$T/entered"
	rm "$T/entered"
	theirs=$(daemon_of "$M" | grep -vxF "$before")
}
enter
ours=$daemon
enter_elsewhere
nsenter -t "$holder" -m -r sh -c "echo theirs >'$M/theirs'" || fail "writing in another namespace"
within 20 strake umount -f "$M" 2>"$T/said" || fail "umount -f beside another namespace's mount said: $(cat "$T/said")"
! alive "$ours" || fail "umount -f returned before the daemon had ended: it waited for another's"
alive "$theirs" || fail "umount -f ended the daemon of another namespace's mount"
within 20 strake umount -f "$M" 2>"$T/said" && fail "unmounted what only another namespace has"
grep -q "nothing is mounted" "$T/said" || fail "of what only another namespace has it said: $(cat "$T/said")"
alive "$theirs" || fail "umount -f of nothing ended the daemon of another namespace's mount"
expect "content there" theirs "$(nsenter -t "$holder" -m -r cat "$M/theirs")"
kill -TERM "$theirs"
await "the daemon of the other namespace to end" ended "$theirs"
kill "$holder"

# Who looks from another PID namespace sees none of its processes, and takes none of them for dead.
enter
unshare --mount --pid --fork --mount-proc strake umount "$T" 2>"$T/said" && fail "unmounted nothing, in a PID namespace"
is_entered "$daemon" || fail "somebody in another PID namespace has taken the mount out of the registry"
leave "$M"

mount -t tmpfs tmpfs "$M"
strake umount "$M" 2>"$T/said" && fail "strake umount took away a tmpfs"
grep -q "no StrakeFS but tmpfs" "$T/said" || fail "of a tmpfs it said: $(cat "$T/said")"
umount "$M"
strake umount "$M" 2>"$T/said" && fail "unmounted nothing"
grep -q "nothing is mounted" "$T/said" || fail "of nothing it said: $(cat "$T/said")"

# Times of access alone are not worth waiting for an MDS that is away, also while they are just being told.
enter "$M" strictatime
echo read >"$M/read"
sync -f "$M"
mds_calls() { getfattr --absolute-names --only-values -n strake.stats "$M" | awk '$1 == "mds_calls" { print $2 }'; }
told() { [ "$(mds_calls)" != "$calls" ]; }
cat "$M/read" >"$T/looked"
freeze $(servers mds)
calls=$(mds_calls)
await "times of access to be told" told
within 10 strake umount "$M" 2>"$T/said" || fail "umount beside a silent MDS said: $(cat "$T/said")"
has_done "$daemon" || fail "umount beside a silent MDS returned before the daemon had ended"
thaw

# Who has written all and is long in ending its connections is not said to hold bytes. (One that has only entered itself.)
mkdir "$T/parting"
python3 - "$MOUNTS" "$MGS" "$T/parting" <<'PY' &
import os, sys, time
folder, mgs, mountpoint = sys.argv[1:]
start = open("/proc/self/stat").read().rsplit(")", 1)[1].split()[19]
with open(f"{folder}/{os.getpid()}.new", "w") as f:
    f.write(f"pid = {os.getpid()}\nstarttime = {start}\nmountpoint = {mountpoint}\nsource = {mgs}:/\n"
            f"device = 0:0 0\nleaving = 0 0 1\n")
os.rename(f"{folder}/{os.getpid()}.new", f"{folder}/{os.getpid()}")
time.sleep(1000)
PY
parting=$!
PIDS="$PIDS $parting"
await "one that parts" is_leaving "$parting"
for how in "strake umount" "strake umount -f"; do
	within 10 $how "$T/parting" 2>"$T/said" || fail "$how of one that has written all said: $(cat "$T/said")"
	grep -q "nothing is left to be written" "$T/said" || fail "$how of one that has written all said: $(cat "$T/said")"
	alive "$parting" || fail "$how ended one that parts"
done
kill "$parting"
rm "$MOUNTS/$parting"

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
act user "$M/busy" open
kill -TERM "$daemon"
await "the mount to be detached by SIGTERM" is_hidden "$M"
do_act user write:afterwards
alive "$daemon" || fail "SIGTERM ended the daemon while a file was open"
do_act user close
await "the daemon to end with the last file" ended "$daemon"
do_act user exit
enter
expect "what was written after SIGTERM" afterwards "$(cat "$M/busy")"

act user "$M/later" map
freeze $(servers oss)
do_act user "write:goes on"
do_act user exit
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
act user "$M/lost" map
freeze $(servers oss)
do_act user "write:lost"
do_act user exit
umount -i "$M" || fail "umount -i"
await "the daemon to know that it is unmounted" is_leaving "$daemon"
: >"$LOG"
kill -TERM "$daemon"
await "the daemon to note the signal" grep -q "going on to write out" "$LOG"
kill -TERM "$daemon"
await "the daemon to end by the second signal" ended "$daemon"
grep -q "warning: second signal: ending at once; [1-9][0-9]* bytes of 1 files" "$LOG" || fail "it said: $(cat "$LOG")"
thaw

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

# --- the end of a cluster -----------------------------------------------------------------------------------------------

# All its mounts are asked to end, also those at the same path in another mount namespace, and no other's.
enter
enter_elsewhere
echo last >"$M/ours"
nsenter -t "$holder" -m -r sh -c "echo last >'$M/theirs'" || fail "writing in another namespace"
within 25 strake cluster stop "$T/c" >"$T/said" 2>&1 || fail "cluster stop with mounts in two namespaces said: $(cat "$T/said")"
! alive "$daemon" && ! alive "$theirs" || fail "cluster stop left a daemon"
kill "$holder"

# The one that has written out since the beginning.
wait "$stopping" || fail "cluster stop beside one that writes out said: $(cat "$T/stopped")"
[ -e "$T/written" ] || fail "cluster stop did not wait for one that wrote out"
