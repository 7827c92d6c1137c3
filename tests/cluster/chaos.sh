# For tests in which what may happen to a cluster is drawn, under who knows what must be found; after lib.sh:
#
#   . "$(dirname "$0")/chaos.sh"
#   chaos_begins MNT MNT2
#   for ((round = 1; round <= rounds; round++)); do deed="..."; ...; await_progress; round_is_over; done
#   chaos_ends
#
# SEED=N repeats the choices, not the moments.
# shellcheck shell=bash

SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
rounds=$(((${SCALE:-100} + 1) / 2))
say "$rounds rounds, SEED=$SEED"
RANDOM=$SEED

# --- who work -----------------------------------------------------------------------------------------------------------

WORKERS=''
work() { # NAME COMMAND...
	"${@:2}" >"$T/$1.out" 2>&1 &
	WORKERS="$WORKERS $!"
	PIDS="$PIDS $!"
}
chaos_begins() { # MNT MNT2
	local n mover
	mover=$(dirname "$0")/../tools/mover.py
	mkdir "$1"/{both,one,moved}
	work both hammer -p 2 -u "$T/stop" -c "$T/both.counts" -s "$SEED" "$1/both" "$2/both"
	work one hammer -p 2 -u "$T/stop" -c "$T/one.counts" -s "$SEED" "$2/one"
	for n in 1 2; do work mover$n python3 "$mover" "$T/stop" "$T/mover$n.counts" $n "$SEED" "$1/moved" "$2/moved"; done
	for n in 3 4; do work mover$n python3 "$mover" "$T/stop" "$T/mover$n.counts" $n "$SEED" "$1/moved"; done
	await "all have begun" all_have_begun
}
all_have_begun() { [ "$(counts | wc -l)" = 8 ]; }
chaos_ends() {
	touch "$T/stop"
	for worker in $WORKERS; do wait "$worker" || found "something was wrong"; done
}

counts() { od -An -v -w8 -tu8 "$T"/{both,one,mover{1..4}}.counts; }
# Who works says nothing unless something is wrong, and may have others who go on.
ended() {
	[ -z "$(cat "$T"/{both,one,mover{1..4}}.out)" ] || return 0
	for worker in $WORKERS; do kill -0 "$worker" 2>/dev/null || return 0; done
	return 1
}
# Each has done what it was at when it was `counted`, and something more; or one has ended.
go_on() { ended || counts | paste - <(echo "$counted") | awk '$1 < $2 + 2 { waits = 1 } END { exit waits || NR < 8 }'; }
await_progress() {
	counted=$(counts)
	await "all go on after $deed" go_on
	! ended || found "who worked has ended in round $round: $deed"
}
found() { tail -n 20 "$T"/{both,one,mover{1..4}}.out >&2 && fail "$1; SEED=$SEED"; }
round_is_over() { say "round $round: $deed, $(echo "$counted" | awk '{ n += $1 } END { print n }') steps"; }

# --- what happens to servers ----------------------------------------------------------------------------------------------

die() { # PIDS...
	kill -9 "$@" || fail "no server to kill"
	for pid in "$@"; do await "server $pid gone" ! alive "$pid"; done
}
hang() { # PID MILLISECONDS
	kill -STOP "$1"
	passes "$2"
	kill -CONT "$1"
}
# passes MILLISECONDS: so long something is wrong.
passes() { sleep "$(printf '%d.%03d' $(($1 / 1000)) $(($1 % 1000)))"; }
