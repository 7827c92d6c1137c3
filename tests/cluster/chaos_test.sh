#!/bin/bash
# Servers that die, hang and come back, and connections that are cut in the middle of whatever goes over them, under
# writers, readers and renamers on two mounts, who know what they must find. They see no error, nothing is lost, done twice
# or done in another order; they are only slow. SEED=N repeats the choices, not the moments.
. "$(dirname "$0")/lib.sh"

command -v ss >/dev/null || skip "needs ss (make deps installs it)"
SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
rounds=$(((${SCALE:-100} + 1) / 2))
say "$rounds rounds, SEED=$SEED"
RANDOM=$SEED
start --osts 3 -o strict
mount_more "$T/m2" -o strict
mkdir "$T"/m/{both,one,moved}

# --- who work -----------------------------------------------------------------------------------------------------------

# Where each is, a name that is moved: every step is of a kind that fails when it is done twice. What the other mount sees
# is looked at, too; and lines that are appended are there once, in their order. (A directory that another mount has moved
# below another must be looked at before it is moved on, or rename is told ESTALE: the kernel keeps one name of a directory,
# and cannot change it while it holds the lock that a rename across directories takes. So it is a file on two mounts.)
cat >"$T/mover.py" <<'PY'
import os, random, struct, sys
stop, counts, me, seed, *mounts = sys.argv[1:]
rng = random.Random(f"{seed} {me}")
counts = os.open(counts, os.O_WRONLY | os.O_CREAT)
mounts = [f"{mount}/{me}" for mount in mounts]
os.mkdir(mounts[0])
def a(): return rng.choice(mounts)
at, lines, done = "d", 0, 0
os.mkdir(f"{a()}/{at}")
def check():
    there = a()
    names = sorted(os.listdir(there))
    assert names == sorted([at, "log"][: 1 + (lines > 0)]), f"{names} in {there}, not {at}"
    assert os.listdir(f"{there}/{at}") == [], f"{there}/{at} is not empty"
    if lines:
        with open(f"{a()}/log") as log: found = log.read()
        assert found == "".join(f"{n}\n" for n in range(lines)), f"the log: {lines} lines, not {found!r}"
while not os.path.exists(stop):
    kind = rng.randrange(6)
    try:
        if kind == 0:
            here = a()
            os.rename(f"{here}/{at}", f"{here}/e{done}")
            at = f"e{done}"
        elif kind == 1: # from one directory into another, and back
            make, drop = (os.mkdir, os.rmdir) if len(mounts) == 1 else (os.mknod, os.unlink)
            os.mkdir(f"{a()}/outer")
            make(f"{a()}/{at}/thing")
            for source, target in ((at, "outer"), ("outer", at)):
                here = a()
                os.rename(f"{here}/{source}/thing", f"{here}/{target}/thing")
            drop(f"{a()}/{at}/thing")
            os.rmdir(f"{a()}/outer")
        elif kind == 2: # a file by two names
            with open(f"{a()}/{at}/file", "x") as file: file.write(f"{done}")
            here = a()
            os.link(f"{here}/{at}/file", f"{here}/{at}/other")
            os.unlink(f"{a()}/{at}/file")
            with open(f"{a()}/{at}/other") as file: assert file.read() == f"{done}", "another file's bytes"
            assert os.stat(f"{a()}/{at}/other").st_nlink == 1, "links"
            os.unlink(f"{a()}/{at}/other")
        elif kind == 3:
            os.symlink(f"to {done}", f"{a()}/{at}/link")
            assert os.readlink(f"{a()}/{at}/link") == f"to {done}", "another link"
            os.unlink(f"{a()}/{at}/link")
        elif kind == 4:
            os.setxattr(f"{a()}/{at}", "user.step", b"%d" % done, os.XATTR_CREATE)
            assert os.getxattr(f"{a()}/{at}", "user.step") == b"%d" % done, "another value"
            os.removexattr(f"{a()}/{at}", "user.step")
        else:
            with open(f"{a()}/log", "a") as log: log.write(f"{lines}\n")
            lines += 1
        check()
    except (OSError, AssertionError) as error:
        sys.exit(f"mover {me}, step {done} of kind {kind}: {error}")
    done += 1
    os.pwrite(counts, struct.pack("=Q", done), 0)
PY

