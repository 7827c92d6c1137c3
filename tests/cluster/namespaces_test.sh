#!/bin/bash
# Servers and clients as separate hosts: each in a network namespace of its own, servers listening on the wildcard.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/hosts.sh"

on c0 strake -m $MGS --key "$key" status >"$T/status"
grep -q '0\.0\.0\.0' "$T/status" && fail "a wildcard address was registered: $(cat "$T/status")"
grep -q '192\.0\.2\.3' "$T/status" || fail "OST 0 is not known by its address: $(cat "$T/status")"

for c in c0 c1; do mount_on $c "$T/$c"; done
head -c 20000000 /dev/urandom >"$T/data"
cp "$T/data" "$T/c0/f" || fail "cp"
cmp -s "$T/data" "$T/c1/f" || fail "another host reads other bytes"
hammer -p 2 -n "$((3 * ${SCALE:-100}))" -s 5 "$T/c0" || fail "hammer"

# The MGS is needed only for changes of the map.
ip netns exec "$tag" ip link set p1 down
echo "without the MGS" >"$T/c1/g"
expect "read while the MGS is cut off" "without the MGS" "$(cat "$T/c1/g")"
ip netns exec "$tag" ip link set p1 up

# A server that cannot be reached for a while: the others wait for it, and go on.
ip netns exec "$tag" ip link set p4 down
cp "$T/data" "$T/c0/h" &
copy=$!
ip netns exec "$tag" ip link set p4 up
wait "$copy" || fail "cp across a cut"
cmp -s "$T/data" "$T/c1/h" || fail "other bytes after a cut"
for c in c0 c1; do strake umount "$T/$c" || fail "umount on $c"; done
on c0 strake -m $MGS --key "$key" fsck >"$T/fsck.out" 2>&1 || fail "fsck: $(cat "$T/fsck.out")"
