#include "common/layout.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>

static bool stripe_size_is_valid(uint64_t size)
{
	return size >= LAYOUT_STRIPE_SIZE_MIN && size <= LAYOUT_STRIPE_SIZE_MAX && (size & (size - 1)) == 0;
}

static bool indices_are_distinct(const struct layout *layout)
{
	for (uint32_t i = 1; i < layout->ost_count; i++)
		for (uint32_t k = 0; k < i; k++)
			if (layout->ost_indices[i] == layout->ost_indices[k])
				return false;
	return true;
}

int layout_check(const struct layout *layout)
{
	if (!stripe_size_is_valid(layout->stripe_size))
		return -EINVAL;
	if (layout->stripe_count > LAYOUT_STRIPES_MAX || layout->ost_count > LAYOUT_STRIPES_MAX)
		return -EINVAL;
	return indices_are_distinct(layout) ? 0 : -EINVAL;
}

struct layout_piece layout_piece_at(const struct layout *layout, uint64_t file_offset, uint64_t length)
{
	const uint64_t seq = file_offset / layout->stripe_size, offset = file_offset % layout->stripe_size;
	const uint64_t room = layout->stripe_size - offset;

	assert(layout->ost_count > 0 && length > 0);
	return (struct layout_piece){
		.seq = seq,
		.ost = layout->ost_indices[seq % layout->ost_count],
		.offset = (uint32_t)offset,
		.length = (uint32_t)(length < room ? length : room),
		.file_offset = file_offset,
	};
}

bool layout_object_range(uint64_t stripe_size, uint64_t seq, uint64_t start, uint64_t end, uint32_t *ret_offset,
			 uint32_t *ret_end)
{
	uint64_t object_start, object_end;

	/* The object begins beyond the last byte that a number can name. */
	if (seq > UINT64_MAX / stripe_size)
		return false;
	object_start = seq * stripe_size;
	object_end = object_start > UINT64_MAX - stripe_size ? UINT64_MAX : object_start + stripe_size;
	if (start < object_start)
		start = object_start;
	/* No end: to the object's, also of that which the highest number cuts short. */
	if (end > object_end)
		end = object_end;
	if (start >= end)
		return false;
	*ret_offset = (uint32_t)(start - object_start);
	*ret_end = (uint32_t)(end - object_start);
	return true;
}

uint64_t layout_chunk_count(const struct layout *layout, uint64_t size)
{
	return size / layout->stripe_size + (size % layout->stripe_size != 0);
}
