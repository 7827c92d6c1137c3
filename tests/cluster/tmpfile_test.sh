#!/bin/bash
# Files without a name (O_TMPFILE): written, given a name or not, under an MDS that is killed again and again. What was
# given a name is there whole, and of the others nothing stays. (Of one whose mount dies: fence_test.)
. "$(dirname "$0")/lib.sh"

start --osts 2
mount_more "$T/m2"
mkdir -m 777 "$T/m/dir"
mkdir -m 2775 "$T/m/group"
chown 0:77 "$T/m/group"

# What it is, and who may name it.
cat >"$T/cases" <<'PY'
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW = -100, 0x1000, 0x400
def linkat(fd, path, empty=True):
    done = libc.linkat(fd, b"", AT_FDCWD, path.encode(), AT_EMPTY_PATH) if empty else \
        libc.linkat(AT_FDCWD, b"/proc/self/fd/%d" % fd, AT_FDCWD, path.encode(), AT_SYMLINK_FOLLOW)
    return 0 if done == 0 else ctypes.get_errno()
def make(dir, flags=os.O_RDWR, mode=0o666): return os.open(dir, os.O_TMPFILE | flags, mode)
os.umask(0o027)
here, there = sys.argv[1:]
os.chdir(here)
for empty in True, False:
    name = f"dir/named-{empty}"
    fd = make("dir")
    st = os.fstat(fd)
    assert (st.st_nlink, st.st_mode, st.st_size) == (0, 0o100640, 0), st
    assert os.listdir("dir") == [] and os.stat("dir").st_nlink == 2
    os.write(fd, b"bytes of it")
    os.setxattr(fd, "user.note", b"kept")
    os.fchmod(fd, 0o604)
    assert os.fstat(fd).st_size == 11 and os.pread(fd, 100, 0) == b"bytes of it"
    assert linkat(fd, name, empty) == 0
    assert linkat(fd, name, empty) == errno.EEXIST
    assert linkat(fd, "dir/second", empty) == 0
    after = os.stat(name)
    assert (after.st_ino, after.st_nlink, after.st_mode) == (st.st_ino, 2, 0o100604), after
    assert os.getxattr(name, "user.note") == b"kept"
    os.close(fd)
    with open(f"{there}/{name}", "rb") as f: assert f.read() == b"bytes of it"
    os.unlink(name)
    fd = os.open("dir/second", os.O_RDWR)
    os.unlink("dir/second")
    assert linkat(fd, name, empty) == errno.ENOENT # it has had its names
    os.close(fd)
    fd = make("dir", os.O_RDWR | os.O_EXCL)
    assert os.write(fd, b"x") == 1 and linkat(fd, name, empty) == errno.ENOENT
    os.close(fd)
# A link tells nobody an old size, of what has been written and not been told yet.
for fd in make("dir"), os.open("dir/plain", os.O_CREAT | os.O_RDWR):
    os.write(fd, b"written")
    os.link(f"/proc/self/fd/{fd}", "dir/other", src_dir_fd=fd)
    assert os.pread(fd, 100, 0) == b"written" and os.stat("dir/other").st_size == 7
    os.close(fd)
    os.unlink("dir/other")
os.unlink("dir/plain")
fd = make("group")
assert os.fstat(fd).st_gid == 77
os.close(fd)
# Many at once, of one directory, each with bytes of its own; a sparse one; one that is only to be written.
fds = [make("dir") for _ in range(200)]
for i, fd in enumerate(fds): os.pwrite(fd, b"%d" % i * 1000, i)
for i, fd in enumerate(fds): assert os.pread(fd, 1 << 16, i) == b"%d" % i * 1000
assert len({os.fstat(fd).st_ino for fd in fds}) == 200 and os.listdir("dir") == []
for fd in fds: os.close(fd)
fd = make("dir", os.O_WRONLY)
os.ftruncate(fd, 1 << 30)
assert os.fstat(fd).st_size == 1 << 30
os.close(fd)
try:
    os.open("dir", os.O_TMPFILE | os.O_RDONLY)
    raise SystemExit("to be read only")
except OSError as error: assert error.errno == errno.EINVAL
os.setresuid(4711, 4711, 4711)
try:
    make("group")
    raise SystemExit("where nobody may write")
except OSError as error: assert error.errno == errno.EACCES
os.close(make("dir"))
PY
(cd / && python3 "$T/cases" "$T/m" "$T/m2") || fail "files without names"

# An MDS that is killed: what is open stays open, and nothing is made twice.
cat >"$T/work" <<'PY'
import os, sys
dir, who, enough = sys.argv[1], int(sys.argv[2]), sys.argv[3]
kept = []
n = 0
while not os.path.exists(enough):
    fd = os.open(dir, os.O_TMPFILE | os.O_RDWR)
    want = b"%d %d " % (who, n) * 3000
    os.write(fd, want[:20000])
    if n % 2: os.fsync(fd)
    os.pwrite(fd, want[20000:], 20000)
    if n % 3 == 0: os.link(f"/proc/self/fd/{fd}", f"{dir}/{who}-{n}", src_dir_fd=fd)
    assert os.fstat(fd).st_nlink == (n % 3 == 0), f"links of {who}-{n}"
    kept.append((fd, want))
    if len(kept) > 20 or n % 7 == 0:
        fd, want = kept.pop(0)
        assert os.pread(fd, 100000, 0) == want, f"bytes of {who}-{n}"
        os.close(fd)
    n += 1
for fd, want in kept: assert os.pread(fd, 100000, 0) == want
print(who, n)
PY
workers=
for who in 1 2 3; do
	mount=$T/m
	[ $who = 3 ] && mount=$T/m2
	python3 "$T/work" "$mount/dir" $who "$T/enough" >>"$T/worked" &
	workers="$workers $!"
done
PIDS="$PIDS $workers"
many() { [ "$(find "$T/m/dir" -name '[12]-*' | wc -l)" -gt "$before" ]; }
for _ in $(seq $((5 * ${TIMES:-1}))); do
	before=$(($(find "$T/m/dir" -name '[12]-*' | wc -l) + 10))
	await "files are made" many
	crash mds 0
	strake cluster start "$T/c" >/dev/null || fail "restart"
done
touch "$T/enough"
for worker in $workers; do wait "$worker" || fail "files without names under an MDS that is killed"; done
while read -r who n; do
	expect "files that $who has named" "$(((n + 2) / 3))" "$(find "$T/m/dir" -name "$who-*" | wc -l)"
done <"$T/worked"
python3 - "$T/m2/dir" <<'PY' || fail "what was given a name"
import os, sys
for name in os.listdir(sys.argv[1]):
    with open(f"{sys.argv[1]}/{name}", "rb") as f: assert f.read() == (name.replace("-", " ") + " ").encode() * 3000, name
PY
named=$(find "$T/m/dir" -type f -printf '%i\n' | sort -u | wc -l)
left() { [ "$(find "$T"/c/ost?/objects -type f | sed 's|.*/||; s/[.].*//' | sort -u | wc -l)" = "$named" ]; }
await "all that has no name is gone" left
