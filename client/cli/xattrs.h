/*
 * Extended attributes of what `put -r` and `get -r` copy: user.*, POSIX ACLs (system.posix_acl_*), and as root security.*
 * and trusted.*. An ACL that the copy has only because its new directory has a default one is taken away.
 *
 * A local file is given by a descriptor, or where that is -1 by a path of which the last name is not followed.
 */
#ifndef STRAKE_CLIENT_CLI_XATTRS_H
#define STRAKE_CLIENT_CLI_XATTRS_H

#include "client/cli/client.h"

struct xattrs {
	bool root;
	bool refused; /* the destination knows none of that kind */
};

bool xattrs_is_wanted(const char *name, bool root);

/* The local file has some, wanted or not. */
bool xattrs_present(int fd, const char *path);

/* All that are wanted, into the filesystem (made: what is there) and out of it. -ENOMEM, or the first error of either side. */
int xattrs_put(struct xattrs *xattrs, struct client *client, int fd, const char *path, const struct attr *made);
int xattrs_get(struct xattrs *xattrs, struct client *client, uint64_t ino, int fd, const char *path);

#endif
