"""
Names at their limits, and directories as those see them who have them open while others move, fill, empty and remove them:

    names.py HERE THERE RESTART CROWD

HERE and THERE are one empty directory of a filesystem by two mounts; RESTART is a command that restarts its MDS; a directory
of CROWD entries is listed. Each case is a function. Ends with exit status 1 and what was wrong at the first thing that is.
Standard library only.
"""
import collections, contextlib, ctypes, errno, os, random, resource, signal, stat, subprocess, sys, time

libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.fdopendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.readdir.argtypes = libc.closedir.argtypes = libc.rewinddir.argtypes = libc.telldir.argtypes = (ctypes.c_void_p,)
libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = ctypes.c_void_p, ctypes.c_long
EXCHANGE = 2

class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_uint16), ("type", ctypes.c_uint8),
                ("name", ctypes.c_char * 256)]

class Dir:
    """A directory stream of libc's."""
    def __init__(self, path):
        self.stream = libc.opendir(os.fsencode(path))
        assert self.stream, os.strerror(ctypes.get_errno())
    def __enter__(self): return self
    def __exit__(self, *_): libc.closedir(self.stream)
    def tell(self): return libc.telldir(self.stream)
    def seek(self, at): libc.seekdir(self.stream, at)
    def rewind(self): libc.rewinddir(self.stream)
    def read(self):
        """(name, ino, type) of the next one; None at the end."""
        ctypes.set_errno(0)
        entry = libc.readdir(self.stream)
        assert entry or ctypes.get_errno() == 0, os.strerror(ctypes.get_errno())
        if not entry: return None
        entry = Dirent.from_address(entry)
        return entry.name, entry.ino, entry.type
    def all(self): return list(iter(self.read, None))

def expect(what, wanted, got): assert wanted == got, f"{what}: wanted {wanted!r:.300}, got {got!r:.300}"

def fails(error, function, *args, **more):
    try: function(*args, **more)
    except OSError as e: assert e.errno == error, f"{function.__name__}: {e}"
    else: raise AssertionError(f"{function.__name__} of {str(args):.100} works")

def touch(path, **more): os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644, **more))

@contextlib.contextmanager
def opened(path, flags=os.O_RDONLY | os.O_DIRECTORY):
    fd = os.open(path, flags)
    try: yield fd
    finally: os.close(fd)

def exchange(a, b):
    assert libc.renameat2(-100, os.fsencode(a), -100, os.fsencode(b), EXCHANGE) == 0, os.strerror(ctypes.get_errno())

# --- directories that were removed --------------------------------------------------------------------------------------

def is_gone(fd, ino, links=0):
    """What whoever has it open sees of a directory that was removed: itself, and nothing in it."""
    st = os.fstat(fd)
    expect("itself", (ino, links, True), (st.st_ino, st.st_nlink, stat.S_ISDIR(st.st_mode)))
    with contextlib.suppress(FileNotFoundError): expect("what is in it", [], os.listdir(fd)) # ENOENT, on Linux

def removed_and_open(here, there, restart):
    for how in "rmdir", "rename", "elsewhere", "renamed elsewhere":
        os.mkdir("d")
        ino = os.stat("d").st_ino
        with opened("d") as fd:
            if how == "rmdir": os.rmdir("d")
            if how == "rename":
                os.mkdir("e")
                os.rename("e", "d")
            if how == "elsewhere": os.rmdir(f"{there}/d")
            if how == "renamed elsewhere":
                os.mkdir(f"{there}/e")
                os.rename(f"{there}/e", f"{there}/d")
            if "elsewhere" in how: time.sleep(1.1) # what a name and attributes are believed
            is_gone(fd, ino)
            if "elsewhere" not in how:
                fails(errno.ENOENT, touch, "new", dir_fd=fd)
                fails(errno.ENOENT, os.mkdir, "new", dir_fd=fd)
                fails(errno.ENOENT, os.stat, "new", dir_fd=fd)
            # It is its owner's still.
            os.fchmod(fd, 0o701)
            os.fchown(fd, 11, 22)
            os.utime(fd, ns=(1000, 2000))
            st = os.fstat(fd)
            expect("its attributes", (0o40701, 11, 22, 1000, 2000),
                   (st.st_mode, st.st_uid, st.st_gid, st.st_atime_ns, st.st_mtime_ns))
            os.fsync(fd)
            fails(errno.ENODATA, os.getxattr, fd, "user.none")
            with contextlib.suppress(FileExistsError): os.mkdir("d")
            assert os.stat("d").st_ino != ino
            is_gone(fd, ino)
            subprocess.run(restart, shell=True, check=True, cwd="/")
            is_gone(fd, ino)
            expect("its mode after a restart", 0o40701, os.fstat(fd).st_mode)
        os.rmdir("d")

