/* Where a file has bytes and where holes: fallocate and seek. */
#include "client/atime.h"
#include "client/data/internal.h"
#include "client/rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#define ALLOCATE_WIDTH 8 /* objects at a time */

/* --- room ---------------------------------------------------------------------------------------------------------- */

/* Room for [start, end) of a file, as its attributes are. */
struct allocation {
	struct inode *inode;
	struct fs_ctx *ctx;
	struct attr attr;
	uint64_t start, end;
	uint64_t next; /* no fiber has taken what is from here on */
	int err;       /* of any: the others take no more */
};

/* How much of [start, end) lies on the i-th of the file's OSTs. */
static uint64_t space_on_ost(const struct layout *layout, uint32_t i, uint64_t start, uint64_t end)
{
	uint64_t row = layout->stripe_size * layout->ost_count, rows = (end - start) / row;
	uint64_t bytes = rows * layout->stripe_size;

	for (uint64_t at = start + rows * row; at < end;) {
		struct layout_piece piece = layout_piece_at(layout, at, end - at);

		if (piece.ost == layout->ost_indices[i])
			bytes += piece.length;
		at += piece.length;
	}
	return bytes;
}

static int allocate_call(struct allocation *allocation, struct worker *worker, const struct layout_piece *piece,
			 uint64_t total)
{
	Strake__AllocateRequest request = STRAKE__ALLOCATE_REQUEST__INIT;
	struct call call = { .opcode = OP_ALLOCATE, .request = &request.base };
	struct object_name name;
	int err;

	object_name_init(&name, &allocation->attr, piece->seq);
	request.object = &name.object;
	request.offset = piece->offset;
	request.length = piece->length;
	request.has_total = total > 0;
	request.total = total;
	err = worker_ost_call(worker, allocation->ctx, piece->ost, &call);
	call_release(&call);
	return err;
}

/* Can the i-th OST have what it is to have? */
static int allocate_probe(struct worker *worker, void *arg, unsigned int i)
{
	struct allocation *allocation = arg;
	const struct layout *layout = allocation->attr.layout;
	struct layout_piece piece = { .seq = i, .ost = layout->ost_indices[i] };
	uint64_t total = space_on_ost(layout, i, allocation->start, allocation->end);

	return total == 0 ? 0 : allocate_call(allocation, worker, &piece, total);
}

static int allocate_some(struct worker *worker, void *arg, unsigned int i)
{
	struct allocation *allocation = arg;

	(void)i;
	while (allocation->err == 0 && allocation->next < allocation->end) {
		struct layout_piece piece =
			layout_piece_at(allocation->attr.layout, allocation->next, allocation->end - allocation->next);
		int err;

		allocation->next += piece.length;
		err = allocate_call(allocation, worker, &piece, 0);
		if (allocation->err == 0)
			allocation->err = err;
	}
	return allocation->err;
}

/*
 * Room on the OSTs for [start, end). What cannot fit is refused by those who would have to have it before any begins; should
 * somebody else take the room meanwhile, what was allocated by then stays, as on a local disk.
 */
static int space_allocate(struct inode *inode, struct fs_ctx *ctx, uint64_t start, uint64_t end, bool probe_only)
{
	struct allocation allocation = { .inode = inode, .ctx = ctx, .start = start, .end = end };
	struct worker *worker = fs_worker(inode->fs);
	struct inode_data *data;
	int err = inode_fix_layout(inode, ctx, &allocation.attr);

	for (unsigned int tries = 0; err == 0; tries++) {
		allocation.next = start;
		allocation.err = 0;
		err = worker_parallel(worker, allocation.attr.layout->ost_count, allocate_probe, &allocation);
		if (err == 0 && !probe_only)
			err = worker_parallel(worker, ALLOCATE_WIDTH, allocate_some, &allocation);
		if (err != -ESTALE || tries >= DATA_STALE_RETRIES)
			break;
		err = inode_fetch_attr(inode, ctx, true, &allocation.attr);
	}
	if (probe_only)
		return err;

	/* Also of what did not come to its end. */
	pthread_mutex_lock(&inode->lock);
	data = data_get(inode);
	if (data != NULL) {
		data_recount(data);
		data->committed_version = 0; /* an fsync is for what we wrote and for this */
	}
	pthread_mutex_unlock(&inode->lock);
	if (data == NULL)
		return err < 0 ? err : -ENOMEM;
	data_account(data);
	return err;
}

