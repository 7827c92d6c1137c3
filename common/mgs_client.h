/*
 * What servers and clients have to do with the MGS: know the cluster map, hear of its changes, and, for servers,
 * register and send heartbeats. Runs on one loop, in fibers of its own, over one peer; goes on by itself after any
 * outage of the MGS. While the MGS is away the last map stays in force.
 */
#ifndef STRAKE_COMMON_MGS_CLIENT_H
#define STRAKE_COMMON_MGS_CLIENT_H

#include "common/address.h"
#include "common/fabrics.h"
#include "common/key.h"
#include "common/loop.h"
#include "common/ops.h"
#include "common/uuid.h"
#include "proto/mgs.pb-c.h"

#include <stdbool.h>

#define MGS_CLIENT_LOOK_MS 10000

struct mgs_client; /* opaque: mgs_client.c */
struct peer_tally; /* common/peer.h */

/* What a server says of itself at each heartbeat. */
struct mgs_capacity {
	uint64_t bytes_total, bytes_free, objects_total, objects_free;
	Strake__TargetState state; /* UP, FULL or DEGRADED */
	/*
	 * Of an MDT: its log is durable up to here. Until it has been let in, what it found at its start: so the MGS
	 * knows an older copy of the data directory.
	 */
	uint64_t log_index;
	uint32_t connections[FABRIC_COUNT];
};

struct mgs_client_config {
	struct address_list mgs;
	struct uuid fs; /* zero: take the MGS's word */
	const struct key *key;
	bool admin;

	enum role own_role; /* ROLE_CLIENT, ROLE_ADMIN: only the map. ROLE_MDT, ROLE_OST: register */
	struct uuid own_uuid;
	uint32_t index;
	bool older; /* an older copy of the data directory, and the operator wants it so */

	struct peer_tally *tally; /* of the connection; borrowed; may be NULL */

	void *owner;
	/* A new map (also the first; and the same epoch, for an MDT with other free space). Borrowed for the call. */
	void (*map_changed)(void *owner, const Strake__ClusterMap *map);
	/*
	 * Under which addresses others reach this server, as service_reachable() says: asked at each connection, and again and again while
	 * it stands. NULL for clients.
	 */
	int (*reachable)(void *owner, const char *preferred, struct address_list *ret_list);
	unsigned int look_ms; /* until it is asked again; 0: MGS_CLIENT_LOOK_MS */
	/* Before each heartbeat. NULL for clients. Must not block long. */
	void (*capacity)(void *owner, struct mgs_capacity *ret_capacity);
	/* The MGS refuses this server for good (its index is taken, a second instance lives, -ESTALE: an older copy of
	 * its data directory): text says why. */
	void (*refused)(void *owner, int err, const char *text);
};

int mgs_client_new(struct loop *loop, const struct mgs_client_config *config, struct mgs_client **ret_client);
/* On its loop, which must go round once more for the client's fiber to end; waiting calls return -ECANCELED. */
struct mgs_client *mgs_client_free(struct mgs_client *client);

/* The newest map, or NULL before the first. Borrowed until the loop goes on. */
const Strake__ClusterMap *mgs_client_map(const struct mgs_client *client);

/*
 * Wait, in a fiber, for the first map, which for a server also means that it is registered: 0, or, said in words by
 * mgs_client_last_error():
 * -ETIMEDOUT     not reached in time; the client goes on trying
 * -EKEYREJECTED, -ESTALE, -EPROTO: every MGS address refuses us: wrong key, filesystem, version; likewise
 * -EPERM         refused for good, as `refused` was told
 */
int mgs_client_wait(struct mgs_client *client, unsigned int timeout_ms);
const char *mgs_client_last_error(const struct mgs_client *client);
/* The MGS has said that another instance of this server lives, and its last word on that is still to come. */
bool mgs_client_is_contested(const struct mgs_client *client);

/* The target of that role and index in a map, or NULL. */
const Strake__Target *cluster_map_find(const Strake__ClusterMap *map, enum role role, uint32_t index);

#endif