def held_by_path(here, there, restart):
    """What the kernel opens by itself, without a word to us, or holds by its path."""
    makes = {
        "fifo": (os.mkfifo, os.O_RDWR | os.O_NONBLOCK),
        "device": (lambda name: os.mknod(name, 0o600 | stat.S_IFCHR, os.makedev(1, 3)), os.O_RDWR),
        "socket": (lambda name: os.mknod(name, 0o600 | stat.S_IFSOCK), os.O_PATH),
        "symlink": (lambda name: os.symlink("to", name), os.O_PATH | os.O_NOFOLLOW),
        "file": (touch, os.O_PATH),
    }
    with contextlib.ExitStack() as stack:
        held = {}
        for kind, (make, flags) in makes.items():
            make(kind)
            held[kind] = stack.enter_context(opened(kind, flags)), os.lstat(kind)
            os.unlink(kind)
        time.sleep(1.1) # what attributes are believed
        for kind, (fd, st) in held.items():
            now = os.fstat(fd)
            expect(kind, (st.st_ino, st.st_mode, 0), (now.st_ino, now.st_mode, now.st_nlink))
        for kind in "fifo", "device":
            fd = held[kind][0]
            expect(f"xattrs of a {kind}", [], os.listxattr(fd))
            os.fchmod(fd, 0o6775)
            os.fchown(fd, 11, 22)
            now = os.fstat(fd)
            expect(f"a {kind} with another owner", (0o775, 11, 22), (stat.S_IMODE(now.st_mode), now.st_uid, now.st_gid))

def stood_in(here, there, restart):
    """A working directory that is removed."""
    os.makedirs("a/b")
    os.chdir("a/b")
    ino = os.stat(".").st_ino
    os.rmdir("../b")
    expect("where one stands", (ino, 0), (os.stat(".").st_ino, os.stat(".").st_nlink))
    fails(errno.ENOENT, os.getcwd)
    fails(errno.ENOENT, touch, "x")
    expect("above", os.stat(f"{here}/a").st_ino, os.stat("..").st_ino)
    os.chdir(here)
    os.rmdir("a")

# --- moves, and what is above -------------------------------------------------------------------------------------------

def above(here, there, restart):
    """".." is where it is now, by path and in the listing."""
    for by in here, there:
        os.makedirs("a/b/c")
        os.makedirs("x/y")
        os.chdir("a/b/c")
        top = os.stat(here).st_ino
        os.rename(f"{by}/a/b", f"{by}/x/y/b")
        if by == here:
            expect("above", os.stat(f"{here}/x/y/b").st_ino, os.stat("..").st_ino)
            expect("two above", os.stat(f"{here}/x/y").st_ino, os.stat("../..").st_ino)
            expect("where one is", f"{here}/x/y/b/c", os.getcwd())
        os.rename(f"{by}/x/y/b/c", f"{by}/c")
        with Dir(f"{here}/c") as listing:
            expect("in the listing", {(b".", os.stat(f"{here}/c").st_ino, 4), (b"..", top, 4)}, set(listing.all()))
        if by == here: expect("above", top, os.stat("..").st_ino)
        os.chdir(here)
        subprocess.run(["rm", "-r", "a", "x", "c"], check=True)

