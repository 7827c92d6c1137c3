# What the tests of unmounting share, after what is installed (installed.sh):  . "$(dirname "$0")/unmounting.sh"
. "$(dirname "$0")/installed.sh"
lay_over
cluster "$T/c" --osts 3
MGS=$(field "$T/c" mgs 0 address)
M=$T/m N=$T/n LOG=$T/mount.log
mkdir "$M" "$N"

# enter [MNT [OPTIONS]]: mounts, on $M if nothing is said; $daemon serves it.
enter() {
	entered=${1:-$M}
	mount -t strake -o "log=$LOG${2:+,$2}" "$MGS:/" "$entered" || fail "mount $*"
	daemon=$(daemon_of "$entered")
}
elsewhere() { mount -t strake "$MGS:/" "$N" || fail "mount elsewhere"; }
ended() { ! alive "$1"; }
# Beside silent servers: it has ended, or, by iWARP, where the kernel lets nobody leave such a server for 10 s, holds nothing.
has_done() {
	alive "$1" || return 0
	grep -qs RNIC /sys/class/infiniband/*/node_type && { ! is_entered "$1" || grep -qs "^leaving = 0 0 " "$MOUNTS/$1"; }
}
is_hidden() { ! is_shown "$1"; }

# servers ROLE...: their pids
servers() {
	strake cluster status "$T/c" --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
print(*(e["pid"] for role in sys.argv[1:] for e in status[role]))' "$@"
}
freeze() { # PIDS...: from here on they are there and do not answer
	STOPPED="$STOPPED $*"
	kill -STOP "$@" || fail "stopping servers"
}
thaw() {
	kill -CONT $STOPPED
	STOPPED=
}

# within SECONDS COMMAND...: its status; not later than that (limit)
exec 8>&2 # where a failure is told whatever becomes of the command's words
within() {
	most=$(limit "$1")
	shift
	timeout -k 1 "$most" "$@"
	within_status=$?
	[ "$within_status" != 124 ] && [ "$within_status" != 137 ] || fail "took more than $most s: $*" 2>&8
	return $within_status
}

# A process that has a file open, or mapped only, and does what is written to its pipe.
#   act WHO FILE open|map; do_act WHO write:TEXT|close|exit; or tell_act WHO fill, which has no end
declare -A ACTOR ACTOR_PIPE
act() {
	mkfifo "$T/words"
	python3 -u -c '
import ctypes, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
size = 1 << 20
pages = None
if sys.argv[2] == "map": # not by the module mmap: it keeps the file open
    os.write(fd, b"0" * size)
    os.fsync(fd)
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    pages = libc.mmap(None, size, 3, 1, fd, 0)
    assert libc.mlock(ctypes.c_void_p(pages), ctypes.c_size_t(size)) == 0 # they are all there, and stay: no READ later
    ctypes.memset(pages, 49, size) # dirty
    os.close(fd)
print("begun")
while True:
    word = sys.stdin.readline().strip()
    if word.startswith("write:"):
        text = word[6:].encode()
        if pages:
            ctypes.memmove(pages, (text * size)[:size], size)
        else:
            os.write(fd, text)
    elif word == "fill":
        while True:
            os.write(fd, b"0" * size)
    elif word == "close":
        os.close(fd)
    else:
        os._exit(0)
    print("done", word)' "$2" "$3" <"$T/words" >"$T/acts.$1" 2>&1 &
	ACTOR[$1]=$!
	PIDS="$PIDS $!"
	exec {pipe}>"$T/words"
	ACTOR_PIPE[$1]=$pipe
	rm "$T/words"
	await "$1 to begin" grep -qs begun "$T/acts.$1"
}
tell_act() { echo "$2" >&"${ACTOR_PIPE[$1]}"; }
do_act() {
	tell_act "$1" "$2"
	if [ "$2" = exit ]; then
		pipe=${ACTOR_PIPE[$1]}
		exec {pipe}>&-
		wait "${ACTOR[$1]}"
	else
		await "$1 to do $2" grep -qxF "done $2" "$T/acts.$1"
	fi
}
# dirty FILE TEXT: 1 MiB of TEXT through a mapping that nobody has flushed
dirty() {
	act someone "$1" map
	do_act someone "write:$2"
	do_act someone exit
}
text_sum() { python3 -c 'import hashlib, sys; print(hashlib.md5((sys.argv[1].encode() * (1 << 20))[:1 << 20]).hexdigest())' "$1"; }
has_text() { expect "content of $1" "$(text_sum "$2")" "$(md5sum <"$1" | cut -d' ' -f1)"; }
