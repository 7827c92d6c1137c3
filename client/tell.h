/*
 * What the MDT is told of open files: OPEN when the first handle of a mode is opened here, CLOSE when the last one has
 * gone. CLOSEs are sent several at a time, a little later; a file opened again meanwhile has its CLOSE dropped.
 *
 *   - Per inode one OPEN or CLOSE is under way at a time (inode->telling); so what the MDT knows last is right, though
 *     workers have connections of their own.
 *   - What crosses a RECLAIM is told again.
 *   - A file that was written here is closed after its size was reported.
 */
#ifndef STRAKE_CLIENT_TELL_H
#define STRAKE_CLIENT_TELL_H

#include "client/inode.h"
#include "client/worker.h"

#define TELL_CLOSE_MS    50  /* a CLOSE waits at most that long for others */
#define TELL_CLOSE_BATCH 64  /* and for that many */
#define TELL_HOLD_MS     300 /* so late an open may come on a busy machine */

struct tell_queue *tell_queue_new(struct worker *worker);     /* NULL: no memory */
struct tell_queue *tell_queue_free(struct tell_queue *queue); /* what waits in it is not sent: the session ends */

/*
 * A handle of these modes is counted in inode->open_*: see that the MDT knows. Brings fresh attributes. append: what is
 * written by the handle goes to the end.
 */
int tell_open(struct inode *inode, struct fs_ctx *ctx, unsigned int modes, bool append, struct attr *ret_attr);

/*
 * For who is about to open it by a name that others may take from it before he comes: as if it were open here for reading,
 * so that it lives, for TELL_HOLD_MS. -ESTALE: it is gone already; other errors say nothing about that.
 */
int tell_hold(struct inode *inode, struct fs_ctx *ctx);

/*
 * tell_open() after a CREATE, which has told it already, unless a CLOSE or RECLAIM may have crossed it: then it is told
 * again, and *attr is what that brings. mark: tell_mark() from before the CREATE was sent.
 */
uint64_t tell_mark(struct fs *fs);
int tell_created(struct inode *inode, struct fs_ctx *ctx, unsigned int modes, uint64_t mark, struct attr *attr);

/* The MDT may believe it open in these modes, though nobody asked here: have that closed, unless it is open here. */
void tell_disown(struct inode *inode, unsigned int modes);
/* Handles were taken from inode->open_*. Does not wait. */
void tell_close(struct inode *inode);

/* Which modes the handles here have: inode->lock is held. */
unsigned int tell_modes(const struct inode *inode);

#endif
