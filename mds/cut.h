/*
 * Cuts: orders to make bytes of a file vanish (a truncate, a punch), numbered within a gen from 1. A new gen begins at 0
 * again; who compares, compares (gen, cut) with gen first.
 *
 *     cut: ino (big-endian) -> the cut, index of its record, the OSTs that have not answered yet
 *
 * A file has at most one cut that is not acknowledged by all its OSTs, durably; so no OST ever misses one and sees the
 * next. The inode keeps the latest cut for good: whoever asks an OST carries it, and the OST obeys, durably. So nobody
 * is told of a cut before its record is durable: no answer that has it leaves before (answer.h: cut_index).
 *
 * An MDT that has gone on from an older copy of its state does not know which cuts OSTs have met since. A number that they
 * know they would pass over, so the next one is above all of before: each leap (numbers.h) takes CUT_LEAP numbers.
 *
 * A new gen needs no such wait. All that an OST does at its word is to make objects of that (ino, gen): should the record
 * be lost, the number is void (void.h) and the objects are destroyed; the old content is destroyed only after the
 * record is durable (destroy.h); and a cut of the new gen has a later record, which is waited for.
 */
#ifndef STRAKE_MDS_CUT_H
#define STRAKE_MDS_CUT_H

#include "mds/apply.h"

#define CUT_LEAP (UINT64_C(1) << 32)

struct cut_row {
	uint64_t ino, gen, number, start, end;
	uint64_t stripe_size;
	uint64_t index;
	uint32_t ost_count;
	uint16_t osts[LAYOUT_STRIPES_MAX]; /* still to answer */
};

bool cut_is_pending(struct view *view, uint64_t ino);

/*
 * Zero [start, end) of a file that has a layout: the next cut, in the inode (which the caller stores) and in the table.
 * None is pending.
 */
void cut_make(struct change *change, struct inode *inode, uint64_t start, uint64_t end);

/* Its content goes as a whole. */
void cut_forget(struct view *view, uint64_t ino);

/* -ENOENT. */
int cut_get(struct view *view, uint64_t ino, struct cut_row *ret_row);
/* The first row at ino or above. -ENOENT. */
int cut_from(struct view *view, uint64_t ino, struct cut_row *ret_row);
bool cut_awaits(const struct cut_row *row, uint32_t ost);

/* That OST has made it durable: fine when it was not asked, or for another cut. */
void cut_acknowledge(struct view *view, uint64_t ino, uint64_t gen, uint64_t number, uint32_t ost);

#endif
