/*
 * Write-behind. Happy path: fs_write() copies into dirty extents and returns; full blocks are sent at once by sender
 * fibers; flush sends the rest and reports the size.
 *
 * What can go wrong: ESTALE (the file was cut or replaced meanwhile: fetch the attributes, which drops what was cut,
 * and send again), an error of the OST (kept for the next flush, the bytes are lost and said so), an OST that is away
 * (hard: senders wait in worker_ost_call(), writers wait for room).
 */
#include "client/attr.h"
#include "client/ctx_wait.h"
#include "client/data_internal.h"
#include "common/bulk_sums.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define ADOPT_MIN      (64u * 1024) /* below this a copy is cheaper than keeping a whole buffer */
#define SUM_TRIES      3            /* of a WRITE whose bytes arrive broken */
#define STALE_FIRST_MS 2            /* pauses after a report's second ESTALE: */
#define STALE_MAX_MS   100

void object_name_init(struct object_name *name, const struct attr *attr, uint64_t seq)
{
	strake__object__init(&name->object);
	name->object.ino = attr->ino;
	name->object.gen = attr->gen;
	name->object.seq = seq;
	name->object.stripe_size = attr->layout.stripe_size;
	if (attr->cut > 0) {
		strake__cut__init(&name->cut);
		name->cut.number = attr->cut;
		name->cut.has_start = name->cut.has_end = true;
		name->cut.start = attr->cut_start;
		name->cut.end = attr->cut_end;
		name->object.cut = &name->cut;
	}
}

uint64_t data_size(const struct inode *inode)
{
	uint64_t own = inode->data == NULL ? 0 : inode->data->own_end;

	return own > inode->attr.size ? own : inode->attr.size;
}

bool data_unreported(const struct inode *inode)
{
	return inode->data != NULL && inode->data->report;
}

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

/* --- to the OSTs ------------------------------------------------------------------------------------------------- */

/* The next dirty extent to send, or NULL: full blocks, and whatever is due. */
static struct extent *data_due(struct inode_data *data, uint64_t block)
{
	bool push = data->dirty.bytes > DATA_PUSH_BYTES || data->dirty.count > DATA_PUSH_COUNT;

	for (size_t i = 0; i < data->dirty.count; i++) {
		struct extent *extent = data->dirty.items[i];

		if (!push && extent->first_stamp > data->push_stamp && !extent->resend &&
		    !(extent->length == block && extent_end(extent) % block == 0))
			continue;
		if (!extents_overlap(&data->flight, extent->offset, extent_end(extent)))
			return extent;
	}
	return NULL;
}

struct sending {
	struct inode *inode;
	const struct extent *extent;
};

/* No session that comes after the one in which the bytes were written may bring them. */
static bool data_may_go(void *arg)
{
	const struct sending *sending = arg;
	bool may;

	pthread_mutex_lock(&sending->inode->lock);
	may = !sending->extent->given_up;
	pthread_mutex_unlock(&sending->inode->lock);
	return may;
}

/* WRITE one extent as the attributes are now. *ret_instance is of the OST that has it. */
static int data_send(struct inode *inode, struct fs_ctx *ctx, struct extent *extent, const struct attr *attr,
		     struct layout_piece piece, uint64_t *ret_instance)
{
	struct sending sending = { .inode = inode, .extent = extent };
	Strake__WriteRequest request = STRAKE__WRITE_REQUEST__INIT;
	struct iovec iov = { .iov_base = extent_data(extent), .iov_len = extent->length };
	uint32_t sums[EXTENT_BLOCK / BULK_PIECE + 2];
	struct object_name name;
	int err = -EBADMSG;

	object_name_init(&name, attr, piece.seq);
	request.object = &name.object;
	request.offset = piece.offset;
	request.n_sums = bulk_sums_count(piece.offset, extent->length);
	request.sums = sums;
	assert(request.n_sums <= sizeof(sums) / sizeof(*sums));
	bulk_sums_make(piece.offset, &iov, 1, sums);

	for (unsigned int tries = 0; err == -EBADMSG && tries < SUM_TRIES; tries++) {
		struct call call = {
			.opcode = OP_WRITE, .request = &request.base, .bulk_out = &iov, .bulk_out_count = 1
		};

		err = worker_ost_call_while(fs_worker(inode->fs), ctx, piece.ost, &call, data_may_go, &sending);
		if (err == 0)
			*ret_instance = ((const Strake__WriteReply *)call.reply)->instance;
		call_release(&call);
	}
	return err == -EBADMSG ? -EIO : err;
}

