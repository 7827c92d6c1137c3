/*
 * Dirty extents go to the OSTs. Sender fibers send full blocks at once; whoever needs the rest has it pushed.
 *
 * What can go wrong: ESTALE (the file was cut or replaced meanwhile: fetch the attributes, which drops what was cut,
 * and send again; where the MDT knows of nothing like that for long, it is an error), an error of the OST (kept for the
 * next flush, the bytes are lost and said so), an OST that is away (hard: senders wait in worker_ost_call(), writers wait
 * for room).
 */
#include "client/attr.h"
#include "client/ctx_wait.h"
#include "client/data/internal.h"
#include "common/bulk_sums.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SUM_TRIES 3 /* of a WRITE whose bytes arrive broken */

void object_name_init(struct object_name *name, const struct attr *attr, uint64_t seq)
{
	strake__object__init(&name->object);
	name->object.ino = attr->ino;
	name->object.gen = attr->gen;
	name->object.seq = seq;
	name->object.stripe_size = attr->layout->stripe_size;
	if (attr->cut > 0) {
		strake__cut__init(&name->cut);
		name->cut.number = attr->cut;
		name->cut.has_start = name->cut.has_end = true;
		name->cut.start = attr->cut_start;
		name->cut.end = attr->cut_end;
		name->object.cut = &name->cut;
	}
}

/* The next dirty extent to send, or NULL: full blocks, and whatever is due. */
static struct extent *data_due(struct inode_data *data, uint64_t block)
{
	bool push = data->dirty.bytes > DATA_PUSH_BYTES || data->dirty.count > DATA_PUSH_COUNT;

	for (size_t i = 0; i < data->dirty.count; i++) {
		struct extent *extent = data->dirty.items[i];

		if (!push && extent->first_stamp > data->push_stamp && !extent->resend &&
		    !(extent->length == block && extent_end(extent) % block == 0))
			continue;
		if (!extents_overlap(&data->flight, extent->offset, extent_end(extent)) &&
		    !data_is_copied_to(data, extent->offset, extent_end(extent)))
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
		     struct layout_piece piece, uint64_t *ret_instance, int64_t *ret_grown)
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
		if (err == 0) {
			const Strake__WriteReply *reply = (const Strake__WriteReply *)call.reply;

			*ret_instance = reply->instance;
			*ret_grown = reply->has_grown ? reply->grown : (extent->length + 511) / 512;
		}
		call_release(&call);
	}
	return err == -EBADMSG ? -EIO : err;
}

/*
 * Have others written since the oldest of what is held, or may they have? The MDT is asked. What it shows may be of our own
 * making before the answer that says so is here: that one is waited for.
 */
static int data_ask_shared(struct inode *inode, struct fs_ctx *ctx, bool *ret_shared)
{
	const struct inode_data *data = inode->data;
	struct attr attr;
	int err = inode_fetch_attr(inode, ctx, true, &attr);

	pthread_mutex_lock(&inode->lock);
	while (err == 0 && inode->attr.data_version != data->own_version && inode->changes_asked > 0)
		err = data_wait(inode, ctx);
	*ret_shared = data->shared || inode->attr.data_version != data->own_version;
	pthread_mutex_unlock(&inode->lock);
	return err;
}

/*
 * Bytes that the OST had answered before it became another instance, which may have lost them. Where nobody else can have
 * written since they are sent again. Else that could cover what is newer: they count as written if they are still there,
 * and as lost if they are not.
 */
static int data_send_again(struct inode *inode, struct fs_ctx *ctx, struct extent *extent, const struct attr *attr,
			   struct layout_piece piece, uint64_t *ret_instance, int64_t *ret_grown)
{
	uint8_t *there;
	bool shared;
	int err = data_ask_shared(inode, ctx, &shared);

	if (err < 0)
		return err;
	if (!shared)
		return data_send(inode, ctx, extent, attr, piece, ret_instance, ret_grown);

	there = malloc(extent->length);
	if (there == NULL)
		return -ENOMEM;
	err = data_read_piece(inode, ctx, attr, &piece, there, ret_instance);
	if (err == 0 && memcmp(there, extent_data(extent), extent->length) != 0)
		err = -EIO;
	free(there);
	return err;
}

/*
 * An OST has taken a WRITE for older than a cut that it has met: the MDT knows. Unless it has gone on from an older copy of
 * its state: then the OST would refuse it for ever.
 */
