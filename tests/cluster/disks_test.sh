#!/bin/bash
# The wrong disk under a server, while a mount is used: copies of directories whose owners run, a folder that is empty,
# damaged, of a newer format, of another filesystem or another server, two OSTs that have been swapped. None is served to
# anybody, each is told in clear words, and the hammer on the mount finds every byte as soon as the right one is back.
. "$(dirname "$0")/lib.sh"

tools=$(cd "$(dirname "$0")/../tools" && pwd)
start --osts 2

work_begins
refused() { # WHAT PATTERN COMMAND...
	local kind=$1 pattern=$2
	shift 2
	timeout "$(limit 60)" "$@" >"$T/out" 2>&1
	expect "exit status of a server on $kind" 1 $?
	grep -qE "$pattern" "$T/out" || fail "$kind: '$(cat "$T/out")' does not say '$pattern'"
}
oss() { exec strake-oss -l 127.0.0.1:0 -m "$MGS" "$@"; }
# One that the MGS does not know goes on asking it: says so, and serves nobody.
complains() { # WHAT PATTERN COMMAND...
	local kind=$1 pattern=$2 pid
	shift 2
	"$@" >"$T/out" 2>&1 &
	pid=$!
	PIDS="$PIDS $pid"
	await "$kind: '$pattern'" grep -qE "$pattern" "$T/out"
	kill "$pid" && wait "$pid" || fail "$kind: exit status"
}
# edit DIR KEY VALUE: in its identity, the sum made right.
edit() {
	PYTHONPATH=$tools python3 - "$1/identity" "$2" "$3" <<'PY' || fail "edit"
import re, sys
from wrong_peer import crc32c
path, key, value = sys.argv[1:]
with open(path) as file: text = file.read()
text = re.sub(rf"(?m)^{key} = .*$", f"{key} = {value}", text[:text.index("crc32c")])
with open(path, "w") as file: file.write(text + f"crc32c = {crc32c(text.encode()):08x}\n")
PY
}
another=01234567-89ab-4cde-8f01-23456789abcd

# Copies, of running servers; as of one moment, or files would come and go under cp.
for server in oss:ost0 mds:mds0; do
	pid=$(field "$T/c" "${server%:*}" 0 pid)
	kill -STOP "$pid" && cp -a "$T/c/${server#*:}" "$T/copy-${server#*:}" && kill -CONT "$pid" || fail "cp"
done
copy="another server with the same target UUID is alive; is this a copy"
export -f oss
export MGS
refused "a copy of an OST that runs" "$copy" bash -c "oss -d $T/copy-ost0" &
first=$!
refused_mds() { timeout "$(limit 60)" strake-mds -d "$T/copy-mds0" -l 127.0.0.1:0 -m "$MGS" >"$T/out.mds" 2>&1; }
refused_mds
expect "exit status of an MDS on a copy" 1 $?
wait $first || exit 1
grep -q "$copy" "$T/out.mds" || fail "a copy of an MDT: '$(cat "$T/out.mds")'"
grep -q "connected" "$T/out.mds" && fail "the copy of an MDT has spoken to OSTs: $(cat "$T/out.mds")"
unharmed "copies of running servers"

# What is not the OST's disk, in its place.
crash oss 0
at=$T/c/ost0
mv "$at" "$T/right" || fail "mv"
mkdir "$at"
refused "an empty folder" "strake format oss" bash -c "oss -d $at"
like() { rm -rf "$at" && cp -a "$T/right" "$at" || fail "cp"; }
like
edit "$at" format_version 2
refused "a newer format" "newer" bash -c "oss -d $at"
like
sed -i 's/^index = 0/index = 1/' "$at/identity"
refused "a damaged identity" "damaged|sum" bash -c "oss -d $at"
like
edit "$at" fs $another
complains "the disk of another filesystem" "not registered yet: .*filesystem" bash -c "oss -d $at"
like
edit "$at" target $another
refused "an identity that is not the index's" "index belongs to another target" bash -c "oss -d $at"
rm -rf "$at"
refused "a new disk under an old index" "index 0 belongs to the ost" \
	strake format oss -d "$at" -i 0 -m "$MGS" --key "$T/right/cluster.key"
like
edit "$at" role mdt
refused "an MDT's disk" "mdt|MDT" bash -c "oss -d $at"
like
head -c 64 /dev/urandom | od -An -v -tx1 | tr -d ' \n' | head -c 64 >"$at/cluster.key"
complains "the wrong key" "not registered yet: .*key" bash -c "oss -d $at"
refused "the disk of an OST that runs" "in use|runs" bash -c "oss -d $T/c/ost1"
rm -rf "$at"
mv "$T/right" "$at" || fail "mv"
strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "restart: $(cat "$T/start.out")"
unharmed "wrong disks in an OST's place"

# Swapped: who knows the disk knows the OST; clients find each where it is now.
for i in 0 1; do crash oss $i; done
swap() { mv "$T/c/ost0" "$T/other" && mv "$T/c/ost1" "$T/c/ost0" && mv "$T/other" "$T/c/ost1" || fail "swap"; }
swap
for i in 0 1; do
	strake-oss -d "$T/c/ost$i" -l "${LISTEN:-127.0.0.1}:$(field "$T/c" oss $i address | sed 's/.*://')" -m "$MGS" \
		${TRANSPORT:+--transport "$TRANSPORT"} >"$T/swapped$i.log" 2>&1 &
	PIDS="$PIDS $!"
	swapped[i]=$!
done
unharmed "a swap of OSTs"
intact "$T/c" || fail "fsck with OSTs swapped"
for i in 0 1; do kill "${swapped[i]}" && wait "${swapped[i]}" || fail "swapped OST $i"; done
swap
strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "restart: $(cat "$T/start.out")"
unharmed "a swap of OSTs back"
work_ends
