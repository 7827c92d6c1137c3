#!/usr/bin/env python3
"""Programs that lock: what fcntl(2), its locks of open files and flock(2) promise, between several mounts of one filesystem.

    lockers.py rules M1 M2              every rule, one after the other
    lockers.py count M1 M2 SECONDS      many processes count in one file under each kind of lock, by write(2) and by mapped pages
    lockers.py nfs N M SECONDS          what holds where one of them is mounted by NFS
    lockers.py append M1 M2             many processes add records to one file under a lock, at the end that they find
    lockers.py token M1 M2 ROUNDS       two processes hand a lock to each other: how long one hand-over takes
    lockers.py local M1 M2              the second one has its locks for itself (-o local_locks)
    lockers.py hold FILE KIND           takes it, says so, and sleeps; at SIGUSR1 it writes and truncates, and says what comes of it
    lockers.py wait FILE KIND           waits for it, and says how long that took
    lockers.py ask FILE                 opens it, says so, and at SIGUSR1 asks for a lock by F_GETLK
    lockers.py sqlite M1 M2 SECONDS     many processes change one database
"""
import errno, fcntl, mmap, os, random, signal, sqlite3, struct, subprocess, sys, time

F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38
KINDS = "posix", "ofd", "flock"
EX, SH, UN = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_UN
TYPES = {EX: fcntl.F_WRLCK, SH: fcntl.F_RDLCK, UN: fcntl.F_UNLCK}

def lock(fd, kind, how=EX, wait=True, start=0, length=0):
    """False: another has it."""
    try:
        if kind == "flock":
            fcntl.flock(fd, how | (0 if wait else fcntl.LOCK_NB))
        else:
            command = {"posix": (fcntl.F_SETLK, fcntl.F_SETLKW), "ofd": (F_OFD_SETLK, F_OFD_SETLKW)}[kind][wait]
            fcntl.fcntl(fd, command, struct.pack("hhqqi4x", TYPES[how], 0, start, length, 0))
    except OSError as error:
        if not wait and error.errno in (errno.EAGAIN, errno.EACCES): return False
        raise
    return True

def may(path, kind, how=EX, **where):
    """Could somebody else take it now?"""
    fd = os.open(path, os.O_RDWR)
    try: return lock(fd, kind, how, wait=False, **where) and lock(fd, kind, UN, **where) # a close may tell other mounts later
    finally: os.close(fd)

def getlk(fd, how, start=0, length=0):
    return struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, struct.pack("hhqqi4x", TYPES[how], 0, start, length, 0)))

def child(function, *args):
    pid = os.fork()
    if pid: return pid
    try:
        function(*args)
        os._exit(0)
    except BaseException as error:
        print(f"{function.__name__}{args}: {error!r}", file=sys.stderr)
        os._exit(1)

def ends(pid): assert os.waitpid(pid, 0)[1] == 0, "a process failed"

def await_(what, seconds=20):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.005)

# --- the rules ------------------------------------------------------------------------------------------------------------

def rule_excludes(m1, m2, kind):
    a, b = os.open(f"{m1}/f", os.O_RDWR), os.open(f"{m2}/f", os.O_RDWR)
    assert lock(a, kind) and not lock(b, kind, wait=False) and not lock(b, kind, SH, wait=False)
    assert lock(a, kind, SH) and lock(b, kind, SH, wait=False) and not lock(b, kind, wait=False)
    if kind == "flock": assert lock(b, kind, SH, wait=False)  # what was tried has cost it
    assert not lock(a, kind, wait=False)
    lock(b, kind, UN)
    assert lock(a, kind, wait=False) and not may(f"{m2}/f", kind)
    lock(a, kind, UN)
    assert may(f"{m2}/f", kind)
    if kind != "flock":
        assert lock(a, kind, start=10, length=10) and lock(b, kind, wait=False, start=20, length=5)
        assert lock(b, kind, wait=False, start=0, length=10) and not lock(b, kind, wait=False, start=19, length=1)
        assert lock(a, kind, UN, start=13, length=2) and lock(b, kind, wait=False, start=13, length=2)
        assert not lock(b, kind, wait=False, start=12, length=1) and not lock(b, kind, wait=False, start=15, length=1)
    os.close(a)
    assert may(f"{m1}/f", kind, start=100), "what a close gives back is not free at once on the same mount"
    await_(lambda: lock(b, kind, wait=False))
    os.close(b)
    await_(lambda: may(f"{m1}/f", kind) and may(f"{m2}/f", kind))