def links(here, there, restart):
    """A directory has a link by its name, one by its ".", and one by each directory in it."""
    rng = random.Random(7)
    names = [f"{n}" for n in range(6)]
    for step in range(400):
        a, b = (os.path.join(*rng.choices(names, k=rng.randint(1, 3))) for _ in range(2))
        base = rng.choice((here, there))
        with contextlib.suppress(OSError):
            what = rng.randrange(6)
            if what < 2: os.mkdir(f"{base}/{a}")
            elif what == 2: touch(f"{base}/{a}")
            elif what == 3: os.rmdir(f"{base}/{a}")
            elif what == 4: os.rename(f"{base}/{a}", f"{base}/{b}")
            elif os.path.exists(f"{base}/{a}") and os.path.exists(f"{base}/{b}"):
                libc.renameat2(-100, os.fsencode(f"{base}/{a}"), -100, os.fsencode(f"{base}/{b}"), EXCHANGE)
        if step % 40 == 39:
            time.sleep(1.1) # what the other mount has done is seen
            for path, dirs, _ in os.walk(here):
                expect(f"links of {path}, step {step}", 2 + len(dirs), os.stat(path).st_nlink)
    for name in os.listdir(here): subprocess.run(["rm", "-r", name], check=True)

# --- listings -----------------------------------------------------------------------------------------------------------

def positions(here, there, restart):
    """A position that telldir() has told leads to the same entry as long as that is there, whatever comes and goes."""
    os.mkdir("many")
    for i in range(2000): touch(f"many/stays-{i}")
    rng = random.Random(5)
    with Dir("many") as listing:
        told = []
        while True:
            at, entry = listing.tell(), listing.read()
            if entry is None: break
            told.append((at, entry[0]))
        expect("entries", 2002, len({name for _, name in told}))
        for round in range(3):
            for i in range(300):
                touch(f"{rng.choice((here, there))}/many/new-{round}-{i}")
                if i % 3 == 0: os.unlink(f"{rng.choice((here, there))}/many/stays-{round * 300 + i}")
            if round == 1: subprocess.run(restart, shell=True, check=True, cwd="/")
            left = set(os.listdir(f"{there}/many")) | {".", ".."}
            for at, name in rng.sample(told, 200):
                if name.decode() in left:
                    listing.seek(at)
                    # What is new may stand before it.
                    following = next(entry[0] for entry in iter(listing.read, None) if entry[0][:4] != b"new-")
                    expect(f"at position {at}, round {round}", name, following)
            listing.rewind()
            expect("from the start", left, {name.decode() for name, _, _ in listing.all()})
            listing.seek(told[1000][0])
            listing.rewind()
            expect("the first", b".", listing.read()[0])
    subprocess.run(["rm", "-r", "many"], check=True)

def comes_and_goes(bases, part):
    """Makes and removes names of its own, the same again and again, until SIGTERM."""
    rng = random.Random(part)
    there, ended = set(), []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(True)) # the call that it is in is done first
    while not ended:
        name = f"crowd/comes-{part}-{rng.randrange(1000)}"
        path = os.path.join(rng.choice(bases), name)
        if name not in there: touch(path)
        elif rng.randrange(4): os.unlink(path)
        else:
            # A listing may have shown a moment ago what is no longer so: then both are the same to the kernel.
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, path + "-moved")
                os.rename(path + "-moved", path)
            continue
        there ^= {name}

def listed(path, rng):
    """All names of a directory, with steps back to positions that telldir() has told."""
    seen, told = [], []
    with Dir(path) as listing:
        while True:
            if not rng.randrange(1000): told.append((listing.tell(), len(seen)))
            if told and not rng.randrange(3000):
                del told[rng.randrange(max(0, len(told) - 8), len(told)) + 1:] # what is behind it is told anew
                at, before = told[-1]
                listing.seek(at)
                del seen[before:]
            entry = listing.read()
            if entry is None: return seen
            seen.append(entry[0])

