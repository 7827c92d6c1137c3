/*
 * The happy path: peer_call() puts the call in the queue; the first one dials. When the connection stands, the owner's
 * hook runs in a fiber, whose calls pass the queue by. Then calls go from the queue into the table of calls under way,
 * as far as there are credits; the answer's xid names the entry, and its fiber is woken.
 *
 * Possible failures, and what each does:
 *   - An attempt fails: the host's next address; after the last one, wait (backoff) and begin again. A refusal ends the
 *     calls that wait, anything else leaves them to their deadlines.
 *   - The connection is lost: calls under way end, those in the queue stay, a new attempt follows.
 *   - A deadline passes: in the queue, only that call ends; under way, the connection is given up, since an answer may
 *     be on its way into the call's memory.
 *   - A call is cancelled: the transport forgets its memory; its entry stays until the answer has come.
 */
#include "common/peer.h"

#include "common/address.h"
#include "common/arena.h"
#include "common/container_of.h"
#include "common/dial.h"
#include "common/fiber.h"
#include "common/opening.h"
#include "common/status.h"
#include "common/transport_tcp.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define BACKOFF_MIN_MS   20
#define BACKOFF_MAX_MS   2000
#define FRAME_MS         PEER_ATTEMPT_MS /* a frame's begin to its end */
#define REPLY_UNFOLD     64              /* an unpacked reply is at most so many times its bytes, */
#define REPLY_UNFOLD_ANY 8192            /* and these */

enum peer_state {
	PEER_IDLE,     /* nobody has called yet */
	PEER_DIALING,  /* an attempt is under way */
	PEER_GREETING, /* a connection stands; the hook runs. conn is NULL when it was lost meanwhile */
	PEER_READY,
	PEER_WAITING, /* for the next attempt */
};

enum call_state {
	CALL_ENDED, /* also: never begun */
	CALL_QUEUED,
	CALL_SENT, /* in the table */
};

/* A call under way. */
struct entry {
	uint64_t xid;      /* 0: free */
	struct call *call; /* NULL: cancelled */
	uint64_t deadline_ns;
};

struct peer {
	struct loop *loop;
	struct peer_config config;
	char (*addresses)[ADDRESS_SIZE];
	size_t address_count;
	size_t address_at; /* the one that worked last, or is tried next */
	size_t tried;      /* in this round */

	struct transport *transport;
	enum peer_state state;
	struct dial *dial;
	struct transport_conn *conn;
	struct opening_welcome server;
	struct fiber *hook_fiber;
	bool hook_runs;
	bool dying;
	struct fiber_queue hook_over;
	int refusal; /* met in this round */
	unsigned int backoff_ms;
	uint64_t random;
	struct loop_timer retry_timer;
	struct loop_timer deadline_timer; /* set no later than the earliest deadline; often earlier */
	struct loop_timer ping_timer;
	char last_error[DIAL_TEXT_SIZE];

	struct call *first, *last; /* the queue */
	struct entry *entries;
	uint16_t *free_entries; /* free_count of them */
	unsigned int entry_count, free_count;
	unsigned int credits; /* as the server last said, at most entry_count */
	uint64_t xid_next;

	uint64_t heard_ns;
	struct call ping;
	uint64_t calls, connects;
};

/* --- calls -------------------------------------------------------------------------------------------------------- */

static void queue_append(struct peer *peer, struct call *call)
{
	call->state = CALL_QUEUED;
	call->next = NULL;
	call->previous = peer->last;
	if (peer->last != NULL)
		peer->last->next = call;
	else
		peer->first = call;
	peer->last = call;
}

static void queue_remove(struct peer *peer, struct call *call)
{
	assert(call->state == CALL_QUEUED);
	if (call->previous != NULL)
		call->previous->next = call->next;
	else
		peer->first = call->next;
	if (call->next != NULL)
		call->next->previous = call->previous;
	else
		peer->last = call->previous;
	call->next = call->previous = NULL;
}

static unsigned int calls_under_way(const struct peer *peer)
{
	return peer->entry_count - peer->free_count;
}

static void entry_free(struct peer *peer, uint32_t index)
{
	peer->entries[index] = (struct entry){ 0 };
	peer->free_entries[peer->free_count++] = (uint16_t)index;
}

