/*
 * The servers of a filesystem as fsck asks them: found by the cluster map, asked without a session, asked again while they
 * do not answer. For fibers of one loop.
 */
#ifndef STRAKE_CLIENT_FSCK_SERVERS_H
#define STRAKE_CLIENT_FSCK_SERVERS_H

#include "common/address.h"
#include "common/key.h"
#include "common/loop.h"
#include "common/ops.h"
#include "common/peer.h"
#include "proto/mgs.pb-c.h"

#include <stdbool.h>

struct servers; /* opaque: servers.c */

/*
 * Find the MGS and get the map, within 10 s. patience_ms: how long a server may stay silent. Errors come with a sentence.
 */
int servers_open(struct loop *loop, const struct address_list *mgs, const struct key *key, unsigned int patience_ms,
		 struct servers **ret_servers, char *error, size_t error_size);
/* The loop must go round once more for all to end. NULL is fine. */
struct servers *servers_close(struct servers *servers);

/* The newest; borrowed until the fiber next waits. */
const Strake__ClusterMap *servers_map(const struct servers *servers);
bool servers_have(const struct servers *servers, enum role role, uint32_t index);

/*
 * Ask, and again until there is an answer or patience ends. As peer_call(); besides
 * -ENXIO    the map has no such target
 * -ENOMEM
 */
int servers_call(struct servers *servers, enum role role, uint32_t index, struct call *call);

/* Why that failed, in words; borrowed until the fiber next waits. */
const char *servers_reason(const struct servers *servers, enum role role, uint32_t index, int err);

#endif
