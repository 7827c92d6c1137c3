"""Processes on several mounts that append to the same files, and what must have come of it.

    appenders.py write M1 M2 RECORDS     each of some writers appends RECORDS records of 1 byte to 512 KiB, one write(2) each
    appenders.py calls M1 M2             fcntl(F_SETFL), truncates, O_DSYNC, readers and mapped pages of what is appended to
"""
import fcntl, mmap, os, random, struct, sys, time

HEAD = struct.Struct("<IIQ")
WRITERS = 8
BIGGEST = 512 * 1024

def child(function, *args):
    pid = os.fork()
    if pid: return pid
    try:
        function(*args)
        os._exit(0)
    except BaseException as error:
        print(f"{function.__name__}{args}: {error!r}", file=sys.stderr)
        os._exit(1)

def ends(pids):
    for pid in pids: assert os.waitpid(pid, 0)[1] == 0, "a process failed"

def body(number, n, size): return bytes([number * 16 + n % 16]) * size

def write_records(path, number, count, extra):
    """From anywhere in memory: what begins in the midst of a page ends in one more."""
    fd, dice = os.open(path, os.O_WRONLY | os.O_APPEND | extra), random.Random(number)
    for n in range(count):
        size = dice.choice((HEAD.size, 17, 100, 4095, 4096, 5000, 65536, 100000, BIGGEST - 1, BIGGEST))
        shift = dice.choice((0, 1, 17, 4095))
        memory = mmap.mmap(-1, BIGGEST + 8192)
        memory[shift:shift + size] = HEAD.pack(number, n, size) + body(number, n, size - HEAD.size)
        with memoryview(memory) as view, view[shift:shift + size] as record:
            assert os.write(fd, record) == size
        memory.close()
    os.close(fd)

def check_records(path, count):
    with open(path, "rb") as f: whole = f.read()
    at, seen = 0, [0] * WRITERS
    while at < len(whole):
        assert len(whole) - at >= HEAD.size, f"{len(whole) - at} bytes too many at the end"
        number, n, size = HEAD.unpack_from(whole, at)
        assert number < WRITERS and seen[number] == n, f"at {at}: record {n} of {number}, after {seen}"
        assert whole[at + HEAD.size:at + size] == body(number, n, size - HEAD.size), f"at {at}: record {n} of {number} is torn"
        seen[number] += 1
        at += size
    assert seen == [count] * WRITERS, f"records are missing: {seen} of {count}"
    return at

def write_bytes(path, number, count):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for _ in range(count): assert os.write(fd, bytes([number])) == 1
    os.close(fd)

def write_large(path, number, count):
    """A MiB at once: no promise that nothing comes between, but nothing is lost."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for n in range(count): assert os.write(fd, bytes([number]) * (1 << 20)) == 1 << 20
    os.close(fd)

def write(m1, m2, records):
    records, mounts = int(records), (m1, m2)
    for extra in 0, os.O_DSYNC:
        name = f"records.{extra}"
        with open(f"{m1}/{name}", "w"): pass
        began = time.monotonic()
        count = records if extra == 0 else records // 4 + 1
        ends([child(write_records, f"{mounts[i % 2]}/{name}", i, count, extra) for i in range(WRITERS)])
        took = time.monotonic() - began
        size = [check_records(f"{m}/{name}", count) for m in mounts][0]
        print(f"{WRITERS * count} records, {size} bytes, {took:.2f} s{' with O_DSYNC' if extra else ''}")
    with open(f"{m1}/bytes", "w"): pass
    began = time.monotonic()
    ends([child(write_bytes, f"{mounts[i % 2]}/bytes", i, 10 * records) for i in range(WRITERS)])
    took = time.monotonic() - began
    for m in mounts:
        with open(f"{m}/bytes", "rb") as f: whole = f.read()
        assert sorted(whole) == sorted(bytes(range(WRITERS)) * (10 * records)), f"{len(whole)} bytes"
    print(f"{len(whole)} single bytes, {took:.2f} s: {took * 1e6 / len(whole):.0f} us each")
    with open(f"{m1}/large", "w"): pass
    ends([child(write_large, f"{mounts[i % 2]}/large", i, 3) for i in range(WRITERS)])
    for m in mounts:
        with open(f"{m}/large", "rb") as f: whole = f.read()
        assert len(whole) == WRITERS * 3 << 20, len(whole)
        assert all(whole.count(bytes([i])) == 3 << 20 for i in range(WRITERS)), "bytes of a large write are lost"

def calls(m1, m2):
    # Read by the same handle, by another one, through mapped pages, here and there.
    with open(f"{m1}/mixed", "wb") as f: f.write(b"start")
    a = os.open(f"{m1}/mixed", os.O_RDWR | os.O_APPEND)
    reader = os.open(f"{m1}/mixed", os.O_RDONLY)
    assert os.pread(reader, 100, 0) == b"start"
    there = os.open(f"{m2}/mixed", os.O_WRONLY | os.O_APPEND)
    os.write(there, b"there")
    os.write(a, b"here")
    assert os.pread(a, 100, 0) == b"starttherehere", os.pread(a, 100, 0)
    assert os.pread(reader, 100, 0) == b"starttherehere", os.pread(reader, 100, 0)
    assert os.fstat(a).st_size == 14 and os.lseek(reader, 0, os.SEEK_END) == 14
    with mmap.mmap(a, 14) as pages:
        assert pages[:] == b"starttherehere"
        pages[:5] = b"START"
        pages.flush()
    assert os.pread(a, 14, 0) == b"STARTtherehere"
    # pwrite(2) appends, too, as Linux has it, until the flag goes.
    os.pwrite(a, b"!", 0)
    assert os.pread(a, 100, 0) == b"STARTtherehere!"
    fcntl.fcntl(a, fcntl.F_SETFL, 0)
    os.pwrite(a, b"s", 0)
    assert os.pread(a, 100, 0) == b"sTARTtherehere!"
    fcntl.fcntl(a, fcntl.F_SETFL, os.O_APPEND)
    os.write(a, b"?")
    assert os.pread(a, 100, 0) == b"sTARTtherehere!?"
    # What is cut elsewhere is the end of here.
    os.truncate(f"{m2}/mixed", 3)
    time.sleep(0.1)
    os.write(a, b"new")
    assert os.pread(a, 100, 0) == b"sTAnew", os.pread(a, 100, 0)
    for fd in a, reader, there: os.close(fd)
    with open(f"{m2}/mixed", "rb") as f: assert f.read() == b"sTAnew"
    # One that stays open and idle gives the right to append back.
    idle = os.open(f"{m1}/mixed", os.O_WRONLY | os.O_APPEND)
    os.write(idle, b"1")
    began = time.monotonic()
    with open(f"{m2}/mixed", "ab") as f: f.write(b"2")
    assert time.monotonic() - began < 3, "an idle mount keeps the others waiting"
    os.write(idle, b"3")
    os.close(idle)
    with open(f"{m2}/mixed", "rb") as f: assert f.read() == b"sTAnew123"

globals()[sys.argv[1]](*sys.argv[2:])