/* It is in no queue and no table any more, and no memory of it is touched. */
static void call_end(struct call *call, int result)
{
	if (!call->answered)
		call_release(call);
	call->state = CALL_ENDED;
	call->result = result;
	if (call->ended != NULL)
		call->ended(call);
	else
		fiber_wake_all(&call->waiter);
}

static void call_bulk_sent(void *arg)
{
	struct call *call = arg;

	call->sending = false;
}

/* Hand a call to the transport. On failure it ends. */
static void call_send(struct peer *peer, struct call *call)
{
	uint32_t index = peer->free_entries[peer->free_count - 1];
	size_t bulk_len = 0;
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

	for (int i = 0; i < call->bulk_out_count; i++)
		bulk_len += call->bulk_out[i].iov_len;
	if (bulk_len > 0) {
		message.bulk = call->bulk_out;
		message.bulk_count = call->bulk_out_count;
		message.done = call_bulk_sent;
		message.arg = call;
	}
	/* The index in the low bits; those above make it one that no connection has seen before. */
	message.header.xid = ++peer->xid_next << 16 | index;

	err = transport_send(peer->conn, &message);
	if (err < 0) {
		call_end(call, err);
		return;
	}
	peer->free_count--;
	peer->entries[index] = (struct entry){ message.header.xid, call, call->deadline_ns };
	call->entry = index;
	call->sending = bulk_len > 0;
	call->state = CALL_SENT;
}

static bool peer_may_send(const struct peer *peer)
{
	return peer->conn != NULL && peer->free_count > 0 && calls_under_way(peer) < peer->credits;
}

static void peer_pump(struct peer *peer)
{
	while (peer->state == PEER_READY && peer->first != NULL && peer_may_send(peer)) {
		struct call *call = peer->first;

		queue_remove(peer, call);
		call_send(peer, call);
	}
}

/* The server's word on a call has come: its body, before its bulk. */
static int reply_unpack(struct call *call, const struct frame_header *header, const uint8_t *body)
{
	const struct op *op = op_find(call->opcode);
	size_t first = 4 * (size_t)header->body_len + 512;
	struct arena *memory;

	assert(op != NULL && call->memory == NULL);
	if (header->status != 0 && header->body_len == 0)
		return 0;
	memory = malloc(sizeof(*memory) + first);
	if (memory == NULL)
		return -ENOMEM;
	arena_init(memory, memory + 1, first, REPLY_UNFOLD * (size_t)header->body_len + REPLY_UNFOLD_ANY);
	call->reply = protobuf_c_message_unpack(op->reply, &memory->allocator, header->body_len, body);
	if (call->reply == NULL) {
		arena_release(memory);
		free(memory);
		return header->status != 0 ? 0 : -EBADMSG;
	}
	call->memory = memory;
	return 0;
}

void call_release(struct call *call)
{
	if (call->memory != NULL) {
		arena_release(call->memory);
		free(call->memory);
	}
	call->memory = NULL;
	call->reply = NULL;
}

/* --- deadlines ---------------------------------------------------------------------------------------------------- */

/*
 * Deadlines of calls mostly come in the order of the calls and mostly do not pass. So the timer is left alone by most
 * calls, and looks at all of them when it goes off.
 */
static void deadline_arm(struct peer *peer, uint64_t at_ns)
{
	if (peer->deadline_timer.loop == NULL || peer->deadline_timer.at_ns > at_ns)
		loop_timer_set(peer->loop, &peer->deadline_timer, at_ns);
}

/* --- the connection's life ---------------------------------------------------------------------------------------- */

static bool error_is_refusal(int err)
{
	return err == -EKEYREJECTED || err == -ESTALE || err == -EPROTO;
}

/* Half of it is random, so that a thousand clients of a restarted server do not come at once. */
static uint64_t backoff_ns(struct peer *peer)
{
	uint64_t half_ns = peer->backoff_ms * NSEC_PER_MSEC / 2;

	peer->random ^= peer->random << 13;
	peer->random ^= peer->random >> 7;
	peer->random ^= peer->random << 17;
	return half_ns + peer->random % half_ns;
}

static void peer_wait(struct peer *peer)
{
	peer->state = PEER_WAITING;
	loop_timer_set(peer->loop, &peer->retry_timer, loop_now_ns(peer->loop) + backoff_ns(peer));
	peer->backoff_ms = peer->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : peer->backoff_ms * 2;
}

