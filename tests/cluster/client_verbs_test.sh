#!/bin/bash
# strake client: files and trees in and out without a mount, as cp -a keeps them.
. "$(dirname "$0")/lib.sh"

start --osts 3
client() { strake -m "$MGS" client "$@"; }
src=$T/src
mkdir -p "$src/deep/er" "$src/empty"
head -c 9000001 /dev/urandom >"$src/big"
echo small >"$src/deep/small"
ln "$src/deep/small" "$src/hard"
ln -s deep/small "$src/soft"
ln -s /nowhere/at/all "$src/dangling"
mkfifo "$src/fifo"
mknod "$src/dev" b 7 200
truncate -s 20M "$src/sparse"
printf data | dd of="$src/sparse" bs=1 seek=10000000 conv=notrunc 2>/dev/null
setfattr -n user.tag -v value "$src/big" 2>/dev/null && tagged=1
chmod 4711 "$src/big"
chmod 1770 "$src/empty"
chown -h 10:20 "$src/big" "$src/soft" "$src/empty"
touch -h -d '2010-01-02 03:04:05.678901234' "$src/soft" "$src/deep/small" "$src/deep/er" "$src/deep" "$src/big"
touch -d '1969-12-31 23:00:00.5' "$src/deep/er"
touch -d '2011-11-11 11:11:11.111111111' "$src"

client put -r "$src" /tree >"$T/out" || fail "put -r"
same "$src" "$T/m/tree"
expect "root's time" "$(stat -c %.9Y "$src")" "$(stat -c %.9Y "$T/m/tree")"
[ -z "${tagged:-}" ] || expect "xattr" value "$(getfattr --only-values -n user.tag "$T/m/tree/big")"
[ "$(stat -c %b "$T/m/tree/sparse")" -lt 20000 ] || fail "the hole was filled"
client get -r /tree "$T/back" >"$T/out" || fail "get -r"
same "$src" "$T/back"
[ "$(stat -c %b "$T/back/sparse")" -lt 20000 ] || fail "the hole was filled on the way back"
client put -r "$src" /tree 2>"$T/err" && fail "put over something that exists"
grep -q "exists" "$T/err" || fail "wrong words: $(cat "$T/err")"
client put "$src" /other 2>/dev/null && fail "put of a directory without -r"

client put -S 1M -c 2 "$src/big" /striped >"$T/out" || fail "put -S -c"
client stat /striped >"$T/stat" || fail "stat"
grep -qE 'stripe_size:? +1048576' "$T/stat" || fail "stripe size: $(cat "$T/stat")"
grep -qE 'total_chunks:? +9' "$T/stat" || fail "chunks: $(cat "$T/stat")"
# The map that stat prints is where the objects are.
grep -oE 'object_id=[^ ]+ .*OST-[0-9]+' "$T/stat" | sed -E 's/object_id=([0-9a-f]+)\.([0-9a-f]+):([0-9a-f]+) .*OST-([0-9]+)/\4 \1.\2.\3/' >"$T/map"
expect "entries of the map" 9 "$(wc -l <"$T/map")"
while read -r ost object; do
	[ -n "$(find "$T/c/ost$ost/objects" -name "$object")" ] || fail "object $object is not on OST $ost"
done <"$T/map"
client get /striped "$T/striped" >/dev/null || fail "get"
cmp -s "$src/big" "$T/striped" || fail "get gave other bytes"

client mkdir /made >/dev/null || fail "mkdir"
client mkdir /made/a/b 2>/dev/null && fail "mkdir without -p"
client mkdir -p /made/a/b >/dev/null || fail "mkdir -p"
client ls / >"$T/ls" || fail "ls"
grep -q 'striped' "$T/ls" && grep -q '\[2x1048576\]' "$T/ls" || fail "ls: $(cat "$T/ls")"
client rm /made 2>/dev/null && fail "rm of a full directory"
client rm -r /made /tree >/dev/null 2>&1 || { client rm -r /made >/dev/null && client rm -r /tree >/dev/null; } || fail "rm -r"
client rm /striped >/dev/null || fail "rm"
expect "what is left" "" "$(ls -A "$T/m")"
