/* Where a service listens, and what it tells of that: several addresses, and RDMA that is there only later. */
#include "common/mgs_client.h"
#include "mgs/mgs.h"
#include "proto/mgs.pb-c.h"
#include "tests/unit/fabrics_fixture.h"
#include "tests/unit/temp_dir.h"

#define LISTENED_ON "127.0.0.1:%u is listened on by RDMA, too, on port "
#define NOT_USED    "RDMA is not used: "
#define THERE_NOW   "\nRDMA is there now"

static struct mgs *mgs;
static char mgs_dir[PATH_MAX];

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

/* --- RDMA comes later, to a client -------------------------------------------------------------------------------- */

/* A second peer finds it, too; and not a line for each attempt. */
static void body_client_late(struct world *world)
{
	struct peer *other;

	serve(world, "127.0.0.1:0");
	no_device = true;
	reach_all(world);
	other = world->peer;
	assert(ping(world) == 0);
	reach_all(world);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
	fiber_sleep_ms(WITHIN_MS); /* it has been tried again then */
	assert(uses(world, FABRIC_TCP));
	assert(times_said(NOT_USED) == 1 && times_said(THERE_NOW) == 0);
	no_device = false;
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 2 && world->tally.connections[FABRIC_TCP] == 0);
	assert(times_said(NOT_USED) == 1 && times_said(THERE_NOW) == 1 && times_said(BY_TCP) == 0);
	fabric_device_goes(true); /* which is said as if it had always been there */
	WAIT_FOR(world->tally.connections[FABRIC_TCP] == 2);
	assert(times_said(NOT_USED) == 1 && times_said(BY_TCP) == 1);
	peer_free(other);
}

START_TEST(a_client_uses_a_device_that_comes_later)
{
	in_world(_i, body_client_late);
}
END_TEST

/* Of a server that has RDMA only; and the connection manager is what is missing. */
static void body_client_late_only(struct world *world)
{
	const char *address = world->reachable.text[1];

	serve(world, "127.0.0.1:0");
	fabric.no_manager = true;
	reach(world, &address, 1);
	assert(ping_for(world, 100) == -ETIMEDOUT);
	fabric.no_manager = false;
	assert(ping(world) == 0 && used(world) == FABRIC_RDMA);
}

START_TEST(a_client_that_knows_rdma_alone_uses_it_later)
{
	in_world(_i, body_client_late_only);
}
END_TEST

/* --- RDMA comes later, to a server -------------------------------------------------------------------------------- */

/* One that looks for RDMA often. */
static void serve_soon(struct world *world, const char *address)
{
	world->again_ms = 50;
	serve(world, address);
}

static size_t reachable_now(struct world *world)
{
	assert(service_reachable(world->service, NULL, &world->reachable) == 0);
	return world->reachable.count;
}

static unsigned int times_listened(const struct world *world)
{
	char line[ADDRESS_SIZE];

	snprintf(line, sizeof(line), "\n" LISTENED_ON, world->port);
	return times_said(line);
}

/* Nobody is told of it before; then it listens, says so once, and is reached by it. */
static void comes_later(struct world *world, const char *address, void (*comes)(bool there))
{
	comes(false);
	serve_soon(world, address);
	assert(world->reachable.count == 1 && !address_is_rdma(world->reachable.text[0]));
	reach_all(world);
	assert(ping(world) == 0 && used(world) == FABRIC_TCP);
	said_len = 0;
	said[0] = '\0';
	fiber_sleep_ms(WITHIN_MS / 2); /* it has been tried again then */
	assert(reachable_now(world) == 1 && said_len == 0);
	comes(true);
	WAIT_FOR(reachable_now(world) == 2);
	assert(address_is_rdma(world->reachable.text[1]) && times_listened(world) == 1 && times_said("warning") == 0);
	{
		const char *addresses[] = { world->reachable.text[0], world->reachable.text[1] };

		assert(peer_set_addresses(world->peer, addresses, 2) == 0);
	}
	WAIT_FOR(uses(world, FABRIC_RDMA));
	fiber_sleep_ms(WITHIN_MS / 2);
	assert(reachable_now(world) == 2 && times_listened(world) == 1);
}

