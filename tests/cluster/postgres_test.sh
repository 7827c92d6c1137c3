#!/bin/bash
# PostgreSQL with its data directory on a mount, as a user who is not root: initdb, pgbench with several clients, a database
# that was killed in the middle and recovers, pages whose checksums are all right, and the same after everything was restarted.
. "$(dirname "$0")/lib.sh"

PG=$(find /usr/lib/postgresql -name initdb 2>/dev/null | sort -V | tail -n 1)
[ -n "$PG" ] || skip "needs PostgreSQL (Debian package postgresql)"
PATH=$(dirname "$PG"):$PATH
command -v pgbench >/dev/null || skip "needs pgbench (Debian package postgresql)"
transactions=$((300 * ${SCALE:-100} / 100 + 20))

start --osts 2
chmod 755 "$T"
mkdir -m 700 "$T/m/pg" "$T/sock"
chown nobody "$T/m/pg" "$T/sock"
export PGHOST=$T/sock PGPORT=5432 PGUSER=nobody PGDATABASE=postgres

# as COMMAND...: as the database's user; what it says is in $T/said.
as() { setpriv --reuid nobody --regid nogroup --clear-groups -- env -C / HOME=/ LC_ALL=C "$@" >"$T/said" 2>&1 </dev/null || { cat "$T/said" "$T/sock/log" >&2; fail "$*"; }; }
ask() { as psql -qAtX -c "$1"; cat "$T/said"; }
up() {
	as pg_ctl -D "$T/m/pg/data" -w -t 120 -l "$T/sock/log" -o "-k $T/sock -h '' -c dynamic_shared_memory_type=mmap" start
	PIDS=$(head -n 1 "$T/m/pg/data/postmaster.pid")
}
down() {
	as pg_ctl -D "$T/m/pg/data" -w -t 120 -m "$1" stop
	PIDS=''
}

right() { # WHEN TRANSACTIONS: what was added to the accounts, tellers and branches is what the history says
	expect "transactions $1" "$2" "$(ask 'select count(*) from pgbench_history')"
	expect "sums $1" 1 "$(ask 'select count(distinct s) from (select sum(abalance) s from pgbench_accounts union all
		select sum(tbalance) from pgbench_tellers union all select sum(bbalance) from pgbench_branches union all
		select sum(delta) from pgbench_history) x')"
}

as initdb -D "$T/m/pg/data" -A trust --data-checksums
up
as pgbench -i -s 1
as pgbench -n -c 4 -j 2 -t "$transactions"
right "after pgbench" $((4 * transactions))
ask 'create table t as select i, md5(i::text) m from generate_series(1, 20000) i; create index on t(m); checkpoint' >/dev/null
sum=$(ask 'select md5(string_agg(m, chr(44) order by i)) from t')
as pgbench -n -c 4 -j 2 -t "$transactions"

# Without a checkpoint: what was committed comes from the WAL.
down immediate
up
grep -q "database system was not properly shut down" "$T/sock/log" || fail "it did not recover: $(cat "$T/sock/log")"
right "after a crash" $((8 * transactions))
ask 'vacuum full' >/dev/null
down fast
as pg_checksums --check -D "$T/m/pg/data"

strake cluster stop "$T/c" >"$T/out" 2>&1 || fail "stop: $(cat "$T/out")"
strake cluster start "$T/c" --mount "$T/m" >"$T/out" 2>&1 || fail "start: $(cat "$T/out")"
as pg_checksums --check -D "$T/m/pg/data"
up
right "after a restart of all" $((8 * transactions))
expect "a table" "$sum" "$(ask 'select md5(string_agg(m, chr(44) order by i)) from t')"
down fast
