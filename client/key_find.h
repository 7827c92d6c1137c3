/*
 * The cluster key of a client, searched in this order:
 *
 *     --key FILE    STRAKE_KEY=FILE    /etc/strake/cluster.key    run_dir()/clusters/HOST:PORT.key of an MGS address
 *
 * The last are links that `strake cluster start` makes to the key of the cluster it has started on this machine. A file
 * that was named must be readable; only a missing /etc/strake/cluster.key lets the search go on.
 */
#ifndef STRAKE_CLIENT_KEY_FIND_H
#define STRAKE_CLIENT_KEY_FIND_H

#include "common/address.h"
#include "common/key.h"

#include <limits.h>

#define KEY_FIND_ETC "/etc/strake/cluster.key"

/* option is --key's value or NULL. Errors of key_read(), -ENOENT: there is none; a sentence goes to error. */
int key_find(const char *option, const struct address_list *mgs, struct key *ret_key, char *error, size_t error_size);

/* Record, or forget, the key of a local cluster whose MGS has these addresses. */
int key_find_record(const struct address_list *mgs, const char *key_path);
void key_find_forget(const struct address_list *mgs);

/* The MGS addresses of the local clusters that are recorded, at most ADDRESS_LIST_MAX. */
int key_find_clusters(struct address_list *ret_mgs);

#endif
