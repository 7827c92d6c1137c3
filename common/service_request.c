#include "common/arena.h"
#include "common/container_of.h"
#include "common/service_internal.h"
#include "proto/common.pb-c.h"

#include <assert.h>
#include <errno.h>
#include <stdalign.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define REQUESTS_SPARE_MAX 256  /* requests kept for reuse */
#define REQUEST_RAW_SIZE   512  /* a body up to this long lies in the request */
#define REQUEST_ARENA_SIZE 1024 /* and what is unpacked of it, here */
#define HOARD_CHECK_MS     (SERVICE_HOARD_MS / 4)

struct service_box {
	struct request request;   /* first */
	struct service_box *next; /* among the spare ones, or those that arrive */
	int refusal;              /* answer it with this instead of handing it on */
	uint8_t *raw_large;       /* where a long body lies */
	struct arena arena;       /* where the unpacked one lies */
	uint8_t raw[REQUEST_RAW_SIZE];
	alignas(max_align_t) uint8_t memory[REQUEST_ARENA_SIZE];
};

/* --- requests ----------------------------------------------------------------------------------------------------- */

static struct service_box *box_new(struct service *service)
{
	struct service_box *box = service->spare;

	if (box != NULL) {
		service->spare = box->next;
		service->spare_count--;
	} else {
		box = malloc(sizeof(*box));
		if (box == NULL)
			return NULL;
	}
	box->request = (struct request){ 0 };
	box->arena = (struct arena){ 0 };
	box->next = NULL;
	box->refusal = 0;
	box->raw_large = NULL;
	return box;
}

static void box_free(struct service *service, struct service_box *box)
{
	if (box->request.bulk != NULL)
		box->request.bulk->release(box->request.bulk);
	arena_release(&box->arena);
	free(box->raw_large);
	if (!service->freed && service->spare_count < REQUESTS_SPARE_MAX) {
		box->next = service->spare;
		service->spare = box;
		service->spare_count++;
	} else {
		free(box);
	}
}

void service_spare_free(struct service *service)
{
	while (service->spare != NULL) {
		struct service_box *box = service->spare;

		service->spare = box->next;
		free(box);
	}
	service->spare_count = 0;
}

void service_request_over(struct request *request)
{
	struct service_conn *conn = request->conn;

	box_free(conn->service, (struct service_box *)request);
	assert(conn->running > 0);
	conn->running--;
	if (conn->throttled && conn->transport != NULL) {
		conn->throttled = false;
		transport_resume(conn->transport);
	}
	service_conn_destroy_if_over(conn);
}

/* --- bulk memory -------------------------------------------------------------------------------------------------- */

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

static void hoard_check_later(struct service *service)
{
	loop_timer_set(service->loop, &service->hoard_timer,
		       loop_now_ns(service->loop) + HOARD_CHECK_MS * NSEC_PER_MSEC);
}

/* As long as a frame may take: whoever is silent for longer has been cut off anyway. */
void service_bulk_wanted(struct service *service)
{
	service->hoard_until_ns = loop_now_ns(service->loop) + SERVICE_FRAME_DEADLINE_MS * NSEC_PER_MSEC;
	if (service->hoard_timer.loop == NULL)
		hoard_check_later(service);
}

/* What comes behind a request that waits for memory is not read: a sign of life that is asked for there is given unasked. */
static void tell_busy(struct service *service)
{
	const Strake__Empty nothing = STRAKE__EMPTY__INIT;

	for (struct service_conn *conn = service->conns, *next; conn != NULL; conn = next) {
		next = conn->next; /* this one may be cut off */
		if (conn->wants_memory && conn->fabric == FABRIC_RDMA && transport_queued(conn->transport) == 0)
			service_push(conn, OP_BUSY, &nothing.base);
	}
}

void service_hoard_check(struct loop_timer *timer)
{
	struct service *service = container_of(timer, struct service, hoard_timer);

	tell_busy(service);
	if (loop_now_ns(service->loop) < service->hoard_until_ns)
		hoard_check_later(service);
	fabrics_reclaim(&service->fabrics, SERVICE_HOARD_MS);
}

