#!/bin/bash
# The edges of what can be done to a file's bytes: the same calls on the mount and on ext4, every result, errno and byte
# compared; 16 TiB of holes in little time and few requests.
. "$(dirname "$0")/lib.sh"

start --osts 4
mkdir "$T/local"
truncate -s 3G "$T/disk"
mkfs.ext4 -q "$T/disk" || fail "mkfs"
at_exit() { umount "$T/local"; }
mount -o loop "$T/disk" "$T/local" || skip "cannot mount a loop device"
python3 "$(dirname "$0")/../tools/data_edges.py" "$T/local" "$T/m" || fail "it is not as on ext4"

# How far it is costs no more requests.
stat_of() { getfattr --absolute-names --only-values -n strake.stats "$T/m" | awk -v name="$1" '$1 == name { print $2 }'; }
python3 -c 'import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.pwrite(fd, b"x", (16 << 40) - 1)' "$T/m/far" && sync -f "$T/m" || fail "write far out" # nothing is left to be sent later
before=$(stat_of ost_calls)
expect "the data" $(((16 << 40) - 4096)) "$(python3 -c 'import os, sys
print(os.lseek(os.open(sys.argv[1], os.O_RDONLY), 0, os.SEEK_DATA))' "$T/m/far")"
[ $(($(stat_of ost_calls) - before)) -le 10 ] || fail "$(($(stat_of ost_calls) - before)) requests to find it"
