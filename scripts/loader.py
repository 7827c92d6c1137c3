#!/usr/bin/env python3
"""Reads a dataset as a training job does, and writes a checkpoint as one does; every byte is compared.

    loader.py sums SOURCE LIST                 the checksum of every regular file below SOURCE, into LIST
    loader.py read MOUNT LIST [WORKERS [EPOCHS]]   read them all below MOUNT, shuffled, by several processes, per epoch
    loader.py checkpoint FILE [MIB]            write FILE.tmp, fsync, rename to FILE, read it back

Prints one line per result for scripts/run.sh to show; exits 1 at the first byte that is wrong.
"""
import hashlib
import multiprocessing
import os
import random
import sys
import time

CHUNK = 1 << 20


def digest_of(path):
    digest, size = hashlib.blake2b(digest_size=16), 0
    with open(path, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            digest.update(data)
            size += len(data)
    return digest.hexdigest(), size


def sum_one(path):
    return (path, *digest_of(path))


def sums(source, list_path):
    paths = []
    for folder, _, names in os.walk(source):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path) and os.path.isfile(path):
                paths.append(path)
    with multiprocessing.Pool(os.cpu_count()) as pool, open(list_path + ".tmp", "w", encoding="utf-8", errors="surrogateescape") as out:
        total = 0
        for path, digest, size in pool.imap_unordered(sum_one, paths, chunksize=64):
            out.write(f"{digest} {size} {os.path.relpath(path, source)}\n")
            total += size
    os.rename(list_path + ".tmp", list_path)
    print(f"dataset {len(paths)} {total}")


def worker(mount, part, results):
    wrong = []
    for digest, size, path in part:
        try:
            got = digest_of(os.path.join(mount, path))
            if got != (digest, size):
                wrong.append(f"{path}: {got[1]} bytes with checksum {got[0]}, not {size} with {digest}")
        except OSError as error:
            wrong.append(str(error))
    results.put((len(wrong), wrong[:10]))  # little: nobody reads until all have ended


def read(mount, list_path, workers=4, epochs=2):
    with open(list_path, encoding="utf-8", errors="surrogateescape") as file:
        entries = [(d, int(s), p) for d, s, p in (line.rstrip("\n").split(" ", 2) for line in file)]
    total = sum(size for _, size, _ in entries)
    for epoch in range(1, epochs + 1):
        random.Random(epoch).shuffle(entries)
        results = multiprocessing.SimpleQueue()
        start = time.monotonic()
        processes = [multiprocessing.Process(target=worker, args=(mount, entries[i::workers], results)) for i in range(workers)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        seconds = time.monotonic() - start
        if any(process.exitcode for process in processes):
            sys.exit(f"epoch {epoch}: a worker has died")
        counts, wrong = zip(*(results.get() for _ in processes))
        if sum(counts):
            print(*(line for lines in wrong for line in lines), sep="\n", file=sys.stderr)
            sys.exit(f"epoch {epoch}: {sum(counts)} of {len(entries)} files are not as the source has them")
        print(f"epoch {epoch} {len(entries)} {total} {seconds:.2f}")


def checkpoint(path, mib=1024):
    rng = random.Random(7)
    blocks = [rng.randbytes(CHUNK) for _ in range(16)]
    tmp = path + ".tmp"
    start = time.monotonic()
    fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for i in range(mib):
        data = blocks[i % 16]
        data = data[i % 997:] + data[: i % 997]
        while data:
            data = data[os.write(fd, data):]
    os.fsync(fd)
    os.close(fd)
    os.rename(tmp, path)
    written = time.monotonic() - start
    start = time.monotonic()
    with open(path, "rb", buffering=0) as file:
        for i in range(mib):
            data = b""
            while len(data) < CHUNK and (more := file.read(CHUNK - len(data))):
                data += more
            want = blocks[i % 16]
            if data != want[i % 997:] + want[: i % 997]:
                sys.exit(f"checkpoint: MiB {i} is not what was written")
        if file.read(1):
            sys.exit("checkpoint: longer than what was written")
    print(f"checkpoint {mib << 20} {written:.2f} {time.monotonic() - start:.2f}")


VERBS = {"sums": sums, "read": read, "checkpoint": checkpoint}

if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in VERBS:
        sys.exit(__doc__)
    VERBS[sys.argv[1]](*[int(a) if a.isdigit() else a for a in sys.argv[2:]])
