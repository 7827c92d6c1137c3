/*
 * What transport.h promises of any fabric and peer and service do not try: the owner's calls from within events, at
 * awkward moments. Two ends on one loop; bodies run in a fiber, so they check with assert().
 */
#include "common/fiber.h"
#include "common/logger.h"
#include "common/loop.h"
#include "common/transport_tcp.h"
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

/* One end of the connection, and how it behaves. */
struct end {
	struct transport_conn *conn; /* NULL: it has ended */
	unsigned int frames, messages, done;
	int frame_answer; /* what `frame` says */
	bool finish_in_frame;
	bool close_in_done;
};

struct world {
	struct loop *loop;
	struct transport *server, *client;
	struct end near, far; /* the client's, the server's */
	uint16_t port;
	bool accepts;
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

	assert(strncmp(name, "127.0.0.1:", 10) == 0);
	if (!world->accepts)
		return;
	assert(transport_accept(incoming, &end_events, &world->far, &world->far.conn) == 0);
	transport_begin(world->far.conn, &end_events, &world->far);
}

static const struct transport_listener_events world_listener = { .incoming = world_incoming };

static void world_connect(struct world *world)
{
	const struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons(world->port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};

	assert(transport_connect(world->client, (const struct sockaddr *)&address, sizeof(address), &end_events,
				 &world->near, &world->near.conn) == 0);
	transport_begin(world->near.conn, &end_events, &world->near);
}

/* A message of so many bytes of body and of bulk. */
static void near_send(struct world *world, size_t body_len, size_t bulk_len)
{
	static const uint8_t bytes[512 * 1024];
	const struct iovec bulk = { (void *)(uintptr_t)bytes, bulk_len };
	struct transport_message message = {
		.header.kind = FRAME_REQUEST,
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

static void in_world(struct world world, void (*body)(struct world *world))
{
	const struct transport_limits limits = { .opening_ms = 5000 };

	logger_init("transport_test", LOGGER_ERROR);
	world.body = body;
	ck_assert_int_eq(loop_new(&world.loop), 0);
	ck_assert_int_eq(transport_tcp_new(world.loop, &limits, &world.server), 0);
	ck_assert_int_eq(transport_tcp_new(world.loop, &limits, &world.client), 0);
	ck_assert_int_eq(transport_listen(world.server, "127.0.0.1:0", &world_listener, &world, &world.port), 0);
	ck_assert_int_eq(fiber_start(world.loop, world_fiber, &world), 0);
	ck_assert_int_eq(loop_run(world.loop), 0);
	loop_free(world.loop);
}

static void body_refused(struct world *world)
{
	world_connect(world);
	WAIT_FOR(world->near.conn == NULL);
	assert(world->far.conn == NULL);
}

START_TEST(who_is_not_accepted_is_refused)
{
	in_world((struct world){ .accepts = false }, body_refused);
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
	in_world((struct world){ .accepts = true, .near.close_in_done = true }, body_close_in_done);
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
	in_world((struct world){ .accepts = true, .far.finish_in_frame = true }, body_finish_in_frame);
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
	in_world((struct world){ .accepts = true, .far.frame_answer = -EAGAIN }, body_finish_paused);
}
END_TEST

UNIT_MAIN("transport", who_is_not_accepted_is_refused, a_message_done_may_close_the_connection,
	  a_frame_may_finish_the_connection, a_paused_connection_may_be_finished)
