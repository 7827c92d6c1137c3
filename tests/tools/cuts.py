"""
A wire that is cut where it hurts, and who works over it. Every program of a cluster is in a network namespace of its own;
what answers there at the ports of the others is this, which carries frame by frame, knows each one's operation
(common/frame.h), and cuts the connection at a given place of a given one: of every operation in proto/ops.def, the request
and the answer, before it (a lost answer: it was done), in its header, its body, its bulk, and after it. For each such cut
something is done that needs the operation, and its result is looked at: no error, nothing lost, nothing done twice.

    cuts.py TAG MNT MNT2

The namespaces are TAG and the name, see OWNERS; MNT and MNT2 are where the filesystem is mounted. Says "listens", and begins
with the first line of its input. What needs a shell it asks for by a line, and goes on with the next of its input: "session"
opens and closes a session, "fsck" looks at all of it, "net" tests the network, "restart" restarts the MDS. Says "all right" then, and carries on until
there is one more line; or ends with exit status 1 and what was wrong on stderr. Standard library only.
"""
import contextlib, ctypes, errno, fcntl, mmap, os, re, socket, struct, sys, threading, time
import wrong_peer

OWNERS = {"mgs": [9400], "mds": [9401], "oss": [9402, 9403], "host": []}
MDT = 9401
OPENING = {True: (96, 32), False: (240, 140)}  # what the asker and the server say before the first frame (common/opening.h)
HEADER = 72
REQUEST, REPLY, PUSH = 1, 2, 3
PLACES = "before", "header", "body", "bulk", "after"
PATIENCE_S = int(os.environ.get("PATIENCE", "60"))

class Frame:
    def __init__(self, header):
        self.kind, self.op, self.flags, _, self.status, self.xid, self.session, self.slot, self.seq, self.body_len, \
            self.bulk_len = struct.unpack_from("<BHHHIQQIIII", header, 5)
        self.body_sum, = struct.unpack_from("<I", header, 64)

    def place(self, place):
        """How many of its bytes pass; None: it has no such part."""
        if place == "before": return 0
        if place == "header": return HEADER // 2
        if place == "body": return HEADER + self.body_len // 2 if self.body_len > 1 else None
        if place == "bulk": return HEADER + self.body_len + self.bulk_len // 2 if self.bulk_len else None
        return HEADER + self.body_len + self.bulk_len

# --- the wire ---------------------------------------------------------------------------------------------------------

lock = threading.Lock()
shots = []  # cuts that wait for their frame
wrong = []  # what no peer may do
asked, answered = {}, {}  # (session, slot, seq) of the MDT: what it was asked, and what it said, as often as it was

class Shot:
    """One cut: of the next frame of that kind that has such a part."""
    def __init__(self, op, kind, place):
        self.op, self.kind, self.place, self.hit = op, kind, place, threading.Event()
        with lock: shots.append(self)

def cut_of(frame):
    """How many of the frame's bytes pass before the end of the connection; None: it goes on."""
    with lock:
        if NAMES.get(frame.op) in NEVER_ASKED: wrong.append(f"{NAMES[frame.op]} is asked")
        for shot in shots:
            if (shot.op, shot.kind) == (frame.op, frame.kind) and frame.place(shot.place) is not None:
                shots.remove(shot)
                shot.hit.set()
                return frame.place(shot.place)
    return None

def note(frame, pending):
    """What is sent again must be the same, and its answer too, whoever has seen the first one; but what is done in memory
    only is done again."""
    if "OP_SLOT" not in FLAGS.get(frame.op, "") or "OP_VOLATILE" in FLAGS[frame.op]: return
    what = (frame.op, frame.status, frame.body_sum)
    with lock:
        if frame.kind == REQUEST:
            key = pending[frame.xid] = (frame.session, frame.slot, frame.seq)
            if asked.setdefault(key, what) != what: wrong.append(f"{NAMES[frame.op]}: another request in the same slot")
        elif answered.setdefault(pending.pop(frame.xid), what) != what:
            wrong.append(f"{NAMES[frame.op]}: another answer to what was sent again")

def whole(source, size):
    data = bytearray()
    while len(data) < size:
        piece = source.recv(size - len(data))
        if not piece: raise ConnectionError
        data += piece
    return data

def carry(source, target, asks, port, pending):
    with contextlib.suppress(OSError):
        for size in OPENING[asks]: target.sendall(whole(source, size))
        while True:
            data = whole(source, HEADER)
            frame = Frame(data)
            data += whole(source, frame.body_len + frame.bulk_len)
            if port == MDT: note(frame, pending)
            passes = cut_of(frame)
            target.sendall(data[:passes])
            if passes is not None: break
    for end in source, target:
        with contextlib.suppress(OSError): end.shutdown(socket.SHUT_RDWR)

