#!/bin/bash
# make check-rdma: what needs a kernel of its own, in a guest (guest.sh): RDMA devices made of software, RoCE's (rxe) and
# iWARP's (siw); and the kernel's NFS server. Closes with "N passed, N failed, N skipped", like tests/run.sh. What cannot be
# done here is skipped, and why is said; on a machine where the guest works a skip is a failure.
#
#   check.sh          ALL=1: and every cluster test that can be by RDMA, two hours more
#   check.sh --few    what make check runs of it, of what is built: where the guest's kernel is there already
set -u
cd "$(dirname "$0")/../.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL
few='' seeds="0 1 2 3 4"
[ "${1:-}" != --few ] || few=y seeds=0

skip() {
	[ -z "$few" ] || { echo "SKIP: $*" && exit 77; }
	echo "skip  $*"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
}

# Where there is the kernel the guest works: nothing is skipped there.
missing() {
	tests/guest/kernel.sh --built >/dev/null || skip "$@"
	echo "FAIL  $*"
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || skip "a user-mode Linux is for x86-64"
command -v apt-get >/dev/null || skip "the guest's kernel is built from Debian's source"
[ -z "$few" ] || tests/guest/kernel.sh --built >/dev/null || skip "there is no kernel for the guest yet: make check-rdma builds it"
# What building and running it needs: not what the project needs.
scripts/deps.sh ibverbs-providers flex bison bc || missing "packages are missing"
kernel=$(tests/guest/kernel.sh) || skip "there is no kernel for the guest"
transport="transport_life_test transport_traffic_test transport_calls_test transport_push_test rdma_format_test"
if [ -z "$few" ]; then
	nfs=${kernel%/*}/nfs # the guest alone gets them, so that no NFS server begins here
	scripts/deps.sh --fetch "$nfs" nfs-kernel-server || nfs=/nowhere # nfs_test fails, and no other
	make -s -j"$(nproc)" tests-build || exit 1
	# shellcheck disable=SC2046,SC2086 # lists
	make -s -j"$(nproc)" SAN=address,undefined build/san-address-undefined/lib/strake-rdma.so \
		$(printf 'build/san-address-undefined/tests/%s ' $transport) || exit 1
fi

passed=0 failed=0
mkdir -p build/log

# runs NAME COMMAND...: and says how it went
runs() {
	local log=build/log/guest-${1// /-}.log start=$SECONDS
	if "${@:2}" >"$log" 2>&1; then
		echo "ok    $1 ($((SECONDS - start)) s)"
		passed=$((passed + 1))
	else
		echo "FAIL  $1 ($((SECONDS - start)) s), the end of $log:"
		tail -n 40 "$log" | sed 's/^/      /'
		failed=$((failed + 1))
	fi
}

# guest_runs NAME KIND COMMAND [SECONDS]; $cpus: not as many as the machine has
guest_runs() { runs "$1" tests/guest/guest.sh -r "$2" -m 2048 -t "${4:-600}" ${cpus:+-c "$cpus"} bash -c "$3"; }

# The same where files are mapped, by verifiers or by programs: with one CPU (guest.sh says why). That it is enough is seen first.
mapping_runs() { cpus=1 guest_runs "$@"; }

# Its first address: a device with itself. Any other: two devices, and a wire between them, which can be cut.
transport_runs() { # KIND BUILD
	local name test
	for name in $transport; do
		test="SEED=\$seed $2/tests/$name"
		guest_runs "$1 ${2#build/} $name" "$1" "for seed in $seeds; do
			TEST_RDMA=192.0.2.1 $test && TEST_RDMA=192.0.2.2 TEST_RDMA_WIRE=wires $test || exit; done"
	done
}

# cluster_runs RUNS KIND SCALE TEST...: a cluster whose every byte goes by RDMA: it listens by nothing else.
# On siw a program that leaves a silent server waits 10 s in the kernel.
by_rdma="TRANSPORT=rdma LISTEN=192.0.2.2"
cluster_runs() {
	local test leaving=0
	[ "$2" != siw ] || leaving=15
	for test in "${@:4}"; do
		"$1" "$2 ${test}_test" "$2" "$by_rdma LEAVING=$leaving SCALE=$3 bash tests/cluster/${test}_test.sh"
	done
}
rdma_runs() { # KIND TEST...
	local test
	for test in "${@:2}"; do guest_runs "$1 ${test}_test" "$1" "bash tests/guest/${test}_test.sh"; done
}

# Those of ALL that are not: TCP is what they are about (config, cuts, net, peers), they make networks of their own, with no RDMA
# device there (namespaces, one_way, and chaos, for which there is guest/chaos_test), or clusters of their own, for which what
# fails is the power (boundaries, power).
not_all="boundaries chaos config cuts namespaces net one_way peers power"
some="names client_verbs kill xattr" mapping="data two_mounts" long="model sharing"
some_rxe="copy fence" # what OSTs read of each other, bytes that must not come late: where memory is shown by windows
all_others() { # KIND
	local test without="$not_all $some $mapping $long"
	[ "$1" != rxe ] || without="$without $some_rxe"
	for test in tests/cluster/*_test.sh; do
		test=${test##*/}
		case " $without " in *" ${test%_test.sh} "*) ;; *) echo "${test%_test.sh}" ;; esac
	done
}

if [ -n "$few" ]; then
	for kind in siw rxe; do
		transport_runs $kind build
		cluster_runs guest_runs $kind 25 kill
		rdma_runs $kind link late
	done
else
	mapping_runs "mapped_holes" none "build/tests/mapped_holes /tmp/file"
	# shellcheck disable=SC2086 # lists
	for kind in siw rxe; do
		transport_runs $kind build
		transport_runs $kind build/san-address-undefined
		cluster_runs guest_runs $kind 25 $some
		cluster_runs mapping_runs $kind 25 $mapping
		cluster_runs mapping_runs $kind 10 $long
		rdma_runs $kind only link late net peers hosts
		guest_runs "$kind chaos_test" $kind "SCALE=$([ $kind = siw ] && echo 32 || echo 16) bash tests/guest/chaos_test.sh" # on rxe twice
	done
	guest_runs "rxe hosts_test by IPv6" rxe "FAMILY=6 SCALE=25 bash tests/guest/hosts_test.sh"
	guest_runs "siw hosts_test by IPv6" siw "FAMILY=6 TRANSPORT=rdma SCALE=25 bash tests/guest/hosts_test.sh"
	# shellcheck disable=SC2086 # a list
	cluster_runs mapping_runs rxe 25 $some_rxe
	rdma_runs rxe device
	runs counts env COUNTS=1 tests/guest/bench.sh # no byte is copied in user space; a small call is one send and one receive
	mapping_runs "nfs_test" none "NFS_PACKAGES=$(printf %q "$nfs") bash tests/guest/nfs_test.sh"
	if [ -n "${ALL:-}" ]; then
		# shellcheck disable=SC2046 # a list
		for kind in siw rxe; do cluster_runs mapping_runs $kind 25 $(all_others $kind); done
	fi
	# Some 9,000 small calls: on the faster of the two.
	if [ -n "${PJDFSTEST:-}" ]; then
		guest_runs "siw pjdfstest" siw "$by_rdma PJDFSTEST=$(printf %q "$PJDFSTEST") bash tests/guest/pjdfstest_test.sh" 3600
	fi
fi
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" = 0 ]
