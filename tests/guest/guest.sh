#!/bin/bash
# Runs a command under a kernel of its own that has software RDMA: a user-mode Linux (kernel.sh), which boots in a second
# and needs neither privileges nor hardware. The guest's root is this machine's, over which it writes in memory; only the
# tree that this script lies in is shared for writing. It has no network but its own.
#
#   guest.sh [-m MiB] [-t SECONDS] [-r rxe|siw|none] [-n NODES] [-c CPUS] COMMAND [ARGUMENT...]
#
# NODES network devices rdma0, rdma1, ... at 192.0.2.1, .2, ... are joined by a bridge, each with an RDMA device of the
# kind (rxe: RoCE v2 over UDP; siw: iWARP over TCP). GUEST_ENV: names of variables that the command gets, too.
#
# Exit status, stdout and stderr are the command's; 124: not done within SECONDS (900); 125: no guest, or it has died. What
# its kernel says goes to GUEST_LOG (a file), and its end is shown when it has died.
#
# In it threads of one process never run at the same time (processes do), a system call costs 13 us, and the tree's
# filesystem has neither xattrs nor O_DIRECT: tests work in its /tmp, which is memory.
#
# CPUS is as many as the machine has, 4 at most. Where pages of files are mapped it must be 1: when a page is written out, cut off or
# dropped, user-mode Linux tells no other CPU (its flush_tlb_page() notes it, until that process enters the kernel again). So who
# runs there goes on storing to a page that counts as clean, or is not the file's any more, and the bytes are lost, on any
# filesystem (tools/mapped_holes.c).
set -u
here=$(cd "$(dirname "$0")" && pwd -P)
tree=$(cd "$here/../.." && pwd -P)

fail() {
	echo "guest: $*" >&2
	exit 125
}

memory=2048 limit=900 kind=rxe nodes=2 cpus=$(nproc)
[ "$cpus" -le 4 ] || cpus=4
while getopts m:t:r:n:c: option; do
	case $option in
	m) memory=$OPTARG ;;
	t) limit=$OPTARG ;;
	r) kind=$OPTARG ;;
	n) nodes=$OPTARG ;;
	c) cpus=$OPTARG ;;
	*) exit 125 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -gt 0 ] || fail "which command?"
kernel=$("$here/kernel.sh") || exit 125

control=$(mktemp -d "${TMPDIR:-/tmp}/guest.XXXXXX") || fail "no temporary folder"
machine="" readers="" timer=""
at_exit() {
	[ -z "$machine" ] || kill -KILL -- "-$machine" # a process group of its own: its threads and its guest's processes
	[ -z "$timer" ] || kill "$timer"
	# shellcheck disable=SC2086 # a list
	[ -z "$readers" ] || kill $readers
	[ -z "${GUEST_LOG:-}" ] || cp "$control/console" "$GUEST_LOG"
	rm -rf "$control"
} 2>/dev/null
trap at_exit EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# What the guest is told, and where it tells its end.
mkdir "$control/shared" && cp "$here/init.sh" "$control/shared/init" && mkfifo "$control/out" "$control/err" || exit 125
{
	printf '%s=%q\n' kind "$kind" nodes "$nodes" tree "$tree"
	for name in PATH HOME LANG CI ${GUEST_ENV:-}; do
		[ -z "${!name+set}" ] || printf 'export %s=%q\n' "$name" "${!name}"
	done
} >"$control/shared/settings"
{
	printf 'cd %q\nexec' "$tree"
	printf ' %q' "$@"
	echo
} >"$control/shared/command"

# The first thing that runs in it: over the root, read-only, a layer of memory; then the other half, in there.
printf -v quoted_tree %q "$tree"
cat >"$control/root" <<ROOT
#!/bin/bash
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
fail() { echo "guest: \$*"; exit 1; }
mount -t tmpfs memory /mnt && mkdir /mnt/upper /mnt/work /mnt/new || fail "no memory filesystem"
cd /mnt/new || fail "no folder"
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work root /mnt/new || fail "no overlay"
cd /mnt/new && mount -t proc proc proc && mount -t sysfs sys sys && mount -t devtmpfs dev dev && mkdir -p dev/pts dev/shm &&
	mount -t devpts devpts dev/pts && mount -t tmpfs -o mode=1777 memory dev/shm && mount -t tmpfs -o mode=755 memory run &&
	mount -t tmpfs -o mode=1777 memory tmp && mkdir -p run/guest .$quoted_tree &&
	mount -t hostfs -o $(printf %q "$control/shared") control run/guest && mount -t hostfs -o $quoted_tree tree .$quoted_tree ||
	fail "no filesystems"
exec chroot . /bin/bash /run/guest/init
ROOT
chmod 755 "$control/root"

cat "$control/out" &
readers=$!
cat "$control/err" >&2 &
readers="$readers $!"

# Its memory is a file, which in /dev/shm is memory.
set -m
TMPDIR=/dev/shm "$kernel" rootfstype=hostfs rootflags=/ ro "mem=${memory}M" "ncpus=$cpus" seccomp=on init="$control/root" \
	con=null con0=null,fd:1 con1=null,fd:3 con2=null,fd:4 quiet panic=-1 </dev/null >"$control/console" 2>&1 3>"$control/out" \
	4>"$control/err" &
machine=$!
(
	exec >/dev/null 2>&1
	trap 'kill $sleeper; exit' TERM
	sleep "$limit" &
	sleeper=$!
	wait $sleeper
	: >"$control/late"
	kill -KILL -- "-$machine"
) &
timer=$!
set +m
{ wait "$machine"; } 2>/dev/null
kill -KILL -- "-$machine" 2>/dev/null
machine=""
kill "$timer" 2>/dev/null
timer=""
# shellcheck disable=SC2086 # a list
wait $readers
readers=""

[ ! -e "$control/shared/status" ] || exit "$(cat "$control/shared/status")"
if [ -e "$control/late" ]; then
	echo "guest: not done within $limit s" >&2
	exit 124
fi
echo "guest: it has died; its last words:" >&2
tail -n 30 "$control/console" >&2
exit 125
