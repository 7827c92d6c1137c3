/*
 * What transport.h promises of any fabric and peer and service do not try: the owner's calls from within events, at
 * awkward moments; and, of RDMA, what a fabric may do to it. Two ends on one loop; bodies run in a fiber, so they check
 * with assert().
 *
 * Every test runs on TCP, and on RDMA over a fabric in memory (fake_verbs.h), once with each of some seeds: a failure names
 * it, as the number behind the test's name. SEED=N adds to them. With TEST_RDMA=ADDRESS, an address of a real RDMA device,
 * they run there, by the plug-in, and nowhere else; what needs a fabric that falls silent does so if TEST_RDMA_WIRE names a
 * link without which nothing gets through.
 */
#include "common/fiber.h"
#include "common/logger.h"
#include "common/loop.h"
#include "common/rdma/credits.h"
#include "common/rdma/preface.h"
#include "common/rdma/segment.h"
#include "common/transport_rdma.h"
#include "common/transport_tcp.h"
#include "tests/unit/fake_verbs.h"
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define TCP      0 /* the number of a run on TCP; others are seeds, but for: */
#define REAL     1000
#define SEEDS    6
#define DELAY_US 300

#ifdef STRAKE_SAN
#define ROUNDS 40
#else
#define ROUNDS 150
#endif

static bool is_real(void)
{
	return getenv("TEST_RDMA") != NULL;
}

/* From now on nothing arrives, and nobody is told. */
static void fabric_silence(bool silent)
{
	char command[100];

	if (!is_real()) {
		fabric.silent = silent;
		return;
	}
	snprintf(command, sizeof(command), "ip link set %s %s", getenv("TEST_RDMA_WIRE"), silent ? "down" : "up");
	assert(system(command) == 0);
}

/* One end of the connection, and how it behaves. */
struct end {
	struct transport_conn *conn; /* NULL: it has ended */
	unsigned int frames, messages, done;
	int frame_answer; /* what `frame` says */
	bool finish_in_frame;
	bool silence_in_frame; /* nothing that is sent from then on arrives */
	bool close_in_done;
	int closed; /* with this error */

	/* traffic */
	struct end *other;
	unsigned int sent, sending; /* messages; of them, those whose `done` has not been called */
	unsigned int busy;          /* it says "not now" so often in a hundred */
	bool resuming;
	struct loop_timer resume_timer;
	uint64_t random;
	void *last_bulk; /* of the message sent last that has some; NULL: it is given back */
	uint8_t *bulk;   /* where the bulk that comes goes */
};

struct world {
	struct loop *loop;
	struct transport *server, *client;
	struct end near, far; /* the client's, the server's */
	uint16_t port;
	int fabric; /* TCP, REAL or a seed */
	bool accepts;
	const struct transport_events *events; /* of both ends; NULL: end_events */
	struct transport_limits limits;
	void (*body)(struct world *world);
};

/* Go on when the condition holds: everything that has to happen for it happens on this loop. */
#define WAIT_FOR(condition)  \
	while (!(condition)) \
	fiber_sleep_ms(1)

static int end_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct end *end = owner;

	(void)header, (void)body, (void)ret_bulk;
	end->frames++;
	if (end->silence_in_frame)
		fabric_silence(true);
	if (end->finish_in_frame) {
		transport_finish(end->conn);
		end->conn = NULL;
	}
	return end->frame_answer;
}

static int end_message(void *owner, const struct frame_header *header)
{
	(void)header;
	((struct end *)owner)->messages++;
	return 0;
}

static void end_closed(void *owner, int err, const char *text)
{
	(void)text;
	assert(err < 0);
	((struct end *)owner)->conn = NULL;
	((struct end *)owner)->closed = err;
}

static const struct transport_events end_events = {
	.frame = end_frame,
	.message = end_message,
	.closed = end_closed,
};

static void end_done(void *arg)
{
	struct end *end = arg;

	end->done++;
	if (end->close_in_done && end->conn != NULL) {
		struct transport_conn *conn = end->conn;

		end->conn = NULL;
		transport_close(conn);
	}
}

static void world_incoming(void *owner, struct transport_incoming *incoming, const char *name)
{
	struct world *world = owner;

	if (world->fabric != REAL)
		assert(strncmp(name, "127.0.0.1:", 10) == 0);
	if (!world->accepts)
		return;
	assert(transport_accept(incoming, world->events, &world->far, &world->far.conn) == 0);
	transport_begin(world->far.conn, world->events, &world->far);
}

static const struct transport_listener_events world_listener = { .incoming = world_incoming };

static void world_connect(struct world *world)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(world->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	if (world->fabric == REAL)
		assert(inet_pton(AF_INET, getenv("TEST_RDMA"), &address.sin_addr) == 1);
	assert(transport_connect(world->client, (const struct sockaddr *)&address, sizeof(address), world->events,
				 &world->near, &world->near.conn) == 0);
	transport_begin(world->near.conn, world->events, &world->near);
}

