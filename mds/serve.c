/*
 * A request has come: whose is it, has it been answered before, and what is it? One straight line from mdt_serve():
 *
 *     session known? -> form -> one of: query (query.h), change (slot, record), lock (slot; serve_lock.c), session and
 *     open files (below)
 */
#include "mds/mdt.h"

#include "common/logger.h"
#include "common/status.h"
#include "mds/access.h"
#include "mds/orphan.h"
#include "mds/query.h"
#include "mds/sessions.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static struct asker asker_of(const struct request *request)
{
	return (struct asker){
		.session = request->header.session,
		.slot = request->header.slot,
		.seq = request->header.seq,
	};
}

/* Answer with a message of our own, or none, once durable has reached until_index. */
static void reply_message(struct mdt *mdt, struct request *request, int err, const ProtobufCMessage *body,
			  uint64_t until_index)
{
	uint8_t packed[256];
	size_t size = body ? protobuf_c_message_get_packed_size(body) : 0;

	assert(size <= sizeof(packed));
	if (body)
		protobuf_c_message_pack(body, packed);
	waiting_reply(mdt->waiting, request, err, mdt_log_last(mdt->log), packed, size, until_index, 0);
}

void mdt_refuse(struct mdt *mdt, struct request *request, int err)
{
	reply_message(mdt, request, err, NULL, 0);
}

static void reply_waits(struct mdt *mdt, struct request *request, const struct answer *answer)
{
	size_t size = protobuf_c_message_get_packed_size(answer->body);
	uint8_t *packed = malloc(size + 1);

	if (!packed) {
		mdt_refuse(mdt, request, -ENOMEM);
		return;
	}
	protobuf_c_message_pack(answer->body, packed);
	waiting_reply(mdt->waiting, request, 0, mdt_log_last(mdt->log), packed, size, answer->cut_index, 0);
	free(packed);
}

void mdt_answer(struct mdt *mdt, struct request *request, int err, const struct answer *answer)
{
	uint64_t durable = mdt_log_durable(mdt->log);

	if (err == 0 && answer->cut_index > durable) {
		reply_waits(mdt, request, answer);
		return;
	}
	/* Packed by the service before this returns. */
	service_reply(request, &(struct reply){ .err = err,
						.body = err == 0 ? answer->body : NULL,
						.log_index = mdt_log_last(mdt->log),
						.durable_index = durable });
}

/* The request waits: for more of the log to be durable, so that a number is free, or until nobody is alone. */
static void park(struct mdt *mdt, struct request *request)
{
	if (mdt->parked_count == mdt->parked_max) {
		size_t max = mdt->parked_max ? mdt->parked_max * 2 : 64;
		struct request **parked = reallocarray(mdt->parked, max, sizeof(*parked));

		if (!parked)
			logger_die("out of memory for requests that wait for numbers");
		mdt->parked = parked;
		mdt->parked_max = max;
	}
	mdt->parked[mdt->parked_count++] = request;
}

/* --- queries ------------------------------------------------------------------------------------------------------ */

/*
 * Is it a LOOKUP of what a parked CREATE of the same session is to make? Who has given that up asks so what has become of it, on
 * the same line and after it: he must find it.
 */
static bool comes_after_parked(const struct mdt *mdt, const struct request *request)
{
	const Strake__LookupRequest *lookup = (const void *)request->body;

	for (size_t i = 0; request->header.opcode == OP_LOOKUP && i < mdt->parked_count; i++) {
		const struct request *parked = mdt->parked[i];
		const Strake__CreateRequest *create = (const void *)parked->body;

		if (parked->header.opcode == OP_CREATE && parked->header.session == request->header.session &&
		    create->parent == lookup->parent && create->name.len == lookup->name.len &&
		    memcmp(create->name.data, lookup->name.data, lookup->name.len) == 0)
			return true;
	}
	return false;
}

