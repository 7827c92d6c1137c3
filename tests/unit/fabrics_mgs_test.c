/* The MGS by RDMA: it tells of its addresses itself, to who has reached it by TCP: with the first map, and with those it pushes. */
#include "common/mgs_client.h"
#include "mgs/mgs.h"
#include "proto/mgs.pb-c.h"
#include "tests/unit/fabrics_fixture.h"
#include "tests/unit/temp_dir.h"

static struct mgs *mgs;
static char mgs_dir[PATH_MAX];

static int ost_reachable(void *owner, const char *preferred, struct address_list *ret_list)
{
	(void)owner;
	return address_reachable("127.0.0.1", 4711, preferred, ret_list);
}

/* As it says itself, to who asks by TCP; he does not count. */
static void mgs_asks(struct world *world, uint32_t *ret_tcp, uint32_t *ret_rdma, uint64_t *ret_epoch)
{
	Strake__MapRequest request = STRAKE__MAP_REQUEST__INIT;
	struct call call = { .opcode = OP_MAP, .request = &request.base };
	const Strake__MapReply *reply;

	assert(peer_call(world->peer, &call) == 0);
	reply = (const Strake__MapReply *)call.reply;
	assert(reply->n_rdma_address == 1);
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
	} while (by_rdma != rdma || by_tcp != 1 - rdma);
}

static void mgs_ends(void)
{
	mgs_free(mgs);
	temp_dir_remove(mgs_dir);
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

	temp_dir_make(mgs_dir);
	world->after = mgs_ends;
	assert(mgs_new(world->loop,
		       &(struct mgs_config){
			       .data_dir = mgs_dir, .identity = &identity, .key = &key, .listen = &listen },
		       &mgs, config.mgs.text[0], error, sizeof(error)) == 0);
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

/* --- one made by hand --------------------------------------------------------------------------------------------- */

/* Its first map is without a word of RDMA, then it pushes what the test likes. */
static Strake__ClusterMap told;

static void tell_map(void *owner, struct request *request)
{
	Strake__MapReply reply = STRAKE__MAP_REPLY__INIT;

	(void)owner;
	assert(request->header.opcode == OP_MAP);
	reply.map = &told;
	service_reply(request, &(struct reply){ .body = &reply.base });
}

static void push_told(struct service_conn *conn, void *arg)
{
	(void)arg;
	service_push(conn, OP_MAP_PUSH, &told.base);
}

/* So many: one address, and another one last. */
static void push_addresses(struct world *world, size_t count, char *one, char *last)
{
	char *addresses[ADDRESS_LIST_MAX + 1];

	for (size_t i = 0; i < count; i++)
		addresses[i] = i < count - 1 ? one : last;
	told.mgs_rdma_address = addresses;
	told.n_mgs_rdma_address = count;
	service_each_conn(world->service, push_told, NULL);
	told.n_mgs_rdma_address = 0;
}

static struct mgs_client *hand_made(struct world *world)
{
	const struct service_config service = {
		.fs = fs,
		.target = target,
		.role = ROLE_MGS,
		.key = &key,
		.handle = tell_map,
	};
	struct mgs_client_config config = {
		.mgs = { .count = 1 },
		.key = &key,
		.own_role = ROLE_CLIENT,
		.own_uuid = target,
		.tally = &world->tally,
	};
	struct mgs_client *client;

	strake__cluster_map__init(&told);
	told.fs_uuid = (ProtobufCBinaryData){ .data = fs.bytes, .len = UUID_SIZE };
	told.fs_name = (char[]){ "test" };
	assert(service_new(world->loop, &service, &world->service) == 0);
	assert(service_listen(world->service, "127.0.0.1:0", &world->port) == 0);
	assert(service_reachable(world->service, NULL, &world->reachable) == 0);
	snprintf(config.mgs.text[0], ADDRESS_SIZE, "127.0.0.1:%u", world->port);
	assert(mgs_client_new(world->loop, &config, &client) == 0);
	assert(mgs_client_wait(client, AT_MOST_MS) == 0);
	return client;
}

static void hand_made_ends(struct mgs_client *client)
{
	mgs_client_free(client);
	fiber_sleep_ms(20); /* its fibers end */
}

/* A map with too many is none. One with as many as there may be has no room for all of them beside the one that was named. */
static void body_many(struct world *world)
{
	struct mgs_client *client = hand_made(world);
	char *rdma = world->reachable.text[1];

	push_addresses(world, ADDRESS_LIST_MAX + 1, rdma, rdma);
	fiber_sleep_ms(WITHIN_MS); /* it would have gone over */
	assert(world->tally.connections[FABRIC_TCP] == 1);
	push_addresses(world, ADDRESS_LIST_MAX, rdma, rdma);
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 1);
	hand_made_ends(client);
}

START_TEST(too_many_are_not_believed)
{
	in_world(_i, body_many);
}
END_TEST

/* If others were taken there would be no room for the one that is good. A map with none takes none away. */
static void others_are_not_taken(struct world *world, char *other)
{
	struct mgs_client *client = hand_made(world);

	push_addresses(world, ADDRESS_LIST_MAX, other, world->reachable.text[1]);
	push_addresses(world, 0, NULL, NULL);
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 1);
	hand_made_ends(client);
}

static void body_plain(struct world *world)
{
	others_are_not_taken(world, (char[]){ "127.0.0.1:1" });
}

START_TEST(those_of_another_kind_are_not_taken)
{
	in_world(_i, body_plain);
}
END_TEST

static void body_long(struct world *world)
{
	char text[ADDRESS_SIZE + 1] = ADDRESS_RDMA;

	memset(text + strlen(text), 'h', ADDRESS_SIZE - strlen(text));
	others_are_not_taken(world, text);
}

START_TEST(those_that_are_too_long_are_not_taken)
{
	in_world(_i, body_long);
}
END_TEST

/* Where RDMA alone is used those that people have named are of it, and stay. */
static void close_one(struct service_conn *conn, void *arg)
{
	(void)arg;
	service_conn_close(conn);
}

static void body_rdma_alone(struct world *world)
{
	struct mgs_client *client;

	fabrics_choose(FABRICS_RDMA);
	client = hand_made(world);
	push_addresses(world, 1, NULL, (char[]){ "rdma://127.0.0.1:1" });
	fiber_sleep_ms(20); /* it comes */
	service_each_conn(world->service, close_one, NULL);
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 0);
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 1);
	hand_made_ends(client);
}

START_TEST(by_rdma_alone_the_named_ones_stay)
{
	in_world(_i, body_rdma_alone);
}
END_TEST

FABRICS_MAIN("fabrics_mgs", the_mgs_is_reached_by_rdma_too, too_many_are_not_believed,
	     those_of_another_kind_are_not_taken, those_that_are_too_long_are_not_taken,
	     by_rdma_alone_the_named_ones_stay)