/* A message of so many bytes of body and of bulk. */
static void near_send(struct world *world, size_t body_len, size_t bulk_len)
{
	static const uint8_t bytes[512 * 1024];
	const struct iovec bulk = { (void *)(uintptr_t)bytes, bulk_len };
	struct transport_message message = {
		.header.kind = FRAME_PUSH,
		.raw = bytes,
		.raw_len = body_len,
	};

	if (bulk_len > 0) {
		message.bulk = &bulk;
		message.bulk_count = 1;
		message.done = end_done;
		message.arg = &world->near;
	}
	assert(transport_send(world->near.conn, &message) == 0);
}

static void world_fiber(void *arg)
{
	struct world *world = arg;

	world->body(world);
	world->server = transport_free(world->server);
	world->client = transport_free(world->client);
	loop_stop(world->loop);
}

static int transport_make(const struct world *world, struct transport **ret_transport)
{
	if (world->fabric == TCP)
		return transport_tcp_new(world->loop, &world->limits, ret_transport);
	if (world->fabric == REAL)
		return transport_rdma_new(world->loop, &world->limits, ret_transport);
	return strake_transport_rdma_new(world->loop, &world->limits, ret_transport);
}

static uint64_t seed_of(int fabric_number)
{
	const char *more = getenv("SEED");

	return (uint64_t)fabric_number + (more != NULL ? (uint64_t)strtoull(more, NULL, 10) : 0);
}

static void in_world(int fabric_number, struct world world, void (*body)(struct world *world))
{
	char address[64] = "127.0.0.1:0";

	logger_init("transport_test", LOGGER_ERROR);
	world.body = body;
	world.fabric = fabric_number;
	if (world.events == NULL)
		world.events = &end_events;
	if (world.limits.opening_ms == 0)
		world.limits.opening_ms = 5000;
	if (fabric_number == REAL)
		snprintf(address, sizeof(address), "%s:0", getenv("TEST_RDMA"));
	if (fabric_number == REAL && getenv("TEST_RDMA_WIRE") != NULL)
		fabric_silence(false);
	ck_assert_int_eq(loop_new(&world.loop), 0);
	if (fabric_number != TCP && fabric_number != REAL) {
		fabric_begin(world.loop, seed_of(fabric_number), DELAY_US);
		fabric.iwarp = fabric_number % 2 == 1;
		fabric.device.transport_type = fabric.iwarp ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB;
	}
	ck_assert_int_eq(transport_make(&world, &world.server), 0);
	world.limits.queue_max = 0; /* who asks reads always */
	ck_assert_int_eq(transport_make(&world, &world.client), 0);
	ck_assert_int_eq(transport_listen(world.server, address, &world_listener, &world, &world.port), 0);
	ck_assert_int_eq(fiber_start(world.loop, world_fiber, &world), 0);
	ck_assert_int_eq(loop_run(world.loop), 0);
	if (fabric_number != TCP && fabric_number != REAL)
		fabric_end();
	loop_free(world.loop);
}

static void body_refused(struct world *world)
{
	world_connect(world);
	WAIT_FOR(world->near.conn == NULL);
	assert(world->far.conn == NULL);
	assert(world->fabric == TCP || world->near.closed == -ECONNREFUSED);
}

START_TEST(who_is_not_accepted_is_refused)
{
	in_world(_i, (struct world){ .accepts = false }, body_refused);
}
END_TEST

/* Both leave in one call; the first one's end takes the other along. */
static void body_close_in_done(struct world *world)
{
	world_connect(world);
	near_send(world, 10, 1000);
	near_send(world, 10, 1000);
	WAIT_FOR(world->near.conn == NULL);
	WAIT_FOR(world->far.conn == NULL && world->far.frames > 0);
	assert(world->near.done == 2 && world->far.messages == 2);
}

START_TEST(a_message_done_may_close_the_connection)
{
	in_world(_i, (struct world){ .accepts = true, .near.close_in_done = true }, body_close_in_done);
}
END_TEST

static void body_finish_in_frame(struct world *world)
{
	world_connect(world);
	near_send(world, 10, 300000);
	near_send(world, 10, 300000);
	WAIT_FOR(world->near.conn == NULL);
	assert(world->near.done == 2 && world->far.frames == 1 && world->far.messages == 0);
}

START_TEST(a_frame_may_finish_the_connection)
{
	in_world(_i, (struct world){ .accepts = true, .far.finish_in_frame = true }, body_finish_in_frame);
}
END_TEST

/* What waits for its owner is long, and more comes. */
static void body_finish_paused(struct world *world)
{
	world_connect(world);
	near_send(world, 200000, 300000);
	WAIT_FOR(world->far.frames == 1);
	transport_finish(world->far.conn);
	world->far.conn = NULL;
	WAIT_FOR(world->near.conn == NULL);
	assert(world->near.done == 1 && world->far.frames == 1);
}

START_TEST(a_paused_connection_may_be_finished)
{
	in_world(_i, (struct world){ .accepts = true, .far.frame_answer = -EAGAIN }, body_finish_paused);
}
END_TEST

/* --- traffic ------------------------------------------------------------------------------------------------------ */

#define TRAFFIC_BODY_MAX 40000
#define TRAFFIC_BULK_MAX 300000