/* Memory for a request's bulk. -EAGAIN: none just now, and the connection waits for it. */
static int bulk_for(struct service_conn *conn, const struct op *op, size_t size, struct bulk **ret_bulk)
{
	const struct service_config *config = &conn->service->config;
	struct bulk *bulk;

	if (op->number == OP_NET_TEST) {
		*ret_bulk = service_net_sink(conn->service);
		return *ret_bulk == NULL ? -ENOMEM : 0;
	}
	bulk = config->bulk_alloc(config->owner, size);
	conn->wants_memory = bulk == NULL;
	if (bulk == NULL) {
		starving_append(conn);
		service_bulk_wanted(conn->service);
		return -EAGAIN;
	}
	assert(bulk->size >= size);
	*ret_bulk = bulk;
	return 0;
}

/* --- frames ------------------------------------------------------------------------------------------------------- */

/* May this connection ask this of this service? */
static int request_admit(const struct service_conn *conn, const struct op *op, const struct frame_header *header)
{
	const struct service_config *config = &conn->service->config;

	if (op == NULL || (op->role != ROLE_ANY && op->role != config->role))
		return -EOPNOTSUPP;
	if ((op->flags & OP_PUSH) || (header->bulk_len > 0 && config->bulk_alloc == NULL && op->number != OP_NET_TEST))
		return -EPROTO;
	if ((op->flags & OP_MDT) && conn->hello.own_role != ROLE_MDT)
		return -EPERM;
	return 0;
}

/* Keep the body's bytes and unpack them. */
static int request_read_body(struct service_box *box, const struct frame_header *header, const uint8_t *body)
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
	request->body = arena_unpack(&box->arena, box->memory, sizeof(box->memory), request->op->request, raw,
				     header->body_len);
	return request->body == NULL ? -EBADMSG : 0;
}

/* The request of a frame whose body is here; bulk (may be NULL) becomes its own. */
static void box_fill(struct service_box *box, struct service_conn *conn, const struct frame_header *header,
		     const struct op *op, struct bulk *bulk)
{
	box->request.conn = conn;
	box->request.header = *header;
	box->request.op = op;
	box->request.bulk = bulk;
}

static int conn_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct service_conn *conn = owner;
	struct service *service = conn->service;
	const struct op *op = op_find(header->opcode);
	int refusal = request_admit(conn, op, header), err;
	struct bulk *bulk = NULL;
	struct service_box *box;

	if (header->kind != FRAME_REQUEST)
		return -EPROTO;
	if (!conn->has_asked)
		service_conn_asks(conn);
	if (conn->running >= service->opening.credits) {
		conn->throttled = true;
		return -EAGAIN;
	}
	if (header->bulk_len > 0 && refusal == 0) {
		err = bulk_for(conn, op, header->bulk_len, &bulk);
		if (err < 0)
			return err;
	}
	box = box_new(service);
	if (box == NULL) {
		if (bulk != NULL)
			bulk->release(bulk);
		return -ENOMEM;
	}

	box_fill(box, conn, header, op, bulk);
	box->refusal = refusal != 0 ? refusal : request_read_body(box, header, body);
	if (box->refusal != 0 && bulk != NULL) {
		bulk->release(bulk);
		box->request.bulk = NULL;
	}
	if (conn->arriving == NULL)
		conn->arriving_end = &conn->arriving;
	*conn->arriving_end = box;
	conn->arriving_end = &box->next;
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
	struct service_box *box = conn->arriving;

	conn->arriving = box->next;
	if (box->refusal != 0) {
		service->stats.refused++;
		service_warn(service, "%s: refused %s (0x%x): %s", conn->name, op_name(header->opcode), header->opcode,
			     strerror(-box->refusal));
		service_reply_error(&box->request, box->refusal);
	} else if (header->opcode == OP_PING) {
		service_reply_error(&box->request, 0);
	} else if (header->opcode == OP_NET_TEST) {
		service_net_test(&box->request);
	} else {
		service->config.handle(service->config.owner, &box->request);
	}
	return 0;
}

const struct transport_events service_frames = {
	.frame = conn_frame,
	.message = conn_message,
	.closed = service_conn_closed,
};

void service_request_abandon(struct service_conn *conn)
{
	starving_remove(conn);
	conn->wants_memory = false;
	while (conn->arriving != NULL) {
		struct service_box *box = conn->arriving;

		conn->arriving = box->next;
		box_free(conn->service, box);
		conn->running--;
	}
}
