#include "mds/destroy.h"

#include "common/logger.h"
#include "mds/cut.h"
#include "mds/ost_set.h"
#include "mds/pack.h"
#include "mds/xattr.h"

#include <errno.h>
#include <inttypes.h>

static void destroy_decode(uint64_t ino, uint64_t gen, struct bytes value, struct destroy_row *row)
{
	struct unpack unpack = unpack_begin(value);

	row->ino = ino;
	row->gen = gen;
	row->index = unpack_u64(&unpack);
	row->ost_count = ost_set_unpack(&unpack, row->osts);
	if (!unpack_is_done(&unpack))
		logger_die("the MDT's state is damaged: destroy row (%" PRIx64 ", %" PRIx64 ")", ino, gen);
}

static void destroy_store(struct view *view, const struct destroy_row *row)
{
	uint8_t key[16], out[8 + OST_SET_SIZE_MAX];
	struct pack pack = { out, out + sizeof(out) };

	pack_u64(&pack, row->index);
	ost_set_pack(&pack, row->osts, row->ost_count);
	view_put(view, TABLE_DESTROY, key_of_two(key, row->ino, row->gen),
		 (struct bytes){ out, (size_t)(pack.at - out) });
}

void destroy_content(struct change *change, const struct inode *inode)
{
	struct destroy_row row = { .ino = inode->ino, .gen = inode->gen, .index = change->index };

	if (!inode_has_objects(inode))
		return;
	row.ost_count = inode->layout.ost_count;
	memcpy(row.osts, inode->layout.ost_indices, row.ost_count * sizeof(*row.osts));
	destroy_store(change->view, &row);
	cut_forget(change->view, inode->ino);
	change->outcome->destroyed++;
	change->outcome->destroyed_ino = inode->ino;
	change->outcome->destroyed_gen = inode->gen;
}

void inode_destroy(struct change *change, const struct inode *inode)
{
	destroy_content(change, inode);
	if (inode->xattr_count > 0)
		xattrs_delete(change->view, inode->ino);
	inode_erase(change->view, inode->ino);
	change->state->meta.inodes--;
}

int destroy_get(struct view *view, uint64_t ino, uint64_t gen, struct destroy_row *ret_row)
{
	uint8_t key[16];
	struct bytes value;

	if (view_get(view, TABLE_DESTROY, key_of_two(key, ino, gen), &value) < 0)
		return -ENOENT;
	destroy_decode(ino, gen, value, ret_row);
	return 0;
}

int destroy_from(struct view *view, uint64_t ino, uint64_t gen, struct destroy_row *ret_row)
{
	uint8_t key[16];
	struct view_cursor cursor;
	struct unpack unpack;

	if (view_seek(view, TABLE_DESTROY, key_of_two(key, ino, gen), &cursor) < 0)
		return -ENOENT;
	unpack = unpack_begin(cursor.key);
	ino = unpack_key64(&unpack);
	gen = unpack_key64(&unpack);
	destroy_decode(ino, gen, cursor.value, ret_row);
	view_cursor_end(&cursor);
	return 0;
}

bool destroy_awaits(const struct destroy_row *row, uint32_t ost)
{
	return ost_set_has(row->osts, row->ost_count, ost);
}

void destroy_acknowledge(struct view *view, uint64_t ino, uint64_t gen, uint32_t ost)
{
	struct destroy_row row;
	uint8_t key[16];

	if (destroy_get(view, ino, gen, &row) < 0)
		return;
	row.ost_count = ost_set_without(row.osts, row.ost_count, ost);
	if (row.ost_count > 0)
		destroy_store(view, &row);
	else
		view_del(view, TABLE_DESTROY, key_of_two(key, ino, gen));
}