def rule_waits(m1, m2, kind):
    for how, other in (EX, EX), (EX, SH), (SH, EX):
        a = os.open(f"{m1}/f", os.O_RDWR)
        lock(a, kind, how)
        waiters = [child(lambda m: lock(os.open(f"{m}/f", os.O_RDWR), kind, other), m) for m in (m1, m2, m2)]
        time.sleep(0.2)
        assert all(os.waitpid(pid, os.WNOHANG) == (0, 0) for pid in waiters), "it was given twice"
        lock(a, kind, UN)
        for pid in waiters: ends(pid)
        os.close(a)
    await_(lambda: may(f"{m1}/f", kind))

def rule_is_given_back(m1, m2, kind):
    """... by exit, and by SIGKILL, at once or while it waits."""
    def hold(path, ready):
        lock(os.open(path, os.O_RDWR), kind)
        os.write(ready, b"x")
        time.sleep(60)
    r, w = os.pipe()
    for mount, other in (m1, m2), (m2, m2):
        pid = child(hold, f"{mount}/f", w)
        os.read(r, 1)
        assert not may(f"{other}/f", kind)
        waiter = child(hold, f"{other}/f", w)
        time.sleep(0.1)
        os.kill(waiter, signal.SIGKILL)
        os.waitpid(waiter, 0)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        await_(lambda: may(f"{other}/f", kind))
    os.close(r), os.close(w)

def rule_is_interrupted(m1, m2, kind):
    """A signal ends the wait and leaves nothing; one whose handler restarts calls does not."""
    class Alarm(Exception): pass
    def wait(path, ready):
        def handler(signum, frame): raise Alarm
        signal.signal(signal.SIGALRM, handler)
        fd = os.open(path, os.O_RDWR)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try: lock(fd, kind)
        except Alarm: os.write(ready, b"i")
        else: os.write(ready, b"g")
        time.sleep(60)
    r, w = os.pipe()
    for mount, other in (m1, m2), (m1, m1):
        a = os.open(f"{mount}/f", os.O_RDWR)
        lock(a, kind)
        waiter = child(wait, f"{other}/f", w)
        got = os.read(r, 1)
        assert got == b"i", got
        lock(a, kind, UN)
        assert may(f"{m1}/f", kind) and may(f"{m2}/f", kind), "who was interrupted holds it"
        os.close(a)
        os.kill(waiter, signal.SIGKILL)
        os.waitpid(waiter, 0)
    def restarted(path):
        signal.signal(signal.SIGALRM, lambda signum, frame: None)
        signal.siginterrupt(signal.SIGALRM, False)
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        assert lock(os.open(path, os.O_RDWR), kind)
    a = os.open(f"{m1}/f", os.O_RDWR)
    lock(a, kind)
    pid = child(restarted, f"{m2}/f")
    time.sleep(0.5)
    lock(a, kind, UN)
    ends(pid)
    os.close(a)
    os.close(r), os.close(w)
    await_(lambda: may(f"{m1}/f", kind))

def rule_any_close_counts(m1, m2, kind):
    """POSIX locks go with any close of the file, also of what is open for reading only; the others with their own."""
    a, b = os.open(f"{m1}/f", os.O_RDWR), os.open(f"{m1}/f", os.O_RDONLY)
    lock(a, kind)
    os.close(b)
    assert may(f"{m2}/f", kind) == (kind == "posix")
    lock(a, kind)
    c = os.dup(a)
    os.close(c)
    assert may(f"{m2}/f", kind) == (kind == "posix")
    # A new handle must not lose what an old one's end, which comes late, gives back.
    if kind != "posix":
        for _ in range(300):
            os.close(a)
            a = os.open(f"{m1}/f", os.O_RDWR)
            lock(a, kind)
        assert not may(f"{m2}/f", kind)
        time.sleep(0.1)
        assert not may(f"{m2}/f", kind), "the end of an old handle has taken a new one's lock"
    os.close(a)
    await_(lambda: may(f"{m2}/f", kind))

