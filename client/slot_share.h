/*
 * A worker's share of its session's slots, towards the MDT and towards each OST. A request that changes something needs
 * one for as long as it is under way, resends included.
 *
 *   - The session's slots are dealt out: worker w of n has those with number % n == w. So no two threads share one.
 *   - Each (target, slot) counts its own sequence; it grows by one with each new request and is the same for a resend.
 *   - A session has a share of its own. With a new session comes a new one, while requests of the old one end in the
 * old: it goes with its last user.
 *   - Who finds none free waits, first come, first served. Belongs to the worker's loop.
 */
#ifndef STRAKE_CLIENT_SLOT_SHARE_H
#define STRAKE_CLIENT_SLOT_SHARE_H

#include "client/worker.h"

struct slot_share; /* opaque: slot_share.c */
struct slot_pool;  /* towards one target */

/* Slots `index`, index + stride, ... below slots. -EINVAL when there is none; -ENOMEM. */
int slot_share_new(uint64_t session, uint32_t slots, unsigned int index, unsigned int stride,
		   struct slot_share **ret_share);
struct slot_share *slot_share_ref(struct slot_share *share);
void slot_share_put(struct slot_share *share); /* NULL is fine */
uint64_t slot_share_session(const struct slot_share *share);

struct slot {
	struct slot_pool *pool; /* NULL: none taken */
	uint32_t number, seq;
};

/*
 * Take a slot with its next sequence number. ost < 0: towards the MDT. Waits while all are in use.
 * -EINTR, -ECANCELED, -ETIMEDOUT as ctx_wait_in(); -ENOMEM.
 */
int slot_take(struct slot_share *share, int64_t ost, struct worker *worker, struct fs_ctx *ctx, uint64_t until_ns,
	      struct slot *ret_slot);
/* The request was answered or given up. Goes to the first who waits. */
void slot_release(struct slot *slot);

#endif
