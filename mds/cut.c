#include "mds/cut.h"

#include "common/logger.h"
#include "mds/numbers.h"
#include "mds/ost_set.h"
#include "mds/pack.h"

#include <errno.h>
#include <inttypes.h>

#define CUT_ROW_FIXED (6 * 8)

static void cut_decode(uint64_t ino, struct bytes value, struct cut_row *row)
{
	struct unpack unpack = unpack_begin(value);

	row->ino = ino;
	row->gen = unpack_u64(&unpack);
	row->number = unpack_u64(&unpack);
	row->start = unpack_u64(&unpack);
	row->end = unpack_u64(&unpack);
	row->stripe_size = unpack_u64(&unpack);
	row->index = unpack_u64(&unpack);
	row->ost_count = ost_set_unpack(&unpack, row->osts);
	if (!unpack_is_done(&unpack))
		logger_die("the MDT's state is damaged: pending cut of inode %" PRIx64, ino);
}

static void cut_store(struct view *view, const struct cut_row *row)
{
	uint8_t key[8], out[CUT_ROW_FIXED + OST_SET_SIZE_MAX];
	struct pack pack = { out, out + sizeof(out) };

	pack_u64(&pack, row->gen);
	pack_u64(&pack, row->number);
	pack_u64(&pack, row->start);
	pack_u64(&pack, row->end);
	pack_u64(&pack, row->stripe_size);
	pack_u64(&pack, row->index);
	ost_set_pack(&pack, row->osts, row->ost_count);
	view_put(view, TABLE_CUT, key_of(key, row->ino), (struct bytes){ out, (size_t)(pack.at - out) });
}

int cut_get(struct view *view, uint64_t ino, struct cut_row *ret_row)
{
	uint8_t key[8];
	struct bytes value;

	if (view_get(view, TABLE_CUT, key_of(key, ino), &value) < 0)
		return -ENOENT;
	cut_decode(ino, value, ret_row);
	return 0;
}

int cut_from(struct view *view, uint64_t ino, struct cut_row *ret_row)
{
	uint8_t key[8];
	struct view_cursor cursor;
	struct unpack unpack;

	if (view_seek(view, TABLE_CUT, key_of(key, ino), &cursor) < 0)
		return -ENOENT;
	unpack = unpack_begin(cursor.key);
	cut_decode(unpack_key64(&unpack), cursor.value, ret_row);
	view_cursor_end(&cursor);
	return 0;
}

bool cut_is_pending(struct view *view, uint64_t ino)
{
	uint8_t key[8];
	struct bytes value;

	return view_get(view, TABLE_CUT, key_of(key, ino), &value) == 0;
}

bool cut_awaits(const struct cut_row *row, uint32_t ost)
{
	return ost_set_has(row->osts, row->ost_count, ost);
}

static uint64_t next_number(const struct change *change, const struct inode *inode)
{
	uint64_t below = numbers_leaps(change->state->meta.reserved) * CUT_LEAP;

	return (inode->cut > below ? inode->cut : below) + 1;
}

void cut_make(struct change *change, struct inode *inode, uint64_t start, uint64_t end)
{
	struct cut_row row = { .ino = inode->ino, .gen = inode->gen, .index = change->index };

	assert(inode_has_objects(inode) && start < end);
	row.number = inode->cut = next_number(change, inode);
	row.start = inode->cut_start = start;
	row.end = inode->cut_end = end;
	inode->cut_index = change->index;
	row.stripe_size = inode->layout.stripe_size;
	row.ost_count = inode->layout.ost_count;
	memcpy(row.osts, inode->layout.ost_indices, row.ost_count * sizeof(*row.osts));
	cut_store(change->view, &row);
	change->outcome->cuts++;
	change->outcome->cut_ino = inode->ino;
}

void cut_forget(struct view *view, uint64_t ino)
{
	uint8_t key[8];

	if (cut_is_pending(view, ino))
		view_del(view, TABLE_CUT, key_of(key, ino));
}

void cut_acknowledge(struct view *view, uint64_t ino, uint64_t gen, uint64_t number, uint32_t ost)
{
	struct cut_row row;

	if (cut_get(view, ino, &row) < 0 || row.gen != gen || row.number != number)
		return;
	row.ost_count = ost_set_without(row.osts, row.ost_count, ost);
	if (row.ost_count > 0)
		cut_store(view, &row);
	else
		cut_forget(view, ino);
}
