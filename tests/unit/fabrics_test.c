/*
 * Peer and service where there are two fabrics: RDMA, over a fabric in memory (fake_verbs.h), and TCP, over the loopback.
 * Which one is used at first, after a fault, and when it is over. On one loop; bodies run in fibers, so they check with
 * assert().
 *
 * The service answers a READ with the bulk that came with it. It keeps the newest number of each slot: what is sent again
 * is not done again. GLIMPSE is held until the test lets it go.
 */
#include "common/fabrics.h"
#include "common/fiber.h"
#include "common/logger.h"
#include "common/mgs_client.h"
#include "common/opening.h"
#include "common/peer.h"
#include "common/service.h"
#include "common/transport_rdma.h"
#include "mgs/mgs.h"
#include "proto/mds.pb-c.h"
#include "proto/oss.pb-c.h"
#include "tests/unit/fake_verbs.h"
#include "tests/unit/seeds.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <stdarg.h>
#include <stdio.h>

#define SEEDS      3 /* by a test's number: iWARP; InfiniBand without and with windows. SEED=N adds to it (seeds.h) */
#define SLOTS      8
#define BULK_SIZE  100000                /* moves from memory to memory */
#define PUSHES     20000                 /* more than the credits of a connection carry */
#define START_NS   (200 * NSEC_PER_MSEC) /* RDMA's, before TCP is tried */
#define WITHIN_MS  2000                  /* for the other fabric to be taken */
#define AT_MOST_MS (2 * WITHIN_MS)       /* on a busy machine; without what is tested here it takes 5 s and more */

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

static unsigned int times_said(const char *text)
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
	struct mgs *mgs; /* freed when the loop does not run any more */
	char mgs_dir[PATH_MAX];
	struct peer_tally tally;
	struct request *held[4];
	unsigned int held_count;
	uint16_t credits;      /* 0: the service's default */
	unsigned int unproved; /* likewise */
	uint32_t done[SLOTS];  /* the newest number of each slot */
	unsigned int executed, asked, lost, pushed;

	/* work */
	unsigned int workers;
	bool enough;
	void (*body)(struct world *world);
};

#define WAIT_FOR(condition)  \
	while (!(condition)) \
	fiber_sleep_ms(1)

/* --- the server's side -------------------------------------------------------------------------------------------- */

static void bulk_free(struct bulk *bulk)
{
	free(bulk->data);
	free(bulk);
}

static struct bulk *bulk_alloc(void *owner, size_t size)
{
	struct bulk *bulk = malloc(sizeof(*bulk));

	(void)owner;
	*bulk = (struct bulk){ malloc(size), size, bulk_free };
	return bulk;
}

static void answer_read(struct world *world, struct request *request)
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

static void handle(void *owner, struct request *request)
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

static void serve(struct world *world, const char *address)
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
	};

	assert(service_new(world->loop, &config, &world->service) == 0);
	assert(service_listen(world->service, address, &world->port) == 0);
	assert(service_reachable(world->service, NULL, &world->reachable) == 0);
}

static uint32_t served_by(const struct world *world, enum fabric by)
{
	uint32_t counts[FABRIC_COUNT];

	service_connections(world->service, counts);
	return counts[by];
}

/* --- the client's side -------------------------------------------------------------------------------------------- */

static void peer_lost(void *owner, int err)
{
	struct world *world = owner;

	assert(err < 0);
	world->lost++;
}

static void peer_push(void *owner, uint16_t opcode, const ProtobufCMessage *message)
{
	struct world *world = owner;

	assert(opcode == OP_LOCK_PUSH && ((const Strake__LockPush *)message)->n_waiter == 1);
	assert(((const Strake__LockPush *)message)->waiter[0] == ++world->pushed);
}

static void reach(struct world *world, const char *const *addresses, size_t count)
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
		.lost = peer_lost,
	};

	assert(peer_new(world->loop, &config, &world->peer) == 0);
}

static void reach_all(struct world *world)
{
	const char *addresses[ADDRESS_LIST_MAX];

	for (size_t i = 0; i < world->reachable.count; i++)
		addresses[i] = world->reachable.text[i];
	reach(world, addresses, world->reachable.count);
}

static enum fabric used(const struct world *world)
{
	struct peer_stats stats;

	peer_stats(world->peer, &stats);
	return stats.fabric;
}

static bool uses(const struct world *world, enum fabric by)
{
	return peer_is_connected(world->peer) && used(world) == by;
}

static int ping_by(struct peer *peer, unsigned int attempt_ms)
{
	struct call call = { .opcode = OP_PING, .attempt_ms = attempt_ms };
	int err = peer_call(peer, &call);

	call_release(&call);
	return err;
}

