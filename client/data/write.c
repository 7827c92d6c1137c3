/*
 * Write-behind: fs_write() copies into dirty extents and returns, or waits where too much is held. What is due is sent by
 * send.c, told to the MDT by report.c, made stable by commit.c.
 */
#include "client/append.h"
#include "client/data/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define ADOPT_MIN (64u * 1024) /* below this a copy is cheaper than keeping a whole buffer */

/* --- into memory ------------------------------------------------------------------------------------------------- */

/* Room for a new extent that may grow: up to the end of its block. Big ones use the shared buffers. */
static struct extent *extent_with_room(struct inode_data *data, uint64_t offset, const void *bytes, uint32_t length,
				       uint32_t room)
{
	struct extent *extent;
	struct bulk *bulk;

	if (room < ADOPT_MIN)
		return extent_new(offset, bytes, length, room);
	bulk = buffers_get(data->data_fs->buffers);
	if (bulk == NULL)
		return NULL;
	extent = extent_adopt(offset, bulk, bulk->data, length);
	if (extent == NULL)
		bulk->release(bulk);
	else
		memcpy(bulk->data, bytes, length);
	return extent;
}

/* The extent that ends where new bytes begin, with room for them after making it larger if need be; or NULL. */
static struct extent *extent_to_append(struct inode_data *data, uint64_t offset, uint32_t length, uint64_t block)
{
	size_t i = offset == 0 ? data->dirty.count : extents_find(&data->dirty, offset - 1);
	struct extent *extent = i < data->dirty.count ? data->dirty.items[i] : NULL;
	struct extent *larger;
	uint64_t room;

	if (extent == NULL || extent_end(extent) != offset || offset % block == 0 || extent->memory->refs > 1 ||
	    extent->resend)
		return NULL;
	if (extent->at + extent->length + length <= extent->memory->room)
		return extent;

	room = 2 * ((uint64_t)extent->length + length);
	if (room > block - extent->offset % block)
		room = block - extent->offset % block;
	larger = extent_with_room(data, extent->offset, extent_data(extent), extent->length, (uint32_t)room);
	if (larger == NULL)
		return NULL;
	larger->first_stamp = extent->first_stamp;
	data->dirty.items[i] = larger;
	extent_free(extent);
	return larger;
}

/* New bytes where no dirty extent is, within one block. */
static int data_put_gap(struct inode_data *data, uint64_t offset, const uint8_t *bytes, uint32_t length, uint64_t block,
			struct bulk **owner)
{
	struct extent *extent = *owner == NULL ? extent_to_append(data, offset, length, block) : NULL;
	uint32_t room = length;

	if (extent != NULL) {
		memcpy(extent_data(extent) + extent->length, bytes, length);
		extent->length += length;
		data->dirty.bytes += length;
		return 0;
	}
	if (*owner != NULL) {
		extent = extent_adopt(offset, *owner, bytes, length);
		if (extent != NULL)
			*owner = NULL;
	} else {
		if (room < 4096)
			room = 4096;
		if (room > block - offset % block)
			room = (uint32_t)(block - offset % block);
		extent = extent_with_room(data, offset, bytes, length, room);
	}
	if (extent == NULL)
		return -ENOMEM;
	extent->first_stamp = data->stamp;
	if (extents_insert(&data->dirty, extent) < 0) {
		extent_free(extent);
		return -ENOMEM;
	}
	return 0;
}

/*
 * Make a gap where bytes wait that were answered once: a later cut must not take old and new for one. False where there
 * is no memory for it.
 */
static bool data_uncover(struct inode_data *data, uint64_t start, uint64_t end)
{
	bool failed;

	extents_cut(&data->dirty, start, end, true, &failed);
	return !failed;
}

