#!/bin/bash
# Many processes at once on one mount, each against its own model.
. "$(dirname "$0")/lib.sh"

start --osts 4
ops=$((20 * ${SCALE:-100}))
hammer -p 8 -n "$ops" -s 101 "$T/m" || fail "hammer"
hammer -p 2 -n "$((ops / 8))" -s 102 -m 9000000 "$T/m" || fail "hammer with larger files"

# Many in one directory, racing for the same names: each name goes to one.
python3 - "$T/m" <<'PY' || fail "O_EXCL races"
import multiprocessing, os, sys
def claim(me):
    won = 0
    for i in range(300):
        try:
            os.close(os.open(f"{sys.argv[1]}/race{i}", os.O_CREAT | os.O_EXCL | os.O_WRONLY)); won += 1
        except FileExistsError: pass
    return won
with multiprocessing.Pool(6) as pool: total = sum(pool.map(claim, range(6)))
assert total == 300, total
PY
