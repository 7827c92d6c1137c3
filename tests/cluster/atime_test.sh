#!/bin/bash
# Times of access: what changes them and what does not, by the mount's option, also after a remount; that nobody's setting
# is covered; that the servers hear of it, later and without a request for each.
. "$(dirname "$0")/lib.sh"

start --osts 2
mount_more "$T/m2"
mount_more "$T/other" -o noatime
mkdir "$T/m/dir"

cat >"$T/lib.py" <<'PY'
import os, subprocess, sys, time
def atime(path): return os.lstat(path).st_atime_ns
def write(path, text=b"some text"):
    with open(path, "wb") as f: f.write(text)
def read(path, flags=0):
    fd = os.open(path, os.O_RDONLY | flags)
    try: return os.read(fd, 100)
    finally: os.close(fd)
def changes(path, function, *args):
    before, old = os.lstat(path), atime(path)
    function(*args)
    after = os.lstat(path)
    assert (before.st_mtime_ns, before.st_ctime_ns) == (after.st_mtime_ns, after.st_ctime_ns), path
    assert after.st_atime_ns >= old, path
    return after.st_atime_ns > old
def drop():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as f: f.write("3")
def await_that(what, condition):
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.1)
PY

PYTHONPATH=$T python3 - "$T/m" "$T/m2" <<'PY' || fail "relatime"
from lib import *
here, there = sys.argv[1:]
os.chdir(here)
# A file, by pages that the kernel has from the writing, and by such that it has not.
for dropped in False, True:
    write("f")
    if dropped: drop()
    assert changes("f", read, "f"), f"read once, dropped {dropped}"
    assert atime("f") > os.stat("f").st_mtime_ns
    assert not changes("f", read, "f"), "read twice"
    if dropped: drop()
    assert not changes("f", read, "f"), "read three times"
    os.chmod("f", 0o600 + dropped)
    assert changes("f", read, "f"), "read after a chmod"
    os.utime("f", ns=(time.time_ns() - 86400 * 10**9 * 2, 5))
    with open("f", "ab") as f: f.write(b"more")
    assert changes("f", read, "f"), "read after more was written"
# Not by others: who says so, who writes, who asks.
write("g")
drop()
assert not changes("g", read, "g", os.O_NOATIME)
subprocess.run(["chattr", "+A", "g"], check=True)
assert not changes("g", read, "g"), "chattr +A"
subprocess.run(["chattr", "-A", "g"], check=True)
assert not changes("g", os.stat, "g")
fd = os.open("g", os.O_WRONLY)
old = atime("g")
os.pwrite(fd, b"x", 0)
os.close(fd)
assert atime("g") == old
# Directories and symlinks.
assert changes("dir", os.listdir, "dir") and not changes("dir", os.listdir, "dir")
write("dir/x")
assert changes("dir", os.listdir, "dir")
os.symlink("dir/x", "link")
assert changes("link", os.readlink, "link") and not changes("link", os.readlink, "link")
# Whoever sets it is right, here and there, whatever was read before.
write("h")
read("h")
os.utime("h", ns=(1000, 2000))
assert (os.stat("h").st_atime_ns, os.stat("h").st_mtime_ns) == (1000, 2000)
write("i")
read("i")
os.utime(f"{there}/i", ns=(1000, 2000))
os.sync()
assert atime("h") == 1000 == atime(f"{there}/h")
await_that("set elsewhere", lambda: atime("i") == 1000)
# fsync tells it.
write("j")
read("j")
with open("j", "rb") as f: os.fsync(f.fileno())
assert atime(f"{there}/j") == atime("j") > os.stat("j").st_mtime_ns
# The servers hear of it by themselves.
names = [f"n{i}" for i in range(min(3000, 1100 + 19 * int(os.environ.get("SCALE", 100))))] # more than a request tells
for name in names: write(name)
for name in names: assert changes(name, read, name), name
for name in names[::100]: await_that("told", lambda: atime(f"{there}/{name}") == atime(name))
PY

# No request for a read: the MDS is silent meanwhile.
mds=$(field "$T/c" mds 0 pid)
head -c 4000000 /dev/urandom >"$T/m/large"
sync "$T/m/large"
PYTHONPATH=$T python3 - "$T/m/large" "$mds" <<'PY' || fail "reads without the MDS"
from lib import *
import mmap, signal
fd = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECT)
page = mmap.mmap(-1, 4096)
os.kill(int(sys.argv[2]), signal.SIGSTOP)
try:
    for i in range(900): os.preadv(fd, [page], i * 4096)
finally: os.kill(int(sys.argv[2]), signal.SIGCONT)
assert os.fstat(fd).st_atime_ns > os.fstat(fd).st_mtime_ns
PY

# It outlives the mount, and the MDS.
echo text >"$T/m/kept"
cat "$T/m/kept" >/dev/null
crash mds 0
strake cluster start "$T/c" >/dev/null || fail "restart"
kept=$(stat -c %.9X "$T/m/kept")
strake umount "$T/m" || fail "umount"
mount_more "$T/m"
expect "after a remount" "$kept" "$(stat -c %.9X "$T/m/kept")"
[[ $kept > $(stat -c %.9Y "$T/m/kept") ]] || fail "atime after a restart of the MDS: $kept"

# Other options, and a remount with others.
option() { awk -v m="$T/other" '$2 == m { print $4 }' /proc/mounts | tr , '\n' | grep -x "$1"; }
case_of() { # NAME: which change the time of access: two reads of a new file, two listings of a new directory
	PYTHONPATH=$T python3 - "$T/other" "$1" <<'PY'
from lib import *
os.chdir(sys.argv[1])
write(f"f-{sys.argv[2]}")
os.makedirs(f"d-{sys.argv[2]}")
def twice(path, function): return [int(changes(path, function, path)) for _ in range(2)]
print(*twice(f"f-{sys.argv[2]}", read), *twice(f"d-{sys.argv[2]}", os.listdir))
PY
}
remount() {
	mount.strake "$MGS:/" "$T/other" -o "remount,$1" || fail "remount,$1"
	follows() { [ "$(case_of "$1-$RANDOM")" = "$2" ]; }
	PATIENCE=10 await "the daemon to follow remount,$1: $2" follows "$1" "$2"
}
expect "noatime" "0 0 0 0" "$(case_of noatime)"
remount strictatime "1 1 1 1"
remount nodiratime,relatime "1 0 0 0"
remount relatime "1 0 1 0"
remount noatime "0 0 0 0"
option noatime >/dev/null || fail "the kernel does not show noatime"
for option in strictatime:"1 1 1 1" nodiratime:"1 0 0 0" relatime:"1 0 1 0" defaults:"1 0 1 0"; do
	strake umount "$T/other" || fail "umount"
	mount_more "$T/other" -o "${option%%:*}"
	expect "${option%%:*}" "${option#*:}" "$(case_of "mounted-$RANDOM")"
done
