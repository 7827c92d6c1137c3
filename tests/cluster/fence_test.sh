#!/bin/bash
# What a session's end does whose lease has run out, after 30 s of silence. A mount that was evicted with bytes it had not
# sent yet: they never land on what others have written since, whoever had the file open is told, and the mount goes on.
# One that has died: what it had open of unlinked files is given back.
. "$(dirname "$0")/lib.sh"

start --osts 3
mount_more "$T/n"
mount_more "$T/dies"
daemon_of() {
	strake cluster status "$T/c" --json | python3 -c '
import json, sys
print([m["pid"] for m in json.load(sys.stdin)["mounts"] if m["path"] == sys.argv[1]][0])' "$1"
}
daemon=$(daemon_of "$T/n")

head -c 3000000 /dev/urandom >"$T/dies/doomed"
sync "$T/dies/doomed"
doomed=$(printf %016x "$(stat -c %i "$T/dies/doomed")")
# Of it and of one that never had a name.
mkfifo "$T/nameless"
python3 -c '
import os, signal, sys
fd = os.open(sys.argv[1], os.O_TMPFILE | os.O_RDWR)
os.write(fd, b"n" * 3000000)
os.fsync(fd)
print("%016x" % os.fstat(fd).st_ino, flush=True)
signal.pause()' "$T/dies" >"$T/nameless" &
PIDS="$PIDS $!"
nameless=$!
read -r tmpfile <"$T/nameless" || fail "no file without a name"
objects() { find "$T"/c/ost?/objects -name "$doomed.*" -o -name "$tmpfile.*"; }
expect "objects" "$doomed $tmpfile" "$(objects | sed 's|.*/||; s/[.].*//' | sort -u | xargs)"
exec 4<"$T/dies/doomed"
rm "$T/dies/doomed"
kill -9 "$(daemon_of "$T/dies")" || fail "no daemon to kill"
exec 4<&-
kill "$nameless"
umount -l "$T/dies"

# A process that has the file open there: says "dirty" when it has stopped its mount, ends when its fsync is answered.
cat >"$T/holder" <<'PY'
import errno, os, signal, sys
path, daemon = sys.argv[1], int(sys.argv[2])
fd = os.open(path, os.O_CREAT | os.O_RDWR)
os.pwrite(fd, b"0" * 8192, 0)
os.fsync(fd)
os.pwrite(fd, b"OLD!", 0)
os.kill(daemon, signal.SIGSTOP)
print("dirty", flush=True)
sys.stdin.readline()
try:
    os.fsync(fd)
    sys.exit("the old handle's fsync tells nothing")
except OSError as error:
    assert error.errno == errno.EIO, error
os.fsync(fd) # told once
os.close(fd)
PY
mkfifo "$T/go"
python3 "$T/holder" "$T/n/x" "$daemon" <"$T/go" >"$T/said" &
holder=$!
PIDS="$PIDS $holder"
exec 3>"$T/go"
await "the bytes to be dirty" grep -qs dirty "$T/said"

put() { # TEXT: written and on stable storage
	python3 -c '
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(fd, sys.argv[2].encode(), 0)
os.fsync(fd)' "$T/m/x" "$1" || fail "writing $1"
}
seen() { # MNT: from the servers
	python3 -c '
import mmap, os, sys
page = mmap.mmap(-1, 4096)
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
os.preadv(fd, [page], 0)
print(page[:4].decode())' "$1/x"
}

put NEW1
evictions() { [ "$(grep -s "not heard of .* evicted" "$T"/c/log/mds*.log | wc -l)" = "$1" ]; }
[ -n "$(objects)" ] || ! evictions 0 || fail "the dead client's open file was destroyed before its lease had run out"
await "both evictions" evictions 2
put NEW2
kill -CONT "$daemon" || fail "no daemon to go on"
echo >&3
wait "$holder" || fail "the holder of the file"
exec 3>&-
expect "after the eviction" NEW2 "$(seen "$T/m")"
expect "after the eviction, there" NEW2 "$(seen "$T/n")"

gone() { [ -z "$(objects)" ]; }
await "the dead client's orphan destroyed" gone

# It goes on.
echo again >"$T/n/y" && sync -f "$T/n/y" || fail "writing after the eviction"
expect "written after the eviction" again "$(cat "$T/m/y")"
