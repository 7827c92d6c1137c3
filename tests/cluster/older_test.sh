#!/bin/bash
# An older copy of an MDT's data directory (yesterday's, restored; a clone): it is refused before it changes anything, is
# served to anybody or speaks to an OST, as often as it is started, also after all was stopped; the newest one goes on. With
# the MGS away an MDS serves, and what it has is looked at when the MGS is back. In the end the older copy is all there is.
. "$(dirname "$0")/lib.sh"

start --osts 2
work_begins
unharmed "its start"
# As it runs; of one moment, or files would come and go under cp.
pid=$(field "$T/c" mds 0 pid)
kill -STOP "$pid" && cp -a "$T/c/mds0" "$T/copy-mds0" && kill -CONT "$pid" || fail "cp"
end_of() { strake-mds --check -d "$1" 2>&1 | sed -n 's/.*state up to record \([0-9]*\):.*/\1/p'; }
end=$(end_of "$T/copy-mds0")
is_told() { [ "$(field "$T/c" mds 0 log_index)" -gt $((end + ${1:-0})) ]; }
await "the MGS is told how far the log is" is_told

# While nobody runs on the newest one. As often as one likes: it comes no nearer by that.
mds0=$T/c/mds0
aside() { mv "$mds0" "$T/right" && cp -a "$T/copy-mds0" "$mds0" || fail "an older copy in its place"; }
back() { rm -rf "$mds0" && mv "$T/right" "$mds0" || fail "the newest copy in its place"; }
is_let_go() { end_of "$mds0" >"$T/end" && [ -s "$T/end" ]; }
is_refused() { # WHAT ARGUMENT...
	strake cluster start "$T/c" "${@:2}" >"$T/start.out" 2>&1 && fail "$1 is started"
	grep -q "mds0 .* its log ends at record $end, but it has told of record [0-9]* before: .*older copy" "$T/start.out" ||
		fail "$1: $(cat "$T/start.out")"
	await "$1 is let go of" is_let_go
	expect "records of what was refused: $1" "$end" "$(cat "$T/end")"
}
crash mds 0
aside
said=$(wc -l <"$T/c/log/mds0.log")
for ((i = 0; i < 3; i++)); do is_refused "an older copy of an MDT"; done
tail -n +$((said + 1)) "$T/c/log/mds0.log" | grep -E "connected|serving|sessions from before" && fail "an older copy was served"
grep -q "MDT-0 and is refused: its log ends at record $end," "$T/c/log/mgs.log" || fail "the MGS does not say it"
back
strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "restart: $(cat "$T/start.out")"
unharmed "an older copy of an MDT"
work_ends

# The MGS knows it also when all was stopped, and just started.
head -c 200000 /dev/zero | tr '\0' o >"$T/m/cut" || fail "a file"
strake cluster stop "$T/c" >/dev/null || fail "stop"
aside
is_refused "an older copy of an MDT, after a stop"
back
rm -rf "$T/copy-mds0"
cp -a "$mds0" "$T/copy-mds0" || fail "cp"
objects() { find "$T"/c/ost?/objects -type f | wc -l; }
had=$(objects)
strake cluster start "$T/c" --mount "$T/m" >"$T/start.out" 2>&1 || fail "restart: $(cat "$T/start.out")"

# What is made from here on the copy has not.
end=$(end_of "$T/copy-mds0")
for ((i = 0; i < 100; i++)); do echo "lost $i" >"$T/m/lost$i" || fail "a file"; done
truncate -s 100000 "$T/m/cut" && truncate -s 90000 "$T/m/cut" || fail "cuts"
sync "$T/m/lost99"
await "the MGS is told how far the log is" is_told 100

