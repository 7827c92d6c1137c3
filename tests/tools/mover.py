"""
Does things to names that fail when they are done twice, one after the other, and looks at what is there then: a directory
that is renamed, a thing that is moved to and fro, a file by two names, symbolic links, attributes; and lines that are
appended to a log are there once, in their order. Until a file is there.

    mover.py UNTIL COUNTS NAME SEED DIR [DIR2]

In COUNTS it keeps, as a uint64_t, how many steps it has done. With DIR2, the same through another mount, every step goes by
one of the two, and what the other one sees is looked at. Exit status 1 and what was wrong. Standard library only.
"""
import os, random, struct, sys
stop, counts, me, seed, *mounts = sys.argv[1:]
rng = random.Random(f"{seed} {me}")
counts = os.open(counts, os.O_WRONLY | os.O_CREAT)
os.mkdir(f"{mounts[0]}/{me}")
# By descriptor of their directory, so that most requests are for what is done, and not for the way there.
fds = [os.open(f"{mount}/{me}", os.O_RDONLY | os.O_DIRECTORY) for mount in mounts]
def a(): return rng.choice(fds)
def rename(source, target):
    fd = a()
    os.rename(source, target, src_dir_fd=fd, dst_dir_fd=fd)
def opened(path, mode): return open(path, mode, opener=lambda path, flags: os.open(path, flags, 0o600, dir_fd=a()))
def listed(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY, dir_fd=a())
    names = sorted(os.listdir(fd))
    os.close(fd)
    return names
# A directory that another mount has moved below another must be looked at before it is moved on, or rename is told ESTALE:
# the kernel keeps one name of a directory, and cannot change it while it holds the lock that a rename across directories
# takes. So what is moved to and fro is a file on two mounts.
at, lines, done = "d", 0, 0
os.mkdir(at, dir_fd=a())
def check():
    assert listed(".") == [at, "log"][: 1 + (lines > 0)], f"{listed('.')}, not {at}"
    assert listed(at) == [], f"{at} is not empty"
    if lines:
        with opened("log", "r") as log: found = log.read()
        assert found == "".join(f"{n}\n" for n in range(lines)), f"the log: {lines} lines, not {found!r}"
while not os.path.exists(stop):
    kind = rng.randrange(6)
    try:
        if kind == 0:
            rename(at, f"e{done}")
            at = f"e{done}"
        elif kind == 1: # from one directory into another, and back
            make, drop = (os.mkdir, os.rmdir) if len(mounts) == 1 else (os.mknod, os.unlink)
            os.mkdir("outer", dir_fd=a())
            make(f"{at}/thing", dir_fd=a())
            rename(f"{at}/thing", "outer/thing")
            rename("outer/thing", f"{at}/thing")
            drop(f"{at}/thing", dir_fd=a())
            os.rmdir("outer", dir_fd=a())
        elif kind == 2: # a file by two names
            with opened(f"{at}/file", "x") as file: file.write(f"{done}")
            fd = a()
            os.link(f"{at}/file", f"{at}/other", src_dir_fd=fd, dst_dir_fd=fd)
            os.unlink(f"{at}/file", dir_fd=a())
            with opened(f"{at}/other", "r") as file: assert file.read() == f"{done}", "another file's bytes"
            assert os.stat(f"{at}/other", dir_fd=a()).st_nlink == 1, "links"
            os.unlink(f"{at}/other", dir_fd=a())
        elif kind == 3:
            os.symlink(f"to {done}", f"{at}/link", dir_fd=a())
            assert os.readlink(f"{at}/link", dir_fd=a()) == f"to {done}", "another link"
            os.unlink(f"{at}/link", dir_fd=a())
        elif kind == 4:
            fd = a()
            os.setxattr(fd, "user.step", b"%d" % done, os.XATTR_CREATE)
            assert os.getxattr(a(), "user.step") == b"%d" % done, "another value"
            os.removexattr(fd, "user.step")
        else:
            with opened("log", "a") as log: log.write(f"{lines}\n")
            lines += 1
        if rng.randrange(4) == 0: check()
    except (OSError, AssertionError) as error:
        sys.exit(f"mover {me}, step {done} of kind {kind}: {error}")
    done += 1
    os.pwrite(counts, struct.pack("=Q", done), 0)
