#include "mds/sessions.h"

#include "common/logger.h"
#include "mds/orphan.h"
#include "mds/pack.h"

#include <errno.h>
#include <inttypes.h>

#define SESSION_ROW_VERSION 1
#define SESSION_TEXT_MAX    1024 /* what is kept of hostname and mountpoint */
#define SLOT_ROW_FIXED      (4 + 2 + 8 + 4 + 8)

static void session_decode(uint64_t session, struct bytes value, struct session_row *row)
{
	struct unpack unpack = unpack_begin(value);
	uint8_t version = unpack_u8(&unpack);

	row->session = session;
	unpack_into(&unpack, row->client.bytes, sizeof(row->client.bytes));
	row->slots = unpack_u32(&unpack);
	row->pid = unpack_u32(&unpack);
	row->opened_ns = unpack_s64(&unpack);
	row->hostname = unpack_bytes(&unpack, unpack_u16(&unpack));
	row->mountpoint = unpack_bytes(&unpack, unpack_u16(&unpack));
	if (version != SESSION_ROW_VERSION || !unpack_is_done(&unpack))
		logger_die("the MDT's state is damaged: session %" PRIx64 " (row version %u, %zu bytes)", session,
			   version, value.size);
}

int session_get(struct view *view, uint64_t session, struct session_row *ret_row)
{
	uint8_t key[8];
	struct bytes value;

	if (view_get(view, TABLE_SESSION, key_of(key, session), &value) < 0)
		return -ENOENT;
	session_decode(session, value, ret_row);
	return 0;
}

int session_from(struct view *view, uint64_t from, struct session_row *ret_row)
{
	uint8_t key[8];
	struct view_cursor cursor;
	struct unpack unpack;

	if (view_seek(view, TABLE_SESSION, key_of(key, from), &cursor) < 0)
		return -ENOENT;
	unpack = unpack_begin(cursor.key);
	session_decode(unpack_key64(&unpack), cursor.value, ret_row);
	view_cursor_end(&cursor);
	return 0;
}

static struct bytes slot_key(uint8_t out[12], uint64_t session, uint32_t slot)
{
	struct pack pack = { out, out + 12 };

	pack_key64(&pack, session);
	pack_key32(&pack, slot);
	return (struct bytes){ out, 12 };
}

static int slot_get(struct view *view, uint64_t session, uint32_t slot, struct slot_row *row)
{
	uint8_t key[12];
	struct bytes value;
	struct unpack unpack;

	if (view_get(view, TABLE_SLOT, slot_key(key, session, slot), &value) < 0)
		return -ENOENT;
	unpack = unpack_begin(value);
	row->seq = unpack_u32(&unpack);
	row->op = unpack_u16(&unpack);
	row->wait_index = unpack_u64(&unpack);
	row->status = unpack_u32(&unpack);
	row->index = unpack_u64(&unpack);
	row->reply = unpack_bytes(&unpack, (size_t)(unpack.end - unpack.at));
	if (unpack.bad)
		logger_die("the MDT's state is damaged: slot %" PRIu32 " of session %" PRIx64, slot, session);
	return 0;
}

int slot_judge(struct view *view, uint64_t session, uint32_t slot, uint32_t seq, uint16_t op, bool *ret_resent,
	       struct slot_row *ret_row)
{
	int32_t ahead;

	if (slot_get(view, session, slot, ret_row) < 0) {
		*ret_resent = false;
		return 0;
	}
	ahead = (int32_t)(seq - ret_row->seq);
	if (ahead < 0 && ahead >= -SLOT_LATE_MAX)
		return -ESTALE;
	if (ahead == 0 && op != ret_row->op)
		return -EINVAL;
	*ret_resent = ahead == 0;
	return 0;
}

void slot_store(struct view *view, uint64_t session, uint32_t slot, const struct slot_row *row)
{
	uint8_t key[12], out[SLOT_ROW_FIXED + OUTCOME_REPLY_MAX];
	struct pack pack = { out, out + sizeof(out) };

	pack_u32(&pack, row->seq);
	pack_u16(&pack, row->op);
	pack_u64(&pack, row->wait_index);
	pack_u32(&pack, row->status);
	pack_u64(&pack, row->index);
	pack_bytes(&pack, row->reply.data, row->reply.size);
	view_put(view, TABLE_SLOT, slot_key(key, session, slot), (struct bytes){ out, (size_t)(pack.at - out) });
}

static void pack_text(struct pack *pack, const char *text)
{
	size_t len = text ? strnlen(text, SESSION_TEXT_MAX) : 0;

	pack_u16(pack, (uint16_t)len);
	pack_bytes(pack, text, len);
}

int session_open_apply(struct change *change, const ProtobufCMessage *message)
{
	const Strake__SessionOpenRequest *request = (const void *)message;
	struct meta *meta = &change->state->meta;
	uint64_t session = change->record->number;
	uint8_t key[8], out[64 + 2 * SESSION_TEXT_MAX];
	struct pack pack = { out, out + sizeof(out) };
	uint32_t slots = request->slots > 0 ? request->slots : SESSION_SLOTS_DEFAULT;

	assert(request->client_uuid.len == UUID_SIZE);
	pack_u8(&pack, SESSION_ROW_VERSION);
	pack_bytes(&pack, request->client_uuid.data, UUID_SIZE);
	pack_u32(&pack, slots < SESSION_SLOTS_MAX ? slots : SESSION_SLOTS_MAX);
	pack_u32(&pack, request->pid);
	pack_s64(&pack, change->now_ns);
	pack_text(&pack, request->hostname);
	pack_text(&pack, request->mountpoint);
	view_put(change->view, TABLE_SESSION, key_of(key, session), (struct bytes){ out, (size_t)(pack.at - out) });

	meta->newest_session = session;
	meta->session_index = change->index;
	/* An OST is told of the session, and a session lost with the log's tail must not have been. */
	change->outcome->wait_index = change->index;
	return 0;
}

static void slots_delete(struct view *view, uint64_t session)
{
	uint32_t slot = 0;
	uint8_t key[12];
	struct view_cursor cursor;
	struct unpack unpack;

	while (view_seek(view, TABLE_SLOT, slot_key(key, session, slot), &cursor) == 0) {
		unpack = unpack_begin(cursor.key);
		if (unpack_key64(&unpack) != session) {
			view_cursor_end(&cursor);
			return;
		}
		slot = unpack_key32(&unpack);
		view_cursor_end(&cursor);
		view_del(view, TABLE_SLOT, slot_key(key, session, slot));
		if (slot++ == UINT32_MAX)
			return;
	}
}

int session_end_apply(struct change *change, const ProtobufCMessage *message)
{
	uint64_t session = change->record->session;
	struct session_row row;
	uint8_t key[8];

	(void)message;
	if (session_get(change->view, session, &row) < 0)
		return -ENOENT;
	slots_delete(change->view, session);
	orphans_release_all(change, session);
	view_del(change->view, TABLE_SESSION, key_of(key, session));
	change->state->meta.session_index = change->index;
	return 0;
}
