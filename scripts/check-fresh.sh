#!/bin/bash
# make check-fresh: `make run`, `make stop` and `make check` of what is committed, on a machine that has nothing of it.
#
# The machine is a minimal Debian bookworm with nothing but apt and make, in namespaces of its own (mount, pid, net, ipc).
# Its packages come from where apt here gets Debian's: the same sources, keys, proxies and certificates. Its network is
# slirp4netns's, where this machine's loopback is 10.0.2.2. However this ends, its processes, mounts and files go.
#
#   DIR=build/fresh         where: DIR/root, and DIR/log with what each verb said and, of one that failed, the tests' logs
#   ONLY="run stop check"   which verbs
#   KEEP=1                  DIR/root stays
#
# Exits with 0 when every verb did and none but run left something behind. Needs root.
set -eu
tree=$(cd "$(dirname "$0")/.." && pwd)
dir=$(realpath -m "${DIR:-$tree/build/fresh}")
read -ra verbs <<<"${ONLY:-run stop check}"
root=$dir/root log=$dir/log host=$dir/host

die() { echo "fresh: $*" >&2; exit 1; }

# --- in the root ------------------------------------------------------------------------------------------------------

# what_is_there: what no verb but run may have changed when it ends
what_is_there() {
	cat /proc/mounts
	ls -A /tmp /dev/shm
	ls -l /proc/[0-9]*/exe 2>/dev/null | sed -n 's,.* \(/root/strake/.*\),\1,p' # programs of ours that run
}

# do_verbs VERB...: process 1
do_verbs() {
	local verb start status=0 before left
	cd /root/strake
	before=$(what_is_there)
	for verb in "$@"; do
		start=$SECONDS
		if make "$verb" >"/log/$verb.log" 2>&1; then
			echo "fresh: make $verb: $((SECONDS - start)) s"
		else
			status=1
			echo "fresh: make $verb: FAILED after $((SECONDS - start)) s; the end of $verb.log:"
			tail -n 60 "/log/$verb.log" | sed 's/^/      /'
			[ ! -d build/log ] || cp -r build/log /log/tests
		fi
		[ "$verb" != run ] || continue
		left=$(diff <(echo "$before") <(what_is_there)) || {
			status=1
			printf 'fresh: make %s: has left or taken:\n%s\n' "$verb" "$left"
		}
	done
	exit $status
}

# --- in the namespaces, on the way there ------------------------------------------------------------------------------

make_root() {
	mount --bind "$host/etc/resolv.conf" /etc/resolv.conf
	# shellcheck disable=SC2016 # $1 is the hooks' own
	mmdebstrap --variant=minbase --include=make --setup-hook="cp -a '$host/.' \"\$1\"" \
		--customize-hook="cp -a '$host/etc/resolv.conf' \"\$1/etc\"" bookworm "$root" '' >"$log/mmdebstrap.log" 2>&1 || {
		tail -n 40 "$log/mmdebstrap.log"
		die "no root was made; $log/mmdebstrap.log has the whole story"
	}
	mv "$dir/clone" "$root/root/strake"
}

enter_root() {
	local node
	mount --bind "$root" "$root"
	cd "$root"
	mount -t proc proc proc
	mount -t sysfs sysfs sys
	mount -t tmpfs -o mode=755 tmpfs run
	mount -t tmpfs -o mode=755 tmpfs dev
	for node in null zero full random urandom tty fuse; do
		touch dev/$node
		mount --bind /dev/$node dev/$node
	done
	mkdir dev/pts dev/shm log old
	mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
	mount -t tmpfs -o mode=1777 tmpfs dev/shm
	ln -s pts/ptmx dev/ptmx
	ln -s /proc/self/fd dev/fd
	ln -s /proc/self/fd/0 dev/stdin
	ln -s /proc/self/fd/1 dev/stdout
	ln -s /proc/self/fd/2 dev/stderr
	ln -sf ../proc/self/mounts etc/mtab # as every boot makes it; fusermount3 insists on it
	mount --bind "$log" log
	pivot_root . old
	cd /
	umount -l old
	rmdir old
}

