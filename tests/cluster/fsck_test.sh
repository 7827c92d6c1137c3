#!/bin/bash
# strake fsck: says nothing of a cluster that is as it must be, idle or hard at work, and names every damage done to one.
. "$(dirname "$0")/lib.sh"

start --osts 3
fsck() { strake -m "$MGS" fsck "$@"; }
# clean WHAT [ARGS]: nothing is found, and everything was looked at
clean() {
	what=$1
	shift
	fsck "$@" >"$T/fsck.out" 2>&1 || { status=$?; tail -n 20 "$T/fsck.out"; fail "fsck of $what says $status"; }
	grep -q ": clean$" "$T/fsck.out" || fail "fsck of $what: $(cat "$T/fsck.out")"
}
clean "an empty filesystem"
fsck --json | python3 -c '
import json, sys
said = json.load(sys.stdin)
assert said["clean"] and said["complete"] and said["findings"] == [] and said["inodes"] == 1 and said["objects"] == 0, said
assert [o["checked"] for o in said["oss"]] == [True] * 3, said' || fail "fsck --json"
fsck --nonsense 2>/dev/null
expect "status of a wrong option" 2 $?
fsck more 2>/dev/null
expect "status of a word too many" 2 $?
fsck --timeout 0 2>/dev/null
expect "status of a wrong number" 2 $?

# --- at work ------------------------------------------------------------------------------------------------------------

mount_more "$T/m1" -o strict
mount_more "$T/m2" -o strict
mkdir "$T/m/hammer" "$T/m/busy" "$T/m/busy/a" "$T/m/busy/b"
# Names and directories that never hold still, enough of them for lists of many pieces, across two mounts.
cat >"$T/busy.py" <<'PY'
import os, random, sys, itertools
here, me, stop, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
rng = random.Random(me)
for i in range(count):
    with open(f"{here}/a/{me}.{i}", "w") as f: f.write("x" * (i % 3))
dirs = ["a", "b"]
for step in itertools.count():
    if step % 50 == 0 and os.path.exists(stop): break
    name = f"{me}.{rng.randrange(count)}"
    at = dirs[not os.path.exists(f"{here}/a/{name}")]
    other = dirs[at == "a"]
    what = rng.randrange(7)
    if what == 0:
        os.rename(f"{here}/{at}/{name}", f"{here}/{other}/{name}")
    elif what == 1:
        os.rename(f"{here}/{at}/{name}", f"{here}/{at}/{name}~")
        os.rename(f"{here}/{at}/{name}~", f"{here}/{at}/{name}")
    elif what == 2:
        os.link(f"{here}/{at}/{name}", f"{here}/{other}/{name}+")
        os.unlink(f"{here}/{other}/{name}+")
    elif what == 3:
        os.unlink(f"{here}/{at}/{name}")
        with open(f"{here}/{other}/{name}", "w") as f: f.write("y" * rng.randrange(9))
    elif what == 4:
        os.truncate(f"{here}/{at}/{name}", rng.randrange(5))
    elif what == 5:
        os.makedirs(f"{here}/{at}/{me}.d/{me}.e", exist_ok=True)
        os.rename(f"{here}/{at}/{me}.d/{me}.e", f"{here}/{other}/{me}.e")
        os.rename(f"{here}/{at}/{me}.d", f"{here}/{other}/{me}.e/{me}.d")
        os.rmdir(f"{here}/{other}/{me}.e/{me}.d")
        os.rmdir(f"{here}/{other}/{me}.e")
    else:
        f = open(f"{here}/{at}/{name}", "a")
        f.write("z" * 5000)
        if rng.randrange(2): os.replace(f"{here}/{at}/{name}", f"{here}/{other}/{name}")
        f.close()
PY
names=$((300 + 12 * ${SCALE:-100})) # of each of two
at_work() {
	python3 "$T/busy.py" "$T/m1/busy" 1 "$T/stop" "$names" || exit 1 &
	first=$!
	python3 "$T/busy.py" "$T/m2/busy" 2 "$T/stop" "$names" || exit 1 &
	second=$!
	seed=71
	until [ -e "$T/stop" ]; do
		hammer -p 2 -n "$((4 * ${SCALE:-100}))" -s "$seed" "$T/m1/hammer" "$T/m2/hammer" || exit 1
		seed=$((seed + 1))
	done
	wait "$first" && wait "$second"
}
at_work >"$T/work.out" 2>&1 &
work=$!
PIDS="$PIDS $work"
begun() { [ -n "$(ls -A "$T/m/busy/b")" ] && [ -n "$(ls -A "$T/m/hammer")" ]; }
await "work to begin" begun
still_at_work() { kill -0 "$work" 2>/dev/null || { tail -n 20 "$T/work.out"; fail "the work has ended"; }; }
# It was no accident: there are things that do not seem to fit.
suspected() { [ -s "$T/suspects" ] && grep -qv " 0 suspects" "$T/suspects"; }
for ((round = 0; round < 60; round++)); do
	[ $round -lt $((4 + ${SCALE:-100} / 5)) ] || ! suspected || break
	still_at_work
	clean "a busy filesystem (round $round)" --log-level debug
	grep -h "suspects" "$T/fsck.out" >>"$T/suspects"