def enter(name):
    """Of this thread only."""
    with open(f"/run/netns/{name}") as file:
        if ctypes.CDLL(None, use_errno=True).setns(file.fileno(), 0x40000000) != 0:
            raise OSError(ctypes.get_errno(), "setns")

def listen(listener, owner, port):
    enter(owner)
    while True:
        here, _ = listener.accept()
        try: there = socket.create_connection(("127.0.0.1", port))
        except OSError:
            here.close()
            continue
        pending = {}
        for source, target, asks in (here, there, True), (there, here, False):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=carry, args=(source, target, asks, port, pending), daemon=True).start()

def begin(tag):
    for where in OWNERS:
        enter(tag + where)
        for owner, ports in OWNERS.items():
            for port in ports if owner != where else []:
                listener = socket.create_server(("127.0.0.1", port), backlog=64)
                threading.Thread(target=listen, args=(listener, tag + owner, port), daemon=True).start()

# --- the operations ---------------------------------------------------------------------------------------------------

with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "proto", "ops.def")) as file:
    OPS = re.findall(r"^OP\((\w+), (\w+), \w+, (\w+), (\w+), (.*)\)$", file.read(), re.M)
MESSAGES = wrong_peer.schema()[0]
NUMBERS = {name: int(number, 0) for name, number, *_ in OPS}
NAMES = {number: name for name, number in NUMBERS.items()}
FLAGS = {NUMBERS[name]: flags for name, _, _, _, flags in OPS}
BULK = {("WRITE", REQUEST), ("READ", REPLY), ("NET_TEST", REQUEST), ("NET_TEST", REPLY)}
# What they could say is optional, and not said here.
NO_BODY = {("SYNC", REQUEST), ("FSCK_ENTRIES", REQUEST), ("FSCK_FILES", REPLY)}
NEVER_ASKED = {"ACCESS", "BUSY"}  # the kernel judges itself (default_permissions); said by RDMA alone

def cuts_of(name):
    """All (kind, place) where it can be cut."""
    _, _, request, reply, flags = next(op for op in OPS if op[0] == name)
    parts = ((PUSH, request),) if "OP_PUSH" in flags else ((REQUEST, request), (REPLY, reply))
    lacks = {(kind, "body") for kind, message in parts if not MESSAGES[message] or (name, kind) in NO_BODY}
    lacks |= {(kind, "bulk") for kind, _ in parts if (name, kind) not in BULK}
    return [(kind, place) for kind, _ in parts for place in PLACES if (kind, place) not in lacks]

def told(kind): return {REQUEST: "request", REPLY: "answer", PUSH: "push"}[kind]

# --- the work ---------------------------------------------------------------------------------------------------------

def shell(order):
    print(order, flush=True)
    expect(order, "done", sys.stdin.readline().strip())

def expect(what, wanted, got): assert wanted == got, f"{what}: wanted {wanted!r}, got {got!r}"

def fails(error, function, *args):
    try: function(*args)
    except OSError as e: assert e.errno == error, f"{function.__name__} of {args}: {e}"
    else: raise AssertionError(f"{function.__name__} of {args} is possible once more")

@contextlib.contextmanager
def opened(path, flags=os.O_RDWR):
    fd = os.open(path, flags, 0o644)
    try: yield fd
    finally: os.close(fd)

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long
UNIT = 65536

