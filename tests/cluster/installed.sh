# For tests of what is installed; before anything else:  . "$(dirname "$0")/installed.sh"
#
# `make install` puts everything into $T/root; lay_over() then lays it, in the test's mount namespace, over /sbin,
# /usr/local/bin and /usr/local/lib, over an empty /run and /var/log, so that mount(8), umount(8), the programs and their plug-in
# find each other as on a machine that has it installed, while the machine stays as it is.
. "$(dirname "$0")/lib.sh"
TREE=$(cd "$(dirname "$0")/../.." && pwd)
STOPPED= # processes that a test has stopped
trap 'status=$?; kill -CONT $STOPPED 2>/dev/null; (exit $status); cleanup' EXIT

mkdir "$T/root" # a module that is not loaded yet is loaded by this
mount -t overlay overlay -o lowerdir=/usr/sbin:/usr/bin "$T/root" 2>/dev/null && umount "$T/root" ||
	skip "needs overlayfs to install without touching the machine"
[ -x /sbin/mount.fuse3 ] || skip "needs the package fuse3"
make -s -o all -C "$TREE" B="$BUILD" DESTDIR="$T/root" PREFIX=/usr/local install || fail "make install"

SBIN=/usr/sbin # where mount(8) finds its helpers: /sbin, which mostly is a link there
[ -L /sbin ] || SBIN=/sbin

lay_over() {
	chmod 755 "$T"
	mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log &&
		mount -t overlay overlay -o "lowerdir=$T/root$SBIN:$SBIN" $SBIN &&
		mount -t overlay overlay -o "lowerdir=$T/root/usr/local/bin:/usr/local/bin" /usr/local/bin &&
		mount -t overlay overlay -o "lowerdir=$T/root/usr/local/lib:/usr/local/lib" /usr/local/lib || fail "laying over"
	PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
	hash -r
}

# shown MNT FIELD: 1 source, 3 type, 4 options, as /proc/mounts has it
shown() { awk -v path="$1" -v n="$2" '$2 == path { print $n }' /proc/mounts; }
is_shown() { [ -n "$(shown "$1" 1)" ]; }
# Where the mounts of this PID namespace are entered (client/mount_registry.h).
MOUNTS=/run/strake/mounts$(readlink /proc/self/ns/pid | tr -dc 0-9 | sed 's/^4026531836$//; s/^[0-9]/.&/')
# The process that serves, or served last, a mount point.
daemon_of() { grep -lx "mountpoint = $1" "$MOUNTS"/* 2>/dev/null | sed 's,.*/,,'; }
# It may still write: its entry goes when all is written and its session closed, it itself a moment later.
is_entered() { [ -e "$MOUNTS/$1" ]; }
# It has been told that it is unmounted.
is_leaving() { grep -qs "^leaving" "$MOUNTS/$1"; }

# leave MNT [COMMAND...]: umount(8), or that command; when it returns, the daemon has ended.
leave() {
	left=$1
	shift
	daemon=$(daemon_of "$left")
	[ -n "$daemon" ] || fail "no daemon is entered for $left"
	"${@:-umount}" "$left" || fail "${*:-umount} $left"
	! alive "$daemon" || fail "${*:-umount} returned before the daemon had ended"
	! is_shown "$left" || fail "$left is still mounted"
	! grep -qs "TARGET=$left " /run/mount/utab || fail "umount(8)'s table still has $left: $(cat /run/mount/utab)"
}
