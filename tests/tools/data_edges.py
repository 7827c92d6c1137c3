"""
The edges of what can be done to a file's bytes, call by call: each case is done in an empty folder of a mount and in one of a
local filesystem (ext4 is the model), and every result, errno, byte, size and time that changed is compared.

    data_edges.py LOCAL MOUNT [CASE...]

What may differ is said where it is. LOCAL must be a small disk of its own: some cases fill it. Says "N cases, M results" or what differs; exit status 1 then. As root.
Standard library only.
"""
import array, ctypes, errno, fcntl, hashlib, mmap, os, resource, signal, stat, struct, sys, time

K, M, G, T = 1 << 10, 1 << 20, 1 << 30, 1 << 40
STRIPE = 4 * M
MAX = (1 << 63) - 1
KEEP, PUNCH, COLLAPSE, ZERO, INSERT, UNSHARE = 1, 2, 8, 16, 32, 64
USER = 12345
LETTERS = bytes(range(32, 127))

libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int,
                                                          ctypes.c_int, ctypes.c_int64)
libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
libc.msync.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
for name in "pread", "pwrite": getattr(libc, name).argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64
for name in "pread", "pwrite": getattr(libc, name).restype = ctypes.c_ssize_t
libc.lseek.argtypes, libc.lseek.restype = (ctypes.c_int, ctypes.c_int64, ctypes.c_int), ctypes.c_int64
libc.truncate.argtypes = ctypes.c_char_p, ctypes.c_int64
libc.ftruncate.argtypes = ctypes.c_int, ctypes.c_int64
libc.copy_file_range.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
libc.copy_file_range.restype = ctypes.c_ssize_t
libc.sync_file_range.argtypes = ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
libc.readahead.argtypes = ctypes.c_int, ctypes.c_int64, ctypes.c_size_t
libc.readahead.restype = ctypes.c_ssize_t

def word(code): return errno.errorcode.get(code, str(code))

def c(name, *args):
    """A libc call as it is, beyond what Python lets through: its result or its errno."""
    ctypes.set_errno(0)
    result = getattr(libc, name)(*args)
    return word(ctypes.get_errno()) if result == -1 else result

def do(function, *args, **kwargs):
    """A call of Python's: its result or its errno."""
    try: return function(*args, **kwargs)
    except OSError as error: return word(error.errno)

