"""
Does the same to two directories, one on a mount and one on a local filesystem (the model), as several users, and compares
after each step what the call said and everything that a stat, its xattrs and its bytes tell of all that is there; of times,
which of them have changed.

    twin.py MOUNT MODEL SCRIPT...         each a text file, or - for the standard input
    twin.py MOUNT MODEL --random SEED STEPS [ONLY...]      steps that are drawn, from these operations only

A script is lines of  ACTOR OPERATION ARGUMENTS, "#" begins a comment. Arguments are words: paths below the directory,
numbers as Python has them, "-" for none. `show` prints what the model says, for those who write scripts. Ends with exit
status 1 at the first difference, which it tells together with the steps before. Standard library only.

The actors: root; weak (root, but without CAP_FSETID and CAP_LINUX_IMMUTABLE); owner (4711, groups 4711 and 500), member
(4712, groups 4712, 7 and 500), other (4713).
"""
import ctypes, errno, fcntl, os, pickle, random, socket, stat, struct, sys

libc = ctypes.CDLL(None, use_errno=True)
OWNER, MEMBER, OTHER, GROUP = 4711, 4712, 4713, 500
ACTORS = {"root": (0, [0]), "weak": (0, [0]), "owner": (OWNER, [OWNER, GROUP]), "member": (MEMBER, [MEMBER, 7, GROUP]),
          "other": (OTHER, [OTHER])}
IDS = {"owner": OWNER, "member": MEMBER, "other": OTHER, "group": GROUP, "root": 0, "-": -1}
ACL = {"access": "system.posix_acl_access", "default": "system.posix_acl_default"}
TAGS = {"u": (1, 2), "g": (4, 8), "m": (16, 16), "o": (32, 32)}
FLAGS = {name: getattr(os, "O_" + name.upper()) for name in
         ("rdonly", "wronly", "rdwr", "creat", "excl", "trunc", "append", "nofollow", "directory")}
GETFLAGS, SETFLAGS, FLAG = 0x80086601, 0x40086602, {"i": 0x10, "a": 0x20, "d": 0x40, "A": 0x80}
OMIT, NOW = (1 << 30) - 2, (1 << 30) - 1

def check(result):
    if result < 0: raise OSError(ctypes.get_errno(), "")
    return result

def number(word): return IDS[word] if word in IDS else int(word, 0)

def acl_value(text):
    """u::rwx,u:4713:r--,g::r-x,m::rwx,o::--- as setfacl(1) would send it; "" is an ACL without entries."""
    value = struct.pack("<I", 2)
    for entry in filter(None, text.split(",")):
        tag, who, perm = entry.split(":")
        bits = sum(1 << "xwr".index(c) for c in perm if c != "-")
        value += struct.pack("<HHI", TAGS[tag][who != ""], bits, number(who) if who else 0xffffffff)
    return value

# --- what is done: in the actor's process, with the directory as its own ----------------------------------------------

