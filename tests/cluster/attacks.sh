# What tests of peers that do what none may share, with a cluster that runs and a mount on $T/m. A test says how one of them
# comes to a server:  wrong_peer SERVER ATTACK
servers="mgs mds oss"
log_of() { case $1 in mgs) echo "$T/c/log/mgs.log" ;; mds) echo "$T/c/log/mds0.log" ;; oss) echo "$T/c/log/ost0.log" ;; esac; }
pids() { for s in $servers; do field "$T/c" "$s" 0 pid; done; }

on_all() { # ATTACK: at once
	local jobs='' server job
	for server in $servers; do
		wrong_peer "$server" "$1" &
		jobs="$jobs $!"
	done
	for job in $jobs; do wait "$job" || fail "$1"; done
}
attack() { # ATTACK LINE...: on all servers; their logs then have these lines
	local kind=$1 server line
	shift
	on_all "$kind"
	for server in $servers; do
		for line in "$@"; do
			await "the $server's log says '$line'" grep -qE "warning: client [^ ]+:[0-9]+( \(client\))?: $line" "$(log_of "$server")"
		done
	done
	unharmed "$kind"
}