def data(n): return struct.pack("<Q", n) * (UNIT // 8)

def direct(fd, size):
    """What the servers have, past the page cache."""
    memory = mmap.mmap(-1, size)
    return memory[:os.preadv(fd, [memory], 0)]

class Work:
    """A method for each operation; the n-th time it is done, in an empty folder. Whatever must be there first is made by a
    method whose name has _before."""
    def __init__(self, mnt, mnt2):
        self.top, self.top2 = mnt, mnt2
        os.mkdir(f"{mnt}/cuts")
        self.pinned = os.open(f"{mnt}/cuts/pinned", os.O_RDWR | os.O_CREAT)

    def reclaimed(self):
        """The MDS has heard from RECLAIM what is open: it stays."""
        os.unlink(f"{self.top}/cuts/pinned")
        os.write(self.pinned, data(1))
        os.fsync(self.pinned)
        expect("the bytes of an open file", data(1), direct(self.pinned, UNIT))
        os.close(self.pinned)

    def folder(self, n):
        self.n, self.dir, self.dir2 = n, f"{self.top}/cuts/{n}", f"{self.top2}/cuts/{n}"
        os.mkdir(self.dir)
        self.fd = -1

    def path(self, name): return f"{self.dir}/{name}"
    def names(self): return sorted(os.listdir(self.dir))

    def file(self, units=0):
        """A file that is not open, of so many units that are on the OSTs."""
        os.mknod(self.path("file"), 0o644)
        if units:
            with opened(self.path("file")) as fd:
                os.write(fd, data(self.n) * units)
                os.fsync(fd)

    def ATIMES_before(self): self.file(1)
    def ATIMES(self):
        with opened(self.path("file"), os.O_RDONLY) as fd:
            os.read(fd, 5)
            os.fsync(fd)
        st = os.stat(f"{self.dir2}/file")
        assert st.st_atime_ns >= st.st_mtime_ns > 0, st

    LOOKUP_before = GETATTR_before = OPEN_before = CLOSE_before = LINK_before = UNLINK_before = RENAME_before = file
    SETATTR_before = SETXATTR_before = LAYOUT_before = LOCK_before = LOCK_TEST_before = LOCK_PUSH_before = file

    def LOOKUP(self): expect("its links", 1, os.stat(self.path("file")).st_nlink)
    def GETATTR(self):
        with opened(self.path("file"), os.O_RDONLY) as fd: expect("its size", 0, os.fstat(fd).st_size)

    def READLINK_before(self): os.symlink(f"to {self.n}", self.path("link"))
    def READLINK(self): expect("the link", f"to {self.n}", os.readlink(self.path("link")))

    def READDIR_before(self):
        for i in range(20): os.mknod(self.path(f"n{i:02}"), 0o600)
    def READDIR(self): expect("the names", [f"n{i:02}" for i in range(20)], self.names())

    def GETXATTR_before(self):
        self.file()
        os.setxattr(self.path("file"), "user.a", b"%d" % self.n)
    LISTXATTR_before = REMOVEXATTR_before = GETXATTR_before
    def GETXATTR(self): expect("the value", b"%d" % self.n, os.getxattr(self.path("file"), "user.a"))
    def LISTXATTR(self): expect("the names", ["user.a"], os.listxattr(self.path("file")))
    def SETXATTR(self):
        os.setxattr(self.path("file"), "user.b", b"%d" % self.n, os.XATTR_CREATE)
        expect("the value", b"%d" % self.n, os.getxattr(self.path("file"), "user.b"))
    def REMOVEXATTR(self):
        os.removexattr(self.path("file"), "user.a")
        expect("the names", [], os.listxattr(self.path("file")))

    def STATFS(self): assert os.statvfs(self.top).f_blocks > 0

    def OPEN(self):
        """Known at the MDT, too: unlinked it stays."""
        with opened(self.path("file")) as fd:
            os.unlink(self.path("file"))
            os.write(fd, data(self.n))
            os.fsync(fd)
            expect("the bytes", data(self.n), direct(fd, UNIT))
    def CLOSE(self):
        with opened(self.path("file")): pass
    def SYNC(self):
        with opened(self.dir, os.O_RDONLY | os.O_DIRECTORY) as fd:
            os.mkdir(self.path("d"))
            os.fsync(fd)

    def CREATE(self):
        with opened(self.path("new"), os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
            expect("the names", ["new"], self.names())
            fails(errno.EEXIST, os.open, self.path("new"), os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.unlink(self.path("new"))
            os.write(fd, data(self.n))
            os.fsync(fd)
            expect("the bytes of an open file", data(self.n), direct(fd, UNIT))
    def TMPFILE(self):
        with opened(self.dir, os.O_RDWR | os.O_TMPFILE) as fd:
            expect("the names", [], self.names())
            os.write(fd, data(self.n))
            os.fsync(fd)
            expect("the bytes of a file without a name", data(self.n), direct(fd, UNIT))
            os.link(f"/proc/self/fd/{fd}", self.path("new"), src_dir_fd=fd)
        with opened(self.path("new")) as fd: expect("the bytes", data(self.n), os.read(fd, 2 * UNIT))
    def MKDIR(self):
        os.mkdir(self.path("new"))
        fails(errno.EEXIST, os.mkdir, self.path("new"))
        expect("the directory's links", 3, os.stat(self.dir).st_nlink)
    def MKNOD(self):
        os.mkfifo(self.path("new"))
        fails(errno.EEXIST, os.mkfifo, self.path("new"))
    def SYMLINK(self):
        os.symlink("there", self.path("new"))
        expect("the link", "there", os.readlink(self.path("new")))
    def LINK(self):
        os.link(self.path("file"), self.path("other"))
        expect("the links", 2, os.stat(self.path("other")).st_nlink)
        os.unlink(self.path("file"))
        expect("the links", 1, os.stat(self.path("other")).st_nlink)
    def UNLINK(self):
        os.unlink(self.path("file"))
        expect("the names", [], self.names())
    def RMDIR_before(self): os.mkdir(self.path("d"))
    def RMDIR(self):
        os.rmdir(self.path("d"))
        expect("the names", [], self.names())
    def RENAME(self):
        os.rename(self.path("file"), self.path("there"))
        expect("the names", ["there"], self.names())
    def SETATTR(self):
        os.chmod(self.path("file"), 0o4711)
        expect("the mode", 0o104711, os.stat(self.path("file")).st_mode)

    def SIZE_before(self): self.file(1)
    WRITE_before = COMMIT_before = SIZE_before
    def appended(self):
        for i in 1, 2:
            with opened(self.path("file"), os.O_RDWR | os.O_APPEND) as fd:
                os.write(fd, data(self.n + i))
                if i == 2: os.fsync(fd)
        with opened(f"{self.dir2}/file", os.O_RDONLY) as fd:
            expect("the size", 3 * UNIT, os.fstat(fd).st_size)
            expect("the bytes", b"".join(data(self.n + i) for i in range(3)), os.read(fd, 4 * UNIT))
    SIZE = WRITE = COMMIT = appended
    def LAYOUT(self):
        with opened(self.path("file")) as fd:
            os.write(fd, data(self.n))
            os.fsync(fd)
            expect("the bytes", data(self.n), direct(fd, UNIT))

    def READ_before(self): self.file(2)
    PUNCH_before = ALLOCATE_before = SEEK_before = GLIMPSE_before = DESTROY_before = CUT_before = READ_before
    def READ(self):
        with opened(self.path("file"), os.O_RDONLY | os.O_DIRECT) as fd:
            expect("the bytes", data(self.n) * 2, direct(fd, 4 * UNIT))
    def PUNCH(self):
        with opened(self.path("file")) as fd:
            assert libc.fallocate(fd, 3, UNIT // 2, UNIT) == 0, os.strerror(ctypes.get_errno())
            expect("the bytes", data(self.n)[UNIT // 2:] + bytes(UNIT) + data(self.n)[UNIT // 2:], direct(fd, 4 * UNIT))
    def ALLOCATE(self):
        with opened(self.path("file")) as fd:
            assert libc.fallocate(fd, 0, UNIT, 3 * UNIT) == 0, os.strerror(ctypes.get_errno())
            expect("the bytes", data(self.n) * 2 + bytes(2 * UNIT), direct(fd, 8 * UNIT))
            expect("the blocks", 4 * UNIT // 512, os.fstat(fd).st_blocks)
    def COPY_before(self): self.file(8)
    def COPY(self):
        """No byte comes this way: the target lies as the source does."""
        with opened(self.path("file")) as source, opened(self.path("copy"), os.O_RDWR | os.O_CREAT) as target:
            expect("what is copied", 8 * UNIT, os.copy_file_range(source, target, 8 * UNIT))
            expect("the bytes", data(self.n) * 8, direct(target, 16 * UNIT))
    def SEEK(self):
        with opened(self.path("file")) as fd:
            expect("the first hole", 2 * UNIT, os.lseek(fd, 0, os.SEEK_HOLE))
            expect("the first data", 5, os.lseek(fd, 5, os.SEEK_DATA))
    def GLIMPSE(self):
        """Another mount has written more, and not said so yet."""
        with opened(f"{self.dir2}/file", os.O_RDWR | os.O_APPEND) as fd:
            os.write(fd, data(self.n))
            os.fsync(fd)
            expect("the size", 3 * UNIT, os.stat(self.path("file")).st_size)

    def DESTROY(self): os.unlink(self.path("file"))
    def CUT(self):
        with opened(self.path("file")) as fd:
            os.ftruncate(fd, UNIT)
            os.ftruncate(fd, 2 * UNIT)
            expect("the bytes", data(self.n) + bytes(UNIT), direct(fd, 4 * UNIT))

    def both(self): return opened(self.path("file")), opened(f"{self.dir2}/file")
    def LOCK(self):
        with contextlib.ExitStack() as stack:
            a, b = map(stack.enter_context, self.both())
            for how in fcntl.lockf, fcntl.flock:
                how(a, fcntl.LOCK_EX)
                fails(errno.EAGAIN, how, b, fcntl.LOCK_EX | fcntl.LOCK_NB)
                how(a, fcntl.LOCK_UN)
                how(b, fcntl.LOCK_EX | fcntl.LOCK_NB)
                how(b, fcntl.LOCK_UN)
    def LOCK_TEST(self):
        with contextlib.ExitStack() as stack:
            a, b = map(stack.enter_context, self.both())
            fcntl.lockf(a, fcntl.LOCK_EX, 5, 10)
            told = fcntl.fcntl(b, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
            expect("the lock", (fcntl.F_WRLCK, 0, 10, 5), struct.unpack("hhqqi4x", told)[:4])
    def LOCK_PUSH(self):
        with contextlib.ExitStack() as stack:
            a, b = map(stack.enter_context, self.both())
            fcntl.flock(a, fcntl.LOCK_EX)
            waiter = threading.Thread(target=fcntl.flock, args=(b, fcntl.LOCK_EX), daemon=True)
            waiter.start()
            time.sleep(0.2)
            assert waiter.is_alive(), "it was given twice"
            began = time.monotonic()
            fcntl.flock(a, fcntl.LOCK_UN)
            waiter.join(PATIENCE_S)
            assert not waiter.is_alive(), "who waits does not get it"
            assert time.monotonic() - began < 4, "who waits asks again only after a while"

    def SESSION_OPEN(self): shell("session")
    SESSION_CLOSE = SESSION_OPEN
    def FSCK_ENTRIES(self): shell("fsck")
    FSCK_INODES = FSCK_OBJECTS = FSCK_FILES = FSCK_ENTRIES

    def NET_TEST(self): shell("net")

    # What is asked again when a connection stands again, and all the time.
    def RECLAIM(self): shell("restart")
    MAP_PUSH = VOID = RECLAIM
    def PING(self): pass
    REGISTER = MAP = SESSION_RENEW = SESSIONS = PING

# Done once for all their cuts: what follows on a cut brings the next.
TOGETHER = {"PING", "REGISTER", "MAP", "MAP_PUSH", "SESSION_RENEW", "SESSIONS", "RECLAIM", "VOID"}

def check(work, n, names, kind, place):
    """What is done needs all of these operations; each is cut once."""
    shots = [Shot(NUMBERS[name], kind, place) for name in names if (kind, place) in cuts_of(name)]
    getattr(work, f"{names[0]}_before", lambda: None)()
    try:
        getattr(work, names[0])()
        for shot in shots: assert shot.hit.wait(PATIENCE_S), f"no {NAMES[shot.op]} that can be cut there"
        assert not wrong, wrong
    except (OSError, AssertionError) as error:
        sys.exit(f"cuts: {' '.join(names)}, {told(kind)} cut {place}, step {n}: {error!r}")
    return len(shots)

def main():
    tag, mnt, mnt2 = sys.argv[1:]
    missing = [name for name in NUMBERS if not hasattr(Work, name) and name not in NEVER_ASKED]
    assert not missing, f"no work for {missing}"
    begin(tag)
    print("listens", flush=True)
    sys.stdin.readline()
    work, works, cuts, began = Work(mnt, mnt2), {}, 0, time.monotonic()
    later = [(name, *cut, Shot(NUMBERS[name], *cut)) for name in TOGETHER for cut in cuts_of(name)]
    for name in NUMBERS:
        if name not in TOGETHER and name not in NEVER_ASKED: works.setdefault(getattr(Work, name), []).append(name)
    for n, (names, kind, place) in enumerate((names, kind, place) for names in works.values() for kind in (REQUEST, REPLY, PUSH)
                                             for place in PLACES if any((kind, place) in cuts_of(name) for name in names)):
        work.folder(n)
        cuts += check(work, n, names, kind, place)
    work.RECLAIM()
    for name, kind, place, shot in later:
        if not shot.hit.wait(PATIENCE_S): sys.exit(f"cuts: {name}: there was no {told(kind)} to cut {place}")
        cuts += 1
    work.reclaimed()
    assert not wrong, wrong
    print(f"cuts: {cuts}, of {len(NUMBERS) - len(NEVER_ASKED)} operations, {time.monotonic() - began:.1f} s", file=sys.stderr)
    print("all right", flush=True)
    sys.stdin.readline()

if __name__ == "__main__": main()
