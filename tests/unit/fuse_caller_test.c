/* What /proc says of who asks: whose requests are given up, who is a member of a group, who is the kernel. */
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

static bool ask(const char *groups, const char *capabilities, bool member, gid_t group)
{
	char text[256];
	FILE *status;
	bool yes;

	snprintf(text, sizeof(text), "Name:\tGroups:\nGid:\t77\t77\t77\t77\nGroups:\t%s\nCapPrm:\t%s\nCapEff:\t%s\n",
		 groups, "ffffffffffffffff", capabilities);
	status = fmemopen(text, strlen(text), "r");
	ck_assert_ptr_nonnull(status);
	yes = member ? caller_status_is_member(status, group) : caller_status_has_fsetid(status);
	fclose(status);
	return yes;
}

START_TEST(members_and_those_who_need_not_be)
{
	ck_assert(ask("5 500 7", NONE, true, 500));
	ck_assert(ask("5 500 7", NONE, true, 7));
	ck_assert(!ask("5 5001 7", NONE, true, 500));
	ck_assert(!ask("", NONE, true, 0));
	ck_assert(!ask("5", NONE, true, 77)); /* of his own group the request tells */
	ck_assert(ask("", "0000000000000010", true, 500));
	ck_assert(ask("5", "0000000000000010", false, 0));
	ck_assert(!ask("5", "ffffffffffffffef", false, 0));
	ck_assert(caller_has_fsetid((uint32_t)gettid(), geteuid()) == (geteuid() == 0));
	ck_assert(!caller_has_fsetid(UINT32_MAX, 0));
	ck_assert(!caller_is_member(UINT32_MAX, 0, 0));
}
END_TEST

static bool is_kernel(const char *text)
{
	FILE *stat = fmemopen((char *)(uintptr_t)text, strlen(text), "r");
	bool is;

	ck_assert_ptr_nonnull(stat);
	is = caller_stat_is_kernel(stat);
	fclose(stat);
	return is;
}

START_TEST(threads_of_the_kernel_are_known)
{
	ck_assert(is_kernel("91 (nfsd) S 2 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 2\n"));
	ck_assert(!is_kernel("91 (nfsd) S 1 91 91 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 2\n"));
	ck_assert(!is_kernel("91 (a) S 2 0 0 0 -1 2129984 0) S 1 91 91 0 -1 4194304 0 0\n"));
	ck_assert(!is_kernel("91 (a) S 2 0"));
	ck_assert(!caller_is_kernel((uint32_t)gettid()));
	ck_assert(!caller_is_kernel(UINT32_MAX));
}
END_TEST

UNIT_MAIN("fuse_caller", only_what_ends_a_process_counts, who_has_ended_is_dying, processes_are_looked_at,
	  members_and_those_who_need_not_be, threads_of_the_kernel_are_known)
