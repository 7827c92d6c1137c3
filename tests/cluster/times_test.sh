#!/bin/bash
# Which call changes which times, seen by who looks right after it.
. "$(dirname "$0")/lib.sh"

start --osts 2

# What is written and not at the MDS yet, while answers of other calls tell the kernel of the file: none may hide the write's
# mtime for the second that attributes are believed.
python3 - "$T/m" <<'PY' || fail "mtime of what was just written"
import os, sys
os.chdir(sys.argv[1])
os.mkdir("d")
def listing(): list(os.scandir("d"))
calls = {
    "nothing": lambda: None,
    "chown": lambda: os.chown("d/f", 12, -1),
    "chmod": lambda: os.chmod("d/f", 0o640),
    "link": lambda: os.link("d/f", "d/g"),
    "rename": lambda: os.rename("d/f", "d/f"),
    "open to create": lambda: os.close(os.open("d/f", os.O_CREAT | os.O_RDONLY)),
    "setxattr": lambda: os.setxattr("d/f", "user.x", b"y"),
    "list": listing,
}
for name, call in calls.items():
    for sync in (False, True):
        fd = os.open("d/f", os.O_RDWR | os.O_CREAT | os.O_EXCL)
        before = os.fstat(fd).st_mtime_ns
        os.write(fd, b"x" * 9000)
        call()
        if sync: os.fsync(fd)
        after = os.fstat(fd).st_mtime_ns
        assert after > before, f"{name}: mtime is that of before the write"
        assert os.stat("d/f").st_mtime_ns == after, name
        os.close(fd)
        assert os.stat("d/f").st_mtime_ns == after, f"{name}: another mtime after close"
        for n in os.listdir("d"): os.unlink(f"d/{n}")
PY

# Times that there is no room for are the first or the last that there is room for, whole seconds; their neighbours are kept.
python3 - "$T/m" <<'PY' || fail "times at the ends"
import ctypes, os, sys
os.chdir(sys.argv[1])
open("ends", "w").close()
libc = ctypes.CDLL(None, use_errno=True)
FIRST, LAST = -9223372036, 9223372036 # 1677 and 2262: nanoseconds in 64 bits
times = {(2**34 - 1, 5): (LAST, 0), (2**62, 5): (LAST, 0), (LAST, 854775807): (LAST, 0), (LAST - 1, 999999999): (LAST - 1, 999999999),
         (-2**34, 5): (FIRST, 0), (-2**62, 5): (FIRST, 0), (FIRST, 5): (FIRST, 0), (FIRST + 1, 5): (FIRST + 1, 5), (-1, 5): (-1, 5)}
for set_to, wanted in times.items():
    assert libc.utimensat(-100, b"ends", (ctypes.c_long * 4)(*set_to, *set_to), 0) == 0, os.strerror(ctypes.get_errno())
    st = os.stat("ends")
    for got in st.st_atime_ns, st.st_mtime_ns: assert divmod(got, 10**9) == wanted, (set_to, wanted, divmod(got, 10**9))
PY

# While somebody else looks at the same: his answers of before a change, which may arrive behind it, hide no change either.
python3 - "$T/m" $((50 * ${SCALE:-100} / 100 + 10)) <<'PY' || fail "times of what was just changed, while others look at it"
import ctypes, os, signal, sys, time
os.chdir(sys.argv[1])
os.mkdir("e")
libc = ctypes.CDLL(None)
fd, file = os.open("e", os.O_RDONLY), os.open("e/f", os.O_RDWR | os.O_CREAT)
def allocate():
    if libc.fallocate(file, 1, ctypes.c_long(0), ctypes.c_long(4096)): raise OSError("fallocate")