static void serve_query(struct mdt *mdt, struct request *request)
{
	struct answer answer;
	struct query query = {
		.with = &mdt->admission,
		.state = &mdt->state,
		.session = request->header.session,
		.instance = mdt->instance,
		.now_ns = admit_time(&mdt->state, clock_real_ns()),
		.answer = &answer,
	};
	int err;

	if (comes_after_parked(mdt, request)) {
		park(mdt, request);
		return;
	}
	answer_init(&answer, mdt->admission.unfenced);
	err = query_answer(&query, request->header.opcode, request->body);
	mdt_answer(mdt, request, err, &answer);
	answer_release(&answer);
}

/* --- changes ------------------------------------------------------------------------------------------------------ */

/* Up to which index must the log be durable before the reply of record `index` leaves? */
static uint64_t wait_for(const struct mdt *mdt, const struct request *request, uint64_t index, uint64_t wait_index)
{
	return mdt->config.strict || (request->header.flags & FRAME_SYNC) ? index : wait_index;
}

static bool op_opens(uint16_t op)
{
	return op == OP_CREATE || op == OP_TMPFILE;
}

/* That it is open for writing the log has to say, if it does not yet. */
static void add_opened(struct mdt *mdt, uint64_t session, uint64_t ino, uint32_t modes)
{
	if (modes & ~opens_modes(mdt->opens, session, ino) & OPEN_WRITE)
		mdt_note_writer(mdt, session, ino);
	opens_add(mdt->opens, session, ino, modes);
}

/* The file that it has answered with is open, which its record says. */
static void note_opened(struct mdt *mdt, const struct request *request, uint64_t ino)
{
	const Strake__CreateRequest *create = (const void *)request->body;

	if (ino != 0)
		opens_add(mdt->opens, request->header.session, ino, create->open_modes);
}

/* It is open also when the answer has to be sent once more; the record may lie before a checkpoint by then. */
static void serve_resent(struct mdt *mdt, struct request *request, const struct slot_row *row)
{
	Strake__EntryReply *entry;

	if (op_opens(row->op) && row->status == 0) {
		const Strake__CreateRequest *create = (const void *)request->body;

		entry = strake__entry_reply__unpack(NULL, row->reply.size, row->reply.data);
		if (entry && entry->attr && S_ISREG(entry->attr->mode) && create->open_modes)
			add_opened(mdt, request->header.session, entry->attr->ino, create->open_modes);
		strake__entry_reply__free_unpacked(entry, NULL);
	}
	waiting_reply(mdt->waiting, request, status_to_errno(row->status), row->index, row->reply.data, row->reply.size,
		      wait_for(mdt, request, row->index, row->wait_index), 0);
}

/*
 * A session wants to add a name: may it yet? -EAGAIN: the request is parked. *ret_alone: no other may for now. That is not
 * said to who has not told yet that it knows this MDT: it may take one's answers for the other's. Nor where root is
 * nobody, and it depends on who asks what he may learn of.
 */
static int add_name(struct mdt *mdt, struct request *request, const struct lease *lease, bool *ret_alone)
{
	uint64_t dir = admit_adds_name_in(request->header.opcode, request->body);
	uint64_t now_ns, at_ns;

	*ret_alone = false;
	if (dir == 0)
		return 0;
	now_ns = clock_ns(); /* the loop's may be of before he asked */
	at_ns = alone_wait(&mdt->alone, dir, lease->session, now_ns);
	if (at_ns > 0) {
		park(mdt, request);
		if (!mdt->alone_over.loop || at_ns < mdt->alone_over.at_ns)
			loop_timer_set(mdt->loop, &mdt->alone_over, at_ns);
		return -EAGAIN;
	}
	if (lease->reclaimed && !mdt->config.root_squash)
		*ret_alone = alone_add(&mdt->alone, dir, lease->session, now_ns);
	return 0;
}

/* Make a record of it and apply it; -EAGAIN: it is parked. *ret_index: the record's. */
static int submit_request(struct mdt *mdt, struct request *request, const struct lease *lease, uint64_t *ret_index)
{
	struct asker asker = asker_of(request);
	struct record record;
	int err = lease ? add_name(mdt, request, lease, &asker.alone) : 0;

	if (err < 0)
		return err;
	err = admit(&mdt->admission, &asker, request->header.opcode, request->body,
		    (struct bytes){ request->raw, request->header.body_len }, clock_real_ns(), &mdt->space, &record);

	if (err == -EAGAIN)
		park(mdt, request);
	if (err < 0)
		return err;
	*ret_index = mdt_submit(mdt, &record, request->body);
	return 0;
}