static uint64_t end_draw(struct end *end, uint64_t below)
{
	end->random ^= end->random << 13;
	end->random ^= end->random >> 7;
	end->random ^= end->random << 17;
	return end->random % below;
}

/* What the n-th message is, from the same numbers at both ends. */
static struct frame_header traffic_header(unsigned int n)
{
	struct end draw = { .random = (n + 1) * UINT64_C(0x9e3779b97f4a7c15) };
	bool large = end_draw(&draw, 4) == 0;
	uint32_t body_len = (uint32_t)end_draw(&draw, large ? TRAFFIC_BODY_MAX : 300);

	return (struct frame_header){
		.kind = FRAME_PUSH,
		.xid = n,
		.body_len = body_len,
		.bulk_len = (uint32_t)(end_draw(&draw, 2) == 0 ? 0 : end_draw(&draw, large ? TRAFFIC_BULK_MAX : 9000)),
	};
}

static uint8_t traffic_byte(unsigned int n, size_t at)
{
	return (uint8_t)((n * 31 + at) * UINT32_C(2654435761) >> 24);
}

struct traffic_bulk {
	struct end *end;
	struct iovec iov[3];
	uint8_t bytes[];
};

/* Whoever has it back may do with it what he likes. */
static void traffic_done(void *arg)
{
	struct traffic_bulk *bulk = arg;

	memset(bulk->bytes, 0xee, bulk->iov[0].iov_len + bulk->iov[1].iov_len + bulk->iov[2].iov_len);
	assert(bulk->end->sending > 0);
	bulk->end->sending--;
	if (bulk->end->last_bulk == bulk)
		bulk->end->last_bulk = NULL;
	free(bulk);
}

static void traffic_send(struct end *end)
{
	const unsigned int n = end->sent++;
	struct frame_header header = traffic_header(n);
	uint8_t body[TRAFFIC_BODY_MAX];
	struct transport_message message = { .header = header, .raw = body, .raw_len = header.body_len };
	struct traffic_bulk *bulk;

	for (size_t i = 0; i < header.body_len; i++)
		body[i] = traffic_byte(n, i);
	if (header.bulk_len > 0) {
		size_t part = end_draw(end, header.bulk_len);

		bulk = malloc(sizeof(*bulk) + header.bulk_len);
		assert(bulk != NULL);
		for (size_t i = 0; i < header.bulk_len; i++)
			bulk->bytes[i] = traffic_byte(n + 1, i);
		bulk->end = end;
		bulk->iov[0] = (struct iovec){ bulk->bytes, part };
		bulk->iov[1] = (struct iovec){ bulk->bytes + part, 0 };
		bulk->iov[2] = (struct iovec){ bulk->bytes + part, header.bulk_len - part };
		message.bulk = bulk->iov;
		message.bulk_count = 3;
		message.done = traffic_done;
		message.arg = bulk;
		end->last_bulk = bulk;
		end->sending++;
	}
	assert(transport_send(end->conn, &message) == 0);
}

static void traffic_resume(struct loop_timer *timer)
{
	struct end *end = container_of(timer, struct end, resume_timer);

	if (end->conn != NULL)
		transport_resume(end->conn);
}

static int traffic_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct end *end = owner;
	struct frame_header right = traffic_header(end->messages);

	assert(header->xid == end->messages && header->body_len == right.body_len);
	assert(header->bulk_len == right.bulk_len);
	if (end_draw(end, 100) < end->busy) {
		loop_timer_set(loop_current(), &end->resume_timer,
			       loop_now_ns(loop_current()) + end_draw(end, 2) * NSEC_PER_MSEC);
		return -EAGAIN;
	}
	for (size_t i = 0; i < header->body_len; i++)
		assert(body[i] == traffic_byte(end->messages, i));
	memset(end->bulk, 0, TRAFFIC_BULK_MAX);
	*ret_bulk = end->bulk;
	return 0;
}

static int traffic_message(void *owner, const struct frame_header *header)
{
	struct end *end = owner;

	for (size_t i = 0; i < header->bulk_len; i++)
		assert(end->bulk[i] == traffic_byte(end->messages + 1, i));
	end->messages++;
	return 0;
}

static const struct transport_events traffic_events = {
	.frame = traffic_frame,
	.message = traffic_message,
	.closed = end_closed,
};

static void traffic_begin(struct world *world)
{
	struct end *ends[] = { &world->near, &world->far };

	for (int i = 0; i < 2; i++) {
		ends[i]->bulk = malloc(TRAFFIC_BULK_MAX);
		ends[i]->random = seed_of(world->fabric) + 77;
		ends[i]->resume_timer.expired = traffic_resume;
	}
	world_connect(world);
}

static void traffic_end(struct world *world)
{
	loop_timer_cancel(&world->near.resume_timer);
	loop_timer_cancel(&world->far.resume_timer);
	free(world->near.bulk);
	free(world->far.bulk);
}

