#!/bin/bash
# Two mounts with the default options, where names and attributes may be believed for a second: an open finds the file
# that has the name now, its size and its bytes, whatever its kernel remembers of a moment ago.
. "$(dirname "$0")/lib.sh"

start --osts 2
mount_more "$T/m2"

python3 - "$T/m" "$T/m2" "$((2 * ${SCALE:-100}))" <<'PY' || fail "stale"
import os, random, sys
here, there, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(5)

def put(mount, name, content):
    with open(f"{mount}/{name}", "wb") as f: f.write(content)

def look(mount, name):
    """What an open finds. Its kernel has just been reminded of what it knew before."""
    fd = os.open(f"{mount}/{name}", os.O_RDONLY)
    size = os.fstat(fd).st_size
    content = b""
    while piece := os.read(fd, 1 << 20): content += piece
    os.close(fd)
    assert size == len(content), (size, len(content))
    return content

def expect(mount, name, content, what):
    found = look(mount, name)
    assert found == content, f"{what}: {len(found)} bytes {found[:20]}, not {len(content)} {content[:20]}"

def is_gone(mount, name):
    try: os.close(os.open(f"{mount}/{name}", os.O_RDONLY))
    except FileNotFoundError: return True
    return False

for i in range(rounds):
    a, b = (here, there) if i % 2 else (there, here)
    content = b"%d." % i * random.randint(1, 50000)
    name = f"f{i % 7}"

    put(a, name, content)
    expect(b, name, content, "written there")
    os.stat(f"{b}/{name}")
    content = b"%d;" % i * random.randint(1, 50000)
    put(a, name, content)
    expect(b, name, content, "written again there")

    os.truncate(f"{a}/{name}", len(content) // 2)
    expect(b, name, content[:len(content) // 2], "truncated there")

    put(a, "new", b"new" + content)
    os.rename(f"{a}/new", f"{a}/{name}")
    expect(b, name, b"new" + content, "replaced there by rename")
    expect(b, name, b"new" + content, "and once more")

    os.unlink(f"{a}/{name}")
    assert is_gone(b, name), "unlinked there, open here"
    put(a, name, b"again")
    expect(b, name, b"again", "made anew there")

    # A log that is rotated: the old one lives on under another name.
    os.rename(f"{a}/{name}", f"{a}/{name}.old")
    put(a, name, b"next")
    expect(b, name, b"next", "rotated there")
    expect(b, f"{name}.old", b"again", "the old one")
    os.rename(f"{b}/{name}.old", f"{b}/{name}")
    expect(b, name, b"again", "renamed here")

    # No name leads to what a descriptor has; it opens all the same, for reading and to empty it.
    held = os.open(f"{b}/{name}", os.O_RDWR)
    os.rename(f"{a}/{name}", f"{a}/{name}.old")
    os.close(os.open(f"/proc/self/fd/{held}", os.O_RDONLY))
    os.unlink(f"{a}/{name}.old")
    os.close(os.open(f"/proc/self/fd/{held}", os.O_RDWR | os.O_TRUNC))
    assert os.fstat(held).st_size == 0 and os.read(held, 10) == b""
    os.close(held)
PY

# A mapping asks nobody how long the file is: the open before it has seen to that the kernel knows.
python3 - "$T/m" "$T/m2" "$((${SCALE:-100} / 10 + 5))" <<'PY' || fail "a mapping of what has grown there"
import ctypes, os, sys
here, there, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
def last_byte(path, size):
    fd = os.open(path, os.O_RDONLY)
    pid = os.fork()
    if pid == 0: os._exit(ctypes.string_at(libc.mmap(None, size, 1, 1, fd, 0) + size - 1, 1)[0]) # SIGBUS, if it is not there
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
for i in range(rounds):
    a, b = (f"{m}/mapped{i % 3}" for m in ((here, there) if i % 2 else (there, here)))
    for size in 0, 10000, 50000:
        with open(a, "wb") as f: f.write(b"x" * size)
        if size: assert last_byte(b, size) == ord("x"), f"{size} bytes, round {i}"
        os.stat(b)
    os.truncate(a, 90000)
    assert last_byte(b, 90000) == 0, f"truncated, round {i}"
PY

# A name that goes from file to file all the time, by both mounts: an open finds one of them, whole, and never fails.
python3 - "$T/m" "$T/m2" "$((6 * ${SCALE:-100}))" <<'PY' || fail "replaced all the time"
import multiprocessing, os, sys
mounts, rounds = sys.argv[1:3], int(sys.argv[3])
def replace(me, done):
    i = 0
    while not done.is_set():
        mount, i = mounts[me % 2], i + 1
        with open(f"{mount}/r.{me}", "w") as f: f.write("x" * 100)
        os.rename(f"{mount}/r.{me}", f"{mount}/r")
def look(mount):
    for i in range(rounds):
        with open(f"{mount}/r") as f: assert f.read() == "x" * 100, i
with open(f"{mounts[0]}/r", "w") as f: f.write("x" * 100)
done = multiprocessing.Event()
replacers = [multiprocessing.Process(target=replace, args=(me, done)) for me in range(4)]
lookers = [multiprocessing.Process(target=look, args=(m,)) for m in mounts]
for p in replacers + lookers: p.start()
for p in lookers: p.join()
done.set()
for p in replacers: p.join()
assert [p.exitcode for p in replacers + lookers] == [0] * 6
PY


# Written here, and kept until it is on stable storage; overwritten there, and synced. An OST that comes back may have lost
# what was written here, but that is not sent again over what is newer.
old=$(printf 'o%.0s' {1..5000}) new=$(printf 'n%.0s' {1..3000})
for when in "still open" closed; do
	printf %s "$old" >"$T/m/kept"
	exec 5<>"$T/m2/kept"
	printf %s "$new" >&5
	sync "$T/m2/kept" || fail "sync"
	[ "$when" != closed ] || exec 5>&-
	for i in 0 1; do crash oss $i; done
	strake cluster start "$T/c" >"$T/start.out" 2>&1 || { cat "$T/start.out"; fail "restart"; }
	sync "$T/m/kept" 2>/dev/null # EIO: nobody can tell whether all of what was written here is there
	for m in m m2; do
		expect "what was written last, $when there, by $m" "$new" "$(head -c 3000 "$T/$m/kept")"
		expect "the rest, by $m" "${old:3000}" "$(tail -c +3001 "$T/$m/kept")"
	done
	exec 5>&-
done
