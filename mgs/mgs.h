/*
 * The management service: the registry, its store and its service, tied to one loop.
 *
 *   - Requests change the registry at once. What changed is stored by one transaction per iteration of the loop
 *     (LOOP_STAGE_STORE); only then do the answers of that iteration and the pushes to the subscribers leave. So nobody
 *     ever hears of an epoch that a crash could take back.
 *   - That transaction is the one place where the loop waits for a disk. Only changes come to it, never heartbeats.
 *   - Subscribers get every epoch; those that are an MDT also get the free space, at most once in
 *     MGS_CAPACITY_INTERVAL_MS. All get the map, too, when the MGS listens by RDMA where it did not before.
 *   - How far the MDTs' logs are is stored with the next change, but after MGS_LOG_INTERVAL_MS and at the end anyway. So
 *     what an older copy of a data directory is compared with (registry.h) is a little old only after a kill.
 */
#ifndef STRAKE_MGS_MGS_H
#define STRAKE_MGS_MGS_H

#include "common/address.h"
#include "common/identity.h"
#include "common/key.h"
#include "common/loop.h"

#define MGS_CAPACITY_INTERVAL_MS 1000
#define MGS_LOG_INTERVAL_MS      60000

struct mgs; /* opaque: mgs.c */

struct mgs_config {
	const char *data_dir;
	const struct identity *identity;
	const struct key *key, *admin_key; /* borrowed; admin_key may be NULL */
	const struct address_list *listen;
	unsigned int look_ms; /* RDMA is looked for again; 0: service_config's again_ms, and MGS_CLIENT_LOOK_MS */
};

/*
 * Read the store, listen. ret_address is the first address it listens on, with its real port. Errors come with a
 * sentence in error.
 */
int mgs_new(struct loop *loop, const struct mgs_config *config, struct mgs **ret_mgs, char ret_address[ADDRESS_SIZE],
	    char *error, size_t error_size);
struct mgs *mgs_free(struct mgs *mgs); /* the loop does not run any more */

#endif