# Without the MGS an MDS serves, and says what it does not know. If that is an older copy, until the MGS is back.
address=$(field "$T/c" mds 0 address)
mgs=$(field "$T/c" mgs 0 pid)
crash mds 0
kill "$mgs"
await "the MGS has stopped" ! alive "$mgs"
by_hand() { # NAME COMMAND...: $server is its pid
	"${@:2}" >"$T/$1.log" 2>&1 &
	server=$!
	PIDS="$PIDS $server"
	await "$1 serves" grep -q "serving filesystem" "$T/$1.log"
}
mds() { by_hand "$1" strake-mds -d "$mds0" -l "$address" -m "$MGS" --mgs-wait 1; }
mds without
grep -q "without its word that this is no older copy" "$T/without.log" || fail "no warning: $(cat "$T/without.log")"
expect "a file without the MGS" "lost 99" "$(cat "$T/m/lost99")"
strake umount "$T/m" || fail "umount"
kill "$server" && wait "$server" || fail "an MDS without the MGS: exit status"
aside
mds older
older=$server
by_hand mgs strake-mgs -d "$T/c/mgs" -l "$MGS"
wait "$older"
expect "exit status of an MDS on an older copy when the MGS is back" 1 $?
grep -q "its log ends at record $end, but" "$T/older.log" || fail "an older copy, later: $(cat "$T/older.log")"
grep -q "connected" "$T/older.log" && fail "an older copy has spoken to OSTs: $(cat "$T/older.log")"
kill "$server" && wait "$server" || fail "the MGS: exit status"
back
strake cluster start "$T/c" --mount "$T/m" >"$T/start.out" 2>&1 || fail "restart: $(cat "$T/start.out")"
expect "a file when all are back" "lost 98" "$(cat "$T/m/lost98")"

# The older copy is all there is. What was made later is gone, from the OSTs too, and none of its numbers comes back.
strake umount "$T/m" || fail "umount"
strake cluster stop "$T/c" >/dev/null || fail "stop"
rm -rf "$mds0"
cp -a "$T/copy-mds0" "$mds0" || fail "cp"
is_refused "another record to go on from" --go-on-from $((end - 1))
strake cluster start "$T/c" --mount "$T/m" --go-on-from "$end" >"$T/start.out" 2>&1 || fail "go on: $(cat "$T/start.out")"
grep -q "going on from record $end, as told" "$T/c/log/mds0.log" || fail "no word of what is lost"
expect "names" "cut work" "$(echo "$T"/m/* | sed "s:$T/m/::g")"
are_gone() { [ "$(objects)" -le "$had" ]; }
await "the objects of what is lost are gone" are_gone
for ((i = 0; i < 100; i++)); do echo "new $i" >"$T/m/new$i" || fail "a new file"; done
for ((i = 0; i < 100; i++)); do expect "a new file" "new $i" "$(cat "$T/m/new$i")"; done
# What OSTs have cut since is not to be written to until it is cut once more, which they do.
write() { timeout -s KILL "$(limit 60)" dd if=/dev/zero of="$T/m/cut" bs=1000 count=1 conv=notrunc,fsync 2>&1; }
write | grep -q "Input/output error" || fail "a WRITE of before a cut"
truncate -s 50000 "$T/m/cut" && truncate -s 200000 "$T/m/cut" || fail "cuts"
expect "bytes that were cut away" 0 "$(tail -c +50001 "$T/m/cut" | tr -d '\0' | wc -c)"
expect "bytes that were not" 50000 "$(head -c 50000 "$T/m/cut" | tr -d '\0' | wc -c)"
write >"$T/write.out" || fail "a WRITE after a cut: $(cat "$T/write.out")"
expect "bytes that were written" 49000 "$(head -c 50000 "$T/m/cut" | tr -d '\0' | wc -c)"
strake cluster stop "$T/c" >/dev/null || fail "stop"
strake cluster start "$T/c" --mount "$T/m" >"$T/start.out" 2>&1 || fail "without being told again: $(cat "$T/start.out")"
expect "a new file" "new 99" "$(cat "$T/m/new99")"
