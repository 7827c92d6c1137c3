#include "oss/group_sync.h"

#include <stddef.h>

static void run_round(struct group_sync *group, int (*sync)(void *arg), void *arg)
{
	uint64_t round = ++group->begun;
	int err;

	group->running = true;
	err = sync(arg);
	group->running = false;
	group->done = round;
	if (err < 0) {
		group->failed = round;
		group->err = err;
	}
	fiber_wake_all(&group->queue);
}

int group_sync_run(struct group_sync *group, int (*sync)(void *arg), void *arg)
{
	uint64_t need = group->begun + 1;

	while (group->done < need) {
		if (group->running)
			fiber_wait(&group->queue, NULL);
		else
			run_round(group, sync, arg);
	}

	return group->failed >= need ? group->err : 0;
}