class Operations:
    def __init__(self): self.fds = {}
    def umask(self, mask): os.umask(number(mask))
    def open(self, name, path, flags, mode="0o666"):
        """A descriptor by a name of its own."""
        fd = os.open(path, os.O_NONBLOCK | sum(FLAGS[f] for f in flags.split("+")), number(mode))
        self.close(name)
        self.fds[name] = fd
    def close(self, name):
        if name in self.fds: os.close(self.fds.pop(name))
    def put(self, name, offset, size): return os.pwrite(self.fds[name], b"p" * number(size), number(offset))
    def get(self, name, size): return os.pread(self.fds[name], number(size), 0)
    def ftruncate(self, name, size): os.ftruncate(self.fds[name], number(size))
    def fchmod(self, name, mode): os.fchmod(self.fds[name], number(mode))
    def fchown(self, name, uid, gid): os.fchown(self.fds[name], number(uid), number(gid))
    def fallocate(self, name, mode, offset, size):
        check(libc.fallocate(self.fds[name], number(mode), ctypes.c_long(number(offset)), ctypes.c_long(number(size))))
    def write(self, path, size, flags="wronly"):
        fd = os.open(path, os.O_NONBLOCK | sum(FLAGS[f] for f in flags.split("+")), 0o666)
        # Of fifos Linux does not tell a FUSE filesystem that they were written to.
        try: return os.write(fd, b"w" * number(size)) if number(size) and stat.S_ISREG(os.fstat(fd).st_mode) else 0
        finally: os.close(fd)
    def read(self, path):
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try: return os.read(fd, 100)
        finally: os.close(fd)
    def list(self, path): return sorted(os.listdir(path))
    def access(self, path, mask): return os.access(path, number(mask), effective_ids=True)
    def chmod(self, path, mode): os.chmod(path, number(mode))
    def chown(self, path, uid, gid): os.chown(path, number(uid), number(gid), follow_symlinks=False)
    def truncate(self, path, size): os.truncate(path, number(size))
    def mkdir(self, path, mode="0o777"): os.mkdir(path, number(mode))
    def mknod(self, path, mode="0o100666", device="0"): os.mknod(path, number(mode), number(device))
    def symlink(self, target, path): os.symlink(target, path)
    def link(self, path, new): os.link(path, new, follow_symlinks=False)
    def unlink(self, path): os.unlink(path)
    def rmdir(self, path): os.rmdir(path)
    def rename(self, path, new, flags="0"): check(libc.renameat2(-100, path.encode(), -100, new.encode(), number(flags)))
    def utimens(self, path, atime, mtime):
        """Nanoseconds, or "now", or "omit"."""
        times = (ctypes.c_long * 4)()
        for i, word in enumerate((atime, mtime)):
            ns = {"now": NOW, "omit": OMIT}.get(word)
            times[2 * i], times[2 * i + 1] = (0, ns) if ns is not None else divmod(number(word), 10 ** 9)
        check(libc.utimensat(-100, path.encode(), times, 0x100))
    def utimes(self, path): check(libc.utimensat(-100, path.encode(), None, 0))
    def chattr(self, path, flags):
        """+ and - and letters, as chattr(1)."""
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        try:
            have = bytearray(4)
            fcntl.ioctl(fd, GETFLAGS, have)
            value, sign = int.from_bytes(have, "little"), 1
            for letter in flags:
                if letter in "+-": sign = letter == "+"
                elif sign: value |= FLAG[letter]
                else: value &= ~FLAG[letter]
            fcntl.ioctl(fd, SETFLAGS, value.to_bytes(4, "little"))
        finally: os.close(fd)
    def setacl(self, path, kind, text=""): os.setxattr(path, ACL[kind], acl_value(text))
    def dropacl(self, path, kind): os.removexattr(path, ACL[kind])
    def getacl(self, path, kind): return os.getxattr(path, ACL[kind])
    def setxattr(self, path, name, value, flags="0"):
        os.setxattr(path, name, value.encode(), number(flags), follow_symlinks=False)
    def getxattr(self, path, name): return os.getxattr(path, name, follow_symlinks=False)
    def removexattr(self, path, name): os.removexattr(path, name, follow_symlinks=False)
    def listxattr(self, path): return sorted(os.listxattr(path, follow_symlinks=False))

class Actor:
    """A process per actor and directory, which does what it is told."""
    def __init__(self, name, top):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork() == 0:
            self.socket.close()
            try: self.serve(name, top, theirs)
            finally: os._exit(1)
        theirs.close()

    @staticmethod
    def serve(name, top, commands):
        uid, groups = ACTORS[name]
        os.chdir(top)
        os.umask(0o022)
        if name == "weak":
            header, data = struct.pack("<Ii", 0x20080522, 0), bytearray(24)
            check(libc.capget(header, (ctypes.c_char * 24).from_buffer(data)))
            caps = list(struct.unpack("<6I", data))
            caps[0] &= ~(1 << 4 | 1 << 9)
            check(libc.capset(header, struct.pack("<6I", *caps)))
        else:
            os.setgroups(groups)
            os.setresgid(groups[0], groups[0], groups[0])
            os.setresuid(uid, uid, uid)
        operations = Operations()
        while data := commands.recv(65536):
            operation, arguments = pickle.loads(data)
            try: answer = getattr(operations, operation)(*arguments)
            except OSError as error: answer = errno.errorcode[error.errno]
            commands.send(pickle.dumps(answer))
        os._exit(0)

    def do(self, operation, arguments):
        self.socket.send(pickle.dumps((operation, arguments)))
        answer = self.socket.recv(65536)
        if not answer: raise SystemExit("an actor has died")
        return pickle.loads(answer)

# --- what is seen afterwards -------------------------------------------------------------------------------------------