/* Bytes within one block: over dirty extents in place, into the gaps between them anew. */
static int data_put(struct inode_data *data, uint64_t offset, const uint8_t *bytes, uint32_t length, uint64_t block,
		    struct bulk **owner)
{
	while (length > 0) {
		size_t i = extents_find(&data->dirty, offset);
		struct extent *over = i < data->dirty.count ? data->dirty.items[i] : NULL;
		uint32_t part = length;
		int err;

		if (over != NULL && over->resend && over->offset < offset + length &&
		    data_uncover(data, offset, offset + length))
			continue;
		if (over != NULL && over->offset <= offset) {
			if (part > extent_end(over) - offset)
				part = (uint32_t)(extent_end(over) - offset);
			memcpy(extent_data(over) + (offset - over->offset), bytes, part);
			over->resend = false;
		} else {
			struct bulk *none = NULL;

			if (over != NULL && part > over->offset - offset)
				part = (uint32_t)(over->offset - offset);
			err = data_put_gap(data, offset, bytes, part, block, part == length ? owner : &none);
			if (err < 0)
				return err;
		}
		offset += part;
		bytes += part;
		length -= part;
	}
	return 0;
}

/* --- the call ---------------------------------------------------------------------------------------------------- */

/* Wait until there is room for what a write brings. */
static int data_reserve(struct inode *inode, struct fs_ctx *ctx, size_t size)
{
	struct data_fs *data_fs = inode->fs->data;

	pthread_mutex_lock(&data_fs->lock);
	while (atomic_load(&data_fs->held) + size > data_fs->write_max && atomic_load(&data_fs->held) > 0) {
		atomic_store(&data_fs->hurry, true);
		if (atomic_load(&ctx->interrupted)) {
			pthread_mutex_unlock(&data_fs->lock);
			return -EINTR;
		}
		fiber_wait_until(&data_fs->room, &data_fs->lock, clock_ns() + 50 * NSEC_PER_MSEC);
	}
	atomic_fetch_add(&data_fs->held, size);
	pthread_mutex_unlock(&data_fs->lock);
	data_fs_bound(data_fs);
	return 0;
}

/* The layout is fixed by a file's first write. */
static int data_fix_layout(struct inode *inode, struct fs_ctx *ctx)
{
	struct attr attr;
	bool fixed;

	pthread_mutex_lock(&inode->lock);
	fixed = inode->attr_valid && inode->attr.layout->ost_count > 0;
	pthread_mutex_unlock(&inode->lock);
	return fixed ? 0 : inode_fix_layout(inode, ctx, &attr);
}

/* One write into the dirty extents. Consumes the owner. inode->lock is held. */
static int data_accept(struct inode_data *data, uint64_t offset, const uint8_t *bytes, size_t size, struct bulk *owner)
{
	uint64_t block = extent_block(data->inode->attr.layout->stripe_size), before = data->dirty.bytes;
	bool adopt = owner != NULL && size >= ADOPT_MIN && size <= block - offset % block;
	struct bulk *adopted = adopt ? owner : NULL;
	size_t left = size;
	int err = 0;

	while (left > 0 && err == 0) {
		uint32_t part = (uint32_t)(left < block - offset % block ? left : block - offset % block);

		err = data_put(data, offset, bytes, part, block, &adopted);
		offset += part;
		bytes += part;
		left -= part;
	}
	/* Still ours unless an extent has taken it over. */
	if (owner != NULL && (!adopt || adopted != NULL))
		owner->release(owner);
	/* `size` was reserved; bytes that overwrote others need no more room. */
	atomic_fetch_sub(&data->data_fs->held, size - (data->dirty.bytes - before));
	return err;
}

/* May it go on? Then `size` is accounted for, and nobody else appends (mark: append_begin()). */
static int write_begin(struct file *file, struct fs_ctx *ctx, uint64_t offset, size_t size, unsigned int *ret_mark)
{
	struct inode *inode = file->inode;
	int err;

	if (size == 0)
		return 0;
	if (atomic_load(&file->lost))
		return -EIO;
	if (!ctx->append && (offset > LAYOUT_FILE_SIZE_MAX || size > LAYOUT_FILE_SIZE_MAX - offset))
		return -EFBIG;
	err = data_fix_layout(inode, ctx);
	if (err == 0)
		err = data_reserve(inode, ctx, size);
	if (err == 0 && ctx->append) {
		err = append_begin(inode, ctx, ret_mark);
		if (err < 0)
			atomic_fetch_sub(&inode->fs->data->held, size);
	}
	return err;
}

