# What tests begin with that do the same to a mount and to ext4 (tools/twin.py), after lib.sh.
# shellcheck shell=bash

SCALE=${SCALE:-100}

for tool in mkfs.ext4 setfacl losetup; do
	command -v "$tool" >/dev/null || skip "needs $tool (make deps installs it)"
done

TWIN=$(realpath "$(dirname "$0")/../tools/twin.py")

# model: ext4 on a file, mounted on $T/ext4.
model() {
	truncate -s 64M "$T/ext4.image"
	mkfs.ext4 -q -O ^has_journal "$T/ext4.image" || fail "mkfs.ext4"
	mkdir "$T/ext4"
	mount -o loop,acl,user_xattr "$T/ext4.image" "$T/ext4" 2>"$T/err" || skip "no ext4 on a loop device here: $(cat "$T/err")"
	chmod 755 "$T"
}
at_exit() { ! mountpoint -q "$T/ext4" || umount "$T/ext4"; }

# twins WHAT [ARGS]: in fresh directories of both; a script is read from the standard input.
TWINS=0
twins() {
	TWINS=$((TWINS + 1))
	mkdir "$T/m/$TWINS" "$T/ext4/$TWINS"
	python3 "$TWIN" "$T/m/$TWINS" "$T/ext4/$TWINS" "${@:2}" >"$T/twins.out" 2>"$T/twins.err" && return
	cat "$T/twins.err" >&2
	fail "$1 (${*:2}): the mount and ext4 differ"
}