/* An address did not lead to a connection; text stands in last_error. */
static void attempt_failed(struct peer *peer, int err)
{
	int refusal;

	if (error_is_refusal(err))
		peer->refusal = err;
	peer->tried++;
	peer->address_at = peer->address_count > 0 ? (peer->address_at + 1) % peer->address_count : 0;
	if (peer->tried < peer->address_count) {
		peer->state = PEER_WAITING;
		loop_timer_set(peer->loop, &peer->retry_timer, loop_now_ns(peer->loop));
		return;
	}

	peer->tried = 0;
	refusal = peer->refusal;
	peer->refusal = 0;
	peer_wait(peer);
	while (refusal != 0 && peer->first != NULL) {
		struct call *call = peer->first;

		queue_remove(peer, call);
		call_end(call, refusal);
	}
}

/* The transport has ended: so do the calls under way, with -ECONNRESET or what is known better of them. */
static void connection_ended(struct peer *peer)
{
	unsigned int count = peer->entry_count;
	struct entry *entries = peer->entries;

	peer->conn = NULL;
	peer->entries = NULL;
	peer->entry_count = peer->free_count = peer->credits = 0;
	free(peer->free_entries);
	peer->free_entries = NULL;
	loop_timer_cancel(&peer->ping_timer);

	for (unsigned int i = 0; i < count; i++) {
		struct call *call = entries[i].call;

		if (call == NULL)
			continue;
		assert(!call->sending);
		call_end(call, peer->dying ? -ECANCELED : call->result != 0 ? call->result : -ECONNRESET);
	}
	free(entries);
}

/* The connection is lost, and the transport has forgotten it. */
static void peer_lost(struct peer *peer, int err)
{
	bool was_ready = peer->state == PEER_READY;

	connection_ended(peer);
	if (!was_ready)
		return; /* the hook's fiber goes on from here */
	peer_wait(peer);
	if (peer->config.lost != NULL)
		peer->config.lost(peer->config.owner, err);
}

static void peer_give_up(struct peer *peer, int err)
{
	transport_close(peer->conn);
	peer_lost(peer, err);
}

static void peer_deadline(struct loop_timer *timer)
{
	struct peer *peer = container_of(timer, struct peer, deadline_timer);
	uint64_t now = loop_now_ns(peer->loop), next = UINT64_MAX;
	struct call *call, *after;
	bool expired = false;

	for (call = peer->first; call != NULL; call = after) {
		after = call->next;
		if (call->deadline_ns <= now) {
			queue_remove(peer, call);
			call_end(call, -ETIMEDOUT);
		} else if (call->deadline_ns < next) {
			next = call->deadline_ns;
		}
	}
	for (unsigned int i = 0; i < peer->entry_count; i++) {
		struct entry *entry = &peer->entries[i];

		if (entry->xid == 0)
			continue;
		if (entry->deadline_ns <= now) {
			expired = true;
			if (entry->call != NULL)
				entry->call->result = -ETIMEDOUT;
		} else if (entry->deadline_ns < next) {
			next = entry->deadline_ns;
		}
	}
	if (next != UINT64_MAX)
		deadline_arm(peer, next);
	if (expired)
		peer_give_up(peer, -ETIMEDOUT);
}

/* --- probing ------------------------------------------------------------------------------------------------------ */

static void ping_arm(struct peer *peer)
{
	loop_timer_set(peer->loop, &peer->ping_timer, peer->heard_ns + PEER_PING_MS * NSEC_PER_MSEC);
}

static void ping_ended(struct call *call)
{
	call_release(call);
}

/* Calls under way have their own deadlines; only silence without any needs a probe. */
static void peer_ping(struct loop_timer *timer)
{
	struct peer *peer = container_of(timer, struct peer, ping_timer);
	uint64_t now = loop_now_ns(peer->loop);

	if (calls_under_way(peer) > 0)
		peer->heard_ns = now;
	if (peer->heard_ns + PEER_PING_MS * NSEC_PER_MSEC > now) {
		ping_arm(peer);
		return;
	}
	peer->ping = (struct call){
		.opcode = OP_PING,
		.ended = ping_ended,
		.peer = peer,
		.deadline_ns = now + (PEER_PING_DEADLINE_MS - PEER_PING_MS) * NSEC_PER_MSEC,
	};
	call_send(peer, &peer->ping);
	deadline_arm(peer, peer->ping.deadline_ns);
	peer->heard_ns = now;
	ping_arm(peer);
}

