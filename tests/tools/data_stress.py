"""
Does drawn things to one file, by every call there is on its bytes, and compares all it reads with a model in memory.

    data_stress.py SEED STEPS MNT [MNT2]

write, read, direct I/O, mapped pages (shared), truncate, fallocate in all its modes, SEEK_DATA and SEEK_HOLE,
copy_file_range within the file and from another, fsync; each also through a mapping or descriptor that was opened before. With
a second mount it changes sides now and then: after fsync and close on one, the file is opened on the other. What is wrong is said
with the seed, the step, and the last steps. Standard library only.
"""
import ctypes, mmap, os, random, sys
from data_edges import KEEP, PUNCH, ZERO, K, M, c

LARGEST = 13 * M + 777
PAGE = 4096

class Stress:
    def __init__(self, seed, mounts):
        self.rng, self.seed = random.Random(seed), seed
        self.paths = [f"{mount}/stress{seed}" for mount in mounts]
        self.model, self.log = bytearray(), []
        self.other = self.rng.randbytes(9 * M)
        with open(self.paths[0] + ".source", "wb") as file:
            file.write(self.other[:3 * M])
            file.seek(5 * M)
            file.write(self.other[5 * M:])
        self.other = self.other[:3 * M] + bytes(2 * M) + self.other[5 * M:]
        self.side = 0
        open(self.paths[0], "wb").close()
        self.open()

    def open(self):
        path = self.paths[self.side]
        self.fd = os.open(path, os.O_RDWR)
        self.direct = os.open(path, os.O_RDWR | os.O_DIRECT)
        self.source = os.open(path + ".source", os.O_RDONLY)
        self.mapped = None

    def close(self):
        if self.mapped: self.mapped.flush(), self.mapped.close()
        os.fsync(self.fd)
        for fd in self.fd, self.direct, self.source: os.close(fd)

    def wrong(self, what):
        sys.exit(f"data_stress: seed {self.seed}, step {len(self.log)}: {what}\n  " + "\n  ".join(self.log[-12:]))

    def call(self, name, *args):
        result = c(name, *args)
        if not isinstance(result, int): self.wrong(f"{name}{args[1:]}: {result}")
        return result

    def place(self, most=600 * K):
        rng = self.rng
        at = rng.choice((rng.randrange(LARGEST), rng.randrange(LARGEST) // PAGE * PAGE, rng.randrange(0, LARGEST, M), rng.randrange(20 * K)))
        size = rng.choice((rng.randint(1, 100), rng.randint(1, most), PAGE * rng.randint(1, 16), 64 * K))
        return at, min(size, LARGEST - at)

    def put(self, at, data):
        if len(self.model) < at: self.model.extend(bytes(at - len(self.model)))
        self.model[at:at + len(data)] = data

    def bytes(self, size):
        return bytes([self.rng.randrange(1, 256)]) * size if size > 100 * K else self.rng.randbytes(size)

    def check(self, at, got, size):
        wanted = bytes(self.model[at:at + size])
        if got == wanted: return
        if len(got) != len(wanted): self.wrong(f"read at {at}: {len(got)} bytes, not {len(wanted)}")
        first = next(i for i in range(len(got)) if got[i] != wanted[i])
        self.wrong(f"read at {at}: byte {at + first} is {got[first]}, not {wanted[first]}")

    # --- what is done

    def write(self):
        at, size = self.place()
        data = self.bytes(size)
        self.note("write", at, size)
        if os.pwrite(self.fd, data, at) != size: self.wrong("short write")
        self.put(at, data)

    def write_direct(self):
        at, size = (n // PAGE * PAGE for n in self.place())
        if size == 0: return
        memory = mmap.mmap(-1, size)
        memory[:] = self.bytes(size)
        self.note("direct write", at, size)
        if os.pwritev(self.direct, [memory], at) != size: self.wrong("short direct write")
        self.put(at, memory[:])

    def read(self):
        at, size = self.place(2 * M)
        self.note("read", at, size)
        self.check(at, os.pread(self.fd, size, at), size)

    def read_direct(self):
        at, size = (n // PAGE * PAGE for n in self.place(2 * M))
        if size == 0: return
        memory = mmap.mmap(-1, size)
        self.note("direct read", at, size)
        got = os.preadv(self.direct, [memory], at)
        self.check(at, memory[:got], size)

    def store(self):
        """Into a mapping of what there is, which is kept for a while."""
        if not self.model: return
        if self.mapped is None or len(self.mapped) > len(self.model) or self.rng.random() < 0.3:
            if self.mapped is not None: self.mapped.close()
            self.mapped = mmap.mmap(self.fd, len(self.model))
        at = self.rng.randrange(len(self.mapped))
        data = self.bytes(min(self.rng.randint(1, 10000), len(self.mapped) - at))
        self.note("store", at, len(data))
        self.mapped[at:at + len(data)] = data
        self.put(at, data)
        if self.rng.random() < 0.3: self.mapped.flush()

    def load(self):
        if self.mapped is None or len(self.mapped) > len(self.model): return
        at = self.rng.randrange(len(self.mapped))
        size = min(self.rng.randint(1, 100000), len(self.mapped) - at)
        self.note("load", at, size)
        self.check(at, self.mapped[at:at + size], size)

    def truncate(self):
        size = self.rng.choice((self.place()[0], len(self.model), max(0, len(self.model) - self.rng.randint(0, 9000)), 0))
        self.note("truncate", size)
        os.ftruncate(self.fd, size)
        if size < len(self.model): del self.model[size:]
        else: self.model.extend(bytes(size - len(self.model)))

    def fallocate(self):
        mode = self.rng.choice((0, KEEP, PUNCH | KEEP, PUNCH | KEEP, ZERO, ZERO | KEEP))
        at, size = self.place(3 * M)
        self.note("fallocate", mode, at, size)
        self.call("fallocate", self.fd, mode, at, size)
        end = at + size
        if mode in (0, ZERO) and len(self.model) < end: self.model.extend(bytes(end - len(self.model)))
        if mode & (PUNCH | ZERO) and at < len(self.model):
            part = min(end, len(self.model)) - at
            self.model[at:at + part] = bytes(part)

    def copy(self):
        within = self.rng.random() < 0.5
        source, data, at = (self.fd, self.model, self.place()[0]) if within else (self.source, self.other, self.rng.randrange(8 * M))
        size = self.rng.choice((self.rng.randint(1, 5 * M), 4 * M, 64 * K))
        to = self.rng.choice((at, at % (4 * M) + 4 * M * self.rng.randrange(3), self.place()[0]))
        size = min(size, LARGEST - to, max(0, len(data) - at))
        if size <= 0 or (within and at < to + size and to < at + size): return
        self.note("copy", "within" if within else "from another", at, to, size)
        done = 0
        while done < size:
            n = self.call("copy_file_range", source, ctypes.byref(ctypes.c_int64(at + done)), self.fd,
                          ctypes.byref(ctypes.c_int64(to + done)), size - done, 0)
            if n == 0: self.wrong(f"copy ends after {done}")
            done += n
        self.put(to, bytes(data[at:at + size]))

    def seek(self):
        """Whatever is not zero is data, and what is told as a hole is zeros."""
        if not self.model: return
        at = self.rng.randrange(len(self.model))
        if self.mapped is not None: self.mapped.flush()
        self.note("seek", at)
        data, hole = c("lseek", self.fd, at, os.SEEK_DATA), c("lseek", self.fd, at, os.SEEK_HOLE)
        end = data if isinstance(data, int) else len(self.model)
        if any(self.model[at:end]): self.wrong(f"SEEK_DATA at {at} says {data}, and there is data before it")
        if not isinstance(hole, int) or hole > len(self.model): self.wrong(f"SEEK_HOLE at {at} says {hole}")

    def sync(self):
        self.note("sync")
        if self.mapped is not None: self.mapped.flush()
        os.fsync(self.fd)

    def size(self):
        self.note("size")
        if os.fstat(self.fd).st_size != len(self.model): self.wrong(f"size {os.fstat(self.fd).st_size}, not {len(self.model)}")

    def change(self):
        """To the other mount, with what the promise asks for."""
        self.note("change")
        self.close()
        self.side = (self.side + 1) % len(self.paths)
        self.open()

    def note(self, *what): self.log.append(" ".join(map(str, what)))

    WEIGHTS = {"write": 20, "write_direct": 6, "read": 15, "read_direct": 6, "store": 8, "load": 6, "truncate": 5, "fallocate": 8,
               "copy": 8, "seek": 6, "sync": 3, "size": 5, "change": 4}

    def run(self, steps):
        names, weights = zip(*self.WEIGHTS.items())
        for step in range(steps):
            getattr(self, self.rng.choices(names, weights)[0])()
            if step % 200 == 199:
                self.note("all")
                self.check(0, os.pread(self.fd, LARGEST + 1, 0), LARGEST + 1)
        self.close()
        for path in self.paths:
            with open(path, "rb") as file: self.check(0, file.read(), LARGEST + 1)
        os.unlink(self.paths[0]), os.unlink(self.paths[0] + ".source")

def main():
    seed, steps = int(sys.argv[1]), int(sys.argv[2])
    Stress(seed, sys.argv[3:]).run(steps)
    print(f"data_stress: seed {seed}, {steps} steps")

if __name__ == "__main__": main()