static void device_comes(bool there)
{
	no_device = !there;
}

static void body_device_late(struct world *world)
{
	comes_later(world, "127.0.0.1:0", device_comes);
}

START_TEST(a_server_listens_when_a_device_comes)
{
	in_world(_i, body_device_late);
}
END_TEST

static void manager_comes(bool there)
{
	fabric.no_manager = !there;
}

static void body_manager_late(struct world *world)
{
	comes_later(world, "127.0.0.1:0", manager_comes);
}

START_TEST(a_server_listens_when_the_connection_manager_comes)
{
	in_world(_i, body_manager_late);
}
END_TEST

/* There is one, of other addresses. */
static void address_comes(bool there)
{
	if (there)
		fabric_device_comes();
	else
		fabric_device_goes(false);
}

static void body_address_late(struct world *world)
{
	comes_later(world, "127.0.0.1:0", address_comes);
}

START_TEST(a_server_listens_when_the_device_of_its_address_comes)
{
	in_world(_i, body_address_late);
}
END_TEST

/* What is no matter of what comes later is said, and not tried again; nor is a name looked up again. */
static void body_no_more(struct world *world)
{
	no_device = true;
	serve_soon(world, "127.0.0.1:0");
	fabric.listen_errno = EACCES;
	no_device = false;
	WAIT_FOR(times_said("is not listened on by RDMA: Permission denied") == 1);
	fabric.listen_errno = 0;
	fiber_sleep_ms(WITHIN_MS / 2);
	assert(reachable_now(world) == 1 && times_said("Permission denied") == 1);
	world->service = service_free(world->service);

	no_device = true;
	serve_soon(world, "localhost:0");
	no_device = false;
	fiber_sleep_ms(WITHIN_MS / 2);
	assert(reachable_now(world) == 1);
}

START_TEST(what_does_not_come_by_itself_is_not_waited_for)
{
	in_world(_i, body_no_more);
}
END_TEST

/* --- and goes ------------------------------------------------------------------------------------------------------- */

/* Its address is told of as long as it is there. What listens at a wildcard hears it again when it comes back. */
static void body_wildcard(struct world *world)
{
	char address[ADDRESS_SIZE];

	serve(world, "0.0.0.0:0");
	assert(service_reachable(world->service, "127.0.0.1", &world->reachable) == 0);
	assert(world->reachable.count >= 2);
	strcpy(address, world->reachable.text[world->reachable.count - 1]);
	assert(address_is_rdma(address));
	reach_all(world);
	assert(ping(world) == 0);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	fabric_device_goes(true);
	WAIT_FOR(uses(world, FABRIC_TCP));
	assert(service_reachable(world->service, "127.0.0.1", &world->reachable) == 0);
	assert(!address_is_rdma(world->reachable.text[world->reachable.count - 1]));
	fabric_device_comes();
	WAIT_FOR(uses(world, FABRIC_RDMA));
	assert(service_reachable(world->service, "127.0.0.1", &world->reachable) == 0);
	assert(strcmp(world->reachable.text[world->reachable.count - 1], address) == 0);
}

START_TEST(a_wildcard_s_device_may_go_and_come)
{
	in_world(_i, body_wildcard);
}
END_TEST

/* --- and the map ---------------------------------------------------------------------------------------------------- */

static int ost_reachable(void *owner, const char *preferred, struct address_list *ret_list)
{
	return service_reachable(((struct world *)owner)->service, preferred, ret_list);
}

static void mgs_ends(void)
{
	mgs_free(mgs);
	temp_dir_remove(mgs_dir);
}

