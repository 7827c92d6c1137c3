/*
 * The happy path: a connection is accepted and goes through the opening (opening.h); then the transport brings frames:
 * conn_frame() makes a request of each header and body and says where its bulk goes, conn_message() hands it to the
 * owner, service_reply() packs the answer into the connection's send buffer.
 *
 * Who frees a connection: it counts its requests under way. When the transport has gone and the last one is answered,
 * it goes; likewise the service when it was freed and the last connection has gone.
 */
#include "common/service.h"

#include "common/address.h"
#include "common/arena.h"
#include "common/logger.h"
#include "common/opening.h"
#include "common/status.h"
#include "common/transport_tcp.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define CONNECTIONS_MAX_DEFAULT 16384
#define REQUESTS_SPARE_MAX      256  /* requests kept for reuse */
#define REQUEST_RAW_SIZE        512  /* a body up to this long lies in the request */
#define REQUEST_ARENA_SIZE      1024 /* and what is unpacked of it, here */
#define BODY_UNFOLD             64   /* an unpacked body is at most so many times its bytes, */
#define BODY_UNFOLD_ANY         8192 /* and these */
#define LOG_LINES_MAX           10   /* a second: nobody fills the disk by being refused */

/* A request, and what the service keeps with it. */
struct box {
	struct request request; /* first */
	struct box *next;       /* among the spare ones */
	int refusal;            /* answer it with this instead of handing it on */
	uint8_t *raw_large;     /* where a long body lies */
	struct arena arena;     /* where the unpacked one lies */
	uint8_t raw[REQUEST_RAW_SIZE];
	alignas(max_align_t) uint8_t memory[REQUEST_ARENA_SIZE];
};

/* What was said until now. */
struct opening {
	bool welcomed;
	uint8_t hello[OPENING_HELLO_SIZE];
	uint8_t welcome[OPENING_WELCOME_SIZE];
};

struct service_conn {
	struct service *service;
	struct service_conn *next, *previous; /* of the service's */
	struct transport_conn *transport;     /* NULL: it is gone */
	struct opening *opening;              /* NULL: it is over */
	struct opening_hello hello;
	char name[ADDRESS_SIZE + 16];
	void *data;
	unsigned int running; /* requests under way, also the one that arrives */
	struct box *arriving; /* its bulk comes */
	bool throttled;       /* it has used up its credits */
	bool starving;        /* waits for bulk memory: in the service's list */
	struct service_conn *starving_next;
};

/* Lines about others' faults are counted by the second. */
struct log_limit {
	uint64_t second;
	unsigned int lines, dropped;
};

struct service {
	struct loop *loop;
	struct service_config config;
	struct opening_server opening;
	struct transport *transport; /* NULL: the service is freed, and waits for its last requests */
	struct service_conn *conns;
	size_t conn_count; /* also of those that are gone and have requests under way */
	struct service_conn *starving_first, *starving_last;
	struct box *spare;
	unsigned int spare_count;
	struct service_stats stats; /* but what the transport counts */
	struct log_limit log_limit;
};

/* --- what is said of others --------------------------------------------------------------------------------------- */

