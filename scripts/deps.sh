#!/bin/sh
# Installs what building, running and testing StrakeFS needs, from Debian's packages, and further packages that are named.
# Needs root where something is missing; says so otherwise.
#
# deps.sh --fetch DIR PACKAGE...: these packages, and what else they need here, into DIR, and nothing is installed.
set -eu

# apt tells a lot; it is shown when something goes wrong.
said=$(mktemp)
trap 'rm -f "$said"' EXIT
apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" >"$said" 2>&1 && return
	cat "$said" >&2
	echo "deps: apt-get $* has failed" >&2
	return 1
}

if [ "${1:-}" = --fetch ]; then
	dir=$2
	shift 2
	mkdir -p "$dir/partial"
	set -- install --download-only --no-install-recommends -y -o Dir::Cache::archives="$dir" -o Debug::NoLocking=1 "$@"
	apt "$@" 2>/dev/null || { apt update && apt "$@"; }
	exit
fi

set -- build-essential pkg-config protobuf-c-compiler libprotobuf-c-dev libfuse3-dev fuse3 liburing-dev liblmdb-dev \
	libssl-dev libsystemd-dev libisal-dev libinih-dev libibverbs-dev librdmacm-dev check clang libclang-rt-14-dev clang-format \
	iproute2 procps util-linux attr acl e2fsprogs python3 git rsync xz-utils "$@"

if ! command -v apt-get >/dev/null; then
	echo "deps: this is no Debian; install what these packages have: $*" >&2
	exit 1
fi
missing=
for p in "$@"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing="$missing $p"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
	echo "deps: packages are missing, and only root can install them; run as root: apt-get install$missing" >&2
	exit 1
fi

echo "deps: installing$missing"
# PostgreSQL's package would make a database of the machine's own, and start it.
case " $missing " in
*" postgresql "*)
	export UCF_FORCE_CONFFOLD=1
	mkdir -p /etc/postgresql-common
	[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = off" >/etc/postgresql-common/createcluster.conf
	;;
esac
apt update || true # without a network what is on the disk may do
# shellcheck disable=SC2086 # a list of words
apt install -y --no-install-recommends $missing
