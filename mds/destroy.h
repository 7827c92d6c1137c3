/*
 * The destroy queue: contents whose objects the OSTs have yet to destroy.
 *
 *     destroy: ino, gen (big-endian) -> index of the record that ordered it, the OSTs that have not answered yet
 *
 * No OST hears of it before that record is on stable storage (ost_link.h).
 */
#ifndef STRAKE_MDS_DESTROY_H
#define STRAKE_MDS_DESTROY_H

#include "mds/apply.h"

struct destroy_row {
	uint64_t ino, gen;
	uint64_t index;
	uint32_t ost_count;
	uint16_t osts[LAYOUT_STRIPES_MAX]; /* still to answer */
};

/* The content (ino, gen) of a file goes; nothing when no object of it can be. */
void destroy_content(struct change *change, const struct inode *inode);

/* The whole inode goes: row, xattrs, pending cut, content. */
void inode_destroy(struct change *change, const struct inode *inode);

/* -ENOENT. */
int destroy_get(struct view *view, uint64_t ino, uint64_t gen, struct destroy_row *ret_row);
/* The first row at (ino, gen) or above. -ENOENT. */
int destroy_from(struct view *view, uint64_t ino, uint64_t gen, struct destroy_row *ret_row);
bool destroy_awaits(const struct destroy_row *row, uint32_t ost);

/* That OST has destroyed it: fine when it was not asked. */
void destroy_acknowledge(struct view *view, uint64_t ino, uint64_t gen, uint32_t ost);

#endif
