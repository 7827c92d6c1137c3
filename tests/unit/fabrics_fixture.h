/*
 * Peer and service where there are two fabrics: RDMA, over a fabric in memory (fake_verbs.h), and TCP, over the loopback: what
 * the tests of which one is used, and of what comes by it, stand on. On one loop; bodies run in fibers, so they check with
 * assert().
 *
 * The service answers a READ with the bulk that came with it. It keeps the newest number of each slot: what is sent again
 * is not done again. GLIMPSE is held until the test lets it go.
 *
 * A test runs on each kind of device, by its number; SEED=N adds to that (seeds.h).
 */
#ifndef STRAKE_TESTS_FABRICS_FIXTURE_H
#define STRAKE_TESTS_FABRICS_FIXTURE_H

#include "common/fabrics.h"
#include "common/fiber.h"
#include "common/logger.h"
#include "common/peer.h"
#include "common/service.h"
#include "common/transport_rdma.h"
#include "proto/mds.pb-c.h"
#include "proto/oss.pb-c.h"
#include "tests/unit/fake_verbs.h"
#include "tests/unit/quick_time.h"
#include "tests/unit/seeds.h"
#include "tests/unit/unit.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEDS      3 /* by a test's number: iWARP; InfiniBand without and with windows */
#define SLOTS      8
#define BULK_SIZE  100000          /* moves from memory to memory */
#define WITHIN_MS  2000            /* for the other fabric to be taken */
#define AT_MOST_MS (2 * WITHIN_MS) /* on a busy machine; without what is tested here it takes 5 s and more */

static struct key key;
static struct uuid fs, target;
static bool no_device; /* RDMA has gone, or was never there */

/* In the place of common/transport_rdma.c's, which loads the plug-in. */
int transport_rdma_new(struct loop *loop, const struct transport_limits *limits, struct transport **ret_transport)
{
	return no_device ? -ENODEV : strake_transport_rdma_new(loop, limits, ret_transport);
}

const char *transport_rdma_reason(void)
{
	return "";
}

/* In the place of common/logger.c's: a line each, warnings marked as such. */
static char said[64 * 1024];
static size_t said_len;

void logger_say(enum logger_level level, const char *format, ...)
{
	va_list arguments;

	if (level > LOGGER_INFO)
		return;
	assert(said_len < sizeof(said) - 1024);
	said_len += (size_t)sprintf(said + said_len, "\n%s", level == LOGGER_INFO ? "" : "warning: ");
	va_start(arguments, format);
	said_len += (size_t)vsnprintf(said + said_len, 1000, format, arguments);
	va_end(arguments);
}

void logger_die(const char *format, ...)
{
	(void)format;
	abort();
}

#define BY_TCP  "\nOST 1: by TCP now, not by RDMA: "
#define BY_RDMA "\nOST 1: by RDMA again"

static inline unsigned int times_said(const char *text)
{
	unsigned int count = 0;

	for (const char *at = said; (at = strstr(at, text)) != NULL; at++)
		count++;
	return count;
}

struct world {
	struct loop *loop;
	struct service *service;
	uint16_t port;
	struct address_list reachable;
	struct peer *peer;
	struct peer_tally tally;
	struct request *held[4];
	unsigned int held_count;
	bool awaits_push, no_memory;
	uint16_t credits;      /* 0: the service's default */
	unsigned int unproved; /* likewise */
	unsigned int again_ms; /* likewise */
	uint32_t done[SLOTS];  /* the newest number of each slot */
	unsigned int executed, asked, lost, pushed;

	/* work */
	unsigned int workers;
	unsigned int pause_ms; /* of each, between its calls; 0: 1 */
	bool enough;
	void (*body)(struct world *world);
	void (*after)(void); /* the loop does not run any more; NULL: nothing */
};

#define WAIT_FOR(condition)  \
	while (!(condition)) \
	fiber_sleep_ms(1)

/* --- the server's side -------------------------------------------------------------------------------------------- */

static inline void bulk_free(struct bulk *bulk)
{
	free(bulk->data);
	free(bulk);
}

static inline struct bulk *bulk_alloc(void *owner, size_t size)
{
	struct bulk *bulk;

	if (((const struct world *)owner)->no_memory)
		return NULL;
	bulk = malloc(sizeof(*bulk));
	*bulk = (struct bulk){ malloc(size), size, bulk_free };
	return bulk;
}

