#!/bin/bash
# Links that lose all of one direction, for longer than anybody waits for an answer: what is asked does not arrive, or it
# arrives and is done and its answer is lost; between a mount and the MDS, a mount and an OST, the MDS and an OST. Who works
# on the mounts sees no error, and nothing is done twice; all go on when the link is whole.
. "$(dirname "$0")/lib.sh"
command -v ss >/dev/null || skip "needs ss (make deps installs it)"
. "$(dirname "$0")/hosts.sh"

# --- who work -----------------------------------------------------------------------------------------------------------

WORKERS=''
work() { # NAME COMMAND...
	"${@:2}" >"$T/$1.out" 2>&1 &
	WORKERS="$WORKERS $!"
	PIDS="$PIDS $!"
}
for c in c0 c1; do
	mount_on $c "$T/$c"
	mkdir "$T/$c/$c"
	work hammer.$c hammer -p 2 -u "$T/stop" -c "$T/hammer.$c.counts" "$T/$c/$c"
	for n in 1 2 3 4; do # at least one of them has something under way that must not be done twice
		work mover.$c.$n python3 "$(dirname "$0")/../tools/mover.py" "$T/stop" "$T/mover.$c.$n.counts" $n "$c" "$T/$c/$c"
	done
done
found() { tail -n 20 "$T"/{hammer,mover}.*.out >&2 && fail "$1"; }
ended() { for worker in $WORKERS; do alive "$worker" || return 0; done && return 1; }
counts() { od -An -v -w8 -tu8 "$T"/{hammer,mover}.*.counts 2>/dev/null; }
go_on() { ended || counts | paste - <(echo "$counted") | awk '$1 < $2 + 2 { waits = 1 } END { exit waits || NR < 12 }'; }
await_progress() {
	counted=$(counts)
	await "all go on $1" go_on
	! ended || found "who worked has ended $1"
}

# --- what happens to them -------------------------------------------------------------------------------------------------

# What FROM sends to TO is for a card that is nobody's; TO's own words arrive.
lose() { on "$1" ip neigh replace "192.0.2.${N[$2]}" dev "v${N[$1]}" lladdr 02:00:00:00:00:00 nud permanent || fail "no lost link"; }
heal() { on "$1" ip neigh del "192.0.2.${N[$2]}" dev "v${N[$1]}" || fail "no whole link"; }
connections() { on "$1" ss -tnH state established dst "192.0.2.${N[$2]}" | awk '{ print $3 }' | sort; }
# given_up ASKER SERVER: none of the connections that there were is left
given_up() { [ -z "$(comm -12 <(connections "$1" "$2") "$T/had.$1.$2")" ]; }

# lost FROM:TO...: all of these at once, each until the asker of the two, which is named first in LINKS, has given up all its
# connections; then they are whole again.
LINKS="c0:mds c1:oss0 mds:oss1"
lost() {
	local link began=$SECONDS
	for link in $LINKS; do connections ${link/:/ } >"$T/had.${link/:/.}"; done
	for link in "$@"; do lose ${link/:/ }; done
	for link in $LINKS; do
		[ -s "$T/had.${link/:/.}" ] || fail "no connection of $link"
		await "$link gives up its connections" given_up ${link/:/ }
	done
	! ended || found "who worked has ended while $* are lost"
	for link in "$@"; do heal ${link/:/ }; done
	say "$*: lost for $((SECONDS - began)) s"
	await_progress "after $* were lost"
}

await_progress "at first"
lost c0:mds oss0:c1 mds:oss1
lost mds:c0 c1:oss0 oss1:mds

touch "$T/stop"
for worker in $WORKERS; do wait "$worker" || found "something was wrong"; done
for c in c0 c1; do strake umount "$T/$c" || fail "umount on $c"; done
on c0 strake -m $MGS --key "$key" fsck >"$T/fsck.out" 2>&1 || fail "fsck: $(cat "$T/fsck.out")"
