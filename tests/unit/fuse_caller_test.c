/* Whose requests are given up: what /proc/TID/status says of signals. */
#include "client/fuse/caller.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* state and hexadecimal masks as Linux writes them: pending of the thread and of the process, blocked, ignored, caught */
static bool is_dying(const char *state, const char *thread, const char *process, const char *blocked,
		     const char *ignored, const char *caught)
{
	char text[1024];
	FILE *status;
	bool dying;

	snprintf(
		text, sizeof(text),
		"Name:\tState: Z\nState:\t%s\nPid:\t7\nSigQ:\t1/9\nSigPnd:\t%s\nShdPnd:\t%s\nSigBlk:\t%s\nSigIgn:\t%s\n"
		"SigCgt:\t%s\nCapInh:\t0000000000000100\n",
		state, thread, process, blocked, ignored, caught);
	status = fmemopen(text, strlen(text), "r");
	ck_assert_ptr_nonnull(status);
	dying = caller_status_is_dying(status);
	fclose(status);
	return dying;
}

#define NONE "0000000000000000"
#define KILL "0000000000000100"
#define QUIT "0000000000000004"
#define ALRM "0000000000002000"
#define CHLD "0000000000010000"
#define ALL  "ffffffffffffffff"

START_TEST(only_what_ends_a_process_counts)
{
	ck_assert(!is_dying("S (sleeping)", NONE, NONE, NONE, NONE, NONE));
	ck_assert(is_dying("D (disk sleep)", KILL, NONE, NONE, NONE, NONE));
	ck_assert(is_dying("S (sleeping)", NONE, KILL, ALL, ALL, ALL));
	ck_assert(!is_dying("S (sleeping)", NONE, ALRM, NONE, NONE, ALRM));
	ck_assert(!is_dying("S (sleeping)", ALRM, NONE, ALRM, NONE, NONE));
	ck_assert(!is_dying("S (sleeping)", NONE, ALRM, NONE, ALRM, NONE));
	ck_assert(!is_dying("S (sleeping)", NONE, CHLD, NONE, NONE, NONE));
	ck_assert(is_dying("S (sleeping)", NONE, QUIT, NONE, NONE, ALRM));
}
END_TEST

START_TEST(who_has_ended_is_dying)
{
	ck_assert(is_dying("Z (zombie)", NONE, NONE, NONE, NONE, NONE));
	ck_assert(is_dying("X (dead)", NONE, NONE, NONE, NONE, NONE));
}
END_TEST

START_TEST(processes_are_looked_at)
{
	pid_t pid = fork();
	siginfo_t info;

	if (pid == 0)
		_exit(0);
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	ck_assert(caller_is_dying((uint32_t)pid)); /* a zombie */
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert(caller_is_dying((uint32_t)pid)); /* gone */
	ck_assert(!caller_is_dying((uint32_t)gettid()));
}
END_TEST

UNIT_MAIN("fuse_caller", only_what_ends_a_process_counts, who_has_ended_is_dying, processes_are_looked_at)
