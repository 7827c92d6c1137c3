#!/bin/bash
# make bench: how long everyday work takes on StrakeFS, and on MooseFS 3 beside it.
#
# Each is made anew and runs alone, in turn, with everything on the same disk: a cluster of 4 OSTs as `strake cluster start`
# makes it, and Debian's MooseFS with 4 chunk servers, goal 1 and the defaults of its packages, which are installed if they
# are missing. A cold client is a new mount; the servers stay warm. What is dirty is on the disk before the clock starts.
# All of it runs in namespaces of its own (mount, pid, net) and is gone however this ends.
#
#   TURNS=3  SYSTEMS=ours,mfs  WORKLOADS=big,names,small,tree
#                     besides: again, how fast 1 GiB is read from the page cache, beside the least that a FUSE filesystem
#                     can be (tests/tools/passthrough.c). It drops the machine's caches
#   SCALE=100         percent of the work
#   DIR=build/bench   where: needs room for 2 GiB for each turn of each; DIR/figures stays
#
# Prints the seconds of each turn, medians, ratios, and the most memory that each daemon had at the end of a phase. It is no
# test: whatever the figures are, it exits with 0. scripts/bench.py has the workloads. The machine should be idle.
# shellcheck disable=SC2317 # what quietly and await call
set -eu
cd "$(dirname "$0")/.."
tree=$PWD
dir=$(realpath -m "${DIR:-build/bench}")
export BENCH_PLACE=${BENCH_PLACE:-$dir/in.$(date +%s)}
place=$BENCH_PLACE
systems=${SYSTEMS:-ours,mfs}
export PATH="$tree/build/bin:$tree/build/tests:$PATH" SCALE=${SCALE:-100}
workloads=${WORKLOADS:-big,names,small,tree}

die() { echo "bench: $*" >&2; exit 1; }

# await WHAT COMMAND...: 30 s at most
await() {
	local tries
	for ((tries = 0; tries < 300; tries++)); do
		! "${@:2}" || return 0
		sleep 0.1 # between two looks
	done
	die "did not happen: $1"
}

# --- StrakeFS ---------------------------------------------------------------------------------------------------------

ours_start() { strake cluster start "$place/ours" --osts 4; }
ours_mount() { strake cluster start "$place/ours" --mount "$place/m"; }
ours_umount() { strake umount "$place/m"; }
ours_stop() { strake cluster stop "$place/ours"; }

# --- MooseFS ----------------------------------------------------------------------------------------------------------

mfs_address=192.0.2.1 # of the loopback: it refuses 127.0.0.1

# mfs_data NAME KEY VALUE...: its folder, and a configuration that says who it is and where things are, and nothing else
mfs_data() {
	mkdir -p "$place/mfs/$1"
	printf '%s = %s\n' WORKING_USER root WORKING_GROUP root DATA_PATH "$place/mfs/$1" "${@:2}" >"$place/mfs/$1.cfg"
}
mfs_start() {
	local n
	mfs_data master EXPORTS_FILENAME "$place/mfs/exports" TOPOLOGY_FILENAME "$place/mfs/topology"
	echo '* / rw,alldirs,admin,maproot=0:0' >"$place/mfs/exports"
	: >"$place/mfs/topology"
	cp /var/lib/mfs/metadata.mfs.empty "$place/mfs/master/metadata.mfs"
	mfsmaster -c "$place/mfs/master.cfg" start
	for n in 1 2 3 4; do
		mfs_data "chunk$n" MASTER_HOST "$mfs_address" CSSERV_LISTEN_PORT $((9421 + n)) HDD_CONF_FILENAME "$place/mfs/hdd$n"
		mkdir "$place/mfs/disk$n"
		echo "$place/mfs/disk$n" >"$place/mfs/hdd$n"
		mfschunkserver -c "$place/mfs/chunk$n.cfg" start
	done
	await "4 chunk servers" mfs_complete
	mfs_mount
	mfssetgoal 1 "$place/m"
	await "a file" mfs_writable
	mfs_umount
}
mfs_complete() { [ "$(ss -tnH state established 'dport = :9420' | wc -l)" = 4 ]; }
mfs_writable() { echo >"$place/m/first" && rm "$place/m/first"; }
mfs_mount() { mfsmount "$place/m" -H "$mfs_address"; }
mfs_umount() {
	umount "$place/m"
	await "the end of mfsmount" mfs_unmounted
}
mfs_unmounted() { ! pgrep -x mfsmount; }
mfs_stop() {
	local n
	for n in 1 2 3 4; do mfschunkserver -c "$place/mfs/chunk$n.cfg" stop; done
	mfsmaster -c "$place/mfs/master.cfg" stop
}

