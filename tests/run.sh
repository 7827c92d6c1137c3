#!/bin/bash
# make check: builds and runs all tests, plain and with sanitizers, and closes with "N passed, N failed, N skipped".
#
#   tests/run.sh [VAR=VALUE...]         everything; make gets the variables, as in CC=clang
#   tests/run.sh --build DIR [--only unit|cluster] [NAME...]
#                                       what is built in DIR; of that the unit or the cluster tests; of those the named
#
# A test is a program of tests/unit or a script of tests/cluster: exit 0 passed, 77 skipped (it has said why), else failed.
# It has also failed when it leaves a process, a mount or a file of its own behind; those are removed. What a test prints
# goes to build/log, of one that failed the end is shown. SCALE (percent) is how much work the cluster tests do; TIMES makes
# that, and what fuzz targets get, so many times as much. A unit test that can make no thread is run under TSan only when
# it is named.
#
# JOBS tests run side by side (as many as there are processors), and are told of in their order. A test that must have the
# machine for itself says why in a line "# Alone: ...".
set -u
cd "$(dirname "$0")/.." || exit 1

unset only build
names=() variables=()
while [ $# -gt 0 ]; do
	case $1 in
	--only) only=${2:?} && shift ;;
	--build) build=${2:?} && shift ;;
	*=*) variables+=("$1") ;;
	*) names+=("$1") ;;
	esac
	shift
done

TIMES=${TIMES:-1}
JOBS=${JOBS:-$(nproc)}
passed=0 failed=0 skipped=0
log=build/log
mkdir -p "$log" || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/strake-check.XXXXXX") || exit 1
chmod 755 "$work" # tests of other users look in

trap 'trap - EXIT; rm -rf "$work"' EXIT
# shellcheck disable=SC2046 # a list
trap 'kill -TERM $(jobs -p) 2>/dev/null; wait; exit 130' INT TERM HUP

# --- one test -----------------------------------------------------------------------------------------------------------

# Processes that a test has started: its TMPDIR is in their environment, and only in theirs.
processes() { grep -lszxF -e "TMPDIR=$own" /proc/[0-9]*/environ | cut -d / -f 3; }
mounts() { awk -v own="$own/" 'index($2, own) == 1 { print $2 }' /proc/mounts | tac; }

# sweep: ends, unmounts and removes what a test has left, and names it. A process that is just ending is given 3 s.
sweep() {
	local pid mount try
	for ((try = 0; try < 30; try++)); do
		[ -n "$(processes)" ] || break
		sleep 0.1
	done
	for pid in $(processes); do
		printf 'left behind: process %s: %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
		kill -9 "$pid" 2>/dev/null
	done
	for mount in $(mounts); do
		printf 'left behind: mounted on %s\n' "$mount"
		umount -l "$mount"
	done
	(cd "$own" && find . -mindepth 1 -maxdepth 1 -printf 'left behind: %P\n' -exec rm -rf --one-file-system {} +)
	rmdir "$own"
}

# attempt N LABEL SECONDS COMMAND...: the N-th test, in the background; what is to be said of it becomes $work/said.N
attempt() {
	local n=$1 label=$2 limit=$3 own=$work/$1 file status left reason start=$SECONDS running
	shift 3
	trap - EXIT
	trap 'kill -TERM $running 2>/dev/null; wait; sweep >/dev/null 2>&1; exit 130' INT TERM HUP
	mkdir "$own"
	file=$log/${label// /-}.log
	rm -rf "${file%.log}.daemons"
	# In the background, so that an interrupt is heeded at once; but the test shall not ignore interrupts for that.
	LOGS=$PWD/${file%.log}.daemons TMPDIR=$own \
		env --default-signal=INT,QUIT timeout -k 30 "$limit" "$@" >"$file" 2>&1 </dev/null &
	running=$!
	wait "$running"
	status=$?
	left=$(sweep 2>&1)
	if [ -n "$left" ]; then
		printf '%s\n' "$left" >>"$file"
		case $status in 0 | 77) status=left ;; esac
	fi
	reason=$(sed -n 's/.*SKIP: *//p' "$file" | head -n 1)
	[ "$status" = 77 ] && [ -z "$reason" ] && status="77, skipped without a reason"
	case $status in
	0) printf 'ok    %s (%d s)\n' "$label" $((SECONDS - start)) ;;
	77) printf 'skip  %s: %s\n' "$label" "$reason" ;;
	*)
		case $status in
		124 | 137) status="not done within $limit s" ;;
		left) status="something was left behind" ;;
		*) status="status $status, $((SECONDS - start)) s" ;;
		esac
		printf 'FAIL  %s (%s), the end of %s:\n' "$label" "$status" "$file"
		tail -n 60 "$file" | sed 's/^/      /'
		;;
	esac >"$work/saying.$n"
	mv "$work/saying.$n" "$work/said.$n"
}

# --- side by side -------------------------------------------------------------------------------------------------------

