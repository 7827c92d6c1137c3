/* The connections of one worker: to the MDT and the OSTs, made when first used, following the map. Its loop's only. */
#ifndef STRAKE_CLIENT_PEERS_H
#define STRAKE_CLIENT_PEERS_H

#include "client/targets.h"
#include "client/worker.h"

struct worker_peers *peers_new(struct worker *worker); /* NULL: no memory */
struct worker_peers *peers_free(struct worker_peers *peers);

/* What there is to know of a target; made when it is not known yet. NULL: no memory. Lives as long as the fs. */
struct target_state *peers_state(struct worker_peers *peers, enum role role, uint32_t index);

/*
 * The peer of a target, good until the fiber next waits (the map may replace it).
 * -ENXIO  the map has no such target (yet), or no address of it
 * -ENOMEM
 */
int peers_get(struct worker_peers *peers, enum role role, uint32_t index, struct peer **ret_peer);

/* Why an attempt there ended with err, in words; borrowed until the loop goes on. */
const char *peers_reason(struct worker_peers *peers, enum role role, uint32_t index, int err);

/* The map has changed: new addresses for those we know. */
void peers_follow_map(struct worker_peers *peers);

#endif
