#!/bin/bash
# An unlinked open file stays readable and writable until it is closed, also across a restart of the MDS; then its space
# is given back.
. "$(dirname "$0")/lib.sh"

start --osts 2
head -c 3000000 /dev/urandom >"$T/data"
cp "$T/data" "$T/m/doomed"
exec 3<>"$T/m/doomed"
rm "$T/m/doomed"
cmp -s "$T/data" /dev/fd/3 2>/dev/null || cat <&3 | cmp -s - "$T/data" || fail "unlinked and open"
crash mds 0
strake cluster start "$T/c" >/dev/null || fail "restart"
echo 3 >/proc/sys/vm/drop_caches
python3 - "$T/data" <<'PY' || fail "unlinked and open, after a restart of the MDS"
import os, sys
want = open(sys.argv[1], "rb").read()
assert os.pread(3, 4000000, 0) == want
os.pwrite(3, b"more", 3000000)
assert os.pread(3, 100, 3000000) == b"more"
PY
objects() { find "$T"/c/ost?/objects -type f | wc -l; }
[ "$(objects)" -gt 0 ] || fail "its objects are gone"
exec 3<&-
gone() { [ "$(objects)" = 0 ]; }
await "its space given back" gone
