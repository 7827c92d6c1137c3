#include "common/daemon.h"
#include "common/fiber.h"
#include "common/version.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct options {
	char name[256], list[1024];
	bool fast;
	int sets;
	bool shared;
	struct address_list mgs;
};

static int set_name(void *target, const char *value, char *error, size_t error_size)
{
	struct options *options = target;

	if (strcmp(value, "bad") == 0) {
		snprintf(error, error_size, "\"%s\" is bad", value);
		return -EINVAL;
	}
	if (strcmp(value, "silent") == 0)
		return -ERANGE;
	snprintf(options->name, sizeof(options->name), "%s", value);
	options->sets++;
	return 0;
}

static int set_fast(void *target, const char *value, char *error, size_t error_size)
{
	struct options *options = target;

	(void)error;
	(void)error_size;
	ck_assert_str_eq(value, "yes");
	options->fast = true;
	return 0;
}

static const struct daemon_option table[] = {
	{ "name", 'n', "NAME", "what it is called", set_name, 0 },
	{ "fast", 'f', NULL, "do it fast", set_fast, 0 },
	{ "shared", 0, NULL, "a switch as many have it", daemon_set_switch, offsetof(struct options, shared) },
	{ "mgs", 0, "ADDR", "the MGS", daemon_set_mgs, offsetof(struct options, mgs) },
};

/* What a run of daemon_options() in a child did. */
struct outcome {
	int status; /* exit status; 0 when it came back, too */
	char out[4096], err[2048], ready[2048];
	struct options options;
	int operand; /* -1: none asked for */
};

static void read_end(int fd, char *out, size_t size)
{
	size_t got = 0;
	ssize_t more;

	while (got < size - 1 && (more = read(fd, out + got, size - 1 - got)) > 0)
		got += (size_t)more;
	out[got] = '\0';
	close(fd);
}

static int argument_count(char *const *argv)
{
	int count = 0;

	while (argv[count])
		count++;
	return count;
}

static struct outcome run(bool operands, const char *const *words)
{
	struct outcome outcome = { .operand = -1 };
	struct {
		struct options options;
		int operand;
	} back = { .operand = -1 };
	int out[2], err[2], ready[2], result[2], status;
	char *argv[16] = { NULL };
	pid_t child;

	for (int i = 0; words[i]; i++)
		argv[i] = strdup(words[i]);
	ck_assert(pipe(out) == 0 && pipe(err) == 0 && pipe(ready) == 0 && pipe(result) == 0);
	child = fork();
	if (child == 0) {
		char number[16];

		dup2(out[1], STDOUT_FILENO);
		dup2(err[1], STDERR_FILENO);
		snprintf(number, sizeof(number), "%d", ready[1]);
		setenv("STRAKE_READY_FD", number, 1);
		daemon_options(argument_count(argv), argv, "strake-oss", "oss", table, sizeof(table) / sizeof(*table),
			       &back.options, operands ? &back.operand : NULL);
		_exit(write(result[1], &back, sizeof(back)) == sizeof(back) ? 0 : 99);
	}
	close(out[1]);
	close(err[1]);
	close(ready[1]);
	close(result[1]);
	read_end(out[0], outcome.out, sizeof(outcome.out));
	read_end(err[0], outcome.err, sizeof(outcome.err));
	read_end(ready[0], outcome.ready, sizeof(outcome.ready));
	if (read(result[0], &back, sizeof(back)) == sizeof(back)) {
		outcome.options = back.options;
		outcome.operand = back.operand;
	}
	close(result[0]);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	outcome.status = WEXITSTATUS(status);
	for (int i = 0; argv[i]; i++)
		free(argv[i]);
	return outcome;
}
#define RUN(operands, ...) run(operands, (const char *const[]){ "prog", __VA_ARGS__, NULL })

START_TEST(command_line)
{
	struct outcome outcome = RUN(false, "--name=a", "-f", "--log-level", "debug");

	ck_assert_int_eq(outcome.status, 0);
	ck_assert_str_eq(outcome.options.name, "a");
	ck_assert_int_eq(outcome.options.sets, 1);
	ck_assert(outcome.options.fast);
	ck_assert_str_eq(outcome.err, "");

	outcome = RUN(false, "-n", "b");
	ck_assert_str_eq(outcome.options.name, "b");
	ck_assert(!outcome.options.fast);
}
END_TEST

