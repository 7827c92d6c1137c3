#include "common/arena.h"
#include "common/bulk.h"
#include "common/peer_internal.h"
#include "common/status.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>

/* What a call's reply lies in. */
struct reply_memory {
	struct arena arena; /* first: call->memory */
	alignas(max_align_t) uint8_t first[];
};

/* --- the table ---------------------------------------------------------------------------------------------------- */

int peer_flight_begin(struct peer *peer, unsigned int credits)
{
	struct peer_entry *entries = calloc(credits, sizeof(*entries));
	uint16_t *free_entries = calloc(credits, sizeof(*free_entries));

	if (entries == NULL || free_entries == NULL) {
		free(entries);
		free(free_entries);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < credits; i++)
		free_entries[i] = (uint16_t)(credits - 1 - i);
	peer->entries = entries;
	peer->free_entries = free_entries;
	peer->entry_count = peer->free_count = peer->credits = credits;
	peer->reserved = peer->fabric == FABRIC_RDMA && credits > 1 ? 1 : 0;
	return 0;
}

void peer_flight_end(struct peer *peer)
{
	unsigned int count = peer->entry_count;
	struct peer_entry *entries = peer->entries;

	peer->entries = NULL;
	peer->entry_count = peer->free_count = peer->credits = 0;
	free(peer->free_entries);
	peer->free_entries = NULL;
	for (unsigned int i = 0; i < count; i++) {
		struct call *call = entries[i].call;

		if (call == NULL)
			continue;
		assert(!call->sending);
		peer_call_end(call, peer->dying ? -ECANCELED : call->result != 0 ? call->result : -ECONNRESET);
	}
	free(entries);
}

unsigned int peer_flight_count(const struct peer *peer)
{
	return peer->entry_count - peer->free_count;
}

static struct peer_entry *entry_of(const struct peer *peer, uint64_t xid)
{
	uint32_t index = xid & 0xffff;

	return xid != 0 && index < peer->entry_count && peer->entries[index].xid == xid ? &peer->entries[index] : NULL;
}

static void entry_free(struct peer *peer, uint32_t index)
{
	peer->entries[index] = (struct peer_entry){ 0 };
	peer->free_entries[peer->free_count++] = (uint16_t)index;
}

