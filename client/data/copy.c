/*
 * Copying by the OSTs among themselves: no byte comes here.
 *
 *   what is written here to either range -> OSTs, and of the target on stable storage -> a target that has nothing lies as the
 *   source does (LAYOUT like) -> COPY, object by object -> SIZE
 *
 *   - It can be done as far as each piece of the source lies on the OST that its copy belongs to, at the same place within a
 *     stripe. Where that ends the count is short; where it does not even begin it is -EXDEV.
 *   - A COPY is on stable storage when it is answered: nothing is kept for it, and no OST's restart undoes it. Bytes of ours
 *     in the target range that could be sent again are committed before, so none comes over it.
 *   - Nobody's signal cuts a COPY short, as with WRITE: one that was given up could come after what is written later. So it runs
 *     in fibers of its own; who is killed leaves, and what is written here to the range waits for their end.
 *   - In no other session than the one in which it was begun.
 */
#include "client/data/internal.h"
#include "client/session.h"
#include "common/status.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define COPY_WIDTH 8
#define COPY_MAX   (UINT64_C(1) << 30) /* of one go */
/* A whole file below this is read and written faster than OSTs bring its copy to their disks. */
#define COPY_MIN (64u * 1024)

/* Lives until its fibers and who waits for them have gone: refs, guarded by to->lock. */
struct copy {
	struct inode *from, *to; /* a reference each */
	struct attr from_attr, to_attr;
	uint64_t from_offset, to_offset, length;
	uint64_t session;
	struct data_copy range;
	unsigned int refs;
	bool over;
	int err;

	/* Of the fibers, all on one worker: */
	uint64_t next;    /* no fiber has taken what is from here on */
	uint64_t failed;  /* from here on nothing counts */
	uint64_t reached; /* and yet something is on the OSTs up to here: the file ends behind it */
	int64_t grown;
};

bool data_is_copied_to(const struct inode_data *data, uint64_t start, uint64_t end)
{
	for (const struct data_copy *copy = data->copies; copy != NULL; copy = copy->next)
		if (copy->start < end && start < copy->end)
			return true;
	return false;
}

/* --- the fibers ----------------------------------------------------------------------------------------------------- */

static bool copy_may_go(void *arg)
{
	const struct copy *copy = arg;

	return fs_session_number(copy->to->fs->session) == copy->session;
}

static int copy_call(struct copy *copy, struct worker *worker, struct fs_ctx *ctx, const struct layout_piece *from,
		     const struct layout_piece *to, uint64_t length)
{
	Strake__CopyRequest request = STRAKE__COPY_REQUEST__INIT;
	struct call call = { .opcode = OP_COPY, .request = &request.base };
	struct object_name from_name, to_name;
	int err;

	object_name_init(&from_name, &copy->from_attr, from->seq);
	object_name_init(&to_name, &copy->to_attr, to->seq);
	request.from = &from_name.object;
	request.to = &to_name.object;
	request.from_offset = from->offset;
	request.to_offset = to->offset;
	request.length = (uint32_t)length;
	err = worker_ost_call_while(worker, ctx, to->ost, &call, copy_may_go, copy);
	if (err == 0)
		copy->grown += ((const Strake__CopyReply *)call.reply)->grown;
	call_release(&call);
	return err == -ENOSESSION ? -EIO : err;
}

static int copy_some(struct worker *worker, void *arg, unsigned int i)
{
	struct copy *copy = arg;
	struct fs_ctx ctx = { .trusted = true };

	(void)i;
	while (copy->next < copy->length && copy->next < copy->failed) {
		uint64_t at = copy->next;
		struct layout_piece from =
			layout_piece_at(copy->from_attr.layout, copy->from_offset + at, copy->length - at);
		struct layout_piece to = layout_piece_at(copy->to_attr.layout, copy->to_offset + at, from.length);
		int err;

		copy->next = at + to.length;
		err = copy_call(copy, worker, &ctx, &from, &to, to.length);
		if (err == 0 && copy->reached < at + to.length)
			copy->reached = at + to.length;
		if (err < 0 && at < copy->failed) {
			copy->failed = at;
			copy->err = err;
		}
	}
	return 0;
}

/* to->lock is held, and let go. */
static void copy_unref(struct copy *copy)
{
	struct inode *from = copy->from, *to = copy->to;
	bool last = --copy->refs == 0;

	pthread_mutex_unlock(&to->lock);
	if (!last)
		return;
	free(copy);
	inode_put(from);
	inode_put(to);
}