/* Messages each way at once, of all sizes, to owners who often cannot take them just now. */
static void body_traffic(struct world *world)
{
	struct end *ends[] = { &world->near, &world->far };
	unsigned int bound = 8;

	traffic_begin(world);
	traffic_send(&world->near); /* who has connected begins */
	WAIT_FOR(world->far.conn != NULL);
	while (world->near.messages < ROUNDS || world->far.messages < ROUNDS) {
		for (int i = 0; i < 2; i++) {
			while (ends[i]->sent < ROUNDS && ends[i]->sent < ends[1 - i]->messages + bound)
				traffic_send(ends[i]);
		}
		bound = 1 + (unsigned int)end_draw(&world->near, 40);
		fiber_sleep_ms(1);
		assert(world->near.closed == 0 && world->far.closed == 0);
	}
	WAIT_FOR(world->near.sending == 0 && world->far.sending == 0);
	assert(transport_queued(world->near.conn) == 0 && transport_queued(world->far.conn) == 0);
	traffic_end(world);
}

START_TEST(what_is_sent_arrives_once_and_in_order)
{
	in_world(_i, (struct world){ .accepts = true, .events = &traffic_events, .near.busy = 10, .far.busy = 20 },
		 body_traffic);
}
END_TEST

/* Above so much to send nothing is taken; the other one reads on. */
START_TEST(who_has_too_much_to_send_goes_on)
{
	in_world(_i,
		 (struct world){
			 .accepts = true,
			 .events = &traffic_events,
			 .near.busy = 5,
			 .limits = { .queue_max = 200000, .stall_ms = 600000 },
		 },
		 body_traffic);
}
END_TEST

/* Somewhere in the middle, by an owner, or by the fabric where it can. */
static void body_broken(struct world *world)
{
	struct end *ends[] = { &world->near, &world->far };
	unsigned int until = 1 + (unsigned int)(seed_of(world->fabric) * 7 % 20);

	traffic_begin(world);
	if (world->fabric != TCP && world->fabric != REAL && world->fabric % 3 != 0) {
		fabric.break_in = until * 8;
		until = ROUNDS;
	}
	traffic_send(&world->near);
	WAIT_FOR(world->far.conn != NULL || world->near.closed != 0);
	while (world->near.conn != NULL && world->far.conn != NULL && world->far.messages < until) {
		for (int i = 0; i < 2; i++) {
			while (ends[i]->sent < ends[1 - i]->messages + 20)
				traffic_send(ends[i]);
		}
		fiber_sleep_ms(1);
	}
	if (world->near.conn != NULL && world->far.conn != NULL) {
		transport_close(world->near.conn);
		world->near.conn = NULL;
	}
	WAIT_FOR(world->near.conn == NULL && world->far.conn == NULL);
	assert(world->near.sending == 0 && world->far.sending == 0);
	traffic_end(world);
}

START_TEST(a_connection_that_breaks_gives_everything_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &traffic_events, .near.busy = 10 }, body_broken);
}
END_TEST

/* What was sent with it arrives as it was, whatever becomes of the memory. */
static void body_forget(struct world *world)
{
	traffic_begin(world);
	for (int i = 0; i < 30; i++)
		traffic_send(&world->near);
	assert(world->near.last_bulk != NULL);
	assert(transport_forget(world->near.conn, world->near.last_bulk, NULL) == 0);
	assert(world->near.last_bulk == NULL && world->near.sending > 0);
	WAIT_FOR(world->far.messages == 30);
	WAIT_FOR(world->near.sending == 0);
	traffic_end(world);
}

START_TEST(what_is_forgotten_arrives_all_the_same)
{
	in_world(_i, (struct world){ .accepts = true, .events = &traffic_events, .far.busy = 30 }, body_forget);
}
END_TEST

/* Its credits are used up, it asks for nothing, and says nothing. */
static void body_not_read(struct world *world)
{
	unsigned int sent = 0;

	world_connect(world);
	while (world->near.closed == 0) { /* a kernel takes some MiB */
		for (; transport_queued(world->near.conn) < 1000000; sent++)
			near_send(world, 100, 300000);
		fiber_sleep_ms(1);
	}
	assert(world->near.closed == -ETIMEDOUT && world->near.done == sent && world->far.frames == 1);
}

START_TEST(who_reads_nothing_is_given_up)
{
	in_world(_i, (struct world){ .accepts = true, .far.frame_answer = -EAGAIN, .limits = { .stall_ms = 300 } },
		 body_not_read);
}
END_TEST

/* --- calls -------------------------------------------------------------------------------------------------------- */

#define CALLS         60
#define CALL_BULK_MAX 200000
#define CALL_OVER     0xdd /* what an answer's place is filled with once it is its owner's again */

/* A request, and the place of its answer's bulk. The end that answers has none but what the request's body says. */
struct test_call {
	uint64_t xid;
	uint32_t out_size, in_size; /* of the request's and the answer's bulk */
	uint8_t *out, *in;
	bool sending, answered;
};

