#!/bin/bash
# Stat-ahead: names of one directory that are looked up cold, one after the other, cost few requests; what another mount does
# to them is seen within a second by stat and at once by open, and what is done here at once by all.
. "$(dirname "$0")/lib.sh"

start --osts 2
mount_more "$T/m2"
mount_more "$T/s" -o strict

# stat NAME MOUNT: one of the mount's counters
stat_of() { getfattr --absolute-names --only-values -n strake.stats "$2" | awk -v name="$1" '$1 == name { print $2 }'; }

python3 - "$T/m/d" 2000 <<'PY' || fail "make"
import os, sys
os.mkdir(sys.argv[1])
for n in range(int(sys.argv[2])):
    with open(f"{sys.argv[1]}/{n}", "w") as f: f.write("x" * (n % 10))
PY
sleep 2.1 # what is younger is not fetched
cat >"$T/cold.py" <<'PY'
import os, random, sys
names = list(range(2000))
random.Random(1).shuffle(names)
for n in names:
    st = os.stat(f"{sys.argv[1]}/d/{n}")
    assert (st.st_size, st.st_nlink) == (n % 10, 1), (n, st)
PY
# A busy machine may need so long for them that what was fetched is too old: then the next mount.
few() {
	local before after
	umount_again "$T/m2"
	before=$(stat_of mds_calls "$T/m2")
	python3 "$T/cold.py" "$T/m2" || fail "stat"
	after=$(stat_of mds_calls "$T/m2")
	say "$((after - before)) requests for 2,000 names, $(stat_of lookups_ahead "$T/m2") answered from $(stat_of names_ahead "$T/m2")"
	[ $((after - before)) -le 400 ]
}
umount_again() {
	strake umount "$1" && strake -m "$MGS" mount "$1" || fail "mount again"
}
few || few || few || fail "too many requests"

# With strict all are asked for.
before=$(stat_of mds_calls "$T/s")
python3 "$T/cold.py" "$T/s" || fail "stat, strict"
after=$(stat_of mds_calls "$T/s")
[ $((after - before)) -ge 2000 ] || fail "strict: $((after - before)) requests"
expect "fetched, strict" 0 "$(stat_of names_ahead "$T/s")"

# Another mount does things to names that were fetched here and that nobody has asked for; then this one does.
cat >"$T/others.py" <<'PY'
import fcntl, os, sys, time
here, there, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])

def saved():
    text = os.getxattr(here, "strake.stats").decode()
    return int(dict(line.split() for line in text.splitlines())["lookups_ahead"])

def make(path, content):
    with open(path, "w") as f: f.write(content)

def is_there(path):
    try: os.stat(path)
    except FileNotFoundError: return False
    return True

def read(path):
    with open(path) as f: return f.read()

def fetch(d):
    """Have it fetched. Nothing that was fetched before is believed any more then."""
    for _ in range(20):
        time.sleep(1.1)
        before = saved()
        for i in range(400):
            os.stat(f"{d}/warm{i}")
            if saved() > before: return
    sys.exit("nothing was fetched")

def until(what, begun, check):
    """Seen within a second of when it could be fetched; and some time for a busy machine."""
    while not check():
        if time.monotonic() - begun > 3: sys.exit(f"{what} is not seen")
        time.sleep(0.01)  # between two looks

used = 0
for n in range(rounds):
    d, e = f"{here}/o{n}", f"{there}/o{n}"
    os.mkdir(e)
    for i in range(400): make(f"{e}/warm{i}", "")
    for i in range(8):
        make(f"{e}/a{i}", "old")
        make(f"{e}/r{i}", "old")
        make(f"{e}/u{i}", "old")
        make(f"{e}/t{i}", "old")
    fetch(d)
    begun = time.monotonic()
    for i in range(8):
        os.rename(f"{e}/a{i}", f"{e}/b{i}")
        make(f"{e}/new", "new one")
        os.rename(f"{e}/new", f"{e}/r{i}")
        os.unlink(f"{e}/u{i}")
        os.truncate(f"{e}/t{i}", 1)
    # At once: what an open finds.
    before = saved()
    for i in range(4):
        assert read(f"{d}/r{i}") == "new one", read(f"{d}/r{i}")
        for name in f"a{i}", f"u{i}":
            try: read(f"{d}/{name}")
            except FileNotFoundError: continue
            sys.exit(f"{name} is opened")
        assert read(f"{d}/b{i}") == "old" and read(f"{d}/t{i}") == "o"
        os.truncate(f"{d}/r{i}", 3)   # by the name, without an open
        assert read(f"{e}/r{i}") == "new", read(f"{e}/r{i}")
    used += saved() > before
    # Within a second: what stat sees. And never what was before again.
    for i in range(4, 8):
        until("a rename", begun, lambda: not is_there(f"{d}/a{i}"))
        until("a replacement", begun, lambda: os.stat(f"{d}/r{i}").st_size == 7)
        until("an unlink", begun, lambda: not is_there(f"{d}/u{i}"))
        until("a truncate", begun, lambda: os.stat(f"{d}/t{i}").st_size == 1)
        assert is_there(f"{d}/b{i}")
    # At once: what is seen under a lock.
    fetch(d)
    os.rename(f"{e}/t1", f"{e}/u1")
    with open(f"{d}/b1", "r+") as f:
        fcntl.lockf(f, fcntl.LOCK_EX)
        assert not is_there(f"{d}/t1") and is_there(f"{d}/u1"), "seen under a lock"
    # Here: at once.
    fetch(d)
    for i in range(100, 140):
        a, b = f"{d}/warm{i}", f"{d}/moved{i}"
        os.rename(a, b)
        assert not is_there(a) and is_there(b)
        make(a, "made")
        assert os.stat(a).st_size == 4 and os.stat(a).st_ino != os.stat(b).st_ino
        os.chmod(f"{d}/warm{i + 100}", 0o600)
        os.link(f"{d}/warm{i + 100}", f"{d}/linked{i}")
        st = os.stat(f"{d}/warm{i + 100}")
        assert (st.st_mode & 0o777, st.st_nlink) == (0o600, 2), st
        os.unlink(f"{d}/warm{i + 200}")
        assert not is_there(f"{d}/warm{i + 200}")
    if used > 0: break
assert used > 0, "no open came by a name that was fetched"
PY
timeout "$(limit 100)" python3 "$T/others.py" "$T/m2" "$T/m" 3 || fail "others"

# Who may look up and not list is told, too; and who may not even look up is not.
chmod 755 "$T"
mkdir -m 711 "$T/m/p"
for ((i = 0; i < 200; i++)); do echo >"$T/m/p/f$i"; done
sleep 2.1 # what is younger is not fetched
# by_user HOW MANY: so many of them are there for that user
by_user() {
	expect "names that are told" "$1" "$(cd / && setpriv --reuid 4711 --regid 4711 --clear-groups bash -c '
		for ((i = 0; i < 200; i++)); do [ ! -e "$1/p/f$i" ] || echo; done | wc -l' - "$T/m2")"
}
told() {
	umount_again "$T/m2"
	by_user 200
	[ "$(stat_of lookups_ahead "$T/m2")" -gt 0 ]
}
told || told || told || fail "nothing is fetched of what may not be listed"
chmod 700 "$T/m/p"
sleep 1.1 # the kernel believes nothing of its mode any more
by_user 0
