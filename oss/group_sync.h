/*
 * Many fibers that want the same thing synced share the work: who comes while a round runs waits for one that began after
 * it came, and that one serves all who wait. For fibers of one loop. Zero-initialise it.
 */
#ifndef STRAKE_OSS_GROUP_SYNC_H
#define STRAKE_OSS_GROUP_SYNC_H

#include "common/fiber.h"

#include <stdbool.h>
#include <stdint.h>

struct group_sync {
	uint64_t begun, done; /* rounds */
	uint64_t failed;      /* the last round that failed */
	int err;              /* how */
	bool running;
	struct fiber_queue queue;
};

/*
 * Returns when a round that began after the call is done: 0, or the error of sync(arg) in it or in a later round (rather
 * one error too many than one too few). sync may wait; it runs in the fiber of one of those who asked.
 */
int group_sync_run(struct group_sync *group, int (*sync)(void *arg), void *arg);

#endif
