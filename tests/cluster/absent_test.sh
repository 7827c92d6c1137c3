#!/bin/bash
# Names that are not there: a mount that alone adds names in a directory does not ask for each of them first, and sees all
# the same at once what another mount adds.
. "$(dirname "$0")/lib.sh"

start --osts 2
mount_more "$T/m2"

# counter NAME: the first mount's
counter() { getfattr --absolute-names --only-values -n strake.stats "$T/m" | awk -v name="$1" '$1 == name { print $2 }'; }

# One question for each name, and not two.
mkdir "$T/m/alone"
asked=$(counter mds_calls) spared=$(counter lookups_absent)
python3 - "$T/m/alone" <<'PY' || fail "names are added"
import os, sys
for n in range(1000): os.close(os.open(f"{sys.argv[1]}/{n}", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
PY
spared=$(($(counter lookups_absent) - spared))
[ "$spared" -gt 300 ] || fail "of 1000 LOOKUPs for names that are not there $spared were spared"
say "1000 files were made by $(($(counter mds_calls) - asked)) questions"

# A directory that was there already: it is read once.
ls "$T/m2/alone" >/dev/null
spared=$(counter lookups_absent)
strake umount "$T/m" || fail "umount"
mount_more "$T/m"
python3 - "$T/m/alone" <<'PY' || fail "names are changed"
import os, sys
for n in range(1000): os.rename(f"{sys.argv[1]}/{n}", f"{sys.argv[1]}/new{n}")
PY
spared=$(counter lookups_absent)
[ "$spared" -gt 200 ] || fail "of 1000 LOOKUPs before a rename $spared were spared"
expect "names" 1000 "$(find "$T/m2/alone" -name 'new*' | wc -l)"

# While one mount adds names as fast as it can, another adds one by each operation there is: when that is done the first has
# the name. It knew the directory to have no other names just before.
timeout "$(limit 100)" python3 - "$T/m" "$T/m2" "$((15 * ${SCALE:-100} / 100 + 3))" <<'PY' || fail "what another mount has added"
import os, sys, threading
here, there, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
os.mkdir(f"{here}/from")

def spared():
    return int(dict(line.split() for line in os.getxattr(here, "strake.stats").decode().splitlines())["lookups_absent"])

ways = {
    "create": lambda p, n: os.close(os.open(p, os.O_WRONLY | os.O_CREAT | os.O_EXCL)),
    "mkdir": lambda p, n: os.mkdir(p),
    "mknod": lambda p, n: os.mkfifo(p),
    "symlink": lambda p, n: os.symlink("x", p),
    "link": lambda p, n: os.link(f"{there}/from/link{n}", p),
    "rename": lambda p, n: os.rename(f"{there}/from/rename{n}", p),
}
before = spared()
for n in range(rounds):
    for way, add in ways.items():
        for prefix in "link", "rename":
            if way == prefix: os.close(os.open(f"{there}/from/{prefix}{n}", os.O_CREAT))
        d = f"{way}{n}"
        os.mkdir(f"{here}/{d}")
        stop = threading.Event()
        def fill():
            i = 0
            while not stop.is_set():
                os.close(os.open(f"{here}/{d}/{i}", os.O_CREAT | os.O_EXCL))
                assert not os.path.lexists(f"{here}/{d}/no{i}")
                i += 1
        for i in range(5): os.close(os.open(f"{here}/{d}/first{i}", os.O_CREAT | os.O_EXCL))
        assert not os.path.lexists(f"{here}/{d}/new")
        filler = threading.Thread(target=fill)
        filler.start()
        try:
            add(f"{there}/{d}/new", n)
            assert os.path.lexists(f"{here}/{d}/new"), f"{way}, round {n}"
        finally:
            stop.set()
            filler.join()
        assert not os.path.lexists(f"{here}/{d}/then")
        os.mkdir(f"{there}/{d}/then")
        assert os.path.isdir(f"{here}/{d}/then"), f"after {way}, round {n}"
assert spared() - before > rounds * len(ways), spared() - before
PY
