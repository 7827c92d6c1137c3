#!/usr/bin/env python3
"""The workloads of scripts/bench.sh, and its table.

    bench.py phases WORKLOAD...     what they are made of, in order; each is for a mount of its own
    bench.py PHASE MOUNT LOCAL      does it in MOUNT and prints a line for each figure: what, seconds. LOCAL is a folder of
                                    another filesystem, for what it has to prepare
    bench.py table FIGURES          lines of SYSTEM TURN WHAT NUMBER as a table

SCALE (percent) is how much is done. Everything drawn comes from fixed seeds: each system gets the same.
"""
import mmap
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import time

SCALE = int(os.environ.get("SCALE", "100"))
MIB = 1 << 20
BIG = max(1024 * SCALE // 100, 4)  # MiB
READS = max(10000 * SCALE // 100, 16)
NAMES = max(10000 * SCALE // 100, 10)
SMALL = max(5000 * SCALE // 100, 10)
TREE = max(3000 * SCALE // 100, 10)
ROUNDS, REREADS = 4, 5  # of again


def timed(what, work, *args):
    start = time.monotonic()
    work(*args)
    print(f"{what}, s {time.monotonic() - start:.3f}")


def in_processes(count, work, *args):
    """work(N, *ARGS) in each of them, which begin together when all are there; the seconds from then to the last one's end."""
    barrier = multiprocessing.Barrier(count + 1)

    def process(n):
        barrier.wait()
        work(n, *args)

    processes = [multiprocessing.Process(target=process, args=(n,)) for n in range(count)]
    for each in processes:
        each.start()
    barrier.wait()
    start = time.monotonic()
    for each in processes:
        each.join()
    if any(each.exitcode for each in processes):
        sys.exit("a process has failed")
    return time.monotonic() - start


# --- big: one file of 1 GiB -------------------------------------------------------------------------------------------


def write_big(path):
    block = random.Random(1).randbytes(MIB)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    for _ in range(BIG):
        if os.write(fd, block) != MIB:
            sys.exit("a short write")
    os.fsync(fd)
    os.close(fd)


def read_big(path):
    buffer, size = bytearray(MIB), 0
    with open(path, "rb", buffering=0) as file:
        while got := file.readinto(buffer):
            size += got
    if size != BIG * MIB:
        sys.exit(f"{size} bytes were read")


def read_randomly(n, path, count):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    page, rng = mmap.mmap(-1, 4096), random.Random(n)
    for _ in range(count):
        if os.preadv(fd, [page], 4096 * rng.randrange(BIG * MIB // 4096)) != 4096:
            sys.exit("a short read")
    os.close(fd)


def big_write(mount, _):
    timed("write 1 GiB", write_big, mount + "/big")


def big_read(mount, _):
    timed("read it cold", read_big, mount + "/big")
    timed("read it again", read_big, mount + "/big")


def big_random(mount, _):
    for depth in 1, 16:
        seconds = in_processes(depth, read_randomly, mount + "/big", READS // depth)
        print(f"10,000 random direct reads, depth {depth}, s {seconds:.3f}")


# --- again: a file from the page cache, and beside it another through the least that a FUSE filesystem can be -----------------


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def ost_calls(mount):
    """None: it is no mount of ours."""
    try:
        stats = os.getxattr(mount, "strake.stats").decode()
    except OSError:
        return None
    return int(dict(line.split() for line in stats.splitlines())["ost_calls"])


def reread(files):
    """The shortest time in which each is read from the page cache."""
    taken = [[], []]
    for _ in range(REREADS):
        for path, seconds in zip(files, taken):
            start = time.monotonic()
            read_big(path)
            seconds.append(time.monotonic() - start)
    return [min(seconds) for seconds in taken]


def again(mount, local):
    if ost_calls(mount) is None:
        return
    folder, beside = local + "/passed", local + "/beside"
    for each in folder, beside:
        os.makedirs(each, exist_ok=True)
    files, ratios, asked = [mount + "/again", beside + "/again"], [], 0
    write_big(files[0])
    write_big(folder + "/again")
    run("passthrough", folder, beside)
    try:
        for n in range(ROUNDS):
            drop_caches()
            for path in files[::-1] if n % 2 else files:  # who is filled first gets the slower pages
                read_big(path)
            before = ost_calls(mount)
            ours, passed = reread(files)
            asked += ost_calls(mount) - before
            ratios.append(passed / ours)
            print(f"again, round {n + 1}, filled {('first', 'last')[n % 2]} {ratios[-1]:.3f}")
    finally:
        run("umount", beside)
    print(f"again: passthrough's time / ours, mean {statistics.geometric_mean(ratios):.3f}")
    print(f"again, requests to OSTs meanwhile {asked}")


# --- names: 10,000 empty files in a directory ---------------------------------------------------------------------------


def each_name(call, *prefixes):
    for n in range(NAMES):
        call(*(f"{prefix}{n}" for prefix in prefixes))


def create(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def names_create(mount, _):
    os.mkdir(mount + "/names")
    timed("create 10,000", each_name, create, mount + "/names/a")


def names_rest(mount, _):
    a, b = mount + "/names/a", mount + "/names/b"
    timed("stat them cold", each_name, os.stat, a)
    timed("rename them", each_name, os.rename, a, b)
    timed("unlink them", each_name, os.unlink, b)


# --- small: a dataset of 5,000 files of about 100 KiB -------------------------------------------------------------------


def small_paths(mount):
    return [f"{mount}/small/{n % 50}/{n}" for n in range(SMALL)]


def write_small(mount):
    rng, block = random.Random(2), random.Random(3).randbytes(150 << 10)
    for n in range(50):
        os.makedirs(f"{mount}/small/{n}")
    for path in small_paths(mount):
        size = rng.randrange(50 << 10, 150 << 10)
        with open(path, "wb", buffering=0) as file:
            if file.write(block[:size]) != size:
                sys.exit("a short write")


def read_small(n, paths, workers):
    for path in paths[n::workers]:
        with open(path, "rb", buffering=0) as file:
            file.readall()


def small_write(mount, _):
    timed("write 5,000 of 100 KiB", write_small, mount)


def epoch(mount, workers):
    paths = small_paths(mount)
    random.Random(workers).shuffle(paths)
    seconds = in_processes(workers, read_small, paths, workers)
    print(f"read them cold, shuffled, {workers} at once, s {seconds:.3f}")


def small_epoch1(mount, _):
    epoch(mount, 1)


def small_epoch4(mount, _):
    epoch(mount, 4)


# --- tree: 3,000 files of source ------------------------------------------------------------------------------------------


def make_tar(path, scratch):
    """Of text that compresses like source, 200 bytes to 20 kB a file, 30 files a directory."""
    rng = random.Random(4)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz_", k=rng.randrange(2, 12))) for _ in range(2000)]
    for n in range(TREE):
        folder = f"{scratch}/tree/{n // 300}/{n // 30}"
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/{n}.c", "w", encoding="ascii") as file:
            size = int(200 * 100 ** rng.random())
            text = " ".join(rng.choices(words, k=size // 7 + 1))
            file.write(text[:size])
    with tarfile.open(path, "w") as tar:
        tar.add(scratch + "/tree", "tree")
    shutil.rmtree(scratch + "/tree")


def run(*command):
    subprocess.run(command, check=True)


def tree(mount, local):
    tar = local + "/tree.tar"
    if not os.path.exists(tar):
        make_tar(tar, local)
    os.environ["GIT_CONFIG_GLOBAL"] = os.environ["GIT_CONFIG_SYSTEM"] = "/dev/null"
    timed("untar 3,000 files", run, "tar", "-xf", tar, "-C", mount)
    run("git", "init", "-q", mount + "/tree")
    timed("git add them", run, "git", "-C", mount + "/tree", "add", "-A")


# --- the table ------------------------------------------------------------------------------------------------------------


def table(path):
    figures = {}  # what: {system: {turn: number}}; of several of a turn (memory) the largest
    with open(path, encoding="utf-8") as file:
        for line in file:
            system, turn, rest = line.split(" ", 2)
            what, number = rest.rsplit(" ", 1)
            turns = figures.setdefault(what, {}).setdefault(system, {})
            turns[turn] = max(float(number), turns.get(turn, 0.0))
    if SCALE != 100:
        print(f"Of all of it {SCALE} percent:")
    row = "{:40} {:>22} {:>22} {:>8} {:>8} {:>6}".format
    print(row("", "StrakeFS", "MooseFS", "median", "median", "ratio"))
    for what, systems in sorted(figures.items(), key=lambda each: each[0].endswith("MiB")):
        turns = [list(systems.get(system, {}).values()) for system in ("ours", "mfs")]
        medians = [statistics.median(each) if each else None for each in turns]
        raw = [" ".join(f"{number:.2f}" for number in each) for each in turns]
        ratio = f"{medians[1] / medians[0]:.2f}" if all(medians) else ""
        print(row(what, *raw, *("" if each is None else f"{each:.2f}" for each in medians), ratio).rstrip())


WORKLOADS = {
    "big": (big_write, big_read, big_random),
    "again": (again,),
    "names": (names_create, names_rest),
    "small": (small_write, small_epoch1, small_epoch4),
    "tree": (tree,),
}
PHASES = {phase.__name__: phase for phases in WORKLOADS.values() for phase in phases}

if __name__ == "__main__":
    verb, *args = sys.argv[1:] or [""]
    if verb == "phases" and set(args) <= set(WORKLOADS):
        print(*(phase.__name__ for workload in args for phase in WORKLOADS[workload]))
    elif verb == "table" and len(args) == 1:
        table(*args)
    elif verb in PHASES and len(args) == 2:
        PHASES[verb](*args)
    else:
        sys.exit(__doc__)
