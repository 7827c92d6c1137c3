/*
 * Times of access. The kernel's FUSE keeps none, so libstrake notes who reads; the inode has the new time at once, here,
 * and the MDT is told ATIMES_TELL_MS later, of many inodes by one request. No read waits for that, or causes one.
 *
 *   - What counts as reading: fs_read(), fs_readdir(), fs_readlink(); and fs_open_file() for reading only of a file whose
 *     pages the kernel keeps, as it tells nobody what it reads of those. Not where O_NOATIME was given,
 *     nor of a file that chattr(1) has said so of (+A).
 *   - When (fs_set_atime()): relative, if the last access is not later than the last change, or a day old; strict, always.
 *   - An inode that waits to be told has attr.atime_ns as it is to be, and what the MDT has in atime_seen_ns. The MDT takes
 *     a time only if it still has the one that we have seen: so nothing covers what was set by utimensat(2) meanwhile, here
 *     or elsewhere, and the same told twice is told once.
 *   - A mount that dies loses the last ones, as a local filesystem does.
 *
 * Within libstrake only. Any thread.
 */
#ifndef STRAKE_CLIENT_ATIME_H
#define STRAKE_CLIENT_ATIME_H

#include "client/inode.h"
#include "client/worker.h"

#define ATIMES_TELL_MS     5000
#define ATIMES_PATIENCE_MS 2000 /* of those who can do without */
#define ATIMES_BATCH       1024 /* by one request; so many are told at once */
#define ATIMES_MAX         8192 /* that wait: of more the times of access are not kept */

struct atimes; /* opaque: atime.c */

struct atimes *atimes_new(struct fs *fs);
struct atimes *atimes_free(struct atimes *atimes); /* what waits is not told */
/* Tell what waits now and then, on that worker; until atimes_stop(), in a fiber of it. */
int atimes_start(struct atimes *atimes, struct worker *worker);
void atimes_stop(struct atimes *atimes);

/*
 * Tell all that waits now, and see that what is being told is. What the MDT does not answer within that time (0: for ever)
 * waits on. In a fiber of a worker.
 */
void atimes_tell(struct atimes *atimes, struct fs_ctx *ctx, unsigned int patience_ms);

/* Somebody has read of it. True: that has changed its time of access. */
bool atime_note(struct inode *inode);
/* Its time of access is about to be set: what waits is void. */
void atime_void(struct inode *inode);
/* These attributes are to become the inode's: with the time that waits, if they have the one it is to replace. lock held. */
void atime_merge(struct inode *inode, struct attr *attr);

#endif