static struct calls {
	struct test_call all[CALLS];
	unsigned int asked, answered;
	uint64_t waiting[CALLS]; /* xids that the other end has not answered yet */
	uint32_t wanted[CALLS];  /* of the answer to each */
	unsigned int waiting_count;
	uint32_t arriving;        /* what the request wants whose bulk comes */
	unsigned int replies_out; /* whose `done` has not been called */
	uint8_t *kept;            /* answers leave from here; NULL: from memory of their own */
} calls;

static void call_done(void *arg)
{
	struct test_call *call = arg;

	assert(call->sending);
	call->sending = false;
	memset(call->out, CALL_OVER, call->out_size);
}

static uint32_t draw_size(struct end *end)
{
	static const uint32_t most[] = { 1, 3000, 40000, CALL_BULK_MAX };

	return (uint32_t)end_draw(end, most[end_draw(end, 4)] + 1);
}

static void call_ask(struct world *world, uint32_t out_size, uint32_t in_size)
{
	struct test_call *call = &calls.all[calls.asked];
	size_t part = out_size / 3;
	struct iovec bulk[2];
	struct transport_message message = {
		.header = { .kind = FRAME_REQUEST, .xid = ++calls.asked },
		.raw = (const uint8_t *)&in_size,
		.raw_len = sizeof(in_size),
		.bulk_in_size = in_size,
	};

	*call = (struct test_call){ .xid = calls.asked, .out_size = out_size, .in_size = in_size };
	call->out = malloc(out_size + 1);
	call->in = malloc(in_size + 1);
	for (size_t i = 0; i < out_size; i++)
		call->out[i] = traffic_byte((unsigned int)call->xid, i);
	memset(call->in, 0, in_size);
	message.bulk_in = call->in;
	if (out_size > 0) {
		bulk[0] = (struct iovec){ call->out, part };
		bulk[1] = (struct iovec){ call->out + part, out_size - part };
		message.bulk = bulk;
		message.bulk_count = 2;
		message.done = call_done;
		message.arg = call;
		call->sending = true;
	}
	assert(transport_send(world->near.conn, &message) == 0);
}

static void reply_done(void *arg)
{
	assert(calls.replies_out > 0);
	calls.replies_out--;
	if (arg != calls.kept)
		free(arg);
}

/* One of those that wait. */
static void call_answer(struct end *end)
{
	unsigned int i = (unsigned int)end_draw(end, calls.waiting_count);
	uint64_t xid = calls.waiting[i];
	uint32_t size = calls.wanted[i];
	uint8_t *bytes = calls.kept != NULL ? calls.kept : malloc(size + 1);
	struct iovec bulk[3] = { { bytes, size / 5 }, { bytes, 0 }, { bytes + size / 5, size - size / 5 } };
	struct transport_message message = { .header = { .kind = FRAME_REPLY, .xid = xid } };

	calls.waiting[i] = calls.waiting[--calls.waiting_count];
	calls.wanted[i] = calls.wanted[calls.waiting_count];
	for (size_t at = 0; at < size; at++)
		bytes[at] = traffic_byte((unsigned int)xid + 7, at);
	if (size > 0) {
		message.bulk = bulk;
		message.bulk_count = 3;
		message.done = reply_done;
		message.arg = bytes;
		calls.replies_out++;
	} else {
		free(bytes);
	}
	assert(transport_send(end->conn, &message) == 0);
}

static int calls_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct end *end = owner;
	struct test_call *call = &calls.all[header->xid - 1];

	if (header->kind == FRAME_REQUEST) {
		if (end_draw(end, 100) < end->busy) {
			loop_timer_set(loop_current(), &end->resume_timer, loop_now_ns(loop_current()));
			return -EAGAIN;
		}
		assert(header->bulk_len == call->out_size && header->body_len == sizeof(uint32_t));
		memcpy(&calls.arriving, body, sizeof(calls.arriving));
		*ret_bulk = end->bulk;
		return 0;
	}
	assert(!call->sending && !call->answered && header->bulk_len == call->in_size);
	*ret_bulk = call->in;
	return 0;
}

static int calls_message(void *owner, const struct frame_header *header)
{
	struct end *end = owner;
	struct test_call *call = &calls.all[header->xid - 1];

	if (header->kind == FRAME_REQUEST) {
		for (size_t i = 0; i < call->out_size; i++)
			assert(end->bulk[i] == traffic_byte((unsigned int)header->xid, i));
		calls.wanted[calls.waiting_count] = calls.arriving;
		calls.waiting[calls.waiting_count++] = header->xid;
		end->messages++;
		return 0;
	}
	for (size_t i = 0; i < call->in_size; i++)
		assert(call->in[i] == traffic_byte((unsigned int)header->xid + 7, i));
	memset(call->in, CALL_OVER, call->in_size);
	call->answered = true;
	calls.answered++;
	return 0;
}

static const struct transport_events calls_events = {
	.frame = calls_frame,
	.message = calls_message,
	.closed = end_closed,
};

/* Nothing has been written to what was its owner's again. */
static void calls_check(bool all_given_back)
{
	for (unsigned int n = 0; n < calls.asked; n++) {
		struct test_call *call = &calls.all[n];

		assert(!call->sending);
		for (size_t i = 0; i < call->in_size && (call->answered || all_given_back); i++)
			assert(call->in[i] == CALL_OVER);
		free(call->in);
		free(call->out);
	}
	assert(calls.replies_out == 0);
}

