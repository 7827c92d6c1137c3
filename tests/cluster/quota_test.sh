#!/bin/bash
# An OST whose disk gives it no more than a quota, whatever statfs says there: who writes past it is told EDQUOT, by fsync or
# close at the latest, and nothing is torn: each block has all of its bytes or none, what was promised and what was there stays.
. "$(dirname "$0")/lib.sh"

# The OST's data on lossyfs, which has quotas wherever it runs.
start --osts 1
strake cluster stop "$T/c" >/dev/null || fail "stop"
mkdir "$T/disk"
lossyfs "$T/disk" "$T/disk.socket" >"$T/lossyfs.log" 2>&1 || fail "lossyfs"
at_exit() { umount "$T/disk"; }
cp -r --sparse=always "$T/c/ost0" "$T/disk/ost0" && rm -r "$T/c/ost0" && ln -s "$T/disk/ost0" "$T/c/ost0" || fail "a disk with a quota"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start on lossyfs"
mount_more "$T/n"
quota() { lossyfs ask "$T/disk.socket" quota "$@" >"$T/quota" || fail "quota $*"; }

cat >"$T/writers.py" <<'PY'
import contextlib, errno, mmap, os, sys
here, there, step = sys.argv[1:]
BLOCK, MANY = 4096, 6000 # 24 MB: no quota is as much
def block(n): return b"%07d\n" % n * (BLOCK // 8)

@contextlib.contextmanager
def told(what, path, flags=0):
    """Something in there fails, and it is EDQUOT; or else close does."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
    error = None
    try: yield fd
    except OSError as e: error = e
    try: os.close(fd)
    except OSError as e: error = error or e
    assert error, f"{what}: nobody is told of the quota"
    assert error.errno == errno.EDQUOT, f"{what}: {error}"

def whole(name, wanted=0):
    """Every block of it, here and elsewhere, is as it was written or nothing; the first `wanted` are there."""
    for path in f"{here}/{name}", f"{there}/{name}":
        with open(path, "rb") as file: content = file.read()
        for at in range(0, len(content), BLOCK):
            n, got = at // BLOCK, content[at:at + BLOCK]
            assert got == block(n)[:len(got)] or n >= wanted and got == bytes(len(got)), f"{path}: block {n} is torn or lost"
        assert len(content) >= wanted * BLOCK, f"{path}: {len(content)} bytes, {wanted} blocks were promised"

def fill(fd):
    for n in range(0, MANY, 16): os.write(fd, b"".join(block(n + i) for i in range(16)))

def case_fsync():
    with told("write and fsync", f"{here}/fsync") as fd:
        fill(fd)
        os.fsync(fd)
        raise AssertionError("fsync did not tell of the quota")
    whole("fsync")

def case_close():
    with told("write and close", f"{here}/close") as fd: fill(fd)
    whole("close")

def case_mapped():
    with told("mapped pages", f"{here}/mapped") as fd:
        os.ftruncate(fd, MANY * BLOCK)
        with mmap.mmap(fd, MANY * BLOCK) as pages:
            for n in range(MANY): pages[n * BLOCK:(n + 1) * BLOCK] = block(n)
            pages.flush()
        raise AssertionError("msync did not tell of the quota")
    whole("mapped")

def case_direct():
    wanted = 0
    with told("direct and at once", f"{here}/direct", os.O_DIRECT | os.O_SYNC) as fd:
        buffer = mmap.mmap(-1, 16 * BLOCK)
        for n in range(0, MANY, 16):
            buffer[:] = b"".join(block(n + i) for i in range(16))
            os.write(fd, buffer)
            wanted = n + 16
    whole("direct", wanted)

def case_records():
    """What fdatasync has promised before stays."""
    wanted = 0
    with told("records", f"{here}/records", os.O_APPEND) as fd:
        for n in range(MANY):
            os.write(fd, block(n))
            if n % 200 == 199:
                os.fdatasync(fd)
                wanted = n + 1
    whole("records", wanted)

def case_allocated():
    with told("allocation", f"{here}/allocated") as fd:
        os.pwrite(fd, block(0), 0)
        os.fsync(fd)
        os.posix_fallocate(fd, 0, MANY * BLOCK)
    whole("allocated", 1)
    assert os.stat(f"{there}/allocated").st_size == BLOCK, "what was refused has changed the size"

def case_in_place():
    """What is there can be written over."""
    fd = os.open(f"{here}/before", os.O_RDWR)
    for n in range(256): os.pwrite(fd, block(n), n * BLOCK)
    os.fsync(fd)
    os.close(fd)

def case_before():
    with open(f"{here}/before", "wb") as file:
        for n in range(256): file.write(block(n))
        file.flush()
        os.fsync(file.fileno())

def case_stays(): whole("before", 256)

def case_again():
    """Without a quota all of it works."""
    for name in "fsync", "mapped":
        fd = os.open(f"{here}/{name}", os.O_RDWR)
        fill(fd)
        os.fsync(fd)
        os.close(fd)
        whole(name, MANY)

globals()[f"case_{step}"]()
PY
writers() { timeout 120 python3 "$T/writers.py" "$T/m" "$T/n" "$1" || fail "$1"; }

writers before
for case in fsync close mapped direct records allocated in_place; do
	quota $((4 << 20))
	writers $case
	writers stays
done
# Killed, it finds no more room when it starts.
crash oss 0
strake cluster start "$T/c" >/dev/null || fail "restart"
writers stays
writers in_place
quota
writers again