class Tree:
    with_flags = False # once a step has changed some
    with_atime = None # of what a step has just set it: it is looked at before looking has changed it
    def __init__(self, top):
        self.top, self.times, self.fd = top, {}, os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        self.actors = {name: Actor(name, top) for name in ACTORS}

    def look(self):
        """Of each path: what must be the same. Times: which have changed since the last look."""
        seen, times = {}, {}
        for path in self.paths():
            full = f"/proc/self/fd/{self.fd}/{path}"
            st = os.lstat(full)
            kind = stat.S_IFMT(st.st_mode)
            fact = {"type": stat.filemode(st.st_mode)[0], "mode": oct(stat.S_IMODE(st.st_mode)), "uid": st.st_uid,
                    "gid": st.st_gid, "links": st.st_nlink,
                    "xattrs": {n: os.getxattr(full, n, follow_symlinks=False) for n in
                               os.listxattr(full, follow_symlinks=False) if n != "security.selinux"}}
            if kind == stat.S_IFREG: fact["size"] = st.st_size
            if kind == stat.S_IFLNK: fact["target"] = os.readlink(full)
            if kind in (stat.S_IFCHR, stat.S_IFBLK): fact["device"] = st.st_rdev
            if self.with_flags and kind in (stat.S_IFREG, stat.S_IFDIR):
                fd = os.open(full, os.O_RDONLY)
                have = bytearray(4)
                fcntl.ioctl(fd, GETFLAGS, have)
                os.close(fd)
                fact["flags"] = hex(int.from_bytes(have, "little") & 0xf0)
            times[st.st_ino] = {"mtime": st.st_mtime_ns, "ctime": st.st_ctime_ns}
            before = self.times.get(st.st_ino)
            fact["changed"] = "new" if before is None else [t for t in times[st.st_ino] if before[t] != times[st.st_ino][t]]
            if st.st_mtime_ns < 10 ** 18: fact["mtime"] = st.st_mtime_ns
            if self.with_atime == path: fact["atime"] = st.st_atime_ns < 10 ** 18 and st.st_atime_ns
            seen[path] = fact
        self.times = times
        return seen

    def paths(self):
        yield "."
        stack = [""]
        while stack:
            at = stack.pop()
            for name in sorted(os.listdir(f"/proc/self/fd/{self.fd}/{at}")):
                yield at + name
                if stat.S_ISDIR(os.lstat(f"/proc/self/fd/{self.fd}/{at}{name}").st_mode): stack.append(at + name + "/")

class Twins:
    def __init__(self, mount, model):
        self.trees, self.steps, self.done = {"mount": Tree(mount), "model": Tree(model)}, [], 0
        self.compare("at the beginning")

    def compare(self, when):
        mount, model = (self.trees[t].look() for t in ("mount", "model"))
        for path in sorted(mount.keys() | model.keys()):
            a, b = mount.get(path, {"there": False}), model.get(path, {"there": False})
            for key in sorted(a.keys() | b.keys()):
                if a.get(key) != b.get(key): self.differs(when, f"{path}: {key}: {a.get(key)}, the model: {b.get(key)}")

    def differs(self, when, what):
        for step in self.steps[-40:]: print("   ", *step, file=sys.stderr)
        raise SystemExit(f"{when}: {what}")

    @staticmethod
    def agree(operation, mount, model):
        """
        Of immutable and append-only (chattr) the mount's kernel knows nothing: what it objects to itself it says first, where
        ext4's looks at those; and access(2) it answers alone.
        """
        if Tree.with_flags and model == "EPERM" and mount in ("EACCES", "ENOTDIR", "EISDIR"): return True
        return mount == model or (Tree.with_flags and operation == "access" and mount and not model)

    def step(self, actor, operation, *arguments):
        self.steps.append((actor, operation, *arguments))
        self.done += 1
        Tree.with_flags |= operation == "chattr"
        mount, model = (self.trees[t].actors[actor].do(operation, arguments) for t in ("mount", "model"))
        when = f"step {self.done}: {actor} {operation} {' '.join(arguments)}"
        Tree.with_atime = arguments[0] if operation == "utimens" and arguments[1] != "omit" and model is None else None
        if not self.agree(operation, mount, model): self.differs(when, f"says {mount}, the model: {model}")
        self.compare(when)
        return model

    def script(self, text):
        for line in text.splitlines():
            words = line.split("#")[0].split()
            if not words: continue
            show = words[0] == "show"
            answer = self.step(*words[show:])
            if show: print(*words[1:], "->", answer)

# --- steps that are drawn -------------------------------------------------------------------------------------------------

