/*
 * Extents: pieces of a file's bytes in memory, in a set sorted by offset that never overlap within the set. Pure: no
 * locks, no I/O.
 *
 *   - An extent's bytes lie in a shared, counted buffer, so that cutting one in two copies nothing.
 *   - No extent crosses a multiple of EXTENT_BLOCK in the file: one extent is one WRITE to one object (stripes are
 *     multiples of 64 KiB, and so a block may hold several; see extent_block()).
 */
#ifndef STRAKE_CLIENT_EXTENTS_H
#define STRAKE_CLIENT_EXTENTS_H

#include "common/bulk.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTENT_BLOCK (512u * 1024)

/* Counted memory under one or several extents; released with the last. Guarded by the inode's lock. */
struct extent_memory {
	unsigned int refs;
	size_t room; /* bytes from data on */
	uint8_t *data;
	struct bulk *owner; /* NULL: allocated together with this */
};

struct extent {
	uint64_t offset;
	uint32_t length;
	uint32_t at; /* where its bytes begin in memory->data */
	struct extent_memory *memory;

	uint64_t first_stamp; /* of the oldest write in it: who waits for that write waits for this */
	uint64_t gen;         /* for which content it was answered */
	uint64_t instance;    /* of the OST that answered */
	uint64_t answered;    /* stamp of the answer */
	uint32_t ost;
	bool resend;   /* was answered once: a later cut wins over it */
	bool doubtful; /* a cut that we did not hear of may have taken it: it is never sent again */
	bool given_up; /* in flight when the session was lost: neither its answer nor another session brings it back */
};

struct extent_set {
	struct extent **items;
	size_t count, room;
	uint64_t bytes;
};

static inline uint64_t extent_end(const struct extent *extent)
{
	return extent->offset + extent->length;
}
static inline uint8_t *extent_data(const struct extent *extent)
{
	return extent->memory->data + extent->at;
}

/* How big a block is where stripes are smaller than EXTENT_BLOCK. */
uint64_t extent_block(uint64_t stripe_size);

/* A new extent of `length` bytes with room for `room` (copied from data if not NULL), in no set. NULL: no memory. */
struct extent *extent_new(uint64_t offset, const void *data, uint32_t length, uint32_t room);
/* One over the owner's memory; the owner is released with it. */
struct extent *extent_adopt(uint64_t offset, struct bulk *owner, const void *data, uint32_t length);
struct extent *extent_free(struct extent *extent);

/* Index of the first extent that ends above offset (count if none). */
size_t extents_find(const struct extent_set *set, uint64_t offset);
bool extents_overlap(const struct extent_set *set, uint64_t start, uint64_t end);

/* Put in one that overlaps none there. -ENOMEM. */
int extents_insert(struct extent_set *set, struct extent *extent);
void extents_remove(struct extent_set *set, struct extent *extent); /* it is in the set; not freed */

/*
 * Take [start, end) out of the set: what lies within is freed, what lies across is cut. only_resend: leave extents
 * alone that are not `resend`. Returns the bytes freed. -ENOMEM cannot happen: where a cut in two finds no memory, the
 * upper part is copied nowhere and the whole stays (*ret_failed true).
 */
uint64_t extents_cut(struct extent_set *set, uint64_t start, uint64_t end, bool only_resend, bool *ret_failed);

/* One that is in the set keeps its first `length` bytes; the rest is one of its own, behind it. -ENOMEM. */
int extents_divide(struct extent_set *set, const struct extent *extent, uint32_t length);

/* Put in those parts of the extent that no other in the set covers; what is left of it is freed. Those that cover it
 * take its first_stamp over: who waits for it waits for them. -ENOMEM: its lower parts may be in, the rest is still the
 * caller's. */
int extents_insert_under(struct extent_set *set, struct extent *extent);

void extents_clear(struct extent_set *set); /* frees all */

/* The end of the last extent, 0 when empty. */
uint64_t extents_end(const struct extent_set *set);

#endif