START_TEST(shared_setters)
{
	struct outcome outcome = RUN(false, "--shared", "--mgs", "a,b:1");
	struct address_list list;
	char *text = NULL, error[256] = "";

	ck_assert_int_eq(outcome.status, 0);
	ck_assert(outcome.options.shared);
	ck_assert_uint_eq(outcome.options.mgs.count, 2);
	ck_assert_str_eq(outcome.options.mgs.text[0], "a:9400");
	ck_assert_str_eq(outcome.options.mgs.text[1], "b:1");

	ck_assert_int_eq(daemon_set_addresses(&list, 9402, "a,rdma://[::1],b:1", error, sizeof(error)), 0);
	ck_assert_uint_eq(list.count, 3);
	ck_assert_str_eq(list.text[0], "a:9402");
	ck_assert_str_eq(list.text[1], "rdma://[::1]:9402");
	ck_assert_str_eq(list.text[2], "b:1");
	ck_assert_int_lt(daemon_set_addresses(&list, 9402, "a:b", error, sizeof(error)), 0);
	ck_assert_str_eq(error, "\"a:b\" is no address; it must be HOST[:PORT][,HOST[:PORT]...]");

	ck_assert_int_eq(daemon_set_text(&text, "old", error, sizeof(error)), 0);
	ck_assert_int_lt(daemon_set_text(&text, "", error, sizeof(error)), 0);
	ck_assert_str_eq(error, "it is empty");
	ck_assert_str_eq(text, "old");
	ck_assert_int_eq(daemon_set_text(&text, "new", error, sizeof(error)), 0);
	ck_assert_str_eq(text, "new");
	free(text);
}
END_TEST

START_TEST(operands)
{
	struct outcome outcome = RUN(true, "one", "-n", "b", "two");

	ck_assert_int_eq(outcome.status, 0);
	ck_assert_int_eq(outcome.operand, 3); /* moved behind the options */
	ck_assert_str_eq(outcome.options.name, "b");
	outcome = RUN(true, "-n", "b");
	ck_assert_int_eq(outcome.operand, 3);
	outcome = RUN(false, "one");
	ck_assert_int_eq(outcome.status, 2);
	ck_assert_ptr_nonnull(strstr(outcome.err, "\"one\""));
}
END_TEST

