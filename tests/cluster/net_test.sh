#!/bin/bash
# strake net: this machine's RDMA devices, or why there are none; strake net test: every server, by TCP, and by what is not
# there; a server that is away, silent, killed, another's, overrun; nothing that is stored changes. (With devices:
# guest/net_test.sh.)
. "$(dirname "$0")/lib.sh"

# --- devices ----------------------------------------------------------------------------------------------------------

# A program beside which there is no plug-in, or one that cannot be loaded.
mkdir -p "$T/p/bin" "$T/p/lib"
cp "$BUILD/bin/strake" "$T/p/bin/"
says 1 "No RDMA here: strake-rdma.so is not installed" "$T/p/bin/strake" net
says 1 '"reason": "strake-rdma.so is not installed"' "$T/p/bin/strake" net --json
json 'it["devices"] == []'
echo nonsense >"$T/p/lib/strake-rdma.so"
says 1 "No RDMA here: .*strake-rdma.so" "$T/p/bin/strake" net
if [ -z "$(ls /sys/class/infiniband 2>/dev/null)" ]; then
	says 0 "No RDMA here: this machine has no RDMA device" strake net
	says 0 "no RDMA device" strake net --json
	json 'it["devices"] == []'
fi
says 2 "there is no \"net frobnicate\"" strake net frobnicate
says 2 "no option --frobnicate" strake net --frobnicate
says 0 "Usage: strake net" strake net --help

# --- a test -----------------------------------------------------------------------------------------------------------

start --osts 1 --transport tcp
key=$T/c/mgs/cluster.key
echo words >"$T/m/file"
sync "$T/m/file"
# Their names, and how long they are; but for the MGS's map, which is written once a minute.
files() { find "$T/c/mgs" "$T/c/ost0" -type f -size +0 -printf '%P %s\n' | sed 's|^map/data\.mdb .*|map/data.mdb|' | LC_ALL=C sort; }
before=$(files)
for role in mgs mds oss; do
	address=$(field "$T/c" $role 0 address)
	says 0 "a small call" strake -m "$MGS" net test "$address" --seconds 0.2
	says 0 '"passed": true' strake --key "$key" net test "$address" --seconds 0.2 --json
	json "it['role'] == {'mgs': 'mgs', 'mds': 'mdt', 'oss': 'ost'}['$role'] and it['address'] == '$address'"
	json "[t['transport'] for t in it['transports']] == ['tcp', 'rdma']"
	json "0 < it['transports'][0]['latency_us']['min'] <= it['transports'][0]['latency_us']['median'] <= it['transports'][0]['latency_us']['p99']"
	json "it['transports'][0]['to_server_bytes_per_s'] > 0 and it['transports'][0]['from_server_bytes_per_s'] > 0"
	json "it['transports'][0]['lost_calls'] == 0 and it['transports'][0]['address'] == '$address'"
	json "not it['transports'][1]['measured'] and it['transports'][1]['reason']"
done
expect "files of the servers" "$before" "$(files)"
expect "the file" words "$(cat "$T/m/file")"
says 0 '"transports"' strake --key "$key" net test "$MGS" --seconds 0.1 --transport tcp --json
json "[t['transport'] for t in it['transports']] == ['tcp']"

# What is wrong is said, and at once.
says 2 "test which server" strake net test
says 2 "one word too many" strake net test a b
says 2 "no address" strake net test "a:b:c"
says 2 "auto, rdma, tcp" strake net test "$MGS" --transport pigeon
says 2 "no number from 0.1 to 60" strake net test "$MGS" --seconds 0
says 2 "no number from 0.1 to 60" strake net test "$MGS" --seconds nan
[ -e /etc/strake/cluster.key ] || says 1 "no cluster key for 127.0.0.1:1: copy" env -u STRAKE_KEY STRAKE_RUN_DIR="$T/nothing" strake -m 127.0.0.1:2 net test 127.0.0.1:1
says 1 "127.0.0.1:1: Connection refused" strake --key "$key" net test 127.0.0.1:1
says 1 "no-such-host.invalid" strake --key "$key" net test no-such-host.invalid
says 1 "rdma://$MGS is an address of RDMA, and --transport is tcp" strake --key "$key" net test "rdma://$MGS" --transport tcp
if [ -z "$(ls /sys/class/infiniband 2>/dev/null)" ]; then
	says 1 "transport is rdma, but this machine has no RDMA device" strake --key "$key" net test "$MGS" --transport rdma
	says 1 "no RDMA device" strake --key "$key" net test "rdma://$MGS"
fi
says 1 "key" strake --key /nonexistent net test "$MGS"
mkdir "$T/foreign"
strake format mgs -d "$T/foreign/mgs" >/dev/null || fail "format"
says 1 "wrong key" strake --key "$T/foreign/mgs/cluster.key" net test "$MGS"

# A port where nobody speaks: it takes no longer than the opening may.
python3 -c '
import signal, socket
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
signal.pause()' >"$T/port" &
PIDS="$PIDS $!"
await "a port" test -s "$T/port"
says 1 "no complete greeting in time" strake --key "$key" net test "127.0.0.1:$(cat "$T/port")"

# Killed in the middle.
strake --key "$key" net test "$(field "$T/c" oss 0 address)" --seconds 60 >"$T/killed.out" 2>&1 &
tester=$!
connected() { find "/proc/$tester/fd" -lname 'socket:*' | grep -q .; }
await "the test's connection" connected
crash oss 0
began=$SECONDS
wait $tester
expect "exit status of a test whose server was killed" 1 $?
[ $((SECONDS - began)) -le "$(limit 20)" ] || fail "it took $((SECONDS - began)) s"
grep -q "TCP: .*refused" "$T/killed.out" || fail "killed: $(cat "$T/killed.out")"
cluster "$T/c"

# Many testers at once, of a server that works: each comes to its end, and so does the work.
work_begins
pids=''
for n in 0 1 2 3 4 5; do
	strake --key "$key" net test "$(field "$T/c" oss 0 address)" --seconds 0.5 >"$T/many.$n" 2>&1 &
	pids="$pids $!"
done
for pid in $pids; do wait "$pid" || fail "one of many: $(cat "$T"/many.*)"; done
unharmed "many tests"
work_ends
