/*
 * Void numbers: reserved once, perhaps given out, and no record of the log has them.
 *
 *     void: end (big-endian) -> first; the numbers are [first, end)
 *
 * The log can lose its end in a power failure, with records whose numbers clients know: they may have written objects of
 * these (ino, gen) before or after. The numbers never come again (numbers.h), so nobody would ever remove those objects.
 *
 *   - At the start all numbers between the last one that a record has and the first one now to be given become void, by the
 *     record that reserves those. (Where clients are to send again what was lost, they do so before it: what they bring back
 *     has its numbers again, and is left out.) A clean stop gives back what it has not given out: then there are none.
 *   - Every OST is told of all ranges whenever a connection to it stands, until it has destroyed what it has of them
 *     (ost_link.h). It keeps them for good, and makes no object of such a gen again. So nothing need be kept of who has
 *     answered, and an OST that was away, replaced or put back from a backup hears of them, too.
 *   - An OST may hear of a range before its record is durable. Were that lost, the next start would find the same one:
 *     nothing above it has been given out then.
 *   - A start after a crash adds a row, here and on each OST, if numbers were given out since the last one.
 */
#ifndef STRAKE_MDS_VOID_H
#define STRAKE_MDS_VOID_H

#include "mds/apply.h"

struct void_range {
	uint64_t first, end;
};

/* What is reserved and not given out: there is some. */
void void_rest(struct change *change);

/* The range that has the number, or the first above it. -ENOENT. */
int void_from(struct view *view, uint64_t number, struct void_range *ret_range);
bool number_is_void(struct view *view, uint64_t number);
/* Where the last range ends; 0: there is none. *ret_count: how many there are. */
uint64_t void_end(struct view *view, size_t *ret_count);

#endif
