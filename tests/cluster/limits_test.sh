#!/bin/bash
# 100,000 files open on one mount, some of them unlinked: what each costs the mount and the MDS, and that all of them are
# there as before when the MDS was killed. SCALE makes them fewer.
. "$(dirname "$0")/lib.sh"

FILES=$((${SCALE:-100} < 100 ? SCALE * 1000 : 100000)) PATIENCE=300
MOUNT_BYTES=1536 MDS_BYTES=2048 # that one more file may cost them, made and open
start --osts 1
case $BUILD in *san-*) sanitized=1 ;; *) sanitized= ;; esac
mount_pid=$(field "$T/c" mounts 0 pid)

# Processes that hold as many as each may, and answer to words: "done" when they have done what they were told.
cat >"$T/holders.py" <<'PY'
import os, resource, sys
top, count = sys.argv[1], int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
share = min(hard - 100, -(-count // 2))
GONE = 50 # one of so many has bytes and no name
def content(number): return b"%d " % number * 100

def hold(first, end, commands, answers):
    name = lambda number: f"{top}/{first}/{number}"
    fds = {}
    os.mkdir(f"{top}/{first}")
    for command in iter(lambda: os.read(commands, 1), b""):
        if command == b"o":
            for number in range(first, end): fds[number] = os.open(name(number), os.O_RDWR | os.O_CREAT, 0o644)
        if command == b"u":
            for number in range(first, end, GONE):
                os.write(fds[number], content(number))
                os.unlink(name(number))
        if command == b"r":
            for number in range(first, end):
                gone = (number - first) % GONE == 0
                if gone: assert os.pread(fds[number], 4096, 0) == content(number), f"{number} has other bytes"
                if number % 10 == 0:
                    st = os.fstat(fds[number])
                    assert st.st_nlink == (0 if gone else 1), f"{number} has {st.st_nlink} links"
            for number in first, first + 1, end - 1:
                os.pwrite(fds[number], content(number), 0)
                os.fsync(fds[number])
                assert os.pread(fds[number], 4096, 0) == content(number)
        os.write(answers, command)

holders = []
for first in range(0, count, share):
    (down, commands), (answers, up) = os.pipe(), os.pipe()
    if os.fork() == 0:
        os.close(commands)
        for _, other in holders: os.close(other)
        try: hold(first, min(first + share, count), down, up)
        except (OSError, AssertionError) as error: print(f"holder of {first}: {error!r}", file=sys.stderr)
        os._exit(0)
    os.close(down), os.close(up)
    holders.append((answers, commands))
for word in iter(sys.stdin.readline, ""):
    for _, commands in holders: os.write(commands, word[0].encode())
    for answers, _ in holders:
        if os.read(answers, 1) != word[0].encode(): sys.exit(f"a holder has ended at '{word.strip()}'")
    print("done", flush=True)
PY
mkfifo "$T/words"
mkdir "$T/m/files"
python3 "$T/holders.py" "$T/m/files" "$FILES" <"$T/words" >"$T/answers" &
HOLDERS=$!
exec 9>"$T/words"
answered() { [ "$(wc -l <"$T/answers")" -ge "$words" ] || ! alive $HOLDERS; }
words=0
# tell WORD
tell() {
	echo "$1" >&9
	words=$((words + 1))
	await "the holders: $1" answered
	[ "$(wc -l <"$T/answers")" = "$words" ] || fail "open files: $1"
}
# held PID: KiB
held() { awk '/^VmRSS/ { print $2 }' "/proc/$1/status"; }
# costs WHO BEFORE AFTER BOUND
costs() {
	local each=$((($3 - $2) * 1024 / FILES))
	say "a new open file takes $each bytes of $1 ($2 KiB, then $3 KiB)"
	[ -n "$sanitized" ] || [ "$FILES" -lt 20000 ] || [ $each -le "$4" ] || fail "a new open file takes $each bytes of $1"
}
objects() { find "$T/c/ost0/objects" -type f | wc -l; }
objects_are() { [ "$(objects)" = "$1" ]; }

mds_pid=$(field "$T/c" mds 0 pid)
mount_before=$(held "$mount_pid") mds_before=$(held "$mds_pid")
tell open
costs "the mount" "$mount_before" "$(held "$mount_pid")" $MOUNT_BYTES
costs "the MDS" "$mds_before" "$(held "$mds_pid")" $MDS_BYTES
descriptors=$(find "/proc/$mount_pid/fd" -type l | wc -l)
[ "$descriptors" -lt 200 ] || fail "the mount has $descriptors descriptors for $FILES open files"
tell unlink
tell read
sync -f "$T/m" # every file that was written has its object
there=$(objects)

# Killed: all of it is told again, in parts. A lock is granted when that is done, and what was not told of goes before
# the objects of a file that is removed then.
echo bytes >"$T/m/marker"
sync "$T/m/marker"
crash mds 0
strake cluster start "$T/c" >/dev/null || fail "restart"
flock "$T/m" true || fail "a lock after the restart"
rm "$T/m/marker"
await "the objects of what is removed are gone, and no others" objects_are "$there"
say "after its restart the MDS has $(held "$(field "$T/c" mds 0 pid)") KiB"
tell read
expect "objects" "$there" "$(objects)"

exec 9>&-
wait $HOLDERS || fail "the holders end with status $?"
# Each of the holders has written to files that have names, too.
named=$(find "$T/m/files" -type f -size +0 | wc -l)
await "what was unlinked is gone when it is closed" objects_are "$named"