static int data_ask_cut(struct inode_data *data, struct fs_ctx *ctx, const struct attr *sent)
{
	struct inode *inode = data->inode;
	unsigned int refusals;
	struct attr attr;
	int err = inode_fetch_attr(inode, ctx, true, &attr);

	if (err < 0)
		return err;
	pthread_mutex_lock(&inode->lock);
	if (inode->attr.gen != sent->gen || inode->attr.cut != sent->cut || data->refusals > DATA_STALE_RETRIES)
		data->refusals = 0;
	else
		data->refusals++;
	refusals = data->refusals;
	pthread_mutex_unlock(&inode->lock);
	return refusals > DATA_STALE_RETRIES ? -EIO : data_stale_pause(inode, ctx, refusals);
}

/* It is on the OST: keep it until it is committed; what it covers is superseded. */
static void data_answered(struct inode_data *data, struct extent *extent, uint32_t ost, uint64_t gen, uint64_t instance)
{
	bool failed;
	uint64_t gone = extents_cut(&data->uncommitted, extent->offset, extent_end(extent), false, &failed);

	atomic_fetch_sub(&data->data_fs->held, gone);
	if (data->dirty.count + data->flight.count == 0)
		data->refusals = 0;
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

bool data_put_under(struct inode_data *data, struct extent_set *older)
{
	bool whole = true;

	while (older->count > 0) {
		struct extent *part = older->items[0];

		extents_remove(older, part);
		if (extents_insert_under(&data->dirty, part) < 0) {
			extent_free(part);
			whole = false;
		}
	}
	return whole;
}

/*
 * Bytes that were answered once and were being sent again, as `sent` was: a cut that was heard of meanwhile is newer, and
 * could not reach them on their way. What it took goes now.
 */
static void data_cut_resent(struct inode_data *data, struct extent_set *resent, const struct attr *sent,
			    bool *ret_failed)
{
	const struct attr *now = &data->inode->attr;

	if (now->gen != sent->gen) {
		extents_clear(resent);
	} else if (now->cut > sent->cut + 1) {
		extents_clear(resent);
		data_note_error(data, -EIO); /* as in data_doubt() */
	} else if (now->cut != sent->cut) {
		extents_cut(resent, now->cut_start, now->cut_end, false, ret_failed);
	}
}

/* Put a sent extent back among the dirty ones, under what is newer. */
static void data_unsend(struct inode_data *data, struct extent *extent, const struct attr *sent)
{
	uint64_t before = data->dirty.bytes, length = extent->length;
	bool resent = extent->resend, failed = false;
	struct extent_set only = { 0 };

	if (extents_insert(&only, extent) < 0) {
		extent_free(extent);
		failed = true;
	} else if (resent) {
		data_cut_resent(data, &only, sent, &failed);
	}
	if (failed)
		extents_clear(&only);
	if (!data_put_under(data, &only) || failed)
		data_note_error(data, -ENOMEM);
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
	struct extent *extent = data_due(data, extent_block(attr.layout->stripe_size));
	struct layout_piece piece;
	uint64_t instance = 0;
	int64_t grown = 0;
	int err = 0;

	if (extent == NULL)
		return false;
	piece = layout_piece_at(attr.layout, extent->offset, extent->length);
	/* It was written when the file had larger stripes: with a new gen it may have got others (LAYOUT). */
	if (piece.length < extent->length)
		err = extents_divide(&data->dirty, extent, piece.length);
	extents_remove(&data->dirty, extent);
	if (err < 0 || extents_insert(&data->flight, extent) < 0) {
		atomic_fetch_sub(&data->data_fs->held, extent->length);
		extent_free(extent);
		data_note_error(data, -ENOMEM);
		return true;
	}
	pthread_mutex_unlock(&inode->lock);

	err = (extent->resend ? data_send_again : data_send)(inode, ctx, extent, &attr, piece, &instance, &grown);

	pthread_mutex_lock(&inode->lock);
	extents_remove(&data->flight, extent);
	if (err == 0 && inode->attr.gen == attr.gen)
		data->grown += grown;
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
		data_unsend(data, extent, &attr);
		pthread_mutex_unlock(&inode->lock);
		if (err == -ESTALE)
			err = data_ask_cut(data, ctx, &attr);
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

	if (data_due(data, extent_block(inode->attr.layout->stripe_size)) == NULL)
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