/* It is on the OST: keep it until it is committed; what it covers is superseded. */
static void data_answered(struct inode_data *data, struct extent *extent, uint32_t ost, uint64_t gen, uint64_t instance)
{
	bool failed;
	uint64_t gone = extents_cut(&data->uncommitted, extent->offset, extent_end(extent), false, &failed);

	atomic_fetch_sub(&data->data_fs->held, gone);
	if (data->sent_end < extent_end(extent))
		data->sent_end = extent_end(extent);
	extent->ost = ost;
	extent->gen = gen;
	extent->instance = instance;
	extent->resend = true;
	extent->answered = atomic_fetch_add(&data->data_fs->answered, 1) + 1;
	if (data->uncommitted.count == 0)
		data->oldest_answer_ns = clock_ns();
	if (failed || extents_insert(&data->uncommitted, extent) < 0) {
		/* No memory to remember it by: only a commit now could make it safe, and that is what the error asks
		 * for. */
		atomic_fetch_sub(&data->data_fs->held, extent->length);
		extent_free(extent);
		data_note_error(data, -ENOMEM);
	}
}

/* Put a sent extent back among the dirty ones, under what is newer. */
static void data_unsend(struct inode_data *data, struct extent *extent)
{
	uint64_t before = data->dirty.bytes, length = extent->length;

	if (extents_insert_under(&data->dirty, extent) < 0) {
		extent_free(extent);
		data_note_error(data, -ENOMEM);
	}
	atomic_fetch_sub(&data->data_fs->held, before + length - data->dirty.bytes);
}

/*
 * Send one extent that is due. False when there is none. inode->lock is held; let go meanwhile. Nobody's signal cuts a
 * WRITE short: one that was given up may still arrive, after newer bytes for the same place.
 */
static bool data_send_next(struct inode_data *data)
{
	struct fs_ctx own = { .trusted = true }, *ctx = &own;
	struct inode *inode = data->inode;
	struct attr attr = inode->attr;
	struct extent *extent = data_due(data, extent_block(attr.layout.stripe_size));
	struct layout_piece piece;
	uint64_t instance = 0;
	int err;

	if (extent == NULL)
		return false;
	piece = layout_piece_at(&attr.layout, extent->offset, extent->length);
	assert(piece.length == extent->length);
	extents_remove(&data->dirty, extent);
	if (extents_insert(&data->flight, extent) < 0) {
		atomic_fetch_sub(&data->data_fs->held, extent->length);
		extent_free(extent);
		data_note_error(data, -ENOMEM);
		return true;
	}
	pthread_mutex_unlock(&inode->lock);

	err = data_send(inode, ctx, extent, &attr, piece, &instance);

	pthread_mutex_lock(&inode->lock);
	extents_remove(&data->flight, extent);
	if (extent->given_up) {
		/* Its loss was told already; a late answer does not undo that. */
		atomic_fetch_sub(&data->data_fs->held, extent->length);
		extent_free(extent);
	} else if (err == 0 && inode->attr.gen == attr.gen && inode->attr.cut == attr.cut) {
		data_answered(data, extent, piece.ost, attr.gen, instance);
		data_resend(data, piece.ost, instance);
	} else if (err == 0 && inode->attr.gen != attr.gen) {
		/* Replaced while it was on its way: it counts as written before. */
		atomic_fetch_sub(&data->data_fs->held, extent->length);
		extent_free(extent);
	} else if (err == 0 || err == -ESTALE || err == -ECANCELED) {
		/* A cut came between: this OST may not have met it yet, so send again with it. */
		data_unsend(data, extent);
		pthread_mutex_unlock(&inode->lock);
		if (err == -ESTALE)
			err = inode_fetch_attr(inode, ctx, true, &attr);
		pthread_mutex_lock(&inode->lock);
		if (err < 0 && err != -ECANCELED) {
			/* The file itself is gone or out of reach: so are the bytes that wait for it. */
			data_lose(data, data->dirty.bytes, err);
			extents_clear(&data->dirty);
		}
	} else {
		data_lose(data, extent->length, err);
		extent_free(extent);
	}
	fiber_wake_all(&inode->changed);
	return true;
}

