/*
 * Taking a mount away: out of the tree first, after that its daemon writes out what it holds and ends. Only when that
 * has happened does whoever mounts next see every byte. The daemon tells by the registry (client/mount_registry.h) how
 * far it is, so that nobody waits for servers that are away.
 */
#ifndef STRAKE_CLIENT_CLI_UNMOUNT_H
#define STRAKE_CLIENT_CLI_UNMOUNT_H

#include "client/process.h"

#include <stdbool.h>
#include <stddef.h>

enum unmount_flags {
	UNMOUNT_FORCE = 1 << 0, /* -f: end what waits for the servers, give up what they do not take in a few seconds */
	UNMOUNT_LAZY = 1 << 1,  /* -l: detach now, even when it is in use */
};

#define UNMOUNT_KERNEL_MS 5000 /* so long the kernel may wait for servers; its own work takes what it takes */
#define UNMOUNT_FORCE_MS  5000 /* with -f, so long the servers have to take what is left */
#define UNMOUNT_VAIN_MS   2000 /* likewise, where they do not answer and nothing moves */
#define UNMOUNT_SAY_MS    3000 /* so long nothing is said about waiting for the daemon */
#define UNMOUNT_SILENT_MS \
	6000 /* servers do not answer, or it holds nothing; nothing moved, and not for want of a farewell: not waited for */
#define UNMOUNT_STILL_MS  12000 /* nothing moved for longer than an attempt takes (PEER_ATTEMPT_MS): likewise */
#define UNMOUNT_HELD_MS   200   /* a mount that others use is given that time to become free, */
#define UNMOUNT_UNSEEN_MS 4000  /* and this where it cannot be seen whether others do */

/*
 * Detach the mount on top at an absolute path. *ret_daemon is who served it (pid 0: not known, or gone before).
 * A sentence comes with every error:
 *
 * -ENOENT  nothing is mounted there; *ret_daemon is who served what was there last, if he still writes
 * -EINVAL  something is, but no StrakeFS
 * -EBUSY   it is in use
 * -EINPROGRESS  the kernel has pages that the servers do not take; it goes on trying
 * and others of umount(2)
 */
int unmount_detach(const char *path, unsigned int flags, struct process *ret_daemon, char *error, size_t error_size);

/*
 * Wait for the daemon's end, saying so on stderr when it takes long. 0 also where nothing is left to be written and only the end takes long,
 * and where the mount goes on in another mount namespace, or with UNMOUNT_LAZY for those who use it; that is said. With every
 * error comes a sentence:
 *
 * -EINPROGRESS  the servers do not take what it holds; it goes on trying
 * -EIO          UNMOUNT_FORCE: what they did not take was given up
 */
int unmount_wait(const char *path, unsigned int flags, const struct process *daemon, char *error, size_t error_size);

#endif
