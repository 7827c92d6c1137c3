/*
 * Which sessions are alive: in memory, beside the sessions of the state (sessions.h).
 *
 *   - Any request of a session renews its lease; after SESSION_LEASE_MS of silence it has run out.
 *   - After a restart of the MDT every session of the state gets a whole lease, and is `unreclaimed` until it has told
 *     again what it has open: meanwhile it may hold anything, and may be writing it.
 *     Who has not done so after LEASES_RECLAIM_MS is taken for lost, however alive: others would wait for it for ever.
 *   - What changes memory only (OP_VOLATILE) leaves no row in the state; so the slots' newest numbers, of either sort, are noted
 *     here, too, and nothing that comes late by a dead connection is executed after its successor. They are as volatile as the
 *     connections, and may wrap.
 *   - Pure: times are arguments. Memory shortage ends the process.
 */
#ifndef STRAKE_MDS_LEASES_H
#define STRAKE_MDS_LEASES_H

#include "common/uuid.h"

#define LEASES_RECLAIM_MS 60000

struct leases; /* opaque: leases.c */

struct lease {
	uint64_t session;
	struct uuid client;
	uint32_t slots;
	bool reclaimed;
	uint64_t heard_ns, since_ns;
	uint32_t *seqs; /* of each slot the newest number seen, 0: none; NULL: of none */
	struct lease *hash_next;
	size_t place; /* in the list */
};

struct leases *leases_new(void);
struct leases *leases_free(struct leases *leases);

struct lease *leases_add(struct leases *leases, uint64_t session, const struct uuid *client, uint32_t slots,
			 bool reclaimed, uint64_t now_ns);
void leases_remove(struct leases *leases, uint64_t session); /* fine when it is not there */

struct lease *leases_find(struct leases *leases, uint64_t session);                 /* NULL */
struct lease *leases_find_client(struct leases *leases, const struct uuid *client); /* NULL */
void leases_reclaim(struct leases *leases, struct lease *lease);

/* May a request with that number be executed, or was a newer one of its slot? Then note it. */
bool lease_slot_is_noted(const struct lease *lease, uint32_t slot); /* was any seen? */
bool lease_slot_is_new(const struct lease *lease, uint32_t slot, uint32_t seq);
void lease_slot_note(struct lease *lease, uint32_t slot, uint32_t seq);

size_t leases_count(const struct leases *leases);
const struct lease *leases_at(const struct leases *leases, size_t place); /* in no order; changes when one goes */

/* Has a session other than this one not told yet what it has open? */
bool leases_others_unreclaimed(const struct leases *leases, uint64_t session);

/* A session whose lease has run out, 0: none. */
uint64_t leases_expired(const struct leases *leases, uint64_t now_ns);
/* Nobody could be heard for that long: it does not count. */
void leases_excuse(struct leases *leases, uint64_t silence_ns);

#endif
