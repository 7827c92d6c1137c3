/* strake client put: what the words (put.c) and the copying (put_copy.c) share. */
#ifndef STRAKE_CLIENT_CLI_PUT_H
#define STRAKE_CLIENT_CLI_PUT_H

#include "client/cli/links.h"
#include "client/cli/stripe_options.h"
#include "client/cli/transfer.h"
#include "client/cli/xattrs.h"
#include "common/bufpool.h"

struct put {
	/* The words. */
	const char *source, *dest;
	bool recursive, force;
	struct stripe_options stripes;

	struct transfer transfer;
	bool root; /* who may give files away */
	struct links *links;
	struct bufpool *buffers;
	struct xattrs xattrs;
	uint8_t osts[(UINT16_MAX + 1) / 8]; /* a bit for each OST that files lie on */
	struct attr last;                   /* of the file copied last */
};

extern const struct transfer_ops put_ops; /* transfer->verb is the put */

#endif