def rule_deadlock(m1, m2, kind):
    if kind != "posix": return
    r, w = os.pipe()
    def first():
        fd = os.open(f"{m1}/f", os.O_RDWR)
        lock(fd, kind, start=0, length=1)
        os.write(w, b"x")
        assert lock(fd, kind, start=1, length=1)
    fd = os.open(f"{m2}/f", os.O_RDWR)
    lock(fd, kind, start=1, length=1)
    pid = child(first)
    os.read(r, 1)
    time.sleep(0.2)
    try: lock(fd, kind, start=0, length=1)
    except OSError as error: assert error.errno == errno.EDEADLK, error
    else: raise AssertionError("two wait for each other and both have it")
    os.close(fd)
    ends(pid)
    os.close(r), os.close(w)

def rule_is_told(m1, m2, kind):
    """F_GETLK, in both directions."""
    if kind != "posix": return
    r, w = os.pipe()
    def hold():
        lock(os.open(f"{m1}/f", os.O_RDWR), kind, SH, start=100, length=50)
        os.write(w, b"x")
        time.sleep(60)
    pid = child(hold)
    os.read(r, 1)
    for mount, teller in (m1, pid), (m2, 0):
        fd = os.open(f"{mount}/f", os.O_RDWR)
        assert getlk(fd, EX, 0, 100)[0] == fcntl.F_UNLCK and getlk(fd, SH)[0] == fcntl.F_UNLCK
        assert getlk(fd, EX) == (fcntl.F_RDLCK, 0, 100, 50, teller), getlk(fd, EX)
        os.close(fd)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(r), os.close(w)
    await_(lambda: may(f"{m2}/f", kind))

def opens_and_closes(path):
    while True: os.close(os.open(path, os.O_RDWR))

def rule_is_free_at_once(m1, m2, kind):
    """... on the mount where it was closed, however busy that is: the last close of an open file is one that nobody waits for."""
    if kind == "posix": return
    asker = os.open(f"{m1}/f", os.O_RDWR)
    with open(f"{m1}/busy", "w"): pass
    others = [child(opens_and_closes, f"{m1}/busy") for _ in range(4)]
    try:
        for i in range(1000):
            fd = os.open(f"{m1}/f", os.O_RDWR)
            lock(fd, kind)
            os.close(fd)
            if i % 2: assert kind != "ofd" or getlk(asker, EX)[0] == fcntl.F_UNLCK, f"it is not told free, the {i + 1}. time"
            else: assert lock(asker, kind, wait=False) and lock(asker, kind, UN), f"it is not free, the {i + 1}. time"
    finally:
        for pid in others: os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)
        os.close(asker)

def rules(m1, m2):
    with open(f"{m1}/f", "w"): pass
    for name, rule in sorted(globals().items()):
        if not name.startswith("rule_"): continue
        for kind in KINDS:
            began = time.monotonic()
            try: rule(m1, m2, kind)
            except AssertionError as error:
                import traceback
                traceback.print_exc()
                sys.exit(f"{name[5:]}, {kind}: {error}")
            print(f"{name[5:]}, {kind}: {time.monotonic() - began:.2f} s")

def nfs(n, m, seconds):
    """There a file's flock(2) is fcntl's, and who waits asks again now and then."""
    with open(f"{n}/f", "w"): pass
    rule_excludes(n, m, "posix")
    rule_excludes(m, n, "posix")
    rule_waits(n, m, "posix")
    rule_is_given_back(n, m, "posix")
    count(n, m, seconds, ("posix",), (False,))

def local(m1, m2):
    for kind in KINDS:
        a, b, c = (os.open(f"{m}/f", os.O_RDWR) for m in (m1, m2, m2))
        assert lock(a, kind) and lock(b, kind, wait=False)
        assert lock(c, kind, wait=False) == (kind == "posix"), "two handles of one mount"
        for fd in a, b, c: os.close(fd)

# --- counting -------------------------------------------------------------------------------------------------------------

CELL = struct.Struct("<QQ") # a count, and who is at it

