#!/bin/bash
# Several processes of several threads on the same few files of one mount, by write and by mapped pages that they share,
# with truncates, holes and opens between them: every byte that any of them reads is what it must be (tests/tools/sharers.c),
# and in the end also what another mount reads.
. "$(dirname "$0")/lib.sh"

start --osts 3
mount_more "$T/m2"
ops=$((20 * ${SCALE:-100}))
sharers -p 4 -t 2 -n "$ops" -r 3 -s 1 "$T/m" "$T/m2" || fail "sharers"
sharers -p 2 -t 4 -n "$ops" -r 2 -s 2 -m 3000000 "$T/m" "$T/m2" || fail "sharers of larger files"
