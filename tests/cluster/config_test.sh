#!/bin/bash
# Bad configuration files and command lines: a clear word, exit 2 (or 1 where it was understood but cannot be), no change.
. "$(dirname "$0")/lib.sh"

says 2 "verb" strake frobnicate
says 2 "option" strake status --frobnicate
says 2 "frobnicate" strake-oss --frobnicate
says 2 "listen" strake-mgs -d "$T" -l "not an address:xx"
says 2 "HOST\[:PORT\]" strake-mds -d "$T" -m "not an address:xx"
for server in mgs mds oss; do
	says 2 "^strake-$server: --data-dir is missing; .strake format $server -d DIR. makes one; see strake-$server --help$" "strake-$server"
	says 2 "data-dir" "strake-$server" -d ""
done
says 2 "^strake-oss: --ost-index .*; see" strake-oss -d "$T/1,$T/2" -i 1
printf '[oss]\nlisten = 127.0.0.1:0\nfrobnicate = 1\n' >"$T/conf"
says 2 "conf.*frobnicate|frobnicate.*conf" strake-oss -d "$T" --config "$T/conf"
printf '[oss\n' >"$T/conf"
says 2 "conf" strake-oss -d "$T" --config "$T/conf"
says 2 "conf" strake-oss -d "$T" --config "$T/no-such-conf"
mkdir "$T/m"
says 2 "frobnicate" mount.strake 127.0.0.1:1:/ "$T/m" -o frobnicate
says 2 "SUBDIR" mount.strake nonsense "$T/m"
says 2 "option|value|workers" mount.strake 127.0.0.1:1:/ "$T/m" -o workers=none

says 2 "auto, rdma, tcp" strake-oss -d "$T" --transport pigeon
says 2 "auto, rdma, tcp" strake cluster start "$T/c" --transport pigeon
says 2 "transport" mount.strake 127.0.0.1:1:/ "$T/m" -o transport=pigeon
says 2 "neither normal nor strict" strake cluster start "$T/c" --durability pigeon
if [ -z "$(ls /sys/class/infiniband 2>/dev/null)" ]; then
	says 1 "transport is rdma, but" strake-oss -d "$T" --transport rdma
	says 1 "transport is rdma, but" mount.strake rdma://127.0.0.1:1:/ "$T/m" -o transport=rdma
	says 1 "transport is rdma, but" strake cluster start "$T/r" --transport rdma
	grep -qx "transport = rdma" "$T/r/cluster.conf" || fail "cluster.conf does not keep --transport"
fi

start --osts 1 --transport tcp
says 1 "transport is tcp" mount.strake rdma://127.0.0.1:1:/ "$T" -o "transport=tcp,connect=1,key=$T/c/mds0/cluster.key"
# Who sets what servers are started with, while they run, is told that they go on without.
says 0 "^strake: .*--durability strict is for the next start$" strake cluster start "$T/c" --durability strict
! grep -qe --transport "$T/out" || fail "start says $(cat "$T/out")"
says 0 "is up" strake cluster start "$T/c" --durability strict --transport tcp
! grep -q "next start" "$T/out" || fail "start says $(cat "$T/out")"
# Which connection goes by what is told.
echo words >"$T/m/file"
getfattr --only-values -n strake.stats "$T/m" >"$T/stats" || fail "strake.stats"
grep -qE '^connections_tcp [1-9]' "$T/stats" && grep -qx 'connections_rdma 0' "$T/stats" || fail "strake.stats: $(cat "$T/stats")"
grep -qE '^mdt0_connections_tcp [1-9]' "$T/stats" && grep -qE '^ost0_connections_tcp [1-9]' "$T/stats" || fail "strake.stats: $(cat "$T/stats")"
! grep -qE '_connections_rdma|^[^ ]* *$' "$T/stats" || fail "strake.stats: $(cat "$T/stats")"
told() {
	strake -m "$MGS" status --json | python3 -c '
import json, sys
status = json.load(sys.stdin)
for server in status["mgs"] + status["mds"] + status["oss"]:
    assert server["connections"]["tcp"] > 0 and server["connections"]["rdma"] == 0'
}
await "the servers to tell of their connections" told
strake -m "$MGS" status >"$T/out" || fail "strake status"
grep -qE 'MDT-0: .*connections? by TCP, 0 by RDMA' "$T/out" && ! grep -q '+ rdma' "$T/out" || fail "strake status: $(cat "$T/out")"
# The MDS, the OSS and the mount, and not who asks.
three() {
	strake -m "$MGS" status --json | python3 -c '
import json, sys
mgs = json.load(sys.stdin)["mgs"][0]
sys.exit(mgs["connections"] != {"tcp": 3, "rdma": 0} or mgs["rdma_addresses"] != [])'
}
await "the MGS to tell of three connections" three
says 2 "eplica" strake -m "$MGS" client put -R 2 "$0" /x
says 2 "tripe|size" strake -m "$MGS" client put -S 12345 "$0" /x
says 1 "exist|No such" strake -m "$MGS" client stat /x
says 1 "^strake: cannot ask the MGS: 127.0.0.1:1: Connection refused; is it running, and is that where it is .-m, STRAKE_MGS.[?]$" \
	strake -m 127.0.0.1:1 --key "$T/c/mgs/cluster.key" status
says 0 "-k, --key FILE" mount.strake --help
for bin in strake-mgs strake-mds strake-oss strake mount.strake; do
	"$bin" --help >"$T/out" 2>&1 || fail "$bin --help"
	grep -qi usage "$T/out" || fail "$bin --help shows no usage"
	"$bin" --version >/dev/null || fail "$bin --version"
done

# A port that another program has.
strake -m "$MGS" --key "$T/c/mgs/cluster.key" format oss -d "$T/ost" >/dev/null || fail "format oss"
says 1 "cannot listen on $MGS: Address already in use; .*ss -ltnp; .*--listen" strake-oss -d "$T/ost" -m "$MGS" -l "$MGS"

# A server that is told no port takes its own. The address is nobody's here, so that the refusal tells which it was.
strake cluster stop "$T/c" >/dev/null || fail "stop"
nobodys() { says 1 "cannot listen on 192\.0\.2\.1:$1: .*no address of this machine" "${@:2}" -l 192.0.2.1; }
nobodys 9400 strake-mgs -d "$T/c/mgs"
nobodys 9401 strake-mds -d "$T/c/mds0" -m "$MGS"
nobodys 9402 strake-oss -d "$T/c/ost0" -m "$MGS"
