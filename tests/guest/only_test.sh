#!/bin/bash
# RDMA and nothing else: where `transport` is rdma no server and no mount has a socket of TCP, so each byte between them, those to
# and from the MGS, too, goes by RDMA; also when servers were killed and found again, and when a mount's daemon was: the servers
# hear of it, and what it had synced is there. And the workers of a mount have queue pairs of their own. In a guest (guest.sh).
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"

counter() { getfattr --absolute-names --only-values -n strake.stats "$T/$1" | awk -v name="$2" '$1 == name { print $2 }'; }
# has_tcp PID: a process with a socket of TCP. The kernel's own, as those of siw, are no process's.
has_tcp() {
	local socket
	for socket in $(find "/proc/$1/fd" -printf '%l\n' | sed -n 's/^socket:\[\(.*\)\]$/\1/p'); do
		awk -v socket="$socket" '$10 == socket { found = 1 } END { exit !found }' "/proc/$1/net/tcp" && return
	done
	return 1
}
only_rdma() { # AFTER
	local pid count=0
	for pid in $(ps -eo pid=,comm= | awk '$2 ~ /^(strake-mgs|strake-mds|strake-oss|mount\.strake)$/ { print $1 }'); do
		! has_tcp "$pid" || fail "a socket of TCP after $1: $(ps -o args= "$pid")"
		count=$((count + 1))
	done
	expect "processes after $1" 6 $count
	for m in m m2; do
		expect "connections by TCP of $m after $1" 0 "$(counter $m connections_tcp)"
		expect "bytes by TCP of $m after $1" 0 "$(counter $m bytes_tcp)"
		[ "$(counter $m bytes_rdma)" -gt 0 ] || fail "$m has moved no bytes by RDMA after $1"
	done
}

# One that there is would be seen.
cluster "$T/a" --osts 1 --listen 192.0.2.2
has_tcp "$(field "$T/a" mgs 0 pid)" || fail "an MGS that listens by TCP has no socket"
strake cluster stop "$T/a" >/dev/null || fail "stop"

mkdir "$T/m" "$T/m2"
cluster "$T/c" --osts 2 --listen 192.0.2.2 --transport rdma
MGS=$(field "$T/c" mgs 0 address)
mount_more "$T/m" -o workers=4
mount_more "$T/m2" -o workers=1,transport=rdma
for n in 0 1; do alive "$(field "$T/c" mounts $n pid)" || fail "status does not know the daemon of a mount"; done
work() { # SEED
	hammer -p 4 -n "$((${SCALE:-100} / 2))" -s "$1" "$T/m" || fail "hammer"
	head -c 10000000 /dev/urandom >"$T/m/f" && cp "$T/m/f" "$T/copy" && cmp "$T/copy" "$T/m2/f" || fail "another mount reads other bytes"
}
work 1
only_rdma "work"

# Of an MDT and two OSTs one worker and the mount's control loop have six connections at most.
crowded() { hammer -p 4 -n 10 -s $((100 + tries)) "$T/m" >"$T/hammer.out" 2>&1 && [ "$(counter m connections_rdma)" -gt 6 ]; }
await "workers have queue pairs of their own" crowded
[ "$(counter m2 connections_rdma)" -le 6 ] || fail "one worker has $(counter m2 connections_rdma) connections"
say "connections of 4 workers: $(counter m connections_rdma), of one: $(counter m2 connections_rdma)"

# A mount's daemon is killed while a file is open there that was synced.
crash_mount() { # MNT FILE NAME: of the file, which has its bytes
	strake cluster status "$T/c" --json | python3 -c '
import json, os, signal, sys
mnt, source, name = sys.argv[1:]
pid = next(mount["pid"] for mount in json.load(sys.stdin)["mounts"] if mount["path"] == mnt)
with open(source, "rb") as file: data = file.read()
fd = os.open(f"{mnt}/{name}", os.O_WRONLY | os.O_CREAT)
while data: data = data[os.write(fd, data):]
os.fsync(fd)
os.kill(pid, signal.SIGKILL)' "$@" || fail "no daemon of $1"
}
connections() { # of the MDS and the OSSes, as they say
	strake -m "$MGS" status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
print(sum(server["connections"]["rdma"] for server in status["mds"] + status["oss"]))'
}
# Two of the MDS and the mounts, to each OSS.
all_told() { [ "$(connections)" = $(($(counter m connections_rdma) + $(counter m2 connections_rdma) + 2)) ]; }
await "the servers tell of all connections" all_told
before=$(connections) gone=$(counter m2 connections_rdma)
head -c 10000000 /dev/urandom >"$T/synced"
crash_mount "$T/m2" "$T/synced" synced
fallen() { [ "$(connections)" = $((before - gone)) ]; }
await "the servers hear that the mount is gone" fallen
umount -l "$T/m2" || fail "umount of a mount whose daemon was killed"
mount_more "$T/m2" -o workers=1,transport=rdma
cmp "$T/synced" "$T/m2/synced" || fail "what was synced by a daemon that was killed is not there"
work 2
only_rdma "a mount's daemon was killed"

for role in mgs mds oss; do
	crash $role 0
	strake cluster start "$T/c" >/dev/null || fail "restart of the $role"
done
work 3
only_rdma "each server was killed"