done
suspected || fail "nothing was ever suspect: it was not busy enough"
say "suspects of $round runs: $(sed -n 's/.* \([0-9]*\) suspects$/\1/p' "$T/suspects" | paste -sd' ')"

# Servers that end in the middle, and come back.
for victim in mds:0 oss:1 mds:0; do
	still_at_work
	fsck >"$T/through" 2>&1 &
	checking=$!
	crash "${victim%:*}" "${victim#*:}"
	strake cluster start "$T/c" >"$T/start.out" 2>&1 || { cat "$T/start.out"; fail "restart of $victim"; }
	wait "$checking"
	case $? in
	0 | 3) ;; # an OSS may have been down when it began
	*) fail "fsck while $victim was killed: $(cat "$T/through")" ;;
	esac
	clean "a filesystem whose $victim was killed"
done
touch "$T/stop"
wait "$work" || { tail -n 20 "$T/work.out"; fail "the work"; }
clean "a filesystem after work"

# An OST that is away is no finding, but not all is said to be well.
crash oss 2
fsck --timeout 5 >"$T/away" 2>&1
expect "status with an OST away" 3 $?
grep -q "OST 2 cannot be checked" "$T/away" || fail "an OST away: $(cat "$T/away")"
grep -q "not all was looked at" "$T/away" || fail "an OST away: $(cat "$T/away")"
strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "restart of OST 2"
# Nor an MDT.
crash mds 0
fsck --timeout 5 --json >"$T/away" 2>/dev/null
expect "status with the MDT away" 3 $?
python3 -c 'import json, sys; s = json.load(sys.stdin); assert "error" in s and not s["clean"]' <"$T/away" || fail "json: $(cat "$T/away")"
strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "restart of the MDS"

# --- damage -------------------------------------------------------------------------------------------------------------

cd "$T/m" || fail "cd"
for name in links unnamed erased typed hidden held queued cut recut regenerated shortened moved striped xattrs lost \
	longer muchlonger ended; do
	head -c 300000 /dev/urandom >"f-$name"
done
mkdir d-unnamed d-ghost d-count d-parent d-several d-a d-b d-type d-typed
mv f-unnamed d-unnamed/f
mv f-typed d-typed/f
mv f-hidden d-count/f
truncate -s 200000 f-recut
setfattr -n user.a -v b f-xattrs
cd / || fail "cd"
ino() { stat -c %i "$T/m/$1"; }
declare -A I
for name in "$T"/m/[fd]-*; do I[$(basename "$name")]=$(stat -c %i "$name"); done
I[d-unnamed/f]=$(ino d-unnamed/f) I[d-typed/f]=$(ino d-typed/f) I[d-count/f]=$(ino d-count/f)
for m in "$T/m1" "$T/m2" "$T/m"; do strake umount "$m" || fail "umount $m"; done
clean "what is about to be damaged"
NO_FSCK="what is damaged from here on is not mended"

# expect_found WHAT...: exactly these "KIND INO" (ino "-": of none) are found, and exit status and text say so. One of
# them is of a size; after a restart of the MDS no size is sure until all its sessions have told what they write.
sizes_are_sure() { fsck | grep -q "^object-beyond-size"; }
expect_found() {
	await "sizes to be sure" sizes_are_sure
	printf '%s\n' "$@" | sort -u >"$T/wanted"
	fsck --json >"$T/found.json" 2>"$T/found.err"
	expect "status after damage" 1 $?
	python3 -c '
import json, sys
said = json.load(sys.stdin)
assert said["complete"] and not said["clean"], said
for f in said["findings"]: print(f["kind"], f.get("ino", "-"))' <"$T/found.json" | sort -u >"$T/found" || fail "json after damage"
	diff "$T/wanted" "$T/found" >"$T/diff" || { cat "$T/diff" "$T/found.json" >&2; fail "not found (<), or found too much (>)"; }
	fsck >"$T/found.txt" && fail "status 0 as text"
	cut -d: -f1 "$T/found.txt" | grep -qx "${1%% *}" || fail "not in the text: $1"
}
stop_mds() {
	pid=$(field "$T/c" mds 0 pid)
	kill "$pid"
	await "the MDS to end" ! alive "$pid"
}
restart() { strake cluster start "$T/c" "$@" >"$T/start.out" 2>&1 || { cat "$T/start.out"; fail "restart after damage"; }; }
damage() { mdt_damage "$T/c/mds0" "$@" || fail "mdt_damage $*"; }
object() { find "$T"/c/ost*/objects -name "$(printf '%016x.*.%08x' "${I[$1]}" "$2")"; } # of FILE, SEQ