/* --- what comes --------------------------------------------------------------------------------------------------- */

static int push_arrived(struct peer *peer, const struct frame_header *header, const uint8_t *body)
{
	const struct op *op = op_find(header->opcode);
	ProtobufCMessage *message;

	if (op == NULL || !(op->flags & OP_PUSH) || header->bulk_len > 0)
		return -EPROTO;
	if (peer->config.push == NULL)
		return 0;
	message = protobuf_c_message_unpack(op->request, NULL, header->body_len, body);
	if (message == NULL)
		return -EBADMSG;
	peer->config.push(peer->config.owner, header->opcode, message);
	protobuf_c_message_free_unpacked(message, NULL);
	return 0;
}

static struct entry *entry_of(const struct peer *peer, uint64_t xid)
{
	uint32_t index = xid & 0xffff;

	return xid != 0 && index < peer->entry_count && peer->entries[index].xid == xid ? &peer->entries[index] : NULL;
}

static int peer_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct peer *peer = owner;
	struct entry *entry;
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

static int peer_message(void *owner, const struct frame_header *header)
{
	struct peer *peer = owner;
	struct entry *entry;
	struct call *call;

	if (header->kind == FRAME_PUSH)
		return 0;
	entry = entry_of(peer, header->xid);
	assert(entry != NULL);
	call = entry->call;
	entry_free(peer, header->xid & 0xffff);
	if (peer->state == PEER_READY)
		peer->backoff_ms = BACKOFF_MIN_MS;
	if (call != NULL) {
		call->answered = true;
		call->bulk_in_len = header->bulk_len;
		call->log_index = header->log_index;
		call->durable_index = header->durable_index;
		call_end(call, status_to_errno(header->status));
	}
	peer_pump(peer);
	return 0;
}

static void peer_closed(void *owner, int err, const char *text)
{
	struct peer *peer = owner;

	if (peer->state == PEER_GREETING)
		snprintf(peer->last_error, sizeof(peer->last_error), "%s: %s", peer->addresses[peer->address_at], text);
	peer_lost(peer, err);
}

static const struct transport_events peer_events = {
	.frame = peer_frame,
	.message = peer_message,
	.closed = peer_closed,
};

/* --- connecting --------------------------------------------------------------------------------------------------- */

static void peer_destroy(struct peer *peer)
{
	free(peer->addresses);
	free(peer);
}

static void peer_ready(struct peer *peer)
{
	peer->state = PEER_READY;
	peer->last_error[0] = 0;
	peer->heard_ns = loop_now_ns(peer->loop);
	ping_arm(peer);
	peer_pump(peer);
}

/* The owner's hook. The connection may end meanwhile; the next attempt waits for the hook's end. */
static void peer_hook(void *arg)
{
	struct peer *peer = arg;
	int err = -ECONNRESET;

	if (peer->conn != NULL) {
		peer->hook_fiber = fiber_self();
		err = peer->config.connected(peer->config.owner, peer);
		peer->hook_fiber = NULL;
	}
	peer->hook_runs = false;
	if (peer->dying) {
		if (peer->hook_over.first != NULL)
			fiber_wake_all(&peer->hook_over);
		else
			peer_destroy(peer);
		return;
	}

	if (peer->conn != NULL && err == 0) {
		peer_ready(peer);
		return;
	}
	if (peer->conn != NULL) {
		snprintf(peer->last_error, sizeof(peer->last_error), "%s: the first calls failed: %s",
			 peer->addresses[peer->address_at], strerror(-err));
		peer_give_up(peer, err);
	}
	peer_wait(peer);
}

/* The table has as many entries as the server grants credits; in replies it may take some back. */
static int entries_new(struct peer *peer, unsigned int count)
{
	struct entry *entries = calloc(count, sizeof(*entries));
	uint16_t *free_entries = calloc(count, sizeof(*free_entries));

	if (entries == NULL || free_entries == NULL) {
		free(entries);
		free(free_entries);
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < count; i++)
		free_entries[i] = (uint16_t)(count - 1 - i);
	peer->entries = entries;
	peer->free_entries = free_entries;
	peer->entry_count = peer->free_count = peer->credits = count;
	return 0;
}

