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

# The MDS answers nobody: a signal that is caught changes nothing, any other ends its process. Each makes a directory in
# one of its own: who waits for a directory's lock, which the kernel gives to one at a time, is not ended by any signal.
mkdir "$T/m/caught" "$T/m/killed"
mds=$(field "$T/c" mds 0 pid)
kill -STOP "$mds"
trap 'status=$?; kill -CONT "$mds" 2>/dev/null; (exit $status); cleanup' EXIT
make_dir() {
	exec python3 - "$1" <<'PY'
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: None)
os.mkdir(sys.argv[1])
PY
}
make_dir "$T/m/caught/d" &
caught=$!
make_dir "$T/m/killed/d" &
killed=$!
PIDS="$PIDS $caught $killed"
# While it waits for an answer a process sleeps so that signals wake it (S), until the kernel has sent the first one on to
# the daemon (D).
is_waiting() { sleeps_in "$1" request_wait_answer 83 && grep -q "^State:.$2" "/proc/$1/status"; }
for pid in $caught $killed; do
	await "$pid to wait for the MDS" is_waiting "$pid" S
	kill -USR1 "$pid"
	await "the daemon to hear of $pid's signal" is_waiting "$pid" D
done
kill -TERM "$killed" # of which the daemon does not hear
await "the killed one to end" ! alive "$killed"
kill -CONT "$mds"
wait "$caught" || fail "a call that was signalled while it waited"
[ -d "$T/m/caught/d" ] || fail "not made"