static inline void answer_read(struct world *world, struct request *request)
{
	Strake__ReadReply body = STRAKE__READ_REPLY__INIT;
	struct reply reply = { .body = &body.base };
	uint32_t slot = request->header.slot, seq = request->header.seq;

	assert(slot < SLOTS && request->bulk != NULL);
	if (seq < world->done[slot]) { /* on its way for too long */
		service_reply_error(request, -EINVAL);
		return;
	}
	world->executed += seq > world->done[slot];
	world->done[slot] = seq;
	body.length = request->header.bulk_len;
	reply.bulk[0] = (struct iovec){ request->bulk->data, request->header.bulk_len };
	reply.bulk_count = 1;
	reply.owner = request->bulk;
	request->bulk = NULL;
	service_reply(request, &reply);
}

static inline void handle(void *owner, struct request *request)
{
	struct world *world = owner;

	if (request->header.opcode == OP_READ) {
		answer_read(world, request);
	} else if (request->header.opcode == OP_GLIMPSE) {
		assert(world->held_count < 4);
		world->held[world->held_count++] = request;
	} else {
		service_reply_error(request, -EOPNOTSUPP);
	}
}

static inline void serve(struct world *world, const char *address)
{
	const struct service_config config = {
		.fs = fs,
		.target = target,
		.role = ROLE_OST,
		.key = &key,
		.owner = world,
		.handle = handle,
		.bulk_alloc = bulk_alloc,
		.credits = world->credits,
		.unproved_max = world->unproved,
		.again_ms = world->again_ms,
	};

	assert(service_new(world->loop, &config, &world->service) == 0);
	assert(service_listen(world->service, address, &world->port) == 0);
	assert(service_reachable(world->service, NULL, &world->reachable) == 0);
}

/* To all that are connected. */
static inline void push_one(struct service_conn *conn, void *arg)
{
	Strake__LockPush message = STRAKE__LOCK_PUSH__INIT;

	message.n_waiter = 1;
	message.waiter = arg;
	service_push(conn, OP_LOCK_PUSH, &message.base);
}

static inline uint32_t served_by(const struct world *world, enum fabric by)
{
	uint32_t counts[FABRIC_COUNT];

	service_connections(world->service, counts);
	return counts[by];
}

/* --- the client's side -------------------------------------------------------------------------------------------- */

static inline void peer_lost(void *owner, int err)
{
	struct world *world = owner;

	assert(err < 0);
	world->lost++;
}

static inline void peer_push(void *owner, uint16_t opcode, const ProtobufCMessage *message)
{
	struct world *world = owner;

	assert(opcode == OP_LOCK_PUSH && ((const Strake__LockPush *)message)->n_waiter == 1);
	assert(((const Strake__LockPush *)message)->waiter[0] == ++world->pushed);
}

static inline bool peer_awaits_push(void *owner)
{
	return ((const struct world *)owner)->awaits_push;
}

static inline void reach(struct world *world, const char *const *addresses, size_t count)
{
	const struct peer_config config = {
		.fs = fs,
		.target = target,
		.role = ROLE_OST,
		.own_role = ROLE_CLIENT,
		.key = &key,
		.addresses = addresses,
		.address_count = count,
		.tally = &world->tally,
		.owner = world,
		.push = peer_push,
		.awaits_push = peer_awaits_push,
		.lost = peer_lost,
	};

	assert(peer_new(world->loop, &config, &world->peer) == 0);
}

static inline void reach_all(struct world *world)
{
	const char *addresses[ADDRESS_LIST_MAX];

	for (size_t i = 0; i < world->reachable.count; i++)
		addresses[i] = world->reachable.text[i];
	reach(world, addresses, world->reachable.count);
}

static inline enum fabric used(const struct world *world)
{
	struct peer_stats stats;

	peer_stats(world->peer, &stats);
	return stats.fabric;
}

static inline bool uses(const struct world *world, enum fabric by)
{
	return peer_is_connected(world->peer) && used(world) == by;
}

static inline int ping_by(struct peer *peer, unsigned int attempt_ms)
{
	struct call call = { .opcode = OP_PING, .attempt_ms = attempt_ms };
	int err = peer_call(peer, &call);

	call_release(&call);
	return err;
}

static inline int ping_for(struct world *world, unsigned int attempt_ms)
{
	return ping_by(world->peer, attempt_ms);
}

static inline int ping(struct world *world)
{
	return ping_for(world, AT_MOST_MS);
}

static inline void begin_by_rdma(struct world *world)
{
	serve(world, "127.0.0.1:0");
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
}

/* Asks in its slot, again if need be, until it is told. */
static inline void echo(struct world *world, uint32_t slot, uint32_t seq, uint8_t *out, uint8_t *in)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	Strake__Object object = STRAKE__OBJECT__INIT;
	const struct iovec iov = { out, BULK_SIZE };
	int err;

	request.object = &object;
	memset(out, (int)(slot + seq), BULK_SIZE);
	do {
		struct call call = {
			.opcode = OP_READ,
			.request = &request.base,
			.slot = slot,
			.seq = seq,
			.bulk_out = &iov,
			.bulk_out_count = 1,
			.bulk_in = in,
			.bulk_in_size = BULK_SIZE,
		};

		memset(in, 0, BULK_SIZE);
		err = peer_call(world->peer, &call);
		assert(err == 0 || (!call.answered && err == -ECONNRESET));
		assert(err < 0 || (call.bulk_in_len == BULK_SIZE && memcmp(in, out, BULK_SIZE) == 0));
		call_release(&call);
	} while (err < 0);
	world->asked++;
}