bool peer_flight_expired(struct peer *peer, uint64_t now_ns, uint64_t *next_ns)
{
	bool expired = false;

	for (unsigned int i = 0; i < peer->entry_count; i++) {
		struct peer_entry *entry = &peer->entries[i];

		if (entry->xid == 0)
			continue;
		if (entry->deadline_ns <= now_ns) {
			expired = true;
			if (entry->call != NULL)
				entry->call->result = -ETIMEDOUT;
		} else if (entry->deadline_ns < *next_ns) {
			*next_ns = entry->deadline_ns;
		}
	}
	return expired;
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

static void count_bulk(struct peer *peer, size_t size)
{
	if (size > 0 && peer->config.tally != NULL)
		atomic_fetch_add_explicit(&peer->config.tally->bulk[peer->fabric], size, memory_order_relaxed);
}

static void call_bulk_sent(void *arg)
{
	struct call *call = arg;

	call->sending = false;
}

void peer_flight_send(struct peer *peer, struct call *call)
{
	uint32_t index = peer->free_entries[peer->free_count - 1];
	size_t bulk_size = bulk_iov_size(call->bulk_out, call->bulk_out_count);
	bool has_bulk = bulk_size > 0;
	struct transport_message message = {
		.header = {
			.kind = FRAME_REQUEST,
			.opcode = call->opcode,
			.flags = call->flags,
			.session = call->session,
			.slot = call->slot,
			.seq = call->seq,
		},
		.body = call->request,
		.bulk_in = call->bulk_in,
		.bulk_in_size = call->bulk_in_size,
	};
	int err;

	if (has_bulk) {
		message.bulk = call->bulk_out;
		message.bulk_count = call->bulk_out_count;
		message.done = call_bulk_sent;
		message.arg = call;
	}
	/* The index in the low bits; those above make it one that no connection has seen before. */
	message.header.xid = ++peer->xid_next << 16 | index;

	err = transport_send(peer->conn, &message);
	if (err < 0) {
		peer_call_end(call, err);
		return;
	}
	peer->free_count--;
	peer->entries[index] = (struct peer_entry){ message.header.xid, call, call->deadline_ns };
	call->entry = index;
	call->sending = has_bulk;
	call->state = CALL_SENT;
	count_bulk(peer, bulk_size);
	peer_ways_busy(peer);
}

static bool may_send(const struct peer *peer)
{
	return peer->conn != NULL && peer->free_count > peer->reserved && peer_flight_count(peer) < peer->credits;
}

void peer_flight_pump(struct peer *peer)
{
	while (peer->state == PEER_READY && peer->first != NULL && may_send(peer))
		peer_flight_send(peer, peer_queue_take(peer));
}

/* --- what comes --------------------------------------------------------------------------------------------------- */

/* The server's word on a call has come: its body, before its bulk. */
static int reply_unpack(struct call *call, const struct frame_header *header, const uint8_t *body)
{
	const struct op *op = op_find(call->opcode);
	size_t first = 4 * (size_t)header->body_len + 512;
	struct reply_memory *memory;

	assert(op != NULL && call->memory == NULL);
	if (header->status != 0 && header->body_len == 0)
		return 0;
	memory = malloc(sizeof(*memory) + first);
	if (memory == NULL)
		return -ENOMEM;
	call->reply = arena_unpack(&memory->arena, memory->first, first, op->reply, body, header->body_len);
	if (call->reply == NULL) {
		free(memory);
		return header->status != 0 ? 0 : -EBADMSG;
	}
	call->memory = &memory->arena;
	return 0;
}

static int push_arrived(struct peer *peer, const struct frame_header *header, const uint8_t *body)
{
	const struct op *op = op_find(header->opcode);
	ProtobufCMessage *message;
	struct arena arena;

	if (op == NULL || !(op->flags & OP_PUSH) || header->bulk_len > 0)
		return -EPROTO;
	if (header->opcode == OP_BUSY || peer->config.push == NULL)
		return 0; /* that he was heard is all that the first says */
	message = arena_unpack(&arena, NULL, 0, op->request, body, header->body_len);
	if (message == NULL)
		return -EBADMSG;
	peer->config.push(peer->config.owner, header->opcode, message);
	arena_release(&arena);
	return 0;
}

int peer_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct peer *peer = owner;
	struct peer_entry *entry;
	struct call *call;
	int err;

	peer->heard_ns = loop_now_ns(peer->loop);
	if (header->kind == FRAME_PUSH)
		return push_arrived(peer, header, body);
	entry = header->kind == FRAME_REPLY ? entry_of(peer, header->xid) : NULL;
	if (entry == NULL)
		return -EPROTO;
	if (header->credits > 0)
		peer->credits = header->credits < peer->entry_count ? header->credits : peer->entry_count;

	call = entry->call;
	if (call == NULL)
		return 0;
	/* An answer to what was not all sent yet would hand memory back that the transport still reads. */
	err = call->sending || header->opcode != call->opcode || header->bulk_len > call->bulk_in_size ? -EPROTO : 0;
	if (err == 0)
		err = reply_unpack(call, header, body);
	if (err < 0) {
		call->result = -EPROTO;
		return err;
	}
	if (header->bulk_len > 0)
		*ret_bulk = call->bulk_in;
	return 0;
}

int peer_message(void *owner, const struct frame_header *header)
{
	struct peer *peer = owner;
	struct peer_entry *entry;
	struct call *call;

	if (header->kind == FRAME_PUSH)
		return 0;
	entry = entry_of(peer, header->xid);
	assert(entry != NULL);
	call = entry->call;
	entry_free(peer, header->xid & 0xffff);
	count_bulk(peer, header->bulk_len);
	if (peer->state == PEER_READY)
		peer->backoff_ms = PEER_BACKOFF_MIN_MS;
	if (call != NULL) {
		call->answered = true;
		call->bulk_in_len = header->bulk_len;
		call->log_index = header->log_index;
		call->durable_index = header->durable_index;
		peer_call_end(call, status_to_errno(header->status));
	}
	peer_flight_pump(peer);
	return 0;
}
