#!/usr/bin/env python3
"""make bench-rdma, in the guest (guest.sh, bench.sh): RDMA beside TCP, of one cluster in one run, over one wire.

    bench.py PROGRAMS PRELOAD

PROGRAMS: the folder of build/bin; PRELOAD: copies.c as a library. The mounts of each turn go by TCP and by RDMA in turn; the
files lie in memory. TURNS (3) medians; SIZE (128) MiB are written and read by calls of 1 MiB. What is counted (copies, system
calls) is done once more, under PRELOAD, and is no matter of speed. Prints a table; Standard library only.

COUNTS=1: only what is counted; exit status 1 where by RDMA bytes of a file are copied in user space or go through sockets, or where
a small call takes more than a send and a receive.
"""
import json, os, shutil, statistics, struct, subprocess, sys, time

PROGRAMS, PRELOAD = sys.argv[1:]
TURNS, SIZE = int(os.environ.get("TURNS", "3")), int(os.environ.get("SIZE", "128"))
MIB = 1 << 20
SMALL = 1000
HOST = "192.0.2.2"
KINDS = "tcp", "rdma"
PATIENCE_S = 60
COUNTERS = "copied", "socket_calls", "socket_bytes", "verbs_calls", "other_calls", "waits", "looks"
ONLY_COUNTS = os.environ.get("COUNTS", "") == "1"
A_BYTE_MAX = 0.01  # by RDMA: copied, and through sockets
A_SEND_MAX = 2.5 if os.path.exists("/sys/class/infiniband/rxe0") else 1.5  # rxe wants two verbs calls for one
# By RDMA: a send; what has come is read once, every eighth time twice. How often one looks who does not wait is a matter of speed.
A_CALL_MAX = {
    "mds": {"verbs calls": A_SEND_MAX, "other calls": 1.6, "waits": 1.5, "socket calls": 0.1},
    "mount": {"verbs calls": A_SEND_MAX, "other calls": 1.6, "waits": 2.5, "socket calls": 0.1},  # a wait for FUSE's request, too
}
WHERE = {"mds": "at the MDS", "mount": "at the mount"}
FOLDER = "/tmp/bench"
MNT, COUNTED = f"{FOLDER}/m", f"{FOLDER}/counted"
figures = {}  # (what, kind): [number of each turn]

def note(what, kind, number): figures.setdefault((what, kind), []).append(number)

def strake(*words, env=None):
    done = subprocess.run([f"{PROGRAMS}/strake", *words], capture_output=True, text=True, env=env)
    if done.returncode: sys.exit(f"bench: strake {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout

def await_(what, condition):
    until = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > until: sys.exit(f"bench: did not happen: {what}")
        time.sleep(0.05)  # between two looks

class Cluster:
    def __init__(self, env=None):
        self.folder, self.env = f"{FOLDER}/c", env
        strake("cluster", "start", self.folder, "--osts", "1", "--listen", HOST, env=env)
        status = json.loads(strake("cluster", "status", self.folder, "--json"))
        self.mgs, self.oss = status["mgs"][0]["address"], status["oss"][0]["address"]
        self.pids = {role: status[role][0]["pid"] for role in ("mds", "oss")}

    def mount(self, kind):
        """With all of its connections to the MDS and the OSS by that transport; the MGS is reached as it is named."""
        os.makedirs(MNT, exist_ok=True)
        strake("-m", self.mgs, "mount", MNT, "-o", f"transport={'tcp' if kind == 'tcp' else 'auto'}", env=self.env)
        status = json.loads(strake("cluster", "status", self.folder, "--json"))
        self.pids["mount"] = status["mounts"][0]["pid"]
        other = KINDS[1 - KINDS.index(kind)]

        def goes_by():
            stats = dict(line.split() for line in os.getxattr(MNT, "strake.stats").decode().splitlines())
            return int(stats[f"connections_{kind}"]) > 0 and int(stats[f"connections_{other}"]) == 0
        await_(f"the mount goes by {kind}", goes_by)

    def umount(self): strake("umount", MNT)

    def stop(self):
        strake("cluster", "stop", self.folder)
        shutil.rmtree(self.folder)

# --- the work ---------------------------------------------------------------------------------------------------------

def write_file(size):
    data = os.urandom(MIB)
    fd = os.open(f"{MNT}/file", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for _ in range(size): os.write(fd, data)
    os.fsync(fd)
    os.close(fd)

def read_file(size):
    fd = os.open(f"{MNT}/file", os.O_RDONLY)
    got = 0
    while piece := os.read(fd, MIB): got += len(piece)
    os.close(fd)
    assert got == size * MIB, got

def small_calls(count):
    """An xattr's value is asked for each time."""
    for _ in range(count): os.getxattr(f"{MNT}/file", "user.small")

# --- what it costs ----------------------------------------------------------------------------------------------------

def process_cpu(pid):
    with open(f"/proc/{pid}/stat") as file: fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

def machine_cpu():
    """Of all processors, busy: also the kernel's threads, which do the card's work here."""
    with open("/proc/stat") as file: fields = [int(word) for word in file.readline().split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:8])) / os.sysconf("SC_CLK_TCK")

