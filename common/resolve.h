/*
 * From a host's name to addresses, without holding up the loop: numeric ones at once, names by a thread of their own
 * (getaddrinfo() has no other way not to block).
 */
#ifndef STRAKE_COMMON_RESOLVE_H
#define STRAKE_COMMON_RESOLVE_H

#include "common/loop.h"

#include <stdint.h>
#include <sys/socket.h>

#define RESOLVE_MAX 8 /* addresses of one name; more are ignored */

struct resolved {
	struct sockaddr_storage address[RESOLVE_MAX];
	socklen_t len[RESOLVE_MAX];
	unsigned int count;
};

/* -EINVAL: not a numeric address. */
int resolve_numeric(const char *host, uint16_t port, struct resolved *ret_resolved);

struct resolve; /* one look-up under way */

/*
 * Look a name up; done comes once, from the loop: 0, or -ENOENT or another -errno and what happened in words. -ENOMEM,
 * -EAGAIN (no thread).
 */
int resolve_start(struct loop *loop, const char *host, uint16_t port,
		  void (*done)(void *owner, int err, const char *text, const struct resolved *resolved), void *owner,
		  struct resolve **ret_resolve);

/* done will not come. NULL is fine; returns NULL. */
struct resolve *resolve_cancel(struct resolve *resolve);

#endif