def crowd(here, there, restart):
    """Whoever lists a large directory is told each name once that is there all the time, and none twice."""
    count = int(sys.argv[4])
    stays = {b"stays-%d" % i for i in range(count)}
    os.mkdir("crowd")
    for name in stays: touch(b"crowd/" + name)
    churn = []
    for part in range(2):
        churn.append(os.fork())
        if churn[-1] == 0:
            try: comes_and_goes((here, there), part)
            except BaseException as error: os._exit(print(f"names: what comes and goes: {error!r}", file=sys.stderr, flush=True) or 1)
            os._exit(0)
    try: lists_the_crowd((here, there), stays, restart)
    finally:
        for pid in churn: os.kill(pid, signal.SIGTERM)
        expect("who comes and goes was at work until the end", [0, 0], [os.waitpid(pid, 0)[1] for pid in churn])
    subprocess.run(["rm", "-r", "crowd"], check=True)

def lists_the_crowd(bases, stays, restart):
    rng = random.Random(3)
    for round in range(4):
        restarting = subprocess.Popen(restart, shell=True, cwd="/") if round == 2 else None
        names = collections.Counter(listed(f"{bases[round % 2]}/crowd", rng))
        expect(f"told twice, round {round}", [], [name for name, times in names.items() if times > 1])
        expect(f"missing, round {round}", set(), (stays | {b".", b".."}) - set(names))
        expect(f"nobody's, round {round}", [], [name for name in set(names) - stays if name.strip(b".") and name[:6] != b"comes-"])
        if restarting: expect("the restart", 0, restarting.wait())

