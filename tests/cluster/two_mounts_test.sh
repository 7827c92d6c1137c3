#!/bin/bash
# Two mounts of one filesystem: who opens a file after another has closed it sees what was written, names and sizes too.
. "$(dirname "$0")/lib.sh"

start --osts 3
mount_more "$T/m2" -o strict
strake umount "$T/m" || fail "umount"
mkdir -p "$T/m1"
mount_more "$T/m1" -o strict

for i in 1 2 3 4 5; do
	head -c $((i * 300000)) /dev/urandom >"$T/m1/f"
	cmp -s "$T/m1/f" "$T/m2/f" || fail "written here, other there ($i)"
	echo "line $i" >>"$T/m2/f"
	expect "tail" "line $i" "$(tail -c 7 "$T/m1/f")"
	: >"$T/m1/f"
	expect "size after a truncate elsewhere" 0 "$(wc -c <"$T/m2/f")"
done
mkdir "$T/m1/d"
[ -d "$T/m2/d" ] || fail "mkdir is not seen"
mv "$T/m2/d" "$T/m2/e"
[ ! -e "$T/m1/d" ] && [ -d "$T/m1/e" ] || fail "rename is not seen"

# A subdirectory as a source of its own.
mkdir -p "$T/m1/sub/dir" "$T/s"
echo inside >"$T/m1/sub/dir/file"
MOUNTS="$MOUNTS $T/s"
mount.strake "$MGS:/sub/dir" "$T/s" || fail "mount of a subdirectory"
expect "file in the subdirectory" inside "$(cat "$T/s/file")"

# Unlinked there, open here: readable until closed.
exec 3<"$T/m1/sub/dir/file"
rm "$T/m2/sub/dir/file"
expect "an unlinked open file" inside "$(cat <&3)"
exec 3<&-

# Content that changed with neither size nor time showing it is read anew; what has not changed is not read again.
python3 - "$T/m1/hidden" "$T/m2/hidden" <<'PY' || fail "changed in hiding"
import os, sys
here, there = sys.argv[1:]
def get(path):
    with open(path, "rb") as f: return f.read()
with open(here, "wb") as f: f.write(b"a" * 100000)
assert get(there) == b"a" * 100000 == get(there)
before = os.stat(here)
with open(here, "r+b") as f: f.write(b"b")
os.utime(here, ns=(before.st_atime_ns, before.st_mtime_ns))
after = os.stat(there)
assert (after.st_mtime_ns, after.st_size) == (before.st_mtime_ns, before.st_size)
assert get(there)[:2] == b"ba", get(there)[:2]
PY
osts=$(strake cluster status "$T/c" --json | python3 -c '
import json, sys
print(*(e["pid"] for e in json.load(sys.stdin)["oss"]))')
# Mapped pages stay whatever drops the machine's caches meanwhile; an open that does not keep them takes them away. The
# first time the MDT may not have heard yet that the writer has closed it: then nobody keeps them.
warm_without_osts() {
	local status
	# shellcheck disable=SC2086 # a list
	timeout "$(limit 10)" python3 - "$T/m2/hidden" $osts <<'PY'
import mmap, os, signal, sys
path, osts = sys.argv[1], [int(pid) for pid in sys.argv[2:]]
want = b"b" + b"a" * 99999
first = os.open(path, os.O_RDONLY)
pages = mmap.mmap(first, len(want), prot=mmap.PROT_READ)
assert pages[:] == want
for pid in osts: os.kill(pid, signal.SIGSTOP)
with open(path, "rb") as second: assert second.read() == want
PY
	status=$?
	# shellcheck disable=SC2086 # a list
	kill -CONT $osts
	return $status
}
warm_without_osts || warm_without_osts || fail "a warm file is not read without OSTs"

# Size, times, links and mode: what close(2) has brought out here, an open elsewhere sees.
python3 - "$T/m1" "$T/m2" <<'PY' || fail "attributes after close and open"
import os, sys
def seen(mount):
    with open(f"{mount}/g") as f: st = os.fstat(f.fileno())
    return st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_nlink, st.st_mode
open(f"{sys.argv[1]}/g", "w").close()
for here, there in (sys.argv[1:], sys.argv[:0:-1]):
    for n in (1, 5000, 700000):
        before = seen(there)
        with open(f"{here}/g", "ab") as f: f.write(bytes(n))
        after = seen(there)
        assert after == seen(here) and after[0] == before[0] + n and after[1] > before[1], (before, after, seen(here))
    os.link(f"{here}/g", f"{here}/h")
    assert seen(there)[3] == 2, seen(there)
    os.unlink(f"{here}/h")
    os.chmod(f"{here}/g", 0o640)
    os.utime(f"{here}/g", ns=(1, 5))
    assert seen(there) == seen(here) and seen(there)[1::2] == (5, 1) and seen(there)[4] & 0o777 == 0o640, seen(there)
PY

# A truncate there is the end of what was written here before it, though it be open here and sent again because OSTs lost it.
restart_osts() {
	for i in 0 1 2; do crash oss $i; done
	strake cluster start "$T/c" >/dev/null || fail "restart of the OSSs"
}
exec 3<>"$T/m1/t"
dd if=/dev/urandom of="$T/m1/t" bs=1M count=4 oflag=direct conv=notrunc 2>/dev/null || fail "dd"
echo new >"$T/m2/t"
expect "open here, replaced there" new "$(cat "$T/m1/t")"
restart_osts
sync "$T/m1/t" || fail "fsync after a truncate elsewhere"
expect "replaced, and the OSTs restarted" "new new" "$(cat "$T/m1/t" "$T/m2/t" | paste -sd' ')"
dd if=/dev/urandom of="$T/m1/t" bs=1M count=4 oflag=direct conv=notrunc 2>/dev/null || fail "dd"
truncate -s 1000 "$T/m2/t" || fail "truncate"
expect "size here, cut there" 1000 "$(wc -c <"$T/m1/t")"
truncate -s 4M "$T/m2/t" || fail "truncate"
restart_osts
sync "$T/m1/t" || fail "fsync after a cut elsewhere"
for m in m1 m2; do expect "bytes behind the cut" 0 "$(tail -c +1001 "$T/$m/t" | tr -d '\0' | wc -c)"; done
exec 3<&-

hammer -p 4 -n "$((6 * ${SCALE:-100}))" -s 7 "$T/m1" "$T/m2" || fail "hammer over two mounts"