/* Who appends goes by the size that he knows: he has to look again. */
static void recall_appenders(struct mdt *mdt, const struct request *request)
{
	const Strake__SetattrRequest *setattr = (const void *)request->body;

	if (request->header.opcode == OP_SETATTR && setattr->has_size)
		locks_recall(mdt->locks, setattr->ino, request->header.session);
}

static void serve_change(struct mdt *mdt, struct request *request, struct lease *lease)
{
	const struct frame_header *header = &request->header;
	const struct outcome *outcome = &mdt->outcome;
	struct slot_row row;
	uint64_t index;
	bool resent = false;
	int err;

	if (!lease || header->slot >= lease->slots) {
		mdt_refuse(mdt, request, -EINVAL);
		return;
	}
	err = slot_judge(mdt->state.view, header->session, header->slot, header->seq, header->opcode, &resent, &row);
	/* Where LOCKs have come since, which leave no row, the row's number may be of before they wrapped. */
	if (err == -ESTALE && lease_slot_is_noted(lease, header->slot))
		err = 0;
	if (err == 0 && !lease_slot_is_new(lease, header->slot, header->seq))
		err = -ESTALE;
	if (err < 0) {
		mdt_refuse(mdt, request, err);
		return;
	}
	lease_slot_note(lease, header->slot, header->seq);
	if (request->op->flags & OP_VOLATILE) {
		mdt_serve_lock(mdt, request);
		return;
	}
	if (resent) {
		serve_resent(mdt, request, &row);
		return;
	}
	recall_appenders(mdt, request);
	if (submit_request(mdt, request, lease, &index) < 0)
		return;
	if (op_opens(header->opcode))
		note_opened(mdt, request, outcome->opened_ino);
	waiting_reply(mdt->waiting, request, outcome->err, index, outcome->reply, outcome->reply_size,
		      wait_for(mdt, request, index, outcome->wait_index), checkpoint_delay_ms(mdt->checkpoint));
}

/* --- sessions ----------------------------------------------------------------------------------------------------- */

static void reply_session(struct mdt *mdt, struct request *request, const struct lease *lease)
{
	Strake__SessionOpenReply reply = STRAKE__SESSION_OPEN_REPLY__INIT;
	struct uuid fs = mdt->config.identity->fs;

	reply.session = lease->session;
	reply.slots = lease->slots;
	reply.lease_ms = SESSION_LEASE_MS;
	reply.root_ino = INODE_ROOT;
	reply.has_root_squash = reply.root_squash = mdt->config.root_squash;
	reply.fs_uuid = (ProtobufCBinaryData){ .data = fs.bytes, .len = UUID_SIZE };
	reply_message(mdt, request, 0, &reply.base, mdt->state.meta.session_index);
}

static void serve_session_open(struct mdt *mdt, struct request *request)
{
	const Strake__SessionOpenRequest *open = (const void *)request->body;
	struct session_row row;
	struct uuid client;
	struct lease *lease;
	uint64_t index;

	uuid_from_bytes(open->client_uuid.data, open->client_uuid.len, &client);
	lease = leases_find_client(mdt->leases, &client);
	if (!lease) {
		if (leases_count(mdt->leases) == SESSIONS_MAX) {
			mdt_refuse(mdt, request, -EMFILE);
			return;
		}
		if (submit_request(mdt, request, NULL, &index) < 0)
			return;
		if (session_get(mdt->state.view, mdt->state.meta.newest_session, &row) < 0)
			logger_die("session %" PRIx64 " is not in the state", mdt->state.meta.newest_session);
		lease = leases_add(mdt->leases, row.session, &client, row.slots, true, loop_now_ns(mdt->loop));
		log_info("session %" PRIx64 ": opened by %s (%s, pid %" PRIu32 "%s%s)", row.session,
			 service_conn_name(request->conn), open->hostname, open->pid, open->mountpoint ? ", " : "",
			 open->mountpoint ? open->mountpoint : "");
	}
	lease->heard_ns = loop_now_ns(mdt->loop);
	reply_session(mdt, request, lease);
}

