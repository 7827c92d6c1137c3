/*
 * Reading: from the OSTs into a buffer, or from what read-ahead has brought. Bytes written here and not yet on the OSTs
 * are sent first, so that there is one place to read from.
 */
#include "client/atime.h"
#include "client/data/ahead.h"
#include "client/data/internal.h"
#include "common/bulk_sums.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define BAD_SUM_RETRIES 3

struct fetch {
	struct inode *inode;
	struct fs_ctx *ctx;
	struct attr attr;
	uint64_t offset;
	size_t length;
	uint8_t *buffer;
};

/* One READ into buffer; the rest of the piece is zeros. */
static int read_call(struct inode *inode, struct fs_ctx *ctx, const struct attr *attr, const struct layout_piece *piece,
		     uint8_t *buffer, uint64_t *ret_instance)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	struct call call = {
		.opcode = OP_READ, .request = &request.base, .bulk_in = buffer, .bulk_in_size = piece->length
	};
	struct object_name name;
	int err;

	object_name_init(&name, attr, piece->seq);
	request.object = &name.object;
	request.offset = piece->offset;
	request.length = piece->length;
	request.has_no_sums = request.no_sums = inode->fs->config.no_sums;
	err = worker_ost_call(fs_worker(inode->fs), ctx, piece->ost, &call);
	if (err == 0) {
		const Strake__ReadReply *reply = (const Strake__ReadReply *)call.reply;

		*ret_instance = reply->instance;
		if (!request.no_sums)
			err = bulk_sums_check(piece->offset, buffer, call.bulk_in_len, reply->sums, reply->n_sums,
					      NULL);
		memset(buffer + call.bulk_in_len, 0, piece->length - call.bulk_in_len);
	}
	call_release(&call);
	return err == -EINVAL ? -EIO : err;
}

int data_read_piece(struct inode *inode, struct fs_ctx *ctx, const struct attr *attr, const struct layout_piece *piece,
		    uint8_t *buffer, uint64_t *ret_instance)
{
	int err = -EBADMSG;

	for (unsigned int tries = 0; err == -EBADMSG && tries < BAD_SUM_RETRIES; tries++)
		err = read_call(inode, ctx, attr, piece, buffer, ret_instance);
	return err == -EBADMSG ? -EIO : err;
}

static int fetch_piece(struct fetch *fetch, const struct layout_piece *piece)
{
	struct inode *inode = fetch->inode;
	uint64_t instance = 0;
	int err = data_read_piece(inode, fetch->ctx, &fetch->attr, piece,
				  fetch->buffer + (piece->file_offset - fetch->offset), &instance);

	if (err == 0) {
		/* Writes of ours that another instance answered may not be in what came. */
		pthread_mutex_lock(&inode->lock);
		if (inode->data != NULL)
			data_resend(inode->data, piece->ost, instance);
		pthread_mutex_unlock(&inode->lock);
	}
	return err;
}

static int fetch_nth(struct worker *worker, void *arg, unsigned int n)
{
	struct fetch *fetch = arg;
	uint64_t offset = fetch->offset, end = offset + fetch->length;
	struct layout_piece piece = layout_piece_at(fetch->attr.layout, offset, end - offset);

	while (n-- > 0) {
		offset += piece.length;
		piece = layout_piece_at(fetch->attr.layout, offset, end - offset);
	}
	(void)worker;
	return fetch_piece(fetch, &piece);
}

/* Grows when an OST may have lost writes of ours: then what was read of it meanwhile may lack them. */
static uint64_t data_resends(const struct inode *inode)
{
	return inode->data == NULL ? 0 : inode->data->resends;
}