WORKERS=''
work() { # NAME COMMAND...
	"${@:2}" >"$T/$1.out" 2>&1 &
	WORKERS="$WORKERS $!"
	PIDS="$PIDS $!"
}
work both hammer -p 3 -u "$T/stop" -c "$T/both.counts" -s "$SEED" "$T/m/both" "$T/m2/both"
work one hammer -p 2 -u "$T/stop" -c "$T/one.counts" -s "$SEED" "$T/m2/one"
work mover1 python3 "$T/mover.py" "$T/stop" "$T/mover1.counts" 1 "$SEED" "$T/m/moved" "$T/m2/moved"
work mover2 python3 "$T/mover.py" "$T/stop" "$T/mover2.counts" 2 "$SEED" "$T/m/moved"

counts() { od -An -v -w8 -tu8 "$T/both.counts" "$T/one.counts" "$T/mover1.counts" "$T/mover2.counts"; }
ended() { for worker in $WORKERS; do kill -0 "$worker" 2>/dev/null || return 0; done && return 1; }
# Each has done what it was at when it was `counted`, and something more; or one has ended.
go_on() { ended || counts | paste - <(echo "$counted") | awk '$1 < $2 + 2 { waits = 1 } END { exit waits || NR < 7 }'; }
found() { tail -n 20 "$T"/{both,one,mover1,mover2}.out >&2 && fail "$1; SEED=$SEED"; }

# --- what happens to them -------------------------------------------------------------------------------------------------

servers() {
	strake cluster status "$T/c" --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
for role in "mgs", "mds", "oss":
    for index, server in enumerate(status[role]): print(role, index, server["pid"], server["address"].split(":")[-1])'
}
restart() { strake cluster start "$T/c" >"$T/start.out" 2>&1 || fail "restart: $(cat "$T/start.out")"; }
die() { # PIDS...
	kill -9 "$@" || fail "no server to kill"
	for pid in "$@"; do await "server $pid gone" ! alive "$pid"; done
	restart
}
hang() { # PID MILLISECONDS
	kill -STOP "$1"
	sleep "$(printf '%d.%03d' $(($2 / 1000)) $(($2 % 1000)))" # so long it hangs
	kill -CONT "$1"
}
# Either end of a connection; where there are any, of one that has something under way.
cut() {
	connections=$(ss -tnH state established "( $port_filter )")
	busy=$(echo "$connections" | awk '$1 + $2 > 0')
	[ $((RANDOM % 3)) = 0 ] || connections=${busy:-$connections}
	# shellcheck disable=SC2046 # the fields
	set -- $(echo "$connections" | sed -n "$((RANDOM % $(echo "$connections" | wc -l) + 1))p")
	[ $# -lt 4 ] || ss -tnHK state established src "$3" dst "$4" >"$T/cut"
}

for ((round = 1; round <= rounds; round++)); do
	mapfile -t all < <(servers)
	read -r role index pid _ <<<"${all[RANDOM % ${#all[@]}]}"
	pids=$(printf '%s\n' "${all[@]}" | awk '{ print $3 }')
	port_filter=$(printf '%s\n' "${all[@]}" | awk '{ printf "%ssport = :%s or dport = :%s", n++ ? " or " : "", $4, $4 }')
	case $((RANDOM % 8)) in
	0 | 1 | 2)
		deed="kill -9 of $role $index"
		die "$pid"
		;;
	3)
		deed="kill -9 of all"
		# shellcheck disable=SC2086 # a list
		die $pids
		;;
	4 | 5)
		deed="cuts"
		for ((n = 0; n < 12; n++)); do cut; done
		;;
	*)
		pause=$((RANDOM % 3 == 0 ? RANDOM % 2000 : RANDOM % 200))
		deed="$role $index silent for $pause ms"
		hang "$pid" "$pause"
		;;
	esac
	counted=$(counts)
	say "round $round: $deed, $(echo "$counted" | awk '{ n += $1 } END { print n }') steps"
	await "all go on after $deed" go_on
	! ended || found "who worked has ended in round $round"
done

touch "$T/stop"
for worker in $WORKERS; do wait "$worker" || found "something was wrong"; done
intact "$T/c" || fail "it is not as it must be"
strake cluster stop "$T/c" >/dev/null || fail "stop"
strake-mds --check -d "$T/c/mds0" >"$T/check" 2>&1 || { cat "$T/check"; fail "the MDT's state is not consistent"; }