START_TEST(wrong_command_lines)
{
	static const struct {
		const char *words[4], *says;
	} rows[] = {
		{ { "prog", "--name", "bad" }, "strake-oss: --name: \"bad\" is bad; see strake-oss --help\n" },
		{ { "prog", "-n", "bad" }, "strake-oss: --name: \"bad\" is bad; see strake-oss --help\n" },
		{ { "prog", "--name", "silent" }, "--name: Numerical result out of range" },
		{ { "prog", "--name" }, "--name: its value NAME is missing" },
		{ { "prog", "-n" }, "--name: its value NAME is missing" },
		{ { "prog", "--fast=1" }, "--fast takes no value" },
		{ { "prog", "--nonsense" }, "unknown or ambiguous option --nonsense" },
		{ { "prog", "-x" }, "unknown option -x" },
		{ { "prog", "--log-level", "loud" }, "--log-level: \"loud\" is none of" },
		{ { "prog", "--config", "/nonexistent/file" }, "--config: /nonexistent/file: No such file" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct outcome outcome = run(false, rows[i].words);

		ck_assert_int_eq(outcome.status, 2);
		ck_assert_ptr_nonnull(strstr(outcome.err, rows[i].says));
		ck_assert_int_eq(strncmp(outcome.ready, "error ", 6), 0); /* who started it hears it too */
	}
}
END_TEST

START_TEST(help_and_version)
{
	struct outcome outcome = RUN(false, "--version");

	ck_assert_int_eq(outcome.status, 0);
	ck_assert_str_eq(outcome.out, "strake-oss (StrakeFS) " STRAKE_VERSION "\n");

	outcome = RUN(false, "--help");
	ck_assert_int_eq(outcome.status, 0);
	ck_assert_ptr_nonnull(strstr(outcome.out, "Usage: strake-oss [OPTION]...\n"));
	ck_assert_ptr_nonnull(strstr(outcome.out, "  -n, --name NAME        what it is called\n"
						  "  -f, --fast             do it fast\n"
						  "      --shared           a switch as many have it\n"
						  "      --mgs ADDR         the MGS\n"
						  "      --config FILE      "));
	ck_assert_ptr_nonnull(strstr(outcome.out, "  -h, --help             show"));
	ck_assert_str_eq(RUN(false, "-h").out, outcome.out);
}
END_TEST

static struct outcome run_config(const char *text, const char *word, const char *value)
{
	char dir[PATH_MAX], path[PATH_MAX + 16];
	struct outcome outcome;
	FILE *file;

	temp_dir_make(dir);
	snprintf(path, sizeof(path), "%s/strake.conf", dir);
	file = fopen(path, "w");
	ck_assert_ptr_nonnull(file);
	fputs(text, file);
	fclose(file);
	outcome = run(false, (const char *const[]){ "prog", word, value, "--config", path, NULL });
	temp_dir_remove(dir);
	return outcome;
}

START_TEST(configuration_file)
{
	struct outcome outcome = run_config("# all of them\n"
					    "[mgs]\nlisten = x\n"
					    "[oss]\n"
					    "  name = from file ; a remark\n"
					    "\tfast = yes\n"
					    "  log-level = error\n"
					    "[client]\nother: y\n",
					    "--log-level", "info");

	ck_assert_str_eq(outcome.err, "");
	ck_assert_int_eq(outcome.status, 0);
	ck_assert_str_eq(outcome.options.name, "from file");
	ck_assert(outcome.options.fast);

	/* The command line is stronger, though it comes first. */
	outcome = run_config("[oss]\nname = file\nfast = no\n", "-n", "command");
	ck_assert_int_eq(outcome.status, 0);
	ck_assert_str_eq(outcome.options.name, "command");
	ck_assert_int_eq(outcome.options.sets, 2);
	ck_assert(!outcome.options.fast);
}
END_TEST

START_TEST(wrong_configuration_files)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{ "[oss]\nnonsense = 1\n", "strake.conf:2: unknown key \"nonsense\" in section [oss]" },
		{ "[oss]\n\n\nname = bad\n", "strake.conf:4: name: \"bad\" is bad" },
		{ "[oss]\nname = a\n  nonsense = 1\n", "strake.conf:3: unknown key" }, /* no continued line */
		{ "[nonsense]\nname = a\n", "strake.conf:1: there is no section [nonsense]" },
		{ "[oss]\nname = a\n [nonsense]\n", "strake.conf:3: there is no section [nonsense]" },
		{ "name = a\n", "strake.conf:1: \"name\" stands before any section" },
		{ "[oss]\nfast = maybe\n", "strake.conf:2: fast: it is yes or no" },
		{ "[oss]\nlog-level = loud\n", "strake.conf:2: log-level: \"loud\"" },
		{ "[oss]\nconfig = x\n", "strake.conf:2: unknown key \"config\"" },
		{ "[oss]\nhelp = yes\n", "strake.conf:2: unknown key \"help\"" },
		{ "[oss]\nname\n", "strake.conf:2: this is neither" },
		{ "[oss\nname = a\n", "strake.conf:1: this is neither" },
	};
	char text[20000] = "[oss]\nname = ";

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct outcome outcome = run_config(rows[i].text, "-n", "a");

		ck_assert_int_eq(outcome.status, 2);
		ck_assert_msg(strstr(outcome.err, rows[i].says) != NULL, "%s", outcome.err);
	}
	memset(text + strlen(text), 'x', sizeof(text) - strlen(text) - 1);
	ck_assert_ptr_nonnull(strstr(run_config(text, "-n", "a").err, "strake.conf:2: the line is longer"));
}
END_TEST

/* STRAKE_READY_FD: one line, then the end. */
static void check_starter(void (*act)(void), int status_expected, const char *expected)
{
	int ready[2], status;
	char line[4096];
	pid_t child;

	ck_assert_int_eq(pipe(ready), 0);
	child = fork();
	if (child == 0) {
		char number[16];

		close(ready[0]);
		snprintf(number, sizeof(number), "%d", ready[1]);
		setenv("STRAKE_READY_FD", number, 1);
		dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
		act();
		_exit(getenv("STRAKE_READY_FD") == NULL && fcntl(ready[1], F_GETFD) < 0 ? 0 : 99);
	}
	close(ready[1]);
	read_end(ready[0], line, sizeof(line));
	ck_assert_str_eq(line, expected);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), status_expected);
}

