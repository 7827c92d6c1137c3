/*
 * A listening TCP socket on a loop. Accepts all that wait; when the process has no descriptors left it pauses for
 * LISTENER_PAUSE_MS, so that it does not spin.
 */
#ifndef STRAKE_COMMON_LISTENER_H
#define STRAKE_COMMON_LISTENER_H

#include "common/loop.h"

#include <stdint.h>

#define LISTENER_PAUSE_MS 200

struct listener; /* opaque: listener.c */

struct listener_events {
	/* Somebody has connected: fd is non-blocking and now the owner's; name is "HOST:PORT". */
	void (*accepted)(void *owner, int fd, const char *name);
	/* It pauses: -EMFILE and the like. */
	void (*paused)(void *owner, int err);
};

/*
 * address is "HOST:PORT", HOST numeric, a name (looked up here and now: at start) or a wildcard; port 0: any. ret_port
 * is the real one. -EADDRINUSE, -EADDRNOTAVAIL, -EINVAL, -ENOENT (no such host), and those of socket(2).
 */
int listener_new(struct loop *loop, const char *address, const struct listener_events *events, void *owner,
		 struct listener **ret_listener, uint16_t *ret_port);
struct listener *listener_free(struct listener *listener); /* NULL is fine; returns NULL */

#endif
