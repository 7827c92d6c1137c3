/* Which fabric is used at first: of those that both ends have, that are listened on and told of, and that are chosen. */
#include "tests/unit/fabrics_fixture.h"

#define START_NS (200 * NSEC_PER_MSEC) /* RDMA's, before TCP is tried */

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
	in_world(_i, body_port);
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

static void silence_fiber(void *arg)
{
	WAIT_FOR(fabric.delivered > 0);
	fabric.silent = true;
	((struct world *)arg)->workers--;
}

/* RDMA is connected to, and falls silent in the opening: it is left, and on iWARP its word is not waited for. */
static void body_silent_in_opening(struct world *world)
{
	fabric.delay_us = 20000;
	serve(world, "127.0.0.1:0");
	reach_all(world);
	world->workers++;
	assert(fiber_start(world->loop, silence_fiber, world) == 0);
	assert(ping(world) == 0);
	assert(used(world) == FABRIC_TCP && fabric.waits_for_the_silent == 0);
	WAIT_FOR(world->workers == 0);
}

START_TEST(who_falls_silent_in_the_opening_is_left)
{
	in_world(_i, body_silent_in_opening);
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
	in_world(_i, body_no_manager);
}
END_TEST

/* Beyond RLIMIT_MEMLOCK, at the server as here. */
static void body_not_pinned(struct world *world)
{
	const char *address = world->reachable.text[1];

	serve(world, "127.0.0.1:0");
	fabric.regions_end = fabric.keys + 3; /* one connection's */
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
	in_world(_i, body_not_pinned);
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
	in_world(_i, body_not_listened);
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

FABRICS_MAIN("fabrics_choice", rdma_is_used_where_both_are, the_port_of_rdma_can_be_named,
	     only_addresses_with_a_device_are_told, tcp_is_used_where_rdma_is_refused, tcp_is_used_while_rdma_is_silent,
	     who_falls_silent_in_the_opening_is_left, a_client_without_rdma_uses_tcp,
	     without_a_connection_manager_tcp_is_used, tcp_is_used_where_memory_cannot_be_pinned,
	     a_server_without_rdma_tells_of_none, what_is_not_listened_on_is_told, rdma_alone_if_so_chosen,
	     tcp_alone_if_so_chosen)
