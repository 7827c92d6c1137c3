/*
 * Orphans: inodes without a name that live on because sessions have them open.
 *
 *     orphan: ino (big-endian) -> the sessions that hold it (ascending)
 *
 * The record that takes an inode's last link names its holders; RECORD_RELEASE and the end of a session take them away;
 * with the last one the inode goes (destroy.h). A file that TMPFILE has made begins as an orphan of the asker; LINK may
 * end that (INODE_LINKABLE).
 */
#ifndef STRAKE_MDS_ORPHAN_H
#define STRAKE_MDS_ORPHAN_H

#include "mds/apply.h"

/*
 * The last link of an inode (as the caller has changed it, but not stored) has gone: orphan or end, by the record's
 * holders. The inode is stored or erased; *inode is what it became, for the reply.
 */
void orphan_make(struct change *change, struct inode *inode);

/* It is about to get a name, and is no orphan any more. The caller stores the inode. */
void orphan_adopt(struct change *change, struct inode *inode);

/* A session holds no orphans any more. */
void orphans_release_all(struct change *change, uint64_t session);

bool orphan_is_held_by(struct view *view, uint64_t ino, uint64_t session);

/* Orphans one after the other: the first with that ino or a higher one. -ENOENT. The sessions are borrowed, packed. */
int orphan_from(struct view *view, uint64_t from, uint64_t *ret_ino, struct bytes *ret_sessions);
bool orphan_has(struct bytes sessions, uint64_t session);

#endif