class Dice(random.Random):
    DIRS = "", "d/", "e/", "d/s/"
    NAMES = "a", "b", "c", "s"
    def path(self): return self.choice(self.DIRS) + self.choice(self.NAMES)
    def dir(self): return self.choice(("d", "e", "d/s", "."))
    def any(self): return self.choice((self.path(), self.path(), self.dir()))
    def bits(self): return oct(self.choice((self.getrandbits(12), self.getrandbits(9), 0o6755, 0o2644, 0o644, 0o2775, 0o1777)))
    def id(self): return self.choice(("owner", "member", "other", "group", "root", "-"))
    def acl(self):
        perm = lambda: "".join(c if self.getrandbits(1) else "-" for c in "rwx")
        entries = [f"u::{perm()}"] + [f"u:{who}:{perm()}" for who in ("owner", "member", "other") if self.random() < 0.4]
        entries += [f"g::{perm()}"] + [f"g:{who}:{perm()}" for who in ("group", "other") if self.random() < 0.4]
        if len(entries) > 2 or self.random() < 0.2: entries.append(f"m::{perm()}")
        return ",".join(entries + [f"o::{perm()}"])
    def draw(self, operation):
        time = lambda: self.choice(("now", "omit", str(self.randrange(10 ** 17))))
        flags = lambda: self.choice(("rdonly", "wronly", "rdwr", "wronly+trunc", "rdwr+creat", "wronly+creat+trunc", "wronly+append",
                                     "wronly+creat+excl"))
        return {
            "umask": lambda: (oct(self.getrandbits(9) & 0o077),),
            "open": lambda: (self.choice("fg"), self.path(), flags(), self.bits()), "close": lambda: (self.choice("fg"),),
            "write": lambda: (self.path(), str(self.randrange(3)), flags()), "read": lambda: (self.path(),),
            "list": lambda: (self.dir(),), "access": lambda: (self.any(), str(self.randrange(8))),
            "chmod": lambda: (self.any(), self.bits()), "chown": lambda: (self.any(), self.id(), self.id()),
            "truncate": lambda: (self.path(), str(self.randrange(3) * 5)), "mkdir": lambda: (self.any(), self.bits()),
            "mknod": lambda: (self.path(), oct(self.choice((0o100000, 0o10000, 0o140000)) | self.getrandbits(9))),
            "symlink": lambda: ("nowhere", self.path()), "link": lambda: (self.path(), self.path()),
            "unlink": lambda: (self.path(),), "rmdir": lambda: (self.any(),),
            "rename": lambda: (self.any(), self.any(), self.choice("0012")),
            "chattr": lambda: (self.any(), self.choice("+---") + self.choice("iaadA")),
            "utimens": lambda: (self.any(), time(), time()), "utimes": lambda: (self.any(),),
            "setacl": lambda: (self.any(), self.choice(("access", "default")), self.acl()),
            "dropacl": lambda: (self.any(), self.choice(("access", "default"))),
            "setxattr": lambda: (self.any(), self.choice(("user.x", "user.y", "trusted.x", "security.x", "other.x", "user.", "system.x")),
                                 str(self.randrange(10 ** 9)), self.choice("0012")),
            "removexattr": lambda: (self.any(), self.choice(("user.x", "user.y", "trusted.x", "security.x", "other.x"))),
            "getxattr": lambda: (self.any(), self.choice(("user.x", "trusted.x", "security.x", "other.x", "user."))),
        }[operation]()

OFTEN = ("write", "mkdir", "mknod", "setacl", "setacl", "chmod", "open")
DRAWN = ("umask", "open", "close", "write", "read", "list", "access", "chmod", "chown", "truncate", "mkdir", "mknod", "symlink",
         "link", "unlink", "rmdir", "rename", "utimens", "utimes", "setacl", "dropacl", "setxattr", "removexattr", "getxattr")

def main():
    twins = Twins(*sys.argv[1:3])
    if sys.argv[3] == "--random":
        dice, only = Dice(int(sys.argv[4])), sys.argv[6:]
        twins.step("root", "chmod", ".", "0o777")
        for _ in range(int(sys.argv[5])):
            operation = dice.choice(only or DRAWN + OFTEN)
            twins.step(dice.choice(list(ACTORS)), operation, *dice.draw(operation))
    else:
        for path in sys.argv[3:]:
            with (sys.stdin if path == "-" else open(path)) as file: twins.script(file.read())
    print(f"{twins.done} steps")

main()