# --- both -------------------------------------------------------------------------------------------------------------

# quietly COMMAND...: what it says is shown when something in it fails
quietly() {
	local status
	set +e
	(set -e; "$@") >"$place/said" 2>&1
	status=$?
	set -e
	[ $status = 0 ] || { cat "$place/said" >&2 && die "$*"; }
}

# phase SYSTEM PHASE: by a new mount
phase() {
	quietly "$1_mount"
	sync
	python3 scripts/bench.py "$2" "$place/m" "$place.local" >"$place/phase" || die "$1: $2"
	ps -eo comm=,rss= | awk '/strake|mfs/ { print $1 ", MiB", $2 / 1024 }' | LC_ALL=C sort >>"$place/phase"
	sed "s/^/$1 $turn /" "$place/phase" >>"$dir/figures"
	quietly "$1_umount"
}

# turn SYSTEM
turn() {
	quietly "$1_start"
	for phase in $phases; do phase "$1" "$phase"; done
	quietly "$1_stop"
	# Until the end: see $place.
	mv "$place/$1" "$place/$1.$turn"
}

inside() {
	mount -t tmpfs tmpfs /dev/shm # where OSTs keep their ledgers
	ip link set lo up
	ip address add "$mfs_address" dev lo
	mkdir -p "$place/m" "$place.local"
	# shellcheck disable=SC2086 # words
	phases=$(python3 scripts/bench.py phases ${workloads//,/ })
	for ((turn = 1; turn <= ${TURNS:-3}; turn++)); do
		for system in ${systems//,/ }; do
			echo "bench: turn $turn, $system"
			turn "$system"
		done
	done
	python3 scripts/bench.py table "$dir/figures"
}

if [ "${1:-}" = --inside ]; then
	inside
	exit
fi

[ "$(id -u)" = 0 ] || die "needs root"
[ -c /dev/fuse ] || die "needs /dev/fuse"
packages=
case ,$systems, in *,mfs,*) packages="moosefs-master moosefs-chunkserver moosefs-client" ;; esac
# shellcheck disable=SC2086 # words, or none
scripts/deps.sh $packages
mkdir -p "$dir"
exec 9<"$dir"
flock -n 9 || die "another one is at work in $dir"
clean() { rm -rf --one-file-system "$dir"/in.*; }
trap 'trap - EXIT; [ -z "${box:-}" ] || { kill -9 "$box" 2>/dev/null; wait "$box" 2>/dev/null || :; }; clean' EXIT
trap 'exit 130' INT TERM HUP
clean
# ext4 without a journal passes over inodes that were freed in the last minutes, each time it makes a file: up to 0.2 ms more
# for each. So what others have just removed, or a run before this one, must lie elsewhere on the disk: in +T each folder is
# put where its name says.
chattr +T "$dir" 2>/dev/null || :
rm -f "$dir/figures"
# Whatever becomes of this script, what it has started does not outlive it.
setpriv --pdeathsig KILL unshare --mount --pid --net --fork --kill-child --mount-proc bash "$0" --inside 9<&- &
box=$!
wait "$box" && status=0 || status=$?
box=
exit "$status"