static void act_ready(void)
{
	daemon_ready("127.0.0.1:9400");
	daemon_ready("127.0.0.1:9400");
}

static void act_refuse(void)
{
	daemon_refuse("strake-oss", "no %s", "directory");
}

static void act_fail(void)
{
	daemon_fail("no %s,\nno %s", "disk", "data");
}

START_TEST(tells_its_starter)
{
	check_starter(act_ready, 0, "ready 127.0.0.1:9400\n");
	check_starter(act_refuse, 2, "error no directory\n");
	check_starter(act_fail, 1, "error no disk, no data\n");
}
END_TEST

START_TEST(signals_stop_the_loop)
{
	static const int numbers[] = { SIGTERM, SIGINT };
	struct rlimit limit;

	for (size_t i = 0; i < sizeof(numbers) / sizeof(*numbers); i++) {
		struct loop *loop;
		int status;
		pid_t child = fork();

		if (child == 0) {
			ck_assert_int_eq(loop_new(&loop), 0);
			ck_assert_int_eq(daemon_signals(loop), 0);
			raise(SIGPIPE);
			raise(numbers[i]); /* also before it runs */
			ck_assert_int_eq(loop_run(loop), 0);
			loop_free(loop);
			ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
			_exit(limit.rlim_cur == limit.rlim_max ? 0 : 1);
		}
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_int_eq(status, 0);
	}
}
END_TEST

/* In a child, which ends with the test's status: in time, or by SIGALRM. */
static void check_in_child(int (*body)(struct loop *loop))
{
	struct loop *loop;
	int status;
	pid_t child = fork();

	if (child == 0) {
		alarm(30);
		ck_assert_int_eq(loop_new(&loop), 0);
		ck_assert_int_eq(daemon_signals(loop), 0);
		status = body(loop);
		loop_free(loop);
		_exit(status);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
}

static bool has_ended;

static void end_slowly(void *arg)
{
	fiber_sleep_ms(50);
	has_ended = true;
	loop_stop(arg);
}

static int stop_twice(struct loop *loop)
{
	raise(SIGTERM);
	ck_assert_int_eq(loop_run(loop), 0);
	raise(SIGTERM);
	raise(SIGINT);
	ck_assert_int_eq(fiber_start(loop, end_slowly, loop), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	return has_ended ? 0 : 1;
}

START_TEST(a_second_signal_does_not_hurry_the_end)
{
	check_in_child(stop_twice);
}
END_TEST

/*
 * A signal that comes when a fiber calls nothing any more: ThreadSanitizer would keep a handler from running until it does.
 * It does not look in here, so that the two may share these. No bools: of a bool UBSan reads once what is volatile.
 */
static volatile int fiber_spins, signal_sent;

__attribute__((no_sanitize("thread"))) static void spin(void *arg)
{
	(void)arg;
	fiber_spins = 1;
	while (!signal_sent)
		;
	for (volatile unsigned int i = 0; i < 10000000; i++)
		;
}

__attribute__((no_sanitize("thread"))) static bool is_spinning(void)
{
	return fiber_spins;
}

__attribute__((no_sanitize("thread"))) static void note_sent(void)
{
	signal_sent = 1;
}

static void *send_signal(void *arg)
{
	(void)arg;
	while (!is_spinning())
		usleep(1000);
	kill(getpid(), SIGTERM);
	note_sent();
	return NULL;
}

static int stop_in_a_fiber(struct loop *loop)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ck_assert_int_eq(pthread_create(&thread, NULL, send_signal, NULL), 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	ck_assert_int_eq(fiber_start(loop, spin, NULL), 0);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	return 0;
}

START_TEST(a_signal_in_a_fiber_is_not_lost)
{
	check_in_child(stop_in_a_fiber);
}
END_TEST

UNIT_MAIN("daemon", command_line, shared_setters, operands, wrong_command_lines, help_and_version, configuration_file,
	  wrong_configuration_files, tells_its_starter, signals_stop_the_loop, a_second_signal_does_not_hurry_the_end,
	  a_signal_in_a_fiber_is_not_lost)
