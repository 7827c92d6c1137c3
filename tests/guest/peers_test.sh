#!/bin/bash
# Peers that do over RDMA what none may do: each is refused or cut off, in time, with a clear line in the log, and the mounts of
# others never notice: on one of them the hammer compares every byte all the time. In a guest (guest.sh).
. "$(dirname "$0")/../cluster/lib.sh"

[ -d /sys/class/net/wires ] || skip "it runs in the guest of tests/guest/guest.sh"
iwarp=y
[ ! -d /sys/class/infiniband/rxe0 ] || iwarp=

mkdir "$T/m"
cluster "$T/c" --osts 1 --listen 192.0.2.2 --transport rdma
MGS=$(field "$T/c" mgs 0 address)
key=$T/c/mgs/cluster.key
mount_more "$T/m"

. "$(dirname "$0")/../cluster/attacks.sh"
declare -A address proc pinned_before
for server in $servers; do
	address[$server]=$(field "$T/c" "$server" 0 address)
	proc[$server]=/proc/$(field "$T/c" "$server" 0 pid)/status
done
work_begins
pids_before=$(pids)

wrong_peer() { # SERVER ATTACK...
	MEANWHILE="cat ${proc[$1]} >$T/meanwhile.$1" timeout 200 wrong_verbs "$key" "${address[$1]}" "${@:2}"
}

# --- connecting -------------------------------------------------------------------------------------------------------

attack greetings "refused: it does not speak our protocol over this fabric" "refused: it speaks another version of our protocol"
attack garbage "refused: it does not speak our protocol$"
attack wrong_proof "refused: wrong key"
if [ -z "$iwarp" ]; then
	attack no_receives "cut off: it has no receive for what it has given credits for" "cut off: no complete greeting in time"
	attack never_stands "cut off: no connection in time"
else # where a connection stands at once, and ends itself for want of a receive
	attack no_receives
fi
attack silent "cut off: no complete greeting in time" "cut off: silent in the middle of a message"

# --- segments, credits, frames ----------------------------------------------------------------------------------------

attack segments "cut off: a segment that breaks the protocol"
attack too_long "cut off: (a segment longer than allowed|local QP operation error)" # rxe tells it so
attack after_bye
attack returns_too_much "cut off: more credits were returned than were used"
attack returns_nothing "cut off: a segment that breaks the protocol"
attack deaf "cut off: does not read what is sent to it"
attack without_credits "cut off: more was sent than there were credits for"
attack prefaces "cut off: a message that breaks the protocol"
attack lengths "cut off: a message longer than allowed"

# --- memory -----------------------------------------------------------------------------------------------------------

# On iWARP a connection ends with what is asked of it wrongly, and nobody is told the reason.
reason="the memory that it has told of cannot be had"
[ -z "$iwarp" ] || reason="it went while its memory was being read or written"
attack wrong_source "cut off: $reason"
attack wrong_place "cut off: $reason"

# --- many -------------------------------------------------------------------------------------------------------------

# Who is refused all the time fills no disk: 100 lines at once, then one more every 6 s.
lines() { for server in $servers; do wc -l <"$(log_of "$server")"; done | sort -n | tail -n 1; }
before=$(lines)
FLOOD=5 on_all flood
[ $(($(lines) - before)) -lt 130 ] || fail "a flood of peers that were refused has filled a log with $(($(lines) - before)) lines"
unharmed "a flood"

# Nor do many who ask nothing keep anybody out. Fifty have 600 KiB each of a server's memory, which the device knows, and give it back.
pinned() { awk '/^VmPin:/ { print $2 }' "$1"; } # STATUS: KiB
let_go() { [ "$(pinned "${proc[$1]}")" -le $((pinned_before[$1] + 600)) ]; }
for server in $servers; do pinned_before[$server]=$(pinned "${proc[$server]}"); done
attack idle
for server in $servers; do
	more=$(($(pinned "$T/meanwhile.$server") - pinned_before[$server]))
	say "$server: fifty who ask nothing have $more KiB, beside ${pinned_before[$server]}"
	[ $more -ge $((50 * 500)) ] && [ $more -le $((50 * 600)) ] || fail "the $server's fifty have $more KiB"
	await "the $server has given that back" let_go "$server"
done

expect "the servers that run, after all of that" "$pids_before" "$(pids)"
work_ends
