/*
 * Checkpoints: moves the memory table into LMDB now and then, by a thread of its own, and trims the log after.
 *
 *     idle       active big or old enough: freeze it; the owner notes what a replay from here on could not know otherwise
 *     writing    the thread waits until the log is durable up to that, then writes; full filesystem: again after a second
 *     releasing  thaw, trim the log; one iteration later the thread frees the table
 *
 * One at a time. When the active table grows past CHECKPOINT_SLOW_BYTES while one runs, checkpoint_delay_ms() tells
 * admission to slow down, never to stop. All calls belong to the MDT's loop.
 */
#ifndef STRAKE_MDS_CHECKPOINT_H
#define STRAKE_MDS_CHECKPOINT_H

#include "common/loop.h"
#include "mds/mdt_log.h"
#include "mds/view.h"

#define CHECKPOINT_BYTES      (24u * 1024 * 1024)
#define CHECKPOINT_SLOW_BYTES (64u * 1024 * 1024)
#define CHECKPOINT_AGE_MS     10000
#define CHECKPOINT_DELAY_MAX  100 /* ms */

struct checkpoint; /* opaque: checkpoint.c */

struct checkpoint_owner {
	void *owner;
	/*
	 * One has begun, and what the log says before it will not be read again. The records that are appended now lie behind
	 * it and are durable when it is; alone they are worth none. May be NULL.
	 */
	void (*begun)(void *owner);
};

/* What a replay left in the view counts as changed; but none begins before the owner asks. */
int checkpoint_new(struct loop *loop, struct view *view, struct mdt_log *log, const struct checkpoint_owner *owner,
		   struct checkpoint **ret_checkpoint);
/* Waits for one that runs; before the log and the view are closed. */
struct checkpoint *checkpoint_free(struct checkpoint *checkpoint);

/*
 * Called by the owner once per loop iteration that changed something, when all records appended have been applied.
 * Starts one when it is time.
 */
void checkpoint_consider(struct checkpoint *checkpoint);
/* One now, for a clean stop: returns when it is done (blocks), or reports that there is no room. */
void checkpoint_run(struct checkpoint *checkpoint);
unsigned int checkpoint_delay_ms(const struct checkpoint *checkpoint);

/* The last attempt found the filesystem full: what needs room is better refused. Until one goes through. */
bool checkpoint_space_low(const struct checkpoint *checkpoint);

#endif
