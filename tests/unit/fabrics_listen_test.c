/* Where a service listens, and what it tells of that. */
#include "tests/unit/fabrics_fixture.h"

/* --- several addresses -------------------------------------------------------------------------------------------- */

static uint16_t listen_on(struct world *world, const char *address)
{
	uint16_t port;

	assert(service_listen(world->service, address, &port) == 0);
	return port;
}

static void is_told(const struct world *world, size_t n, const char *host, uint16_t port)
{
	char wanted[ADDRESS_SIZE];

	snprintf(wanted, sizeof(wanted), "%s:%u", host, port);
	assert(n < world->reachable.count && strcmp(world->reachable.text[n], wanted) == 0);
}

/* Of each fabric in order; where RDMA is listened on no further port of it is taken but by name. */
static void body_several(struct world *world)
{
	uint16_t ports[4], port;
	size_t count;

	serve(world, "127.0.0.1:0");
	ports[0] = world->port;
	ports[1] = listen_on(world, "127.0.0.2:0");
	ports[2] = listen_on(world, "127.0.0.1:0");
	ports[3] = listen_on(world, "rdma://127.0.0.1:4711");
	assert(service_reachable(world->service, NULL, &world->reachable) == 0 && world->reachable.count == 5);
	is_told(world, 0, "127.0.0.1", ports[0]);
	is_told(world, 1, "127.0.0.2", ports[1]);
	is_told(world, 2, "127.0.0.1", ports[2]);
	assert(strncmp(world->reachable.text[3], "rdma://127.0.0.1:", 17) == 0);
	is_told(world, 4, "rdma://127.0.0.1", ports[3]);

	for (count = 3; count < ADDRESS_LIST_MAX; count++)
		(void)listen_on(world, "127.0.0.2:0");
	assert(service_listen(world->service, "127.0.0.2:0", &port) == -ENOSPC);
	assert(service_reachable(world->service, NULL, &world->reachable) == 0);
	assert(world->reachable.count == ADDRESS_LIST_MAX);
	is_told(world, 0, "127.0.0.1", ports[0]);
	is_told(world, ADDRESS_LIST_MAX - 1, "rdma://127.0.0.1", ports[3]);
}

START_TEST(all_addresses_are_told)
{
	in_world(_i, body_several);
}
END_TEST

FABRICS_MAIN("fabrics_listen", all_addresses_are_told)
