#include "mds/inode.h"

#include "common/logger.h"
#include "mds/pack.h"

#include <errno.h>
#include <inttypes.h>

#define INODE_ROW_VERSION 3
#define INODE_ROW_FIXED   256 /* room for all but indices and target */
#define INODE_ROW_MAX     (INODE_ROW_FIXED + LAYOUT_STRIPES_MAX * 2 + INODE_TARGET_MAX)

void inode_decode(uint64_t ino, struct bytes row, struct inode *ret_inode)
{
	struct unpack unpack = unpack_begin(row);
	struct inode *inode = ret_inode;
	uint8_t version;

	version = unpack_u8(&unpack);
	inode->ino = ino;
	inode->gen = unpack_u64(&unpack);
	inode->mode = unpack_u32(&unpack);
	inode->nlink = unpack_u32(&unpack);
	inode->uid = unpack_u32(&unpack);
	inode->gid = unpack_u32(&unpack);
	inode->size = unpack_u64(&unpack);
	inode->blocks = unpack_u64(&unpack);
	inode->rdev = unpack_u64(&unpack);
	inode->atime_ns = unpack_s64(&unpack);
	inode->mtime_ns = unpack_s64(&unpack);
	inode->ctime_ns = unpack_s64(&unpack);
	inode->btime_ns = unpack_s64(&unpack);
	inode->mtime_set_ns = unpack_s64(&unpack);
	inode->version = unpack_u64(&unpack);
	inode->data_version = unpack_u64(&unpack);
	inode->name_version = unpack_u64(&unpack);
	inode->flags = unpack_u32(&unpack);
	inode->parent = unpack_u64(&unpack);
	inode->entries = unpack_u64(&unpack);
	inode->xattr_count = unpack_u32(&unpack);
	inode->xattr_bytes = unpack_u32(&unpack);
	inode->cut = unpack_u64(&unpack);
	inode->cut_start = unpack_u64(&unpack);
	inode->cut_end = unpack_u64(&unpack);
	inode->cut_index = unpack_u64(&unpack);
	inode->layout.stripe_size = unpack_u64(&unpack);
	inode->layout.stripe_count = unpack_u32(&unpack);
	inode->layout.ost_count = unpack_u16(&unpack);
	if (unpack.bad || version != INODE_ROW_VERSION || inode->layout.ost_count > LAYOUT_STRIPES_MAX)
		logger_die("the MDT's state is damaged: inode %" PRIx64 ", row version %u, %zu bytes", ino, version,
			   row.size);

	for (uint32_t i = 0; i < inode->layout.ost_count; i++)
		inode->layout.ost_indices[i] = unpack_u16(&unpack);
	inode->target = unpack_bytes(&unpack, unpack_u16(&unpack));
	if (!unpack_is_done(&unpack))
		logger_die("the MDT's state is damaged: the end of inode %" PRIx64, ino);
}

int inode_load(struct view *view, uint64_t ino, struct inode *ret_inode)
{
	uint8_t key[8];
	struct bytes row;

	if (view_get(view, TABLE_INODE, key_of(key, ino), &row) < 0)
		return -ESTALE;
	inode_decode(ino, row, ret_inode);
	return 0;
}

void inode_store(struct view *view, const struct inode *inode)
{
	uint8_t key[8], out[INODE_ROW_MAX];
	struct pack pack = { out, out + sizeof(out) };

	assert(inode->target.size <= INODE_TARGET_MAX);
	pack_u8(&pack, INODE_ROW_VERSION);
	pack_u64(&pack, inode->gen);
	pack_u32(&pack, inode->mode);
	pack_u32(&pack, inode->nlink);
	pack_u32(&pack, inode->uid);
	pack_u32(&pack, inode->gid);
	pack_u64(&pack, inode->size);
	pack_u64(&pack, inode->blocks);
	pack_u64(&pack, inode->rdev);
	pack_s64(&pack, inode->atime_ns);
	pack_s64(&pack, inode->mtime_ns);
	pack_s64(&pack, inode->ctime_ns);
	pack_s64(&pack, inode->btime_ns);
	pack_s64(&pack, inode->mtime_set_ns);
	pack_u64(&pack, inode->version);
	pack_u64(&pack, inode->data_version);
	pack_u64(&pack, inode->name_version);
	pack_u32(&pack, inode->flags);
	pack_u64(&pack, inode->parent);
	pack_u64(&pack, inode->entries);
	pack_u32(&pack, inode->xattr_count);
	pack_u32(&pack, inode->xattr_bytes);
	pack_u64(&pack, inode->cut);
	pack_u64(&pack, inode->cut_start);
	pack_u64(&pack, inode->cut_end);
	pack_u64(&pack, inode->cut_index);
	pack_u64(&pack, inode->layout.stripe_size);
	pack_u32(&pack, inode->layout.stripe_count);
	pack_u16(&pack, (uint16_t)inode->layout.ost_count);
	for (uint32_t i = 0; i < inode->layout.ost_count; i++)
		pack_u16(&pack, inode->layout.ost_indices[i]);
	pack_u16(&pack, (uint16_t)inode->target.size);
	pack_bytes(&pack, inode->target.data, inode->target.size);
	view_put(view, TABLE_INODE, key_of(key, inode->ino), (struct bytes){ out, (size_t)(pack.at - out) });
}

void inode_erase(struct view *view, uint64_t ino)
{
	uint8_t key[8];

	view_del(view, TABLE_INODE, key_of(key, ino));
}
