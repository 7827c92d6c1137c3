#!/bin/bash
# Locks between mounts (tests/tools/lockers.py): fcntl's, those of open files, flock's; who waits, is interrupted, is killed;
# what is written under them is seen by the next one; an MDS that is killed while they are held and waited for; a client that
# dies with them. With the options that a mount has by default.
. "$(dirname "$0")/lib.sh"

lockers=$(dirname "$0")/../tools/lockers.py
start --osts 2
mount_more "$T/m2"
mount_more "$T/m3"
seconds=$((5 * ${SCALE:-100} / 100 + 3))
run() { timeout 300 python3 "$lockers" "$@" || fail "$1"; }

# --- clients that die or are silent: their locks go when their lease is over, and no sooner; others go on meanwhile -----------

daemon_of() { # MNT: its daemon's pid
	for pid in $(pgrep -x mount.strake); do
		tr '\0' '\n' <"/proc/$pid/cmdline" | grep -qx "$1" && echo "$pid"
	done
}
mount_more "$T/m4" -o "log=$T/m4.log"
for n in 3 4; do
	python3 "$lockers" hold "$T/m$n/lost$n" posix >"$T/held$n" &
	PIDS="$PIDS $!"
	declare "holder$n=$!"
	await "a lock is held" grep -q held "$T/held$n"
	declare "daemon$n=$(daemon_of "$T/m$n")"
done
# shellcheck disable=SC2154 # declared there
kill -9 "$daemon3" && kill -STOP "$daemon4" || fail "there are no daemons"
for n in 3 4; do
	python3 "$lockers" wait "$T/m/lost$n" posix >"$T/waited$n" &
	declare "waiter$n=$!"
done

run rules "$T/m" "$T/m2"
mount_more "$T/local" -o local_locks
run local "$T/m" "$T/local"
run append "$T/m" "$T/m2"
run count "$T/m" "$T/m2" $seconds
run token "$T/m" "$T/m2" $((2 * ${SCALE:-100}))
run sqlite "$T/m" "$T/m2" $((seconds / 2 + 2)) # by each journal

for n in 3 4; do
	pid=waiter$n
	wait "${!pid}" || fail "who waited for a lost client"
	say "a lost client's lock was waited for for $(cat "$T/waited$n") s"
	# It was heard of 10 s before at most, and who waits began some time after: a busy machine is slow to start him.
	python3 -c 'import sys; sys.exit(not 10 <= float(sys.argv[1]) <= 120)' "$(cat "$T/waited$n")" || fail "that is no lease"
done
umount -l "$T/m3"

# It was silent only, and goes on: who believes that he has the lock must hear of it.
kill -CONT "$daemon4"
await "it knows that its session is lost" grep -q "and locks with it" "$T/m4.log"
# shellcheck disable=SC2154 # declared there
kill -USR1 "$holder4"
lost_twice() { [ "$(grep -c EIO "$T/held4")" = 2 ]; }
await "it writes and truncates under a lock that it has lost" lost_twice
kill -9 "$holder4"
python3 "$lockers" hold "$T/m4/lost4" posix >"$T/held5" &
PIDS="$PIDS $!"
again=$!
await "it locks again" grep -q held "$T/held5"
kill -USR1 $again
await "it writes again" grep -q written "$T/held5"

# --- who asks for a lock behind a close that the MDS does not answer: he can be killed -----------------------------------------

python3 "$lockers" hold "$T/m/line" posix >"$T/in_line" &
holder=$!
python3 "$lockers" ask "$T/m/line" >"$T/asks" &
asker=$!
PIDS="$PIDS $holder $asker"
await "a lock is held" grep -q held "$T/in_line"
await "a file is open" grep -q open "$T/asks"
mds=$(field "$T/c" mds 0 pid)
kill -STOP "$mds"
kill -9 $holder
sleep 0.5 # its end has closed the file
kill -USR1 $asker
await "it asks" grep -q asks "$T/asks"
sleep 0.2 # it stands in line
kill -9 $asker
(PATIENCE=10 await "who asked for a lock is gone" ! alive $asker)
gone=$?
kill -CONT "$mds"
[ $gone = 0 ] || exit 1
expect "what it was told" "open asks" "$(xargs <"$T/asks")"

# --- an MDS that is killed while locks are held and waited for -----------------------------------------------------------

python3 "$lockers" hold "$T/m/kept" posix >"$T/held1" &
holder=$!
PIDS="$PIDS $holder"
await "a lock is held" grep -q held "$T/held1"
python3 "$lockers" wait "$T/m2/kept" posix >"$T/waited2" &
waiter2=$!
run count "$T/m" "$T/m2" $((seconds + 6)) >"$T/count.out" 2>&1 &
counting=$!
for _ in 1 2; do
	sleep 1
	crash mds 0
	strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "the MDS does not start again"
	[ ! -s "$T/waited2" ] || fail "a lock that is held was given to another one after a restart"
done
wait $counting || { cat "$T/count.out" >&2; fail "counting while the MDS is killed"; }
cat "$T/count.out"
[ ! -s "$T/waited2" ] || fail "a lock that is held was given to another one"
kill -9 $holder
wait $waiter2 || fail "a waiter of before the MDS was killed"
[ -s "$T/waited2" ] || fail "who waited has not got it"