class Cell:
    def __init__(self, path, mapped):
        self.fd = os.open(path, os.O_RDWR)
        self.map = mmap.mmap(self.fd, 4096) if mapped else None
    def get(self): return CELL.unpack(self.map[:CELL.size] if self.map else os.pread(self.fd, CELL.size, 0))
    def put(self, *cell):
        if self.map: self.map[:CELL.size] = CELL.pack(*cell)
        else: os.pwrite(self.fd, CELL.pack(*cell), 0)

def count_in(path, kind, mapped, until, result):
    cell, me, done = Cell(path, mapped), os.getpid(), 0
    while time.monotonic() < until:
        lock(cell.fd, kind)
        n, at_it = cell.get()
        assert at_it == 0, f"{at_it} is at it, too"
        cell.put(n, me)
        if done % 8 == 0: time.sleep(0.0005)
        n2, at_it = cell.get()
        assert (n2, at_it) == (n, me), f"{(n2, at_it)} instead of {(n, me)}: somebody else was here"
        cell.put(n + 1, 0)
        lock(cell.fd, kind, UN)
        done += 1
    os.write(result, struct.pack("<Q", done))

def count(m1, m2, seconds, kinds=KINDS, ways=(False, True)):
    until, works = time.monotonic() + float(seconds), []
    for kind in kinds:
        for mapped in ways:
            name = f"count.{kind}.{mapped}"
            with open(f"{m1}/{name}", "wb") as f: f.write(CELL.pack(0, 0) + bytes(4096 - CELL.size))
            r, w = os.pipe()
            pids = [child(count_in, f"{m}/{name}", kind, mapped, until, w) for m in (m1, m2) for _ in range(2)]
            works.append((name, r, pids))
    for name, r, pids in works:
        for pid in pids: ends(pid)
        each = [struct.unpack("<Q", os.read(r, 8))[0] for _ in pids]
        for m in m1, m2:
            cell = Cell(f"{m}/{name}", False)
            lock(cell.fd, "posix", SH)
            assert cell.get() == (sum(each), 0), f"{name}: {cell.get()} was counted, {sum(each)} times"
        print(f"{name}: {each}")

# --- adding records under a lock --------------------------------------------------------------------------------------------

def add_records(path, kind, number, count):
    fd, dice = os.open(path, os.O_RDWR), random.Random(number)
    for n in range(count):
        size = dice.choice((20, 100, 4096, 5000, 70000))
        lock(fd, kind)
        os.lseek(fd, 0, os.SEEK_END)
        os.write(fd, struct.pack("<IIQ", number, n, size) + bytes([number]) * size)
        lock(fd, kind, UN)

def check_records(path, writers, count):
    with open(path, "rb") as f: whole = f.read()
    at, seen = 0, [0] * writers
    while at < len(whole):
        number, n, size = struct.unpack_from("<IIQ", whole, at)
        assert number < writers and seen[number] == n, f"at {at}: record {n} of {number}, after {seen}"
        assert whole[at + 16:at + 16 + size] == bytes([number]) * size, f"record {n} of {number} is torn"
        seen[number] += 1
        at += 16 + size
    assert seen == [count] * writers, f"records are missing: {seen}"

def open_again(path, enough):
    """Each open may show that the kernel's attributes are old."""
    while not os.path.exists(enough): os.close(os.open(path, os.O_RDWR))

def append(m1, m2):
    for kind in KINDS:
        path, enough = f"records.{kind}", f"{m1}/enough.{kind}"
        with open(f"{m1}/{path}", "w"): pass
        openers = [child(open_again, f"{m}/{path}", enough) for m in (m1, m2)]
        pids = [child(add_records, f"{(m1, m2)[i % 2]}/{path}", kind, i, 60) for i in range(6)]
        for pid in pids: ends(pid)
        with open(enough, "w"): pass
        for pid in openers: ends(pid)
        for m in m1, m2: check_records(f"{m}/records.{kind}", 6, 60)

# --- handing over ---------------------------------------------------------------------------------------------------------