static void sender(struct worker *worker, void *arg)
{
	struct inode *inode = arg;
	struct inode_data *data = inode->data;

	pthread_mutex_lock(&inode->lock);
	while (!worker->stopping && data_send_next(data)) {
	}
	data->senders--;
	fiber_wake_all(&inode->changed);
	pthread_mutex_unlock(&inode->lock);
	data_account(data);
	inode_put(inode);
}

void data_kick(struct inode_data *data)
{
	struct inode *inode = data->inode;
	size_t wanted = data->dirty.count < DATA_SENDERS_MAX ? data->dirty.count : DATA_SENDERS_MAX;

	if (data_due(data, extent_block(inode->attr.layout.stripe_size)) == NULL)
		return;
	while (data->senders < wanted) {
		inode_ref(inode);
		if (worker_spawn(fs_worker(inode->fs), sender, inode) < 0) {
			inode_put(inode); /* not the last: the caller has one */
			break;
		}
		data->senders++;
		if (data->senders * EXTENT_BLOCK >= data->dirty.bytes)
			break;
	}
}

/* Is there something in the range that was first written at that stamp or before? */
static bool extents_wait(const struct extent_set *set, uint64_t start, uint64_t end, uint64_t until)
{
	for (size_t i = extents_find(set, start); i < set->count && set->items[i]->offset < end; i++)
		if (set->items[i]->first_stamp <= until)
			return true;
	return false;
}

int data_write_out_range(struct inode *inode, struct fs_ctx *ctx, uint64_t start, uint64_t end)
{
	struct inode_data *data = inode->data;
	uint64_t until = data->stamp;
	int err = 0;

	while (err == 0 &&
	       (extents_wait(&data->flight, start, end, until) || extents_wait(&data->dirty, start, end, until))) {
		if (data->push_stamp < until)
			data->push_stamp = until;
		data_kick(data);
		/* Without memory for another fiber we send on our own. */
		if (data->senders > 0 || !data_send_next(data))
			err = data_wait(inode, ctx);
		else
			err = ctx_wait_check(fs_worker(inode->fs), ctx);
	}
	return err;
}

int data_write_out(struct inode *inode, struct fs_ctx *ctx)
{
	int err = 0;

	pthread_mutex_lock(&inode->lock);
	if (inode->data != NULL)
		err = data_write_out_range(inode, ctx, 0, UINT64_MAX);
	pthread_mutex_unlock(&inode->lock);
	if (inode->data != NULL)
		data_account(inode->data);
	return err;
}

/* --- the calls --------------------------------------------------------------------------------------------------- */

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
	return 0;
}

/* The layout is fixed by a file's first write. */
static int data_fix_layout(struct inode *inode, struct fs_ctx *ctx)
{
	struct attr attr;
	bool fixed;

	pthread_mutex_lock(&inode->lock);
	fixed = inode->attr_valid && inode->attr.layout.ost_count > 0;
	pthread_mutex_unlock(&inode->lock);
	return fixed ? 0 : inode_fix_layout(inode, ctx, &attr);
}