static int ping_for(struct world *world, unsigned int attempt_ms)
{
	return ping_by(world->peer, attempt_ms);
}

static int ping(struct world *world)
{
	return ping_for(world, AT_MOST_MS);
}

/* Asks in its slot, again if need be, until it is told. */
static void echo(struct world *world, uint32_t slot, uint32_t seq, uint8_t *out, uint8_t *in)
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

static void worker_fiber(void *arg)
{
	struct worker *worker = arg;
	struct world *world = worker->world;
	uint8_t *memory = malloc(2 * (size_t)BULK_SIZE);

	for (uint32_t seq = 1; !world->enough; seq++) {
		echo(world, worker->slot, seq, memory, memory + BULK_SIZE);
		fiber_sleep_ms(1);
	}
	free(memory);
	free(worker);
	world->workers--;
}

static void work_begins(struct world *world)
{
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		struct worker *worker = malloc(sizeof(*worker));

		*worker = (struct worker){ world, slot };
		world->workers++;
		assert(fiber_start(world->loop, worker_fiber, worker) == 0);
	}
}

/* It goes on: every slot has been answered anew. */
static void work_goes_on(struct world *world)
{
	unsigned int from = world->asked;

	WAIT_FOR(world->asked >= from + 10 * SLOTS);
}

static void work_ends(struct world *world)
{
	world->enough = true;
	WAIT_FOR(world->workers == 0);
	assert(world->executed == world->asked);
}

/* --- the frame ---------------------------------------------------------------------------------------------------- */

static void world_fiber(void *arg)
{
	struct world *world = arg;

	world->body(world);
	world->peer = peer_free(world->peer);
	assert(world->tally.connections[FABRIC_RDMA] == 0 && world->tally.connections[FABRIC_TCP] == 0);
	world->service = service_free(world->service);
	loop_stop(world->loop);
}

static void in_world(int number, void (*body)(struct world *world))
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
	mgs_free(world.mgs);
	if (world.mgs_dir[0] != '\0')
		temp_dir_remove(world.mgs_dir);
	fabric_end();
	loop_free(world.loop);
}

/* --- which one is used at first ----------------------------------------------------------------------------------- */

static void body_both(struct world *world)
{
	uint64_t began_ns;
	char host[256];
	uint16_t port;

	serve(world, "127.0.0.1:0");
	assert(world->reachable.count == 2);
	assert(!address_is_rdma(world->reachable.text[0]) && address_is_rdma(world->reachable.text[1]));
	assert(address_split(world->reachable.text[1], host, &port) == 0);
	assert((port == world->port) == !fabric.iwarp);
	reach_all(world);
	began_ns = clock_ns();
	assert(ping(world) == 0);
	assert(used(world) == FABRIC_RDMA || clock_ns() - began_ns > START_NS);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	WAIT_FOR(served_by(world, FABRIC_RDMA) == 1 && served_by(world, FABRIC_TCP) == 0);
	work_begins(world);
	work_goes_on(world);
	work_ends(world);
}

START_TEST(rdma_is_used_where_both_are)
{
	in_world(_i, body_both);
}
END_TEST

/* For a firewall, as iWARP cannot have TCP's: the one that is listened on first is told. */
static void body_port(struct world *world)
{
	uint16_t port;

	serve(world, "rdma://127.0.0.1:4711");
	assert(service_listen(world->service, "127.0.0.1:0", &port) == 0);
	assert(service_reachable(world->service, NULL, &world->reachable) == 0);
	assert(world->reachable.count == 2);
	assert(!address_is_rdma(world->reachable.text[0]));
	assert(strcmp(world->reachable.text[1], "rdma://127.0.0.1:4711") == 0);
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
}

START_TEST(the_port_of_rdma_can_be_named)
{
	in_world((uint64_t)_i, body_port);
}
END_TEST

static void body_wildcard(struct world *world)
{
	bool found = false;

	serve(world, "0.0.0.0:0");
	/* Of this machine's addresses only one has a device. */
	assert(service_reachable(world->service, "127.0.0.1", &world->reachable) == 0);
	for (size_t i = 0; i < world->reachable.count; i++) {
		bool is_rdma = address_is_rdma(world->reachable.text[i]);

		assert(!is_rdma || strncmp(world->reachable.text[i], "rdma://127.0.0.1:", 17) == 0);
		found |= is_rdma;
	}
	assert(found);
}

START_TEST(only_addresses_with_a_device_are_told)
{
	in_world(_i, body_wildcard);
}
END_TEST