static void body_calls(struct world *world)
{
	calls = (struct calls){ 0 };
	traffic_begin(world);
	call_ask(world, 10, 10);
	WAIT_FOR(world->far.conn != NULL);
	while (calls.answered < CALLS) {
		while (calls.asked < CALLS && calls.asked - calls.answered < 12)
			call_ask(world, draw_size(&world->near), draw_size(&world->near));
		for (unsigned int i = 0; i < 3 && calls.waiting_count > 0; i++)
			call_answer(&world->far);
		fiber_sleep_ms(1);
		assert(world->near.closed == 0 && world->far.closed == 0);
	}
	WAIT_FOR(calls.replies_out == 0);
	if (world->fabric != TCP && world->fabric != REAL)
		assert(fabric.reads > 0 && fabric.writes > 0 && fabric.refused == 0);
	calls_check(true);
	traffic_end(world);
}

START_TEST(calls_get_their_bulk_and_give_it_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events, .far.busy = 20 }, body_calls);
}
END_TEST

/*
 * Kept memory is registered once for all calls, and with no right for the other end; but where iWARP reads into, which needs
 * one. What is shown to the other end is registered for each call: two pieces and a place.
 */
static void body_kept(struct world *world)
{
	const bool real = world->fabric == TCP || world->fabric == REAL;
	const unsigned int each = fabric.iwarp ? 4 : 3;
	uint8_t *kept = malloc(2 * CALL_BULK_MAX);
	uint32_t before = 0;

	calls = (struct calls){ .kept = kept + 1000 };
	traffic_begin(world);
	assert(transport_keep(world->server, kept, 2 * CALL_BULK_MAX) == 0);
	assert(transport_keep(world->server, world->far.bulk, CALL_BULK_MAX) == 0);
	for (unsigned int i = 0; i < 10; i++) {
		call_ask(world, 100000, 100000);
		WAIT_FOR(calls.waiting_count > 0);
		call_answer(&world->far);
		WAIT_FOR(calls.answered == calls.asked && calls.replies_out == 0);
		if (i == 1) /* the first was asked before the connection stood */
			before = fabric.keys;
	}
	assert(real || fabric.keys - before == 8 * each);
	for (unsigned int i = 0; i < REGIONS && !real; i++) {
		const struct ibv_mr *region = fabric.regions[i];

		assert(region == NULL || region->addr != kept ||
		       (region->length == 2 * CALL_BULK_MAX && fabric.access[i] == IBV_ACCESS_LOCAL_WRITE));
	}
	calls_check(true);
	transport_close(world->near.conn);
	world->near.conn = NULL;
	WAIT_FOR(world->far.conn == NULL);
	world->server = transport_free(world->server);
	free(kept);
	traffic_end(world);
}

START_TEST(kept_memory_is_registered_once)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_kept);
}
END_TEST

/* Somewhere among calls: everything is given back, then or by the connection's end, and stays as it is. */
static void body_calls_broken(struct world *world)
{
	unsigned int until = (unsigned int)(seed_of(world->fabric) * 5 % 25);

	calls = (struct calls){ 0 };
	traffic_begin(world);
	call_ask(world, 10, 10);
	WAIT_FOR(world->far.conn != NULL);
	if (world->fabric != TCP && world->fabric != REAL && world->fabric % 2 == 0)
		fabric.break_in = 20 + until;
	while (world->near.conn != NULL && world->far.conn != NULL && calls.answered < 30 + until) {
		while (calls.asked < CALLS && calls.asked - calls.answered < 12)
			call_ask(world, draw_size(&world->near), draw_size(&world->near));
		for (unsigned int i = 0; i < 3 && calls.waiting_count > 0; i++)
			call_answer(&world->far);
		fiber_sleep_ms(1);
	}
	if (world->near.conn != NULL) {
		transport_close(world->near.conn);
		world->near.conn = NULL;
	}
	for (unsigned int n = 0; n < calls.asked; n++) { /* the caller's again */
		assert(!calls.all[n].sending);
		memset(calls.all[n].in, CALL_OVER, calls.all[n].in_size);
	}
	WAIT_FOR(world->far.conn == NULL);
	fiber_sleep_ms(5);
	calls_check(true);
	traffic_end(world);
}

START_TEST(calls_of_a_broken_connection_give_everything_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events, .far.busy = 10 }, body_calls_broken);
}
END_TEST

/* --- a fabric that falls silent, or is late ----------------------------------------------------------------------- */

static void body_nobody_answers(struct world *world)
{
	fabric_silence(true);
	world_connect(world);
	WAIT_FOR(world->near.closed != 0);
	assert(world->near.closed == -ETIMEDOUT && world->far.conn == NULL);
}

START_TEST(a_connection_must_stand_in_time)
{
	in_world(_i, (struct world){ .accepts = true, .limits = { .opening_ms = 100 } }, body_nobody_answers);
}
END_TEST