void data_cut_away(struct inode *inode)
{
	struct inode_data *data;

	pthread_mutex_lock(&inode->lock);
	data = data_get(inode);
	if (data != NULL)
		data_recount(data);
	pthread_mutex_unlock(&inode->lock);
	if (data != NULL)
		data_account(data);
}

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
	if (err == 0)
		data_cut_away(inode);
	return err;
}

/*
 * Times have changed, and with an end the file ends there at least. As a report, which only grows it: to set the size would
 * cut off what others append.
 */
static int space_changed(struct file *file, struct fs_ctx *ctx, uint64_t end)
{
	struct inode *inode = file->inode;
	struct inode_data *data;

	pthread_mutex_lock(&inode->lock);
	if (file_is_lost(file)) { /* what is noted here is told in whatever session there is */
		pthread_mutex_unlock(&inode->lock);
		return -EIO;
	}
	data = data_get(inode);
	if (data != NULL) {
		data_touch(data, ctx);
		if (data->own_end < end && inode->attr.size < end)
			data->own_end = end;
		if (data->sent_end < end && inode->attr.size < end) /* a hole is nowhere: nothing to wait for */
			data->sent_end = end;
	}
	pthread_mutex_unlock(&inode->lock);
	if (data == NULL)
		return -ENOMEM;
	data_account(data);
	return data_report_size(inode, ctx, false);
}

