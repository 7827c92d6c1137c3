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
	uint64_t session;
	uint32_t slot, seq;
	uint64_t ino, gen, object_seq, stripe_size;
	Strake__Cut cut;
	bool has_cut, sync;
	uint64_t offset;
	size_t length;
	struct bulk *bulk;
	uint32_t sums[LEDGER_SUMS_MAX];
	uint64_t instance;
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

static uint64_t lease_now(const struct ost *ost)
{
	return ost->config.clock_ns();
}

static void running_add(struct ost *ost, struct running_write *running)
{
	running->prev = NULL;
	running->next = ost->writes;
	if (ost->writes)
		ost->writes->prev = running;
	ost->writes = running;
}

static void running_remove(struct ost *ost, struct running_write *running)
{
	if (running->prev)
		running->prev->next = running->next;
	else
		ost->writes = running->next;
	if (running->next)
		running->next->prev = running->prev;
	fiber_wake_all(&ost->write_done);
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

static int write_bytes(const struct writing *writing, struct ost_object *object)
{
	struct ost *ost = writing->ost;
	struct running_write running = { .session = writing->session };
	uint64_t noted;
	int err;

	ost_ledger_make_room(ost, bulk_sums_count(writing->offset, writing->length));
	err = session_table_check(&ost->sessions, writing->session, lease_now(ost));
	if (err < 0)
		return err;
	running_add(ost, &running);
	noted = note(writing);
	err = disk_pwrite(ost->disk, object->fd, writing->bulk->data, writing->length, writing->offset);
	object_wrote(object);
	ledger_done(ost->ledger, noted, err == 0);
	running_remove(ost, &running);

	return err < 0 && err != -EINVAL ? ost_io_error(ost, err) : err;
}

static int write_in_turn(const struct writing *writing, struct ost_object *object, bool direct)
{
	struct object_turn turn;
	int err;

	object_begin(object, &turn, writing->offset, writing->offset + writing->length, true, direct);
	err = write_bytes(writing, object);
	object_end(object, &turn);

	return err;
}

static int write_object(const struct writing *writing, struct ost_file *file)
{
	bool direct = wants_direct(writing->ost, writing);
	struct ost_object *object;
	int err = object_get(file, writing->object_seq, true, &object);

	if (err < 0)
		return err;
	err = write_in_turn(writing, object, direct);
	if (err == -EINVAL && direct) {
		/* Not with this disk's blocks. */
		writing->ost->direct_refused = true;
		err = write_in_turn(writing, object, false);
	}
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
	writing->instance = ost->instance;
	err = write_object(writing, file);
	change = file->last_change;
	file_leave(file);
	if (err == 0 && writing->sync)
		err = index_sync(ost->index, change);

	return err;
}

/* --- the request ------------------------------------------------------------------------------------------------------- */

static int check(const struct ost *ost, const struct request *request)
{
	const Strake__WriteRequest *write = (const Strake__WriteRequest *)request->body;
	size_t length = request->header.bulk_len;
	int err = ost_check_object(write->object);

	if (err < 0)
		return err;
	if (length == 0 || !request->bulk || write->offset > write->object->stripe_size ||
	    length > write->object->stripe_size - write->offset)
		return -EINVAL;
	err = bulk_sums_check(write->offset, request->bulk->data, length, write->sums, write->n_sums, NULL);
	if (err < 0)
		return err;

	return session_table_check(&ost->sessions, request->header.session, lease_now(ost));
}

static void reply_stored(struct request *request, const struct slot_reply *stored)
{
	service_reply(request, &(struct reply){ .err = stored->err, .raw = stored->body, .raw_len = stored->len });
}

static void take(struct writing *writing, struct ost *ost, struct request *request)
{
	const Strake__WriteRequest *write = (const Strake__WriteRequest *)request->body;

	*writing = (struct writing){
		.ost = ost,
		.session = request->header.session,
		.slot = request->header.slot,
		.seq = request->header.seq,
		.ino = write->object->ino,
		.gen = write->object->gen,
		.object_seq = write->object->seq,
		.stripe_size = write->object->stripe_size,
		.has_cut = write->object->cut,
		.sync = write->sync || (request->header.flags & FRAME_SYNC),
		.offset = write->offset,
		.length = request->header.bulk_len,
		.bulk = request->bulk,
	};
	if (write->object->cut)
		writing->cut = *write->object->cut;
	memcpy(writing->sums, write->sums, write->n_sums * sizeof(*write->sums));
	request->bulk = NULL;
}

static void finish(struct writing *writing, int err)
{
	Strake__WriteReply body = STRAKE__WRITE_REPLY__INIT;
	uint8_t packed[SLOT_REPLY_MAX];
	size_t len = 0;
	struct request *request;

	if (err == 0) {
		body.instance = writing->instance;
		len = strake__write_reply__get_packed_size(&body);
		assert(len <= sizeof(packed));
		strake__write_reply__pack(&body, packed);
	}
	request = slot_finish(writing->ost->slots, writing->session, writing->slot, writing->seq, err, packed, len);
	if (request)
		service_reply(request, &(struct reply){ .err = err, .raw = packed, .raw_len = len });
}

void ost_write(struct ost *ost, struct request *request)
{
	const struct slot_reply *stored;
	enum slot_verdict verdict;
	struct writing writing;
	void *replaced;
	int err = check(ost, request);

	if (err == 0)
		err = slot_begin(ost->slots, request->header.session, request->header.slot, request->header.seq,
				 request, &verdict, &stored, &replaced);
	if (err < 0) {
		service_reply_error(request, err);
		return;
	}
	switch (verdict) {
	case SLOT_RESENT:
		reply_stored(request, stored);
		return;
	case SLOT_RUNNING:
		service_reply_error(replaced, -ECANCELED);
		return;
	case SLOT_NEW:
		break;
	}
	take(&writing, ost, request);
	err = write_run(&writing);
	writing.bulk->release(writing.bulk);
	finish(&writing, err);
}
