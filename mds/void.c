#include "mds/void.h"

#include "common/logger.h"
#include "mds/pack.h"

#include <errno.h>
#include <inttypes.h>

int void_from(struct view *view, uint64_t number, struct void_range *ret_range)
{
	uint8_t key[8];
	struct view_cursor cursor;
	struct unpack row;

	if (number == UINT64_MAX || view_seek(view, TABLE_VOID, key_of(key, number + 1), &cursor) < 0)
		return -ENOENT;
	row = unpack_begin(cursor.key);
	ret_range->end = unpack_key64(&row);
	row = unpack_begin(cursor.value);
	ret_range->first = unpack_u64(&row);
	view_cursor_end(&cursor);
	if (!unpack_is_done(&row) || ret_range->first >= ret_range->end)
		logger_die("the MDT's state is damaged: void numbers up to %" PRIx64, ret_range->end);
	return 0;
}

bool number_is_void(struct view *view, uint64_t number)
{
	struct void_range range;

	return void_from(view, number, &range) == 0 && range.first <= number;
}

uint64_t void_end(struct view *view, size_t *ret_count)
{
	struct void_range range = { 0 };
	size_t count = 0;

	while (void_from(view, range.end, &range) == 0)
		count++;
	if (ret_count)
		*ret_count = count;
	return range.end;
}

void void_rest(struct change *change)
{
	struct meta *meta = &change->state->meta;
	struct void_range range = { meta->given + 1, meta->reserved }, before;
	uint8_t key[8], first[8];
	struct pack pack = { first, first + sizeof(first) };

	assert(range.first < range.end);
	/* Nothing was given out since the last one: that one grows. */
	if (void_from(change->view, meta->given, &before) == 0) {
		range.first = before.first;
		view_del(change->view, TABLE_VOID, key_of(key, before.end));
	}
	pack_u64(&pack, range.first);
	view_put(change->view, TABLE_VOID, key_of(key, range.end), (struct bytes){ first, sizeof(first) });
	meta->given = range.end - 1;
}
