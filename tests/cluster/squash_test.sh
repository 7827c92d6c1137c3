#!/bin/bash
# Root squash: what root of a mount can no longer do, and others still can; by the file of the MDS's options.
. "$(dirname "$0")/lib.sh"

start --osts 1
chmod 755 "$T" "$T/m"
as() { setpriv --reuid "$1" --regid "$1" --clear-groups "${@:2}"; }
refused() { "$@" 2>"$T/err" && fail "succeeds for root: $*"; grep -qE "not permitted|denied" "$T/err" || fail "$*: $(cat "$T/err")"; }

# run [ARGS]: the MDS again, at its place.
address=$(field "$T/c" mds 0 address)
run() {
	strake-mds -d "$T/c/mds0" -l "$address" -m "$MGS" "$@" >>"$T/mds.log" 2>&1 &
	mds=$!
	PIDS="$PIDS $mds"
}
cd "$T/m" || fail "cd"
mkdir -m 755 users
mkdir -m 777 open
echo all >users/all
echo mine >users/mine
chmod 600 users/mine
echo program >open/program
chown -R 4711:4711 users open/program
chmod 4777 open/program
strake cluster status "$T/c" >/dev/null
pid=$(field "$T/c" mds 0 pid)
kill "$pid"
await "the MDS ends" ! alive "$pid"
printf '[mds]\nroot-squash = yes\n' >"$T/squash.conf"
run --config "$T/squash.conf"
squashed() { stat . >/dev/null && touch open/probe && [ "$(stat -c %u open/probe)" = 65534 ]; }
await "root is nobody" squashed
# Until then it takes its kernel's word that root may keep setuid bits.
heard() {
	as 4711 chmod 4777 open/program
	echo changed >>open/program
	[ "$(stat -c %a open/program)" = 777 ]
}
await "the mount has heard of it" heard

# What a user has had fetched by looking up name after name is not for root.
as 4711 mkdir -m 700 users/private
as 4711 bash -c 'for ((i = 0; i < 100; i++)); do : >users/private/$i; done' || fail "files of a user"
names_ahead() { getfattr --only-values -n strake.stats . | awk '$1 == "names_ahead" { print $2 }'; }
fetched() {
	local before
	before=$(names_ahead)
	sleep 1.1 # the kernel believes nothing of them any more
	as 4711 bash -c 'for ((i = 0; i < 20; i++)); do [ -e users/private/$i ] || exit; done' || fail "a user's own"
	[ "$(names_ahead)" -gt "$before" ]
}
await "the names are fetched" fetched
for ((i = 0; i < 100; i++)); do [ ! -e "users/private/$i" ] || [ "$i" -lt 20 ] || fail "root is told of a user's $i"; done
as 4711 rm -r users/private || fail "a user's own"

touch open/new
mkdir open/dir
expect "owner of what root makes" "65534:65534 65534:65534" "$(stat -c %u:%g open/new open/dir | paste -sd' ')"
expect "what all may read" all "$(cat users/all)"
refused cat users/mine
refused touch top
refused touch users/root
refused sh -c 'echo x >>users/all'
refused chmod 666 users/all
refused chown 0 open/new
refused rm users/all
refused mv users/all open/
refused truncate -s 0 users/all
refused mknod open/null c 1 3
refused setfattr -n trusted.x -v x open/new
refused setfattr -n user.x -v x users/all
refused chattr +i open/new
chmod 600 open/new || fail "nobody's own"
chattr +d open/new || fail "nobody's own"

# What a user of the same mount has open, root has not.
mkfifo "$T/hold"
as 4711 bash -c 'exec 3<>users/mine && echo open && read -r' <"$T/hold" >"$T/opened" &
holder=$!
exec 5>"$T/hold"
opened() { [ -s "$T/opened" ]; }
await "a user has it open" opened
refused cat users/mine
exec 5>&-
wait "$holder"
as 4711 bash -c 'echo more >>users/mine && chmod 640 users/mine && mv users/mine users/own && rm users/all' || fail "a user"
expect "a user's file" "mine more" "$(as 4711 cat users/own | paste -sd' ')"

# Killed, and again without it: the log's records tell who they were made by.
find open users -printf '%P %m %U %G\n' | sort >"$T/before"
kill -9 "$mds"
await "the MDS is gone" ! alive "$mds"
run
whole() { find open users -printf '%P %m %U %G\n' 2>/dev/null | sort >"$T/after" && cmp -s "$T/before" "$T/after"; }
await "all is as it was" whole
root_again() { cat users/own >/dev/null && chown 0 open/new; }
await "root is root" root_again
cd / || fail "cd"
kill "$mds"
await "the MDS ends" ! alive "$mds"
strake cluster start "$T/c" >/dev/null || fail "start"
