#!/bin/bash
# make run: a cluster (1 MGS, 1 MDS, 4 OSS) with a mount, a real dataset imported into it, read as a training job reads it,
# every byte compared with the source. make stop (run.sh --stop) ends it. Everything lies below scratch/ in the project.
set -eu
cd "$(dirname "$0")/.."

strake=$PWD/build/bin/strake
scratch=$(realpath -m scratch) # perhaps a link to a larger disk
cluster=$scratch/cluster
mount=$scratch/mnt
source=$scratch/dataset
files_min=20000
bytes_min=$((1 << 30))
disk_min=$((7 << 30)) # the dataset and its copy in the cluster, a checkpoint, and what a run before has not given back yet

die() { echo "run: $*" >&2; exit 1; }

exec 9<.
flock --nonblock 9 || die "another make run or make stop is at work here"
cluster_do() { "$strake" cluster "$1" "$cluster" "${@:2}" 9<&-; } # no daemon keeps the lock

stop() {
	[ -f "$cluster/cluster.conf" ] || return 0
	[ -x "$strake" ] || make -s build || die "without build/bin/strake the cluster cannot be stopped" # after a make clean
	# What had to be killed has failed the first time.
	cluster_do stop || cluster_do stop || die "the cluster does not stop; $scratch is left as it is"
}

if [ "${1:-}" = --stop ]; then
	stop
	! grep -qF " $scratch/" /proc/mounts || die "something is still mounted below $scratch, which is left as it is"
	rm -rf --one-file-system "$scratch"/*
	rmdir "$scratch" 2>/dev/null || : # a disk of its own stays, empty
	exit
fi

[ "$(id -u)" = 0 ] || die "needs root, to install Debian packages and to mount"
[ -c /dev/fuse ] || die "needs /dev/fuse, which this machine does not have (modprobe fuse; in a container: --device /dev/fuse)"
scripts/deps.sh
stop >/dev/null # a cluster of a run before: it may be of older programs

# --- the source: Debian's kernel source, and the big files below /usr ------------------------------------------------
if [ ! -f "$scratch/dataset.sums" ]; then
	mkdir -p "$scratch"
	free=$(df -P --block-size=1 "$scratch" | awk 'NR == 2 { print $4 }')
	[ "$free" -ge "$disk_min" ] || die "needs $((disk_min >> 30)) GiB in $scratch; $((free >> 30)) GiB are free there"
	scripts/deps.sh linux-source-6.1
	rm -rf "$source"
	mkdir -p "$source/usr"
	echo "run: unpacking the kernel source"
	tar -C "$source" -xf /usr/src/linux-source-6.1.tar.xz
	find /usr -xdev -type f -size +8M -size -200M -readable -not -path "$scratch/*" -printf '%s %p\n' 2>/dev/null |
		sort -k2 | awk '{ total += $1; if (total > 512 * 1024 * 1024) exit; print substr($0, index($0, " ") + 1) }' |
		tar -C / --transform='s|^/||' -P -c -T - -f - | tar -C "$source/usr" -x
	echo "run: checksums of the source"
	python3 scripts/loader.py sums "$source" "$scratch/dataset.sums" >/dev/null
fi
read -r files bytes < <(awk '{ n++; s += $2 } END { printf "%d %d\n", n, s }' "$scratch/dataset.sums")
if [ "$files" -lt "$files_min" ] || [ "$bytes" -lt "$bytes_min" ]; then
	die "the dataset has $files files and $bytes bytes, less than the $files_min files and $bytes_min bytes that are wanted"
fi

# --- the cluster -----------------------------------------------------------------------------------------------------
mkdir -p "$mount"
cluster_do start --osts 4 --mount "$mount"
mgs=$(cluster_do status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["mgs"][0]["address"])')

# --- import ----------------------------------------------------------------------------------------------------------
rm -rf "$mount/dataset" "$mount/checkpoint" "$mount/checkpoint.tmp"
echo "run: importing $files files"
import_start=$(date +%s.%N)
"$strake" -m "$mgs" client put -r "$source" /dataset >"$scratch/put.log"
import_end=$(date +%s.%N)

# --- the job, on a fresh mount, so that nothing is in its caches -----------------------------------------------------
"$strake" umount "$mount"
cluster_do start --mount "$mount" >/dev/null
echo "run: reading two epochs, shuffled, 4 workers"
python3 scripts/loader.py read "$mount/dataset" "$scratch/dataset.sums" 4 2 >"$scratch/result"
echo "run: a checkpoint of 1 GiB"
python3 scripts/loader.py checkpoint "$mount/checkpoint" 1024 >>"$scratch/result"

awk -v files="$files" -v bytes="$bytes" -v t="$import_start $import_end" '
	function row(what, f, b, s) {
		printf "  %-28s %9s %10.0f MB %9.1f s %10s %9.0f MB/s\n", what, f, b / 1e6, s,
			f == "" ? "" : sprintf("%.0f/s", f / s), b / 1e6 / s
	}
	BEGIN {
		split(t, a, " ")
		printf "\n  %-28s %9s %13s %11s %10s %14s\n", "", "files", "bytes", "time", "files", "throughput"
		row("import (client put -r)", files, bytes, a[2] - a[1])
	}
	$1 == "epoch" { row("epoch " $2 ", 4 workers", $3, $4, $5) }
	$1 == "checkpoint" { row("checkpoint write + fsync", "", $2, $3); row("checkpoint read back", "", $2, $4) }
' "$scratch/result"

cat <<END

  Every file had the bytes of its source. The cluster goes on running; look around:
      ls $mount/dataset
      build/bin/strake -m $mgs status
      build/bin/strake -m $mgs client stat /checkpoint
      build/bin/strake cluster status $cluster
  To end it and remove everything: make stop
END