static void peer_dialed(void *owner, const struct dial_result *result)
{
	struct peer *peer = owner;
	int err = result->err;

	peer->dial = NULL;
	if (err < 0) {
		if (peer->refusal == 0) /* a word that was said tells more than a door that was shut */
			snprintf(peer->last_error, sizeof(peer->last_error), "%s", result->text);
		attempt_failed(peer, err);
		return;
	}
	err = entries_new(peer, result->credits);
	if (err < 0) {
		transport_close(result->conn);
		attempt_failed(peer, err);
		return;
	}

	peer->conn = result->conn;
	peer->server = result->welcome;
	peer->tried = 0;
	peer->refusal = 0;
	peer->connects++;
	peer->state = PEER_GREETING;
	transport_begin(peer->conn, &peer_events, peer);
	if (peer->config.connected == NULL) {
		peer_ready(peer);
	} else if (fiber_start(peer->loop, peer_hook, peer) == 0) {
		peer->hook_runs = true;
	} else {
		peer_give_up(peer, -ENOMEM);
		peer_wait(peer);
	}
}

static void peer_dial(struct peer *peer)
{
	const struct opening_hello hello = {
		.own_role = peer->config.own_role,
		.role = peer->config.role,
		.admin = peer->config.admin,
		.own_uuid = peer->config.own_uuid,
		.fs = peer->config.fs,
		.target = peer->config.target,
	};
	int err = -EADDRNOTAVAIL;

	peer->state = PEER_DIALING;
	if (peer->address_count > 0)
		err = dial_start(peer->loop, peer->transport, peer->addresses[peer->address_at], &hello,
				 peer->config.key, peer_dialed, peer, &peer->dial);
	if (err < 0) {
		snprintf(peer->last_error, sizeof(peer->last_error), "%s",
			 peer->address_count > 0 ? strerror(-err) : "no address is known");
		attempt_failed(peer, err);
	}
}

static void peer_retry(struct loop_timer *timer)
{
	peer_dial(container_of(timer, struct peer, retry_timer));
}

/* --- the owner's calls -------------------------------------------------------------------------------------------- */

