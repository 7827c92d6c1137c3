#!/bin/bash
# copy_file_range by the OSTs: cp brings no byte here, holes stay holes, whoever opens the copy elsewhere finds all of it,
# OSTs killed in the middle, a source that is written meanwhile: old or new, never mixed.
. "$(dirname "$0")/lib.sh"

start --osts 4
mount_more "$T/m2"
stat_of() { getfattr --absolute-names --only-values -n strake.stats "$T/m" | awk -v name="$1" '$1 == name { print $2 }'; }
through() { echo $(($(stat_of bytes_read) + $(stat_of bytes_written) + $(stat_of bytes_ahead))); }

# cp of a file as it is by default.
head -c 50000007 /dev/urandom >"$T/data"
cp "$T/data" "$T/m/a"
before=$(through) copied=$(stat_of bytes_copied)
cp "$T/m/a" "$T/m/b" || fail "cp"
expect "bytes that came through the mount" "$before" "$(through)"
expect "bytes that the OSTs copied" 50000007 $(($(stat_of bytes_copied) - copied))
cmp "$T/data" "$T/m2/b" || fail "the copy, elsewhere"
cmp "$T/data" "$T/m/b" || fail "the copy, here"
# Over one that has bytes, which another mount has open.
exec 5<"$T/m2/b"
head -c 30000001 /dev/urandom >"$T/data2"
cp "$T/data2" "$T/m/c"
cp "$T/m/c" "$T/m/b" || fail "cp over it"
cmp "$T/data2" "$T/m2/b" || fail "what was copied over, elsewhere"
exec 5<&-
# A small one comes this way: that is faster.
echo small >"$T/m/small"
cp "$T/m/small" "$T/m/small2" && expect "a small one" small "$(cat "$T/m2/small2")"
# Holes.
python3 - "$T/m/sparse" "$T/m/sparse2" <<'PY' || fail "holes"
import os, sys
a, b = (os.open(name, os.O_RDWR | os.O_CREAT) for name in sys.argv[1:])
M = 1 << 20
for at in 1, 9, 30: os.pwrite(a, os.urandom(8192), at * M)
os.ftruncate(a, 64 * M)
at = 0
while at < 64 * M: at += os.copy_file_range(a, b, 64 * M - at, at, at)
os.fsync(b)
assert os.pread(a, 64 * M, 0) == os.pread(b, 64 * M, 0)
assert os.fstat(b).st_blocks <= 3 * 24, os.fstat(b).st_blocks
PY

# Killed in the middle, again and again: nobody notices.
for i in 1 2 3; do
	rm -f "$T/m/copy"
	cp "$T/m/a" "$T/m/copy" &
	copier=$!
	crash oss $((i % 4))
	strake cluster start "$T/c" >/dev/null || fail "start again"
	wait $copier || fail "cp while an OST was killed"
	cmp "$T/data" "$T/m2/copy" || fail "a copy over which an OST was killed"
done

# A source that is written meanwhile, in whole blocks, by another mount; and a target.
python3 - "$T/m" "$T/m2" <<'PY' || fail "blocks are mixed"
import os, sys, threading
mnt, mnt2 = sys.argv[1:]
BLOCK, COUNT = 4096, 4096
def block(n): return bytes([n % 256]) * BLOCK
source, target = (os.open(f"{mnt}/{name}", os.O_RDWR | os.O_CREAT) for name in ("from", "to"))
os.write(source, block(0) * COUNT)
os.fsync(source)
stop = False
def write(name):
    fd, n = os.open(f"{mnt2}/{name}", os.O_RDWR | os.O_DIRECT), 0
    import mmap
    memory = mmap.mmap(-1, BLOCK)
    while not stop:
        n += 1
        memory[:] = block(n)
        os.pwritev(fd, [memory], (n * 7919 % COUNT) * BLOCK)
threads = [threading.Thread(target=write, args=(name,)) for name in ("from", "to")]
for thread in threads: thread.start()
for _ in range(8):
    at = 0
    while at < COUNT * BLOCK: at += os.copy_file_range(source, target, COUNT * BLOCK - at, at, at)
stop = True
for thread in threads: thread.join()
data = os.pread(os.open(f"{mnt2}/to", os.O_RDONLY | os.O_DIRECT) and target, COUNT * BLOCK, 0)
assert len(data) == COUNT * BLOCK
for i in range(COUNT):
    assert len(set(data[i * BLOCK:(i + 1) * BLOCK])) == 1, i
PY
