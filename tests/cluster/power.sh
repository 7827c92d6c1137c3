# A machine whose power fails: servers whose data directories lie on lossyfs, and their mount. Sourced behind lib.sh.
#
# The cluster is $T/c, mounted on $T/m; its servers' folders are links to $T/disk/mgs, mds0, ost0, ost1.
# shellcheck shell=bash disable=SC2034,SC2154

DISKS=()
# The OSTs' ledgers are memory, which goes with the power. One that stays all the same must not be believed.
mount -t tmpfs tmpfs /dev/shm || fail "a tmpfs of our own"

# disk NAME WORD...
disk() { lossyfs ask "$T/disk.$1" "${@:2}"; }
# disk_on NAME MNT
disk_on() {
	mkdir -p "$2"
	lossyfs "$2" "$T/disk.$1" >>"$T/lossyfs.log" 2>&1 || fail "lossyfs"
	DISKS+=("$1")
}
disk_cut() { disk "$1" cut "${@:2}" >"$T/cut" || fail "cut $*"; }
# ledger_gone SEED DIR...: that of the OST there, if any, by three seeds of four
ledger_gone() {
	[ $(($1 % 4)) != 3 ] || return
	for dir in "${@:2}"; do
		uuid=$(sed -n 's/^target = //p' "$dir/identity" 2>/dev/null) && rm -f "/dev/shm/strake-ost-$uuid"
	done
}
# Who hangs on a frozen disk is freed before anybody is waited for.
trap 'status=$?; for disk in "${DISKS[@]}"; do disk "$disk" cut nothing 0 >"$T/cut"; done; (exit $status); cleanup' EXIT
at_exit() { awk -v t="$T/" '$1 == "lossyfs" && index($2, t) == 1 { print $2 }' /proc/mounts | xargs -r umount; }

# Everybody but the disks.
inhabitants() {
	grep -lsF -f <(printf '%s\n' "$T/") /proc/[0-9]*/cmdline | cut -d / -f 3 | while read -r pid; do
		grep -sqxF lossyfs "/proc/$pid/comm" || echo "$pid"
	done
}
# everybody_killed: also whom they have started meanwhile. Who waits for a frozen disk is there until that is cut.
everybody_killed() {
	dead=' '
	while :; do
		more=$(for pid in $(inhabitants); do case $dead in *" $pid "*) ;; *) echo "$pid" ;; esac; done)
		[ -n "$more" ] || return
		# shellcheck disable=SC2086 # a list
		kill -9 $more 2>/dev/null
		dead="$dead$(echo "$more" | tr '\n' ' ')"
	done
}
everybody_gone() {
	for pid in $dead; do await "$pid gone" ! alive "$pid"; done
}
# killed PID...: at once, and waited for
killed() {
	kill -9 "$@" 2>/dev/null
	for pid; do await "$pid gone" ! alive "$pid"; done
}
machine_on() {
	timeout "$(limit 60)" strake cluster start "$T/c" --mount "$T/m" >"$T/start.out" 2>&1 || { cat "$T/start.out" && fail "start: $*"; }
}
# check_mdt DIR WHAT: of a copy, since it goes on with the log
check_mdt() {
	rm -rf "$T/copy"
	cp -r --sparse=always "$1" "$T/copy"
	strake-mds --check -d "$T/copy" >"$T/check.out" 2>&1 || { status=$? && cat "$T/check.out" && fail "$2: strake-mds --check: $status"; }
}
# void_is_gone MDSLOG: since the MDS's last start both OSTs have destroyed what the MDT has lost.
void_is_gone() {
	awk '/state up to record/ { left = / 0 ranges of void/ ? 0 : 2 } /void numbers is destroyed/ { left-- } END { exit left > 0 }' "$1"
}
# fsck CLUSTER WHAT: clean, at once and when nothing is left to do
fsck() {
	for moment in 'at once' later; do
		! void_is_gone "$1/log/mds0.log" || moment=later
		strake -m "$(field "$1" mgs 0 address)" fsck >"$T/fsck.out" 2>&1 || { cat "$T/fsck.out" && fail "$2: strake fsck, $moment"; }
		[ "$moment" != later ] || return 0
		await "$2: void numbers" void_is_gone "$1/log/mds0.log"
	done
}

# An epoch that was heard of is never given again. Every start makes some.
epoch=0
epochs_grow() {
	had=$epoch
	epoch=$(sed -n 's/.*: epoch \([0-9]*\):.*/\1/p' "$T/c/log/mgs.log" | tail -n 1)
	[ "$epoch" -gt "$had" ] || fail "$*: the epoch was $had and is $epoch"
}

# stop_at N before|after 'WHAT GLOB'|'' COMMAND...: at that event (of those) after COMMAND has begun, or when that has ended,
# everybody is killed. Who waits for the disk stays until that is cut.
stop_at() {
	count=$(disk machine count)
	disk machine freeze "$1" "$2" "$3" >"$T/freeze" || fail "freeze $*"
	disk machine frozen >"$T/frozen" &
	freezer=$!
	"${@:4}" >"$T/work.out" 2>&1 &
	worker=$!
	wait -n -p ended "$freezer" "$worker"
	status=$?
	if [ "$ended" = "$worker" ]; then
		[ "$status" = 0 ] || { cat "$T/work.out" && fail "${*:4}: before it was stopped"; }
		events=$(($(disk machine count) - count)) # there are fewer than we had believed
	fi
	disown "$worker" "$freezer" 2>/dev/null
	killed "$worker"
	everybody_killed
	dead="$dead$freezer "
}

# power_fails N before|after POLICY SEED 'WHAT GLOB'|'' COMMAND...: for servers and clients, at that event
power_fails() {
	description="${*:6}: power fails $2 event $1${5:+ of $5}, $3 survives, seed $4"
	stop_at "$1" "$2" "${@:5}"
	disk_cut machine "$3" "$4"
	everybody_gone
	ledger_gone "$4" "$T/disk"/ost?
	say "$description: $(cat "$T/frozen")"
}

wipe() {
	everybody_killed
	everybody_gone
	rm -rf "$T/disk"/* "$T"/w?.log
	epoch=0
	mkdir "$T/disk"/{mgs,mds0,ost0,ost1}
	disk_cut machine everything 0
}

# machine_made: never started
machine_made() {
	disk_on machine "$T/disk"
	mkdir "$T/m"
	cluster "$T/c" --osts 2
	strake cluster stop "$T/c" >/dev/null || fail "stop"
	for server in mgs mds0 ost0 ost1; do
		rm -r "$T/c/$server"
		ln -s "$T/disk/$server" "$T/c/$server"
	done
	wipe
}