static void mgs_begins(struct world *world, struct address_list *ret_list)
{
	struct address_list listen = { .count = 1, .text = { "127.0.0.1:0" } };
	struct identity identity = { .fs = fs, .target = target, .role = ROLE_MGS, .fs_name = "test" };
	char error[256];

	temp_dir_make(mgs_dir);
	ret_list->count = 1;
	assert(mgs_new(world->loop,
		       &(struct mgs_config){ .data_dir = mgs_dir,
					     .identity = &identity,
					     .key = &key,
					     .listen = &listen,
					     .look_ms = 50 },
		       &mgs, ret_list->text[0], error, sizeof(error)) == 0);
	world->after = mgs_ends;
}

static bool map_has_rdma(const struct mgs_client *client)
{
	const Strake__Target *ost = cluster_map_find(mgs_client_map(client), ROLE_OST, 0);
	bool has = false;

	for (size_t i = 0; i < ost->n_address; i++)
		has |= address_is_rdma(ost->address[i]);
	return has;
}

/* The server hears of the map, as mounts do. */
static void body_map(struct world *world)
{
	struct mgs_client_config config = {
		.key = &key,
		.own_role = ROLE_OST,
		.own_uuid = target,
		.owner = world,
		.reachable = ost_reachable,
		.look_ms = 50,
	};
	struct mgs_client *client;

	no_device = true;
	serve_soon(world, "0.0.0.0:0");
	mgs_begins(world, &config.mgs);
	assert(mgs_client_new(world->loop, &config, &client) == 0);
	assert(mgs_client_wait(client, AT_MOST_MS) == 0);
	assert(!map_has_rdma(client));
	no_device = false;
	WAIT_FOR(map_has_rdma(client));

	/* What goes for a while stays in the map. */
	fabric_device_goes(false);
	fiber_sleep_ms(WITHIN_MS);
	assert(map_has_rdma(client));
	fabric_device_comes();
	mgs_client_free(client);
	fiber_sleep_ms(20); /* its fibers end */
}

START_TEST(an_address_that_comes_later_reaches_the_map)
{
	in_world(_i, body_map);
}
END_TEST

/* The MGS's own, which is in no map that it has stored: who is connected goes over, be it a mount or a server. */
static void body_mgs_late(struct world *world)
{
	struct mgs_client_config config = {
		.key = &key,
		.own_role = ROLE_CLIENT,
		.own_uuid = target,
		.tally = &world->tally,
		.owner = world,
		.reachable = ost_reachable,
	};
	struct mgs_client *mount, *ost;

	serve(world, "127.0.0.1:0");
	no_device = true;
	mgs_begins(world, &config.mgs);
	assert(mgs_client_new(world->loop, &config, &mount) == 0);
	config.own_role = ROLE_OST;
	assert(mgs_client_new(world->loop, &config, &ost) == 0);
	assert(mgs_client_wait(mount, AT_MOST_MS) == 0 && mgs_client_wait(ost, AT_MOST_MS) == 0);
	assert(world->tally.connections[FABRIC_TCP] == 2);
	no_device = false;
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 2 && world->tally.connections[FABRIC_TCP] == 0);
	mgs_client_free(mount);
	mgs_client_free(ost);
	fiber_sleep_ms(20); /* their fibers end */
}

START_TEST(who_is_connected_hears_of_the_mgs_own)
{
	in_world(_i, body_mgs_late);
}
END_TEST

FABRICS_MAIN("fabrics_listen", all_addresses_are_told, a_client_uses_a_device_that_comes_later,
	     a_client_that_knows_rdma_alone_uses_it_later, a_server_listens_when_a_device_comes,
	     a_server_listens_when_the_connection_manager_comes, a_server_listens_when_the_device_of_its_address_comes,
	     what_does_not_come_by_itself_is_not_waited_for, a_wildcard_s_device_may_go_and_come,
	     an_address_that_comes_later_reaches_the_map, who_is_connected_hears_of_the_mgs_own)
