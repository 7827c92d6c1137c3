#!/bin/bash
# The namespace through the mount, and again after everything was stopped and started.
. "$(dirname "$0")/lib.sh"

start --osts 2
cd "$T/m" || fail "cd"

mkdir -m 751 a a/b
echo one >a/one
ln a/one a/uno
ln -s one a/link
mkfifo a/fifo
mknod a/null c 1 3
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("a/sock")'
printf x >"$(printf 'n%.0s' $(seq 255))"
touch "$(printf 'n%.0s' $(seq 256))" 2>"$T/err" && fail "a name of 256 bytes"
grep -q "too long" "$T/err" || fail "wrong error for a long name: $(cat "$T/err")"
expect "links of a file" 2 "$(stat -c %h a/one)"
expect "links of a directory" 3 "$(stat -c %h a)"
expect "symlink" one "$(readlink a/link)"
expect "through the symlink" one "$(cat a/link)"
expect "types" "fifo character special file socket" "$(stat -c %F a/fifo a/null a/sock | paste -sd' ')"
expect "device" "1,3" "$(stat -c %t,%T a/null)"

python3 - <<'PY' || fail "through a fifo, a socket and a device"
import os, socket, threading
def send():
    with open("a/fifo", "w") as f: f.write("by the fifo")
sender = threading.Thread(target=send)
sender.start()
with open("a/fifo") as f: assert f.read() == "by the fifo"
sender.join()
with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
    server.bind("a/server")
    server.listen()
    client.connect("a/server")
    client.send(b"by the socket")
    assert server.accept()[0].recv(100) == b"by the socket"
os.unlink("a/server")
with open("a/null", "r+b", 0) as f: assert f.write(b"to nowhere") == 10 and f.read() == b""
PY

# rename in all its forms
python3 - <<'PY' || fail "rename"
import ctypes, errno, os, stat
libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
def rename2(a, b, flags):
    r = libc.renameat2(-100, a.encode(), -100, b.encode(), flags)
    return 0 if r == 0 else ctypes.get_errno()
def write(p, t):
    with open(p, "w") as f: f.write(t)
def read(p):
    with open(p) as f: return f.read()
write("r1", "1"); write("r2", "2")
assert rename2("r1", "r2", NOREPLACE) == errno.EEXIST
assert rename2("r1", "r2", EXCHANGE) == 0 and read("r1") == "2" and read("r2") == "1"
assert rename2("r1", "r2", 0) == 0 and read("r2") == "2" and not os.path.exists("r1")
assert rename2("r2", "r1", WHITEOUT) == 0 and read("r1") == "2" and os.stat("r2").st_mode == stat.S_IFCHR and os.stat("r2").st_rdev == 0
assert rename2("r1", "r2", WHITEOUT) == 0 and read("r2") == "2" and os.stat("r1").st_mode == stat.S_IFCHR
assert rename2("r1", "r2", WHITEOUT | EXCHANGE) == errno.EINVAL
os.unlink("r1")
os.makedirs("d1/d2/d3")
try:
    os.rename("d1", "d1/d2/d3/d4"); raise SystemExit("loop")
except OSError as e: assert e.errno == errno.EINVAL
assert rename2("d1", "r2", EXCHANGE) == 0 and read("d1") == "2" and os.path.isdir("r2/d2")
os.mkdir("empty"); os.rename("r2/d2", "empty"); assert os.listdir("empty") == ["d3"]
os.mkdir("full"); write("full/x", "")
try:
    os.rename("empty", "full"); raise SystemExit("over a full directory")
except OSError as e: assert e.errno in (errno.ENOTEMPTY, errno.EEXIST)
try:
    os.rmdir("full"); raise SystemExit("rmdir of a full directory")
except OSError as e: assert e.errno == errno.ENOTEMPTY
os.link("d1", "d1b"); os.rename("d1", "d1b"); assert os.path.exists("d1")  # the same inode: nothing happens
try:
    os.open("d1", os.O_CREAT | os.O_EXCL); raise SystemExit("O_EXCL")
except OSError as e: assert e.errno == errno.EEXIST
PY

