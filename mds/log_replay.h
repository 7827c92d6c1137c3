/*
 * Opening a log: check every segment that is needed, hand out its records, say where the log ends.
 *
 *   - A segment ends where the next one begins: what stands behind that in it is a torn tail of the past.
 *   - next.seg, if it had begun, is the last one and gets its name; unless the one before has lost its own end.
 *   - The last one ends at its last good record. What follows is a torn tail, unless something says that it was once on
 *     stable storage: then it is damage.
 *   - What was read is synced before this returns: a kill -9 leaves it in the page cache only.
 *   - A folder that is read only stays as it is: nothing gets its name, nothing is synced.
 */
#ifndef STRAKE_MDS_LOG_REPLAY_H
#define STRAKE_MDS_LOG_REPLAY_H

#include "mds/log_dir.h"

struct log_replay {
	/* Set these. */
	struct log_dir *dir;
	struct uuid target;
	uint64_t applied;
	int (*record)(void *owner, uint64_t index, const void *payload, size_t size);
	void *owner;

	/* What came out. */
	uint64_t *firsts; /* of the segments there are; free() */
	size_t count;
	uint64_t last;    /* index of the last good record */
	uint64_t number;  /* of the segment to begin now */
	uint64_t dropped; /* bytes of the torn tail */
};

/*
 * -EBADMSG          damage, or a file that is too short
 * -ENOENT           segments are missing
 * -EINVAL           a file of another target, or one that is no segment at all
 * -EPROTONOSUPPORT  a newer format
 * or what the system or replay->record said. error is a sentence with file and offset. On errors firsts is NULL.
 */
int log_replay(struct log_replay *replay, char *error, size_t error_size);

#endif
