#include "common/logger.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* What act() writes to stderr in a child; its status as waitpid(2) gives it. */
static int said(void (*act)(void), char *out, size_t size)
{
	int ends[2], status;
	size_t got = 0;
	ssize_t more;
	pid_t child;

	ck_assert_int_eq(pipe(ends), 0);
	child = fork();
	if (child == 0) {
		dup2(ends[1], STDERR_FILENO);
		act();
		_exit(0);
	}
	close(ends[1]);
	while (got < size - 1 && (more = read(ends[0], out + got, size - 1 - got)) > 0)
		got += (size_t)more;
	out[got] = '\0';
	close(ends[0]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return status;
}

/* As systemd does for a service whose stderr is the journal's. */
static void pretend_journal(void)
{
	char stream[64];
	struct stat stat;

	fstat(STDERR_FILENO, &stat);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)stat.st_dev, (unsigned long long)stat.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
}

static void act_levels(void)
{
	logger_init("strake-test", LOGGER_WARNING);
	log_error("one %d", 1);
	log_warning("two");
	log_info("not said");
	log_debug("not said");
}

START_TEST(levels)
{
	char out[4096];
	const char *second;

	ck_assert_int_eq(said(act_levels, out, sizeof(out)), 0);
	second = strchr(out, '\n') + 1;
	ck_assert_str_eq(out + strlen("2026-01-02 03:04:05.678 "), strchr(out, 's'));
	ck_assert_int_eq(strncmp(strchr(out, 's'), "strake-test: error: one 1\n", 26), 0);
	ck_assert_str_eq(strchr(second, 's'), "strake-test: warning: two\n");
}
END_TEST

static void act_journal(void)
{
	pretend_journal();
	logger_init("strake-test", LOGGER_DEBUG);
	log_error("e");
	log_warning("w");
	log_info("i");
	log_debug("d");
}

START_TEST(journal)
{
	char out[4096];

	said(act_journal, out, sizeof(out));
	ck_assert_str_eq(out, "<3>e\n<4>w\n<6>i\n<7>d\n");
}
END_TEST

static void act_other_journal(void)
{
	setenv("JOURNAL_STREAM", "1:1", 1);
	logger_init("strake-test", LOGGER_INFO);
	log_info("i");
}

START_TEST(stderr_was_redirected)
{
	char out[4096];

	said(act_other_journal, out, sizeof(out));
	ck_assert_ptr_nonnull(strstr(out, " strake-test: i\n"));
}
END_TEST

static void act_one_line(void)
{
	char text[8000];

	pretend_journal();
	logger_init("strake-test", LOGGER_INFO);
	log_info("a\nb\x1b[31m\rc");
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	log_info("%s", text);
	errno = ENOSPC;
	log_info("%s", "");
	if (errno != ENOSPC)
		_exit(1);
}

/* An event is one line, whatever a peer put into its text, and a bounded one. */
START_TEST(one_line)
{
	static const char first[] = "<6>a b [31m c\n";
	char out[16000], *end;

	ck_assert_int_eq(said(act_one_line, out, sizeof(out)), 0);
	ck_assert_int_eq(strncmp(out, first, strlen(first)), 0);
	end = strchr(out + strlen(first), '\n');
	ck_assert_ptr_nonnull(end);
	ck_assert_int_gt(end - out, 1000);
	ck_assert_int_lt(end - out, 3000);
	ck_assert_str_eq(end, "\n<6>\n");
}
END_TEST

static void act_die(void)
{
	logger_init("strake-test", LOGGER_ERROR);
	logger_die("the log is damaged at %u", 7u);
}

START_TEST(last_word)
{
	char out[4096];
	int status = said(act_die, out, sizeof(out));

	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	ck_assert_ptr_nonnull(strstr(out, "error: the log is damaged at 7\n"));
}
END_TEST

START_TEST(level_names)
{
	enum logger_level level = LOGGER_INFO;

	ck_assert_int_eq(logger_level_parse("error", &level), 0);
	ck_assert_int_eq((int)level, (int)LOGGER_ERROR);
	ck_assert_int_eq(logger_level_parse("debug", &level), 0);
	ck_assert_int_eq((int)level, (int)LOGGER_DEBUG);
	ck_assert_int_eq(logger_level_parse("", &level), -EINVAL);
	ck_assert_int_eq(logger_level_parse("Error", &level), -EINVAL);
	ck_assert_int_eq(logger_level_parse("7", &level), -EINVAL);
	ck_assert_int_eq((int)level, (int)LOGGER_DEBUG);
}
END_TEST

UNIT_MAIN("logger", levels, journal, stderr_was_redirected, one_line, last_word, level_names)
