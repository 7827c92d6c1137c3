/*
 * Locks on files, cluster-wide: what fs_lock() and its kin (fs.h) are made of. The MDT decides (mds/locks.h); here is
 * remembered what it has granted, for an MDT that comes back, and what makes a lock worth having is done: who is given one
 * sees what the one before him has written, and who gives one back has written it out.
 *
 *     fs_lock() -> operation: a fiber of its own -> its turn at the inode -> LOCK -> [QUEUED: turn over, wait, again] -> barrier
 *
 *   - An operation sees itself through, whatever becomes of its caller: a lock that nobody knows of would be held for ever.
 *     A caller who dies leaves it; one who only has a signal ends its waiting, and learns how it came out. On a soft mount
 *     what takes is given up in time, and what gives back is left to itself; behind one that was not answered for as long as
 *     the mount has patience nobody gets in line any more.
 *   - Turns: of an inode's operations one at a time is between its question and the note of the answer, in the order in
 *     which they came. So what comes after a close comes after what the close gives back; and what is sent again to the
 *     MDT is never older than something that was done since. Nothing but an operation waits for a turn, and nothing but an
 *     operation or a done write by direct I/O waits for the kernel to drop pages: requests that hold pages or a directory
 *     in the kernel never do.
 *   - Barriers. Before any LOCK leaves: what was written here is on the OSTs, and the MDT knows the size. With it, where a
 *     write lock is given up: the kernel's mapped dirty pages are brought out (once for each writable open of the file, and
 *     each time as soon as such pages were seen of it). After one was granted: attributes as of the grant; where the
 *     content is not what the kernel's pages were filled from, they go before the caller is told.
 *     Where others use the file, too, the names beside it are not believed for a while: a database's journal is there or not.
 *   - A handle's number on the wire is one that was never used before: closing it gives back what was taken through it and
 *     nothing of those who came after.
 *   - The MDT comes back: what is held is told again (RECLAIM, session.c); an answer that crosses that is asked for anew.
 *     The session is lost: so are the locks; each handle of a file that was locked answers EIO from then on.
 *
 * Operations and their turns are in lock_op.c, barriers in lock_barrier.c, the right to append, a lock like the others, in
 * append.c; here is what is asked of them, and what is held.
 */
#ifndef STRAKE_CLIENT_LOCKS_H
#define STRAKE_CLIENT_LOCKS_H

#include "client/inode.h"
#include "client/worker.h"
#include "common/lock_list.h"
#include "proto/mds.pb-c.h"

void lock_to_wire(const struct lock *lock, Strake__Lock *out);

void locks_free(struct inode *inode); /* with its last reference */

/* Is a lock held here or asked for, other than the right to append? inode->lock is held. */
bool locks_are_used(const struct inode *inode);

/* The handle is being closed: what was taken through it is given back, in the background. */
void locks_close_handle(struct file *file);

/* What the MDT says by LOCK_PUSH. On the worker's loop. */
void locks_pushed(struct worker *worker, const Strake__LockPush *push);
/* The worker's connection to the MDT is lost, and words on it may be. On the worker's loop. */
void locks_disconnected(struct worker *worker);

/* For RECLAIM: adds what is held on the inode; inode->lock is held. -ENOMEM. */
struct held_locks {
	struct held_lock {
		uint64_t ino;
		struct lock lock;
	} * items;
	size_t count, room;
};
int locks_collect(const struct inode *inode, struct held_locks *held);
/* The session was lost: nothing is held any more, and handles of what was locked are lost. -ENOMEM: all is as it was. */
int locks_lost(struct fs *fs);

#endif
