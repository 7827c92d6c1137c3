/* Who connects by RDMA and has proved nothing yet: how much memory that pins, and that who has the key gets in all the same. */
#include "common/opening.h"
#include "tests/unit/fabrics_fixture.h"

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

	quick_time_off(); /* on iWARP each of them comes by a thread */
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

FABRICS_MAIN("fabrics_strangers", strangers_pin_so_much_and_no_more, a_crowd_gets_in)
