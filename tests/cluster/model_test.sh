#!/bin/bash
# A mount against a local filesystem: the same steps, drawn from a seed, on both, by root and two users; whatever a program
# can see of them must be the same (tests/tools/model). SEED=N begins with that seed.
. "$(dirname "$0")/lib.sh"

SHARD=5000 # steps from one seed
start --osts 4
mount_more "$T/n" -o noatime
mkdir "$T/local"
at_exit() { umount "$T/local" 2>/dev/null; }
truncate -s 1G "$T/image"
# Times of access are looked at where they are set: when reading sets them is not the same everywhere (atime_test).
if mkfs.ext4 -q "$T/image" 2>"$T/err" && mount -o loop,noatime "$T/image" "$T/local" 2>>"$T/err"; then
	:
else
	say "no ext4 on a loop device ($(head -n 1 "$T/err")): the model is $(stat -f -c %T "$T/local")"
	setfattr -n user.x -v y "$T/local" && mount --bind "$T/local" "$T/local" && mount -o remount,bind,noatime "$T/local" ||
		skip "needs a local filesystem with extended attributes"
fi

seed=${SEED:-1}
for ((steps = 150 * ${SCALE:-100}; steps > 0; steps -= SHARD, seed++)); do
	model -s "$seed" -n $((steps < SHARD ? steps : SHARD)) "$T/n" "$T/local" || fail "the mount is not as the model"
done
