/* NET_TEST, which any server answers: what it sends and takes, and that it is bounded. */
#include "proto/common.pb-c.h"
#include "tests/unit/wire_fixture.h"

static int net_test(struct peer *peer, size_t size_out, size_t size_in)
{
	static uint8_t out[FRAME_BULK_MAX], in[FRAME_BULK_MAX];
	Strake__NetTestRequest request = STRAKE__NET_TEST_REQUEST__INIT;
	struct call call = {
		.opcode = OP_NET_TEST,
		.request = &request.base,
		.bulk_out = &(struct iovec){ out, size_out },
		.bulk_out_count = 1,
		.bulk_in = in,
		.bulk_in_size = sizeof(in),
	};
	int err;

	request.has_answer_size = true;
	request.answer_size = (uint32_t)size_in;
	err = peer_call(peer, &call);
	assert(call.answered && call.bulk_in_len == (err == 0 ? size_in : 0));
	call_release(&call);
	return err;
}

static void body_net_test(struct world *world)
{
	const char *address = world->server.address;
	Strake__NetTestRequest request = STRAKE__NET_TEST_REQUEST__INIT;
	struct call call = { .opcode = OP_NET_TEST, .request = &request.base };
	const Strake__NetTestReply *reply;
	struct client client = client_of(world->loop, &address, 1);

	peer_free(client.peer);
	client.config.role = ROLE_ANY;
	assert(peer_new(world->loop, &client.config, &client.peer) == 0);
	assert(net_test(client.peer, 0, 0) == 0);
	assert(net_test(client.peer, FRAME_BULK_MAX, 0) == 0);
	assert(net_test(client.peer, 0, FRAME_BULK_MAX) == 0);
	assert(net_test(client.peer, 1, 4097) == 0);
	assert(net_test(client.peer, 0, FRAME_BULK_MAX + 1) == -EINVAL);
	assert(net_test(client.peer, 0, UINT32_MAX) == -EINVAL);

	request.has_addresses = request.addresses = true;
	assert(peer_call(client.peer, &call) == 0);
	reply = (const Strake__NetTestReply *)call.reply;
	assert(reply->n_address == 1 && strcmp(reply->address[0], address) == 0);
	call_release(&call);
	peer_free(client.peer);
	assert(world->server.handled == 0 && world->server.bulks_out == 0);
}

START_TEST(the_network_is_tested_at_any_server)
{
	on_one_loop((struct service_config){ 0 }, body_net_test);
}
END_TEST

/* Asks for 1 MiB of nothing, so many times, and reads none of it. */
static void raw_net_tests(int fd, unsigned int count)
{
	Strake__NetTestRequest request = STRAKE__NET_TEST_REQUEST__INIT;
	struct frame_header header = { .version = FRAME_VERSION, .kind = FRAME_REQUEST, .opcode = OP_NET_TEST };
	uint8_t data[FRAME_HEADER_SIZE + 16];

	request.has_answer_size = true;
	request.answer_size = FRAME_BULK_MAX;
	for (unsigned int i = 0; i < count; i++) {
		header.xid = i + 1;
		header.body_len = (uint32_t)strake__net_test_request__pack(&request, data + FRAME_HEADER_SIZE);
		header.body_sum = crc32c(data + FRAME_HEADER_SIZE, header.body_len);
		frame_encode(&header, data);
		raw_send(fd, data, FRAME_HEADER_SIZE + header.body_len);
	}
}

/* Those who ask, and take no answers, leave none for other tests; all else goes on. What the kernel takes is not held here. */
static void body_net_flood(struct world *world)
{
	struct peer *peer = peer_to(world->loop, world->server.address);
	uint8_t one = 1, other = 0;
	int fds[4];

	for (size_t i = 0; i < 4; i++)
		fds[i] = raw_open(&world->server);
	do {
		for (size_t i = 0; i < 4; i++)
			raw_net_tests(fds[i], 8);
		fiber_sleep_ms(1);
	} while (net_test(peer, 0, 1) != -EBUSY);
	assert(net_test(peer, FRAME_BULK_MAX, 0) == 0);
	assert(ping(peer) == 0 && echo(peer, 1, &one, &other, 1, 0) == 0);
	for (size_t i = 0; i < 4; i++)
		close(fds[i]);
	WAIT_FOR(net_test(peer, 0, FRAME_BULK_MAX) == 0);
	peer_free(peer);
}

START_TEST(tests_of_the_network_are_bounded)
{
	on_one_loop((struct service_config){ 0 }, body_net_flood);
}
END_TEST

UNIT_MAIN("wire_net", the_network_is_tested_at_any_server, tests_of_the_network_are_bounded)
