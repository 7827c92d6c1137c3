/* The MGS by RDMA: its addresses are not in the map, it tells of them itself, to who has reached it by TCP. */
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

FABRICS_MAIN("fabrics_mgs", the_mgs_is_reached_by_rdma_too)
