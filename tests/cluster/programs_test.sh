#!/bin/bash
# Programs that people use, on a mount as on a local disk: git, sqlite, tar, rsync, make, cp, find, du, tail, a disk in a file,
# locks of all sorts, and how editors save. Where two mounts can share what they work on, they do.
. "$(dirname "$0")/lib.sh"

command -v rsync >/dev/null || skip "needs rsync (make deps installs it)"
TREE=$(cd "$(dirname "$0")/../.." && pwd)
start --osts 4
mount_more "$T/m2" -o strict # rsync and make go by stat alone, at once
rounds=$((${SCALE:-100} / 5 + 1))

# quietly COMMAND...: what it says is shown when it fails.
quietly() { "$@" >"$T/said" 2>&1 || { cat "$T/said" >&2; fail "$*"; }; }

# --- git ----------------------------------------------------------------------------------------------------------------

export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
git() { command git -c user.name=tester -c user.email=tester@localhost -c gc.auto=0 "$@"; }
unchanged() { expect "git status of $1" "" "$(git -C "$1" status --porcelain)"; }

G=$T/m/git
mkdir "$G"
quietly git init -q -b main "$G/origin"
cp -r "$TREE/common" "$TREE/proto" "$G/origin/"
python3 - "$G/origin" $((25 * ${SCALE:-100})) <<'PY' || fail "many files"
import os, sys
for n in range(int(sys.argv[2])):
    path = f"{sys.argv[1]}/many/{n % 50}/{n}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f: f.write(f"file {n}\n" * (n % 100 + 1))
PY
quietly git -C "$G/origin" add .
quietly git -C "$G/origin" commit -q -m first
loose=$(git -C "$G/origin" count-objects | cut -d ' ' -f 1)
[ "$loose" -gt $((25 * ${SCALE:-100})) ] || fail "$loose objects in a repository of thousands"
unchanged "$G/origin"
quietly git clone -q --no-local "$G/origin" "$G/clone"
quietly git clone -q "$G/origin" "$G/linked" # its objects are links
last=loop.c
for i in 1 2 3; do
	quietly git -C "$G/clone" mv "common/$last" "common/loop$i.c"
	last=loop$i.c
	echo "// $i" >>"$G/clone/common/loop$i.c"
	quietly git -C "$G/clone" commit -q -a -m "change $i"
done
quietly git -C "$G/clone" checkout -q -b side HEAD~2
echo side >"$G/clone/side"
quietly git -C "$G/clone" add side
quietly git -C "$G/clone" commit -q -m side
quietly git -C "$G/clone" rebase -q main
quietly git -C "$G/clone" push -q origin side
quietly git -C "$G/clone" gc -q --prune=now
quietly git -C "$G/clone" fsck --full --strict
unchanged "$G/clone"
echo dirty >>"$G/clone/side"
quietly git -C "$G/clone" stash
unchanged "$G/clone"
quietly git -C "$G/clone" bisect start HEAD HEAD~4
quietly git -C "$G/clone" bisect run sh -c 'test -e common/loop.c || test -e common/loop1.c'
expect "the commit that bisect finds" "change 2" "$(git -C "$G/clone" log -1 --format=%s refs/bisect/bad)"
quietly git -C "$G/clone" bisect reset
quietly git -C "$G/clone" worktree add -q "$G/worktree" HEAD~1
unchanged "$G/worktree"
quietly git -C "$G/clone" worktree remove "$G/worktree"
quietly git -C "$G/clone" stash pop
expect "what was stashed" "side dirty" "$(tr '\n' ' ' <"$G/clone/side" | sed 's/ $//')"
quietly git -C "$G/clone" checkout -q side -- side
unchanged "$G/clone"
# By the other mount it is the same repository, and goes on there.
unchanged "$T/m2/git/clone"
quietly git -C "$T/m2/git/linked" pull -q --no-rebase origin side
expect "what came by the other mount" side "$(cat "$G/linked/side")"
quietly git -C "$G/linked" fsck --full --strict
unchanged "$G/linked"

# --- tar, rsync, cp, find, du ---------------------------------------------------------------------------------------------

