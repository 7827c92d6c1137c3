/*
 * Starting daemons that outlive us, and hearing from each whether it came up (STRAKE_READY_FD, see common/daemon.h).
 * Many can be started before the first is waited for.
 */
#ifndef STRAKE_CLIENT_CLI_SPAWN_H
#define STRAKE_CLIENT_CLI_SPAWN_H

#include <stddef.h>
#include <sys/types.h>

#define SPAWN_LINE_SIZE 1024

enum spawn_verdict {
	SPAWN_WAITING, /* has not said anything yet */
	SPAWN_READY,
	SPAWN_FAILED, /* said why: line */
	SPAWN_ENDED,  /* ended, or let go of the descriptor, without a word */
};

struct spawn {
	/* in */
	const char *path;        /* of the program */
	const char *const *argv; /* needed until spawn_start() returns */
	const char *log;         /* stdout and stderr are appended here */
	int (*enter)(void *arg); /* runs in the new process before it becomes the program; 0 or -errno */
	void *enter_arg;

	/* out */
	pid_t pid;
	enum spawn_verdict verdict;
	char line[SPAWN_LINE_SIZE]; /* READY: the address; FAILED: the daemon's own sentence */

	int ready; /* spawn.c's own */
	size_t line_length;
};

/* In a session of its own, in "/", with nothing of ours open. Errors of pipe(2), open(2), fork(2). */
int spawn_start(struct spawn *spawn);
/* Wait until each has said something or ended, at most so long. */
void spawn_wait(struct spawn *spawns, size_t count, unsigned int timeout_ms);

#endif
