/*
 * The sessions of the state: rows of table session, and the last reply of every slot in table slot, so that a request
 * sent twice is executed once.
 *
 *     session: session number (big-endian) -> client uuid, slots, who it is
 *     slot:    session, slot -> seq, operation, index, status, reply
 *
 *   - A slot's sequence grows with each request; the same number again is a resend and gets the stored reply, a lower one
 *     is -ESTALE. It is a number that wraps: "lower" is what is at most SLOT_LATE_MAX behind, since LOCKs take numbers, too,
 *     and leave no row. What is late was sent by the same client a moment before: a slot has one request at a time. (While
 *     the MDT runs, leases.h knows the newest number of either sort, too.)
 *   - A slot's row is written by the record that made the change: either both survive a crash or neither does.
 *   - Who is alive is not here but in leases.h.
 */
#ifndef STRAKE_MDS_SESSIONS_H
#define STRAKE_MDS_SESSIONS_H

#include "common/uuid.h"
#include "mds/apply.h"

#define SESSIONS_MAX          RECORD_HOLDERS_MAX
#define SESSION_SLOTS_DEFAULT 64
#define SESSION_SLOTS_MAX     1024
#define SESSION_LEASE_MS      30000
#define SLOT_LATE_MAX         65536

struct session_row {
	uint64_t session;
	struct uuid client;
	uint32_t slots, pid;
	int64_t opened_ns;
	struct bytes hostname, mountpoint; /* borrowed from the view */
};

/* -ENOENT. */
int session_get(struct view *view, uint64_t session, struct session_row *ret_row);
/* The first session with that number or a higher one: -ENOENT when there is none. */
int session_from(struct view *view, uint64_t from, struct session_row *ret_row);

struct slot_row {
	uint32_t seq;
	uint16_t op;
	uint64_t wait_index; /* as in the outcome */
	uint32_t status;     /* the wire's */
	uint64_t index;
	struct bytes reply; /* borrowed from the view */
};

/*
 * What to do with request (session, slot, seq): execute it, or, where *ret_resent, answer it with *ret_row.
 * -ESTALE  seq is lower than the last answered one
 * -EINVAL  the same seq as the last answered one, but another operation
 */
int slot_judge(struct view *view, uint64_t session, uint32_t slot, uint32_t seq, uint16_t op, bool *ret_resent,
	       struct slot_row *ret_row);

void slot_store(struct view *view, uint64_t session, uint32_t slot, const struct slot_row *row);

#endif