if [ "${1:-}" = --inside ]; then
	read -r _ # the network is there
	mapfile -t environment <"$host.environment"
	[ ${#environment[@]} = 0 ] || export "${environment[@]}"
	make_root
	echo "fresh: a root of $(du -sxm "$root" | cut -f 1) MB"
	enter_root
	exec env -i "${environment[@]}" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
		/bin/bash -c "$(declare -f what_is_there do_verbs); do_verbs ${verbs[*]}" </dev/null
fi

# --- out here ---------------------------------------------------------------------------------------------------------

# The files that have Debian bookworm's sources in them
source_files() {
	# shellcheck disable=SC2016 # apt's own variables
	apt-get indextargets --format '$(CODENAME) $(SOURCESENTRY)' 'Origin: Debian' 'Created-By: Packages' |
		sed -n 's/^bookworm[^ ]* \(.*\):[0-9]*$/\1/p' | sort -u
}

# The proxies that apt has heard of may be on this machine itself.
from_inside() { sed -E '/proxy/I s/\<(localhost|127\.0\.0\.1)\>/10.0.2.2/'; }

# What the root gets of this machine's /etc; and $host.environment
copy_host() {
	local apt=$host/etc/apt file
	mkdir -p "$host/etc"
	cp -a /etc/apt "$host/etc"
	rm -rf "$apt"/sources.list* "$apt"/apt.conf* # the rest is keys, passwords, mirrors, preferences
	mkdir "$apt/apt.conf.d"
	apt-config dump Acquire | grep -v ^Acquire::IndexTargets | from_inside >"$apt/apt.conf.d/00host"
	[ -n "$(source_files)" ] || apt-get -qq update
	for file in $(source_files) /etc/hosts /etc/ssl/certs/ca-certificates.crt /usr/local/share/ca-certificates \
		${SSL_CERT_FILE:-} $(sed -n 's/^Acquire::https.*::CAInfo "\(.*\)";$/\1/p' "$apt/apt.conf.d/00host"); do
		[ ! -e "$file" ] || (cd / && cp -aL --parents ".$file" "$host")
	done
	[ -n "$(ls -d "$apt"/sources.list* 2>/dev/null)" ] || die "apt here does not know Debian bookworm"
	{ echo "nameserver 10.0.2.3" && grep -E '^(search|options) ' /etc/resolv.conf; } >"$host/etc/resolv.conf" || :
	env | grep -iE '^([a-z]*_proxy|SSL_CERT_FILE)=' | from_inside >"$host.environment" || :
}

# Process 1 of the namespaces takes all others with it, and they the mounts.
cleanup() {
	trap - EXIT
	# shellcheck disable=SC2046 # words, or none
	[ -z "${box:-}" ] || { kill -9 $(ps -o pid= --ppid "$box") ${network:-} 2>/dev/null; wait "$box" 2>/dev/null; } || :
	rm -rf --one-file-system "$dir/clone" "$host" "$host.environment"
	[ -n "${KEEP:-}" ] || rm -rf --one-file-system "$root"
}

[ "$(id -u)" = 0 ] || die "needs root"
for device in /dev/fuse /dev/net/tun; do [ -c $device ] || die "needs $device"; done
"$tree/scripts/deps.sh" mmdebstrap slirp4netns
mkdir -p "$dir"
exec 9<"$dir"
flock -n 9 || die "another one is at work in $dir"
trap cleanup EXIT
trap 'exit 130' INT TERM HUP
rm -rf --one-file-system "$dir/clone" "$host" "$root" "$log"
mkdir "$log"
copy_host
[ -z "$(git -C "$tree" status --porcelain)" ] || echo "fresh: what is not committed is left out"
git clone -q --no-hardlinks "$tree" "$dir/clone"

# Whatever becomes of this script, neither outlives it.
fatal="setpriv --pdeathsig KILL"
exec 8>&1
coproc inside { exec $fatal unshare --mount --pid --net --ipc --fork --kill-child --mount-proc \
	bash -c 'echo; exec "$0" --inside >&8 2>&1 8>&-' "$0" 2>"$log/namespaces.log" 9<&-; }
box=$inside_PID
read -r _ <&"${inside[0]}"
exec 7< <(exec $fatal slirp4netns --configure --mtu=65520 --ready-fd=5 "$box" tap0 5>&1 >"$log/network.log" 2>&1 8>&- 9<&-)
network=$!
read -rN 1 _ <&7 || die "no network; see $log/network.log"
echo >&"${inside[1]}"
status=0
wait "$box" || status=$?
box=
grep -h ' passed, .* skipped$' "$log/check.log" 2>/dev/null || :
exit $status
