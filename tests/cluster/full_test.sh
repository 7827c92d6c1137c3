#!/bin/bash
# A full OST: ENOSPC is told, by fsync or close at the latest; what was there stays; removing makes room again.
. "$(dirname "$0")/lib.sh"

# The OST's data on a disk of 64 MB.
start --osts 1
strake cluster stop "$T/c" >/dev/null || fail "stop"
mv "$T/c/ost0" "$T/disk"
mkdir "$T/c/ost0"
at_exit() { umount -l "$T/c/ost0" 2>/dev/null; }
mount -t tmpfs -o size=64M none "$T/c/ost0" || skip "cannot mount a small tmpfs"
cp -a "$T/disk/." "$T/c/ost0/"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start on a small disk"
head -c 10000000 /dev/urandom >"$T/data"
cp "$T/data" "$T/m/before" || fail "cp"
sync "$T/m/before"
# What statvfs(2) says is what the disk has and has free.
space() { # DIR: bytes in all, MiB free
	local total free unit
	read -r total free unit < <(stat -f -c '%b %f %S' "$1")
	echo $((total * unit)) $(((free * unit + (1 << 19)) >> 20))
}
real() { [ "$(space "$T/m")" = "$(space "$T/c/ost0")" ]; }
await "statvfs says what the disk has: $(space "$T/c/ost0")" real
tr '\0' x </dev/zero | dd of="$T/m/big" bs=1M count=200 iflag=fullblock conv=fsync 2>"$T/err" && fail "200 MB went onto 64 MB"
grep -qi "no space" "$T/err" || fail "wrong error: $(cat "$T/err")"
cmp -s "$T/data" "$T/m/before" || fail "what was there is damaged"
# What WRITEs that failed had stored by then is no part of the file, nor becomes one when that grows.
intact "$T/c" || fail "after a write that failed"
truncate -s +2M "$T/m/big" || fail "truncate on a full filesystem"
tail -c 2M "$T/m/big" | cmp -n $((2 << 20)) - /dev/zero || fail "a file that grew has what could not be written"
rm "$T/m/big" || fail "rm on a full filesystem"
head -c 200M /dev/zero >"$T/zeros"
strake -m "$MGS" client put "$T/zeros" /big 2>"$T/err" && fail "put of 200 MB onto 64 MB"
grep -qi "no space" "$T/err" || fail "put said: $(cat "$T/err")"
rm -f "$T/m/big" || fail "rm on a full filesystem"
writable() { cp "$T/data" "$T/m/after" 2>/dev/null && sync "$T/m/after" 2>/dev/null; }
await "room again" writable
cmp -s "$T/data" "$T/m/after" || fail "written after"

# Room that was allocated is there, however full it becomes; what cannot fit is refused at once, and nothing is taken for it.
rm -f "$T/m"/*
fallocate_all() { fallocate -l 20M "$T/m/kept" 2>/dev/null; }
await "room for 20 MB" fallocate_all
expect "its size" $((20 << 20)) "$(stat -c %s "$T/m/kept")"
[ "$(stat -c %b "$T/m/kept")" -ge $((20 << 11)) ] || fail "20 MB were allocated, and $(stat -c %b "$T/m/kept") blocks are taken"
fallocate -l 100M "$T/m/much" 2>"$T/err" && fail "100 MB on 64 MB were allocated"
grep -qi "no space" "$T/err" || fail "wrong error: $(cat "$T/err")"
expect "what was refused" "0 0" "$(stat -c "%s %b" "$T/m/much")"
dd if=/dev/zero of="$T/m/rest" bs=1M count=200 conv=fsync 2>"$T/err" && fail "200 MB went onto what is left of 64 MB"
dd if="$T/zeros" of="$T/m/kept" bs=1M count=20 conv=notrunc,fsync 2>"$T/err" || fail "no room where it was allocated: $(cat "$T/err")"
dd if="$T/data" of="$T/m/kept" bs=1M conv=notrunc,fsync 2>/dev/null || fail "no room the second time"
head -c 10000000 "$T/m/kept" | cmp - "$T/data" || fail "what was written there"
rm "$T/m/rest" "$T/m/kept" || fail "rm on a full filesystem"
