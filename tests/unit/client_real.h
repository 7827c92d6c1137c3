/*
 * A real cluster for tests of libstrake: an MGS, an MDS and OSSs as child processes on 127.0.0.1, in a folder of their own
 * under TMPDIR that goes with them. Daemons can be killed, stopped and started again on their old ports and directories.
 * The programs are those beside the test: ../bin.
 */
#ifndef STRAKE_TESTS_CLIENT_REAL_H
#define STRAKE_TESTS_CLIENT_REAL_H

#include "client/fs.h"
#include "common/fiber.h"
#include "common/identity.h"
#include "common/ledger_path.h"
#include "common/logger.h"
#include "tests/unit/unit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define REAL_OSTS 2

struct real_daemon {
	const char *program;
	struct uuid target;
	char dir[PATH_MAX], address[ADDRESS_SIZE];
	pid_t pid;
};

struct real {
	char dir[64], programs[PATH_MAX];
	struct key key;
	struct uuid fs;
	struct real_daemon mgs, mds, oss[REAL_OSTS];
	struct loop *loop;
	void (*body)(struct real *real);
};

/* Starts it and waits until it is ready. Where an address is known from before, it is that again. */
static void real_start(struct real *real, struct real_daemon *daemon)
{
	char path[PATH_MAX + 32], fd_text[32], log[PATH_MAX + 8], line[512] = "";
	size_t length = 0;
	int ready[2], out;

	snprintf(path, sizeof(path), "%s/%s", real->programs, daemon->program);
	snprintf(log, sizeof(log), "%s.log", daemon->dir);
	assert(pipe(ready) == 0);
	daemon->pid = fork();
	assert(daemon->pid >= 0);
	if (daemon->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(ready[0]);
		snprintf(fd_text, sizeof(fd_text), "%d", ready[1]);
		setenv("STRAKE_READY_FD", fd_text, 1);
		out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
		if (out >= 0) {
			dup2(out, 1);
			dup2(out, 2);
		}
		if (daemon == &real->mgs)
			execl(path, daemon->program, "-d", daemon->dir, "-l", daemon->address, (char *)NULL);
		else
			execl(path, daemon->program, "-d", daemon->dir, "-l", daemon->address, "-m", real->mgs.address,
			      (char *)NULL);
		_exit(127);
	}
	close(ready[1]);
	while (length < sizeof(line) - 1 && strchr(line, '\n') == NULL) {
		ssize_t got = read(ready[0], line + length, sizeof(line) - 1 - length);

		if (got <= 0)
			break;
		length += (size_t)got;
	}
	close(ready[0]);
	if (sscanf(line, "ready %279[^\n]", daemon->address) != 1) {
		fprintf(stderr, "%s: %s (%s)\n", daemon->program, line, log);
		abort();
	}
}

static void real_kill(struct real_daemon *daemon, int signal)
{
	if (daemon->pid <= 0)
		return;
	kill(daemon->pid, signal);
	if (signal == SIGKILL)
		kill(daemon->pid, SIGCONT);
	waitpid(daemon->pid, NULL, 0);
	daemon->pid = 0;
}

static void real_format(struct real *real, struct real_daemon *daemon, const char *program, enum role role,
			uint32_t index)
{
	struct identity identity = {
		.fs = real->fs, .role = role, .index = index, .format_version = IDENTITY_FORMAT_VERSION
	};
	char path[PATH_MAX + 16];

	*daemon = (struct real_daemon){ .program = program };
	snprintf(daemon->dir, sizeof(daemon->dir), "%s/%s%u", real->dir, role_name(role), index);
	snprintf(daemon->address, sizeof(daemon->address), "127.0.0.1:0");
	assert(mkdir(daemon->dir, 0755) == 0);
	snprintf(path, sizeof(path), "%s/cluster.key", daemon->dir);
	assert(key_write(path, &real->key) == 0);
	uuid_make(&identity.target);
	snprintf(identity.fs_name, sizeof(identity.fs_name), "test");
	assert(identity_write(daemon->dir, &identity) == 0);
	daemon->target = identity.target;
}

static void real_body(void *arg)
{
	struct real *real = arg;

	real->body(real);
	fiber_yield();
	loop_stop(real->loop);
}

static void real_config(struct real *real, struct fs_config *ret_config)
{
	fs_config_defaults(ret_config);
	ret_config->key = real->key;
	assert(address_list_parse(real->mgs.address, ADDRESS_PORT_DEFAULT, &ret_config->mgs) == 0);
}

struct real_mount {
	struct fs *fs;
	struct worker *worker;
};

static void real_mount(struct real *real, const struct fs_config *config, struct real_mount *ret)
{
	char error[512] = "";
	int err = fs_open(real->loop, config, 20000, &ret->fs, error, sizeof(error));

	if (err < 0)
		fprintf(stderr, "fs_open: %s\n", error);
	assert(err == 0);
	assert(worker_new(ret->fs, real->loop, 0, &ret->worker) == 0);
}

static void real_unmount(struct real_mount *mount)
{
	worker_free(mount->worker);
	fs_close(mount->fs);
}

/* Run body in a fiber beside a fresh cluster. */
static void real_run(void (*body)(struct real *real))
{
	static struct real real;
	char command[128];
	ssize_t length;

	logger_init("test", LOGGER_ERROR);
	signal(SIGPIPE, SIG_IGN);
	real = (struct real){ .body = body };
	length = readlink("/proc/self/exe", real.programs, sizeof(real.programs) - 8);
	assert(length > 0);
	real.programs[length] = '\0';
	dirname(real.programs);
	strcat(real.programs, "/../bin");
	if (getenv("STRAKE_TEST_BIN") != NULL)
		snprintf(real.programs, sizeof(real.programs), "%s", getenv("STRAKE_TEST_BIN"));
	snprintf(real.dir, sizeof(real.dir), "%.40s/strake-client-XXXXXX",
		 getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp");
	assert(mkdtemp(real.dir) != NULL);
	key_make(&real.key);
	uuid_make(&real.fs);
	real_format(&real, &real.mgs, "strake-mgs", ROLE_MGS, 0);
	real_format(&real, &real.mds, "strake-mds", ROLE_MDT, 0);
	real_start(&real, &real.mgs);
	real_start(&real, &real.mds);
	for (uint32_t i = 0; i < REAL_OSTS; i++) {
		real_format(&real, &real.oss[i], "strake-oss", ROLE_OST, i);
		real_start(&real, &real.oss[i]);
	}

	assert(loop_new(&real.loop) == 0);
	assert(fiber_start(real.loop, real_body, &real) == 0);
	assert(loop_run(real.loop) == 0);
	loop_free(real.loop);

	for (uint32_t i = 0; i < REAL_OSTS; i++) {
		char ledger[LEDGER_PATH_SIZE];

		real_kill(&real.oss[i], SIGTERM);
		ledger_path(LEDGER_DIR, &real.oss[i].target, ledger);
		unlink(ledger); /* there is one if it was killed */
	}
	real_kill(&real.mds, SIGTERM);
	real_kill(&real.mgs, SIGTERM);
	snprintf(command, sizeof(command), "rm -rf '%s'", real.dir);
	assert(system(command) == 0);
}

#endif