static void serve_session_renew(struct mdt *mdt, struct request *request, const struct lease *lease)
{
	Strake__SessionRenewReply reply = STRAKE__SESSION_RENEW_REPLY__INIT;

	if (!lease) {
		mdt_refuse(mdt, request, -EINVAL);
		return;
	}
	reply.instance = mdt->instance;
	reply.has_reclaim = 1;
	reply.reclaim = !lease->reclaimed;
	reply.has_root_squash = reply.root_squash = mdt->config.root_squash;
	reply_message(mdt, request, 0, &reply.base, 0);
}

static void serve_session_close(struct mdt *mdt, struct request *request)
{
	uint64_t session = request->header.session, index;

	if (submit_request(mdt, request, NULL, &index) < 0)
		return;
	opens_drop_session(mdt->opens, session);
	leases_remove(mdt->leases, session);
	alone_end(&mdt->alone, session);
	mdt_end_locks(mdt, session);
	log_info("session %" PRIx64 ": closed", session);
	reply_message(mdt, request, mdt->outcome.err, NULL, wait_for(mdt, request, index, 0));
}

/* --- open files --------------------------------------------------------------------------------------------------- */

static void serve_open(struct mdt *mdt, struct request *request, const struct lease *lease)
{
	const Strake__OpenRequest *open = (const void *)request->body;
	struct answer answer;
	struct query query = {
		.with = &mdt->admission,
		.state = &mdt->state,
		.session = request->header.session,
		.answer = &answer,
	};
	struct inode inode;
	struct answer_before before;
	int err;

	answer_init(&answer, mdt->admission.unfenced);
	err = lease ? inode_load(mdt->state.view, open->ino, &inode) : -EINVAL;
	/* What has no name any more is open only to those who hold it. */
	if (err == 0 && inode.nlink == 0 && !orphan_is_held_by(mdt->state.view, inode.ino, lease->session))
		err = -ESTALE;
	if (err == 0 && inode_is_dir(&inode) && (open->modes & OPEN_WRITE))
		err = -EISDIR;
	if (err == 0)
		err = access_open(mdt->state.view, open->cred, &inode, open->modes, open->append);
	if (err == 0) {
		add_opened(mdt, lease->session, inode.ino, open->modes);
		if (open->has_turn)
			opens_note_turn(mdt->opens, lease->session, inode.ino, open->turn);
		before = answer_before(&inode);
		answer_changed(&answer, &inode, query_is_unsure(&query, &inode), &before);
	}
	mdt_answer(mdt, request, err, &answer);
	answer_release(&answer);
}

static void serve_close(struct mdt *mdt, struct request *request, const struct lease *lease)
{
	const Strake__CloseRequest *close = (const void *)request->body;
	uint64_t *gone;
	size_t count = 0;

	if (!lease) {
		mdt_refuse(mdt, request, -EINVAL);
		return;
	}
	gone = calloc(close->n_ino + 1, sizeof(*gone));
	if (!gone) {
		mdt_refuse(mdt, request, -ENOMEM);
		return;
	}
	for (size_t i = 0; i < close->n_ino; i++) {
		if (close->has_turn && opens_is_late(mdt->opens, lease->session, close->ino[i], close->turn))
			continue;
		if (opens_remove(mdt->opens, lease->session, close->ino[i], close->modes[i]))
			gone[count++] = close->ino[i];
	}
	/* Who has not told us yet what it has open may have it open in other modes still. */
	if (lease->reclaimed)
		mdt_release(mdt, lease->session, gone, count);
	free(gone);
	reply_message(mdt, request, 0, NULL, 0);
}