static void copy_ends(struct copy *copy)
{
	struct inode_data *data = copy->to->data;
	struct data_copy **link = &data->copies;
	uint64_t end = copy->to_offset + copy->reached;

	while (*link != &copy->range)
		link = &(*link)->next;
	*link = copy->range.next;
	data_touch(data, &(struct fs_ctx){ .trusted = true }); /* also of what failed something may be there */
	if (copy->to->attr.gen == copy->to_attr.gen) {
		data->grown += copy->grown;
		if (copy->reached > 0 && data->own_end < end)
			data->own_end = end;
		if (copy->reached > 0 && data->sent_end < end)
			data->sent_end = end;
	}
	copy->over = true;
	data_kick(data);
	fiber_wake_all(&copy->to->changed);
}

static void copy_fiber(struct worker *worker, void *arg)
{
	struct copy *copy = arg;
	struct inode *to = inode_ref(copy->to);

	(void)worker_parallel(worker, COPY_WIDTH, copy_some, copy);
	pthread_mutex_lock(&to->lock);
	copy_ends(copy);
	copy_unref(copy);
	data_account(to->data);
	inode_put(to);
}

/* *ret_done: so much from the beginning; with an error that of what came next. to->lock is held; let go. */
static int copy_go(struct copy *copy, struct fs_ctx *ctx, uint64_t *ret_done)
{
	struct inode *to = copy->to;
	struct inode_data *data = data_get(to);
	int err;

	*ret_done = 0;
	copy->refs = 2;
	copy->failed = UINT64_MAX;
	if (data == NULL || worker_spawn(fs_worker(to->fs), copy_fiber, copy) < 0) {
		copy->refs = 1;
		copy_unref(copy);
		return -ENOMEM;
	}
	copy->range = (struct data_copy){ .next = data->copies,
					  .start = copy->to_offset,
					  .end = copy->to_offset + copy->length };
	data->copies = &copy->range;
	data->version++; /* what is read ahead from here on may have some of it */
	for (err = 0; !copy->over && err == 0;)
		err = data_wait(to, ctx);
	if (copy->over) {
		*ret_done = copy->failed < copy->length ? copy->failed : copy->length;
		err = copy->err;
	}
	copy_unref(copy);
	return err;
}

/* --- what can be copied --------------------------------------------------------------------------------------------- */

/* How much, from the beginning, lies where its copy does. */
static uint64_t copy_extent(const struct layout *from, uint64_t from_offset, const struct layout *to,
			    uint64_t to_offset, uint64_t length)
{
	uint64_t at = 0;

	if (from->ost_count == 0 || to->ost_count == 0 || from->stripe_size != to->stripe_size ||
	    from_offset % from->stripe_size != to_offset % to->stripe_size)
		return 0;
	while (at < length) {
		struct layout_piece source = layout_piece_at(from, from_offset + at, length - at);
		struct layout_piece target = layout_piece_at(to, to_offset + at, length - at);

		if (source.ost != target.ost)
			break;
		at += source.length;
	}
	return at;
}

/* Nothing was ever written to it, as far as anybody here knows. inode->lock is held. */
static bool copy_is_unwritten(const struct inode *inode)
{
	const struct inode_data *data = inode->data;

	return inode->attr.size == 0 && inode->attr.blocks == 0 && inode->attr.cut == 0 && !inode->attr.size_unsure &&
	       (data == NULL || (data->dirty.count + data->flight.count + data->uncommitted.count == 0 &&
				 data->own_end == 0 && data->copies == NULL && !data->report));
}

/* Where the target has nothing yet, have it lie as the source. The MDT knows better, and then it stays as it is. */
static int copy_adopt(struct inode *from, struct inode *to, struct fs_ctx *ctx, uint64_t from_offset,
		      uint64_t to_offset)
{
	const struct layout *layout, *own;
	struct attr attr;
	bool unwritten;
	uint64_t row;
	int err;

	pthread_mutex_lock(&from->lock);
	layout = from->attr.layout;
	pthread_mutex_unlock(&from->lock);
	pthread_mutex_lock(&to->lock);
	own = to->attr.layout;
	unwritten = copy_is_unwritten(to);
	pthread_mutex_unlock(&to->lock);
	row = layout->stripe_size * layout->ost_count;
	if (from == to || !unwritten || row == 0 || own == layout || from_offset % row != to_offset % row)
		return 0;
	err = inode_layout_like(to, ctx, from->ino, &attr);
	return err == -EINTR || err == -ECANCELED || err == -EIO ? err : 0;
}

/* What was written here: of the source it must be on the OSTs, of the target it may not be sent again. */
static int copy_settle(struct inode *from, uint64_t from_offset, struct inode *to, uint64_t to_offset,
		       struct fs_ctx *ctx, uint64_t length)
{
	bool kept = false;
	int err = 0;

