/*
 * WRITE: bytes into an object, once, by a session that may.
 *
 *   sums right? -> session alive? -> slot: new, running or answered? -> file: destroyed, cut? -> in turn at the object ->
 *   session still alive? -> disk -> the reply, kept in the slot
 *
 *   - What the peer sent is in the buffer that goes to the disk; it belongs to us, not to the request: the request may be
 *     replaced by its own resend while we work.
 *   - From the last look at the session until the disk is done, a write is on the list that SESSIONS waits for, and from
 *     then until it is committed in the ledger.
 *   - A cut that came with it, or just before it, is in the index first: one that a kill takes from there is made once more,
 *     and would take these bytes, which nobody sends again while the instance stays.
 *   - The reply's instance is that from before the write: should a sync fail meanwhile, the client sends it again.
 */
#include "common/bulk_sums.h"
#include "oss/operations.h"
#include "oss/ost_object.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* All that is needed of the request. */
struct writing {
	struct ost *ost;
	struct ost_slot slot;
	uint64_t ino, gen, object_seq, stripe_size;
	Strake__Cut cut;
	bool has_cut, sync;
	uint64_t offset;
	size_t length;
	struct bulk *bulk;
	uint32_t sums[LEDGER_SUMS_MAX];
	uint64_t instance;
	int64_t grown;
};

/* --- the disk ---------------------------------------------------------------------------------------------------------- */

static bool wants_direct(const struct ost *ost, const struct writing *writing)
{
	if (ost->config.direct == OST_DIRECT_NO || ost->direct_refused)
		return false;
	if (writing->offset % OST_DIRECT_ALIGN != 0 || writing->length % OST_DIRECT_ALIGN != 0)
		return false;

	return writing->length >= (ost->config.direct == OST_DIRECT_YES ? OST_DIRECT_MIN : OST_DIRECT_AUTO_MIN);
}

static uint64_t note(const struct writing *writing)
{
	const struct ledger_write write = {
		.ino = writing->ino,
		.gen = writing->gen,
		.seq = writing->object_seq,
		.offset = writing->offset,
		.length = writing->length,
		.sums = writing->sums,
	};

	return ledger_note_write(writing->ost->ledger, &write);
}

static int store(const struct writing *writing, struct ost_object *object)
{
	const uint8_t *data = writing->bulk->data;
	size_t done = 0;
	int err = 0;

	if (object->opening)
		err = object_make(object, data, writing->length, writing->offset, &done);
	else
		err = object_take_room(object, writing->offset, writing->offset + writing->length);
	if (err == 0 && done < writing->length)
		err = disk_pwrite(writing->ost->disk, object->fd, data + done, writing->length - done,
				  writing->offset + done);

	return err;
}

static int write_bytes(struct writing *writing, struct ost_object *object)
{
	struct ost *ost = writing->ost;
	struct running_write running = { .session = writing->slot.session };
	uint64_t noted;
	size_t none;
	int err;

	ost_ledger_make_room(ost, bulk_sums_count(writing->offset, writing->length));
	err = ost_change_begin(ost, &running);
	if (err < 0) {
		if (object->opening)
			(void)object_make(object, NULL, 0, 0, &none); /* others may wait for it */
		return err;
	}
	noted = note(writing);
	err = store(writing, object);
	object_wrote(object, err == 0 ? writing->offset + writing->length : 0);
	ledger_done(ost->ledger, noted, err == 0);
	ost_change_end(ost, &running);

	/* Without a descriptor object_make() has said why. */
	return err < 0 && err != -EINVAL && object->fd >= 0 ? ost_io_error(ost, err) : err;
}

static int write_in_turn(struct writing *writing, struct ost_object *object, bool direct)
{
	struct object_turn turn;
	int err;

	object_begin(object, &turn, writing->offset, writing->offset + writing->length, true, direct);
	err = write_bytes(writing, object);
	object_end(object, &turn);

	return err;
}

static int write_object(struct writing *writing, struct ost_file *file)
{
	bool direct = wants_direct(writing->ost, writing);
	struct ost_object *object;
	int err = direct ? -EAGAIN : object_reserve(file, writing->object_seq, &object);

	if (err == -EAGAIN)
		err = object_get(file, writing->object_seq, true, &object);
	if (err < 0)
		return err;
	err = write_in_turn(writing, object, direct);
	if (err == -EINVAL && direct) {
		/* Not with this disk's blocks. */
		writing->ost->direct_refused = true;
		err = write_in_turn(writing, object, false);
	}
	if (err < 0)
		object_undo(object);
	else
		writing->grown = object_take_grown(object);
	if (err == 0 && writing->sync)
		err = object_commit(object);
	object_put(object);

	return err;
}

static int write_run(struct writing *writing)
{
	struct ost *ost = writing->ost;
	struct ost_file *file;
	uint64_t change;
	int err;

	err = file_enter(ost, writing->ino, writing->gen, writing->stripe_size, writing->has_cut ? &writing->cut : NULL,
			 true, &file);
	if (err < 0)
		return err;
	err = index_sync(ost->index, file->cut_change);
	writing->instance = ost->instance;
	if (err == 0)
		err = write_object(writing, file);
	change = file->last_change;
	file_leave(file);
	if (err == 0 && writing->sync)
		err = index_sync(ost->index, change);

	return err;
}

/* --- the request ------------------------------------------------------------------------------------------------------- */

static int check(const struct request *request)
{
	const Strake__WriteRequest *write = (const Strake__WriteRequest *)request->body;
	size_t length = request->header.bulk_len;
	int err = ost_check_object(write->object);

	if (err < 0)
		return err;
	if (length == 0 || !request->bulk || write->offset > write->object->stripe_size ||
	    length > write->object->stripe_size - write->offset)
		return -EINVAL;

	return bulk_sums_check(write->offset, request->bulk->data, length, write->sums, write->n_sums, NULL);
}

static void take(struct writing *writing, struct ost *ost, struct request *request)
{
	const Strake__WriteRequest *write = (const Strake__WriteRequest *)request->body;

	writing->ost = ost;
	writing->ino = write->object->ino;
	writing->gen = write->object->gen;
	writing->object_seq = write->object->seq;
	writing->stripe_size = write->object->stripe_size;
	writing->has_cut = write->object->cut;
	writing->sync = write->sync || (request->header.flags & FRAME_SYNC);
	writing->offset = write->offset;
	writing->length = request->header.bulk_len;
	writing->bulk = request->bulk;
	if (write->object->cut)
		writing->cut = *write->object->cut;
	memcpy(writing->sums, write->sums, write->n_sums * sizeof(*write->sums));
	request->bulk = NULL;
}

void ost_write(struct ost *ost, struct request *request)
{
	Strake__WriteReply body = STRAKE__WRITE_REPLY__INIT;
	struct writing writing = { .grown = 0 };
	int err = check(request);

	if (err < 0) {
		service_reply_error(request, err);
		return;
	}
	if (!ost_slot_begin(ost, request, &writing.slot))
		return;
	take(&writing, ost, request);
	err = write_run(&writing);
	writing.bulk->release(writing.bulk);
	body.instance = writing.instance;
	body.has_grown = true;
	body.grown = writing.grown;
	ost_slot_finish(ost, &writing.slot, err, &body.base);
}
