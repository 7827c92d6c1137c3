/*
 * The slots of client sessions at a server that keeps their replies in memory (an OST), so that a request which is sent
 * twice is executed once.
 *
 *   - A slot's sequence grows with each request; the same number again is a resend. A lower one is -ESTALE. Numbers may
 *     wrap. The first one a slot sees may be any: after a restart of the server nothing is known of what was before,
 *     and operations that come here are idempotent besides.
 *   - Of a request that has not finished, the newest copy is the one to be answered: a resend comes over a new
 *     connection, and the old one's answer would reach nobody.
 *   - A session's slots are made when they are first used, up to the table's bound.
 *   - Pure: no clock, no I/O. Belongs to its owner's thread.
 */
#ifndef STRAKE_COMMON_SLOTS_H
#define STRAKE_COMMON_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLOT_REPLY_MAX 48 /* bytes of a stored reply's body */

struct slot_table; /* opaque: slots.c */

struct slot_reply {
	int err; /* 0 or -errno */
	size_t len;
	uint8_t body[SLOT_REPLY_MAX];
};

enum slot_verdict {
	SLOT_NEW,     /* execute it, then slot_finish() */
	SLOT_RESENT,  /* *ret_reply is the stored answer */
	SLOT_RUNNING, /* the first copy has not finished; it will answer this one: drop *ret_replaced instead */
};

/* slots_max: per session. -ENOMEM. */
int slot_table_new(uint32_t slots_max, struct slot_table **ret_table);
struct slot_table *slot_table_free(struct slot_table *table); /* NULL is fine; returns NULL */

/*
 * What to do with request (session, slot, seq). waiter is whatever the caller will answer: it is kept (SLOT_NEW,
 * SLOT_RUNNING) until slot_finish() or slots_keep_sessions() hands it back. ret_reply (SLOT_RESENT) is borrowed until
 * the slot's next request; ret_replaced (SLOT_RUNNING) is the waiter whose place was taken.
 *
 * -EINVAL  slot is not below slots_max
 * -ESTALE  seq is older than the slot's last
 * -EAGAIN  seq is newer, but the one before has not finished
 * -ENOMEM
 */
int slot_begin(struct slot_table *table, uint64_t session, uint32_t slot, uint32_t seq, void *waiter,
	       enum slot_verdict *ret_verdict, const struct slot_reply **ret_reply, void **ret_replaced);

/*
 * The request has been executed: store its reply (len at most SLOT_REPLY_MAX). Returns the waiter to be answered; NULL
 * when the session was dropped meanwhile, and its waiter with it.
 */
void *slot_finish(struct slot_table *table, uint64_t session, uint32_t slot, uint32_t seq, int err, const void *body,
		  size_t len);

/* Forget sessions that keep() does not want. drop is called with the waiter of each of their requests that has not finished. */
void slots_keep_sessions(struct slot_table *table, bool (*keep)(uint64_t session, void *arg),
			 void (*drop)(void *waiter, void *arg), void *arg);

size_t slots_session_count(const struct slot_table *table);

#endif