/* The link is gone in the middle of a frame, which there are too few credits to have sent all of, and nobody says so. */
static void body_silence(struct world *world)
{
	world_connect(world);
	near_send(world, 100, 500000);
	WAIT_FOR(world->far.closed != 0);
	assert(world->far.closed == -ETIMEDOUT && world->far.messages == 0);
	WAIT_FOR(world->near.closed != 0);
	assert(world->near.closed == -ETIMEDOUT && world->near.done == 1);
}

START_TEST(silence_in_the_middle_of_a_frame_ends_it)
{
	in_world(_i,
		 (struct world){ .accepts = true,
				 .far.silence_in_frame = true,
				 .limits = { .frame_ms = 200, .stall_ms = 400 } },
		 body_silence);
}
END_TEST

/* The answer's bulk is on its way when the call is given up; whoever has its memory then never sees it. */
static void body_late_write(struct world *world)
{
	calls = (struct calls){ 0 };
	traffic_begin(world);
	call_ask(world, 10, 10);
	WAIT_FOR(calls.waiting_count == 1);
	call_answer(&world->far);
	WAIT_FOR(calls.answered == 1);

	fabric.writes_are_late = true;
	call_ask(world, 100000, 150000);
	WAIT_FOR(calls.waiting_count == 1);
	{
		/* In one piece: a WRITE of one. */
		uint8_t *bytes = malloc(150000);
		const struct iovec bulk = { bytes, 150000 };
		struct transport_message message = {
			.header = { .kind = FRAME_REPLY, .xid = 2 },
			.bulk = &bulk,
			.bulk_count = 1,
			.done = reply_done,
			.arg = bytes,
		};

		memset(bytes, 0x11, 150000);
		calls.replies_out++;
		assert(transport_send(world->far.conn, &message) == 0);
	}
	fiber_sleep_ms(5);
	assert(transport_forget(world->near.conn, &calls.all[1], calls.all[1].in) <
	       0); /* not while it may be written */
	transport_close(world->near.conn);
	world->near.conn = NULL;
	assert(!calls.all[1].sending);
	memset(calls.all[1].in, CALL_OVER, 150000);
	WAIT_FOR(world->far.conn == NULL);
	fabric_let_late_writes_go();
	assert(fabric.refused == 1);
	calls_check(true);
	traffic_end(world);
}

START_TEST(a_late_write_reaches_no_memory_that_was_given_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_late_write);
}
END_TEST

/* --- credits ------------------------------------------------------------------------------------------------------ */

START_TEST(credits_bound_both_ends)
{
	struct credits credits = credits_begin(4);

	ck_assert_uint_eq(credits.may_send, 4);
	credits.may_send = 1;
	ck_assert_int_eq(credits_returned(&credits, 4), -EPROTO); /* one more than are out */
	ck_assert_int_eq(credits_returned(&credits, 3), 0);

	for (int i = 0; i < CREDITS_OURS; i++)
		ck_assert_int_eq(credits_received(&credits, i % 2 == 0), 0);
	ck_assert_int_eq(credits_received(&credits, false), -EPROTO);
	ck_assert(credits_due(&credits));
	ck_assert_uint_eq(credits_return(&credits), CREDITS_OURS / 2); /* the others are not used yet */
	ck_assert(!credits_due(&credits));
	credits_used(&credits);
	ck_assert_uint_eq(credits_return(&credits), CREDITS_OURS / 2);
	ck_assert_uint_eq(credits.granted, CREDITS_OURS);
}
END_TEST

/* --- what the other end says of itself and of its memory ----------------------------------------------------------- */

START_TEST(segments_are_as_long_as_they_say)
{
	struct segment_header header = { SEGMENT_DATA, 17, 5 }, read;
	uint8_t bytes[SEGMENT_HEADER_SIZE + 5] = { 0 };

	segment_encode(&header, bytes);
	ck_assert_int_eq(segment_decode(bytes, sizeof(bytes), &read), 0);
	ck_assert(read.kind == SEGMENT_DATA && read.returned == 17 && read.length == 5);
	ck_assert_int_eq(segment_decode(bytes, sizeof(bytes) - 1, &read), -EPROTO);
	ck_assert_int_eq(segment_decode(bytes, SEGMENT_HEADER_SIZE - 1, &read), -EPROTO);
	bytes[0] = SEGMENT_CREDIT; /* which brings nothing */
	ck_assert_int_eq(segment_decode(bytes, sizeof(bytes), &read), -EPROTO);
	bytes[0] = SEGMENT_BYE + 1;
	ck_assert_int_eq(segment_decode(bytes, sizeof(bytes), &read), -EPROTO);
	segment_encode(&(struct segment_header){ SEGMENT_DATA, 0, 0 }, bytes);
	ck_assert_int_eq(segment_decode(bytes, SEGMENT_HEADER_SIZE, &read), -EPROTO);
}
END_TEST