def pattern(size, seed=0): return (LETTERS * (size // len(LETTERS) + 2))[seed % len(LETTERS):][:size]
def digest(data): return data if len(data) <= 64 else (len(data), hashlib.sha1(data).hexdigest())

class Folder:
    """Where a case works, and what it has seen."""
    def __init__(self, path, is_mount):
        self.path, self.is_mount, self.seen, self.fds = path, is_mount, [], []
        os.mkdir(path, 0o777)
        os.chmod(path, 0o777)

    def name(self, name): return f"{self.path}/{name}"
    def open(self, name="f", flags=os.O_RDWR | os.O_CREAT, mode=0o644):
        fd = os.open(self.name(name), flags, mode)
        self.fds.append(fd)
        return fd
    def say(self, *what): self.seen.append(what)
    def here(self, what, wanted, got):
        """What is so on a mount only."""
        if self.is_mount and wanted != got: self.say("of a mount", what, "wanted", wanted, "got", got)
    def show(self, what, fd):
        """Size and all bytes, by a descriptor of its own."""
        own = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        size = os.fstat(own).st_size
        self.say(what, "size", size)
        if size <= 64 * M:
            data = b""
            while len(data) < size:
                piece = os.pread(own, min(size - len(data), M), len(data))
                if not piece: break
                data += piece
            self.say(what, "bytes", digest(data))
        os.close(own)
    def blocks(self, what, fd):
        """In KiB, after an fsync: ext4 allocates late."""
        os.fsync(fd)
        self.say(what, "KiB", os.fstat(fd).st_blocks // 2)
    def map(self, what, fd, limit=40):
        """Where it has data, as SEEK_DATA and SEEK_HOLE tell. (ext4 takes what was allocated and then read for data.)"""
        os.fsync(fd)
        at, runs = 0, []
        while len(runs) < limit:
            data = c("lseek", fd, at, os.SEEK_DATA)
            if not isinstance(data, int): break
            at = c("lseek", fd, data, os.SEEK_HOLE)
            runs.append((data, at))
        self.say(what, "data", runs)
    def changed(self, what, fd, function):
        """Which times a call changes."""
        before = os.fstat(fd)
        time.sleep(0.02)  # a clock tick of ext4's times
        result = function()
        after = os.fstat(fd)
        self.say(what, result, "changes", [name for name in ("st_mtime_ns", "st_ctime_ns", "st_size", "st_mode")
                                           if getattr(before, name) != getattr(after, name)])
    def end(self):
        for fd in self.fds:
            try: os.close(fd)
            except OSError: pass

def child(folder, what, function):
    """In a process of its own: what it says comes back by a pipe; a signal is what it ended by."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            inner = []
            folder.say = lambda *said: inner.append(said)
            function(folder)
            os.write(write, repr(inner).encode())
            os._exit(0)
        except BaseException as error:  # noqa: whatever it is, it is not the parent's
            os.write(write, repr([("raised", repr(error))]).encode())
            os._exit(1)
    os.close(write)
    said = b""
    while piece := os.read(read, 65536): said += piece
    os.close(read)
    status = os.waitpid(pid, 0)[1]
    folder.say(what, "signal", os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0)
    for line in eval(said.decode()) if said else []: folder.say(what, *line)

CASES = {}
def case(function):
    CASES[function.__name__] = function
    return function

# --- reading and writing ------------------------------------------------------------------------------------------------

@case
def nothing(f):
    fd = f.open()
    f.say("write of nothing", do(os.write, fd, b""))
    f.say("read of nothing", do(os.read, fd, 0))
    f.say("read of an empty file", do(os.read, fd, 100))
    f.say("pwrite of nothing far out", do(os.pwrite, fd, b"", 1 << 40))
    f.show("after nothing", fd)
    os.write(fd, b"abc")
    f.say("pread of nothing", do(os.pread, fd, 0, 1))
    f.say("writev of none", do(os.writev, fd, []))
    f.say("writev of empty ones", do(os.writev, fd, [b"", b""]))
    f.say("readv of none", do(os.readv, fd, []))
    f.changed("nothing", fd, lambda: do(os.pwrite, fd, b"", 0))
    f.say("fallocate of nothing", c("fallocate", fd, 0, 0, 0))
    f.say("sendfile of nothing", do(os.sendfile, fd, fd, 0, 0))
    f.say("copy of nothing", c("copy_file_range", fd, None, fd, None, 0, 0))
    f.show("at last", fd)
    ro, wo = f.open(flags=os.O_RDONLY), f.open(flags=os.O_WRONLY)
    f.say("write to what is open for reading", do(os.write, ro, b""), do(os.write, ro, b"x"))
    f.say("read from what is open for writing", do(os.read, wo, 0), do(os.read, wo, 1))
    dirfd = os.open(f.path, os.O_RDONLY)
    f.say("a directory", do(os.read, dirfd, 1), do(os.pread, dirfd, 1, 0))
    os.close(dirfd)

@case
def limits(f):
    fd = f.open()
    buffer = ctypes.create_string_buffer(pattern(64 * K), 64 * K)
    for offset in -1, -5, MAX, MAX - 1, MAX - 4096, MAX - 64 * K, MAX - 64 * K + 1, 1 << 62:
        for size in 0, 1, 4096:
            f.say("pread", size, offset, c("pread", fd, buffer, size, offset))
    f.say("seek", [c("lseek", fd, offset, whence) for offset, whence in
                   ((-1, 0), (16 * T - 4096, 0), (-1, 1), (0, 2), (-1, 2), (0, 7), (MAX, 3), (MAX, 4), (-1, 3))])
    # ext4 ends at 16 TiB, a mount at 2^63-1.
    f.here("seek", [MAX, "EINVAL", 0, MAX, "EINVAL"],
           [c("lseek", fd, offset, whence) for offset, whence in ((MAX, 0), (1, 1), (0, 0), (MAX, 2), (1, 1))])
    f.say("write at the end of time", c("pwrite", fd, buffer, 1, MAX), c("pwrite", fd, buffer, 1, -1))
    f.say("truncate", c("ftruncate", fd, -1), c("truncate", f.name("f").encode(), -1))
    f.show("still", fd)

@case
def limits_of_size(f):
    fd = f.open()
    for size in 1, 4095, 4097, 16 * T - 8192, 0:
        f.say("ftruncate", size, c("ftruncate", fd, size), os.fstat(fd).st_size)
    f.say("a byte", c("pwrite", fd, b"x", 1, 8 * T), os.fstat(fd).st_size)
    f.say("behind it", do(os.pread, fd, 10, 8 * T - 2))
    f.say("and nothing", do(os.pread, fd, 10, 8 * T + 1))
    f.say("fallocate", c("fallocate", fd, 0, MAX, 1), c("fallocate", fd, 0, MAX - 1, 10), c("fallocate", fd, 0, -1, 10))
    if f.is_mount:
        f.here("the largest", [None, MAX, "EINVAL", "EINVAL", 1, b"x", None],
               [do(os.ftruncate, fd, MAX), os.fstat(fd).st_size, do(os.pwrite, fd, b"xy", MAX), do(os.pwrite, fd, b"xy", MAX - 1),
                do(os.pwrite, fd, b"x", MAX - 1), do(os.pread, fd, 1, MAX - 1), do(os.ftruncate, fd, 0)])
    os.ftruncate(fd, 0)

@case
def offsets(f):
    fd = f.open()
    os.write(fd, pattern(100))
    f.say("where", os.lseek(fd, 0, 1))
    f.say("pwrite moves nothing", os.pwrite(fd, b"zz", 50), os.lseek(fd, 0, 1))
    f.say("pread moves nothing", os.pread(fd, 3, 49), os.lseek(fd, 0, 1))
    f.say("read at the end", os.read(fd, 10), os.lseek(fd, -10, 2), os.read(fd, 100), os.lseek(fd, 0, 1))
    os.lseek(fd, 10000, 0)
    f.say("read behind the end", os.read(fd, 10), os.write(fd, b"far"), os.lseek(fd, 0, 1))
    again = os.dup(fd)
    os.lseek(again, 5, 0)
    f.say("shared", os.read(fd, 5), os.lseek(again, 0, 1))
    os.close(again)
    f.show("at last", fd)

@case
def appending(f):
    fd = f.open(flags=os.O_RDWR | os.O_CREAT | os.O_APPEND)
    f.say(os.write(fd, b"one"), os.lseek(fd, 0, 1), os.lseek(fd, 0, 0), os.write(fd, b"two"), os.lseek(fd, 0, 1))
    f.say("pwrite appends", os.pwrite(fd, b"three", 0))
    f.say("read", os.pread(fd, 100, 0), os.lseek(fd, 1, 0), os.read(fd, 3))
    f.say("truncate", os.ftruncate(fd, 4), os.write(fd, b"!"))
    f.show("appended", fd)
    plain = f.open()
    f.say("by flag", do(os.pwritev, plain, [b"flag"], 0, getattr(os, "RWF_APPEND", 0x10)))
    f.show("by flag", plain)
    fcntl.fcntl(plain, fcntl.F_SETFL, os.O_APPEND)
    f.say("from now on", os.lseek(plain, 0, 0), os.write(plain, b"now"))
    fcntl.fcntl(plain, fcntl.F_SETFL, 0)
    f.say("and no more", os.lseek(plain, 0, 0), os.write(plain, b"NOT"))
    f.show("by turns", plain)
    f.say("punch", c("fallocate", fd, PUNCH | KEEP, 0, 2), "fallocate", c("fallocate", fd, 0, 0, 100))
    f.say("copy to it", c("copy_file_range", plain, None, fd, None, 3, 0))
    f.show("at last", fd)

@case
def vectors(f):
    fd = f.open()
    parts = [pattern(n, n) for n in (1, 0, 4095, 4096, 10, 70000)]
    f.say("pwritev", os.pwritev(fd, parts, 4090))
    back = [bytearray(n) for n in (5000, 1, 100000)]
    f.say("preadv", os.preadv(fd, back, 4000), [digest(bytes(part)) for part in back])
    for flag in ("RWF_DSYNC", 2), ("RWF_SYNC", 4), ("RWF_HIPRI", 1), ("unknown", 0x40000000):
        f.say(flag[0], do(os.pwritev, fd, [b"12"], 0, flag[1]))
    f.say("too many", do(os.writev, fd, [b"x"] * 1025))
    f.say("1024", do(os.writev, fd, [b"x"] * 1024))
    f.show("at last", fd)

@case
def synchronous(f):
    for name, flags in ("sync", os.O_SYNC), ("dsync", os.O_DSYNC), ("direct sync", os.O_DIRECT | os.O_DSYNC):
        fd = f.open(name.replace(" ", "-"), os.O_RDWR | os.O_CREAT | flags)
        memory = mmap.mmap(-1, 2 * M)
        memory[:] = pattern(2 * M)
        f.say(name, os.pwritev(fd, [memoryview(memory)[:8192]], 0), os.pwritev(fd, [memory], 4 * M - 8192))
        f.show(name, fd)
        f.say("flags", fcntl.fcntl(fd, fcntl.F_GETFL) & (os.O_SYNC | os.O_DIRECT | os.O_APPEND) == flags)
        f.say("fsync", do(os.fsync, fd), do(os.fdatasync, fd))
    ro = f.open("sync", os.O_RDONLY)
    f.say("of what is open for reading", do(os.fsync, ro), do(os.fdatasync, ro))
    f.say("a range", c("sync_file_range", ro, 0, 0, 7), c("sync_file_range", ro, -1, 0, 7), c("sync_file_range", ro, 0, 0, 8))
    f.say("ahead", c("readahead", ro, 0, 1 << 20), do(os.posix_fadvise, ro, 0, 0, os.POSIX_FADV_WILLNEED),
          do(os.posix_fadvise, ro, 0, 0, os.POSIX_FADV_DONTNEED), do(os.posix_fadvise, ro, 0, 0, 77))
    f.say("syncfs", c("syncfs", ro))

@case
def direct(f):
    fd = f.open(flags=os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    memory = mmap.mmap(-1, 1 * M)
    memory[:] = pattern(M)
    view = memoryview(memory)
    for size, offset in (4096, 0), (M, 4 * M - 512 * K), (4096, 100 * K), (64 * K, 4 * M - 4096):
        f.say("written", size, offset, do(os.pwritev, fd, [view[:size]], offset))
    buffered = f.open()
    f.say("buffered over it", os.pwrite(buffered, b"buffered", 4096 + 100))
    back = mmap.mmap(-1, 256 * K)
    f.say("read", os.preadv(fd, [back], 0), digest(back[:]))
    f.say("at the end", os.preadv(fd, [memoryview(back)[:8192]], os.fstat(fd).st_size // 4096 * 4096))
    f.say("behind the end", os.preadv(fd, [memoryview(back)[:4096]], 64 * M))
    os.ftruncate(fd, 10000)
    f.say("a short end", os.preadv(fd, [memoryview(back)[:16384]], 8192), bytes(back[:1808]) == bytes(memory[8192 - 8192:0]) or None)
    f.say("direct after buffered", os.pwritev(fd, [view[:8192]], 0), os.pread(buffered, 20, 0), os.pread(buffered, 20, 8190))
    f.show("at last", fd)

@case
def direct_unaligned(f):
    """A disk refuses what is not of its blocks (EINVAL); we take all. Bytes and ends are what buffered writes would leave."""
    direct, fd = None, f.open()
    direct = f.open(flags=os.O_RDWR | os.O_DIRECT)
    memory = mmap.mmap(-1, M + 4096)
    memory[:M] = pattern(M, 7)
    view = memoryview(memory)
    for i, (start, size, offset) in enumerate(((1, 100, 0), (0, 4097, 4095), (513, 70001, 4 * M - 33), (3, 512 * K + 1, 9 * M + 5),
                                               (0, 1, 12 * M))):
        for attempt in direct, fd:
            result = do(os.pwritev, attempt, [view[start:start + size]], offset)
            if result != "EINVAL": break
        f.say("written", i, result)
        back = bytearray(size + 10)
        for attempt in direct, fd:
            result = do(os.preadv, attempt, [back], offset)
            if result != "EINVAL": break
        f.say("read", i, result, digest(bytes(back)))
    f.show("at last", fd)

# --- size ---------------------------------------------------------------------------------------------------------------

@case
def truncating(f):
    fd = f.open()
    os.write(fd, pattern(10 * M))
    for size in 10 * M, 10 * M + 1, 9 * M, 4 * M, 4 * M - 1, 4097, 4096, 3, 100000, 0, 5 * M, 1:
        f.say("to", size, do(os.ftruncate, fd, size))
        f.show("after", fd)
    ro = f.open(flags=os.O_RDONLY)
    f.say("what is open for reading", c("ftruncate", ro, 0))
    os.mkdir(f.name("d"))
    os.mkfifo(f.name("p"))
    os.symlink("f", f.name("l"))
    f.say("what is none", c("truncate", f.name("d").encode(), 0), c("truncate", f.name("p").encode(), 0),
          c("truncate", f.name("l").encode(), 7), c("truncate", f.name("x").encode(), 0),
          c("truncate", f.name("f/x").encode(), 0))
    f.changed("to the same", fd, lambda: do(os.ftruncate, fd, 7))
    f.changed("to another", fd, lambda: do(os.ftruncate, fd, 8))
    f.changed("by name to the same", fd, lambda: do(os.truncate, f.name("f"), 8))
    f.changed("open(O_TRUNC)", fd, lambda: f.open(flags=os.O_WRONLY | os.O_TRUNC) > 0)
    f.changed("of nothing again", fd, lambda: f.open(flags=os.O_WRONLY | os.O_TRUNC) > 0)

@case
def size_limit(f):
    """RLIMIT_FSIZE: EFBIG with SIGXFSZ, and what fits before it."""
    def limited(f):
        fd = f.open()
        resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        f.say(do(os.pwrite, fd, pattern(1000), 99000), do(os.pwrite, fd, pattern(5000), 99000), do(os.pwrite, fd, b"x", 100000))
        f.say(do(os.ftruncate, fd, 100000), do(os.ftruncate, fd, 100001), do(os.ftruncate, fd, 5))
        f.say(c("fallocate", fd, 0, 0, 100000), c("fallocate", fd, 0, 0, 100001), c("fallocate", fd, KEEP, 0, 200000))
        other = f.open("g")
        os.ftruncate(other, 90000)
        os.lseek(fd, 50000, 0)
        f.say("copy", c("copy_file_range", other, None, fd, None, 80000, 0), os.fstat(fd).st_size)
        os.lseek(fd, 0, 2)
        f.say("sendfile", do(os.sendfile, fd, other, 0, 80000), os.fstat(fd).st_size)
        append = f.open(flags=os.O_WRONLY | os.O_APPEND)
        f.say("append", do(os.write, append, pattern(10)))
        f.show("at last", fd)
    def killed(f):
        fd = f.open("k")
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
        os.pwrite(fd, b"x", 10)
    child(f, "limited", limited)
    child(f, "killed", killed)

# --- room ---------------------------------------------------------------------------------------------------------------

@case
def room(f):
    fd = f.open()
    f.say("plain", c("fallocate", fd, 0, 0, 100000))
    f.show("plain", fd)
    f.blocks("plain", fd)
    f.say("keep", c("fallocate", fd, KEEP, 0, 9 * M))
    f.blocks("keep", fd)
    f.show("keep", fd)
    mapped = f.open("mapped")
    f.say("plain", c("fallocate", mapped, 0, 0, 9 * M))
    f.map("nothing is data", mapped)
    f.say("write", os.pwrite(mapped, pattern(8192), 4096), os.pwrite(mapped, pattern(8192), 5 * M))
    f.map("what was written", mapped)
    f.blocks("what was written", mapped)
    f.show("written", mapped)
    f.say("write", os.pwrite(fd, pattern(8192), 4096), os.pwrite(fd, pattern(8192), 5 * M))
    f.show("written", fd)
    f.blocks("no more than before", fd)
    f.say("again", c("fallocate", fd, 0, 0, 9 * M))
    f.blocks("again", fd)
    f.show("again", fd)
    f.say("short", os.ftruncate(fd, 5000))
    f.blocks("what is cut off goes", fd)
    f.say("keep", c("fallocate", fd, KEEP, 0, 1 * M))
    f.blocks("behind the end", fd)
    f.say("to its size", os.ftruncate(fd, 5000))
    f.blocks("that goes", fd)
    f.say("and to nothing", c("fallocate", fd, KEEP, 0, 1 * M), os.ftruncate(fd, 0))
    f.blocks("that too", fd)
    f.say("keep in nothing", c("fallocate", fd, KEEP, 0, 1 * M), os.ftruncate(fd, 0))
    f.blocks("as well", fd)

@case
def punching(f):
    fd = f.open()
    os.write(fd, pattern(13 * M))
    os.fsync(fd)
    for start, size in (4096, 8192), (5 * M, 3 * M), (100, 50), (9 * M - 100, 5000), (0, 1), (12 * M, 20 * M), (30 * M, M):
        f.say("punch", start, size, c("fallocate", fd, PUNCH | KEEP, start, size))
    f.show("punched", fd)
    f.blocks("punched", fd)
    f.map("punched", fd)
    f.say("all", c("fallocate", fd, PUNCH | KEEP, 0, 13 * M))
    f.show("all", fd)
    f.blocks("all", fd)
    f.map("all", fd)
    f.say("room again", c("fallocate", fd, 0, 0, 13 * M), c("fallocate", fd, PUNCH | KEEP, M, M))
    f.blocks("but for a hole", fd)
    f.say("without keep", c("fallocate", fd, PUNCH, 0, 4096))

@case
def zeroing(f):
    fd = f.open()
    os.write(fd, pattern(9 * M))
    os.fsync(fd)
    for start, size, mode in (4096, 8192, 0), (3 * M, 2 * M, KEEP), (100, 50, KEEP), (8 * M, 2 * M, KEEP), (8 * M + 5, 2 * M, 0), \
            (20 * M, 4096, KEEP), (20 * M, 4096, 0):
        f.say("zero", start, size, mode, c("fallocate", fd, ZERO | mode, start, size))
        f.show("zeroed", fd)
    f.blocks("zeroed", fd)
    f.say("both", c("fallocate", fd, ZERO | PUNCH | KEEP, 0, 4096))

@case
def room_errors(f):
    fd, ro, wo = f.open(), f.open(flags=os.O_RDONLY), f.open(flags=os.O_WRONLY)
    for mode in 0, KEEP, PUNCH | KEEP, ZERO:
        f.say(mode, [c("fallocate", fd, mode, *args) for args in ((0, -1), (-1, 1), (MAX, 1), (1, MAX), (0, 0))],
              c("fallocate", ro, mode, 0, 1), c("fallocate", wo, mode, 0, 1))
    os.write(fd, pattern(100))
    for mode in 0, KEEP, ZERO:
        f.say("too large for anything", c("fallocate", fd, mode, 0, 15 * T))
        # ext4 takes all there is first, and leaves the file so.
        f.here("nothing has changed", (100, 8, pattern(100)), (os.fstat(fd).st_size, os.fstat(fd).st_blocks, os.pread(fd, 200, 0)))
        os.ftruncate(fd, 0)
        os.pwrite(fd, pattern(100), 0)
        os.fsync(fd)
    f.say("unknown", c("fallocate", fd, 0x1000, 0, 4096))
    os.mkfifo(f.name("p"))
    pipe = f.open("p", os.O_RDWR)
    folder = os.open(f.path, os.O_RDONLY)
    f.say("a pipe", c("fallocate", pipe, 0, 0, 1), "a directory", c("fallocate", folder, 0, 0, 1))
    os.close(folder)
    f.show("at last", fd)

@case
def privileges(f):
    """setuid and setgid go with a change by another than root, by whatever call."""
    memory = pattern(4096)
    calls = {
        "write": lambda fd: do(os.pwrite, fd, memory, 0),
        "write of nothing": lambda fd: do(os.pwrite, fd, b"", 0),
        "plain": lambda fd: c("fallocate", fd, 0, 0, 10000),
        "keep": lambda fd: c("fallocate", fd, KEEP, 0, 10000),
        "punch": lambda fd: c("fallocate", fd, PUNCH | KEEP, 0, 4096),
        "zero": lambda fd: c("fallocate", fd, ZERO | KEEP, 0, 4096),
        "truncate": lambda fd: do(os.ftruncate, fd, 5),
        "to the same": lambda fd: do(os.ftruncate, fd, 4096),
        "copy": lambda fd: c("copy_file_range", fd, ctypes.byref(ctypes.c_int64(0)), fd, ctypes.byref(ctypes.c_int64(2048)), 1000, 0),
        "sendfile": lambda fd: do(os.sendfile, fd, fd, 0, 1000),
    }
    for mode in 0o6777, 0o2767, 0o4777:
        for who in 0, USER:
            for name, call in calls.items():
                def act(f):
                    if who: os.setresgid(who, who, who), os.setgroups([]), os.setresuid(who, who, who)
                    fd = f.open("s", os.O_RDWR)
                    f.say(call(fd))
                fd = f.open("s")
                os.pwrite(fd, memory, 0)
                os.fchmod(fd, mode)
                os.close(fd)
                child(f, f"{mode:o} {who} {name}", act)
                f.say(oct(os.stat(f.name("s")).st_mode))
                os.unlink(f.name("s"))

@case
def times(f):
    fd = f.open()
    memory = pattern(8192)
    f.changed("write", fd, lambda: os.pwrite(fd, memory, 0))
    f.changed("over it", fd, lambda: os.pwrite(fd, memory, 0))
    f.changed("read", fd, lambda: len(os.pread(fd, 100, 0)))
    f.changed("fsync", fd, lambda: os.fsync(fd))
    f.changed("plain", fd, lambda: c("fallocate", fd, 0, 0, 100000))
    f.changed("keep", fd, lambda: c("fallocate", fd, KEEP, 0, 300000))
    f.changed("punch", fd, lambda: c("fallocate", fd, PUNCH | KEEP, 0, 4096))
    f.changed("zero", fd, lambda: c("fallocate", fd, ZERO | KEEP, 0, 4096))
    f.changed("copy", fd, lambda: c("copy_file_range", fd, ctypes.byref(ctypes.c_int64(0)), fd,
                                    ctypes.byref(ctypes.c_int64(50000)), 1000, 0))
    f.changed("seek", fd, lambda: c("lseek", fd, 0, os.SEEK_DATA) is not None)
    def store():
        memory = mmap.mmap(fd, 4096)
        memory[0] = memory[0] ^ 1
        memory.flush()
        memory.close()
    f.changed("a mapped page", fd, store)

# --- data and holes -----------------------------------------------------------------------------------------------------

@case
def holes(f):
    fd = f.open()
    f.say("an empty file", c("lseek", fd, 0, os.SEEK_DATA), c("lseek", fd, 0, os.SEEK_HOLE))
    os.ftruncate(fd, 100)
    f.say("a hole", c("lseek", fd, 0, os.SEEK_DATA), c("lseek", fd, 0, os.SEEK_HOLE), c("lseek", fd, 50, os.SEEK_HOLE),
          c("lseek", fd, 100, os.SEEK_HOLE))
    for offset in 0, 64 * K, STRIPE - 8192, STRIPE, 3 * STRIPE, 7 * STRIPE - 4096, 7 * STRIPE, 20 * STRIPE + 4096:
        os.pwrite(fd, pattern(8192), offset)
    os.ftruncate(fd, 23 * STRIPE + 100)
    f.map("not written out", fd)
    f.map("runs", fd)
    size = os.fstat(fd).st_size
    for at in 0, 100, 8191, 8192, STRIPE - 8193, STRIPE + 8191, STRIPE + 8192, size - 1, size, size + 1:
        f.say(at, c("lseek", fd, at, os.SEEK_DATA), c("lseek", fd, at, os.SEEK_HOLE))
    f.say("moves", c("lseek", fd, 100000, os.SEEK_DATA), os.lseek(fd, 0, 1))
    f.say("what fails moves not", c("lseek", fd, size, os.SEEK_DATA), os.lseek(fd, 0, 1))
    os.unlink(f.name("f"))
    f.map("without a name", fd)
    whole = f.open("whole")
    os.write(whole, pattern(3 * STRIPE + 5000))
    f.say("no hole", c("lseek", whole, 0, os.SEEK_HOLE), c("lseek", whole, STRIPE, os.SEEK_HOLE),
          c("lseek", whole, 3 * STRIPE + 4999, os.SEEK_HOLE), c("lseek", whole, 3 * STRIPE + 5000, os.SEEK_HOLE))
    wo = f.open("whole", os.O_WRONLY)
    f.say("open for writing", c("lseek", wo, 0, os.SEEK_DATA))

@case
def last_blocks(f):
    """What is written ends in the middle of a block, and the file goes on: data reaches to the end of that block."""
    fd = f.open()
    for end in 100, 4095, 12288, STRIPE - 1, STRIPE + 5000:
        for size in end, end + 1, end + 8192, 3 * STRIPE:
            os.ftruncate(fd, 0)
            os.pwrite(fd, pattern(50), end - 50)
            os.ftruncate(fd, size)
            os.fsync(fd)
            block = -(-end // 4096) * 4096
            for at in end - 50, end - 1, end, end + 1, block - 1, block, size - 1:
                f.say((end, size, at), c("lseek", fd, at, os.SEEK_DATA), c("lseek", fd, at, os.SEEK_HOLE))
    os.ftruncate(fd, 0)
    os.ftruncate(fd, 100)
    os.pwrite(fd, b"", 50)
    os.ftruncate(fd, 10000)
    f.say("nothing", c("lseek", fd, 50, os.SEEK_DATA), c("lseek", fd, 50, os.SEEK_HOLE))
    os.pwrite(fd, pattern(100), 0)
    os.ftruncate(fd, 12000)
    c("fallocate", fd, PUNCH | KEEP, 0, 4096)
    f.say("punched", c("lseek", fd, 50, os.SEEK_DATA), c("lseek", fd, 50, os.SEEK_HOLE))

@case
def wide(f):
    """The ends of 16 TiB, in little time."""
    fd = f.open()
    last = 16 * T - 64 * K
    began = time.monotonic()
    f.say(os.pwrite(fd, pattern(4096), 0), os.pwrite(fd, pattern(4096), last), os.fstat(fd).st_size)
    f.map("its ends", fd)
    f.say("the middle", do(os.pread, fd, 100, 5 * T), c("lseek", fd, 5 * T, os.SEEK_DATA), c("lseek", fd, 5 * T, os.SEEK_HOLE))
    f.say("punch", c("fallocate", fd, PUNCH | KEEP, 4096, 14 * T))
    f.say("shorter", os.ftruncate(fd, 9 * T), c("lseek", fd, 4096, os.SEEK_DATA), os.fstat(fd).st_size)
    f.blocks("one page", fd)
    os.unlink(f.name("f"))
    f.say("in time", time.monotonic() - began < 10)

# --- copying ------------------------------------------------------------------------------------------------------------

def copy(source, target, size, at=None, to=None):
    """copy_file_range until all is done or no more comes: how much in all, or the errno of the first call."""
    done = 0
    while done < size:
        args = [None if offset is None else ctypes.byref(ctypes.c_int64(offset + done)) for offset in (at, to)]
        result = c("copy_file_range", source, args[0], target, args[1], size - done, 0)
        if not isinstance(result, int): return result if done == 0 else (done, result)
        if result == 0: break
        done += result
    return done

@case
def copying(f):
    source, target = f.open("source"), f.open("target")
    os.write(source, pattern(21 * M + 777))
    for at, to, size in (0, 0, 21 * M + 777), (5, 5, 9 * M), (0, 4 * M, 4 * M), (100, 200, 300), (M, 0, 3 * M), (20 * M, 40 * M, 4 * M), \
            (0, 100, 6 * M), (21 * M + 777, 0, 10), (22 * M, 0, 10), (0, 60 * M, 0):
        f.say("copy", at, to, size, copy(source, target, size, at, to))
        f.show("target", target)
    f.show("source", source)
    os.lseek(source, 100, 0), os.lseek(target, 300, 0)
    f.say("by position", copy(source, target, 5000), os.lseek(source, 0, 1), os.lseek(target, 0, 1))
    f.show("target", target)
    fresh = f.open("fresh")
    f.say("to its end and more", copy(source, fresh, 1 << 40))
    f.show("fresh", fresh)
    f.blocks("fresh", fresh)

@case
def copying_holes(f):
    source, target, full = f.open("source"), f.open("target"), f.open("full")
    for offset in 64 * K, STRIPE, 3 * STRIPE - 4096, 5 * STRIPE + 8192: os.pwrite(source, pattern(8192), offset)
    os.ftruncate(source, 7 * STRIPE)
    f.say("to a new one", copy(source, target, 7 * STRIPE))
    f.show("target", target)
    if f.is_mount: # ext4 fills them
        of = [os.fstat(fd).st_blocks for fd in (source, target) if os.fsync(fd) is None]
        f.here("holes stay holes", (of[0], STRIPE), (of[1], c("lseek", target, 64 * K + 8192, os.SEEK_DATA)))
    os.write(full, pattern(7 * STRIPE))
    os.fsync(full)
    f.say("over bytes", copy(source, full, 7 * STRIPE, 0, 0))
    f.show("full", full)

@case
def copying_itself(f):
    fd = f.open()
    os.write(fd, pattern(17 * M))
    for at, to, size in (0, 8 * M, 8 * M), (0, 4 * M, 4 * M), (0, 100, 100), (0, 99, 100), (100, 0, 101), (0, 0, 1), (M, M, M), \
            (0, 16 * M, 5 * M), (16 * M, 0, 20 * M):
        f.say("copy", at, to, size, copy(fd, fd, size, at, to))
        f.show("after", fd)

@case
def copying_errors(f):
    fd, ro, wo, append = f.open(), f.open(flags=os.O_RDONLY), f.open(flags=os.O_WRONLY), f.open(flags=os.O_WRONLY | os.O_APPEND)
    other = f.open("other")
    os.write(other, pattern(100000))
    f.say("directions", copy(wo, other, 10, 0, 0), copy(other, ro, 10, 0, 0), copy(other, append, 10, 0, 0))
    f.say("flags", c("copy_file_range", other, None, fd, None, 10, 1))
    f.say("offsets", copy(other, fd, 10, -1, 0), copy(other, fd, 10, 0, -1), copy(other, fd, 10, MAX, 0), copy(other, fd, 10, 0, MAX))
    folder = os.open(f.path, os.O_RDONLY)
    f.say("a directory", copy(folder, fd, 10, 0, 0), copy(other, folder, 10, 0, 0))
    os.close(folder)
    os.mkfifo(f.name("p"))
    pipe = f.open("p", os.O_RDWR)
    f.say("a pipe", copy(pipe, fd, 10), copy(other, pipe, 10))
    f.say("none", copy(999, fd, 10), copy(fd, 999, 10))
    f.show("at last", fd)

@case
def splicing(f):
    fd = f.open()
    os.write(fd, pattern(300000))
    read, write = os.pipe()
    f.say("into a pipe", do(os.splice, fd, write, 5000, offset_src=1000) if hasattr(os, "splice") else splice(fd, 1000, write, None, 5000))
    out = f.open("out")
    f.say("out of it", splice(read, None, out, 70, 5000))
    f.show("out", out)
    f.say("at the end", splice(fd, 299990, write, None, 100), len(os.read(read, 1000)), splice(fd, 300000, write, None, 100))
    both = f.open("both")
    done = 0
    while done < 300000:
        n = do(os.sendfile, both, fd, done, 300000 - done)
        if not isinstance(n, int) or n == 0: break
        done += n
    f.say("sendfile", done)
    f.show("both", both)
    import socket
    left, right = socket.socketpair()
    f.say("to a socket", do(os.sendfile, left.fileno(), fd, 123, 4000), digest(right.recv(65536, socket.MSG_WAITALL if False else 0)))
    left.close(), right.close()
    append = f.open("out", os.O_WRONLY | os.O_APPEND)
    os.write(write, b"more")
    f.say("to the end", splice(read, None, append, None, 4), do(os.sendfile, append, fd, 0, 10))
    os.close(read), os.close(write)

libc.splice.argtypes = ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint
libc.splice.restype = ctypes.c_ssize_t
def splice(source, at, target, to, size):
    args = [None if offset is None else ctypes.byref(ctypes.c_int64(offset)) for offset in (at, to)]
    return c("splice", source, args[0], target, args[1], size, 0)

# --- mapped pages -------------------------------------------------------------------------------------------------------

@case
def mapping(f):
    fd = f.open()
    os.write(fd, pattern(3 * M + 100))
    shared, private = mmap.mmap(fd, 3 * M + 100), mmap.mmap(fd, 3 * M + 100, flags=mmap.MAP_PRIVATE)
    f.say("the same", shared[:] == private[:] == pattern(3 * M + 100))
    private[5:9] = b"mine"
    f.say("private stays private", os.pread(fd, 10, 0), private[:10], shared[:10])
    shared[100:105] = b"shard"
    f.say("shared is there at once", os.pread(fd, 10, 98))
    f.say("and in the private one", private[98:108])
    os.pwrite(fd, b"written", 2 * M)
    f.say("a write is there at once", shared[2 * M:2 * M + 7], private[2 * M:2 * M + 7])
    shared.flush()
    f.show("flushed", fd)
    direct = f.open(flags=os.O_RDWR | os.O_DIRECT)
    back = mmap.mmap(-1, 4096)
    f.say("direct", os.preadv(direct, [back], 0), back[95:110])
    shared[4096:4100] = b"more"
    f.say("direct sees it", os.preadv(direct, [back], 4096), back[:6])
    back[:4] = b"dire"
    f.say("direct writes", os.pwritev(direct, [back], 8192), shared[8192:8196])
    os.ftruncate(fd, 4096)
    f.say("cut", shared[:4] if False else os.fstat(fd).st_size)
    os.ftruncate(fd, 8192)
    f.say("zeros behind", shared[4096:4104])
    shared.close(), private.close()
    f.show("at last", fd)

@case
def mapping_ends(f):
    """Behind the end of the file: zeros to the end of the page, then SIGBUS; what is stored there is in no file."""
    def bus(f):
        fd = f.open("bus")
        os.write(fd, pattern(5000))
        memory = mmap.mmap(fd, 5000)
        f.say("the rest of the page", digest(memory[4990:5000]))
        address = libc.mmap(None, 16384, 3, 1, fd, 0)
        f.say("zeros", ctypes.string_at(address + 5000, 10))
        ctypes.memmove(address + 5000, b"beyond", 6)
        c("msync", address, 16384, 4)
        f.say("no longer", os.fstat(fd).st_size)
        os.ftruncate(fd, 8192)
        f.say("zeros again", os.pread(fd, 10, 5000))
    def beyond(f):
        fd = f.open("bus")
        address = libc.mmap(None, 65536, 3, 1, fd, 0)
        ctypes.string_at(address + 32768, 1)
    def shrunk(f):
        fd = f.open("bus")
        address = libc.mmap(None, 8192, 3, 1, fd, 0)
        ctypes.string_at(address + 4096, 1)
        os.ftruncate(fd, 100)
        ctypes.string_at(address + 4096, 1)
    child(f, "end", bus)
    child(f, "beyond", beyond)
    child(f, "shrunk", shrunk)

@case
def mapping_errors(f):
    fd, ro, wo = f.open(), f.open(flags=os.O_RDONLY), f.open(flags=os.O_WRONLY)
    os.write(fd, pattern(8192))
    def attempt(fd, protection, flags, offset=0, size=4096):
        ctypes.set_errno(0)
        address = libc.mmap(None, size, protection, flags, fd, offset)
        if address == ctypes.c_void_p(-1).value: return word(ctypes.get_errno())
        libc.munmap(address, size)
        return "mapped"
    for name, descriptor in ("rw", fd), ("ro", ro), ("wo", wo):
        f.say(name, [attempt(descriptor, protection, flags) for protection in (1, 2, 3) for flags in (1, 2)])
    f.say("offsets", attempt(fd, 1, 1, 1), attempt(fd, 1, 1, 4096), attempt(fd, 1, 1, 1 << 40), attempt(fd, 1, 1, 0, 0),
          attempt(fd, 1, 1, -4096))
    folder = os.open(f.path, os.O_RDONLY)
    f.say("a directory", attempt(folder, 1, 1))
    os.close(folder)
    direct = f.open(flags=os.O_RDWR | os.O_DIRECT)
    append = f.open(flags=os.O_RDWR | os.O_APPEND)
    f.say("direct", attempt(direct, 3, 1), attempt(direct, 3, 2), "append", attempt(append, 3, 1), attempt(append, 3, 2))

@case
def mapping_appended(f):
    """Mapped pages of what is open for appending, beside what is appended."""
    fd = f.open(flags=os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(fd, pattern(6000))
    memory = mmap.mmap(fd, 6000)
    memory[0:5] = b"first"
    f.say(os.write(fd, b"appended"), os.pread(fd, 8, 0), os.pread(fd, 20, 5995))
    memory.flush()
    memory[10:14] = b"late"
    memory.close()
    f.show("at last", fd)

@case
def mapping_punched(f):
    fd = f.open()
    os.write(fd, pattern(64 * K))
    memory = mmap.mmap(fd, 64 * K)
    memory[4096:4100] = b"soon"
    f.say(c("fallocate", fd, PUNCH | KEEP, 4096, 8192), memory[4094:4102], digest(memory[:]))
    memory[5000:5004] = b"new "
    memory.flush()
    f.say(c("fallocate", fd, ZERO, 20000, 10000), digest(memory[:]))
    memory[30 * K:30 * K + 4] = b"copy"
    f.say(copy(fd, fd, 8192, 28 * K, 40 * K), memory[42 * K:42 * K + 8])
    f.show("at last", fd)

# --- and how it ends ------------------------------------------------------------------------------------------------------

@case
def descriptors(f):
    fd = f.open()
    os.write(fd, b"bytes")
    os.unlink(f.name("f"))
    f.say("without a name", os.fstat(fd).st_nlink, os.pread(fd, 10, 0), os.pwrite(fd, b"more", 5), os.ftruncate(fd, 7),
          c("fallocate", fd, 0, 0, 5000), c("fallocate", fd, PUNCH | KEEP, 0, 2))
    f.show("without a name", fd)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    f.say("by /proc", os.pread(again, 10, 0), os.pwrite(again, b"x", 0), os.pread(fd, 3, 0))
    os.close(again)
    os.close(fd)
    f.say("closed", do(os.pread, fd, 1, 0), do(os.close, fd), c("fallocate", fd, 0, 0, 1), c("lseek", fd, 0, 0))
    path = os.open(f.path, os.O_PATH)
    f.say("a path only", do(os.read, path, 1), do(os.fsync, path), do(os.ftruncate, path, 0))
    os.close(path)

def run(root, name, is_mount):
    folder = Folder(f"{root}/{name}", is_mount)
    try: CASES[name](folder)
    except Exception as error: folder.say("raised", type(error).__name__, str(error).replace(root, ""))
    folder.end()
    return folder.seen

def alike(a, b):
    """Of blocks: those of the disk's own maps, of which an object may have some and a file of ext4 others."""
    return "KiB" in a and "KiB" in b and a[:-1] == b[:-1] and abs(a[-1] - b[-1]) <= 16

def main():
    local, mount, *names = sys.argv[1:]
    differ = results = 0
    for name in names or CASES:
        left, right = run(local, name, False), run(mount, name, True)
        results += len(left)
        for i in range(max(len(left), len(right))):
            a, b = (seen[i] if i < len(seen) else "nothing" for seen in (left, right))
            if a == b or alike(a, b): continue
            differ += 1
            print(f"{name}: step {i}\n    local  {a}\n    mount  {b}")
            if a == "nothing" or b == "nothing" or "raised" in (a[0], b[0]): break
    print(f"data_edges: {len(names or CASES)} cases, {results} results" + (f", {differ} differ" if differ else ""))
    sys.exit(1 if differ else 0)

if __name__ == "__main__": main()
