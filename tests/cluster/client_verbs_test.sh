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
echo program >"$src/capable"
chown 10:20 "$src/capable" # which would take the capability away
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 "$src/capable" 2>/dev/null && capable=1
chmod 4711 "$src/big"
chmod 1770 "$src/empty"
chown -h 10:20 "$src/big" "$src/soft" "$src/empty"
mkdir "$src/listed"
setfacl -m u:11:rx,d:u:12:rwx "$src/listed" 2>/dev/null && acls=1
touch "$src/listed/inherits" "$src/listed/none"
setfacl -b "$src/listed/none"
touch -h -d '2010-01-02 03:04:05.678901234' "$src/soft" "$src/deep/small" "$src/deep/er" "$src/deep" "$src/big"
touch -d '1969-12-31 23:00:00.5' "$src/deep/er"
touch -d '2011-11-11 11:11:11.111111111' "$src"

client put -r "$src" /tree >"$T/out" || fail "put -r"
same "$src" "$T/m/tree"
expect "root's time" "$(stat -c %.9Y "$src")" "$(stat -c %.9Y "$T/m/tree")"
[ -z "${tagged:-}" ] || expect "xattr" value "$(getfattr --only-values -n user.tag "$T/m/tree/big")"
acls() { (cd "$1" && find listed -print0 | LC_ALL=C sort -z | xargs -0 getfacl -p); } # a listing has its own order
[ -z "${acls:-}" ] || expect "ACLs" "$(acls "$src")" "$(acls "$T/m/tree")"
[ "$(stat -c %b "$T/m/tree/sparse")" -lt 20000 ] || fail "the hole was filled"
capability() { getfattr --absolute-names -e hex -n security.capability "$1/capable" | grep security; }
[ -z "${capable:-}" ] || expect "capability" "$(capability "$src")" "$(capability "$T/m/tree")"
client get -r /tree "$T/back" >"$T/out" || fail "get -r"
same "$src" "$T/back"
[ -z "${tagged:-}" ] || expect "xattr that came back" value "$(getfattr --absolute-names --only-values -n user.tag "$T/back/big")"
[ -z "${acls:-}" ] || expect "ACLs that came back" "$(acls "$src")" "$(acls "$T/back")"
[ -z "${capable:-}" ] || expect "capability that came back" "$(capability "$src")" "$(capability "$T/back")"
[ "$(stat -c %b "$T/back/sparse")" -lt 20000 ] || fail "the hole was filled on the way back"
client put -r "$src" /tree 2>"$T/err" && fail "put over something that exists"
grep -q "exists" "$T/err" || fail "wrong words: $(cat "$T/err")"
client put "$src" /other 2>/dev/null && fail "put of a directory without -r"
expect "device" "7,c8 7,c8" "$(stat -c %t,%T "$T/m/tree/dev" "$T/back/dev" | paste -sd' ')"

# A time that there is no room for, where the local disk has room for it.
mkdir "$T/late"
touch -d '2400-01-01' "$T/late/file"
if [ "$(stat -c %Y "$T/late/file")" -gt 9223372036 ]; then
	client put -r "$T/late" /late >"$T/out" || fail "put of what is too late"
	expect "the last time" 9223372036.000000000 "$(stat -c %.9Y "$T/m/late/file")"
	client rm -r /late >"$T/out" || fail "rm -r"
fi

# What is there is replaced with -f only.
client put "$src/deep/small" /tree/big 2>"$T/err" && fail "put over a file"
grep -q "exists" "$T/err" && cmp -s "$src/big" "$T/m/tree/big" || fail "put over a file: $(cat "$T/err")"
client get /tree/deep/small "$T/back/big" 2>"$T/err" && fail "get over a file"
grep -q "exists" "$T/err" && cmp -s "$src/big" "$T/back/big" || fail "get over a file: $(cat "$T/err")"
client put -f "$src/deep/small" /tree/big >"$T/out" && cmp -s "$src/deep/small" "$T/m/tree/big" || fail "put -f"
client get -f /tree/deep/small "$T/back/big" >"$T/out" && cmp -s "$src/deep/small" "$T/back/big" || fail "get -f"

# Others than root do not hand on what is not theirs to give: they own the copy, without the privileges.
chmod 755 "$T"
install -d -m 755 "$T/programs"
install -m 6755 "$src/deep/small" "$T/programs/program"
install -m 600 -o 65534 "$T/c/mgs/cluster.key" "$T/nobody.key"
install -d -m 1777 "$T/m/public" "$T/public"
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups strake -m "$MGS" --key "$T/nobody.key" client "$@"; }
nobody put -r "$T/programs" /public/put >"$T/out" || fail "put -r by others than root"
expect "put by others than root" "755 65534" "$(stat -c '%a %u' "$T/m/public/put/program")"
client put -r "$T/programs" /programs >"$T/out" || fail "put -r"
nobody get -r /programs "$T/public/get" >"$T/out" || fail "get -r by others than root"
expect "got by others than root" "755 65534" "$(stat -c '%a %u' "$T/public/get/program")"

# Until it is whole nobody else sees into a copy, nor when it never becomes that: ended while its source, in a mount whose
# OSTs do not answer, keeps it waiting.
client put "$src/deep/small" /tree/cold >"$T/out" && mkdir "$T/m/cold" && mv "$T/m/tree/cold" "$T/m/cold/cold" || fail "put"
osts=$(for i in 0 1 2; do field "$T/c" oss $i pid; done)
# shellcheck disable=SC2086 # a list
kill -STOP $osts
strake -m "$MGS" client put -r "$T/m/cold" /cold.put >"$T/out" 2>&1 &
putting=$!
PIDS="$PIDS $putting"
copied() { [ -n "$(ls -A "$T/m/cold.put" 2>/dev/null)" ]; }
await "the copy to be there" copied
kill -9 "$putting"
# shellcheck disable=SC2086 # a list
kill -CONT $osts
expect "modes of an unfinished copy" "700 600" "$(stat -c %a "$T/m/cold.put" "$T/m/cold.put/cold" | paste -sd' ')"
for name in public programs cold cold.put; do client rm -r /$name >"$T/out" || fail "rm -r /$name"; done

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
