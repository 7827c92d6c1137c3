/*
 * What the kernel was shown and may still believe. It takes a name or attributes for good until their timeout and asks
 * nobody, so an open() there may go by a name that leads to another file by now, or by an old size. Both come to light
 * here when the open is asked of us, with fresh attributes from the MDT: the one is sent back with ESTALE, on which the
 * kernel looks all names up again and opens once more (path_openat() with LOOKUP_REVAL), for the other the kernel has to
 * drop the attributes before it is answered. A mapping does not ask for them, and what lies behind the size that the kernel
 * has is SIGBUS there: so an open of what has grown elsewhere is sent back, too. So what an open finds is never older than
 * the open (close-to-open).
 *
 * Within libstrake only; for the caller fs_attr_shown(), fs_entry_shown(), fs_attr_outdated() in fs.h. Any thread.
 */
#ifndef STRAKE_CLIENT_SHOWN_H
#define STRAKE_CLIENT_SHOWN_H

#include "client/inode.h"

/*
 * At an open by ctx with fresh attributes: might the kernel have come by a name that is no longer one of its, or believe in
 * a size that it has outgrown? Not if this caller's last open was sent back: he has looked the names up since, or comes by
 * no name (/proc/self/fd). Sizes matter to who may map it; nobody is sent back for one who might be taken for somebody else then.
 */
bool shown_looks_again(struct inode *inode, const struct fs_ctx *ctx, bool maps, const struct attr *attr);

/*
 * For a lock that is granted: may the kernel believe any attributes? Once: it is about to be told. While locks are used none
 * is shown that it may believe, so that nobody's open has the kernel drop some: whose question is under way at that moment
 * goes on with the size that the kernel had before (fuse_change_attributes() passes over an answer that it takes for older),
 * and who asks for the end of a file under a lock (lseek(2), SEEK_END) would write over what is there. inode->lock is held.
 */
bool shown_is_believed(struct inode *inode);

#define SHARED_MS 10000

/*
 * A file there is locked here, and others use it: for SHARED_MS no name that the kernel is shown in that directory is
 * believed, nor one that it was shown before. dir 0: it came by no name.
 */
void shown_share_dir(struct fs *fs, uint64_t dir);
bool shown_dir_is_shared(struct fs *fs, uint64_t dir);

/* An open by ctx is sent back: his next one is not. */
void shown_sent_back(struct fs *fs, const struct fs_ctx *ctx);
/* Was he, a moment ago, and has not opened anything since? Then he looks up the names again. */
bool shown_was_sent_back(struct fs *fs, const struct fs_ctx *ctx);
/* He has learned that there is no such name: no open follows. */
void shown_no_name(struct fs *fs, const struct fs_ctx *ctx);

/* The attributes that the kernel may have are not what they were: an open drops them (fs_attr_outdated()). */
void shown_attr_is_old(struct inode *inode);

/*
 * A call by ctx that is about to be answered has changed it, and inode->attr says how. The kernel drops what it knows of it
 * then, by itself; but an answer of before, to somebody else who looks at it, may still be on its way there, and would be
 * taken for what is so now. So where one was shown to others the kernel is told to drop it: what it has asked for before
 * that counts no more. What this caller himself was shown has arrived, as he asks for one thing after the other.
 */
void shown_changed(struct inode *inode, const struct fs_ctx *ctx);

/* We changed its names ourselves: what the kernel knew of them before (attr.name_version `before`) it knows now. */
void shown_own_names(struct inode *inode, uint64_t before, uint64_t now);

#endif
