#!/bin/bash
# A signal that its program catches cuts no call short; who is killed waits for no server.
. "$(dirname "$0")/lib.sh"

start --osts 1
mkdir "$T/m/d"
python3 - "$T/m/d" <<'PY' || fail "a timer's signals"
import os, signal, sys
os.chdir(sys.argv[1])
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0004)
for i in range(500):
    os.mkdir("a")
    os.stat("a")
    os.rename("a", "b")
    os.rmdir("b")
signal.setitimer(signal.ITIMER_REAL, 0)
PY

# The MDS answers nobody: a signal that is caught changes nothing, any other ends its process.
mds=$(field "$T/c" mds 0 pid)
kill -STOP "$mds"
trap 'status=$?; kill -CONT "$mds" 2>/dev/null; (exit $status); cleanup' EXIT
make_dir() {
	exec python3 - "$1" <<'PY'
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
open(sys.argv[1].replace("/m/d/", "/"), "x")
os.mkdir(sys.argv[1])
PY
}
make_dir "$T/m/d/caught" &
caught=$!
make_dir "$T/m/d/killed" &
killed=$!
await "both to begin" test -e "$T/caught" -a -e "$T/killed"
for _ in 1 2 3 4 5; do
	kill -USR1 "$caught" "$killed"
	sleep 0.1 # one of them at least comes while they wait
done
kill -TERM "$killed"
await "the killed one to end" ! alive "$killed"
alive "$caught" || fail "a signal that was caught has ended the call"
kill -CONT "$mds"
wait "$caught" || fail "a call that was signalled while it waited"
[ -d "$T/m/d/caught" ] || fail "not made"