struct worker {
	struct world *world;
	uint32_t slot;
};

static inline void worker_fiber(void *arg)
{
	struct worker *worker = arg;
	struct world *world = worker->world;
	uint8_t *memory = malloc(2 * (size_t)BULK_SIZE);

	for (uint32_t seq = 1; !world->enough; seq++) {
		echo(world, worker->slot, seq, memory, memory + BULK_SIZE);
		fiber_sleep_ms(world->pause_ms != 0 ? world->pause_ms : 1);
	}
	free(memory);
	free(worker);
	world->workers--;
}

static inline void work_begins(struct world *world)
{
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		struct worker *worker = malloc(sizeof(*worker));

		*worker = (struct worker){ world, slot };
		world->workers++;
		assert(fiber_start(world->loop, worker_fiber, worker) == 0);
	}
}

/* It goes on: every slot has been answered anew. */
static inline void work_goes_on(struct world *world)
{
	unsigned int from = world->asked;

	WAIT_FOR(world->asked >= from + 10 * SLOTS);
}

static inline void work_ends(struct world *world)
{
	world->enough = true;
	WAIT_FOR(world->workers == 0);
	assert(world->executed == world->asked);
}

/* --- calls that the server keeps ------------------------------------------------------------------------------------ */

static inline void held_fiber(void *arg)
{
	struct world *world = arg;
	Strake__GlimpseRequest request = STRAKE__GLIMPSE_REQUEST__INIT;
	struct call call = { .opcode = OP_GLIMPSE, .request = &request.base };

	while (peer_call(world->peer, &call) == -ECONNRESET)
		assert(!call.answered);
	assert(call.answered && call.result == -ENOENT);
	call_release(&call);
	world->workers--;
}

static inline void hold_calls(struct world *world, unsigned int count)
{
	world->workers = count;
	for (unsigned int i = 0; i < count; i++)
		assert(fiber_start(world->loop, held_fiber, world) == 0);
}

static inline void answer_held(struct world *world)
{
	while (world->held_count > 0)
		service_reply_error(world->held[--world->held_count], -ENOENT);
}

/* --- the frame ---------------------------------------------------------------------------------------------------- */

static inline void world_fiber(void *arg)
{
	struct world *world = arg;

	world->body(world);
	world->peer = peer_free(world->peer);
	assert(world->tally.connections[FABRIC_RDMA] == 0 && world->tally.connections[FABRIC_TCP] == 0);
	world->service = service_free(world->service);
	loop_stop(world->loop);
}

static inline void in_world(int number, void (*body)(struct world *world))
{
	struct world world = { .body = body, .tally.name = "OST 1" };

	uuid_make(&fs);
	uuid_make(&target);
	key_make(&key);
	no_device = false;
	fabrics_choose(FABRICS_AUTO);
	ck_assert_int_eq(loop_new(&world.loop), 0);
	fabric_begin(world.loop, seed_of(number), 300);
	fabric.iwarp = number == 1;
	fabric.windows = number == 3;
	fabric.device.transport_type = fabric.iwarp ? IBV_TRANSPORT_IWARP : IBV_TRANSPORT_IB;
	ck_assert_int_eq(fiber_start(world.loop, world_fiber, &world), 0);
	ck_assert_int_eq(loop_run(world.loop), 0);
	if (world.after != NULL)
		world.after();
	fabric_end();
	loop_free(world.loop);
}

/* --- where tests run ------------------------------------------------------------------------------------------------ */

static inline int fabrics_run(const char *name, const TTest *const *tests, size_t count)
{
	Suite *suite = suite_create(name);
	TCase *tcase = tcase_create(name);

	tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
	for (size_t i = 0; i < count; i++)
		tcase_add_loop_test(tcase, tests[i], 1, SEEDS + 1);
	suite_add_tcase(suite, tcase);
	return seeds_run(suite);
}

/* The main() of such a program: FABRICS_MAIN(name, test, ...). */
#define FABRICS_MAIN(name, ...)                                                  \
	int main(void)                                                           \
	{                                                                        \
		const TTest *const tests[] = { __VA_ARGS__ };                    \
		return fabrics_run(name, tests, sizeof(tests) / sizeof(*tests)); \
	}

#endif
