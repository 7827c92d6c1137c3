#!/bin/bash
# Bytes: every size and offset that matters, holes, truncates, mmap, direct I/O; read back by a mount that has nothing
# cached.
. "$(dirname "$0")/lib.sh"

start --osts 4
python3 - "$T/m" "$T/want" <<'PY' || fail "writing"
import mmap, os, random, sys, hashlib
mnt, want = sys.argv[1:]
rng = random.Random(4)
K, M = 1024, 1 << 20
sums = {}
def keep(name, data):
    sums[name] = (len(data), hashlib.sha256(data).hexdigest())
def whole(name):
    with open(f"{mnt}/{name}", "rb") as f: return f.read()
# sizes round pages, blocks and stripes
for size in (0, 1, 4095, 4096, 4097, 64 * K, 512 * K - 1, 512 * K, 512 * K + 1, 4 * M - 1, 4 * M, 4 * M + 1, 17 * M + 12345):
    data = rng.randbytes(size)
    with open(f"{mnt}/size{size}", "wb") as f: f.write(data)
    assert whole(f"size{size}") == data
    keep(f"size{size}", data)
# random writes over a model
model = bytearray()
fd = os.open(f"{mnt}/random", os.O_RDWR | os.O_CREAT)
for i in range(600):
    what = rng.random()
    off = rng.randrange(0, 12 * M)
    if what < 0.7:
        data = rng.randbytes(rng.choice((1, 100, 4096, 5000, 70000, 600000)))
        os.pwrite(fd, data, off)
        if len(model) < off: model.extend(bytes(off - len(model)))
        model[off:off + len(data)] = data
    elif what < 0.85:
        n = rng.randrange(1, 300000)
        got = os.pread(fd, n, off)
        assert got == bytes(model[off:off + n]), f"step {i}: read at {off}+{n}"
    else:
        os.ftruncate(fd, off)
        if len(model) > off: del model[off:]
        else: model.extend(bytes(off - len(model)))
    if i % 100 == 50: os.fsync(fd)
os.close(fd)
keep("random", bytes(model))
# holes
with open(f"{mnt}/sparse", "wb") as f:
    f.seek(100 * M); f.write(b"end")
assert os.stat(f"{mnt}/sparse").st_size == 100 * M + 3
assert whole("sparse") == bytes(100 * M) + b"end"
assert os.stat(f"{mnt}/sparse").st_blocks * 512 < 50 * M, os.stat(f"{mnt}/sparse").st_blocks
keep("sparse", bytes(100 * M) + b"end")
# extension after a truncate shows zeros
with open(f"{mnt}/cut", "wb+") as f:
    f.write(b"x" * (5 * M)); f.flush(); f.truncate(1000); f.truncate(6 * M); f.seek(0)
    assert f.read() == b"x" * 1000 + bytes(6 * M - 1000)
keep("cut", b"x" * 1000 + bytes(6 * M - 1000))
# punch
fd = os.open(f"{mnt}/punched", os.O_RDWR | os.O_CREAT)
os.write(fd, b"p" * (9 * M))
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
assert libc.fallocate(fd, 3, 1 * M + 5, 6 * M) == 0, os.strerror(ctypes.get_errno())
expect = b"p" * (M + 5) + bytes(6 * M) + b"p" * (2 * M - 5)
os.lseek(fd, 0, 0)
assert whole("punched") == expect
data, hole = os.lseek(fd, 2 * M, os.SEEK_DATA), os.lseek(fd, 0, os.SEEK_HOLE)
assert data <= 7 * M + 5 and data > 6 * M, data
assert hole >= M + 5 and hole < 2 * M + 4096, hole
os.close(fd)
keep("punched", expect)
# mmap
fd = os.open(f"{mnt}/mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 3 * M)
m = mmap.mmap(fd, 3 * M)
m[M:M + 11] = b"hello world"
m.flush(); m.close(); os.close(fd)
keep("mapped", bytes(M) + b"hello world" + bytes(2 * M - 11))
# direct I/O
buf = mmap.mmap(-1, 2 * M); buf[:] = rng.randbytes(2 * M)
fd = os.open(f"{mnt}/direct", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
os.pwritev(fd, [buf], 0); os.pwritev(fd, [memoryview(buf)[:4096]], 7 * M)
back = mmap.mmap(-1, 2 * M)
assert os.preadv(fd, [back], 0) == 2 * M and back[:] == buf[:]
os.close(fd)
keep("direct", buf[:] + bytes(5 * M) + buf[:4096])
# append
for i in range(200):
    with open(f"{mnt}/log", "ab") as f: f.write(b"line %d\n" % i)
keep("log", b"".join(b"line %d\n" % i for i in range(200)))
with open(want, "w") as f:
    for name, (size, digest) in sums.items(): print(size, digest, name, file=f)
PY

check() {
	while read -r size digest name; do
		expect "size of $name" "$size" "$(stat -c %s "$1/$name")"
		expect "sum of $name" "$digest" "$(sha256sum <"$1/$name" | cut -d' ' -f1)"
	done <"$T/want"
}
mount_more "$T/m2"
check "$T/m2"
strake umount "$T/m2" || fail "umount"

strake cluster stop "$T/c" >/dev/null || fail "stop"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start"
check "$T/m"

# A file's bytes come from all OSTs.
for i in 0 1 2 3; do
	[ "$(find "$T/c/ost$i/objects" -type f -size +1M | wc -l)" -gt 0 ] || fail "OST $i has no part of the large file"
done

# What is removed goes from the OSTs.
rm -rf "$T/m"/*
objects() { find "$T"/c/ost?/objects -type f | wc -l; }
gone() { [ "$(objects)" = 0 ]; }
await "all objects destroyed" gone
