/*
 * Two ends of a connection on one loop, on any fabric: what the tests of transport.h stand on, which try what peer and
 * service do not. Bodies run in a fiber, so they check with assert().
 *
 * A test runs on TCP, and on RDMA over a fabric in memory (fake_verbs.h), once with each of some seeds: a failure names it,
 * as the number behind the test's name; SEED=N adds to them (seeds.h). With TEST_RDMA=ADDRESS, an address of a real RDMA device, they
 * run there, by the plug-in, and nowhere else; what needs a fabric that falls silent does so if TEST_RDMA_WIRE names a link
 * without which nothing gets through.
 */
#ifndef STRAKE_TESTS_TRANSPORT_FIXTURE_H
#define STRAKE_TESTS_TRANSPORT_FIXTURE_H

#include "common/fiber.h"
#include "common/logger.h"
#include "common/loop.h"
#include "common/transport_rdma.h"
#include "common/transport_tcp.h"
#include "tests/unit/fake_verbs.h"
#include "tests/unit/quick_time.h"
#include "tests/unit/seeds.h"
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <assert.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#define TCP      0 /* the number of a run on TCP; others are seeds, but for: */
#define REAL     1000
#define SEEDS    6
#define DELAY_US 300

static inline bool is_real(void)
{
	return getenv("TEST_RDMA") != NULL;
}

/* From now on nothing arrives, and nobody is told. */
static inline void fabric_silence(bool silent)
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
	unsigned int unpinned; /* the fabric's (fake_verbs.h), once there is a connection: of some tests */
	bool silence_in_incoming;
	const struct transport_events *events; /* of both ends; NULL: end_events */
	struct transport_limits limits;
	void (*body)(struct world *world);
};

/* Go on when the condition holds: everything that has to happen for it happens on this loop. */
#define WAIT_FOR(condition)  \
	while (!(condition)) \
	fiber_sleep_ms(1)

static inline int end_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
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

static inline int end_message(void *owner, const struct frame_header *header)
{
	(void)header;
	((struct end *)owner)->messages++;
	return 0;
}

static inline void end_closed(void *owner, int err, const char *text)
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

static inline void world_incoming(void *owner, struct transport_incoming *incoming, const char *name)
{
	struct world *world = owner;

	if (world->fabric != REAL)
		assert(strncmp(name, "127.0.0.1:", 10) == 0);
	if (!world->accepts)
		return;
	if (world->silence_in_incoming)
		fabric_silence(true);
	assert(transport_accept(incoming, world->events, &world->far, &world->far.conn) == 0);
	transport_begin(world->far.conn, world->events, &world->far);
}

static inline void world_paused(void *owner, int err)
{
	(void)owner;
	assert(err < 0);
}

static const struct transport_listener_events world_listener = { .incoming = world_incoming, .paused = world_paused };

static inline void world_connect(struct world *world)
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

static inline void world_fiber(void *arg)
{
	struct world *world = arg;

	world->body(world);
	world->server = transport_free(world->server);
	world->client = transport_free(world->client);
	loop_stop(world->loop);
}

static inline int transport_make(const struct world *world, struct transport **ret_transport)
{
	if (world->fabric == TCP)
		return transport_tcp_new(world->loop, &world->limits, ret_transport);
	if (world->fabric == REAL)
		return transport_rdma_new(world->loop, &world->limits, ret_transport);
	return strake_transport_rdma_new(world->loop, &world->limits, ret_transport);
}

static inline void in_world(int fabric_number, struct world world, void (*body)(struct world *world))
{
	char address[64] = "127.0.0.1:0";

	logger_init("transport", LOGGER_ERROR);
	world.body = body;
	world.fabric = fabric_number;
	if (world.events == NULL)
		world.events = &end_events;
	if (world.limits.opening_ms == 0)
		world.limits.opening_ms = 5000;
	if (fabric_number == REAL) {
		quick_time_off();
		snprintf(address, sizeof(address), "%s:0", getenv("TEST_RDMA"));
	}
	if (fabric_number == REAL && getenv("TEST_RDMA_WIRE") != NULL)
		fabric_silence(false);
	ck_assert_int_eq(loop_new(&world.loop), 0);
	if (fabric_number != TCP && fabric_number != REAL) {
		fabric_begin(world.loop, seed_of(fabric_number), DELAY_US);
		fabric.iwarp = fabric_number % 2 == 1;
		fabric.device.transport_type = fabric.iwarp ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB;
		fabric.windows = fabric_number % 4 == 2; /* some have them, and some do not */
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

/* --- traffic ------------------------------------------------------------------------------------------------------ */

#define TRAFFIC_BODY_MAX 40000
#define TRAFFIC_BULK_MAX 300000

static inline uint64_t end_draw(struct end *end, uint64_t below)
{
	end->random ^= end->random << 13;
	end->random ^= end->random >> 7;
	end->random ^= end->random << 17;
	return end->random % below;
}

static inline uint8_t traffic_byte(unsigned int n, size_t at)
{
	return (uint8_t)((n * 31 + at) * UINT32_C(2654435761) >> 24);
}

static inline void traffic_resume(struct loop_timer *timer)
{
	struct end *end = container_of(timer, struct end, resume_timer);

	if (end->conn != NULL)
		transport_resume(end->conn);
}

static inline void traffic_begin(struct world *world)
{
	struct end *ends[] = { &world->near, &world->far };

	for (int i = 0; i < 2; i++) {
		ends[i]->bulk = malloc(TRAFFIC_BULK_MAX);
		ends[i]->random = seed_of(world->fabric) + 77;
		ends[i]->resume_timer.expired = traffic_resume;
	}
	world_connect(world);
}

static inline void traffic_end(struct world *world)
{
	loop_timer_cancel(&world->near.resume_timer);
	loop_timer_cancel(&world->far.resume_timer);
	free(world->near.bulk);
	free(world->far.bulk);
}

/* --- where tests run ------------------------------------------------------------------------------------------------ */

enum transport_where {
	EVERYWHERE,
	SILENT,    /* where a fabric can fall silent: not TCP */
	IN_MEMORY, /* where the fabric is one in memory */
	ONCE,      /* on none */
};

struct transport_case {
	const TTest *test;
	enum transport_where where;
};

static inline void transport_add(TCase *tcase, struct transport_case added)
{
	const bool real = is_real();
	const int first = added.where == EVERYWHERE ? TCP : 1;

	if (added.where == ONCE)
		tcase_add_test(tcase, added.test);
	else if (!real)
		tcase_add_loop_test(tcase, added.test, first, SEEDS + 1);
	else if (added.where == EVERYWHERE || (added.where == SILENT && getenv("TEST_RDMA_WIRE") != NULL))
		tcase_add_loop_test(tcase, added.test, REAL, REAL + 1);
}

static inline int transport_run(const char *name, const struct transport_case *cases, size_t count)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
	for (size_t i = 0; i < count; i++)
		transport_add(tcase, cases[i]);
	suite_add_tcase(suite, tcase);
	return seeds_run(suite);
}

/* The main() of such a program: TRANSPORT_MAIN(name, { test, where }, ...). */
#define TRANSPORT_MAIN(name, ...)                                                  \
	int main(void)                                                             \
	{                                                                          \
		const struct transport_case cases[] = { __VA_ARGS__ };             \
		return transport_run(name, cases, sizeof(cases) / sizeof(*cases)); \
	}

#endif
