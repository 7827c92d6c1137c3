#include "mds/apply.h"

#include "common/logger.h"
#include "common/status.h"
#include "mds/access.h"
#include "mds/sessions.h"
#include "proto/mdt_record.pb-c.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* One operation that makes records. */
struct apply_row {
	uint16_t op;
	const ProtobufCMessageDescriptor *body;
	int (*function)(struct change *change, const ProtobufCMessage *message);
};

static const struct apply_row apply_table[] = {
	{ OP_CREATE, &strake__create_request__descriptor, create_apply },
	{ OP_MKDIR, &strake__create_request__descriptor, create_apply },
	{ OP_MKNOD, &strake__create_request__descriptor, create_apply },
	{ OP_SYMLINK, &strake__create_request__descriptor, create_apply },
	{ OP_TMPFILE, &strake__create_request__descriptor, tmpfile_apply },
	{ OP_ATIMES, &strake__atimes_request__descriptor, atimes_apply },
	{ OP_LINK, &strake__link_request__descriptor, link_apply },
	{ OP_UNLINK, &strake__unlink_request__descriptor, unlink_apply },
	{ OP_RMDIR, &strake__unlink_request__descriptor, unlink_apply },
	{ OP_RENAME, &strake__rename_request__descriptor, rename_apply },
	{ OP_SETATTR, &strake__setattr_request__descriptor, setattr_apply },
	{ OP_SETXATTR, &strake__setxattr_request__descriptor, setxattr_apply },
	{ OP_REMOVEXATTR, &strake__removexattr_request__descriptor, removexattr_apply },
	{ OP_SIZE, &strake__size_request__descriptor, size_apply },
	{ OP_PUNCH, &strake__punch_request__descriptor, punch_apply },
	{ OP_LAYOUT, &strake__layout_request__descriptor, layout_apply },
	{ OP_SESSION_OPEN, &strake__session_open_request__descriptor, session_open_apply },
	{ OP_SESSION_CLOSE, &strake__session_close_request__descriptor, session_end_apply },
	{ RECORD_FORMAT, &strake__format_record__descriptor, format_apply },
	{ RECORD_RESERVE, &strake__reserve_record__descriptor, reserve_apply },
	{ RECORD_EVICT, &strake__evict_record__descriptor, session_end_apply },
	{ RECORD_UNSURE, &strake__unsure_record__descriptor, unsure_apply },
	{ RECORD_WRITERS, &strake__writers_record__descriptor, writers_apply },
	{ RECORD_RELEASE, &strake__release_record__descriptor, release_apply },
	{ RECORD_ACK, &strake__ack_record__descriptor, ack_apply },
};

static const struct apply_row *apply_find(uint16_t op)
{
	for (size_t i = 0; i < sizeof(apply_table) / sizeof(*apply_table); i++) {
		if (apply_table[i].op == op)
			return &apply_table[i];
	}
	return NULL;
}

/* The reply as it will be sent, now and should the request come again. */
static void pack_reply(const struct answer *answer, struct outcome *outcome)
{
	outcome->reply_size = 0;
	if (outcome->err < 0 || !answer->body)
		return;
	outcome->reply_size = protobuf_c_message_get_packed_size(answer->body);
	assert(outcome->reply_size <= sizeof(outcome->reply));
	protobuf_c_message_pack(answer->body, outcome->reply);
}

static void store_slot(const struct change *change)
{
	const struct record *record = change->record;
	const struct outcome *outcome = change->outcome;
	struct slot_row row = {
		.seq = record->seq,
		.op = record->op,
		.wait_index = outcome->wait_index,
		.status = status_from_errno(outcome->err),
		.index = change->index,
		.reply = { outcome->reply, outcome->reply_size },
	};

	slot_store(change->view, record->session, record->slot, &row);
}

void apply(struct state *state, uint64_t index, const struct record *record, const ProtobufCMessage *message,
	   struct outcome *ret_outcome)
{
	const struct apply_row *row = apply_find(record->op);
	const struct op *op = op_find(record->op);
	ProtobufCMessage *unpacked = NULL;
	struct answer answer;
	struct change change = {
		.state = state,
		.view = state->view,
		.record = record,
		.index = index,
		.now_ns = record->time_ns,
		.answer = &answer,
		.outcome = ret_outcome,
	};

	/* Whom the body tells of may not be who asks. */
	if (row && (!message || (record->facts & FACT_SQUASH)))
		message = unpacked = protobuf_c_message_unpack(row->body, NULL, record->body.size, record->body.data);
	if (unpacked && (record->facts & FACT_SQUASH))
		access_squash(unpacked);
	if (!row || !message)
		logger_die("the log is damaged: record %" PRIu64 " (operation %#x) makes no sense", index, record->op);
	assert(message->descriptor == row->body);
	assert(record->time_ns > state->meta.time_ns);

	/* All but the room for the reply. */
	memset(ret_outcome, 0, offsetof(struct outcome, reply));
	answer_init(&answer, change_is_fact(&change, FACT_UNFENCED));
	ret_outcome->err = row->function(&change, message);
	pack_reply(&answer, ret_outcome);
	if (ret_outcome->err == 0 && answer.cut_index > ret_outcome->wait_index)
		ret_outcome->wait_index = answer.cut_index;
	answer_release(&answer);
	if (op && (op->flags & OP_SLOT))
		store_slot(&change);
	state->meta.time_ns = record->time_ns;
	if (record->number > state->meta.given)
		state->meta.given = record->number;
	state_store_meta(state);
	if (unpacked)
		protobuf_c_message_free_unpacked(unpacked, NULL);
}
