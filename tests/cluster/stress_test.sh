#!/bin/bash
# data_stress: every call on a file's bytes, drawn, against a model; on one mount, and on two in turn.
. "$(dirname "$0")/lib.sh"

start --osts 3
mount_more "$T/m2"
steps=$((600 * ${SCALE:-100} / 100 * ${TIMES:-1}))
for seed in 1 2 3; do
	timeout $((300 * ${TIMES:-1})) python3 "$(dirname "$0")/../tools/data_stress.py" $seed $steps "$T/m" || fail "one mount, seed $seed"
	timeout $((300 * ${TIMES:-1})) python3 "$(dirname "$0")/../tools/data_stress.py" $((seed + 100)) $steps "$T/m" "$T/m2" || fail "two mounts, seed $((seed + 100))"
done
