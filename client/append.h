/*
 * Appending, on all mounts at once: who writes at a file's end has the right to place bytes there, and nobody else.
 *
 *   - That right (LOCK_APPEND) is the mount's, kept until another mount asks for it or the file is closed for writing here.
 *     Who appends holds it for one write; those who wait when it comes have their turn before it goes.
 *
 *         none -> asked -> held -> ending -> none     ending: wanted elsewhere; given back when all who have their turn are done
 *                             \-> none                the session was lost
 *                   \-> ending                        not answered in time (soft): it may be ours, and goes back
 *
 *   - It is asked for and given back by operations like any lock (lock_op.h), so the size is as of the grant. Others may change
 *     that without the right: it is looked at anew each second.
 *   - Who waits for memory within an append may lose it with the session meanwhile, and then begins anew.
 */
#ifndef STRAKE_CLIENT_APPEND_H
#define STRAKE_CLIENT_APPEND_H

#include "client/inode.h"
#include "client/worker.h"

struct lock_op; /* lock_op.h */

/*
 * Around a write at the end of the file: between them nobody else appends, on any mount, and data_size() is the end.
 * -EINTR, -ECANCELED, -EIO as worker_mds_call().
 */
int append_begin(struct inode *inode, struct fs_ctx *ctx, unsigned int *ret_mark);
void append_end(struct inode *inode);
/* Who has waited since he began: is it still so? Not if the session was lost; then begin anew. inode->lock is held. */
bool append_stands(const struct inode *inode, unsigned int mark);

/* --- for locks.c and lock_op.c; inode->lock is held but where noted ------------------------------------------------- */

/* The operation that asked for it, or gave it back, is over. */
void append_settled(struct lock_op *op);
/* Give it back, when those who have their turn are done. Nothing where it is not held. */
void append_give(struct inode *inode);
/* The session was lost, and it with that. The inode has had locks. */
void append_lost(struct inode *inode);

/* Another mount wants it. Without the lock. */
void append_recalled(struct fs *fs, uint64_t ino);
/* This worker's connection is lost, by which the MDT may have asked for some: all are given back. Without any lock. */
void append_disconnected(struct worker *worker);

#endif
