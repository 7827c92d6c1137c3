/* strake client get: what the words (get.c) and the copying (get_copy.c) share. */
#ifndef STRAKE_CLIENT_CLI_GET_H
#define STRAKE_CLIENT_CLI_GET_H

#include "client/cli/links.h"
#include "client/cli/transfer.h"
#include "client/cli/xattrs.h"
#include "common/bufpool.h"

struct get {
	/* The words. */
	const char *source, *dest;
	bool recursive, force;

	struct transfer transfer;
	bool root; /* who may give files away */
	struct links *links;
	struct bufpool *buffers;
	struct xattrs xattrs;
	struct attr last; /* of the file copied last */
};

extern const struct transfer_ops get_ops; /* transfer->verb is the get */

#endif
