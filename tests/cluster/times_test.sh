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
