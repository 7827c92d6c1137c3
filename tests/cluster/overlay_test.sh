#!/bin/bash
# overlayfs with its upper directory on a mount, as container runtimes lay theirs: what is removed, replaced and moved in it
# is so, also after everything was stopped and started.
. "$(dirname "$0")/lib.sh"

mkdir -p "$T/lower" "$T/merged" "$T/try" # a module that is not loaded yet is loaded by this
mount -t overlay overlay -o "lowerdir=$T/lower:$T/try" "$T/merged" 2>/dev/null && umount "$T/merged" || skip "needs overlayfs"
at_exit() { umount -l "$T/merged" 2>/dev/null; }

# What is there, but for times: overlayfs copies up when it likes.
tree() { (cd "$1" && find . -mindepth 1 -printf '%P %y %m %U %G %l\n' | LC_ALL=C sort && find . -type f | LC_ALL=C sort | xargs md5sum); }
alike() { diff <(tree "$T/plain") <(tree "$T/merged") >&2 || fail "$1: other than without overlayfs"; }
lay() {
	mount -t overlay overlay -o "lowerdir=$T/lower,upperdir=$T/m/upper,workdir=$T/m/work" "$T/merged" ||
		fail "overlayfs does not take the mount as its upper layer"
}

(
	cd "$T/lower" || exit
	for name in gone changed moved "replaced"; do echo "$name, below" >$name; done
	mkdir -p dir/sub tree/deep
	echo inner >dir/sub/file
	echo leaf >tree/deep/leaf
	ln -s changed link
)
cp -a "$T/lower" "$T/plain"

start --osts 2
mkdir "$T/m/upper" "$T/m/work"
lay
for place in plain merged; do
	(
		set -e
		cd "$T/$place"
		rm gone
		echo more >>changed
		mv moved elsewhere
		mv changed replaced
		rm -r dir
		mkdir dir
		echo new >dir/file
		mv tree tree2
		mv link tree2/deep
		for i in $(seq 20); do echo "$i" >"n$i"; mv "n$i" "m$i"; done
		chmod 600 replaced
	) || fail "work on $place"
done
alike "what was done"
expect "a whiteout" "character special file 0,0 0" "$(stat -c '%F %t,%T %a' "$T/m/upper/moved")"
umount "$T/merged"

strake cluster stop "$T/c" >/dev/null || fail "stop"
strake cluster start "$T/c" --mount "$T/m" >/dev/null || fail "start"
lay
alike "what was done, after a restart"
umount "$T/merged"