# A tree with all that an archive has to bring along, on the local disk.
mkdir -p "$T/tree/sub/deep" "$T/tree/empty"
cp -r "$TREE/proto" "$T/tree/"
head -c 3000000 /dev/urandom >"$T/tree/large"
truncate -s 20M "$T/tree/sparse"
echo data | dd of="$T/tree/sparse" bs=1M seek=9 conv=notrunc status=none
ln "$T/tree/large" "$T/tree/sub/link"
ln -s ../large "$T/tree/sub/symlink"
ln -s nowhere "$T/tree/dangling"
mkfifo "$T/tree/fifo"
echo x >"$T/tree/sub/deep/$(printf 'long%.0s' {1..60})"
chmod 4711 "$T/tree/large"
chmod 1777 "$T/tree/empty"
chown 1234:5678 "$T/tree/sub/deep"
touch -d '1999-12-31 23:59:59.123456789' "$T/tree/large" "$T/tree/sub"

mkdir "$T/m/tar"
tar -C "$T/tree" --format=posix --sparse -cf "$T/m/tree.tar" . || fail "tar to the mount"
tar -C "$T/m/tar" -xf "$T/m/tree.tar" || fail "tar on the mount"
same "$T/tree" "$T/m/tar"
same "$T/tree" "$T/m2/tar"
tar -C "$T/m2/tar" -df "$T/m/tree.tar" ./proto || fail "tar finds differences by the other mount"

# Without that it takes times of one second for the same, and leaves them.
rsync() { command rsync --modify-window=-1 "$@"; }
quietly rsync -aHS "$T/tree/" "$T/m/rsync/"
same "$T/tree" "$T/m/rsync"
expect "what rsync would still copy" "" "$(rsync -aHSi --delete "$T/tree/" "$T/m2/rsync/")"
echo more >>"$T/tree/large"
quietly rsync -aHS --inplace --no-whole-file "$T/tree/" "$T/m/rsync/"
quietly rsync -aH "$T/m2/rsync/" "$T/back/"
same "$T/tree" "$T/back"

quietly cp -a --reflink=auto "$T/m/rsync" "$T/m/copy"
same "$T/tree" "$T/m2/copy"
quietly cp --sparse=always "$T/m/copy/sparse" "$T/m/sparser"
cmp "$T/m2/sparser" "$T/tree/sparse" || fail "cp --sparse=always"
rm "$T/m/sparser"

