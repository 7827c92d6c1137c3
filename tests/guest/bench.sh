#!/bin/bash
# make bench-rdma: RDMA beside TCP, on devices of software in a guest (guest.sh): a table for siw and one for rxe. It is no
# test: whatever the figures are, it exits with 0. On such devices the CPU does the card's work, so what counts is what is
# counted: copies, bytes through sockets, system calls; speeds say something of each other at most. The machine should be idle.
#
#   TURNS=3  KINDS="siw rxe"
#   SIZE=128   MiB that are written and read, by calls of 1 MiB
#   COUNTS=1   only what is counted; and that is a test: exit status 1 where RDMA copies what it need not (bench.py)
set -u
cd "$(dirname "$0")/../.." || exit 1
unset MAKEFLAGS MFLAGS MAKELEVEL

die() {
	echo "bench-rdma: $*" >&2
	exit 1
}

scripts/deps.sh ibverbs-providers flex bison bc || die "packages are missing"
tests/guest/kernel.sh >/dev/null || die "there is no kernel for the guest"
mkdir -p build/tests
"${CC:-cc}" -std=gnu17 -Wall -Wextra -O2 -fno-builtin -shared -fPIC -o build/tests/copies.so tests/guest/copies.c || die "no copies.so"
for kind in ${KINDS:-siw rxe}; do
	echo "--- $kind ---"
	GUEST_ENV="TURNS SIZE COUNTS" tests/guest/guest.sh -r "$kind" -m 3072 -t 1800 python3 tests/guest/bench.py "$PWD/build/bin" \
		"$PWD/build/tests/copies.so" || die "$kind: not done, or not as it must be"
done
