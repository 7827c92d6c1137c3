/*
 * What the kernel is told without having asked. To drop pages it waits for whatever holds them: for READs and WRITEs under
 * way, and for those that it makes of dirty ones. So that is done by threads of their own, and never by one that owes such an
 * answer: the fiber that wants it waits, its loop goes on. One file whose servers are away must not hold up the others:
 * there is another thread as long as all of them wait, up to NOTIFY_THREADS_MAX.
 */
#ifndef STRAKE_CLIENT_FUSE_NOTIFY_H
#define STRAKE_CLIENT_FUSE_NOTIFY_H

#include <stdint.h>

#define NOTIFY_THREADS_MAX 16

struct fuse_notifier; /* opaque: notify.c */

/* fd: any descriptor of the mount; borrowed. -ENOMEM. */
int fuse_notifier_new(int fd, struct fuse_notifier **ret_notifier);
/* Nobody waits any more, and the connection has ended or nothing holds pages. */
struct fuse_notifier *fuse_notifier_free(struct fuse_notifier *notifier);

/* In a fiber: returns when the kernel has no page of these bytes of it; size 0: of all from offset on. */
void fuse_notifier_drop_pages(struct fuse_notifier *notifier, uint64_t nodeid, uint64_t offset, uint64_t size);
/* All names are asked for anew, once each. Any thread, at once. A kernel older than 7.44 goes by them for their timeout. */
void fuse_notifier_expire_names(struct fuse_notifier *notifier);
/* Its attributes only: any thread, at once. */
void fuse_notifier_drop_attr(struct fuse_notifier *notifier, uint64_t nodeid);

#endif
