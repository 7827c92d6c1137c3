#!/bin/bash
# Extended attributes through a mount: namespaces, sizes, numbers of them, errors; side by side with ext4.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/twin.sh"

start --osts 1
model
chmod 755 "$T/m"
cd "$T/m" || fail "cd"

cat >"$T/many.py" <<'PY'
import errno, os, sys
VALUE, COUNT = 65536, int(sys.argv[2])
def fails(error, function, *arguments):
    try: function(*arguments)
    except OSError as e: assert e.errno == error, (function.__name__, arguments[:2], e)
    else: raise SystemExit(f"{function.__name__} {arguments[:2]} succeeds")
def value(i): return i.to_bytes(4, "little") * (VALUE // 4)
def name(i): return f"user.attribute_{i}"
def compare():
    assert sorted(os.listxattr("many")) == sorted(name(i) for i in range(COUNT))
    for i in range(COUNT): assert os.getxattr("many", name(i)) == value(i), name(i)
if sys.argv[1] == "make":
    open("many", "w").close()
    for i in range(COUNT): os.setxattr("many", name(i), value(i), os.XATTR_CREATE)
    compare()
    # sizes
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    def probe(call, *arguments):
        size = call(*arguments)
        return size if size >= 0 else -ctypes.get_errno()
    room = ctypes.create_string_buffer(VALUE)
    assert probe(libc.getxattr, b"many", name(1).encode(), None, 0) == VALUE
    assert probe(libc.getxattr, b"many", name(1).encode(), room, VALUE - 1) == -errno.ERANGE
    assert probe(libc.getxattr, b"many", name(1).encode(), room, VALUE) == VALUE
    size = sum(len(name(i)) + 1 for i in range(COUNT))
    assert probe(libc.listxattr, b"many", None, 0) == size
    assert probe(libc.listxattr, b"many", room, size - 1) == -errno.ERANGE
    assert probe(libc.listxattr, b"many", room, size) == size
    fails(errno.E2BIG, os.setxattr, "many", "user.big", b"x" * (VALUE + 1))
    fails(errno.EEXIST, os.setxattr, "many", name(1), b"", os.XATTR_CREATE)
    fails(errno.ENODATA, os.setxattr, "many", "user.none", b"", os.XATTR_REPLACE)
    fails(errno.ENODATA, os.getxattr, "many", "user.none")
    fails(errno.ENODATA, os.removexattr, "many", "user.none")
    fails(errno.EOPNOTSUPP, os.setxattr, "many", "other.name", b"")
    fails(errno.EOPNOTSUPP, os.setxattr, "many", "system.name", b"")
    os.setxattr("many", name(0), b"")
    assert os.getxattr("many", name(0)) == b""
    os.setxattr("many", name(0), value(0), os.XATTR_REPLACE)
    # names: as long as Linux has them, as many as can be listed
    open("names", "w").close()
    long = [f"user.{i:03}" + "n" * 247 for i in range(256)]
    for n in long: os.setxattr("names", n, b"v")
    fails(errno.ENOSPC, os.setxattr, "names", "user.one_more", b"v")
    assert sorted(os.listxattr("names")) == long
    fails(errno.ERANGE, os.setxattr, "names", "user." + "n" * 251, b"v")
    # what has none of its own
    os.symlink("many", "link")
    os.mkfifo("fifo")
    for path in "link", "fifo":
        fails(errno.EPERM, lambda: os.setxattr(path, "user.x", b"v", follow_symlinks=False))
        os.setxattr(path, "trusted.x", b"v", follow_symlinks=False)
        assert os.listxattr(path, follow_symlinks=False) == ["trusted.x"]
elif sys.argv[1] == "remove":
    compare()
    for i in range(COUNT): os.removexattr("many", name(i))
    assert os.listxattr("many") == []
PY
count=$((1000 * SCALE / 100))
[ "$count" -le 1000 ] || count=1000
python3 "$T/many.py" make "$count" || fail "many xattrs"

# Only root knows of trusted ones.
touch seen
setfattr -n trusted.secret -v x seen
setfattr -n user.open -v x seen
expect "seen by root" "trusted.secret user.open" "$(getfattr -m - seen | grep -o '[a-z]*\.[a-z]*$' | sort | paste -sd' ')"
expect "seen by others" "user.open" "$(setpriv --reuid 4711 --regid 4711 --clear-groups getfattr -m - seen | grep -o '[a-z]*\.[a-z]*$')"

for seed in $(seq $((1 + 2 * SCALE / 100))); do
	twins "drawn steps" --random "$seed" $((300 * SCALE / 100 + 100)) write mkdir mknod symlink unlink chmod chown setxattr setxattr \
		setxattr setxattr removexattr removexattr getxattr getxattr
done

# All of them are there after a restart, and gone when they are removed.
cd / || fail "cd"
strake cluster stop "$T/c" >/dev/null || fail "stop"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start"
(cd "$T/m" && python3 "$T/many.py" remove "$count") || fail "many xattrs after a restart"
