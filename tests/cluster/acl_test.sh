#!/bin/bash
# POSIX ACLs through a mount, by getfacl(1) and setfacl(1), by two mounts and after a restart; side by side with ext4.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/twin.sh"

start --osts 1
model
chmod 755 "$T/m"
cd "$T/m" || fail "cd"
as() { setpriv --reuid "$1" --regid "$1" --groups "$2" "${@:3}"; }
acl() { getfacl -cpE "$@" 2>/dev/null | grep . | paste -sd,; }

# The standard tools.
mkdir -m 700 d
echo text >d/file
setfacl -m u:4711:x,g:500:rx d
setfacl -m u:4711:rw d/file
expect "ACL of a directory" "user::rwx,user:4711:--x,group::---,group:500:r-x,mask::r-x,other::---" "$(acl d)"
expect "its mode has the mask" 750 "$(stat -c %a d)"
ls -ld d | grep -q '^drwxr-x---+' || fail "ls shows no ACL: $(ls -ld d)"
expect "a named user reads" text "$(as 4711 4711 cat d/file)"
as 4711 4711 ls d >/dev/null 2>&1 && fail "lists a directory that he may only search"
expect "a member of a named group lists" file "$(as 4712 7,500 ls d)"
as 4712 7,500 cat d/file >/dev/null 2>&1 || fail "others may read the file: $(acl d/file)"
as 4713 4713 cat d/file >/dev/null 2>&1 && fail "goes through a directory that is closed to him"
# Without a mount no kernel has checked: the MDS does.
install -m 600 -o 4711 "$T/c/mgs/cluster.key" "$T/user.key"
install -d -m 777 "$T/got"
client() { as 4711 "$1" strake -m "$MGS" --key "$T/user.key" client "${@:2}"; }
client 4711 get /d/file "$T/got/named" >/dev/null || fail "a named user without a mount"
client 4711 ls /d >/dev/null 2>&1 && fail "lists without a mount a directory that he may only search"
setfacl -m u:4711:- d/file
client 4711 get /d/file "$T/got/none" >/dev/null 2>&1 && fail "reads without a mount what is closed to him"
client 7,500 ls /d >/dev/null 2>&1 && fail "a group's rights for one who is named himself"
setfacl -m u:4711:rw d/file
chmod g-x d
as 4711 4711 cat d/file >/dev/null 2>&1 && fail "the mask does not count"
chmod g+x d
setfacl -m d:u:4711:rwx,d:o::- d
(umask 077 && touch d/new && mkdir d/sub)
expect "inherited by a file" "user::rw-,user:4711:rwx,group::---,mask::rw-,other::---" "$(acl d/new)"
expect "and a directory" "$(getfacl -cpdE d | paste -sd,)" "$(getfacl -cpdE d/sub | paste -sd,)"
cp -a d copy || fail "cp -a"
expect "copied by cp -a" "$(cd d && getfacl -pER .)" "$(cd copy && getfacl -pER .)"
as 4711 4711 setfacl -b d/file 2>/dev/null && fail "somebody else changes an ACL"
setfacl -b d/file
expect "removed" "user::rw-,group::r--,other::r--" "$(acl d/file)"
setfacl -k d
setfacl -m u:1:r "$T/m/none" 2>/dev/null && fail "an ACL of nothing"
# Kernels that keep ACLs in pages send no more than one.
python3 - <<'PY' || fail "long ACLs"
import errno, os, struct
open("long", "w").close()
def value(n): return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", t, 6, i) for t, i in
    [(1, 2 ** 32 - 1)] + [(2, i) for i in range(n)] + [(4, 2 ** 32 - 1), (16, 2 ** 32 - 1), (32, 2 ** 32 - 1)])
os.setxattr("long", "system.posix_acl_access", value(507))
assert os.getxattr("long", "system.posix_acl_access") == value(507)
try:
    os.setxattr("long", "system.posix_acl_access", value(600))
    raise SystemExit("too long")
except OSError as e: assert e.errno == errno.E2BIG, e
PY

# Through another mount: at once where it does not believe anything, else within a second.
mount_more "$T/m2" -o strict
touch "$T/m/two"
chmod 600 "$T/m/two"
as 4711 4711 cat "$T/m2/two" 2>/dev/null && fail "reads what is not his"
setfacl -m u:4711:r "$T/m/two"
as 4711 4711 cat "$T/m2/two" || fail "an ACL of another mount is not seen"
setfacl -b "$T/m2/two"
taken() { ! as 4711 4711 cat "$T/m/two" 2>/dev/null; }
await "an ACL taken away through another mount" taken

# What has no ACL costs no question: warm names and the kernel's own checks need no MDS.
mkdir -p -m 755 plain/a/b
touch plain/a/b/file
chown -R 1:1 plain
mds=$(field "$T/c" mds 0 pid)
warm_without_mds() {
	local status
	as 4711 4711 stat plain/a/b/file >/dev/null
	stat plain/a/b/file plain/a/b plain/a plain . >/dev/null
	kill -STOP "$mds"
	as 4711 4711 timeout 0.6 stat plain/a/b/file >"$T/stat.out" 2>&1
	status=$?
	kill -CONT "$mds"
	sleep 0.1 # for those who wait meanwhile
	return $status
}
PATIENCE=20 await "a walk over warm names asks nothing" warm_without_mds

# Side by side: by hand what is subtle, then what comes.
twins "setgid and setuid" - <<'STEPS' || exit
root chmod . 0o777
root mkdir d 0o777
root mknod d/f
root chown d/f owner group
root chmod d/f 0o6755
owner setacl d/f access u::rwx,u:other:rwx,g::r-x,m::rwx,o::r--
root chmod d/f 0o6755
root chown d/f owner other
root chmod d/f 0o6775
owner setacl d/f access u::rwx,u:member:rwx,g::r-x,m::rwx,o::r-- # no member of the group: setgid goes
root chmod d/f 0o2644
owner setacl d/f access u::rwx,g::r-x,o::r--
root chmod d 0o2777
root setacl d default u::rwx,u:member:rwx,g::r-x,m::rwx,o::--x
owner umask 0o077
owner mknod d/g
owner mkdir d/h 0o777
other mkdir d/i 0o700
owner write d/j 3 wronly+creat
owner symlink target d/k
member mknod d/l 0o10666
member mknod d/h/m 0o102777
owner setacl d/k access u::rwx,u:member:rwx,g::r-x,m::rwx,o::--x
owner setacl d/g default u::rwx,u:member:rwx,g::r-x,m::rwx,o::--x
owner dropacl d/g default
member setacl d/g access u::rwx,g::r-x,o::r--
member getacl d/g access
other getacl d/h default
root dropacl d default
root dropacl d default
owner setacl d/g access
owner mknod d/n 0o100666
STEPS
for seed in $(seq $((1 + 3 * SCALE / 100))); do
	twins "drawn steps" --random "$seed" $((400 * SCALE / 100 + 100)) umask write mkdir mknod symlink unlink rename access chmod \
		chown setacl setacl setacl setacl dropacl read list
done

# All of it is there after a restart.
cd / || fail "cd"
getfacl -pER "$T/m/1" "$T/m/copy" >"$T/before"
strake cluster stop "$T/c" >/dev/null || fail "stop"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start"
getfacl -pER "$T/m/1" "$T/m/copy" >"$T/after"
cmp "$T/before" "$T/after" || fail "other ACLs after a restart"
