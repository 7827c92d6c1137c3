#include "client/data/extents.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t extent_block(uint64_t stripe_size)
{
	return stripe_size < EXTENT_BLOCK ? stripe_size : EXTENT_BLOCK;
}

struct extent *extent_new(uint64_t offset, const void *data, uint32_t length, uint32_t room)
{
	struct extent *extent = calloc(1, sizeof(*extent));
	struct extent_memory *memory = malloc(sizeof(*memory) + room);

	assert(length <= room);
	if (extent == NULL || memory == NULL) {
		free(extent);
		free(memory);
		return NULL;
	}
	*memory = (struct extent_memory){ .refs = 1, .room = room, .data = (uint8_t *)(memory + 1) };
	if (data != NULL)
		memcpy(memory->data, data, length);
	extent->offset = offset;
	extent->length = length;
	extent->memory = memory;
	return extent;
}

struct extent *extent_adopt(uint64_t offset, struct bulk *owner, const void *data, uint32_t length)
{
	struct extent *extent = calloc(1, sizeof(*extent));
	struct extent_memory *memory = malloc(sizeof(*memory));
	uint8_t *base = owner->data;
	size_t at = (size_t)((const uint8_t *)data - base);

	assert(at + length <= owner->size);
	if (extent == NULL || memory == NULL) {
		free(extent);
		free(memory);
		return NULL;
	}
	*memory = (struct extent_memory){ .refs = 1, .room = owner->size, .data = base, .owner = owner };
	extent->offset = offset;
	extent->length = length;
	extent->at = (uint32_t)at;
	extent->memory = memory;
	return extent;
}

static void extent_memory_put(struct extent_memory *memory)
{
	if (--memory->refs > 0)
		return;
	if (memory->owner != NULL)
		memory->owner->release(memory->owner);
	free(memory);
}

struct extent *extent_free(struct extent *extent)
{
	if (extent != NULL) {
		extent_memory_put(extent->memory);
		free(extent);
	}
	return NULL;
}

size_t extents_find(const struct extent_set *set, uint64_t offset)
{
	size_t low = 0, high = set->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (extent_end(set->items[middle]) > offset)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

bool extents_overlap(const struct extent_set *set, uint64_t start, uint64_t end)
{
	size_t i = extents_find(set, start);

	return start < end && i < set->count && set->items[i]->offset < end;
}

/* Room for one more. */
static int extents_grow(struct extent_set *set)
{
	size_t room = set->room == 0 ? 8 : set->room * 2;
	struct extent **items;

	if (set->count < set->room)
		return 0;
	items = realloc(set->items, room * sizeof(*items));
	if (items == NULL)
		return -ENOMEM;
	set->items = items;
	set->room = room;
	return 0;
}

static void extents_insert_at(struct extent_set *set, size_t i, struct extent *extent)
{
	memmove(&set->items[i + 1], &set->items[i], (set->count - i) * sizeof(*set->items));
	set->items[i] = extent;
	set->count++;
	set->bytes += extent->length;
}

int extents_insert(struct extent_set *set, struct extent *extent)
{
	size_t i = extents_find(set, extent->offset);

	assert(extent->length > 0);
	assert(i == set->count || set->items[i]->offset >= extent_end(extent));
	if (extents_grow(set) < 0)
		return -ENOMEM;
	extents_insert_at(set, i, extent);
	return 0;
}

static void extents_remove_at(struct extent_set *set, size_t i)
{
	set->bytes -= set->items[i]->length;
	set->count--;
	memmove(&set->items[i], &set->items[i + 1], (set->count - i) * sizeof(*set->items));
}

void extents_remove(struct extent_set *set, struct extent *extent)
{
	size_t i = extents_find(set, extent->offset);

	assert(i < set->count && set->items[i] == extent);
	extents_remove_at(set, i);
	if (set->count == 0) {
		free(set->items);
		set->items = NULL;
		set->room = 0;
	}
}

/* [start, end), which may be nothing, lies strictly within extent i: leave two. */
static int extents_split(struct extent_set *set, size_t i, uint64_t start, uint64_t end)
{
	struct extent *low = set->items[i], *high;

	if (extents_grow(set) < 0)
		return -ENOMEM;
	high = malloc(sizeof(*high));
	if (high == NULL)
		return -ENOMEM;
	*high = *low;
	high->memory->refs++;
	high->at += (uint32_t)(end - low->offset);
	high->length = (uint32_t)(extent_end(low) - end);
	high->offset = end;
	set->bytes -= low->length;
	low->length = (uint32_t)(start - low->offset);
	set->bytes += low->length;
	extents_insert_at(set, i + 1, high);
	return 0;
}

int extents_divide(struct extent_set *set, const struct extent *extent, uint32_t length)
{
	size_t i = extents_find(set, extent->offset);
	uint64_t at = extent->offset + length;

	assert(i < set->count && set->items[i] == extent && length > 0 && length < extent->length);
	return extents_split(set, i, at, at);
}

uint64_t extents_cut(struct extent_set *set, uint64_t start, uint64_t end, bool only_resend, bool *ret_failed)
{
	uint64_t before = set->bytes;
	size_t i = extents_find(set, start);

	*ret_failed = false;
	while (i < set->count && set->items[i]->offset < end) {
		struct extent *extent = set->items[i];

		if (only_resend && !extent->resend) {
			i++;
		} else if (extent->offset >= start && extent_end(extent) <= end) {
			extents_remove_at(set, i);
			extent_free(extent);
		} else if (extent->offset < start && extent_end(extent) > end) {
			*ret_failed = extents_split(set, i, start, end) < 0;
			break;
		} else if (extent->offset < start) {
			set->bytes -= extent_end(extent) - start;
			extent->length = (uint32_t)(start - extent->offset);
			i++;
		} else {
			uint32_t gone = (uint32_t)(end - extent->offset);

			set->bytes -= gone;
			extent->offset += gone;
			extent->at += gone;
			extent->length -= gone;
			i++;
		}
	}
	if (set->count == 0)
		extents_clear(set);
	return before - set->bytes;
}

int extents_insert_under(struct extent_set *set, struct extent *extent)
{
	for (;;) {
		size_t i = extents_find(set, extent->offset);
		struct extent *above = i < set->count ? set->items[i] : NULL, *low;

		if (above == NULL || above->offset >= extent_end(extent))
			return extents_insert(set, extent);
		if (above->first_stamp > extent->first_stamp)
			above->first_stamp = extent->first_stamp;
		if (above->offset > extent->offset) {
			low = malloc(sizeof(*low));
			if (low == NULL)
				return -ENOMEM;
			*low = *extent;
			low->memory->refs++;
			low->length = (uint32_t)(above->offset - extent->offset);
			if (extents_insert(set, low) < 0) {
				extent_free(low);
				return -ENOMEM;
			}
		}
		if (extent_end(above) >= extent_end(extent)) {
			extent_free(extent);
			return 0;
		}
		extent->at += (uint32_t)(extent_end(above) - extent->offset);
		extent->length = (uint32_t)(extent_end(extent) - extent_end(above));
		extent->offset = extent_end(above);
	}
}

void extents_clear(struct extent_set *set)
{
	for (size_t i = 0; i < set->count; i++)
		extent_free(set->items[i]);
	free(set->items);
	*set = (struct extent_set){ 0 };
}

uint64_t extents_end(const struct extent_set *set)
{
	return set->count == 0 ? 0 : extent_end(set->items[set->count - 1]);
}
