/*
 * Credits: how a segment never meets an end that has no receive posted for it (RNR). Pure.
 *
 * An end posts N receives for data and CREDITS_CONTROL for the rest, and posts each again as soon as it has been looked at,
 * before anything else is done; what cannot be used yet is copied. To send data takes a credit, N to begin with. The
 * receiver returns credits, in the header of whatever it sends, for data that it has used; one that uses nothing returns
 * nothing, so what it has to keep is bounded by N segments.
 *
 * Who owes N / 2 credits or more (and nobody else) and has no data to send sends a CREDIT segment, which needs no credit
 * itself: at an end that looks at nothing no more than two of them can be waiting. For each returns half of N at least; and
 * of what it has not looked at, it can have earned no more than the N that it had to spend. One more receive is for the
 * BYE, sent once.
 *
 * So two ends that have both spent all their credits go on: each owes the other as much, and may say so.
 */
#ifndef STRAKE_COMMON_RDMA_CREDITS_H
#define STRAKE_COMMON_RDMA_CREDITS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#define CREDITS_OURS    32 /* N, of this end */
#define CREDITS_MIN     2
#define CREDITS_MAX     1024
#define CREDITS_CONTROL 3

struct credits {
	unsigned int may_send, peer_receives; /* of the N of the other end */
	unsigned int granted;                 /* data that the other end may still send */
	unsigned int owed;                    /* used, not yet returned */
	unsigned int kept;                    /* not yet used */
};

static inline struct credits credits_begin(unsigned int peer_receives)
{
	return (struct credits){ .may_send = peer_receives, .peer_receives = peer_receives, .granted = CREDITS_OURS };
}

/* Data has come, and is kept until credits_used(). -EPROTO: it had no credit. */
static inline int credits_received(struct credits *credits)
{
	if (credits->granted == 0)
		return -EPROTO;
	credits->granted--;
	credits->kept++;
	return 0;
}

/* What was kept is used, all of it. */
static inline void credits_used(struct credits *credits)
{
	credits->owed += credits->kept;
	credits->kept = 0;
}

/* The other end has returned some. -EPROTO: more than it has had. */
static inline int credits_returned(struct credits *credits, unsigned int returned)
{
	if (returned > credits->peer_receives - credits->may_send)
		return -EPROTO;
	credits->may_send += returned;
	return 0;
}

/* Does the other end return so many that they may come alone? One that brings nothing could come for ever. */
static inline bool credits_suffice(const struct credits *credits, unsigned int returned)
{
	return returned >= (credits->peer_receives + 1) / 2;
}

/* All that is owed, which goes with the segment that is sent now. */
static inline uint16_t credits_return(struct credits *credits)
{
	uint16_t owed = (uint16_t)credits->owed;

	credits->granted += owed;
	credits->owed = 0;
	return owed;
}

/* Is it time for a CREDIT, when there is nothing else to send? */
static inline bool credits_due(const struct credits *credits)
{
	return credits->owed >= (CREDITS_OURS + 1) / 2;
}

#endif