/* One write into the dirty extents. Consumes the owner. inode->lock is held. */
static int data_accept(struct inode_data *data, uint64_t offset, const uint8_t *bytes, size_t size, struct bulk *owner)
{
	uint64_t block = extent_block(data->inode->attr.layout.stripe_size), before = data->dirty.bytes;
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

int fs_write(struct file *file, struct fs_ctx *ctx, uint64_t offset, const void *data, size_t size, struct bulk *owner)
{
	struct inode *inode = file->inode;
	struct inode_data *path;
	uint32_t errors;
	bool was_clean;
	int err = 0;

	if (size == 0 || offset > LAYOUT_FILE_SIZE_MAX || size > LAYOUT_FILE_SIZE_MAX - offset)
		err = size == 0 ? 0 : -EFBIG;
	else if ((err = data_fix_layout(inode, ctx)) == 0)
		err = data_reserve(inode, ctx, size);
	if (err < 0 || size == 0) {
		if (owner != NULL)
			owner->release(owner);
		return err;
	}

	pthread_mutex_lock(&inode->lock);
	path = data_get(inode);
	if (path == NULL) {
		pthread_mutex_unlock(&inode->lock);
		atomic_fetch_sub(&inode->fs->data->held, size);
		if (owner != NULL)
			owner->release(owner);
		return -ENOMEM;
	}
	while (path->dirty.bytes > DATA_DIRTY_MAX && err == 0) {
		data_kick(path);
		err = data_wait(inode, ctx);
	}
	if (err < 0) {
		pthread_mutex_unlock(&inode->lock);
		atomic_fetch_sub(&path->data_fs->held, size);
		if (owner != NULL)
			owner->release(owner);
		return err;
	}
	was_clean = path->dirty.count == 0 && !path->report;
	path->stamp++;
	path->version++;
	err = data_accept(path, offset, data, size, owner);
	if (was_clean)
		path->oldest_dirty_ns = clock_ns();
	path->last_write_ns = clock_ns();
	path->report = true;
	path->kill_suid |= ctx->kill_suid;
	path->own_bytes += size;
	if (path->own_end < offset + size)
		path->own_end = offset + size;
	errors = path->error_count;
	data_kick(path);
	if (err == 0 && (file->flags & (O_DIRECT | O_SYNC | O_DSYNC))) {
		err = data_write_out_range(inode, ctx, offset, offset + size);
		/* Perhaps another's: one error too many rather than one too few. */
		if (err == 0 && path->error_count != errors)
			err = path->error;
	}
	pthread_mutex_unlock(&inode->lock);
	if (was_clean)
		data_account(path);
	if (err == 0 && (file->flags & (O_SYNC | O_DSYNC)))
		err = fs_fsync(file, ctx, true);
	return err;
}

int data_take_own_change(struct inode *inode, uint64_t asked_ns, const Strake__AttrReply *reply)
{
	struct attr attr;
	int err = attr_from_wire(reply->attr, &attr);

	if (err == 0) {
		pthread_mutex_lock(&inode->lock);
		inode_note_own_change(inode, reply->data_version_before, &attr, asked_ns);
		pthread_mutex_unlock(&inode->lock);
	}
	return err;
}

/* Whoever truncates again and again, or an MDT that has lost what we know, must not use up all tries at once. */
static int report_pause(struct inode *inode, struct fs_ctx *ctx, unsigned int tries)
{
	unsigned int ms = tries > 6 ? STALE_MAX_MS : (unsigned int)STALE_FIRST_MS << tries;

	return tries == 0 ? 0 : ctx_wait_ms(fs_worker(inode->fs), ctx, ms < STALE_MAX_MS ? ms : STALE_MAX_MS);
}

int data_report_size(struct inode *inode, struct fs_ctx *ctx, bool stable)
{
	struct inode_data *data = inode->data;
	int err = 0;

	if (data == NULL)
		return 0;
	pthread_mutex_lock(&inode->lock);
	for (unsigned int tries = 0; data->report && err == 0; tries++) {
		bool all_sent = data->dirty.count + data->flight.count == 0;
		Strake__SizeRequest request = STRAKE__SIZE_REQUEST__INIT;
		uint64_t stamp = data->stamp, bytes = data->own_bytes, asked_ns = clock_ns(), full;
		bool reported = false;
		struct call call = { .opcode = OP_SIZE, .request = &request.base, .flags = stable ? FRAME_SYNC : 0 };

		if (data->reporting) {
			err = data_wait(inode, ctx);
			continue;
		}
		request.ino = inode->ino;
		request.gen = inode->attr.gen;
		request.cut = inode->attr.cut;
		request.end = data->sent_end;
		full = (data_size(inode) + 511) / 512;
		request.blocks = inode->attr.blocks + (bytes + 511) / 512;
		if (request.blocks > full)
			request.blocks = full;
		request.age_ns = clock_ns() - data->last_write_ns;
		request.has_wrote = request.wrote = true;
		request.has_kill_suid = request.kill_suid = data->kill_suid;
		data->reporting = true;
		pthread_mutex_unlock(&inode->lock);

		err = worker_mds_call(fs_worker(inode->fs), ctx, &call);
		if (err == 0) {
			err = data_take_own_change(inode, asked_ns, (const Strake__AttrReply *)call.reply);
			reported = err == 0;
		} else if (err == -ESTALE && tries < DATA_STALE_RETRIES) {
			struct attr attr;

			err = report_pause(inode, ctx, tries);
			if (err == 0)
				err = inode_fetch_attr(inode, ctx, true, &attr);
		}
		pthread_mutex_lock(&inode->lock);
		data->reporting = false;
		if (reported && all_sent && data->stamp == stamp) {
			data->report = false;
			data->own_bytes = 0;
			data->kill_suid = false;
		}
		call_release(&call);
		if (err < 0 && err != -EINTR && err != -ECANCELED) {
			data->report = false;
			data_note_error(data, err);
		}
		fiber_wake_all(&inode->changed);
		if (reported)
			break; /* newer writes, and what is not on the OSTs yet, are the next report's business */
	}
	pthread_mutex_unlock(&inode->lock);
	data_account(data);
	return err;
}

/* An error since the handle last looked, once. */
static int file_take_error(struct file *file)
{
	struct inode *inode = file->inode;
	int err = 0;

	pthread_mutex_lock(&inode->lock);
	if (inode->data != NULL && inode->data->error_count != file->error_mark) {
		file->error_mark = inode->data->error_count;
		err = inode->data->error;
	}
	pthread_mutex_unlock(&inode->lock);
	return err;
}

int fs_flush(struct file *file, struct fs_ctx *ctx)
{
	int err = data_write_out(file->inode, ctx), late;

	if (err == 0)
		err = data_report_size(file->inode, ctx, false);
	late = file_take_error(file);
	return late < 0 ? late : err;
}

int fs_fsync(struct file *file, struct fs_ctx *ctx, bool data_only)
{
	struct inode *inode = file->inode;
	int err = data_write_out(inode, ctx), late;

	(void)data_only; /* the size is part of the data; times travel with it */
	if (err == 0)
		err = data_commit(inode, ctx);
	if (err == 0)
		err = data_report_size(inode, ctx, true);
	if (err == 0)
		err = fs_fsync_ino(inode->fs, ctx, inode->ino);
	late = file_take_error(file);
	return late < 0 ? late : err;
}

int fs_fsync_ino(struct fs *fs, struct fs_ctx *ctx, uint64_t ino)
{
	Strake__SyncRequest request = STRAKE__SYNC_REQUEST__INIT;
	struct call call = { .opcode = OP_SYNC, .request = &request.base };
	int err;

	(void)ino; /* the log is one */
	err = worker_mds_call(fs_worker(fs), ctx, &call);
	call_release(&call);
	return err;
}

/*
 * There were cuts that we did not hear of, so what was answered before them may have been cut away: it is kept for its
 * commit, but never sent again. Returns the bytes dropped.
 */
static uint64_t data_doubt(struct inode_data *data)
{
	bool failed;
	uint64_t gone = extents_cut(&data->dirty, 0, UINT64_MAX, true, &failed);

	if (gone > 0)
		data_note_error(data, -EIO);
	for (size_t i = 0; i < data->uncommitted.count; i++)
		data->uncommitted.items[i]->doubtful = true;
	return gone;
}

static uint64_t data_flight_end(const struct inode_data *data)
{
	for (size_t i = data->flight.count; i > 0; i--)
		if (!data->flight.items[i - 1]->given_up)
			return extent_end(data->flight.items[i - 1]);
	return 0;
}

void data_attr_changed(struct inode *inode, const struct attr *before, const struct attr *now)
{
	struct inode_data *data = inode->data;
	bool failed, replaced = before->gen != now->gen;
	uint64_t gone = 0;

	if (data == NULL || attr_same_content(before, now))
		return;
	data->version++;
	if (!replaced && before->cut == now->cut)
		return;

	/* What was answered is older than the cut; what was not may be taken as newer. */
	if (replaced) {
		gone += data->uncommitted.bytes;
		extents_clear(&data->uncommitted);
		gone += extents_cut(&data->dirty, 0, UINT64_MAX, true, &failed);
	} else {
		gone += extents_cut(&data->uncommitted, now->cut_start, now->cut_end, false, &failed);
		gone += extents_cut(&data->dirty, now->cut_start, now->cut_end, true, &failed);
		if (now->cut > before->cut + 1)
			gone += data_doubt(data);
	}
	atomic_fetch_sub(&data->data_fs->held, gone);
	/* Of what was not reported yet the MDT does not know the end: it stays, but for what was truncated away. */
	if (replaced || !data->report)
		data->own_end = 0;
	else if (now->cut_end == UINT64_MAX && data->own_end > now->cut_start)
		data->own_end = now->cut_start;
	if (replaced || !data->report)
		data->sent_end = 0;
	else if (now->cut_end == UINT64_MAX && data->sent_end > now->cut_start)
		data->sent_end = now->cut_start;
	if (data->own_end < extents_end(&data->dirty))
		data->own_end = extents_end(&data->dirty);
	if (data->own_end < data_flight_end(data))
		data->own_end = data_flight_end(data);
	fiber_wake_all(&inode->changed);
}
