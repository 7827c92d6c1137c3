#!/bin/bash
# A mount that the kernel's NFS server exports, used by its client, by NFS 3 and 4.2: bytes and names are right, and handles
# lead where they did, whatever the server, the mount below and the MDS have forgotten meanwhile. In a guest (guest.sh), which
# has a kernel with both; NFS's programs are Debian's, from the folder $NFS_PACKAGES where this machine does not have them.
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /run/guest ] || skip "it runs in the guest of tests/guest/guest.sh"
NFS_PACKAGES=${NFS_PACKAGES:-/var/cache/strake/nfs}
if ! command -v rpc.nfsd >/dev/null; then
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d # what is installed is not started
	chmod 755 /usr/sbin/policy-rc.d
	DEBIAN_FRONTEND=noninteractive dpkg --no-triggers --force-unsafe-io -i "$NFS_PACKAGES"/*.deb >"$T/dpkg.log" 2>&1 ||
		skip "needs NFS's programs: $(tail -n 1 "$T/dpkg.log")"
fi
VERSIONS='3 4.2'
mkdir "$T/n3" "$T/n4.2"

daemon() { "$@" >>"$T/nfs.log" 2>&1 & PIDS="$PIDS $!"; }
registered() { rpcinfo -p 127.0.0.1 | grep -qw "$1"; }
# The server as an operator has it: it ends, and begins again, without its clients' noticing but by waiting.
nfs_starts() {
	exportfs -ra || fail "exportfs"
	rpc.nfsd --grace-time 10 --lease-time 10 4 || fail "rpc.nfsd"
}
nfs_stops() { rpc.nfsd 0 || fail "rpc.nfsd 0"; }
remounted() { # [OPTIONS]
	nfs_stops
	strake umount "$T/m" || fail "umount of what was exported"
	mount_more "$T/m" "$@"
	nfs_starts
}
# Nobody waits for a server that does not come back.
nfs_ends() {
	local status=$?
	umount -f -l "$T/n3" "$T/n4.2"
	rpc.nfsd 0
	exportfs -ua
	return $status
} 2>/dev/null
trap 'nfs_ends; cleanup' EXIT
forget() { sync; echo 3 >/proc/sys/vm/drop_caches; }

start --osts 2
mount_more "$T/m2" -o strict
mount -t nfsd nfsd /proc/fs/nfsd && mkdir -p /run/rpc_pipefs /run/sendsigs.omit.d && mount -t rpc_pipefs sunrpc /run/rpc_pipefs ||
	fail "this kernel has no NFS server"
echo "$T/m 127.0.0.1(rw,no_root_squash,no_subtree_check,fsid=0)" >/etc/exports # 0: what is above cannot be shown here
daemon rpcbind -f
await "rpcbind answers" registered portmapper
daemon nfsdcld -F
daemon rpc.mountd -F
await "mountd answers" registered mountd
nfs_starts
mount -t nfs -o vers=3,nolock "127.0.0.1:$T/m" "$T/n3" && mount -t nfs -o vers=4.2 127.0.0.1:/ "$T/n4.2" || fail "mount by NFS"

# --- a filesystem like any other ---------------------------------------------------------------------------------------------

for v in $VERSIONS; do
	N=$T/n$v
	mkdir "$N/hammer$v" "$T/m/many"
	hammer -p 2 -n $((2 * ${SCALE:-100})) -s 7 "$N/hammer$v" || fail "hammer by NFS $v"

	# A directory that takes many questions, while others come and go in it.
	(cd "$T/m/many" && seq -f 'stays%04g' 1500 | xargs touch)
	(cd "$T/m2/many" && for i in $(seq 100); do touch "goes$i" && rm "goes$i"; done) &
	pid=$!
	expect "what is listed by NFS $v" "$(seq -f 'stays%04g' 1500 | cksum)" \
		"$(cd "$N/many" && ls -U | sed -n /^stays/p | LC_ALL=C sort | cksum)"
	wait $pid
	rm -r "$N/many" || fail "rm -r by NFS $v"
	[ ! -e "$T/m2/many" ] || fail "NFS $v has removed nothing"
done

# Users as they are, with their groups; who has not the right to does not keep setuid bits.
chmod o+x "$T"
mkdir -m 2775 "$T/m2/group" && chgrp 5000 "$T/m2/group"
as_user() { setpriv --reuid 4711 --regid 4711 --groups "$1" bash -c "cd $T/n4.2/group && $2" 2>"$T/err"; }
as_user 5000 'echo hers >file' || fail "a member of the group: $(cat "$T/err")"
as_user 5001 'echo hers >other' && fail "no member of the group may write"
expect "owner and group" "4711 5000" "$(stat -c '%u %g' "$T/m2/group/file")"
for how in 'echo x >>file' 'fallocate -l 100000 file'; do
	chmod 6777 "$T/m2/group/file"
	as_user 5000 "$how" || fail "$how: $(cat "$T/err")"
	expect "the mode after $how" 777 "$(stat -c %a "$T/m2/group/file")"
done

# What is copied by NFS 4.2 the OSTs copy among themselves.
counter() { getfattr --absolute-names --only-values -n strake.stats "$T/m" | awk -v name="$1" '$1 == name { print $2 }'; }
head -c 4000000 /dev/urandom >"$T/m2/bytes"
cp "$T/n4.2/bytes" "$T/n4.2/copy" && cmp "$T/m2/bytes" "$T/m2/copy" || fail "a copy by NFS is another"
expect "bytes that the OSTs have copied" 4000000 "$(counter bytes_copied)"

# --- handles -------------------------------------------------------------------------------------------------------------------

# For each version: a file and a directory that are open, and a process that stands in one.
for v in $VERSIONS; do
	mkdir -p "$T/n$v/dir$v/a/b"
	echo "old $v" >"$T/n$v/dir$v/a/b/file"
done
exec 3<>"$T/n3/dir3/a/b/file" 4<>"$T/n4.2/dir4.2/a/b/file"
# holds WHAT: what is open leads to what it did.
holds() {
	local v fd
	for v in $VERSIONS; do
		fd=${v%.*}
		expect "a file by NFS $v $1" "old $v" "$(head -n 1 "/proc/self/fd/$fd")"
		echo "$1" >>"/proc/self/fd/$fd"
		expect "what was written by NFS $v $1" "$1" "$(tail -n 1 "$T/m2/$(cd "$T/m2" && find . -path "*dir$v*" -name file)")"
	done
}
holds "at first"
forget
holds "when all was forgotten"
mv "$T/m2/dir3/a" "$T/m2/dir3-moved"
mv "$T/m2/dir4.2/a/b" "$T/m2/dir4.2-moved"
forget
holds "when it was moved"
remounted
holds "on a new mount"
crash mds 0
strake cluster start "$T/c" >/dev/null || fail "restart"
forget
holds "after a restart of the MDS"
exec 3<&- 4<&-

# Who comes by a handle looks up no name that is old.
for v in $VERSIONS; do
	for i in 1 2 3; do
		echo "$i" >"$T/m2/open$v$i"
		exec 3<"$T/n$v/open$v$i"
		mv "$T/m2/open$v$i" "$T/m2/opened$v$i"
		expect "a file that was renamed since it was opened by NFS $v" "$i" "$(cat <&3)"
		exec 3<&-
	done

	# What was removed is gone, and nothing comes in its place.
	exec 3<"$T/n$v/opened${v}1"
	rm "$T/m2/opened${v}1"
	for i in $(seq 20); do echo "$i" >"$T/m2/other$i"; done
	nfs_stops
	forget
	nfs_starts
	cat <&3 >"$T/out" 2>&1 && fail "what was removed is read by NFS $v: $(cat "$T/out")"
	# What was open by NFS 4 is so no more.
	grep -qE "Stale file handle|Bad file descriptor" "$T/out" || fail "what was removed, by NFS $v: $(cat "$T/out")"
	exec 3<&-
done

# --- together with other mounts: as mount.strake(8) says ------------------------------------------------------------------------

echo 0 >/proc/sys/fs/leases-enable
remounted -o strict
for v in $VERSIONS; do
	for i in 1 2 3; do
		echo old >"$T/m2/place$v$i"
		expect "a file that was written elsewhere, by NFS $v" old "$(cat "$T/n$v/place$v$i")"
		echo longer >"$T/m2/place$v$i"
		expect "one that was written elsewhere again, by NFS $v" longer "$(cat "$T/n$v/place$v$i")"
		echo new >"$T/m2/next" && mv "$T/m2/next" "$T/m2/place$v$i"
		expect "one that has taken its place, by NFS $v" new "$(cat "$T/n$v/place$v$i")"
	done
done
python3 tests/tools/lockers.py nfs "$T/n4.2" "$T/m2" 3 || fail "locks between NFS and another mount"

# --- servers that go, under work ------------------------------------------------------------------------------------------------

for v in $VERSIONS; do
	: >"$T/counts"
	rm -f "$T/enough"
	mkdir "$T/n$v/work$v"
	hammer -p 2 -u "$T/enough" -c "$T/counts" -s 9 "$T/n$v/work$v" >"$T/hammer.out" 2>&1 &
	WORKER=$!
	progress() { od -An -tu8 "$T/counts" | xargs; }
	goes_on() { [ "$(progress)" != "$before" ]; }
	for harm in "crash mds 0" "crash oss 0" nfs_stops; do
		before=$(progress)
		await "work by NFS $v before $harm" goes_on
		$harm
		if [ "$harm" = nfs_stops ]; then nfs_starts; else strake cluster start "$T/c" >/dev/null || fail "restart"; fi
		before=$(progress)
		await "work by NFS $v after $harm" goes_on
	done
	touch "$T/enough"
	wait $WORKER || fail "work by NFS $v: $(cat "$T/hammer.out")"
done

umount "$T/n3" && umount "$T/n4.2" || fail "umount of NFS"
