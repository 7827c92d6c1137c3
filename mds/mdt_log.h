/*
 * The MDT's log: the truth. Records are numbered 1, 2, 3, ... (index) and lie in preallocated segment files:
 *
 *     DIR/log/<first index, 16 hex>.seg    header | record | record | ... | zeros       (log_segment.h)
 *     DIR/log/next.seg                     the segment to come                          (log_dir.h)
 *
 * `synced` in a record is the index known to be on stable storage when it was written; so is one in a segment's header,
 * and one in a note that follows a pause. On opening, what is broken above the highest seen is a torn tail and dropped;
 * what is broken below is damage, reported and refused.
 *
 *   - append and write belong to the MDT's loop; the log's own thread makes it durable: within MDT_LOG_SYNC_MS of a write,
 *     or at once when asked, one fdatasync for all that was written (group commit), and prepares the next segment.
 *   - A record is answered when it is written (a kill -9 loses nothing); who needs more waits for durable.
 *   - A failed write or sync ends the process with a last word.
 *   - No room for the next segment is reported and tried again each second; meanwhile the current one serves, and
 *     mdt_log_space_low() tells admission to refuse what needs room. Only when it is full too, the process ends.
 */
#ifndef STRAKE_MDS_MDT_LOG_H
#define STRAKE_MDS_MDT_LOG_H

#include "common/loop.h"
#include "common/uuid.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MDT_LOG_SYNC_MS      100
#define MDT_LOG_SEGMENT_SIZE (64u * 1024 * 1024) /* less on a small filesystem: a part in 32, but no less than 8 MiB */
#define MDT_LOG_RECORD_MAX   (2u * 1024 * 1024)

struct mdt_log; /* opaque: mdt_log.c */

struct mdt_log_config {
	const char *dir;     /* the MDT's data directory */
	struct uuid target;  /* in every segment's header */
	uint64_t applied;    /* the checkpoint has everything up to here */
	size_t segment_size; /* 0: MDT_LOG_SEGMENT_SIZE; tests use small ones */
	bool keep;           /* all segments, for the changelog: mdt_log_trim() removes none */
	void *owner;
	/* On opening, in order, every record above `applied`. 0, or -errno to give up. */
	int (*replay)(void *owner, uint64_t index, const void *payload, size_t size);
	/* On the loop, after durable has grown. */
	void (*durable)(void *owner, uint64_t index);
};

/*
 * Open, replay, and start a fresh segment after the last good record; what was replayed is synced first.
 * -EBADMSG  damage at or below the synced index, or a file that was cut short
 * -ENOENT   records between `applied` and the first segment are missing, or segments in the middle
 * -EINVAL   a file that does not belong here, or belongs to another target
 * -EPROTONOSUPPORT  a newer format
 * or what the system or replay said; error is a sentence that says which file and where.
 */
int mdt_log_open(struct loop *loop, const struct mdt_log_config *config, struct mdt_log **ret_log, char *error,
		 size_t error_size);
/*
 * Only replay, and change nothing: where the log ends, and how many bytes of a torn tail follow. Errors are those of
 * mdt_log_open(). config->durable does not come.
 */
int mdt_log_read(const struct mdt_log_config *config, uint64_t *ret_last, uint64_t *ret_dropped, char *error,
		 size_t error_size);
/* Writes and syncs what there is; the durable callback does not come any more. Nobody waits in mdt_log_wait(). */
struct mdt_log *mdt_log_close(struct mdt_log *log);

/* Number a record and put it into the buffer. size: 1 to MDT_LOG_RECORD_MAX, and it must fit a segment. */
uint64_t mdt_log_append(struct mdt_log *log, const void *payload, size_t size);

/* Write the buffer to the file: the owner calls it in LOOP_STAGE_STORE. */
void mdt_log_write(struct mdt_log *log);

uint64_t mdt_log_last(const struct mdt_log *log);    /* index of the last record appended */
uint64_t mdt_log_durable(const struct mdt_log *log); /* up to here it is on stable storage */

/*
 * Make it durable up to index soon: the durable callback tells when (not when it is durable already). Any number of
 * askers.
 */
void mdt_log_sync(struct mdt_log *log, uint64_t index);

/* For another thread, or for a loop that stops: ask, and wait until it is. The record has been or will be written. */
void mdt_log_wait(struct mdt_log *log, uint64_t index);

/* There is no room for the next segment: what is left is for what makes room. Until one is made after all. */
bool mdt_log_space_low(const struct mdt_log *log);

/* The checkpoint has everything up to index: whole segments below go, by and by (unless keep); never the current one. */
void mdt_log_trim(struct mdt_log *log, uint64_t index);

struct mdt_log_stats {
	uint64_t records, bytes, writes, syncs; /* since it was opened */
	uint64_t segments;                      /* files in use */
	uint64_t dropped;                       /* bytes of the torn tail found on opening: the owner reports it */
};
void mdt_log_stats(struct mdt_log *log, struct mdt_log_stats *ret_stats);

#endif