# times to the nanosecond, modes, owners
touch -d '2001-02-03 04:05:06.123456789' a/one
born=$(stat -c %.9W a/one)
[[ $born > 1 && $(stat -c %.9W a/fifo) > $born ]] || fail "times of birth: $(stat -c '%n %.9W' a/one a/fifo)"
expect "mtime" "2001-02-03 04:05:06.123456789" "$(date -d "@$(stat -c %.9Y a/one)" '+%F %T.%N')"
chmod 4755 a/one
chown 12:34 a/one
expect "after chown" "755 12 34" "$(stat -c '%a %u %g' a/one)"
chmod 2775 a/b
chown 0:77 a/b
touch a/b/inherits
mkdir a/b/sub
expect "group from a setgid directory" "77 77 2755" "$(stat -c %g a/b/inherits) $(stat -c '%g %a' a/b/sub)"
(umask 027; touch a/masked; mkdir a/maskedd; mkfifo a/maskedf)
expect "umask" "640 750 640" "$(stat -c %a a/masked a/maskedd a/maskedf | paste -sd' ')"

# somebody else
mkdir -m 700 private
touch private/secret
mkdir -m 1777 sticky
touch sticky/mine
setpriv --reuid 4711 --regid 4711 --clear-groups bash -c 'cat private/secret' 2>/dev/null && fail "read in a private directory"
setpriv --reuid 4711 --regid 4711 --clear-groups rm -f sticky/mine 2>/dev/null && fail "removed from a sticky directory"
setpriv --reuid 4711 --regid 4711 --clear-groups bash -c 'echo hi >sticky/theirs && rm sticky/theirs' || fail "own file in a sticky directory"

# who writes to a program takes its privileges away, root alone does not
install -m 6755 -o 4711 -g 4711 /dev/null a/program
echo x >>a/program
expect "mode after root has written" 6755 "$(stat -c %a a/program)"
setpriv --reuid 4711 --regid 4711 --clear-groups bash -c 'echo x >>a/program' || fail "writing to one's own program"
expect "mode after its owner has written" 755 "$(stat -c %a a/program)"

# extended attributes
setfattr -n user.colour -v blue a/one
setfattr -n trusted.note -v t a/one
expect "xattr" blue "$(getfattr --only-values -n user.colour a/one)"
setfattr -x user.colour a/one
getfattr -n user.colour a/one 2>/dev/null && fail "a removed xattr is there"
head -c 60000 /dev/zero | tr '\0' v >"$T/value"
python3 -c 'import os, sys; os.setxattr("a/one", "user.big", open(sys.argv[1], "rb").read()); assert len(os.getxattr("a/one", "user.big")) == 60000' "$T/value" || fail "a large xattr"

# fsync of a directory waits for the MDT's log
python3 - "$(field "$T/c" mds 0 pid)" <<'PY' || fail "fsync of a directory"
import os, signal, sys, threading
mds = int(sys.argv[1])
fd = os.open("a", os.O_RDONLY | os.O_DIRECTORY)
os.mkdir("a/fresh")
os.kill(mds, signal.SIGSTOP)
sync = threading.Thread(target=os.fsync, args=(fd,))
sync.start()
sync.join(0.5)
waits = sync.is_alive()
os.kill(mds, signal.SIGCONT)
sync.join()
assert waits
PY

# a large directory, listed while it changes
mkdir many
python3 - <<'PY' || fail "listing"
import os
for i in range(5000): os.close(os.open(f"many/{i}", os.O_CREAT | os.O_WRONLY))
stays = {str(i) for i in range(0, 5000, 2)}
seen = set()
with os.scandir("many") as entries:
    for n, e in enumerate(entries):
        assert e.name not in seen, f"{e.name} twice"
        seen.add(e.name)
        if n < 2400 and e.name.isdigit() and int(e.name) % 2 == 0 and f"{int(e.name) + 1}" not in seen:
            os.unlink(f"many/{int(e.name) + 1}")
        if n % 10 == 0: os.close(os.open(f"many/new{n}", os.O_CREAT | os.O_WRONLY))
assert stays <= seen, f"{len(stays - seen)} files that were there all the time are missing"
PY
find many -name '*1' -delete

cd /
cp -a "$T/m" "$T/copy" 2>/dev/null
(cd "$T/m" && listing) >"$T/before"
strake cluster stop "$T/c" >/dev/null || fail "stop"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start"
(cd "$T/m" && listing) >"$T/after"
cmp -s "$T/before" "$T/after" || fail "not the same after a restart: $(diff "$T/before" "$T/after" | head -n 5)"
expect "content" one "$(cat "$T/m/a/uno")"
expect "time of birth, after writing, other times, owners and a restart" "$born" "$(stat -c %.9W "$T/m/a/uno")"
rm -rf "$T/m"/* || fail "rm -rf"
expect "what is left" "" "$(ls -A "$T/m")"