/*
 * The first bytes of a file, and many: mostly all of them, and it is closed next. Then its WRITE is under way already, and
 * what comes after them in the same block, if anything, goes by another.
 */
static bool is_first_of_file(const struct inode_data *data, uint64_t offset, size_t size)
{
	return offset == 0 && size >= ADOPT_MIN && data_size(data->inode) == 0 && data->dirty.count == 0;
}

/*
 * Until there is little enough that is dirty. The session may be lost meanwhile: then who appends begins anew, and who has lost
 * a lock has no business here any more. *appends: whether it is in an append. inode->lock is held; let go meanwhile.
 */
static int write_wait(struct file *file, struct fs_ctx *ctx, struct inode_data *data, unsigned int mark, bool *appends)
{
	struct inode *inode = file->inode;
	int err = 0;

	while (err == 0) {
		if (data->dirty.bytes > DATA_DIRTY_MAX) {
			data_kick(data);
			err = data_wait(inode, ctx);
		} else if (*appends && !append_stands(inode, mark)) {
			pthread_mutex_unlock(&inode->lock);
			append_end(inode);
			err = append_begin(inode, ctx, &mark);
			*appends = err == 0;
			pthread_mutex_lock(&inode->lock);
		} else {
			break;
		}
	}
	return err == 0 && atomic_load(&file->lost) ? -EIO : err;
}

int fs_write(struct file *file, struct fs_ctx *ctx, uint64_t offset, const void *data, size_t size, struct bulk *owner)
{
	struct inode *inode = file->inode;
	struct inode_data *path;
	uint32_t errors;
	unsigned int mark = 0;
	bool was_clean, first, appends = ctx->append;
	int err = write_begin(file, ctx, offset, size, &mark);

	if (err < 0 || size == 0) {
		if (owner != NULL)
			owner->release(owner);
		return err;
	}

	pthread_mutex_lock(&inode->lock);
	path = data_get(inode);
	err = path == NULL ? -ENOMEM : write_wait(file, ctx, path, mark, &appends);
	if (err == 0 && appends) {
		offset = data_size(inode);
		err = size > LAYOUT_FILE_SIZE_MAX - offset ? -EFBIG : 0;
	}
	if (err < 0) {
		pthread_mutex_unlock(&inode->lock);
		atomic_fetch_sub(&inode->fs->data->held, size);
		if (appends)
			append_end(inode);
		if (owner != NULL)
			owner->release(owner);
		return err;
	}
	inode->mapped |= ctx->mapped;
	if (ctx->paged)
		inode->pages_used = PAGES_PASSED_MAX;
	was_clean = path->dirty.count == 0 && !path->report;
	if (path->dirty.count + path->flight.count + path->uncommitted.count == 0) {
		path->shared = false;
		path->own_version = inode->attr.data_version;
	}
	first = is_first_of_file(path, offset, size);
	data_touch(path, ctx);
	err = data_accept(path, offset, data, size, owner);
	if (first)
		path->push_stamp = path->stamp;
	if (err == 0 && path->own_end < offset + size)
		path->own_end = offset + size;
	atomic_fetch_add_explicit(&inode->fs->counters.bytes_written, size, memory_order_relaxed);
	errors = path->error_count;
	data_kick(path);
	if (err == 0 && (file->flags & (O_DIRECT | O_SYNC | O_DSYNC))) {
		err = data_write_out_range(inode, ctx, offset, offset + size);
		/* Perhaps another's: one error too many rather than one too few. */
		if (err == 0 && path->error_count != errors)
			err = path->error;
	}
	pthread_mutex_unlock(&inode->lock);
	if (appends)
		append_end(inode);
	if (was_clean)
		data_account(path);
	if (!ctx->paged)
		inode_pages_passed(inode, offset, size);
	if (err == 0 && (file->flags & (O_SYNC | O_DSYNC)))
		err = fs_fsync(file, ctx, true);
	return err;
}