def timed(cluster, what, kind, work, size):
    pids = cluster.pids["mount"], cluster.pids["oss"]
    cpu, all_cpu, began = sum(map(process_cpu, pids)), machine_cpu(), time.monotonic()
    work(size)
    note(f"{what}, MiB/s", kind, size / (time.monotonic() - began))
    note(f"{what}, CPU s per GiB: mount and OSS", kind, (sum(map(process_cpu, pids)) - cpu) * 1024 / size)
    note(f"{what}, CPU s per GiB: all, with the kernel", kind, (machine_cpu() - all_cpu) * 1024 / size)

def counters(pid):
    with open(f"{COUNTED}/{pid}", "rb") as file: return dict(zip(COUNTERS, struct.unpack(f"<{len(COUNTERS)}Q", file.read())))

def counted(cluster, roles, work, much):
    """What the programs of these roles have done meanwhile."""
    before = {role: counters(cluster.pids[role]) for role in roles}
    work(much)
    return {role: {name: number - before[role][name] for name, number in counters(cluster.pids[role]).items()} for role in roles}

def note_bytes(what, kind, done, size):
    for role in ("mount", "oss"):
        note(f"{what}, copied in user space per byte: {role}", kind, done[role]["copied"] / size / MIB)
        note(f"{what}, through sockets per byte: {role}", kind, done[role]["socket_bytes"] / size / MIB)
        note(f"{what}, verbs calls per MiB: {role}", kind, done[role]["verbs_calls"] / size)

def calls(done): return sum(done[name] for name in COUNTERS if name.endswith("_calls") or name in ("waits", "looks"))

# --- turns ------------------------------------------------------------------------------------------------------------

def speed():
    cluster = Cluster()
    for turn in range(TURNS):
        result = json.loads(strake("-m", cluster.mgs, "net", "test", cluster.oss, "--seconds", "1", "--json"))
        for of in result["transports"]:
            if not of["measured"]: sys.exit(f"bench: {of['transport']}: {of['reason']}")
            for name in "min", "median", "p99": note(f"a small call, us: {name}", of["transport"], of["latency_us"][name])
            note("1 MiB calls to a server, MiB/s", of["transport"], of["to_server_bytes_per_s"] / MIB)
            note("1 MiB calls from it, MiB/s", of["transport"], of["from_server_bytes_per_s"] / MIB)
        for kind in KINDS if turn % 2 == 0 else KINDS[::-1]:
            cluster.mount(kind)
            timed(cluster, "write", kind, write_file, SIZE)
            cluster.umount()
            cluster.mount(kind)
            timed(cluster, "read", kind, read_file, SIZE)
            os.unlink(f"{MNT}/file")
            cluster.umount()
    cluster.stop()

def counts():
    os.makedirs(COUNTED)
    cluster, size = Cluster({**os.environ, "LD_PRELOAD": PRELOAD, "COPIES": COUNTED}), min(SIZE, 32)
    for kind in KINDS:
        cluster.mount(kind)
        note_bytes("write", kind, counted(cluster, ("mount", "oss"), write_file, size), size)
        cluster.umount()
        cluster.mount(kind)
        note_bytes("read", kind, counted(cluster, ("mount", "oss"), read_file, size), size)
        os.setxattr(f"{MNT}/file", "user.small", b"x")
        small_calls(10)
        for role, done in counted(cluster, tuple(WHERE), small_calls, SMALL).items():
            for name in "socket_calls", "verbs_calls", "other_calls", "waits", "looks":
                note(f"a small call, {WHERE[role]}: {name.replace('_', ' ')}", kind, done[name] / SMALL)
            note(f"a small call, {WHERE[role]}: all of these", kind, calls(done) / SMALL)
        os.unlink(f"{MNT}/file")
        cluster.umount()
    cluster.stop()

def table():
    print(f"{'':52} {'TCP':>10} {'RDMA':>10} {'RDMA/TCP':>10}")
    for what in dict.fromkeys(what for what, _ in figures):
        tcp, rdma = (statistics.median(figures[what, kind]) for kind in KINDS)
        print(f"{what:52} {tcp:10.2f} {rdma:10.2f} {f'{rdma / tcp:.2f}' if tcp >= 0.01 else '-':>10}")

def judge():
    """By RDMA. What TCP has shows that it is counted at all."""
    wrong = []

    def expect(what, kind, least, most):
        number = figures[what, kind][0]
        if not least <= number <= most: wrong.append(f"{what}, by {kind}: {number:.3f}, not {least} to {most}")
    for work, receiver in ("write", "oss"), ("read", "mount"):
        for role in "mount", "oss":
            expect(f"{work}, copied in user space per byte: {role}", "rdma", 0, A_BYTE_MAX)
            expect(f"{work}, through sockets per byte: {role}", "rdma", 0, A_BYTE_MAX)
            expect(f"{work}, through sockets per byte: {role}", "tcp", 1, 1.1)
        expect(f"{work}, copied in user space per byte: {receiver}", "tcp", 0.05, 1.1)
    for role, most in A_CALL_MAX.items():
        for name in most: expect(f"a small call, {WHERE[role]}: {name}", "rdma", 0, most[name])
        expect(f"a small call, {WHERE[role]}: verbs calls", "rdma", 0.9, 9)
    for line in wrong: print(f"bench: {line}")
    sys.exit(bool(wrong))

os.makedirs(FOLDER)
if not ONLY_COUNTS: speed()
counts()
table()
if ONLY_COUNTS: judge()
