/* Where a file has bytes and where holes: fallocate and seek. */
#include "client/data/internal.h"
#include "client/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>

/* Have [start, end) read as zeros: the MDT makes a cut, the OSTs apply it. */
static int space_punch(struct file *file, struct fs_ctx *ctx, uint64_t start, uint64_t end)
{
	struct inode *inode = file->inode;
	uint64_t asked_ns = clock_ns();
	Strake__Cred cred = rpc_cred(ctx);
	Strake__PunchRequest request = STRAKE__PUNCH_REQUEST__INIT;
	struct call call = { .opcode = OP_PUNCH, .request = &request.base };
	int err = data_write_out(inode, ctx);

	if (err == 0)
		err = data_report_size(inode, ctx, false);
	if (err < 0)
		return err;
	cred.has_trusted = cred.trusted = true; /* the handle is open for writing */
	request.cred = &cred;
	request.ino = inode->ino;
	request.start = start;
	request.end = end;
	request.has_kill_suid = request.has_kill_sgid = true;
	request.kill_suid = ctx->kill_suid;
	request.kill_sgid = ctx->kill_sgid;
	inode_change_begins(inode);
	err = worker_mds_call(fs_worker(inode->fs), ctx, &call);
	if (err == 0)
		err = data_take_own_change(inode, asked_ns, (const Strake__AttrReply *)call.reply);
	inode_change_ends(inode);
	call_release(&call);
	return err;
}

/* The file ends at `end` at least. As a report, which only grows it: to set the size would cut off what others append. */
static int space_extend(struct file *file, struct fs_ctx *ctx, uint64_t end)
{
	struct inode *inode = file->inode;
	struct inode_data *data;
	struct attr attr;
	int err = data_write_out(inode, ctx);

	if (err == 0)
		err = inode_fetch_attr(inode, ctx, true, &attr);
	if (err < 0 || attr.size >= end)
		return err;
	pthread_mutex_lock(&inode->lock);
	data = data_get(inode);
	if (data != NULL) {
		if (data->dirty.count == 0 && !data->report)
			data->oldest_dirty_ns = clock_ns();
		data->stamp++;
		data->version++;
		data->last_write_ns = clock_ns();
		data->report = true;
		data->kill_suid |= ctx->kill_suid;
		data->kill_sgid |= ctx->kill_sgid;
		if (data->own_end < end)
			data->own_end = end;
		if (data->sent_end < end) /* a hole is nowhere: nothing to wait for */
			data->sent_end = end;
	}
	pthread_mutex_unlock(&inode->lock);
	if (data == NULL)
		return -ENOMEM;
	data_account(data);
	return data_report_size(inode, ctx, false);
}

int fs_fallocate(struct file *file, struct fs_ctx *ctx, int mode, uint64_t offset, uint64_t len)
{
	uint64_t end = offset + len, size;
	int err;

	if (len == 0 || offset > LAYOUT_FILE_SIZE_MAX)
		return -EINVAL;
	if (len > LAYOUT_FILE_SIZE_MAX - offset)
		return -EFBIG;
	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	switch (mode) {
	case 0:
		return space_extend(file, ctx, end);
	case FALLOC_FL_KEEP_SIZE:
		return 0;
	case FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE:
	case FALLOC_FL_ZERO_RANGE:
	case FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE:
		break;
	default:
		return -EOPNOTSUPP;
	}

	pthread_mutex_lock(&file->inode->lock);
	size = data_size(file->inode);
	pthread_mutex_unlock(&file->inode->lock);
	err = offset < size ? space_punch(file, ctx, offset, end) : 0;
	if (err == 0 && mode == FALLOC_FL_ZERO_RANGE)
		err = space_extend(file, ctx, end);
	return err;
}

/* Data or hole in one object, from offset within it: *ret_offset in the object, or -ENXIO. */
static int space_seek_object(struct worker *worker, struct fs_ctx *ctx, const struct attr *attr,
			     const struct layout_piece *piece, bool hole, uint64_t *ret_offset)
{
	Strake__SeekRequest request = STRAKE__SEEK_REQUEST__INIT;
	struct call call = { .opcode = OP_SEEK, .request = &request.base };
	struct object_name name;
	int err;

	object_name_init(&name, attr, piece->seq);
	request.object = &name.object;
	request.offset = piece->offset;
	request.hole = hole;
	err = worker_ost_call(worker, ctx, piece->ost, &call);
	if (err == 0)
		*ret_offset = ((const Strake__SeekReply *)call.reply)->offset;
	call_release(&call);
	return err;
}

int fs_seek(struct file *file, struct fs_ctx *ctx, uint64_t offset, bool hole, uint64_t *ret_offset)
{
	struct inode *inode = file->inode;
	struct attr attr;
	int err = data_write_out(inode, ctx);

	if (err == 0)
		err = inode_fetch_attr(inode, ctx, false, &attr);
	if (err < 0)
		return err;
	pthread_mutex_lock(&inode->lock);
	attr = inode->attr;
	attr.size = data_size(inode);
	pthread_mutex_unlock(&inode->lock);
	if (offset >= attr.size)
		return -ENXIO;
	if (attr.layout->ost_count == 0) {
		*ret_offset = offset;
		return hole ? 0 : -ENXIO;
	}

	while (offset < attr.size) {
		struct layout_piece piece = layout_piece_at(attr.layout, offset, attr.size - offset);
		uint64_t found = 0, base = piece.seq * attr.layout->stripe_size;

		err = space_seek_object(fs_worker(inode->fs), ctx, &attr, &piece, hole, &found);
		if (err < 0 && err != -ENXIO)
			return err;
		/* A hole at the very end of a chunk is only the end of its object when the next chunk goes on with
		 * data. */
		if (err == 0 && base + found < attr.size && found < attr.layout->stripe_size) {
			*ret_offset = base + found;
			return 0;
		}
		offset = base + attr.layout->stripe_size;
	}
	*ret_offset = attr.size;
	return hole ? 0 : -ENXIO;
}

int fs_sync(struct fs *fs, struct fs_ctx *ctx)
{
	int err = data_sync_all(fs->data, ctx), log;

	log = fs_fsync_ino(fs, ctx, fs->root);
	return err < 0 ? err : log;
}
