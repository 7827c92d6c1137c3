#!/bin/bash
# Names at their limits; and directories as those see them who have them open while others, here and on another mount, move,
# fill, empty and remove them, and while the MDS restarts (tools/names.py).
. "$(dirname "$0")/lib.sh"

start --osts 1
mount_more "$T/m2"
mkdir "$T/m/here"
cat >"$T/restart" <<'END'
set -e
pid=$(strake cluster status "$1" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["mds"][0]["pid"])')
kill -9 "$pid"
while [ -e /proc/$pid ] && ! grep -q '^State:.*[ZX]' /proc/$pid/status; do sleep 0.05; done
strake cluster start "$1" >/dev/null
END
crowd=$((20 * ${SCALE:-100}))
python3 "$(dirname "$0")/../tools/names.py" "$T/m/here" "$T/m2/here" "bash $T/restart $T/c" $((crowd < 1000000 ? crowd : 1000000)) ||
	fail "names"

# The root of a mounted subdirectory has nothing above it.
mkdir "$T/s"
MOUNTS="$MOUNTS $T/s"
mount.strake "$MGS:/here" "$T/s" || fail "mount of a subdirectory"
PYTHONPATH="$(dirname "$0")/../tools" python3 -B - "$T/s" <<'PY' || fail "the root of a mounted subdirectory"
import os, sys
from names import Dir, expect
with Dir(sys.argv[1]) as listing:
    expect("what it lists", [(b".", os.stat(sys.argv[1]).st_ino, 4), (b"..", os.stat(sys.argv[1]).st_ino, 4)], listing.all())
PY
