/*
 * Stat-ahead: who looks up name after name in one directory (git status, make, rsync, an epoch over small files) has it read
 * with attributes in the background, and is told of the rest from that: what is kept, and until when, is in stat_store.h.
 *
 * A name is told for as long as names and attributes are believed (attr_timeout_ms, counted from when the READDIR was
 * asked; with `strict` never), and only where asking the MDT would not be safer:
 *
 *   - Only files, and only that they are there. What is not known is asked for.
 *   - Not what has changed in the last seconds (by the MDT's clock), and may change again: a lock that is made of a file
 *     comes and goes.
 *   - Not to who was sent back by an open, or comes from a call that ended with ESTALE (any voids all): his kernel looks up
 *     once more, and the same answer would be an error to him.
 *   - Not where the inode is known in another state of its names than the entry's: the open that follows compares with what
 *     was shown (shown.h).
 *   - Not what is written or locked here, or written elsewhere; not where names are shared under locks. Who is given a lock
 *     is told of nothing that was fetched before.
 *   - Not to those whom the MDT checks itself, and to nobody's calls.
 *
 * Within libstrake only. Any worker.
 */
#ifndef STRAKE_CLIENT_STAT_AHEAD_H
#define STRAKE_CLIENT_STAT_AHEAD_H

#include "client/fs.h"

/* The name is known: *ret_attr, with a lookup reference, and ctx->name_asked_ns. */
bool stat_ahead_lookup(struct fs *fs, struct fs_ctx *ctx, uint64_t dir, const char *name, size_t len,
		       struct attr *ret_attr);
/* The MDT was asked for it; attr NULL: there is no such name. May begin to fetch. */
void stat_ahead_asked(struct fs *fs, const struct fs_ctx *ctx, uint64_t dir, const char *name, size_t len,
		      const struct attr *attr);

#endif