for criterion in '-links +1 -type f' '-newer TOP/large' '-type l' '-perm -4000' '-size +1000k' '-user 1234' '-empty'; do
	for top in "$T/tree" "$T/m/copy" "$T/m2/copy"; do
		# shellcheck disable=SC2086 # words
		find "$top" ${criterion//TOP/$top} -printf '%P\n' | LC_ALL=C sort >"$T/found.$(basename "$top")$(basename "$(dirname "$top")")"
	done
	cmp -s "$T"/found.tree* "$T/found.copym" && cmp -s "$T"/found.tree* "$T/found.copym2" || fail "find $criterion"
done
expect "du's bytes, a file with two names counted once" "$(cd "$T/tree" && find . -type f -printf '%i %s\n' | sort -u | awk '{ n += $2 } END { print n }')" \
	"$(find "$T/m/copy" -type f -print0 | du -cb --files0-from=- | tail -n 1 | cut -f1)"
[ "$(du -k "$T/m/copy/sparse" | cut -f1)" -lt 10000 ] || fail "du: a sparse file takes $(du -k "$T/m/copy/sparse")"

# --- make -----------------------------------------------------------------------------------------------------------------

mkdir "$T/m/project"
for ((i = 0; i < 12; i++)); do
	printf '#include "all.h"\nint f%d(int x) { return x + %d; }\n' $i $i >"$T/m/project/f$i.c"
	echo "int f$i(int x);"
done >"$T/m/project/all.h"
printf '#include "all.h"\nint main(void) { return f1(f2(-3)); }\n' >"$T/m/project/main.c"
cat >"$T/m/project/Makefile" <<'MAKE'
OBJECTS := $(patsubst %.c,%.o,$(wildcard *.c))
program: $(OBJECTS)
	$(CC) -o $@ $^
-include $(OBJECTS:.o=.d)
%.o: %.c
	$(CC) -MMD -c -o $@ $<
MAKE
quietly make -C "$T/m/project" -j 4 CC=gcc
! grep -qi skew "$T/said" || fail "make: $(cat "$T/said")"
"$T/m2/project/program" || fail "a program that was made on the mount"
expect "what make would do again, by the other mount" "" "$(make -s -C "$T/m2/project" -n CC=gcc | grep -v 'Nothing to be done')"
touch "$T/m/project/f3.c"
expect "what make does after a touch there" 2 "$(make --no-print-directory -C "$T/m2/project" -j 4 CC=gcc | wc -l)"

# What runs is not written to, but replaced, as packages do it.
cp "$(type -P sleep)" "$T/m/runs"
"$T/m/runs" 1000 &
runs=$!
PIDS="$PIDS $runs"
does_run() { [ "$(readlink "/proc/$runs/exe")" = "$T/m/runs" ]; }
await "a program on the mount to run" does_run
(echo more >>"$T/m/runs") 2>"$T/said" && fail "a program that runs was written to"
grep -q 'Text file busy' "$T/said" || fail "who writes to a program that runs is told: $(cat "$T/said")"
cp "$(type -P true)" "$T/m/runs.new"
mv -f "$T/m/runs.new" "$T/m/runs"
"$T/m2/runs" || fail "a program that was replaced while it ran"
alive "$runs" || fail "who runs a program that was replaced has ended"
disown "$runs"
kill "$runs"

# --- a disk in a file, a log ------------------------------------------------------------------------------------------------

# As virtual machines and containers have it. Where there are no loop devices, it is only made and checked.
truncate -s 64M "$T/m/disk"
quietly mkfs.ext4 -q "$T/m/disk"
mkdir "$T/disk"
# in_disk MOUNT OPTIONS COMMAND...
in_disk() {
	local status
	mount -o "loop,$2" "$T/$1/disk" "$T/disk" 2>/dev/null || return 0
	("${@:3}")
	status=$?
	umount "$T/disk" || fail "umount of a disk in a file"
	[ "$status" = 0 ] || fail "${*:3}"
}
in_disk m rw cp -a "$T/tree" "$T/disk/"
quietly e2fsck -fn "$T/m2/disk"
in_disk m2 ro same "$T/tree" "$T/disk/tree"

# A log that is followed, rotated, and written by another mount.
echo first >"$T/m/log"
tail -s 0.1 -n +1 -F "$T/m/log" >"$T/followed" 2>/dev/null &
follower=$!
PIDS="$PIDS $follower"
await "tail to tell what is there" grep -qx first "$T/followed"
mv "$T/m/log" "$T/m/log.1"
echo second >"$T/m/log"
await "tail to follow a log that was rotated" grep -qx second "$T/followed"
echo third >>"$T/m2/log"
await "tail to tell what another mount has written" grep -qx third "$T/followed"
expect "what tail has told" "first second third" "$(tr '\n' ' ' <"$T/followed" | sed 's/ $//')"
disown "$follower"
kill "$follower"

# --- sqlite, python -------------------------------------------------------------------------------------------------------

# Several processes move money; one of them is killed at any moment; the sum stays, in both journal modes.
python3 - "$T/m" "$rounds" <<'PY' || fail "sqlite"
import multiprocessing, os, random, signal, sqlite3, sys, time
mount, rounds = sys.argv[1], int(sys.argv[2])
ACCOUNTS, EACH = 40, 100
def connect(path):
    db = sqlite3.connect(path, timeout=60, isolation_level=None)
    db.execute("pragma synchronous=full")
    return db
def move(path, seed, forever):
    db, rng, done = connect(path), random.Random(seed), 0
    while forever or done < rounds:
        a, b = rng.sample(range(ACCOUNTS), 2)
        db.execute("begin immediate")
        db.execute("update account set money = money - 1 where id = ?", (a,))
        db.execute("update account set money = money + 1 where id = ?", (b,))
        db.execute("insert into log values (?, ?, ?)", (seed, done, os.urandom(rng.randrange(3000))))
        db.execute("commit")
        done += 1
def look(path, until):
    db = connect(path)
    while not until.is_set():
        assert db.execute("select sum(money) from account").fetchone() == (ACCOUNTS * EACH,)
for mode in ("delete", "wal"):
    path = f"{mount}/{mode}.db"
    db = connect(path)
    assert db.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
    db.execute("create table account (id integer primary key, money integer)")
    db.execute("create table log (who integer, n integer, junk blob, unique (who, n))")
    db.executemany("insert into account values (?, ?)", ((i, EACH) for i in range(ACCOUNTS)))
    db.close()
    until = multiprocessing.Event()
    reader = multiprocessing.Process(target=look, args=(path, until))
    doomed = multiprocessing.Process(target=move, args=(path, 99, True))
    movers = [multiprocessing.Process(target=move, args=(path, seed, False)) for seed in range(3)]
    for p in (reader, doomed, *movers): p.start()
    time.sleep(0.3)  # it is to be killed in the midst of its work
    doomed.kill()
    for p in movers: p.join()
    until.set(); reader.join(); doomed.join()
    assert [p.exitcode for p in (reader, *movers)] == [0] * 4
    db = connect(path)
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]
    assert db.execute("select count(*) from log where who < 99").fetchone() == (3 * rounds,)
    assert db.execute("select sum(money) from account").fetchone() == (ACCOUNTS * EACH,)
    db.execute("vacuum"); db.close()
