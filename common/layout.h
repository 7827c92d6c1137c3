/*
 * Stripe arithmetic: with an inode's layout and a size any node computes the whole map. Pure.
 *
 *     seq = file offset / stripe_size      object (ino, gen, seq)      ost = ost_indices[seq % stripe_count]
 */
#ifndef STRAKE_COMMON_LAYOUT_H
#define STRAKE_COMMON_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#define LAYOUT_STRIPE_SIZE_DEFAULT (4u * 1024 * 1024)
#define LAYOUT_STRIPE_SIZE_MIN     (64u * 1024)
#define LAYOUT_STRIPE_SIZE_MAX     (1024u * 1024 * 1024)
#define LAYOUT_STRIPES_MAX         256
#define LAYOUT_FILE_SIZE_MAX       INT64_MAX

struct layout {
	uint64_t stripe_size;  /* a power of two within the bounds */
	uint32_t stripe_count; /* as wished, 0 = all; once fixed: how many ost_indices there are */
	uint32_t ost_count;    /* 0: not fixed yet */
	uint16_t ost_indices[LAYOUT_STRIPES_MAX];
};

/* A piece of a file range that lies in one object. */
struct layout_piece {
	uint64_t seq;
	uint32_t ost;    /* ost_indices[seq % ost_count] */
	uint32_t offset; /* in the object */
	uint32_t length;
	uint64_t file_offset;
};

/* 0, or -EINVAL: sizes out of bounds or no power of two, too many stripes, an index twice. */
int layout_check(const struct layout *layout);

/* The piece that begins at file_offset, at most length long. The layout is fixed, length > 0. */
struct layout_piece layout_piece_at(const struct layout *layout, uint64_t file_offset, uint64_t length);

/* Which part of object seq a file range [start, end) covers: false when none. end may be UINT64_MAX. */
bool layout_object_range(uint64_t stripe_size, uint64_t seq, uint64_t start, uint64_t end, uint32_t *ret_offset,
			 uint32_t *ret_end);

/* How many chunks a file of that size has. */
uint64_t layout_chunk_count(const struct layout *layout, uint64_t size);

#endif
