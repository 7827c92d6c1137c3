#!/bin/bash
# pjdfstest by RDMA, where PJDFSTEST=DIR names one that is built. In a guest (guest.sh), which sees DIR by hostfs.
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"
[ -n "${PJDFSTEST:-}" ] || skip "PJDFSTEST names no pjdfstest"
command -v prove >/dev/null || skip "needs prove (perl)"

mkdir "$T/suite"
at_exit() { umount "$T/suite"; }
mount -t hostfs -o "$PJDFSTEST" none "$T/suite" || fail "cannot see $PJDFSTEST"
[ -x "$T/suite/pjdfstest" ] || fail "there is no built pjdfstest in $PJDFSTEST"
start --osts 2
mkdir "$T/m/work" && cd "$T/m/work" || exit 1
prove -r "$T/suite/tests${PART:+/$PART}" >"$T/prove.out" 2>&1 || { cat "$T/prove.out" >&2; fail "pjdfstest"; }
cd /
tail -n 3 "$T/prove.out"