def numbers(here, there, restart):
    """What a listing says of an entry is what stat says."""
    os.mkdir("sub")
    touch("file")
    os.link("file", "hard")
    os.symlink("file", "link")
    os.mkfifo("fifo")
    os.mknod("device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod("block", 0o600 | stat.S_IFBLK, os.makedev(7, 3))
    os.mknod("socket", 0o600 | stat.S_IFSOCK)
    for top in here, there:
        for again in range(2):
            with Dir(top) as listing:
                entries = listing.all()
            expect("names", sorted([b".", b".."] + [os.fsencode(name) for name in os.listdir(top)]),
                   sorted(name for name, _, _ in entries))
            for name, ino, kind in entries:
                st = os.lstat(os.path.join(os.fsencode(top), name))
                expect(f"{name} in {top}", (st.st_ino, stat.S_IFMT(st.st_mode) >> 12), (ino, kind))
    for name in os.listdir(here): subprocess.run(["rm", "-r", name], check=True)

# --- limits -------------------------------------------------------------------------------------------------------------

def bytes_of_names(here, there, restart):
    """255 bytes of anything but NUL and the slash."""
    usable = bytes(b for b in range(1, 256) if b != 47)
    names = {bytes([b]) for b in usable if b != 46} | {usable + b"x", b"\xff" * 255, b"." * 255, b"\n" * 255, b" ", b"...",
                                                       "\u00e9".encode(), "e\u0301".encode(), b"A", b"a"}
    for i, name in enumerate(sorted(names)):
        if i % 3 == 0: os.mkdir(name)
        elif i % 3 == 1: touch(name)
        else: os.symlink(b"x" + name, name)
    for top in here, there:
        expect("names", names, set(os.listdir(os.fsencode(top))))
        for name in names: os.lstat(os.fsencode(top) + b"/" + name)
    for name in names: os.rename(name, name[:-1] + b"~" if name[:-1] not in (b"", b".") and name[:-1] + b"~" not in names else name)
    for name in os.listdir(os.fsencode(here)): (os.rmdir if stat.S_ISDIR(os.lstat(name).st_mode) else os.unlink)(name)
    for function in touch, os.mkdir, os.stat, os.unlink, os.rmdir: fails(errno.ENAMETOOLONG, function, b"x" * 256)
    fails(errno.ENAMETOOLONG, os.symlink, b"x", b"x" * 256)
    touch("x")
    fails(errno.ENAMETOOLONG, os.rename, "x", b"x" * 256)
    fails(errno.ENAMETOOLONG, os.link, "x", b"x" * 256)
    os.unlink("x")
    fails(errno.ENOENT, os.stat, "")
    fails(errno.ENOENT, os.symlink, "", "x")

def long_links(here, there, restart):
    """A symlink of PATH_MAX - 1 bytes, and one that leads there."""
    target = b"./" * 2045 + b"file."
    expect("length", 4095, len(target))
    touch("file.")
    os.symlink(target, "long")
    for top in here, there:
        expect("the target", target, os.readlink(os.fsencode(top) + b"/long"))
        expect("its size", 4095, os.lstat(f"{top}/long").st_size)
        expect("where it leads", os.stat("file.").st_ino, os.stat(f"{top}/long").st_ino)
    fails(errno.ENAMETOOLONG, os.symlink, target + b"x", "longer")
    expect("a part of it", target[:100], readlink(b"long", 100))
    os.symlink("b", "a")
    os.symlink("a", "b")
    fails(errno.ELOOP, os.stat, "a")
    for i in range(45): os.symlink(f"s{i + 1}" if i < 44 else "file.", f"s{i}")
    expect("by 40 of them", os.stat("file.").st_ino, os.stat("s5").st_ino)
    fails(errno.ELOOP, os.stat, "s4")
    for name in os.listdir(here): os.unlink(name)

def readlink(path, size):
    buffer = ctypes.create_string_buffer(size)
    length = libc.readlink(path, buffer, size)
    return buffer.raw[:length]

def deep(here, there, restart):
    """Paths up to PATH_MAX, and trees that go on below."""
    name = "n" * 200
    path = here
    while 4094 - len(path) > 255: path = f"{path}/{name}"
    os.makedirs(path)
    rest = 4094 - len(path)
    touch(f"{path}/{'f' * rest}")
    expect("by a path of PATH_MAX", 0, os.stat(f"{path}/{'f' * rest}").st_size)
    fails(errno.ENAMETOOLONG, os.stat, f"{path}/{'f' * (rest + 1)}")
    fails(errno.ENAMETOOLONG, touch, f"{path}/{'f' * (rest + 1)}")
    # A thousand levels more, far below what a path can say.
    os.chdir(path)
    for level in range(1000):
        os.mkdir(name if level % 50 else "b" * 255)
        os.chdir(name if level % 50 else "b" * 255)
    touch("bottom")
    expect("links", 2, os.stat(".").st_nlink)
    with opened(".") as bottom, opened(here) as top:
        fails(errno.EINVAL, os.rename, name, "loop", src_dir_fd=top, dst_dir_fd=bottom)
        os.rename("bottom", "up", src_dir_fd=bottom, dst_dir_fd=top)
        os.rename("up", "bottom", src_dir_fd=top, dst_dir_fd=bottom)
    for _ in range(500): os.chdir("..")
    os.rename("../" + os.listdir("..")[0], f"{here}/half")
    os.chdir(here)
    subprocess.run(["sync"], check=True)
    with open("/proc/sys/vm/drop_caches", "w") as file: file.write("3")
    expect("levels that were moved", 501, int(subprocess.run("find half -type d | wc -l", shell=True, check=True,
                                                             capture_output=True).stdout))
    for top in os.listdir(there): subprocess.run(["rm", "-r", f"{there}/{top}"], check=True)
    expect("what is left", [], os.listdir(here))

def main():
    here, there, restart = sys.argv[1:4]
    for case in (removed_and_open, held_by_path, stood_in, above, links, positions, crowd, numbers, bytes_of_names,
                 long_links, deep):
        os.chdir(here)
        try: case(here, there, restart)
        except (AssertionError, OSError) as error: sys.exit(f"names: {case.__name__}: {error!r} (line {error.__traceback__.tb_next.tb_lineno})")
        expect(f"what {case.__name__} leaves", [], os.listdir(here))

if __name__ == "__main__": main()