START_TEST(greetings_have_bounds)
{
	const struct greeting right = { CREDITS_OURS, SEGMENT_SIZE };
	const struct greeting wrong[] = {
		{ CREDITS_MIN - 1, SEGMENT_SIZE },
		{ CREDITS_MAX + 1, SEGMENT_SIZE },
		{ CREDITS_OURS, SEGMENT_SIZE_MIN - 1 },
		{ CREDITS_OURS, SEGMENT_SIZE_MAX + 1 },
	};
	uint8_t bytes[GREETING_SIZE + 40] = { 0 };
	struct greeting read;

	greeting_encode(&right, bytes);
	ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), 0); /* padded by the fabric */
	ck_assert(read.receives == right.receives && read.segment_size == right.segment_size);
	ck_assert_int_eq(greeting_decode(bytes, GREETING_SIZE - 1, &read), -EPROTO);
	ck_assert_int_eq(greeting_decode(NULL, 0, &read), -EPROTO);
	bytes[4]++;
	ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), -EPROTONOSUPPORT);
	bytes[0]++;
	ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), -EPROTO);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		greeting_encode(&wrong[i], bytes);
		ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), -EPROTO);
	}
}
END_TEST

START_TEST(prefaces_tell_where_memory_is)
{
	const struct preface told = {
		.apart = true,
		.piece_count = 2,
		.pieces = { { UINT64_C(0x123456789abcdef0), 0xfedcba98, 1 }, { 7, 8, 1048576 } },
		.place = { 3, 4, 5 },
	};
	uint8_t bytes[PREFACE_SIZE_MAX];
	size_t size = preface_encode(&told, bytes), need;
	struct preface read;

	for (size_t come = 0; come < size; come++) {
		ck_assert_int_eq(preface_decode(bytes, come, &read, &need), 0);
		ck_assert_uint_gt(need, come);
	}
	ck_assert_int_eq(preface_decode(bytes, size, &read, &need), 0);
	ck_assert(need == size && read.apart && read.piece_count == 2);
	ck_assert(read.pieces[0].address == told.pieces[0].address && read.pieces[0].key == told.pieces[0].key);
	ck_assert(read.pieces[1].size == 1048576 && read.place.address == 3 && read.place.size == 5);

	bytes[0] |= 0x80; /* a flag that does not exist */
	ck_assert_int_eq(preface_decode(bytes, size, &read, &need), -EPROTO);
	preface_encode(&told, bytes);
	bytes[1] = PREFACE_PIECES + 1;
	ck_assert_int_eq(preface_decode(bytes, size, &read, &need), -EPROTO);
	preface_encode(&told, bytes);
	memset(bytes + PREFACE_SIZE_MIN + 12, 0, 4); /* an empty piece */
	ck_assert_int_eq(preface_decode(bytes, size, &read, &need), -EPROTO);
}
END_TEST

/* Where there is no device it can still be loaded: nothing that it uses of a program is missing in this one. */
START_TEST(the_plugin_can_be_loaded)
{
	const struct transport_limits limits = { 0 };
	struct transport *transport = NULL;
	struct loop *loop;
	int err;

	ck_assert_int_eq(loop_new(&loop), 0);
	err = transport_rdma_new(loop, &limits, &transport);
	ck_assert_msg(err != -ENOENT && err != -ELIBBAD, "%s", transport_rdma_reason());
	transport_free(transport);
	loop_free(loop);
}
END_TEST

int main(void)
{
	const TTest *const everywhere[] = {
		who_is_not_accepted_is_refused,
		a_message_done_may_close_the_connection,
		a_frame_may_finish_the_connection,
		a_paused_connection_may_be_finished,
		what_is_sent_arrives_once_and_in_order,
		who_has_too_much_to_send_goes_on,
		a_connection_that_breaks_gives_everything_back,
		what_is_forgotten_arrives_all_the_same,
		who_reads_nothing_is_given_up,
		calls_get_their_bulk_and_give_it_back,
		kept_memory_is_registered_once,
		calls_of_a_broken_connection_give_everything_back,
	};
	const TTest *const silent[] = {
		silence_in_the_middle_of_a_frame_ends_it,
		a_connection_must_stand_in_time,
	};
	const bool real = is_real(), can_be_silent = !real || getenv("TEST_RDMA_WIRE") != NULL;
	Suite *suite = suite_create("transport");
	TCase *tcase = tcase_create("transport");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
	for (size_t i = 0; i < sizeof(everywhere) / sizeof(*everywhere); i++)
		tcase_add_loop_test(tcase, everywhere[i], real ? REAL : TCP, real ? REAL + 1 : SEEDS + 1);
	for (size_t i = 0; i < sizeof(silent) / sizeof(*silent) && can_be_silent; i++)
		tcase_add_loop_test(tcase, silent[i], real ? REAL : 1, real ? REAL + 1 : SEEDS + 1);
	if (!real)
		tcase_add_loop_test(tcase, a_late_write_reaches_no_memory_that_was_given_back, 1, SEEDS + 1);
	tcase_add_test(tcase, credits_bound_both_ends);
	tcase_add_test(tcase, segments_are_as_long_as_they_say);
	tcase_add_test(tcase, greetings_have_bounds);
	tcase_add_test(tcase, prefaces_tell_where_memory_is);
	tcase_add_test(tcase, the_plugin_can_be_loaded);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