static int addresses_copy(const char *const *addresses, size_t count, char (**ret_copy)[ADDRESS_SIZE])
{
	char(*copy)[ADDRESS_SIZE] = calloc(count > 0 ? count : 1, sizeof(*copy));

	if (copy == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		snprintf(copy[i], ADDRESS_SIZE, "%s", addresses[i]);
	*ret_copy = copy;
	return 0;
}

int peer_new(struct loop *loop, const struct peer_config *config, struct peer **ret_peer)
{
	const struct transport_limits limits = { .opening_ms = OPENING_DEADLINE_MS, .frame_ms = FRAME_MS };
	struct peer *peer = calloc(1, sizeof(*peer));
	int err;

	if (peer == NULL)
		return -ENOMEM;
	peer->loop = loop;
	peer->config = *config;
	peer->config.addresses = NULL;
	peer->backoff_ms = BACKOFF_MIN_MS;
	peer->retry_timer.expired = peer_retry;
	peer->deadline_timer.expired = peer_deadline;
	peer->ping_timer.expired = peer_ping;
	if (getrandom(&peer->random, sizeof(peer->random), 0) != (ssize_t)sizeof(peer->random) || peer->random == 0)
		peer->random = clock_ns() | 1;

	err = addresses_copy(config->addresses, config->address_count, &peer->addresses);
	if (err == 0)
		err = transport_tcp_new(loop, &limits, &peer->transport);
	if (err < 0) {
		peer_destroy(peer);
		return err;
	}
	peer->address_count = config->address_count;
	*ret_peer = peer;
	return 0;
}

struct peer *peer_free(struct peer *peer)
{
	if (peer == NULL)
		return NULL;
	assert(!peer->dying);
	peer->dying = true;
	peer->dial = dial_cancel(peer->dial);
	loop_timer_cancel(&peer->retry_timer);
	loop_timer_cancel(&peer->deadline_timer);
	if (peer->conn != NULL) {
		transport_close(peer->conn);
		connection_ended(peer);
	}
	while (peer->first != NULL) {
		struct call *call = peer->first;

		queue_remove(peer, call);
		call_end(call, -ECANCELED);
	}
	peer->transport = transport_free(peer->transport);

	/* The hook still uses the peer. Its calls all end at once now; who can, waits for it. */
	if (peer->hook_runs && (fiber_self() == NULL || fiber_self() == peer->hook_fiber))
		return NULL;
	if (peer->hook_runs)
		fiber_wait(&peer->hook_over, NULL);
	peer_destroy(peer);
	return NULL;
}

int peer_set_addresses(struct peer *peer, const char *const *addresses, size_t count)
{
	bool same = count == peer->address_count;
	char(*copy)[ADDRESS_SIZE];
	int err;

	for (size_t i = 0; same && i < count; i++)
		same = strcmp(addresses[i], peer->addresses[i]) == 0;
	if (same)
		return 0;
	err = addresses_copy(addresses, count, &copy);
	if (err < 0)
		return err;
	free(peer->addresses);
	peer->addresses = copy;
	peer->address_count = count;
	peer->address_at = peer->tried = 0;

	/* Perhaps this is what was wrong. */
	peer->backoff_ms = BACKOFF_MIN_MS;
	if (peer->state == PEER_WAITING)
		loop_timer_set(peer->loop, &peer->retry_timer, loop_now_ns(peer->loop));
	return 0;
}

bool peer_is_connected(const struct peer *peer)
{
	return peer->state == PEER_READY;
}

const struct uuid *peer_fs(const struct peer *peer)
{
	return &peer->server.fs;
}

const struct uuid *peer_target(const struct peer *peer)
{
	return &peer->server.target;
}

int peer_local_host(const struct peer *peer, char *ret_host, size_t size)
{
	return peer->conn == NULL ? -ENOTCONN : transport_local_host(peer->conn, ret_host, size);
}

const char *peer_last_error(const struct peer *peer)
{
	return peer->last_error;
}

int peer_call(struct peer *peer, struct call *call)
{
	unsigned int attempt_ms = call->attempt_ms != 0 ? call->attempt_ms : PEER_ATTEMPT_MS;

	assert(fiber_self() != NULL && loop_current() == peer->loop);
	assert(call->state == CALL_ENDED && op_find(call->opcode) != NULL);
	call_release(call);
	call->peer = peer;
	call->result = 0;
	call->answered = false;
	call->bulk_in_len = 0;
	call->log_index = call->durable_index = 0;
	call->deadline_ns = loop_now_ns(peer->loop) + attempt_ms * NSEC_PER_MSEC;

	if (peer->dying)
		return -ECANCELED;
	peer->calls++;
	if (fiber_self() == peer->hook_fiber) {
		if (peer->conn == NULL)
			return -ECONNRESET;
		if (peer->free_count == 0)
			return -EAGAIN; /* the hook's fiber is one, and asks one thing at a time */
		call_send(peer, call);
	} else {
		queue_append(peer, call);
		if (peer->state == PEER_IDLE)
			peer_dial(peer);
		peer_pump(peer);
	}
	if (call->state == CALL_ENDED)
		return call->result;

	deadline_arm(peer, call->deadline_ns);
	while (call->state != CALL_ENDED)
		fiber_wait(&call->waiter, NULL);
	return call->result;
}

void call_cancel(struct call *call)
{
	struct peer *peer = call->peer;

	if (call->state == CALL_QUEUED) {
		queue_remove(peer, call);
		call_end(call, -ECANCELED);
	} else if (call->state == CALL_SENT && transport_forget(peer->conn, call, call->bulk_in) < 0) {
		call->result = -ECANCELED;
		peer_give_up(peer, -ENOMEM);
	} else if (call->state == CALL_SENT) {
		peer->entries[call->entry].call = NULL;
		call_end(call, -ECANCELED);
	}
}

void peer_stats(const struct peer *peer, struct peer_stats *ret_stats)
{
	struct transport_stats stats;

	transport_stats(peer->transport, &stats);
	*ret_stats = (struct peer_stats){
		.calls = peer->calls,
		.sends = stats.sends,
		.receives = stats.receives,
		.connects = peer->connects,
		.bytes_in = stats.bytes_in,
		.bytes_out = stats.bytes_out,
	};
}