	pthread_mutex_lock(&from->lock);
	if (from->data != NULL)
		err = data_write_out_range(from, ctx, from_offset, from_offset + length);
	pthread_mutex_unlock(&from->lock);
	pthread_mutex_lock(&to->lock);
	if (to->data != NULL && err == 0) {
		err = data_write_out_range(to, ctx, to_offset, to_offset + length);
		kept = extents_overlap(&to->data->uncommitted, to_offset, to_offset + length);
	}
	pthread_mutex_unlock(&to->lock);
	return err == 0 && kept ? data_commit(to, ctx, false) : err;
}

static int copy_once(const struct file *source, uint64_t from_offset, const struct file *target, uint64_t to_offset,
		     struct fs_ctx *ctx, uint64_t length, bool fresh, uint64_t *ret_copied)
{
	struct inode *from = source->inode, *to = target->inode;
	struct attr attr;
	struct copy *copy;
	uint64_t size, session;
	int err;

	*ret_copied = 0;
	err = inode_fetch_attr(from, ctx, fresh, &attr);
	if (err == 0)
		err = inode_fetch_attr(to, ctx, fresh, &attr);
	if (err < 0)
		return err;
	pthread_mutex_lock(&from->lock);
	size = data_size(from);
	pthread_mutex_unlock(&from->lock);
	if (from_offset >= size)
		return 0;
	if (length > size - from_offset)
		length = size - from_offset;
	if (length > COPY_MAX)
		length = COPY_MAX;
	if (length < COPY_MIN && (from_offset == 0 || from_offset + length < size))
		return -EXDEV;
	err = copy_settle(from, from_offset, to, to_offset, ctx, length);
	if (err == 0)
		err = copy_adopt(from, to, ctx, from_offset, to_offset);
	if (err < 0)
		return err;
	/* It goes in this session only, and there is no new one before the locks of the old one are lost. */
	session = fs_session_number(to->fs->session);
	if (file_is_lost(source) || file_is_lost(target))
		return -EIO;

	copy = calloc(1, sizeof(*copy));
	if (copy == NULL)
		return -ENOMEM;
	copy->from = inode_ref(from);
	copy->to = inode_ref(to);
	copy->from_offset = from_offset;
	copy->to_offset = to_offset;
	copy->session = session;
	pthread_mutex_lock(&from->lock);
	copy->from_attr = from->attr;
	pthread_mutex_unlock(&from->lock);
	pthread_mutex_lock(&to->lock);
	copy->to_attr = to->attr;
	copy->length = copy_extent(copy->from_attr.layout, from_offset, copy->to_attr.layout, to_offset, length);
	if (copy->length == 0) {
		copy->refs = 1;
		copy_unref(copy);
		return -EXDEV;
	}
	return copy_go(copy, ctx, ret_copied);
}

int fs_copy(struct file *from, uint64_t from_offset, struct file *to, uint64_t to_offset, struct fs_ctx *ctx,
	    uint64_t length, uint64_t *ret_copied)
{
	struct inode *source = from->inode, *target = to->inode;
	int err;

	*ret_copied = 0;
	if ((from->flags & O_ACCMODE) == O_WRONLY || (to->flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (from_offset > LAYOUT_FILE_SIZE_MAX || to_offset > LAYOUT_FILE_SIZE_MAX)
		return -EINVAL;
	if (length > LAYOUT_FILE_SIZE_MAX - from_offset)
		length = LAYOUT_FILE_SIZE_MAX - from_offset;
	if (length > LAYOUT_FILE_SIZE_MAX - to_offset)
		length = LAYOUT_FILE_SIZE_MAX - to_offset;
	if (source == target && from_offset < to_offset + length && to_offset < from_offset + length)
		return -EINVAL;

	ctx->file = to;
	err = copy_once(from, from_offset, to, to_offset, ctx, length, false, ret_copied);
	/* One of them was cut or replaced since we last asked. */
	for (unsigned int tries = 0; err == -ESTALE && *ret_copied == 0 && tries < DATA_STALE_RETRIES; tries++)
		err = copy_once(from, from_offset, to, to_offset, ctx, length, true, ret_copied);
	ctx->file = NULL;
	if (*ret_copied == 0)
		return err;

	pthread_mutex_lock(&target->lock);
	target->data->kill_suid |= ctx->kill_suid;
	target->data->kill_sgid |= ctx->kill_sgid;
	pthread_mutex_unlock(&target->lock);
	atomic_fetch_add_explicit(&target->fs->counters.bytes_copied, *ret_copied, memory_order_relaxed);
	err = data_report_size(target, ctx, false);
	if (err == 0 && (to->flags & (O_SYNC | O_DSYNC)) != 0)
		err = fs_fsync(to, ctx, true);
	return err;
}