PY
python3 - "$T/m2" "$rounds" <<'PY' || fail "sqlite by the other mount"
import sqlite3, sys
for mode in ("delete", "wal"):
    db = sqlite3.connect(f"{sys.argv[1]}/{mode}.db")
    assert db.execute("pragma integrity_check").fetchall() == [("ok",)], mode
    assert db.execute("select count(*) from log where who < 99").fetchone() == (3 * int(sys.argv[2]),), mode
PY

# A pool that fills one file, each process its parts, by pwrite and by a map; archives and copies of the library.
python3 - "$T/m" "$T/m2" <<'PY' || fail "python"
import hashlib, mmap, multiprocessing, os, shutil, sys, tempfile, zipfile
here, there = sys.argv[1:]
PART, PARTS = 65537, 40
def content(i): return hashlib.shake_128(b"%d" % i).digest(PART)
def fill(i):
    fd = os.open(f"{here}/parts", os.O_RDWR)
    if i % 2: os.pwrite(fd, content(i), i * PART)
    else:
        with mmap.mmap(fd, PART * PARTS) as pages: pages[i * PART:(i + 1) * PART] = content(i)
    os.close(fd)
    return i
with open(f"{here}/parts", "wb") as f: f.truncate(PART * PARTS)
with multiprocessing.Pool(4) as pool: assert sorted(pool.imap_unordered(fill, range(PARTS))) == list(range(PARTS))
with open(f"{here}/parts", "rb") as f: assert f.read() == b"".join(map(content, range(PARTS)))
os.sync()
with open(f"{there}/parts", "rb") as f: assert f.read() == b"".join(map(content, range(PARTS)))
with tempfile.TemporaryDirectory(dir=here) as d:
    with zipfile.ZipFile(f"{d}/z", "w", zipfile.ZIP_DEFLATED) as z:
        for i in range(5): z.writestr(f"d/{i}", content(i))
    with zipfile.ZipFile(f"{there}/{os.path.basename(d)}/z") as z: assert z.testzip() is None
    shutil.unpack_archive(f"{d}/z", f"{d}/out", "zip")
    shutil.copytree(f"{d}/out", f"{d}/again")
    shutil.move(f"{d}/again/d", f"{d}/moved")
    assert sorted(os.listdir(f"{there}/{os.path.basename(d)}/moved")) == list("01234")
PY

# --- locks, and how editors save --------------------------------------------------------------------------------------------

# flock(1): every one of many increments counts.
echo 0 >"$T/m/counter"
increments() {
	for ((i = 0; i < rounds; i++)); do
		flock "$T/m/counter.lock" sh -c 'n=$(cat "$1"); echo $((n + 1)) >"$1"' sh "$T/m/counter" || return 1
	done
}
workers=()
for w in 1 2 3; do increments & workers+=($!); done
for w in "${workers[@]}"; do wait "$w" || fail "flock"; done
expect "increments under flock" $((3 * rounds)) "$(cat "$T/m/counter")"
flock "$T/m/counter.lock" flock -n "$T/m/counter.lock" true && fail "two have an exclusive lock"
flock -s "$T/m/counter.lock" flock -s -n "$T/m/counter.lock" true || fail "two cannot share a lock"

