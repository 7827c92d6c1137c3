#!/bin/bash
# make check-rdma: what needs a kernel of its own, in a guest (guest.sh): RDMA devices made of software, RoCE's (rxe) and
# iWARP's (siw); and the kernel's NFS server. Closes with "N passed, N failed, N skipped", like tests/run.sh. What cannot be
# done here is skipped, and why is said; on a machine where the guest works a skip is a failure.
set -u
cd "$(dirname "$0")/../.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL

skip() {
	echo "skip  $*"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
}

[ "$(uname -sm)" = "Linux x86_64" ] || skip "a user-mode Linux is for x86-64"
command -v apt-get >/dev/null || skip "the guest's kernel is built from Debian's source"
# What building and running it needs: not what the project needs.
scripts/deps.sh ibverbs-providers flex bison bc || skip "packages are missing"
kernel=$(tests/guest/kernel.sh) || skip "there is no kernel for the guest"
nfs=${kernel%/*}/nfs # the guest alone gets them, so that no NFS server begins here
scripts/deps.sh --fetch "$nfs" nfs-kernel-server || skip "NFS's packages are missing"
make -s -j"$(nproc)" tests-build || exit 1
transport="transport_life_test transport_traffic_test transport_calls_test transport_push_test rdma_format_test"
# shellcheck disable=SC2046,SC2086 # lists
make -s -j"$(nproc)" SAN=address,undefined build/san-address-undefined/lib/strake-rdma.so \
	$(printf 'build/san-address-undefined/tests/%s ' $transport) || exit 1

passed=0 failed=0
mkdir -p build/log

# guest_runs NAME KIND COMMAND [SECONDS]; $cpus: not as many as the machine has
guest_runs() {
	local log=build/log/guest-${1// /-}.log
	if tests/guest/guest.sh -r "$2" -m 2048 -t "${4:-600}" ${cpus:+-c "$cpus"} bash -c "$3" >"$log" 2>&1; then
		echo "ok    $1"
		passed=$((passed + 1))
	else
		echo "FAIL  $1, the end of $log:"
		tail -n 40 "$log" | sed 's/^/      /'
		failed=$((failed + 1))
	fi
}

# The same where files are mapped, by verifiers or by programs: with one CPU (guest.sh says why). That it is enough is seen first.
mapping_runs() { cpus=1 guest_runs "$@"; }
mapping_runs "mapped_holes" none "build/tests/mapped_holes /tmp/file"

# Its first address: a device with itself. Any other: two devices, and a wire between them, which can be cut.
two='TEST_RDMA=192.0.2.2 TEST_RDMA_WIRE=wires'
for kind in siw rxe; do
	for build in build build/san-address-undefined; do
		for name in $transport; do
			test="SEED=\$seed $build/tests/$name"
			guest_runs "$kind ${build#build/} $name" $kind "for seed in 0 1 2 3 4; do
				TEST_RDMA=192.0.2.1 $test && $two $test || exit; done"
		done
	done
	# A cluster whose every byte goes by RDMA: it listens by nothing else.
	by_rdma="TRANSPORT=rdma LISTEN=192.0.2.2"
	for test in names client_verbs kill; do guest_runs "$kind ${test}_test" $kind "$by_rdma SCALE=25 bash tests/cluster/${test}_test.sh"; done
	for test in data two_mounts; do mapping_runs "$kind ${test}_test" $kind "$by_rdma SCALE=25 bash tests/cluster/${test}_test.sh"; done
	for test in model sharing; do mapping_runs "$kind ${test}_test" $kind "$by_rdma SCALE=10 bash tests/cluster/${test}_test.sh"; done
	for test in only link late net peers hosts; do guest_runs "$kind ${test}_test" $kind "bash tests/guest/${test}_test.sh"; done
done
mapping_runs "nfs_test" none "NFS_PACKAGES=$(printf %q "$nfs") bash tests/guest/nfs_test.sh"
# Some 9,000 small calls: on the faster of the two.
if [ -n "${PJDFSTEST:-}" ]; then
	guest_runs "siw pjdfstest" siw "$by_rdma PJDFSTEST=$(printf %q "$PJDFSTEST") bash tests/guest/pjdfstest_test.sh" 3600
fi
printf '%d passed, %d failed, 0 skipped\n' "$passed" "$failed"
[ "$failed" = 0 ]
