#!/bin/bash
# Side by side with ext4: who loses setuid and setgid bits by what, times of every operation, sticky and setgid directories,
# supplementary groups; by hand and drawn.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/twin.sh"

start --osts 2
model
chmod 755 "$T/m"

# Every way to change content or owner, by everybody, of every sort of privileged mode; "weak" is root without CAP_FSETID.
privileges() {
	echo "root chmod . 0o777"
	echo "root write f 9 wronly+creat"
	for mode in 0o6777 0o6666 0o2676 0o4766; do
		for actor in root weak owner member other; do
			for change in "write f 1" "write f 0 wronly+trunc" "truncate f 5" "truncate f 5" "chown f - -" \
				"put x 0 3" "ftruncate x 4" "fallocate x 0 0 9" "fallocate x 3 0 2" "fchmod x 0o6777"; do
				echo "root chown f owner group"
				echo "root chmod f $mode"
				case $change in *" x "*) echo "$actor open x f rdwr" ;; esac
				echo "$actor $change"
				case $change in *" x "*) echo "$actor close x" ;; esac
			done
		done
		for change in "root chown f member -" "root chown f - group" "weak chown f - other" "owner chown f - owner" \
			"owner chown f owner group" "owner chown f - group"; do
			echo "root chown f owner other"
			echo "root chmod f $mode"
			echo "$change"
		done
	done
}
privileges >"$T/privileges"
twins "privileges" "$T/privileges"

# Capabilities of a file go with what is written to it, by whomever and however; what only looks at it leaves them.
python3 - "$T/m/capable" "$T/ext4/capable" <<'PY' || fail "capabilities of a file that was written to"
import os, struct, sys
NAME, VALUE = "security.capability", struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
def by(flags, size): return lambda path: os.write(os.open(path, flags), b"x" * size)
calls = {
    "write": by(os.O_WRONLY, 1), "append": by(os.O_WRONLY | os.O_APPEND, 1), "append and read": by(os.O_RDWR | os.O_APPEND, 1),
    "sync append": by(os.O_WRONLY | os.O_APPEND | os.O_DSYNC, 1), "truncate": lambda path: os.truncate(path, 5),
    "chown": lambda path: os.chown(path, -1, 77), "open": lambda path: os.open(path, os.O_WRONLY | os.O_APPEND),
    "chmod": lambda path: os.chmod(path, 0o777), "utime": os.utime,
}
def after(path, call, uid):
    with open(path, "w") as f: f.write("something")
    os.chown(path, 4711, 4711)
    os.chmod(path, 0o755)
    os.setxattr(path, NAME, VALUE)
    pid = os.fork()
    if pid == 0:
        if uid: os.setgroups([77]), os.setresgid(uid, uid, uid), os.setresuid(uid, uid, uid)
        call(path)
        os._exit(0)
    done = os.waitpid(pid, 0)[1]
    return done, NAME in os.listxattr(path)
for name, call in calls.items():
    for uid in 0, 4711:
        mount, local = (after(path, call, uid) for path in sys.argv[1:])
        assert mount == local, f"{name} by {uid}: {mount}, on ext4 {local}"
        assert mount[0] == 0, f"{name} by {uid} has failed"
PY
rm "$T/m/capable" "$T/ext4/capable"

twins "times, groups, sticky" - <<'STEPS' || exit
root chmod . 0o777
owner mkdir d 0o777
owner mknod d/f
owner write d/f 1
owner write d/f 0
owner write d/f 0 wronly+trunc
owner write d/f 0 wronly+trunc
owner truncate d/f 0
owner truncate d/f 7
owner truncate d/f 7
owner read d/f
owner chmod d/f 0o644
owner chmod d/f 0o644
owner chown d/f - -
owner chown d/f - group
owner chown d/f - group
owner link d/f d/g
owner rename d/f d/f
owner rename d/f d/g
owner rename d/g d/h
owner symlink x d/l
owner chown d/l - group
owner utimens d/l 1000 2000
owner unlink d/g
owner mkdir d/s
owner rename d/s d/t
owner mkdir e
owner rename d/t e/t
owner rename e d/e 1
owner rmdir d/e/t
owner setxattr d/f user.x v
owner setxattr d/f user.x w
owner removexattr d/f user.x
owner removexattr d/f user.x
owner utimens d/f 1000000001 2000000002
owner utimens d/f omit 3000000003
owner utimens d/f 4000000004 omit
owner utimens d/f omit omit
owner utimens d/f now omit
owner utimens d/f omit now
owner utimens d/f now now
owner utimes d/f
other utimes d/f
other utimens d/f now now
other utimens d/f now omit
other utimens d/f 1000 2000
root chmod d/f 0o666
other utimes d/f
other utimens d/f now now
other utimens d/f now omit
other utimens d/f omit now
other utimens d/f omit omit
other utimens d/f 1000 2000
other utimens d/none 1000 2000
owner open x d/f rdwr
owner ftruncate x 3
owner put x 0 5
owner fallocate x 0 0 100
owner fallocate x 3 0 2
owner get x 5
owner fchmod x 0o600
root chown d owner group
root chmod d 0o2775
owner mkdir d/u 0o700
owner mknod d/v
member mknod d/w 0o102755
member mkdir d/y
root chmod d 0o2777
other mknod d/z 0o102755
other mkdir d/aa
other symlink x d/bb
other link d/z d/cc
root chmod d 0o1777
member unlink d/z
member rename d/z d/w
member rename d/w d/z
other rename d/w d/zz
other rename d/z d/zz
owner unlink d/zz
member chown d/w - group
member chown d/w - 7
member chown d/w - other
member chown d/w other -
member chmod d/w 0o2755
owner chown d/v - other
root chown d/v owner other
owner chmod d/v 0o2755
root mkdir p 0o750
root chown p root group
member list p
owner access p 5
other list p
member write p/f 1 wronly+creat
root chmod p 0o770
member write p/f 1 wronly+creat
member chmod p/f 0o660
owner write p/f 1
other write p/f 1
STEPS
for seed in $(seq $((1 + 5 * SCALE / 100))); do
	twins "drawn steps" --random "$seed" $((500 * SCALE / 100 + 100))
done
