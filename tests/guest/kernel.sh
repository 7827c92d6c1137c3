#!/bin/bash
# Prints the path of the guest's kernel, a user-mode Linux with software RDMA (rxe, siw), FUSE, io_uring, network
# namespaces and NFS. It is built from Debian's kernel source when it is not there: some 15 minutes of CPU time, once for
# each kernel.config. Kept outside the tree, in ${XDG_CACHE_HOME:-/var/cache}/strake. With --built it is not built: exit status 1.
#
# GUEST_SUITE: the Debian suite whose newest linux-source-N is built (default trixie-backports; empty: this machine's
# own). Before Linux 6.14 a user-mode Linux runs no sanitizer, before 6.19 it has one CPU.
set -u
here=$(cd "$(dirname "$0")" && pwd -P)
cache=${XDG_CACHE_HOME:-/var/cache}/strake
kernel=$cache/linux-$(cksum <"$here/kernel.config" | cut -d ' ' -f 1)
suite=${GUEST_SUITE-trixie-backports}
log=$kernel.log

fail() {
	echo "kernel: $*" >&2
	exit 1
}

# apt_of TOOL ARGUMENT...: asks the suite, by lists of its own, so that this machine's packages stay what they are
apt_of() {
	local tool=$1
	shift
	[ -n "$suite" ] || { "$tool" -q "$@" && return; }
	"$tool" -q -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o "Dir::Etc::sourcelist=$work/sources.list" \
		-o Dir::Etc::sourceparts=/dev/null -o Acquire::Languages=none "$@"
}

# The same mirror that this machine's own packages come from.
suite_lists() {
	local uri own
	own=$(. /etc/os-release && echo "$VERSION_CODENAME")
	# shellcheck disable=SC2016 # apt's own variables
	uri=$(apt-get indextargets --format '$(ORIGIN) $(CODENAME) $(REPO_URI)' 'Created-By: Packages' |
		awk -v own="$own" '$1 == "Debian" && $2 == own { print $3; exit }')
	[ -n "$uri" ] || fail "apt knows no Debian mirror"
	mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main" >"$work/sources.list"
	apt_of apt-get update
}

build() {
	local package
	[ -z "$suite" ] || suite_lists || return
	package=$(apt_of apt-cache search -n '^linux-source-[0-9.]+$' | awk '{ print $1 }' | sort -V | tail -n 1)
	[ -n "$package" ] || return
	echo "building $package" && mkdir "$work/linux" && cd "$work" &&
		apt_of apt-get download "$package" && dpkg-deb -x linux-source-*.deb package && rm linux-source-*.deb &&
		tar -xJf package/usr/src/linux-source-*.tar.xz -C linux --strip-components=1 --exclude='*.dts*' --exclude='*.rst' \
			--exclude='*/drivers/gpu/*.[ch]' --exclude='*/drivers/net/wireless/*.[ch]' --exclude='*/sound/*.[ch]' &&
		cd linux && make -s ARCH=um KCONFIG_ALLCONFIG="$here/kernel.config" allnoconfig || return
	for option in RDMA_RXE RDMA_SIW INFINIBAND_USER_ACCESS FUSE_FS IO_URING HOSTFS OVERLAY_FS VETH NET_NS NFSD_V4 NFS_V3 NFS_V4_2; do
		grep -q "^CONFIG_$option=y" .config || { echo "there is no CONFIG_$option" && return 1; }
	done
	nice -n 15 make -s ARCH=um -j"$(nproc)" linux && strip linux && mv linux "$kernel"
}

[ ! -x "$kernel" ] || { echo "$kernel" && exit 0; }
[ "${1:-}" != --built ] || exit 1
mkdir -p "$cache" || fail "cannot make $cache"
exec 9>"$kernel.lock"
flock 9 # somebody else may be building it
if [ ! -x "$kernel" ]; then
	work=$(mktemp -d "$cache/building.XXXXXX") || exit 1
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM HUP
	echo "kernel: building the guest's kernel, once; it takes a while ($log)" >&2
	(unset MAKEFLAGS MFLAGS MAKELEVEL && build) >"$log" 2>&1 9>&- || fail "not built: $(tail -n 3 "$log")"
fi
echo "$kernel"