stop_mds
cp -a "$T/c/mds0" "$T/good"
damage nlink "${I[f-links]}" 5
damage delete-entry "${I[d-unnamed]}" f
damage add-entry "${I[d-ghost]}" ghost 999999 file
damage add-entry 888888 lost "${I[f-links]}" file
damage erase "${I[f-erased]}"
damage add-entry "${I[d-typed]}" f "${I[d-typed/f]}" link
damage misplace-entry "${I[d-count]}" f
damage entries "${I[d-count]}" 7
damage parent "${I[d-parent]}" "${I[d-ghost]}"
damage add-entry "${I[d-several]}" again "${I[d-type]}" dir
damage ring 1 d-a d-b
damage orphan "${I[f-held]}" 4711
damage orphan 777777 4711
damage destroy "${I[f-queued]}" "${I[f-queued]}" 0
damage cut "${I[f-cut]}" "${I[f-cut]}" 5 0
damage cut-number "${I[f-recut]}" 2
damage gen "${I[f-regenerated]}" 12345678901
damage size "${I[f-shortened]}" 1000
damage layout "${I[f-striped]}" 99
damage xattr "${I[f-xattrs]}" user.z
damage xattr 666666 user.z
restart
expect_found "wrong-links ${I[f-links]}" "inode-without-entry ${I[d-unnamed/f]}" "wrong-entry-count ${I[d-unnamed]}" \
	"entry-to-nowhere 999999" "wrong-entry-count ${I[d-ghost]}" "entry-in-nowhere 888888" \
	"entry-to-nowhere ${I[f-erased]}" "object-leaked ${I[f-erased]}" "wrong-type ${I[d-typed/f]}" \
	"wrong-hash ${I[d-count/f]}" "wrong-entry-count ${I[d-count]}" "wrong-parent ${I[d-parent]}" \
	"wrong-entry-count ${I[d-several]}" "wrong-links ${I[d-several]}" "directory-with-several-names ${I[d-type]}" \
	"unreachable-directory ${I[d-a]}" "orphan ${I[f-held]}" "orphan 777777" "destroy-queue ${I[f-queued]}" \
	"cut ${I[f-cut]}" "cut ${I[f-recut]}" "object-leaked ${I[f-regenerated]}" \
	"number-never-given-out ${I[f-regenerated]}" "object-beyond-size ${I[f-shortened]}" "layout ${I[f-striped]}" \
	"object-misplaced ${I[f-striped]}" "xattrs ${I[f-xattrs]}" "xattrs 666666"

stop_mds
rm -rf "$T/c/mds0"
cp -a "$T/good" "$T/c/mds0"
# The damaged one has gone on since.
end=$(strake-mds --check -d "$T/good" 2>&1 | sed -n 's/.*state up to record \([0-9]*\):.*/\1/p')
restart --go-on-from "$end"
clean "what was mended"

# Objects. What lies there when an OST starts after a crash becomes an object; what comes later is none.
other=$(object f-held 0 | sed 's|.*/ost\([0-9]*\)/.*|\1|')
other=$(((other + 1) % 3))
crash oss "$other"
held=$(object f-held 0)
cp "$held" "$T/c/ost$other/objects/${held#*/objects/}"
nobody=$(python3 -c '
ino = 555555
folder = ((ino ^ ino << 1) * 0x9e3779b97f4a7c15 & (1 << 64) - 1) >> 56
print("%02x/%016x.%016x.%08x" % (folder, ino, ino, 0))')
echo nobody >"$T/c/ost$other/objects/$nobody"
restart
rm "$(object f-lost 0)"
truncate -s +10 "$(object f-longer 0)"
truncate -s 5000000 "$(object f-muchlonger 0)"
moved=$(object f-moved 0)
cp "$moved" "${moved%.*}.00000007"
touch "$T/c/ost1/objects/5a/core"
damaged=("object-misplaced ${I[f-held]}" "object-leaked 555555" "object-lost ${I[f-lost]}"
	"object-beyond-size ${I[f-longer]}" "object-longer-than-stripe ${I[f-muchlonger]}"
	"object-file-unknown ${I[f-moved]}" "foreign-file -")
expect_found "${damaged[@]}"
grep -q "object-file-unknown: .* 7) on OST" "$T/found.txt" || fail "the file is not named: $(cat "$T/found.txt")"

# A content that was destroyed though it lives, which shows as long as there is a session from before; and a count that is
# wrong, which shows where nothing changes.
mount_more "$T/m2"
destroyer=$(object f-ended 0 | sed 's|.*/ost\([0-9]*\)/.*|\1|')
stop_mds
damage inode-count 12345
damage destroy-now "${I[f-ended]}" "${I[f-ended]}" "$destroyer"
restart
destroyed() { [ -z "$(object f-ended 0)" ]; }
await "the content to be destroyed" destroyed
expect_found "${damaged[@]}" "live-content-destroyed ${I[f-ended]}" "wrong-count -"