begun=0 told=0 running=0

# tell: of those whose turn it is
tell() {
	local said
	while said=$work/said.$told && [ -e "$said" ]; do
		case $(head -c 4 "$said") in
		ok*) passed=$((passed + 1)) ;;
		skip) skipped=$((skipped + 1)) ;;
		*) failed=$((failed + 1)) ;;
		esac
		cat "$said"
		rm "$said"
		told=$((told + 1))
	done
}

# wait_below COUNT: until fewer run
wait_below() {
	while [ "$running" -ge "$1" ]; do
		wait -n
		running=$((running - 1))
		tell
	done
}

# run LABEL SECONDS COMMAND...: begins when fewer than JOBS run
run() {
	wait_below "$JOBS"
	attempt "$begun" "$@" &
	begun=$((begun + 1))
	running=$((running + 1))
}

# alone LABEL SECONDS COMMAND...: begins when none runs, and is waited for
alone() {
	wait_below 1
	run "$@"
	wait_below 1
}

# run_test SOURCE LABEL SECONDS COMMAND...
run_test() {
	if grep -q '^\(#\| \*\) Alone: ' "$1"; then alone "${@:2}"; else run "${@:2}"; fi
}

wanted() { [ ${#names[@]} = 0 ] || case " ${names[*]} " in *" $1 "*) ;; *) return 1 ;; esac; }

# may_race BUILD NAME: or is it TSan's, and the program can make no thread? The plain one is asked: TSan's own code can.
may_race() {
	local symbols
	case $1 in *san-thread*) ;; *) return 0 ;; esac
	symbols=$(nm -u "build/tests/$2" 2>/dev/null) || return 0
	case $symbols in *' pthread_create'*) ;; *) return 1 ;; esac
}

# tests BUILD LABEL SCALE: those of the sources, not what an older tree has left in BUILD.
tests() {
	local test name
	if [ "${only:-unit}" = unit ]; then
		for test in tests/unit/*_test.c; do
			name=$(basename "$test" .c)
			[ ${#names[@]} != 0 ] || may_race "$1" "$name" || continue
			wanted "$name" && run_test "$test" "$2 $name" 300 "$1/tests/$name"
		done
	fi
	if [ "${only:-cluster}" = cluster ]; then
		for test in tests/cluster/*_test.sh; do
			name=$(basename "$test" .sh)
			wanted "$name" && BUILD=$PWD/$1 SCALE=$(($3 * TIMES)) run_test "$test" "$2 $name" $((600 * TIMES)) bash "$test"
		done
	fi
	wait_below 1
}

# everything BUILD LABEL SCALE [SAN=...]: built and tested; false if it cannot be built.
everything() {
	local before=$failed
	alone "$2 build" 1800 make -s -j"$(nproc)" "${variables[@]}" "${@:4}" tests-build
	[ "$failed" = "$before" ] && tests "$1" "$2" "$3"
}

# Every decoder, 2 s each (TIMES): longer is `make fuzz`.
fuzz() {
	local before=$failed source name
	if ! command -v clang >/dev/null; then
		alone fuzz 10 bash -c 'echo "SKIP: there is no clang"; exit 77'
		return
	fi
	alone "fuzz build" 900 make -s -j"$(nproc)" fuzz-targets
	[ "$failed" = "$before" ] || return
	for source in tests/fuzz/*_fuzz.c; do
		name=$(basename "$source" .c)
		run "fuzz $name" $((120 * TIMES)) tests/fuzz/run.sh "build/san-fuzz/fuzz/$name" $((2 * TIMES))
	done
	wait_below 1
}

# Where there is a kernel for it already: RDMA, on devices of software. All of that is `make check-rdma`.
guest() { alone guest 1200 tests/guest/check.sh --few; }

# How much work makes sense there: sanitizers cost three to ten times the time.
scale_of() { case $1 in *address*) echo 20 ;; *thread*) echo 10 ;; *) echo 100 ;; esac; }

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=0:abort_on_error=0:exitcode=99}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=98:halt_on_error=1}
unset MAKEFLAGS MFLAGS MAKELEVEL SAN # of the make that may have called: its job server is not for those below

[ "$(id -u)" = 0 ] || echo "check: not as root: the cluster tests mount and make network namespaces, and are skipped"
if [ -n "${build:-}" ]; then
	tests "$build" "$(basename "$build")" "${SCALE:-$(scale_of "$build")}"
elif scripts/deps.sh postgresql || scripts/deps.sh || [ "$(id -u)" != 0 ]; then
	everything build plain "${SCALE:-100}" &&
		guest &&
		everything build/san-address-undefined asan "${SCALE:-20}" SAN=address,undefined &&
		everything build/san-thread tsan "${SCALE:-10}" SAN=thread &&
		fuzz
else
	failed=1
fi
[ $((passed + failed + skipped)) != 0 ] || echo "check: no test was run"

printf '%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