static void service_warn(struct service *service, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void service_warn(struct service *service, const char *format, ...)
{
	struct log_limit *limit = &service->log_limit;
	uint64_t second = loop_now_ns(service->loop) / NSEC_PER_SEC;
	char line[512];
	va_list args;

	if (second != limit->second) {
		if (limit->dropped > 0)
			log_warning("%u lines like the last ones not shown", limit->dropped);
		*limit = (struct log_limit){ .second = second };
	}
	if (limit->lines == LOG_LINES_MAX) {
		limit->dropped++;
		return;
	}
	limit->lines++;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	log_warning("%s", line);
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static struct box *box_new(struct service *service)
{
	struct box *box = service->spare;

	if (box != NULL) {
		service->spare = box->next;
		service->spare_count--;
	} else {
		box = malloc(sizeof(*box));
		if (box == NULL)
			return NULL;
	}
	box->request = (struct request){ 0 };
	box->next = NULL;
	box->refusal = 0;
	box->raw_large = NULL;
	return box;
}

static void box_free(struct service *service, struct box *box)
{
	if (box->request.bulk != NULL)
		box->request.bulk->release(box->request.bulk);
	arena_release(&box->arena);
	free(box->raw_large);
	if (service->transport != NULL && service->spare_count < REQUESTS_SPARE_MAX) {
		box->next = service->spare;
		service->spare = box;
		service->spare_count++;
	} else {
		free(box);
	}
}

static void service_destroy_if_over(struct service *service)
{
	if (service->transport == NULL && service->conn_count == 0)
		free(service);
}

static void conn_destroy_if_over(struct service_conn *conn)
{
	struct service *service = conn->service;

	if (conn->transport != NULL || conn->running > 0)
		return;
	free(conn);
	service->conn_count--;
	service_destroy_if_over(service);
}

/* The request is answered, or never will be: the connection may take another one. May free the connection. */
static void request_over(struct box *box)
{
	struct service_conn *conn = box->request.conn;

	box_free(conn->service, box);
	assert(conn->running > 0);
	conn->running--;
	if (conn->throttled && conn->transport != NULL) {
		conn->throttled = false;
		transport_resume(conn->transport);
	}
	conn_destroy_if_over(conn);
}

static void bulk_free(struct bulk *bulk)
{
	free(bulk);
}

static struct bulk *bulk_malloc(size_t size)
{
	struct bulk *bulk = malloc(sizeof(*bulk) + size);

	if (bulk != NULL)
		*bulk = (struct bulk){ .data = bulk + 1, .size = size, .release = bulk_free };
	return bulk;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static void starving_remove(struct service_conn *conn)
{
	struct service *service = conn->service;
	struct service_conn **link = &service->starving_first, *last = NULL;

	if (!conn->starving)
		return;
	while (*link != conn) {
		last = *link;
		link = &last->starving_next;
	}
	*link = conn->starving_next;
	if (service->starving_last == conn)
		service->starving_last = last;
	conn->starving = false;
}

/* The transport has ended or is about to. Tells the owner; the memory goes with the last request. */
static void conn_gone(struct service_conn *conn)
{
	struct service *service = conn->service;
	bool opened = conn->opening == NULL;

	conn->transport = NULL;
	starving_remove(conn);
	free(conn->opening);
	conn->opening = NULL;
	if (conn->previous != NULL)
		conn->previous->next = conn->next;
	else
		service->conns = conn->next;
	if (conn->next != NULL)
		conn->next->previous = conn->previous;
	service->stats.connections--;

	conn->running++; /* the owner may answer requests in its callback */
	if (opened && service->config.closed != NULL)
		service->config.closed(service->config.owner, conn);
	if (conn->arriving != NULL) {
		box_free(service, conn->arriving);
		conn->arriving = NULL;
		conn->running--;
	}
	conn->running--;
	conn_destroy_if_over(conn);
}

static void conn_closed(void *owner, int err, const char *text)
{
	struct service_conn *conn = owner;

	/* To go away is everybody's right. */
	if (err != -ECONNRESET && err != -EPIPE)
		service_warn(conn->service, "%s: cut off: %s", conn->name, text);
	conn_gone(conn);
}

void service_conn_close(struct service_conn *conn)
{
	if (conn->transport == NULL)
		return;
	transport_close(conn->transport);
	conn_gone(conn);
}

static void starving_append(struct service_conn *conn)
{
	struct service *service = conn->service;

	if (conn->starving)
		return;
	conn->starving = true;
	conn->starving_next = NULL;
	if (service->starving_last != NULL)
		service->starving_last->starving_next = conn;
	else
		service->starving_first = conn;
	service->starving_last = conn;
}

void service_bulk_available(struct service *service)
{
	struct service_conn *conn = service->starving_first;

	/* They ask again from the loop, in this order; who gets nothing comes back, at the end. */
	service->starving_first = service->starving_last = NULL;
	for (; conn != NULL; conn = conn->starving_next) {
		conn->starving = false;
		transport_resume(conn->transport);
	}
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

/* May this connection ask this of this service? */
static int request_admit(const struct service_conn *conn, const struct op *op)
{
	const struct service_config *config = &conn->service->config;

	if (op == NULL || (op->role != ROLE_ANY && op->role != config->role))
		return -EOPNOTSUPP;
	if (op->flags & OP_PUSH)
		return -EPROTO;
	if ((op->flags & OP_MDT) && conn->hello.own_role != ROLE_MDT)
		return -EPERM;
	if ((op->flags & OP_ADMIN) && !conn->hello.admin)
		return -EPERM;
	return 0;
}

/* Keep the body's bytes and unpack them. */
static int request_read_body(struct box *box, const struct frame_header *header, const uint8_t *body)
{
	struct request *request = &box->request;
	uint8_t *raw = box->raw;

	if (header->body_len > sizeof(box->raw)) {
		raw = box->raw_large = malloc(header->body_len);
		if (raw == NULL)
			return -ENOMEM;
	}
	memcpy(raw, body, header->body_len);
	request->raw = raw;
	request->body = protobuf_c_message_unpack(request->op->request, &box->arena.allocator, header->body_len, raw);
	return request->body == NULL ? -EBADMSG : 0;
}

static int conn_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct service_conn *conn = owner;
	struct service *service = conn->service;
	const struct op *op = op_find(header->opcode);
	int refusal = request_admit(conn, op);
	struct bulk *bulk = NULL;
	struct box *box;

	if (header->kind != FRAME_REQUEST)
		return -EPROTO;
	if (conn->running >= service->opening.credits) {
		conn->throttled = true;
		return -EAGAIN;
	}
	if (header->bulk_len > 0 && refusal == 0) {
		bulk = service->config.bulk_alloc == NULL
			       ? bulk_malloc(header->bulk_len)
			       : service->config.bulk_alloc(service->config.owner, header->bulk_len);
		if (bulk == NULL && service->config.bulk_alloc == NULL)
			return -ENOMEM;
		if (bulk == NULL) {
			starving_append(conn);
			return -EAGAIN;
		}
		assert(bulk->size >= header->bulk_len);
	}
	box = box_new(service);
	if (box == NULL) {
		if (bulk != NULL)
			bulk->release(bulk);
		return -ENOMEM;
	}

	arena_init(&box->arena, box->memory, sizeof(box->memory),
		   BODY_UNFOLD * (size_t)header->body_len + BODY_UNFOLD_ANY);
	box->request.conn = conn;
	box->request.header = *header;
	box->request.op = op;
	box->request.bulk = bulk;
	box->request.arrived_ns = loop_now_ns(service->loop);
	box->refusal = refusal != 0 ? refusal : request_read_body(box, header, body);
	if (box->refusal != 0 && bulk != NULL) {
		bulk->release(bulk);
		box->request.bulk = NULL;
	}
	conn->arriving = box;
	conn->running++;
	service->stats.requests++;
	if (box->request.bulk != NULL)
		*ret_bulk = bulk->data;
	return 0;
}

static int conn_message(void *owner, const struct frame_header *header)
{
	struct service_conn *conn = owner;
	struct service *service = conn->service;
	struct box *box = conn->arriving;

	conn->arriving = NULL;
	if (box->refusal != 0) {
		service->stats.refused++;
		service_warn(service, "%s: refused %s: %s", conn->name, op_name(header->opcode),
			     strerror(-box->refusal));
		service_reply_error(&box->request, box->refusal);
	} else if (header->opcode == OP_PING) {
		service_reply_error(&box->request, 0);
	} else {
		service->config.handle(service->config.owner, &box->request);
	}
	return 0;
}

static const struct transport_events conn_frames = {
	.frame = conn_frame,
	.message = conn_message,
	.closed = conn_closed,
};

/* --- the opening -------------------------------------------------------------------------------------------------- */

/* Have the last words read, and part. */
static void conn_refuse(struct service_conn *conn, const char *text)
{
	conn->service->stats.refused++;
	service_warn(conn->service, "%s: refused: %s", conn->name, text);
	transport_finish(conn->transport);
	conn_gone(conn);
}

static void conn_welcome(struct service_conn *conn, const uint8_t *hello)
{
	struct opening *opening = conn->opening;
	char text[OPENING_TEXT_SIZE] = "";
	uint8_t nonce[OPENING_NONCE_SIZE];
	int err;

	if (getrandom(nonce, sizeof(nonce), 0) != (ssize_t)sizeof(nonce)) {
		conn_refuse(conn, "no random numbers");
		return;
	}
	memcpy(opening->hello, hello, OPENING_HELLO_SIZE);
	err = opening_welcome(&conn->service->opening, hello, nonce, &conn->hello, opening->welcome, text);
	opening->welcomed = true;
	if (transport_send_bytes(conn->transport, opening->welcome, OPENING_WELCOME_SIZE) < 0 && err == 0)
		snprintf(text, sizeof(text), "out of memory");
	if (text[0] != 0)
		conn_refuse(conn, text);
}

static void conn_accept(struct service_conn *conn, const uint8_t *proof)
{
	uint8_t accept[OPENING_ACCEPT_SIZE];
	char text[OPENING_TEXT_SIZE] = "";
	int err = opening_accept(&conn->service->opening, conn->opening->hello, conn->opening->welcome, proof, accept,
				 text);

	if (transport_send_bytes(conn->transport, accept, sizeof(accept)) < 0 && err == 0)
		snprintf(text, sizeof(text), "out of memory");
	if (text[0] != 0) {
		conn_refuse(conn, text);
		return;
	}
	free(conn->opening);
	conn->opening = NULL;
	snprintf(conn->name + strlen(conn->name), sizeof(conn->name) - strlen(conn->name), " (%s)",
		 role_name(conn->hello.own_role));
	transport_begin(conn->transport, &conn_frames, conn);
}

static size_t conn_bytes(void *owner, const uint8_t *data, size_t size)
{
	struct service_conn *conn = owner;

	if (conn->opening->welcomed) {
		if (size < OPENING_PROOF_SIZE)
			return 0;
		conn_accept(conn, data);
		return OPENING_PROOF_SIZE;
	}
	if (!opening_hello_begins(data, size)) {
		service_warn(conn->service, "%s: refused: it does not speak our protocol", conn->name);
		conn->service->stats.refused++;
		service_conn_close(conn);
		return size;
	}
	if (size < OPENING_HELLO_SIZE)
		return 0;
	conn_welcome(conn, data);
	return OPENING_HELLO_SIZE;
}

static const struct transport_events conn_opening = { .bytes = conn_bytes, .closed = conn_closed };

static void service_incoming(void *owner, struct transport_incoming *incoming, const char *name)
{
	struct service *service = owner;
	struct service_conn *conn;

	if (service->conn_count >= service->config.connections_max) {
		service_warn(service, "client %s: refused: there are %zu connections already", name,
			     service->conn_count);
		service->stats.refused++;
		return;
	}
	conn = calloc(1, sizeof(*conn));
	if (conn == NULL)
		return;
	conn->service = service;
	snprintf(conn->name, sizeof(conn->name), "client %s", name);
	conn->opening = calloc(1, sizeof(*conn->opening));
	if (conn->opening == NULL || transport_accept(incoming, &conn_opening, conn, &conn->transport) < 0) {
		free(conn->opening);
		free(conn);
		return;
	}
	conn->next = service->conns;
	if (service->conns != NULL)
		service->conns->previous = conn;
	service->conns = conn;
	service->conn_count++;
	service->stats.connections++;
}

static void service_paused(void *owner, int err)
{
	service_warn(owner, "cannot accept connections for a while: %s", strerror(-err));
}

static const struct transport_listener_events service_listener = { .incoming = service_incoming,
								   .paused = service_paused };

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void reply_bulk_done(void *arg)
{
	struct bulk *bulk = arg;

	bulk->release(bulk);
}

/* Into the connection's queue; whatever happens, the reply's memory is given back once. */
static void reply_send(struct service_conn *conn, struct transport_message *message, const struct reply *reply)
{
	size_t bulk_len = reply->file_len;
	int err = -ECONNRESET;

	for (int i = 0; i < reply->bulk_count; i++)
		bulk_len += reply->bulk[i].iov_len;
	if (reply->file_len > 0) {
		assert(reply->bulk_count == 0 && reply->owner == NULL);
		message->file = reply->file;
		message->file_offset = reply->file_offset;
		message->file_len = reply->file_len;
		message->done = reply->file_done;
		message->arg = reply->file_done_arg;
	} else if (bulk_len > 0) {
		message->bulk = reply->bulk;
		message->bulk_count = reply->bulk_count;
		message->done = reply->owner != NULL ? reply_bulk_done : NULL;
		message->arg = reply->owner;
	}

	if (conn->transport != NULL) {
		err = transport_send(conn->transport, message);
		if (err == -EMSGSIZE) { /* our own fault: repeated, the request would fail for ever */
			struct transport_message refusal = { .header = message->header };

			refusal.header.status = status_from_errno(-EOVERFLOW);
			service_warn(conn->service, "%s: an answer to %s is longer than allowed", conn->name,
				     op_name(message->header.opcode));
			err = transport_send(conn->transport, &refusal);
			bulk_len = 0;
		}
		if (err < 0) {
			service_warn(conn->service, "%s: cut off: an answer cannot be sent: %s", conn->name,
				     strerror(-err));
			service_conn_close(conn);
		} else {
			conn->service->stats.replies++;
		}
	}
	/* What the transport has not taken, or what had no bulk to go with. */
	if (reply->owner != NULL && (err < 0 || bulk_len == 0))
		reply->owner->release(reply->owner);
	if (reply->file_done != NULL && (err < 0 || bulk_len == 0))
		reply->file_done(reply->file_done_arg);
}

void service_reply(struct request *request, const struct reply *reply)
{
	struct box *box = (struct box *)request;
	struct transport_message message = {
		.header = {
			.kind = FRAME_REPLY,
			.opcode = request->header.opcode,
			.credits = request->conn->service->opening.credits,
			.status = status_from_errno(reply->err),
			.xid = request->header.xid,
			.session = request->header.session,
			.slot = request->header.slot,
			.seq = request->header.seq,
			.log_index = reply->log_index,
			.durable_index = reply->durable_index,
		},
		.body = reply->body,
		.raw = reply->raw,
		.raw_len = reply->raw_len,
	};

	reply_send(request->conn, &message, reply);
	request_over(box);
}

void service_reply_error(struct request *request, int err)
{
	service_reply(request, &(struct reply){ .err = err });
}

void service_push(struct service_conn *conn, uint16_t opcode, const ProtobufCMessage *message)
{
	const struct transport_message push = {
		.header = { .kind = FRAME_PUSH, .opcode = opcode },
		.body = message,
	};

	if (conn->transport == NULL || conn->opening != NULL)
		return;
	if (transport_queued(conn->transport) > SERVICE_QUEUE_MAX || transport_send(conn->transport, &push) < 0) {
		service_warn(conn->service, "%s: cut off: too much is waiting to be sent to it", conn->name);
		service_conn_close(conn);
	}
}

/* --- the owner's other calls -------------------------------------------------------------------------------------- */

int service_new(struct loop *loop, const struct service_config *config, struct service **ret_service)
{
	const struct transport_limits limits = {
		.opening_ms = OPENING_DEADLINE_MS,
		.frame_ms = config->frame_deadline_ms != 0 ? config->frame_deadline_ms : SERVICE_FRAME_DEADLINE_MS,
		.stall_ms = config->stall_ms != 0 ? config->stall_ms : SERVICE_STALL_MS,
		.queue_max = SERVICE_QUEUE_MAX,
	};
	struct service *service = calloc(1, sizeof(*service));
	int err;

	if (service == NULL)
		return -ENOMEM;
	service->loop = loop;
	service->config = *config;
	if (config->connections_max == 0)
		service->config.connections_max = CONNECTIONS_MAX_DEFAULT;
	service->opening = (struct opening_server){
		.fs = config->fs,
		.target = config->target,
		.role = config->role,
		.key = config->key,
		.admin_key = config->admin_key,
		.credits = config->credits != 0 ? config->credits : SERVICE_CREDITS_DEFAULT,
	};
	err = transport_tcp_new(loop, &limits, &service->transport);
	if (err < 0) {
		free(service);
		return err;
	}
	*ret_service = service;
	return 0;
}

struct service *service_free(struct service *service)
{
	if (service == NULL)
		return NULL;
	while (service->conns != NULL)
		service_conn_close(service->conns);
	while (service->spare != NULL) {
		struct box *box = service->spare;

		service->spare = box->next;
		free(box);
	}
	service->spare_count = 0;
	service->transport = transport_free(service->transport);
	service_destroy_if_over(service);
	return NULL;
}

int service_listen(struct service *service, const char *address, uint16_t *ret_port)
{
	return transport_listen(service->transport, address, &service_listener, service, ret_port);
}

const char *service_conn_name(const struct service_conn *conn)
{
	return conn->name;
}

enum role service_conn_role(const struct service_conn *conn)
{
	return conn->hello.own_role;
}

const struct uuid *service_conn_uuid(const struct service_conn *conn)
{
	return &conn->hello.own_uuid;
}

void service_conn_set_data(struct service_conn *conn, void *data)
{
	conn->data = data;
}

void *service_conn_data(const struct service_conn *conn)
{
	return conn->data;
}

void service_each_conn(struct service *service, void (*fn)(struct service_conn *conn, void *arg), void *arg)
{
	struct service_conn *next;

	for (struct service_conn *conn = service->conns; conn != NULL; conn = next) {
		next = conn->next;
		if (conn->opening == NULL)
			fn(conn, arg);
	}
}

void service_stats(const struct service *service, struct service_stats *ret_stats)
{
	struct transport_stats stats;

	transport_stats(service->transport, &stats);
	*ret_stats = service->stats;
	ret_stats->bytes_in = stats.bytes_in;
	ret_stats->bytes_out = stats.bytes_out;
	ret_stats->sends = stats.sends;
	ret_stats->receives = stats.receives;
}
