/* The cluster map, asked of the MGS once: a loop, a connection and a fiber for as long as it takes. */
#ifndef STRAKE_CLIENT_CLI_MAP_FETCH_H
#define STRAKE_CLIENT_CLI_MAP_FETCH_H

#include "common/address.h"
#include "common/key.h"
#include "proto/mgs.pb-c.h"

#include <stdbool.h>
#include <stddef.h>

#define MAP_FETCH_TIMEOUT_MS 4000 /* `strake status` answers within 5 s, always */

/*
 * Ask until `enough` says that the map will do (NULL: the first one does), then hand it to the caller, who frees it
 * with strake__map_reply__free_unpacked(). A sentence comes with every error:
 *
 * -ETIMEDOUT  the MGS was not reached in time
 * -EAGAIN     it was, but no map was enough in time; *ret_reply is the last one all the same
 * -EKEYREJECTED and what else peer_call() says
 */
int map_fetch(const struct address_list *mgs, const struct key *key, unsigned int timeout_ms,
	      bool (*enough)(void *arg, const Strake__MapReply *reply), void *arg, Strake__MapReply **ret_reply,
	      char *error, size_t error_size);
/* What to say behind the sentence where people have said where the MGS is; "" where that is not what is wrong. */
const char *map_fetch_advice(int err);

#endif