int data_fetch(struct inode *inode, struct fs_ctx *ctx, uint64_t offset, size_t length, uint8_t *buffer)
{
	struct fetch fetch = { .inode = inode, .ctx = ctx, .offset = offset, .length = length, .buffer = buffer };
	uint64_t resends;
	bool changed;
	int err;

	do {
		unsigned int count = 1;

		pthread_mutex_lock(&inode->lock);
		err = inode->data == NULL ? 0 : data_write_out_range(inode, ctx, offset, offset + length);
		fetch.attr = inode->attr;
		resends = data_resends(inode);
		pthread_mutex_unlock(&inode->lock);
		if (err < 0)
			return err;
		if (fetch.attr.layout->ost_count == 0) { /* never written: a hole */
			memset(buffer, 0, length);
			return 0;
		}
		for (uint64_t at = offset; at < offset + length; count++) {
			struct layout_piece piece = layout_piece_at(fetch.attr.layout, at, offset + length - at);

			at += piece.length;
			if (at == offset + length)
				break;
		}
		err = worker_parallel(fs_worker(inode->fs), count, fetch_nth, &fetch);
		pthread_mutex_lock(&inode->lock);
		changed = data_resends(inode) != resends;
		pthread_mutex_unlock(&inode->lock);
	} while (err == 0 && changed);
	return err;
}

/* How much of [offset, offset+size) there is; asks the MDT where what is known is old and says less. */
static int read_clamp(struct inode *inode, struct fs_ctx *ctx, uint64_t offset, size_t *size)
{
	uint64_t end;
	struct attr attr;
	int err;

	pthread_mutex_lock(&inode->lock);
	end = data_size(inode);
	pthread_mutex_unlock(&inode->lock);
	if (offset + *size > end) {
		err = inode_fetch_attr(inode, ctx, false, &attr);
		if (err < 0)
			return err;
		pthread_mutex_lock(&inode->lock);
		end = data_size(inode);
		pthread_mutex_unlock(&inode->lock);
	}
	if (offset >= end)
		*size = 0;
	else if (*size > end - offset)
		*size = (size_t)(end - offset);
	return 0;
}

static int read_once(struct file *file, struct fs_ctx *ctx, uint64_t offset, size_t size, void *buffer,
		     struct read_result *ret_result)
{
	struct inode *inode = file->inode;
	int err;

	*ret_result = (struct read_result){ 0 };
	err = read_clamp(inode, ctx, offset, &size);
	if (err < 0 || size == 0)
		return err;

	if (!(file->flags & O_DIRECT)) {
		err = ahead_read(file, ctx, offset, size, ret_result);
		if (err != -EAGAIN)
			return err;
	}
	err = data_fetch(inode, ctx, offset, size, buffer);
	if (err < 0)
		return err;
	ret_result->iov[0] = (struct iovec){ .iov_base = buffer, .iov_len = size };
	ret_result->iov_count = 1;
	ret_result->len = size;
	return 0;
}

int fs_read(struct file *file, struct fs_ctx *ctx, uint64_t offset, size_t size, void *buffer,
	    struct read_result *ret_result)
{
	struct attr attr;
	int err;

	*ret_result = (struct read_result){ 0 };
	if (atomic_load(&file->lost))
		return -EIO;
	if (offset > LAYOUT_FILE_SIZE_MAX)
		return 0;
	if (size > LAYOUT_FILE_SIZE_MAX - offset)
		size = (size_t)(LAYOUT_FILE_SIZE_MAX - offset);
	if (ctx->paged)
		inode_pages_used(file->inode); /* before it is known what they will hold */
	err = read_once(file, ctx, offset, size, buffer, ret_result);
	/* Somebody has replaced the content since we last asked for the attributes. */
	for (unsigned int tries = 0; err == -ESTALE && tries < DATA_STALE_RETRIES; tries++) {
		err = inode_fetch_attr(file->inode, ctx, true, &attr);
		if (err < 0)
			break;
		err = read_once(file, ctx, offset, size, buffer, ret_result);
	}
	if (err == 0)
		atomic_fetch_add_explicit(&file->fs->counters.bytes_read, ret_result->len, memory_order_relaxed);
	if (err == 0 && !(file->flags & O_NOATIME))
		atime_note(file->inode);
	return err;
}

void read_release(struct read_result *result)
{
	ahead_release(result);
}