static int allocate_or_punch(struct file *file, struct fs_ctx *ctx, int mode, uint64_t offset, uint64_t len)
{
	struct inode *inode = file->inode;
	uint64_t end = offset + len, size;
	bool zero = (mode & FALLOC_FL_ZERO_RANGE) != 0;
	bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
	struct attr attr;
	int err;

	if (len == 0 || offset > LAYOUT_FILE_SIZE_MAX)
		return -EINVAL;
	if (len > LAYOUT_FILE_SIZE_MAX - offset)
		return -EFBIG;
	if ((file->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	/* Nothing that moves bytes (COLLAPSE, INSERT): they would have to go to other objects and OSTs. */
	if ((mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0 || (zero && punch) ||
	    (punch && (mode & FALLOC_FL_KEEP_SIZE) == 0))
		return -EOPNOTSUPP;

	err = data_write_out(inode, ctx);
	if (err == 0)
		err = inode_fetch_attr(inode, ctx, false, &attr);
	if (err == 0 && zero)
		err = space_allocate(inode, ctx, offset, end, true); /* full or not: before bytes are gone */
	if (err < 0)
		return err;
	pthread_mutex_lock(&inode->lock);
	size = data_size(inode);
	pthread_mutex_unlock(&inode->lock);
	if ((zero || punch) && offset < size) {
		err = space_punch(file, ctx, offset, end < size ? end : size);
		if (err < 0 || punch)
			return err;
	}
	if (punch)
		return 0;
	err = space_allocate(inode, ctx, offset, end, false);
	return err < 0 ? err : space_changed(file, ctx, (mode & FALLOC_FL_KEEP_SIZE) != 0 ? 0 : end);
}

int fs_fallocate(struct file *file, struct fs_ctx *ctx, int mode, uint64_t offset, uint64_t len)
{
	int err;

	ctx->file = file;
	err = allocate_or_punch(file, ctx, mode, offset, len);
	ctx->file = NULL;
	return err;
}

/* --- data and holes ------------------------------------------------------------------------------------------------ */

/*
 * Each OST is asked for the first of its own objects that has what is sought, the nearest of all answers is it. The OST that
 * has the place where it begins is asked alone first, for that object: mostly that is the answer. An OST looks into few
 * objects at first, then into more, so that none searches far while another has it near by.
 */
#define SEEK_LIMIT_FIRST 16u
#define SEEK_LIMIT_MAX   4096u

struct seek_ost {
	uint64_t seq, offset; /* look from here on */
	bool over;            /* it has answered for good */
};

struct seeking {
	struct fs_ctx *ctx;
	struct attr attr;
	bool hole;
	uint32_t limit;
	uint64_t seq_end;
	uint64_t found; /* in the file, the nearest so far; UINT64_MAX: none */
	struct seek_ost *osts;
};

static bool seek_is_open(const struct seeking *seeking, unsigned int i)
{
	const struct seek_ost *ost = &seeking->osts[i];

	return !ost->over && ost->seq < seeking->seq_end &&
	       ost->seq * seeking->attr.layout->stripe_size + ost->offset < seeking->found;
}

static int seek_one(struct worker *worker, void *arg, unsigned int i)
{
	struct seeking *seeking = arg;
	const struct layout *layout = seeking->attr.layout;
	struct seek_ost *ost = &seeking->osts[i];
	Strake__SeekRequest request = STRAKE__SEEK_REQUEST__INIT;
	struct call call = { .opcode = OP_SEEK, .request = &request.base };
	const Strake__SeekReply *reply;
	struct object_name name;
	uint64_t at;
	int err;

	if (!seek_is_open(seeking, i))
		return 0;
	object_name_init(&name, &seeking->attr, ost->seq);
	request.object = &name.object;
	request.offset = ost->offset;
	request.hole = seeking->hole;
	request.has_stride = request.has_seq_end = request.has_limit = true;
	request.stride = layout->ost_count;
	request.seq_end = seeking->seq_end;
	request.limit = seeking->limit;
	err = worker_ost_call(worker, seeking->ctx, layout->ost_indices[i], &call);
	reply = (const Strake__SeekReply *)call.reply;
	if (err == 0 && reply->more && reply->seq > ost->seq) {
		*ost = (struct seek_ost){ .seq = reply->seq };
	} else if (err == 0 || err == -ENXIO) {
		ost->over = true;
		at = err == 0 ? reply->seq * layout->stripe_size + reply->offset : UINT64_MAX;
		if (at < seeking->found)
			seeking->found = at;
		err = 0;
	}
	call_release(&call);
	return err;
}

/* The nearest from offset on, below attr.size; UINT64_MAX: there is none. The layout is fixed. */
static int seek_osts(struct worker *worker, struct seeking *seeking, uint64_t offset)
{
	const struct layout *layout = seeking->attr.layout;
	uint64_t first = offset / layout->stripe_size;
	unsigned int count = layout->ost_count, begin = (unsigned int)(first % count);
	bool open = true;
	int err;

	seeking->found = UINT64_MAX;
	seeking->seq_end = layout_chunk_count(layout, seeking->attr.size);
	for (unsigned int i = 0; i < count; i++)
		seeking->osts[(begin + i) % count] =
			(struct seek_ost){ .seq = first + i, .offset = i == 0 ? offset % layout->stripe_size : 0 };
	seeking->limit = 1;
	err = seek_one(worker, seeking, begin);
	for (seeking->limit = SEEK_LIMIT_FIRST; err == 0 && open;) {
		err = worker_parallel(worker, count, seek_one, seeking);
		open = false;
		for (unsigned int i = 0; i < count; i++)
			open |= seek_is_open(seeking, i);
		if (seeking->limit < SEEK_LIMIT_MAX)
			seeking->limit *= 4;
	}
	return err;
}

static int seek_once(struct inode *inode, struct fs_ctx *ctx, uint64_t offset, bool hole, bool fresh,
		     uint64_t *ret_offset)
{
	struct seeking seeking = { .ctx = ctx, .hole = hole };
	int err = data_write_out(inode, ctx);

	if (err == 0)
		err = inode_fetch_attr(inode, ctx, fresh, &seeking.attr);
	if (err < 0)
		return err;
	pthread_mutex_lock(&inode->lock);
	seeking.attr = inode->attr;
	seeking.attr.size = data_size(inode);
	pthread_mutex_unlock(&inode->lock);
	if (offset >= seeking.attr.size)
		return -ENXIO;
	seeking.found = hole ? offset : UINT64_MAX;
	if (seeking.attr.layout->ost_count > 0) {
		seeking.osts = calloc(seeking.attr.layout->ost_count, sizeof(*seeking.osts));
		if (seeking.osts == NULL)
			return -ENOMEM;
		err = seek_osts(fs_worker(inode->fs), &seeking, offset);
		free(seeking.osts);
		if (err < 0)
			return err;
	}
	if (seeking.found >= seeking.attr.size && !hole)
		return -ENXIO;
	*ret_offset = seeking.found < seeking.attr.size ? seeking.found : seeking.attr.size;
	return 0;
}

int fs_seek(struct file *file, struct fs_ctx *ctx, uint64_t offset, bool hole, uint64_t *ret_offset)
{
	int err = seek_once(file->inode, ctx, offset, hole, false, ret_offset);

	/* Somebody has replaced the content since we last asked for the attributes. */
	for (unsigned int tries = 0; err == -ESTALE && tries < DATA_STALE_RETRIES; tries++)
		err = seek_once(file->inode, ctx, offset, hole, true, ret_offset);
	return err;
}

int fs_sync(struct fs *fs, struct fs_ctx *ctx)
{
	int err = data_sync_all(fs->data, ctx), log;

	atimes_tell(fs->atimes, ctx, 0);
	log = fs_fsync_ino(fs, ctx, fs->root);
	err = err < 0 ? err : log;
	return err < 0 ? err : data_fs_take_error(fs->data);
}