/* Nobody listens there by RDMA, and it is said so: to the operator, too, but once. */
static void body_refused(struct world *world)
{
	const char *addresses[] = { "rdma://127.0.0.1:1", "rdma://127.0.0.1:2", world->reachable.text[0] };
	uint64_t began_ns = clock_ns();
	uint16_t tries;

	serve(world, "127.0.0.1:0");
	reach(world, addresses, 3);
	assert(ping(world) == 0);
	assert(used(world) == FABRIC_TCP && clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	WAIT_FOR(times_said(BY_TCP "rdma://127.0.0.1:") == 1);
	assert(times_said(": Connection refused") == 1);
	tries = fabric.next_port;
	WAIT_FOR(fabric.next_port >= tries + 2);
	assert(times_said(BY_TCP) == 1 && times_said(BY_RDMA) == 0);
}

START_TEST(tcp_is_used_where_rdma_is_refused)
{
	in_world(_i, body_refused);
}
END_TEST

static void body_silent(struct world *world)
{
	uint64_t began_ns = clock_ns();

	serve(world, "127.0.0.1:0");
	reach_all(world);
	fabric.silent = true;
	assert(ping(world) == 0);
	assert(used(world) == FABRIC_TCP && clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	fabric.silent = false;
	WAIT_FOR(uses(world, FABRIC_RDMA));
	assert(ping(world) == 0 && world->lost == 1);
}

START_TEST(tcp_is_used_while_rdma_is_silent)
{
	in_world(_i, body_silent);
}
END_TEST

static void body_client_without(struct world *world)
{
	serve(world, "127.0.0.1:0");
	assert(world->reachable.count == 2);
	no_device = true;
	reach_all(world);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
	assert(times_said("RDMA is not used: ") == 1 && times_said(BY_TCP) == 0);
}

START_TEST(a_client_without_rdma_uses_tcp)
{
	in_world(_i, body_client_without);
}
END_TEST

static void body_no_manager(struct world *world)
{
	char error[512];
	uint16_t port;

	serve(world, "127.0.0.1:0");
	fabric.no_manager = true;
	fabrics_choose(FABRICS_RDMA);
	assert(fabrics_check(error, sizeof(error)) == -EUNATCH && strstr(error, "modprobe rdma_ucm") != NULL);
	fabrics_choose(FABRICS_AUTO);
	reach_all(world);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
	world->peer = peer_free(world->peer);
	world->service = service_free(world->service);

	serve(world, "127.0.0.1:0");
	assert(world->reachable.count == 1 && !address_is_rdma(world->reachable.text[0]));
	assert(service_listen(world->service, "rdma://127.0.0.1:0", &port) == -EUNATCH);
	service_listen_explain("rdma://127.0.0.1:0", -EUNATCH, error, sizeof(error));
	assert(strstr(error, "modprobe rdma_ucm") != NULL);
}

START_TEST(without_a_connection_manager_tcp_is_used)
{
	in_world((uint64_t)_i, body_no_manager);
}
END_TEST

/* Beyond RLIMIT_MEMLOCK, at the server as here. */
static void body_not_pinned(struct world *world)
{
	const char *address = world->reachable.text[1];

	serve(world, "127.0.0.1:0");
	fabric.regions_end = fabric.keys + 2;
	reach(world, &address, 1);
	assert(ping_for(world, 100) == -ETIMEDOUT);
	WAIT_FOR(times_said("refused: memory for RDMA cannot be pinned: raise RLIMIT_MEMLOCK") == 1);
	assert(times_said("\nwarning: client 127.0.0.1:") == 1);
	WAIT_FOR(strstr(peer_last_error(world->peer), "memory for RDMA cannot be pinned: raise RLIMIT_MEMLOCK") !=
		 NULL);
	world->peer = peer_free(world->peer);
	reach_all(world);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
}

START_TEST(tcp_is_used_where_memory_cannot_be_pinned)
{
	in_world((uint64_t)_i, body_not_pinned);
}
END_TEST

static void body_server_without(struct world *world)
{
	no_device = true;
	serve(world, "127.0.0.1:0");
	no_device = false;
	assert(world->reachable.count == 1 && !address_is_rdma(world->reachable.text[0]));
	reach_all(world);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
}

START_TEST(a_server_without_rdma_tells_of_none)
{
	in_world(_i, body_server_without);
}
END_TEST

/* What an operator should know, and no more: an address without a device is one of many. */
static void body_not_listened(struct world *world)
{
	serve(world, "127.0.0.2:0");
	assert(world->reachable.count == 1);
	assert(times_said("127.0.0.2:0 is not listened on by RDMA: no RDMA device has that address") == 1);
	assert(times_said("warning: ") == 0);
	world->service = service_free(world->service);

	fabric.listen_errno = EACCES;
	serve(world, "127.0.0.1:0");
	assert(world->reachable.count == 1);
	assert(times_said("\nwarning: 127.0.0.1:0 is not listened on by RDMA: Permission denied") == 1);
	reach_all(world);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
}

START_TEST(what_is_not_listened_on_is_told)
{
	in_world((uint64_t)_i, body_not_listened);
}
END_TEST

/* --- the setting -------------------------------------------------------------------------------------------------- */

static void body_rdma_only(struct world *world)
{
	const char *address = world->reachable.text[0];
	char plain[ADDRESS_SIZE], error[512];

	fabrics_choose(FABRICS_RDMA);
	assert(fabrics_check(error, sizeof(error)) == 0);
	serve(world, "127.0.0.1:0");
	assert(world->reachable.count == 1 && address_is_rdma(address));

	/* Nobody listens by TCP. */
	fabrics_choose(FABRICS_TCP);
	snprintf(plain, sizeof(plain), "%s", address_plain(address));
	address = plain;
	reach(world, &address, 1);
	assert(ping_for(world, 100) == -ETIMEDOUT);
	world->peer = peer_free(world->peer);

	fabrics_choose(FABRICS_RDMA);
	reach(world, &address, 1);
	assert(ping(world) == 0 && used(world) == FABRIC_RDMA);
	world->peer = peer_free(world->peer);

	no_device = true;
	assert(fabrics_check(error, sizeof(error)) == -ENODEV && strstr(error, "no RDMA device") != NULL);
	fabrics_choose(FABRICS_AUTO);
	address = world->reachable.text[0];
	reach(world, &address, 1);
	assert(ping_for(world, 100) == -ETIMEDOUT);
	assert(strstr(peer_last_error(world->peer), "no RDMA device") != NULL);
}

START_TEST(rdma_alone_if_so_chosen)
{
	in_world(_i, body_rdma_only);
}
END_TEST

static void body_tcp_only(struct world *world)
{
	uint16_t port;

	fabrics_choose(FABRICS_TCP);
	serve(world, "127.0.0.1:0");
	assert(world->reachable.count == 1 && !address_is_rdma(world->reachable.text[0]));
	assert(service_listen(world->service, "rdma://127.0.0.1:0", &port) == -EPROTONOSUPPORT);
	world->service = service_free(world->service);

	fabrics_choose(FABRICS_AUTO);
	serve(world, "127.0.0.1:0");
	assert(world->reachable.count == 2);
	fabrics_choose(FABRICS_TCP);
	reach_all(world);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
}

START_TEST(tcp_alone_if_so_chosen)
{
	in_world(_i, body_tcp_only);
}
END_TEST

/* --- what becomes of it ------------------------------------------------------------------------------------------- */

/* The fabric falls silent while calls run: TCP soon, and RDMA when it can be used again. */
static void body_falls_silent(struct world *world)
{
	struct peer_stats stats;
	uint64_t began_ns;

	serve(world, "127.0.0.1:0");
	reach_all(world);
	work_begins(world);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	work_goes_on(world);
	fabric.silent = true;
	began_ns = clock_ns();
	WAIT_FOR(uses(world, FABRIC_TCP));
	work_goes_on(world);
	assert(clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	fabric.silent = false;
	WAIT_FOR(uses(world, FABRIC_RDMA));
	work_goes_on(world);
	work_ends(world);
	peer_stats(world->peer, &stats);
	assert(stats.connects_by[FABRIC_RDMA] == 2 && stats.connects == world->lost + 1);
	assert(world->tally.switches == stats.connects - 1 && world->tally.silences == 1);
	assert(world->tally.bulk[FABRIC_RDMA] > 0 && world->tally.bulk[FABRIC_TCP] > 0);
	assert(world->tally.connections[FABRIC_RDMA] == 1 && world->tally.connections[FABRIC_TCP] == 0);
	assert(times_said(BY_TCP) == 1 && times_said(": silent") == 1 && times_said(BY_RDMA) == 1);
}

START_TEST(silence_leads_to_tcp_and_back)
{
	in_world(_i, body_falls_silent);
}
END_TEST

/* Two peers of one server, as those of two workers. */
static void body_two_fall_silent(struct world *world)
{
	struct peer *both[2];

	serve(world, "127.0.0.1:0");
	for (int i = 0; i < 2; i++) {
		reach_all(world);
		both[i] = world->peer;
		assert(ping(world) == 0);
	}
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 2);
	fabric.silent = true;
	for (int i = 0; i < 2; i++) {
		world->peer = both[i];
		while (ping(world) < 0)
			;
	}
	assert(world->tally.connections[FABRIC_TCP] == 2);
	assert(times_said(BY_TCP) == 1 && times_said(BY_RDMA) == 0);
	fabric.silent = false;
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 2 && peer_is_connected(both[0]) &&
		 peer_is_connected(both[1]));
	assert(times_said(BY_TCP) == 1 && times_said(BY_RDMA) == 1);
	peer_free(both[0]);
}

START_TEST(an_outage_is_told_once)
{
	in_world((uint64_t)_i, body_two_fall_silent);
}
END_TEST

/* Twice: what was made at its first coming is not used at the second. */
static void body_device_goes(struct world *world)
{
	serve(world, "127.0.0.1:0");
	reach_all(world);
	work_begins(world);
	for (int i = 0; i < 2; i++) {
		WAIT_FOR(uses(world, FABRIC_RDMA));
		work_goes_on(world);
		fabric_device_goes(true);
		WAIT_FOR(uses(world, FABRIC_TCP));
		work_goes_on(world);
		fabric_device_comes();
	}
	WAIT_FOR(uses(world, FABRIC_RDMA));
	work_goes_on(world);
	work_ends(world);
}

START_TEST(a_device_may_go_and_come)
{
	in_world((uint64_t)_i, body_device_goes);
}
END_TEST

/* Connections break all the time. */
static void body_breaks(struct world *world)
{
	serve(world, "127.0.0.1:0");
	reach_all(world);
	work_begins(world);
	for (int i = 0; i < 10; i++) {
		work_goes_on(world);
		fabric.break_in = 1 + (unsigned int)fake_draw(20);
	}
	fabric.break_in = 0;
	work_goes_on(world);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	work_ends(world);
	assert(world->lost > 0);
}

START_TEST(a_broken_connection_is_made_anew)
{
	in_world(_i, body_breaks);
}
END_TEST

static void held_fiber(void *arg)
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

static void hold_calls(struct world *world, unsigned int count)
{
	world->workers = count;
	for (unsigned int i = 0; i < count; i++)
		assert(fiber_start(world->loop, held_fiber, world) == 0);
}

static void answer_held(struct world *world)
{
	while (world->held_count > 0)
		service_reply_error(world->held[--world->held_count], -ENOENT);
}

/* A server that takes its time, but lives, is left alone. */
static void body_slow(struct world *world)
{
	unsigned int lost;

	serve(world, "127.0.0.1:0");
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	lost = world->lost;
	hold_calls(world, 1);
	WAIT_FOR(world->held_count == 1);
	fiber_sleep_ms(WITHIN_MS);
	assert(uses(world, FABRIC_RDMA) && world->lost == lost);
	answer_held(world);
	WAIT_FOR(world->workers == 0);
}

START_TEST(a_slow_server_keeps_its_connection)
{
	in_world(_i, body_slow);
}
END_TEST

/* All that the server grants is under way: it can be asked for a sign of life all the same. */
static void body_full(struct world *world)
{
	unsigned int lost;
	uint64_t began_ns;

	world->credits = 2;
	serve(world, "127.0.0.1:0");
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	lost = world->lost;
	hold_calls(world, 3);
	WAIT_FOR(world->held_count > 0);
	fiber_sleep_ms(WITHIN_MS);
	assert(uses(world, FABRIC_RDMA) && world->lost == lost);
	fabric.silent = true;
	began_ns = clock_ns();
	WAIT_FOR(uses(world, FABRIC_TCP));
	assert(clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	do {
		answer_held(world);
		fiber_sleep_ms(1);
	} while (world->workers > 0);
}

START_TEST(who_has_used_up_his_credits_is_not_left_alone)
{
	in_world(_i, body_full);
}
END_TEST

static void push_one(struct service_conn *conn, void *arg)
{
	Strake__LockPush message = STRAKE__LOCK_PUSH__INIT;

	message.n_waiter = 1;
	message.waiter = arg;
	service_push(conn, OP_LOCK_PUSH, &message.base);
}

/* All that the server grants is under way, and more waits behind it: what it tells by itself comes all the same. */
static void body_pushes(struct world *world)
{
	world->credits = 2;
	serve(world, "127.0.0.1:0");
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	hold_calls(world, 3);
	WAIT_FOR(world->held_count > 0);
	for (uint64_t i = 1; i <= PUSHES; i++)
		service_each_conn(world->service, push_one, &i);
	WAIT_FOR(world->pushed == PUSHES);
	assert(world->workers == 3 && uses(world, FABRIC_RDMA));
	do {
		answer_held(world);
		fiber_sleep_ms(1);
	} while (world->workers > 0);
}

START_TEST(pushes_come_where_no_more_may_be_asked)
{
	in_world(_i, body_pushes);
}
END_TEST

/* An answer's WRITE comes when its call has long been answered by TCP: it reaches no memory. */
static void body_late(struct world *world)
{
	uint8_t *memory = malloc(2 * (size_t)BULK_SIZE), *in = memory + BULK_SIZE;

	serve(world, "127.0.0.1:0");
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	fabric.writes_are_late = true;
	echo(world, 0, 1, memory, in);
	assert(used(world) == FABRIC_TCP && world->executed == 1);
	memset(in, 77, BULK_SIZE);
	WAIT_FOR(served_by(world, FABRIC_RDMA) == 0);
	fabric_let_late_writes_go();
	for (size_t i = 0; i < BULK_SIZE; i++)
		assert(in[i] == 77);
	assert(fabric.refused > 0);
	free(memory);
}

START_TEST(a_late_write_reaches_no_memory_that_was_given_back)
{
	in_world(_i, body_late);
}
END_TEST

/* One READ, asked once. */
struct asking {
	struct world *world;
	struct call call;
	int result;
	bool over;
};

static void asking_fiber(void *arg)
{
	struct asking *asking = arg;

	asking->result = peer_call(asking->world->peer, &asking->call);
	asking->over = true;
}

/* It is executed, and its answer's WRITE is on its way, when it is given up: then, or after so long. Returns with what. */
static int ask_and_give_up(struct world *world, uint32_t seq, unsigned int after_ms, uint8_t *out, uint8_t *in)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	Strake__Object object = STRAKE__OBJECT__INIT;
	const struct iovec iov = { out, BULK_SIZE };
	struct asking asking = {
		.world = world,
		.call = { .opcode = OP_READ,
			  .request = &request.base,
			  .seq = seq,
			  .attempt_ms = after_ms,
			  .bulk_out = &iov,
			  .bulk_out_count = 1,
			  .bulk_in = in,
			  .bulk_in_size = BULK_SIZE },
	};
	const unsigned int executed = world->executed;

	request.object = &object;
	memset(out, 5, BULK_SIZE);
	memset(in, 0, BULK_SIZE);
	assert(fiber_start(world->loop, asking_fiber, &asking) == 0);
	WAIT_FOR(world->executed > executed || asking.over);
	if (after_ms == 0)
		call_cancel(&asking.call);
	WAIT_FOR(asking.over);
	assert(!asking.call.answered);
	call_release(&asking.call);
	return asking.result;
}

/* The call is over, and nobody answers it by TCP: its answer's WRITE reaches no memory. */
static void given_up(struct world *world, unsigned int after_ms, int expected)
{
	uint8_t *memory = malloc(2 * (size_t)BULK_SIZE), *in = memory + BULK_SIZE;

	serve(world, "127.0.0.1:0");
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	fabric.writes_are_late = true;
	for (uint32_t seq = 1; world->executed == 0; seq++) { /* on a busy machine the time may pass before */
		WAIT_FOR(uses(world, FABRIC_RDMA));
		assert(ask_and_give_up(world, seq, after_ms, memory, in) == expected);
	}
	memset(in, 77, BULK_SIZE);
	fabric_let_late_writes_go();
	for (size_t i = 0; i < BULK_SIZE; i++)
		assert(in[i] == 77);
	assert(fabric.refused > 0);
	free(memory);
}

static void body_late_cancelled(struct world *world)
{
	given_up(world, 0, -ECANCELED);
}

START_TEST(a_late_write_of_a_cancelled_call_reaches_no_memory)
{
	in_world(_i, body_late_cancelled);
}
END_TEST

static void body_late_timed_out(struct world *world)
{
	given_up(world, 300, -ETIMEDOUT); /* before the other fabric is thought of */
}

START_TEST(a_late_write_of_a_call_that_took_too_long_reaches_no_memory)
{
	in_world(_i, body_late_timed_out);
}
END_TEST

/* --- strangers ---------------------------------------------------------------------------------------------------- */

#define UNPROVED  4
#define STRANGERS (UNPROVED + 2)
#define CROWD     100

/* Who connects, and says nothing. */
static struct stranger {
	struct transport_conn *conn;
	int closed; /* 0: not yet */
} strangers[STRANGERS];

static size_t stranger_bytes(void *owner, const uint8_t *data, size_t size)
{
	(void)owner, (void)data;
	return size;
}

static void stranger_closed(void *owner, int err, const char *text)
{
	(void)text;
	((struct stranger *)owner)->closed = err;
}

static const struct transport_events stranger_events = { .bytes = stranger_bytes, .closed = stranger_closed };

static struct transport *strangers_come(struct world *world)
{
	const struct transport_limits limits = { 0 };
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct transport *transport;

	assert(strake_transport_rdma_new(world->loop, &limits, &transport) == 0);
	address.sin_port = htons(world->port);
	for (int i = 0; i < STRANGERS; i++)
		assert(transport_connect(transport, (const struct sockaddr *)&address, sizeof(address),
					 &stranger_events, &strangers[i], &strangers[i].conn) == 0);
	return transport;
}

static unsigned int strangers_closed(int err)
{
	unsigned int count = 0;

	for (int i = 0; i < STRANGERS; i++)
		count += strangers[i].closed == err;
	return count;
}

static unsigned int connections_pinned(void)
{
	unsigned int count = 0;

	for (unsigned int i = 0; i < REGIONS; i++)
		count += fabric.regions[i] != NULL && fabric.regions[i]->length == 67 * 8192;
	return count;
}

/* They pin so much and no more; who has the key gets in all the same, by the place of one of them. */
static void body_strangers(struct world *world)
{
	const uint64_t began_ns = clock_ns();
	struct transport *transport;

	fabrics_choose(FABRICS_RDMA);
	world->unproved = UNPROVED;
	serve(world, "127.0.0.1:0");
	transport = strangers_come(world);
	WAIT_FOR(served_by(world, FABRIC_RDMA) + STRANGERS - strangers_closed(0) == STRANGERS);
	assert(served_by(world, FABRIC_RDMA) == UNPROVED);
	WAIT_FOR(connections_pinned() == 2 * UNPROVED); /* both ends are of this program */
	if (clock_ns() - began_ns < NSEC_PER_SEC)       /* later they take each other's places */
		assert(strangers_closed(-ECONNREFUSED) == 2);
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(strangers_closed(0) < UNPROVED);
	if (clock_ns() - began_ns < OPENING_DEADLINE_MS * NSEC_PER_MSEC) /* then all of them go */
		assert(strangers_closed(0) == UNPROVED - 1);
	transport_free(transport);
}

START_TEST(strangers_pin_so_much_and_no_more)
{
	in_world(_i, body_strangers);
}
END_TEST

static void crowd_fiber(void *arg)
{
	struct world *world = arg;
	struct peer *peer;

	reach_all(world);
	peer = world->peer;
	assert(ping_by(peer, 20 * AT_MOST_MS) == 0);
	world->workers--;
	WAIT_FOR(world->enough);
	peer_free(peer);
	world->asked--;
}

/* All come at once, far more than may be in their opening, as when a server is there again. */
static void body_crowd(struct world *world)
{
	struct service_stats stats;

	fabrics_choose(FABRICS_RDMA);
	world->unproved = UNPROVED;
	serve(world, "127.0.0.1:0");
	world->workers = world->asked = CROWD;
	for (int i = 0; i < CROWD; i++)
		assert(fiber_start(world->loop, crowd_fiber, world) == 0);
	WAIT_FOR(world->workers == 0);
	service_stats(world->service, &stats);
	assert(served_by(world, FABRIC_RDMA) == CROWD && stats.refused > 0);
	world->enough = true;
	WAIT_FOR(world->asked == 0);
	world->peer = NULL;
}

START_TEST(a_crowd_gets_in)
{
	in_world(_i, body_crowd);
}
END_TEST

/* --- the MGS ------------------------------------------------------------------------------------------------------ */

static int ost_reachable(void *owner, const char *preferred, struct address_list *ret_list)
{
	(void)owner;
	return address_reachable("127.0.0.1", 4711, preferred, ret_list);
}

/* As it says itself, to who asks by TCP; he counts. */
static void mgs_asks(struct world *world, uint32_t *ret_tcp, uint32_t *ret_rdma, uint64_t *ret_epoch)
{
	Strake__MapRequest request = STRAKE__MAP_REQUEST__INIT;
	struct call call = { .opcode = OP_MAP, .request = &request.base };
	const Strake__MapReply *reply;

	assert(peer_call(world->peer, &call) == 0);
	reply = (const Strake__MapReply *)call.reply;
	assert(reply->n_rdma_address == 0); /* it does not subscribe */
	*ret_tcp = reply->connections_tcp;
	*ret_rdma = reply->connections_rdma;
	*ret_epoch = reply->map->epoch;
	call_release(&call);
}

/* And by nothing else: the one from before goes when the new one is used, not when it stands. */
static void mgs_is_reached_by(struct world *world, enum fabric by, uint64_t *ret_epoch)
{
	const uint32_t rdma = by == FABRIC_RDMA ? 1 : 0;
	uint32_t by_tcp, by_rdma;

	do {
		fiber_sleep_ms(1);
		mgs_asks(world, &by_tcp, &by_rdma, ret_epoch);
	} while (by_rdma != rdma || by_tcp != 2 - rdma);
}

/* An MGS that is named by an address of TCP tells of those by RDMA: a server goes over to them, back, and again. */
static void body_mgs(struct world *world)
{
	struct address_list listen = { .count = 1, .text = { "127.0.0.1:0" } };
	struct identity identity = { .fs = fs, .target = target, .role = ROLE_MGS, .fs_name = "test" };
	struct mgs_client_config config = {
		.mgs = { .count = 1 },
		.key = &key,
		.own_role = ROLE_OST,
		.own_uuid = target,
		.reachable = ost_reachable,
	};
	struct mgs_client *client;
	char error[256];
	const char *address = config.mgs.text[0];
	uint64_t epoch, epoch_then;

	temp_dir_make(world->mgs_dir);
	assert(mgs_new(world->loop,
		       &(struct mgs_config){
			       .data_dir = world->mgs_dir, .identity = &identity, .key = &key, .listen = &listen },
		       &world->mgs, config.mgs.text[0], error, sizeof(error)) == 0);
	assert(!address_is_rdma(address));
	assert(mgs_client_new(world->loop, &config, &client) == 0);
	assert(mgs_client_wait(client, AT_MOST_MS) == 0);
	fabrics_choose(FABRICS_TCP);
	{
		const struct peer_config asks = {
			.role = ROLE_MGS,
			.own_role = ROLE_CLIENT,
			.key = &key,
			.addresses = &address,
			.address_count = 1,
		};

		assert(peer_new(world->loop, &asks, &world->peer) == 0);
	}
	mgs_is_reached_by(world, FABRIC_RDMA, &epoch);
	fabric.silent = true;
	mgs_is_reached_by(world, FABRIC_TCP, &epoch_then);
	fabric.silent = false;
	mgs_is_reached_by(world, FABRIC_RDMA, &epoch_then);
	assert(epoch_then == epoch);

	mgs_client_free(client);
	world->peer = peer_free(world->peer);
	fiber_sleep_ms(20); /* its fibers end */
}

START_TEST(the_mgs_is_reached_by_rdma_too)
{
	in_world(_i, body_mgs);
}
END_TEST

int main(void)
{
	const TTest *const tests[] = {
		rdma_is_used_where_both_are,
		the_port_of_rdma_can_be_named,
		only_addresses_with_a_device_are_told,
		tcp_is_used_where_rdma_is_refused,
		tcp_is_used_while_rdma_is_silent,
		a_client_without_rdma_uses_tcp,
		without_a_connection_manager_tcp_is_used,
		tcp_is_used_where_memory_cannot_be_pinned,
		a_server_without_rdma_tells_of_none,
		what_is_not_listened_on_is_told,
		rdma_alone_if_so_chosen,
		tcp_alone_if_so_chosen,
		silence_leads_to_tcp_and_back,
		an_outage_is_told_once,
		a_device_may_go_and_come,
		a_broken_connection_is_made_anew,
		a_slow_server_keeps_its_connection,
		who_has_used_up_his_credits_is_not_left_alone,
		pushes_come_where_no_more_may_be_asked,
		a_late_write_reaches_no_memory_that_was_given_back,
		a_late_write_of_a_cancelled_call_reaches_no_memory,
		a_late_write_of_a_call_that_took_too_long_reaches_no_memory,
		strangers_pin_so_much_and_no_more,
		a_crowd_gets_in,
		the_mgs_is_reached_by_rdma_too,
	};
	Suite *suite = suite_create("fabrics");
	TCase *tcase = tcase_create("fabrics");
	SRunner *runner;
	int failed;

	tcase_set_timeout(tcase, UNIT_TIMEOUT_S);
	for (size_t i = 0; i < sizeof(tests) / sizeof(*tests); i++)
		tcase_add_loop_test(tcase, tests[i], 1, SEEDS + 1);
	suite_add_tcase(suite, tcase);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	if (failed > 0)
		seeds_tell();
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
