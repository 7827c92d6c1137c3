#!/bin/bash
# make install, and every way to mount with what it installs: mount(8) by type, through FUSE's own helper, from fstab,
# remount, by hand; where the key comes from; and what is wrong is said in time and leaves nothing behind.
. "$(dirname "$0")/installed.sh"

# --- make install -------------------------------------------------------------------------------------------------------

for file in bin/strake bin/mount.strake bin/strake-mgs bin/strake-mds bin/strake-oss lib/strake/strake-rdma.so \
	share/man/man8/strake.8 share/man/man8/mount.strake.8 share/man/man8/strake-mgs.8 share/man/man8/strake-mds.8 share/man/man8/strake-oss.8 \
	share/man/man7/strake-posix.7; do
	[ -s "$T/root/usr/local/$file" ] || fail "make install left out $file"
done
for page in "$T/root"/usr/local/share/man/man?/*; do
	grep -q '^\.SH DESCRIPTION' "$page" || fail "there is nothing in $page"
done
for helper in mount.strake mount.fuse.strake umount.strake umount.fuse.strake; do
	target=$(readlink "$T/root$SBIN/$helper") || fail "make install left out $SBIN/$helper"
	[ -x "$T/root$target" ] || fail "$SBIN/$helper points to $target, which was not installed"
done
# Nowhere else: unpacked over a system, a folder would take the place of its link.
for folder in $(cd "$T/root" && find . ! -type d -printf '%h\n' | sort -u); do
	case ${folder#.} in "$SBIN" | /usr/local/bin | /usr/local/lib/strake | /usr/local/share/man/man[78]) ;; *) fail "make install uses $folder" ;; esac
done

lay_over
expect "strake" /usr/local/bin/strake "$(command -v strake)"
cluster "$T/c" --osts 2
MGS=$(field "$T/c" mgs 0 address)
KEY=$T/c/mgs/cluster.key
M=$T/m M2=$T/m2
mkdir "$M" "$M2"

# --- helpers ------------------------------------------------------------------------------------------------------------

has_option() { case ",$(shown "$1" 4)," in *",$2,"*) ;; *) return 1 ;; esac; }

# is_mounted MNT SOURCE TYPE: exactly that
is_mounted() {
	expect "source of $1" "$2" "$(shown "$1" 1)"
	expect "type of $1" "$3" "$(shown "$1" 3)"
}

# refused WORDS COMMAND...: fails within 10 s (limit), says WORDS (a pattern of grep -E), and leaves nothing behind.
refused() {
	words=$1
	shift
	timeout "$(limit 10)" "$@" >"$T/said" 2>&1
	status=$?
	[ "$status" != 0 ] || fail "should have failed: $*"
	[ "$status" != 124 ] || fail "not within $(limit 10) s: $*"
	grep -qE "$words" "$T/said" || fail "$* said: $(cat "$T/said")"
	[ -z "$(shown "$M" 1)" ] || fail "mounted all the same: $*"
	await "no daemon is left by $*" no_mount_process
}
has_child() { pgrep -x mount.strake -P "$1" >/dev/null; }
no_mount_process() { ! pgrep -x mount.strake -a | grep -q " $M\( \|$\)"; }

# --- mount(8), by each name ---------------------------------------------------------------------------------------------

mount -t strake "$MGS:/" "$M" || fail "mount -t strake"
is_mounted "$M" "$MGS:/" fuse.strake
has_option "$M" rw || fail "not rw"
has_option "$M" allow_other || fail "not allow_other"
has_option "$M" default_permissions || fail "not default_permissions"
! has_option "$M" nodev || fail "nodev though root mounts"
mkdir "$M/one" "$M/two"
echo uno >"$M/one/file"
echo due >"$M/two/file"
leave "$M"

mount -t fuse.strake "$MGS:/" "$M" || fail "mount -t fuse.strake"
is_mounted "$M" "$MGS:/" fuse.strake
expect "content" uno "$(cat "$M/one/file")"
leave "$M"

mount -t fuse "mount.strake#$MGS:/" "$M" || fail "mount -t fuse mount.strake#..."
is_mounted "$M" "$MGS:/" fuse.strake
expect "content" due "$(cat "$M/two/file")"
leave "$M"

# --- fstab --------------------------------------------------------------------------------------------------------------

printf '%s:/one %s strake ro,nosuid,_netdev,nofail,noauto,user,x-systemd.automount,acl,user_xattr,timeo=40,soft 0 0\n' "$MGS" "$M" >"$T/fstab"
printf '%s:/two %s fuse.strake defaults,comment=this 0 0\n' "$MGS" "$M2" >>"$T/fstab"
mount -T "$T/fstab" "$M" || fail "from fstab"
is_mounted "$M" "$MGS:/one" fuse.strake
expect "content" uno "$(cat "$M/file")"
has_option "$M" ro || fail "ro of fstab"
has_option "$M" nosuid || fail "nosuid of fstab"
leave "$M"

# --- remount, and the kernel's options ----------------------------------------------------------------------------------

mount -t strake -o nodev,nosuid,noexec,noatime "$MGS:/" "$M" || fail "mount -o nodev,..."
kept() { for option in nodev nosuid noexec noatime; do has_option "$M" "$option" || fail "$1: no $option"; done; }
kept "mount"
printf '#!/bin/sh\n' >"$M/program"
chmod 755 "$M/program"
"$M/program" 2>/dev/null && fail "noexec runs programs"
mount -o remount,ro "$M" || fail "mount -o remount,ro"
has_option "$M" ro || fail "remount,ro"
kept "remount,ro"
touch "$M/new" 2>/dev/null && fail "a file was made in a read-only mount"
mount -o remount,rw "$M" || fail "mount -o remount,rw"
has_option "$M" rw || fail "remount,rw"
kept "remount,rw"
touch "$M/new" || fail "not writable after remount,rw"
mount -o remount,exec "$M" || fail "mount -o remount,exec"
"$M/program" || fail "exec does not run programs"
leave "$M"
mount -t strake -o ro "$MGS:/" "$M" || fail "mount -o ro"
has_option "$M" ro || fail "-o ro"
touch "$M/newer" 2>/dev/null && fail "a file was made in a read-only mount"
leave "$M"
mount -t tmpfs tmpfs "$M"
mount.strake "$MGS:/" "$M" -o remount,ro 2>/dev/null && fail "a tmpfs was remounted"
has_option "$M" rw || fail "a tmpfs was remounted"
umount "$M"

# --- sources ------------------------------------------------------------------------------------------------------------

# Type exactly fuse; the source as given, with a list whose first is dead; and umount(8) finds our helper all the same.
mount -t strake -o fstype=fuse "127.0.0.1:1,$MGS:/" "$M" || fail "-o fstype=fuse, a list with a dead MGS"
is_mounted "$M" "127.0.0.1:1,$MGS:/" fuse
leave "$M"

mount -t strake "$MGS:/one" "$M" || fail "a subdirectory"
mount -t strake "$MGS:/two" "$M2" || fail "another subdirectory of the same filesystem"
is_mounted "$M" "$MGS:/one" fuse.strake
is_mounted "$M2" "$MGS:/two" fuse.strake
expect "content of one" uno "$(cat "$M/file")"
expect "content of two" due "$(cat "$M2/file")"
expect "names in one" file "$(ls "$M")"
leave "$M"
expect "content of two, after one has gone" due "$(cat "$M2/file")"
leave "$M2"

# Two mounts on one path: each umount takes the upper one.
mount -t strake "$MGS:/one" "$M" && mount -t strake "$MGS:/two" "$M" || fail "one mount over another"
expect "content on top" due "$(cat "$M/file")"
strake umount "$M" || fail "umount of the upper one"
expect "content below" uno "$(cat "$M/file")"
strake umount "$M" || fail "umount of the lower one"
[ -z "$(shown "$M" 1)" ] || fail "still mounted"

# --- in the foreground --------------------------------------------------------------------------------------------------

mount.strake "$MGS:/" "$M" -f 2>"$T/foreground" &
foreground=$!
PIDS="$PIDS $foreground"
await "the foreground mount" is_shown "$M"
expect "content" uno "$(cat "$M/one/file")"
kill -TERM "$foreground"
wait "$foreground" || fail "the foreground mount ended with status $?: $(cat "$T/foreground")"
[ -z "$(shown "$M" 1)" ] || fail "still mounted after SIGTERM"
grep -q "unmounted $M" "$T/foreground" || fail "says nothing of its end: $(cat "$T/foreground")"

# --- where it logs ------------------------------------------------------------------------------------------------------

strake mount "$MGS:/" "$M" || fail "strake mount"
grep -q "mount.strake\[$(daemon_of "$M")\]: mounted $MGS:/ on $M" /var/log/strake-mount.log || fail "no log without a journal"
leave "$M"
(cd "$T" && strake mount "$MGS:/" "$M" -o log=own.log) || fail "strake mount -o log="
grep -q "mounted $MGS:/ on $M" "$T/own.log" || fail "no log in log="
leave "$M"
mount -t tmpfs -o ro tmpfs /var/log || fail "a log that cannot be"
refused "strake-mount.log: Read-only file system; to log elsewhere: -o log=FILE" strake mount "$MGS:/" "$M"
umount /var/log
mkdir -p /run/systemd/journal
python3 - "$T/journal" <<'PYTHON' &
import socket, sys
listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
listener.bind("/run/systemd/journal/stdout")
listener.listen()
stream = listener.accept()[0].makefile("rb")
with open(sys.argv[1], "wb", buffering=0) as out:
    for line in stream:
        out.write(line)
PYTHON
journal=$!
PIDS="$PIDS $journal"
await "a journal" [ -S /run/systemd/journal/stdout ]
strake mount "$MGS:/" "$M" || fail "strake mount with a journal"
await "a line in the journal" grep -q "^<6>mounted $MGS:/ on $M" "$T/journal"
leave "$M"
wait "$journal"
rm /run/systemd/journal/stdout

# --- the key ------------------------------------------------------------------------------------------------------------

# All above found it by themselves, as root on the machine of the cluster. Elsewhere:
elsewhere="env STRAKE_RUN_DIR=$T/elsewhere"
refused "no cluster key" $elsewhere mount -t strake "$MGS:/" "$M"
with_key() { "$@" || fail "$*"; expect "content" uno "$(cat "$M/one/file")"; $elsewhere strake umount "$M" || fail "umount after $*"; }
with_key $elsewhere mount.strake "$MGS:/" "$M" --key "$KEY"
with_key $elsewhere strake --key "$KEY" mount "$MGS:/" "$M"
with_key $elsewhere STRAKE_KEY="$KEY" mount -t strake "$MGS:/" "$M"
with_key $elsewhere mount -t strake -o "key=$KEY" "$MGS:/" "$M"
(cd "$T/c/mgs" && with_key $elsewhere mount -t strake -o key=cluster.key "$MGS:/" "$M") || exit 1
mkdir -p "$T/etc/strake"
cp -p "$KEY" "$T/etc/strake/"
mount -t overlay overlay -o "lowerdir=$T/etc:/etc" /etc || fail "overlay on /etc"
with_key $elsewhere mount -t strake "$MGS:/" "$M"
umount -l /etc
head -c 32 /dev/zero | od -An -v -tx1 | tr -d ' \n' >"$T/wrong.key"
chmod 600 "$T/wrong.key"
refused "key" mount -t strake -o "connect=3,key=$T/wrong.key" "$MGS:/" "$M"
refused "No such file" mount -t strake -o "key=$T/none.key" "$MGS:/" "$M"

# --- what is wrong ------------------------------------------------------------------------------------------------------

refused "/no/where: No such file" mount.strake "$MGS:/" /no/where
refused "fstab: Not a directory" mount.strake "$MGS:/" "$T/fstab"
refused "HOST.*:/SUBDIR" mount -t strake rubbish "$M"
refused "'bogus' is not known" mount -t strake -o rw,bogus "$MGS:/" "$M"
refused "'timeo' wants a value" mount -t strake -o timeo "$MGS:/" "$M"
refused "'memory': '1K' is out of range: it is a size, 32M at least" mount -t strake -o memory=1K "$MGS:/" "$M"
refused "'workers': '9' is out of range: it is .*1 to 8" mount -t strake -o workers=9 "$MGS:/" "$M"
refused "'timeo': '0' is out of range: it is seconds" mount -t strake -o soft,timeo=0 "$MGS:/" "$M"
refused "'transport': 'ib' is no good value: it is one of auto, rdma, tcp" mount -t strake -o transport=ib "$MGS:/" "$M"
refused "source and a mount point" mount.strake "$MGS:/"
refused "/three: No such file" mount -t strake "$MGS:/three" "$M"
refused "/one/file is not a directory|/one/file: Not a directory" mount -t strake "$MGS:/one/file" "$M"
refused "no cluster map from the MGS .127.0.0.1:1.: .*refused" \
	mount -t strake -o "connect=1,key=$KEY" 127.0.0.1:1,127.0.0.1:2:/ "$M"
stopped() { # ROLE WORDS: one that is there and does not answer
	STOPPED=$(field "$T/c" "$1" 0 pid)
	kill -STOP "$STOPPED"
	refused "$2" mount -t strake -o connect=1 "$MGS:/" "$M"
	kill -CONT "$STOPPED"
}
stopped mgs "no cluster map from the MGS"
stopped mds "no session from the MDT"

# Ctrl-C while it waits: nothing is mounted later on.
STOPPED=$(field "$T/c" mgs 0 pid)
kill -STOP "$STOPPED"
strake mount "$MGS:/" "$M" &
waiting=$!
await "the mount to wait for the MGS" has_child "$waiting"
kill -TERM "$waiting" # a shell's job in the background ignores SIGINT
wait "$waiting" 2>/dev/null
kill -CONT "$STOPPED"
await "the daemon of a mount that nobody wants any more to end" no_mount_process
[ -z "$(shown "$M" 1)" ] || fail "mounted though it was ended by a signal"

# --- others than root ---------------------------------------------------------------------------------------------------

as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups env -u OWN_NAMESPACE STRAKE_RUN_DIR=/run/nobody "$@"; }
# Where others may not open /dev/fuse, a node that they may lies over it.
as_nobody test -r /dev/fuse || { mknod -m 666 "$T/fuse" c 10 229 && mount --bind "$T/fuse" /dev/fuse; }
if [ -u "$(command -v fusermount3)" ] && as_nobody dd if=/dev/null of=/dev/fuse status=none; then
	install -d -o 65534 -g 65534 "$T/nobody" /run/nobody
	install -o 65534 -m 600 "$KEY" "$T/nobody.key"
	as_nobody strake --key "$T/nobody.key" mount "$MGS:/" "$T/nobody" || fail "mount by others than root"
	expect "content as nobody" uno "$(as_nobody cat "$T/nobody/one/file")"
	has_option "$T/nobody" nosuid || fail "others than root mount with suid"
	as_nobody strake umount "$T/nobody" || fail "umount by others than root"
	[ -z "$(shown "$T/nobody" 1)" ] || fail "still mounted"
else
	say "left out: mounts by others than root (no setuid fusermount3, or /dev/fuse is closed to them)"
fi

# Whose cluster it is not is told so at once, and ends nothing of it.
of_root() { # WORDS VERB
	as_nobody timeout "$(limit 10)" strake cluster "$2" "$T/c" >"$T/said" 2>&1
	expect "exit status of cluster $2 by another user" 1 $?
	grep -q "$1" "$T/said" || fail "cluster $2 by another user says: $(cat "$T/said")"
}
of_root "MGS: .* running, but you may not read its key" status
of_root "^strake: mgs (pid [0-9]*) is another user's: stop the cluster as that user" stop
runs "$T/c" || fail "another user has stopped the cluster: $(strake cluster status "$T/c")"
