#include "client/cli/spawn.h"
#include "common/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READY_FD    3
#define NULL_DEVICE "/dev/null"

/* The same words as a daemon that cannot start. */
static _Noreturn void child_fail(int fd, const char *what, int err)
{
	dprintf(fd, "error %s: %s\n", what, strerror(-err));
	_exit(1);
}

static _Noreturn void child_run(const struct spawn *spawn, int log, int ready)
{
	/* execv() takes char *const * for history's sake and writes to nothing. */
	union {
		const char *const *in;
		char *const *out;
	} words = { .in = spawn->argv };
	int input = open(NULL_DEVICE, O_RDONLY), err;

	setsid();
	if (input < 0 || dup2(input, 0) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 || chdir("/") < 0)
		child_fail(ready, "cannot become a daemon", -errno);
	err = spawn->enter ? spawn->enter(spawn->enter_arg) : 0;
	if (err)
		child_fail(ready, "cannot write its pid file", err);
	if (ready == READY_FD ? fcntl(ready, F_SETFD, 0) < 0 : dup2(ready, READY_FD) < 0)
		child_fail(ready, "cannot become a daemon", -errno);
	close_range(READY_FD + 1, ~0U, 0);
	umask(022);
	unsetenv("NOTIFY_SOCKET");
	setenv("STRAKE_READY_FD", "3", 1);
	execv(spawn->path, words.out);
	child_fail(READY_FD, spawn->path, -errno);
}

int spawn_start(struct spawn *spawn)
{
	int pipes[2], err = 0, log = open(spawn->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);

	spawn->verdict = SPAWN_WAITING;
	spawn->line[0] = '\0';
	spawn->line_length = 0;
	spawn->ready = -1;
	if (log < 0)
		return -errno;
	if (pipe2(pipes, O_CLOEXEC) < 0) {
		err = -errno;
		close(log);
		return err;
	}
	spawn->pid = fork();
	if (spawn->pid == 0)
		child_run(spawn, log, pipes[1]);
	if (spawn->pid < 0)
		err = -errno;
	close(log);
	close(pipes[1]);
	if (err)
		close(pipes[0]);
	else
		spawn->ready = pipes[0];
	return err;
}

/* A whole line has come, or the end. */
static void spawn_judge(struct spawn *spawn)
{
	char *line = spawn->line;

	line[strcspn(line, "\n")] = '\0';
	spawn->verdict = SPAWN_ENDED;
	if (strncmp(line, "ready ", 6) == 0)
		spawn->verdict = SPAWN_READY;
	else if (strncmp(line, "error ", 6) == 0)
		spawn->verdict = SPAWN_FAILED;
	if (spawn->verdict != SPAWN_ENDED)
		memmove(line, line + 6, strlen(line + 6) + 1);
	close(spawn->ready);
	spawn->ready = -1;
}

static void spawn_read(struct spawn *spawn)
{
	size_t room = sizeof(spawn->line) - 1 - spawn->line_length;
	ssize_t count = room > 0 ? read(spawn->ready, spawn->line + spawn->line_length, room) : 0;

	if (count < 0 && errno == EINTR)
		return;
	if (count > 0) {
		spawn->line_length += (size_t)count;
		spawn->line[spawn->line_length] = '\0';
	}
	if (count <= 0 || strchr(spawn->line, '\n'))
		spawn_judge(spawn);
}

/* One round: false when nobody is waited for any more. */
static bool spawn_poll(struct spawn *spawns, size_t count, struct pollfd *pollers, int timeout_ms)
{
	bool waiting = false;

	for (size_t i = 0; i < count; i++) {
		pollers[i] = (struct pollfd){ .fd = spawns[i].ready, .events = POLLIN };
		waiting |= spawns[i].ready >= 0;
	}
	if (!waiting || (poll(pollers, count, timeout_ms) < 0 && errno != EINTR))
		return false;
	for (size_t i = 0; i < count; i++)
		if (spawns[i].ready >= 0 && pollers[i].revents != 0)
			spawn_read(&spawns[i]);
	return true;
}

void spawn_wait(struct spawn *spawns, size_t count, unsigned int timeout_ms)
{
	uint64_t now_ns = clock_ns(), deadline_ns = now_ns + timeout_ms * NSEC_PER_MSEC;
	struct pollfd *pollers = calloc(count > 0 ? count : 1, sizeof(*pollers));

	while (pollers && now_ns < deadline_ns &&
	       spawn_poll(spawns, count, pollers, (int)((deadline_ns - now_ns) / NSEC_PER_MSEC) + 1))
		now_ns = clock_ns();
	free(pollers);
	for (size_t i = 0; i < count; i++)
		if (spawns[i].ready >= 0) {
			close(spawns[i].ready);
			spawns[i].ready = -1;
		}
}