calls = { # what is done, and what it changes
    "mkdir": (lambda: os.mkdir("e/d"), "e"),
    "rmdir": (lambda: os.rmdir("e/d"), "e"),
    "create": (lambda: os.close(os.open("e/g", os.O_CREAT | os.O_EXCL)), "e"),
    "rename": (lambda: os.rename("e/g", "e/h"), "e"),
    "rename of f": (lambda: os.rename("e/f", "e/f2"), "f"),
    "and back": (lambda: os.rename("e/f2", "e/f"), "f"),
    "unlink": (lambda: os.unlink("e/h"), "e"),
    "setxattr": (lambda: os.setxattr("e/f", "user.x", b"y"), "f"),
    "removexattr": (lambda: os.removexattr("e/f", "user.x"), "f"),
    "fallocate": (allocate, "f"),
}
def look():
    parent, room = os.getppid(), ctypes.create_string_buffer(256)
    while os.getppid() == parent:
        for each in fd, file: libc.statx(each, b"", 0x1000 | 0x2000, 0x7ff, room) # AT_EMPTY_PATH, AT_STATX_FORCE_SYNC
lookers = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        try: look()
        finally: os._exit(0)
    lookers.append(pid)
try:
    for n in range(int(sys.argv[2])):
        for name, (call, what) in calls.items():
            before = os.fstat({"e": fd, "f": file}[what]).st_ctime_ns
            call()
            time.sleep(0.001) # for his answers to arrive
            after = os.fstat({"e": fd, "f": file}[what]).st_ctime_ns
            assert after > before, f"{name}: ctime is that of before, in round {n}"
finally:
    for looker in lookers:
        os.kill(looker, signal.SIGKILL)
        os.waitpid(looker, 0)
PY

# ... also those of what is put there.
touch -d 2400-01-01 "$T/far"
strake -m "$MGS" client put -r "$T/far" /put >"$T/out" || fail "client put"
[ "$(stat -c %Y "$T/far")" -lt 9223372036 ] || expect "time of what was put" 9223372036 "$(stat -c %Y "$T/m/put")"

# When it was made (statx's btime): no call changes that, and another mount and a later start say the same.
mount_more "$T/m2"
python3 - "$T/m" <<'PY' || fail "when files were made"
import ctypes, os, struct, sys, time
os.chdir(sys.argv[1])
os.mkdir("b")
os.chdir("b")
libc = ctypes.CDLL(None, use_errno=True)
def born(path):
    room = ctypes.create_string_buffer(256)
    assert libc.statx(-100, path.encode(), 0x100, 0xfff, room) == 0 # AT_SYMLINK_NOFOLLOW
    assert struct.unpack_from("I", room)[0] & 0x800, f"{path}: no btime" # STATX_BTIME
    seconds, ns = struct.unpack_from("qI", room, 80)
    return seconds * 10**9 + ns
before = time.time_ns() - 10**7 # a clock tick and more
makes = {"file": lambda: open("file", "x").close(), "dir": lambda: os.mkdir("dir"), "fifo": lambda: os.mkfifo("fifo"),
         "symlink": lambda: os.symlink("x", "symlink")}
for make in makes.values(): make()
births = {name: born(name) for name in makes}
assert all(before <= birth <= time.time_ns() for birth in births.values()), births
with open("file", "r+") as f:
    f.write("x" * 5000)
    f.truncate(100)
for name in makes:
    os.utime(name, (1, 1), follow_symlinks=False)
    os.chown(name, 12, 12, follow_symlinks=False)
    os.rename(name, name + "2")
    os.rename(name + "2", name)
os.chmod("file", 0o600)
os.link("file", "link")
open("dir/in", "x").close()
assert born("link") == births["file"] and all(born(name) == birth for name, birth in births.items()), "a birth has changed"
PY
births() { (cd "$1/b" && stat -c '%n %.9W' file link dir dir/in fifo symlink); }
births "$T/m" >"$T/births"
grep -q '^file [1-9]' "$T/births" || fail "stat knows no births: $(cat "$T/births")"
births "$T/m2" | diff "$T/births" - || fail "other births through another mount"
strake cluster stop "$T/c" >"$T/out" 2>&1 || fail "stop: $(cat "$T/out")"
strake cluster start "$T/c" --mount "$T/m" >"$T/out" 2>&1 || fail "start: $(cat "$T/out")"
births "$T/m" | diff "$T/births" - || fail "other births after a restart"
