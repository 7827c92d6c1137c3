/*
 * The mount's session at the MDT: opened, renewed every third of its lease, joined again when it was lost, closed. One
 * fiber on the control loop does all of that; workers only ask which session it is, and say when they were told that it
 * is none. Thread-safe but where noted.
 *
 *     none -> joined -> lost -> joined (another number) -> ... -> ended
 *
 *   - When the MDT has forgotten who had what open (it restarted, or the session is a new one), all open inodes are
 * told again, whole, by RECLAIM. An OPEN or CLOSE that crosses a RECLAIM may have been undone by it and is repeated:
 *     fs_session_reclaims() tells.
 *   - With a new session, or after a restart of the MDT, no cached attribute is believed any more.
 *   - With a new session, nothing that was written in the old one and is not on stable storage is sent any more: it is
 * given up (data.h) before the new one is told to anybody.
 */
#ifndef STRAKE_CLIENT_SESSION_H
#define STRAKE_CLIENT_SESSION_H

#include "client/worker.h"

struct fs_session; /* opaque: session.c */

struct fs_session *fs_session_new(struct fs *fs, unsigned int slots_wished); /* NULL: no memory */
struct fs_session *fs_session_free(struct fs_session *session);

/*
 * Join for the first time, and start the fiber that keeps it. In a fiber of the control loop. *ret_root is the number
 * of the filesystem's root directory. Errors of the MDT, or -EIO when it did not answer until the time.
 */
int fs_session_start(struct fs_session *session, uint64_t until_ns, uint64_t *ret_root);
/*
 * End the fiber and, if the MDT can be reached within patience_ms, the session. In a fiber of the control loop. From then
 * on fs_session_get() waits until its worker is freed.
 */
void fs_session_stop(struct fs_session *session, unsigned int patience_ms);

/*
 * The session's number and how many slots it has; waits while it is being joined.
 * -EINTR, -ECANCELED, -ETIMEDOUT as ctx_wait_in().
 */
int fs_session_get(struct fs_session *session, struct worker *worker, struct fs_ctx *ctx, uint64_t until_ns,
		   uint64_t *ret_number, uint32_t *ret_slots);
uint64_t fs_session_number(const struct fs_session *session); /* as it is now, 0: none; cheap */

/* The MDT said ENOSESSION to this number: join again. Returns at once; fs_session_get() waits. */
void fs_session_lost(struct fs_session *session, uint64_t number);
/* Renew at once: an OST does not know the session, or the MDT may have restarted. */
void fs_session_renew_soon(struct fs_session *session);

/*
 * How far the MDT's log has come, as its replies tell. A request that is sent when `highest` was seen is answered with
 * no less: unless the MDT came back without its log's tail, and counts versions again from lower.
 */
struct log_mark {
	uint64_t highest;
	unsigned int losses; /* of tails, so far */
};
struct log_mark fs_session_log_mark(struct fs_session *session);
/* A reply (log_index 0: it does not say) to what was first sent at that mark. Where a tail was lost, no cached attribute
 * is believed any more when this returns, and the session is renewed at once. */
void fs_session_log_seen(struct fs_session *session, struct log_mark mark, uint64_t log_index, uint64_t durable_index);
/* All that replies have told of until now is known to be on the MDT's stable storage. */
bool fs_session_log_is_durable(struct fs_session *session);

/* Is root nobody to the MDT? Then it wants to be asked about each of his opens. */
bool fs_session_squashes_root(const struct fs_session *session);

/* Grows when a RECLAIM begins and when it has been answered: odd while one is under way. */
uint64_t fs_session_reclaims(const struct fs_session *session);
/* Wait until none is under way. As fs_session_get(). */
int fs_session_reclaims_wait(struct fs_session *session, struct worker *worker, struct fs_ctx *ctx);

#endif