/* The orphans that a session holds by the state and has not told of. */
static void release_forgotten(struct mdt *mdt, uint64_t session)
{
	uint64_t *forgotten = malloc(MDT_IDS_PER_LOG * sizeof(*forgotten));
	struct bytes sessions;
	size_t count = 0;

	if (!forgotten)
		logger_die("out of memory for the orphans of a session");
	for (uint64_t ino = 0; orphan_from(mdt->state.view, ino, &ino, &sessions) == 0; ino++) {
		if (orphan_has(sessions, session) && opens_modes(mdt->opens, session, ino) == 0)
			forgotten[count++] = ino;
		if (count == MDT_IDS_PER_LOG) {
			mdt_release(mdt, session, forgotten, count);
			count = 0;
		}
	}
	mdt_release(mdt, session, forgotten, count);
	free(forgotten);
}

static void serve_reclaim(struct mdt *mdt, struct request *request, struct lease *lease)
{
	const Strake__ReclaimRequest *reclaim = (const void *)request->body;
	struct inode inode;

	if (!lease) {
		mdt_refuse(mdt, request, -EINVAL);
		return;
	}
	if (reclaim->has_instance && reclaim->instance != mdt->instance) {
		mdt_refuse(mdt, request, -ESTALE);
		return;
	}
	/* One that comes late, when locks were taken and given back since, tells nothing of locks any more. */
	if (!lease->reclaimed)
		mdt_reclaim_locks(mdt, request);
	for (size_t i = 0; i < reclaim->n_ino; i++) {
		if (inode_load(mdt->state.view, reclaim->ino[i], &inode) == 0)
			opens_add(mdt->opens, lease->session, inode.ino, reclaim->modes[i]);
	}
	if (reclaim->more) {
		reply_message(mdt, request, 0, NULL, 0);
		return;
	}
	leases_reclaim(mdt->leases, lease);
	opens_drop_presumed(mdt->opens, lease->session);
	mdt_note_writers(mdt, lease->session);
	if (mdt->state.meta.orphans > 0)
		release_forgotten(mdt, lease->session);
	reply_message(mdt, request, 0, NULL, 0);
}

static void serve_sync(struct mdt *mdt, struct request *request)
{
	const Strake__SyncRequest *sync = (const void *)request->body;
	uint64_t last = mdt_log_last(mdt->log);
	struct inode inode;

	if (sync->has_ino && inode_load(mdt->state.view, sync->ino, &inode) < 0) {
		mdt_refuse(mdt, request, -ESTALE);
		return;
	}
	reply_message(mdt, request, 0, NULL, sync->index > 0 && sync->index < last ? sync->index : last);
}

/* --- all of them -------------------------------------------------------------------------------------------------- */

void mdt_serve(void *owner, struct request *request)
{
	struct mdt *mdt = owner;
	const struct frame_header *header = &request->header;
	struct lease *lease = header->session ? leases_find(mdt->leases, header->session) : NULL;
	int err;

	if (header->session && !lease) {
		mdt_refuse(mdt, request, -ENOSESSION);
		return;
	}
	if (lease)
		lease->heard_ns = loop_now_ns(mdt->loop);
	err = admit_form(header->opcode, request->body);
	if (err < 0) {
		mdt_refuse(mdt, request, err);
		return;
	}
	if (mdt->config.root_squash)
		access_squash(request->body);
	if (query_has(header->opcode)) {
		serve_query(mdt, request);
		return;
	}
	if (request->op->flags & OP_SLOT) {
		serve_change(mdt, request, lease);
		return;
	}

	switch (header->opcode) {
	case OP_SESSION_OPEN:
		serve_session_open(mdt, request);
		return;
	case OP_SESSION_RENEW:
		serve_session_renew(mdt, request, lease);
		return;
	case OP_SESSION_CLOSE:
		if (lease)
			serve_session_close(mdt, request);
		else
			mdt_refuse(mdt, request, -EINVAL);
		return;
	case OP_RECLAIM:
		serve_reclaim(mdt, request, lease);
		return;
	case OP_OPEN:
		serve_open(mdt, request, lease);
		return;
	case OP_CLOSE:
		serve_close(mdt, request, lease);
		return;
	case OP_LOCK_TEST:
		mdt_serve_lock_test(mdt, request);
		return;
	case OP_SYNC:
		serve_sync(mdt, request);
		return;
	default:
		mdt_refuse(mdt, request, -EOPNOTSUPP);
		return;
	}
}