# Locks made of files, from two mounts: by O_EXCL, by mkdir, by link(2); and a file that is replaced as editors do it, which
# is always wholly there.
python3 - "$T/m" "$T/m2" "$rounds" <<'PY' || fail "dot locks"
import multiprocessing, os, sys, time
mounts, rounds = sys.argv[1:3], int(sys.argv[3])
def by_excl(d, me):
    while True:
        try: os.close(os.open(f"{d}/lock", os.O_CREAT | os.O_EXCL | os.O_WRONLY)); return lambda: os.unlink(f"{d}/lock")
        except FileExistsError: time.sleep(0.001)
def by_mkdir(d, me):
    while True:
        try: os.mkdir(f"{d}/lock"); return lambda: os.rmdir(f"{d}/lock")
        except FileExistsError: time.sleep(0.001)
def by_link(d, me):
    mine = f"{d}/lock.{me}"
    os.close(os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    while True:
        try: os.link(mine, f"{d}/lock"); break
        except FileExistsError: time.sleep(0.001)
    assert os.stat(mine).st_nlink == 2
    os.unlink(mine)
    return lambda: os.unlink(f"{d}/lock")
def work(how, me):
    d = f"{mounts[me % 2]}/dot"
    for i in range(rounds):
        unlock = how(d, me)
        with open(f"{d}/n") as f: n = int(f.read())
        with open(f"{d}/n.{me}", "x") as f: f.write(f"{n + 1}\n"); f.flush(); os.fsync(f.fileno())
        os.rename(f"{d}/n.{me}", f"{d}/n")
        unlock()
def watch(d, done):
    last = 0
    while not done.is_set():
        with open(f"{d}/n") as f: now = int(f.read())
        assert now >= last, (now, last)
        last = now
for how in (by_excl, by_mkdir, by_link):
    os.makedirs(f"{mounts[0]}/dot", exist_ok=True)
    with open(f"{mounts[0]}/dot/n", "w") as f: f.write("0\n")
    done = multiprocessing.Event()
    workers = [multiprocessing.Process(target=work, args=(how, me)) for me in range(4)]
    watchers = [multiprocessing.Process(target=watch, args=(f"{m}/dot", done)) for m in mounts]
    for p in workers + watchers: p.start()
    for p in workers: p.join()
    done.set()
    for p in watchers: p.join()
    assert [p.exitcode for p in workers + watchers] == [0] * 6, how
    for m in mounts:
        with open(f"{m}/dot/n") as f: assert int(f.read()) == 4 * rounds, how

# vim: the old file goes aside, the new one is made under its name, keeps mode and owner, then the old one goes.
os.chdir(mounts[0])
with open("text", "w") as f: f.write("version 0\n")
os.chmod("text", 0o640); os.chown("text", 12, 34)
for i in range(1, rounds):
    old = os.stat("text")
    with open(".text.swp", "x+") as swap:
        swap.write("b0VIM"); swap.flush(); os.fsync(swap.fileno())
        os.rename("text", "text~")
        with open("text", "x") as f:
            os.fchmod(f.fileno(), old.st_mode & 0o7777); os.fchown(f.fileno(), old.st_uid, old.st_gid)
            f.write(f"version {i}\n"); f.flush(); os.fsync(f.fileno())
        with open(f"{mounts[1]}/text") as f: assert f.read() == f"version {i}\n"
        with open(f"{mounts[1]}/text~") as f: assert f.read() == f"version {i - 1}\n"
        os.unlink("text~"); os.unlink(".text.swp")
    with open(f"{mounts[1]}/text") as f: st = os.fstat(f.fileno())
    assert (st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_nlink) == (0o640, 12, 34, 1)
assert sorted(n for n in os.listdir(mounts[1]) if "text" in n) == ["text"]
PY