def pass_token(path, mine, rounds):
    """The first byte says whose turn it is; it is looked at under the lock."""
    fd, done = os.open(path, os.O_RDWR), 0
    while done < rounds:
        lock(fd, "posix")
        if os.pread(fd, 1, 0) == bytes([mine]):
            os.pwrite(fd, bytes([1 - mine]), 0)
            done += 1
        lock(fd, "posix", UN)

def token(m1, m2, rounds):
    rounds = int(rounds)
    with open(f"{m1}/token", "wb") as f: f.write(b"\0")
    began = time.monotonic()
    pids = [child(pass_token, f"{m}/token", i, rounds) for i, m in enumerate((m1, m2))]
    for pid in pids: ends(pid)
    print(f"a token passed {2 * rounds} times between two mounts: {(time.monotonic() - began) * 1e3 / (2 * rounds):.2f} ms each")

# --- single ones, for the shell -------------------------------------------------------------------------------------------

def hold(path, kind):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    def write(signum, frame):
        for change in lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 1):
            try: change()
            except OSError as error: print(errno.errorcode[error.errno], flush=True)
            else: print("written", flush=True)
    signal.signal(signal.SIGUSR1, write)
    lock(fd, kind)
    print("held", flush=True)
    while True: signal.pause()

def wait(path, kind):
    began = time.monotonic()
    lock(os.open(path, os.O_RDWR), kind)
    print(f"{time.monotonic() - began:.1f}", flush=True)

def ask(path):
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    print("open", flush=True)
    signal.sigwait({signal.SIGUSR1})
    print("asks", flush=True)
    print(getlk(fd, EX), flush=True)

# --- sqlite ---------------------------------------------------------------------------------------------------------------

def fill_database(path, number, until, result):
    db, done, dice = sqlite3.connect(path, timeout=120, isolation_level=None), 0, random.Random(number)
    db.execute("PRAGMA synchronous = NORMAL")
    while time.monotonic() < until:
        try:
            db.execute("BEGIN IMMEDIATE")
            rows = dice.choice((1, 1, 5, 30))
            for i in range(rows):
                db.execute("INSERT INTO entries VALUES (?, ?, ?)", (number, done + i, "x" * dice.randrange(600)))
            db.execute("UPDATE totals SET n = n + ?", (rows,))
            if dice.random() < 0.1:
                db.execute("ROLLBACK")
            else:
                db.execute("COMMIT")
                done += rows
        except sqlite3.OperationalError as error:
            if "locked" not in str(error): raise
            if db.in_transaction: db.execute("ROLLBACK")
        if dice.random() < 0.2:
            n, = db.execute("SELECT count(*) FROM entries WHERE who = ?", (number,)).fetchone()
            assert n == done, f"{number} sees {n} of its {done} rows"
    os.write(result, struct.pack("<QQ", number, done))

def sqlite(m1, m2, seconds):
    for mode in "DELETE", "TRUNCATE", "PERSIST":
        name = f"{mode}.db"
        db = sqlite3.connect(f"{m1}/{name}", isolation_level=None)
        assert db.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode.lower(),)
        db.execute("CREATE TABLE entries (who INTEGER, n INTEGER, text TEXT, PRIMARY KEY (who, n))")
        db.execute("CREATE TABLE totals (n INTEGER)")
        db.execute("INSERT INTO totals VALUES (0)")
        db.close()
        r, w = os.pipe()
        until = time.monotonic() + float(seconds)
        pids = [child(fill_database, f"{(m1, m2)[i % 2]}/{name}", i, until, w) for i in range(6)]
        for pid in pids: ends(pid)
        done = dict(struct.unpack("<QQ", os.read(r, 16)) for _ in pids)
        for m in m1, m2:
            db = sqlite3.connect(f"{m}/{name}")
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)], db.execute("PRAGMA integrity_check").fetchall()
            got = dict(db.execute("SELECT who, count(*) FROM entries GROUP BY who"))
            assert got == {who: n for who, n in done.items() if n}, f"{mode}: {got} instead of {done}"
            assert db.execute("SELECT n FROM totals").fetchone() == (sum(done.values()),)
            db.close()
        print(f"sqlite, {mode}: {sum(done.values())} rows by {len(pids)} processes in {seconds} s: {done}")

if __name__ == "__main__": globals()[sys.argv[1]](*sys.argv[2:])
