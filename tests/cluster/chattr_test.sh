#!/bin/bash
# chattr and lsattr through a mount; what is immutable or append-only, call by call and side by side with ext4.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/twin.sh"

start --osts 1
model
chmod 755 "$T/m"
cd "$T/m" || fail "cd"

flags() { lsattr -d "$1" | cut -d' ' -f1 | tr -d -- -; }
mkdir d
echo text >f
chattr +iadA f || fail "chattr"
expect "flags" iadA "$(flags f)"
chattr -iadA f
chattr +i d
expect "flags of a directory" i "$(flags d)"
touch d/new 2>"$T/err" && fail "a name in an immutable directory"
grep -q "not permitted" "$T/err" || fail "wrong words: $(cat "$T/err")"
chattr -i d
chattr +c f 2>/dev/null && fail "a flag that we do not have"
python3 - <<'PY' || fail "FS_IOC_FSGETXATTR, FSSETXATTR"
import errno, fcntl, os, struct
GET, SET = 0x801c581f, 0x401c5820
def get(fd):
    data = bytearray(28)
    fcntl.ioctl(fd, GET, data)
    return struct.unpack("<5I8x", data)
fd = os.open("f", os.O_RDONLY)
assert get(fd) == (0, 0, 0, 0, 0), get(fd)
fcntl.ioctl(fd, SET, struct.pack("<5I8x", 0xc8, 0, 0, 0, 0))
assert get(fd)[0] == 0xc8
fcntl.ioctl(fd, SET, struct.pack("<5I8x", 0, 0, 0, 0, 0))
for request, code in ((0x5401, errno.ENOTTY), (0x80087601, errno.ENOTTY)):
    try:
        fcntl.ioctl(fd, request, bytearray(64))
        raise SystemExit("an ioctl that we do not have")
    except OSError as e: assert e.errno in (code, errno.EOPNOTSUPP), e
PY

# Another mount: it asks when it opens, whatever it may still believe; and the kernel's own open for chattr goes by no name.
mount_more "$T/m2"
for i in 1 2 3 4 5 6 7 8; do
	echo "$i" >moves
	cat "$T/m2/moves" >/dev/null
	mv moves moved
	lsattr "$T/m2/moved" >/dev/null || fail "lsattr of what was moved through another mount"
	chattr +i moved
	sh -c "echo x >>'$T/m2/moved'" 2>/dev/null && fail "opens what was made immutable through another mount"
	chattr -i "$T/m2/moved"
	rm moved
done
# Pages that were mapped and changed before are not lost.
python3 - <<'PY' || fail "mapped pages"
import fcntl, mmap, os
fd = os.open("mapped", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 8192)
with mmap.mmap(fd, 8192) as m:
    m[:5] = b"dirty"
    own = os.open("mapped", os.O_RDONLY)
    fcntl.ioctl(own, 0x40086602, (0x10).to_bytes(4, "little"))
    m.flush()
    fcntl.ioctl(own, 0x40086602, (0).to_bytes(4, "little"))
PY
expect "what was mapped" dirty "$(head -c 5 "$T/m2/mapped")"

twins "sealed" - <<'STEPS' || exit
root chmod . 0o777
owner mkdir d
owner mkdir d/s
owner write d/f 3 wronly+creat
owner write d/g 3 wronly+creat
owner open old d/f rdwr
owner open older d/f wronly+append
owner chattr d/f +i
weak chattr d/f +i
owner chattr d/f +dA
root chattr d/f +i
root chattr d/f +d
root chattr d/f -i+a
root chattr d/f +i-a
owner put old 0 3
owner put older 0 3
owner get old 10
owner ftruncate old 0
owner fallocate old 0 0 100
owner fallocate old 1 0 100
owner fallocate old 3 0 100
owner fchmod old 0o600
owner write d/f 1
owner write d/f 0 wronly
owner write d/f 0 rdonly+trunc
root write d/f 1
root write d/f 1 wronly+append
owner read d/f
root truncate d/f 0
root chmod d/f 0o644
root chown d/f other -
owner chown d/f - -
owner utimens d/f 1000 2000
owner utimens d/f now omit
owner utimens d/f now now
owner utimes d/f
root utimes d/f
root setxattr d/f user.x v
root setxattr d/f trusted.x v
root setacl d/f access u::rwx,g::r-x,o::r--
root dropacl d/f access
root link d/f h
root rename d/f d/i
root rename d/g d/f
root rename d/f d/g 2
root unlink d/f
root chattr d/f -i+a
owner put old 0 3
owner ftruncate old 0
owner fallocate old 0 0 100
owner fallocate old 3 0 100
owner open new d/f wronly+append
owner put new 0 3
owner write d/f 1
owner write d/f 1 wronly+append
owner write d/f 1 wronly+append+trunc
owner write d/f 0 rdonly+trunc
root truncate d/f 0
owner chmod d/f 0o644
owner utimens d/f 1000 2000
owner utimens d/f now omit
owner utimens d/f now now
owner utimes d/f
other utimes d/f
root setxattr d/f user.x v
owner link d/f h
owner rename d/f d/i
owner rename d/g d/f
owner unlink d/f
owner chattr d/f +d
root chattr d +a
owner mkdir d/new
owner mknod d/file
owner symlink x d/link
owner link d/g d/hard
owner rename d/file d/other
owner unlink d/file
owner rmdir d/new
owner rename d/file h
owner mknod h
owner rename h d/h
owner chmod d 0o700
owner mknod d/s/below
root chattr d -a+i
owner mkdir d/newer
owner unlink d/g
owner link d/g i
owner rename d/g i
owner chmod d 0o700
owner mknod d/s/below2
owner unlink d/s/below
owner rename d/s/below2 j
root chattr d -i+dA
root mkdir d/inherits
root mknod d/inherits2
root symlink x d/inherits3
root mknod d/inherits4 0o10666
STEPS
for seed in $(seq $((1 + 2 * SCALE / 100))); do
	twins "drawn steps" --random "$seed" $((300 * SCALE / 100 + 100)) write write mknod mknod symlink link rename chmod chown truncate \
		open open utimens utimes setxattr setacl chattr chattr chattr
done

# It is all there after a restart.
chattr +ia d f
cd / || fail "cd"
strake cluster stop "$T/c" >/dev/null || fail "stop"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start"
expect "flags after a restart" "ia ia" "$(flags "$T/m/d") $(flags "$T/m/f")"
