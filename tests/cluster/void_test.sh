#!/bin/bash
# The MDS's power fails, and with the end of its log go files that a living mount has made and has open: what the OSTs have
# of them is destroyed, who asks for what he wrote is told that it is gone, and the mount goes on. The OSTs have the objects
# in memory, or are killed themselves and have them in the index.
. "$(dirname "$0")/lib.sh"

objects() { find "$T"/c/ost?/objects -type f | wc -l; }
has_objects() { [ "$(objects)" = "$1" ]; }

start --osts 2
head -c 300000 /dev/urandom >"$T/data"
cp "$T/data" "$T/m/kept"
for servers in "mds 0" "mds 0 oss 0 oss 1"; do
	sync "$T/m/kept" "$T/m"
	kept=$(objects)
	crash mgs 0 # or it would know that the image is older than what was durable
	rm -rf "$T/image"
	# As its disk is when the power fails: of one moment.
	pid=$(field "$T/c" mds 0 pid)
	kill -STOP "$pid" && cp -r --sparse=always "$T/c/mds0" "$T/image" && kill -CONT "$pid" || fail "cp"

	exec 3<>"$T/m/quiet" 4<>"$T/m/goes-on" 5<>"$T/m/empty" 7<>"$T/m/bare"
	mkdir "$T/m/folder" && exec 6<"$T/m/folder"
	cat "$T/data" >&3
	cat "$T/data" >&4
	await "on the OSTs" has_objects $((kept + 2))
	# shellcheck disable=SC2086 # a list
	set -- $servers
	while [ $# -gt 0 ]; do
		crash "$1" "$2"
		shift 2
	done
	rm -r "$T/c/mds0"
	mv "$T/image" "$T/c/mds0"
	strake cluster start "$T/c" >/dev/null || fail "restart"
	await "$servers: what was lost is gone from the OSTs" has_objects "$kept"

	echo more >&4 2>/dev/null
	echo first >&5 2>/dev/null
	# Of a folder and of what nobody has written there is nothing to send: only the MDT knows that they are gone.
	for fd in 6 7 3 4 5; do
		python3 -c 'import os, sys; os.fsync(int(sys.argv[1]))' "$fd" 2>"$T/said" && fail "$servers: an fsync of what is lost: $fd"
		say "$fd: $(tail -n 1 "$T/said")"
	done
	exec 3<&- 4<&- 5<&- 6<&- 7<&-
	expect "names" kept "$(ls "$T/m")"
	cmp "$T/data" "$T/m/kept" || fail "what was kept"
	expect "objects" "$kept" "$(objects)"
	{ cp "$T/data" "$T/m/quiet" && sync "$T/m/quiet" && cmp "$T/data" "$T/m/quiet"; } || fail "a new one of that name"
	rm "$T/m/quiet"
	await "removed" has_objects "$kept"
done
