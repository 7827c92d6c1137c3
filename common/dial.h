/*
 * One attempt to reach a server: look its name up, connect, and go through the opening (opening.h). Its end is a
 * connection ready for transport_begin(), or an error and the reason in words.
 */
#ifndef STRAKE_COMMON_DIAL_H
#define STRAKE_COMMON_DIAL_H

#include "common/loop.h"
#include "common/opening.h"
#include "common/transport.h"

#define DIAL_TEXT_SIZE 512

struct dial; /* opaque: dial.c */

struct dial_result {
	struct transport_conn *conn; /* the owner's from now on; transport_begin() it at once */
	struct opening_welcome welcome;
	uint16_t credits;
	int err;
	char text[DIAL_TEXT_SIZE]; /* with an error: "HOST:PORT: what happened" */
};

/*
 * address is "HOST:PORT"; the nonce of hello is made here. key and owner are borrowed. finished comes once, from the
 * loop, never from within this call; the dial is gone then. -ENOMEM and others; the address itself may be wrong: that
 * comes by finished. Errors there:
 * -EKEYREJECTED, -ESTALE, -EPROTO  the server refuses us, or we it: opening.h
 * -ETIMEDOUT                       no answer within OPENING_DEADLINE_MS
 * and those of connect(2) and getaddrinfo(3) (-ENOENT: no such host)
 */
int dial_start(struct loop *loop, struct transport *transport, const char *address, const struct opening_hello *hello,
	       const struct key *key, void (*finished)(void *owner, const struct dial_result *result), void *owner,
	       struct dial **ret_dial);

/* Give it up; finished will not come. NULL is fine; returns NULL. */
struct dial *dial_cancel(struct dial *dial);

#endif
