/* What clients can take of a server is bounded: memory for bulk, answers that nobody reads, credits, connections. */
#include "proto/mgs.pb-c.h"
#include "tests/unit/wire_fixture.h"

#include <malloc.h>
#include <sys/resource.h>

#ifdef STRAKE_SAN
#define SLOWER 10 /* sanitizers: fewer of the many */
#else
#define SLOWER 1
#endif

static void body_backpressure(struct world *world)
{
	struct peer *peers[4];
	struct hold holds[4][8] = { 0 };
	uint8_t *out = pattern(200000, 9);
	struct iovec iov = { out, 200000 };
	unsigned int left = 32;

	world->server.bulk_bounded = true;
	world->server.bulks_left = 3;
	for (size_t i = 0; i < 4; i++) {
		peers[i] = peer_to(world->loop, world->server.address);
		for (size_t j = 0; j < 8; j++) {
			holds[i][j].call.bulk_out = &iov;
			holds[i][j].call.bulk_out_count = 1;
			hold_start(&holds[i][j], world->loop, peers[i]);
		}
	}
	while (left > 0) {
		WAIT_FOR(world->server.held_count == (left < 3 ? left : 3));
		assert(world->server.bulks_out == world->server.held_count);
		left -= world->server.held_count;
		server_release(&world->server);
	}
	for (size_t i = 0; i < 4; i++) {
		for (size_t j = 0; j < 8; j++) {
			hold_wait(&holds[i][j]);
			assert(holds[i][j].result == 0);
		}
		peer_free(peers[i]);
	}
	assert(world->server.held_most == 3);
	free(out);
}

START_TEST(requests_wait_for_bulk_memory)
{
	on_one_loop((struct service_config){ 0 }, body_backpressure);
}
END_TEST

/* Memory that comes back goes to who has waited longest, not to who asked last. */
static void body_fairness(struct world *world)
{
	enum { CLIENTS = 3 };
	struct peer *peers[CLIENTS];
	struct hold holds[CLIENTS] = { 0 };
	uint8_t *out = pattern(200000, 9);
	struct iovec iov = { out, 200000 };
	struct service_stats before, now;

	world->server.bulk_bounded = true;
	for (size_t i = 0; i < CLIENTS; i++) {
		peers[i] = peer_to(world->loop, world->server.address);
		assert(ping(peers[i]) == 0);
		service_stats(world->server.service, &before);
		holds[i].call.bulk_out = &iov;
		holds[i].call.bulk_out_count = 1;
		hold_start(&holds[i], world->loop, peers[i]);
		do {
			fiber_sleep_ms(1);
			service_stats(world->server.service, &now);
		} while (now.bytes_in == before.bytes_in);
	}
	world->server.bulks_left = 1;
	service_bulk_available(world->server.service);
	for (size_t i = 0; i < CLIENTS; i++) {
		WAIT_FOR(world->server.held_count == 1);
		server_release(&world->server);
		WAIT_FOR(holds[0].over + holds[1].over + holds[2].over == (int)i + 1);
		assert(holds[i].over && holds[i].result == 0);
	}
	for (size_t i = 0; i < CLIENTS; i++)
		peer_free(peers[i]);
	free(out);
}

START_TEST(who_waits_longest_for_bulk_memory_is_first)
{
	on_one_loop((struct service_config){ 0 }, body_fairness);
}
END_TEST

/* A server none of whose operations has bulk takes no memory for it; the connection goes on after. */
START_TEST(bulk_is_refused_where_none_belongs)
{
	struct server server = { .takes_no_bulk = true };
	uint8_t *data = malloc(FRAME_HEADER_SIZE + 4096 + FRAME_BULK_MAX);
	struct frame_header header;
	int fd;

	server_thread_start(&server);
	fd = raw_open(&server);
	for (uint64_t xid = 1; xid <= 4; xid++) {
		uint32_t bulk_len = xid % 2 ? FRAME_BULK_MAX : 0;

		raw_send(fd, data, raw_request(data, xid, bulk_len));
		raw_receive(fd, data, FRAME_HEADER_SIZE);
		assert(frame_decode(data, &header) == 0);
		assert(header.xid == xid && header.bulk_len == 0 && header.status == (bulk_len > 0 ? EPROTO : 0));
		raw_receive(fd, data, header.body_len);
	}
	close(fd);
	server_thread_stop(&server);
	assert(server.handled == 2);
	free(data);
}
END_TEST

/* Half a bulk and silence, in all memory that there is for bulk: others get it long before the frame's deadline. */
START_TEST(who_hoards_bulk_memory_is_cut_off)
{
	struct server server = { .bulk_bounded = true, .bulks_left = 2 };
	uint8_t *data = malloc(1024 * 1024);
	size_t size = raw_request(data, 1, 1000);
	uint64_t began_ns = clock_ns();
	int hoarders[2];

	server_thread_start(&server);
	for (unsigned int i = 0; i < 2; i++) {
		hoarders[i] = raw_open(&server);
		raw_send(hoarders[i], data, size - 500);
	}
	server_is_well(&server);
	assert(clock_ns() - began_ns < SERVICE_FRAME_DEADLINE_MS * NSEC_PER_MSEC / 2);
	for (unsigned int i = 0; i < 2; i++)
		raw_expect_end(hoarders[i]);
	server_thread_stop(&server);
	free(data);
}
END_TEST

/* It asks for megabytes, and reads none of them. */
START_TEST(a_peer_that_does_not_read_is_cut_off)
{
	struct server server = { .config = { .stall_ms = 600 } };
	uint8_t *data = malloc(2 * 1024 * 1024);
	size_t size = raw_request(data, 1, 1024 * 1024);
	uint64_t began_ns = clock_ns();
	int fd;

	server_thread_start(&server);
	fd = raw_open(&server);
	for (unsigned int i = 0; i < 64; i++)
		raw_send(fd, data, size);
	/* What the kernel had taken still comes. By itself the kernel would give it up after 30 s. */
	raw_expect_end(fd);
	assert(clock_ns() - began_ns < 20 * NSEC_PER_SEC);
	server_is_well(&server);
	server_thread_stop(&server);
	free(data);
}
END_TEST

/* All that the other end takes, as long as it takes any; how much of a frame has gone at last is nobody's business. */
static void raw_fill(struct world *world, int fd, const uint8_t *data, size_t size)
{
	unsigned int still = 0, handled = 0;
	size_t sent = 0;

	while (still < 200) {
		ssize_t n = send(fd, data + sent, size - sent, MSG_DONTWAIT | MSG_NOSIGNAL);

		still = n > 0 || world->server.handled != handled ? 0 : still + 1;
		handled = world->server.handled;
		sent = n > 0 ? (sent + (size_t)n) % size : sent;
		if (n <= 0)
			fiber_sleep_ms(1);
	}
}

/* It asks for what takes all memory that there is for bulk, and reads none of it: others get that long before it is cut off. */
static void body_reads_nothing(struct world *world)
{
	struct peer *peer = peer_to(world->loop, world->server.address);
	uint8_t *data = malloc(2 * 1024 * 1024), *out = pattern(200000, 9), *in = malloc(200000);
	size_t size = raw_request(data, 1, 1024 * 1024);
	uint64_t began_ns;
	ssize_t n;
	int fd;

	world->server.bulk_bounded = true;
	world->server.bulks_left = 2;
	fd = raw_open(&world->server);
	raw_fill(world, fd, data, size);
	assert(world->server.bulks_out == 2);
	began_ns = clock_ns();
	assert(echo(peer, 7, out, in, 200000, 0) == 0);
	assert(clock_ns() - began_ns < SERVICE_STALL_MS * NSEC_PER_MSEC / 2);
	WAIT_FOR((n = recv(fd, data, size, MSG_DONTWAIT)) == 0 || (n < 0 && errno != EAGAIN));
	close(fd);
	peer_free(peer);
	free(data);
	free(out);
	free(in);
}

START_TEST(who_reads_nothing_holds_up_nobody)
{
	on_one_loop((struct service_config){ 0 }, body_reads_nothing);
}
END_TEST

/* It sends more than it was granted: what is above waits on its side of the wire. */
static void body_greedy(struct world *world)
{
	unsigned int left = 40;
	int fd = raw_open(&world->server);

	for (uint64_t xid = 1; xid <= left; xid++)
		raw_hold(fd, xid);
	for (; left > 0; left -= 4) {
		WAIT_FOR(world->server.held_count >= 4);
		server_release(&world->server);
	}
	assert(world->server.held_most == 4);
	close(fd);
}

START_TEST(nobody_takes_more_than_he_was_granted)
{
	on_one_loop((struct service_config){ .credits = 4 }, body_greedy);
}
END_TEST

static void raw_skip(int fd, size_t size)
{
	static uint8_t data[65536];
	ssize_t received;

	for (; size > 0; size -= (size_t)received)
		WAIT_FOR((received = recv(fd, data, size < sizeof(data) ? size : sizeof(data), MSG_DONTWAIT)) > 0);
}

/* It asks for much and reads late: meanwhile it is not read either, so what waits for it is bounded. */
static void body_late(struct world *world)
{
	const unsigned int asked = 100; /* several times SERVICE_QUEUE_MAX, and more than the kernel takes besides */
	const size_t answer_size = 800 * 1024;
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	struct frame_header header = { .version = FRAME_VERSION, .kind = FRAME_REQUEST, .opcode = OP_READ };
	uint8_t data[FRAME_HEADER_SIZE + 64];
	int fd = raw_open(&world->server);

	request.object = OBJECT(1);
	request.offset = answer_size / sizeof(uint32_t);
	header.body_len = (uint32_t)strake__read_request__pack(&request, data + FRAME_HEADER_SIZE);
	header.body_sum = crc32c(data + FRAME_HEADER_SIZE, header.body_len);
	frame_encode(&header, data);
	for (unsigned int i = 0; i < asked; i++)
		raw_send(fd, data, FRAME_HEADER_SIZE + header.body_len);
	WAIT_FOR(world->server.handled * answer_size >= SERVICE_QUEUE_MAX);
	assert(world->server.handled < asked);
	for (unsigned int i = 0; i < asked; i++) {
		raw_receive(fd, data, FRAME_HEADER_SIZE);
		assert(frame_decode(data, &header) == 0 && header.body_len > answer_size);
		raw_skip(fd, header.body_len);
	}
	assert(world->server.handled == asked);
	close(fd);
}

START_TEST(a_peer_that_reads_late_is_read_late)
{
	on_one_loop((struct service_config){ 0 }, body_late);
}
END_TEST

/* It subscribes, and does not read what it is told. */
static void body_deaf(struct world *world)
{
	Strake__ClusterMap map = STRAKE__CLUSTER_MAP__INIT;
	char *name = malloc(FRAME_BODY_MAX / 2);
	int fd = raw_open(&world->server);

	memset(name, 'x', FRAME_BODY_MAX / 2 - 1);
	name[FRAME_BODY_MAX / 2 - 1] = 0;
	map.fs_name = name;
	map.fs_uuid = (ProtobufCBinaryData){ sizeof(fs_uuid), fs_uuid.bytes };
	for (size_t told = 0; world->server.closed == 0; told += FRAME_BODY_MAX / 2) {
		assert(told <= 2 * SERVICE_QUEUE_MAX);
		service_each_conn(world->server.service, push_map, &map.base);
		/* Now and then the kernel takes what it can. */
		if (told % (4 * FRAME_BODY_MAX) == 0)
			fiber_sleep_ms(1);
	}
	free(name);
	close(fd);
}

START_TEST(who_does_not_listen_is_told_no_more)
{
	on_one_loop((struct service_config){ 0 }, body_deaf);
}
END_TEST

static void body_idle(struct world *world)
{
	const unsigned int count = 2000 / SLOWER;
	struct peer **peers = calloc(count, sizeof(struct peer *));
	struct service_stats stats;
	size_t before, after;

	before = mallinfo2().uordblks;
	for (unsigned int i = 0; i < count; i++) {
		peers[i] = peer_to(world->loop, world->server.address);
		assert(ping(peers[i]) == 0);
	}
	after = mallinfo2().uordblks;
	service_stats(world->server.service, &stats);
	assert(stats.connections == count);
	/* Both ends, with the peer's table of calls: no buffers. */
#ifndef STRAKE_SAN
	assert(after - before < (size_t)count * 12 * 1024);
#else
	(void)after;
	(void)before;
#endif
	for (unsigned int i = 0; i < count; i++)
		assert(ping(peers[i]) == 0);
	for (unsigned int i = 0; i < count; i++)
		peer_free(peers[i]);
	WAIT_FOR(world->server.closed == count);
	free(peers);
}

START_TEST(two_thousand_idle_connections_are_cheap)
{
	struct rlimit limit;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	on_one_loop((struct service_config){ 0 }, body_idle);
}
END_TEST

static void body_full(struct world *world)
{
	struct peer *first = peer_to(world->loop, world->server.address);
	struct peer *second = peer_to(world->loop, world->server.address);
	struct hold hold = { .call = { .attempt_ms = 50 } };

	assert(ping(first) == 0);
	hold_start(&hold, world->loop, second);
	hold_wait(&hold);
	assert(hold.result == -ETIMEDOUT && world->server.held_count == 0);
	peer_free(first);
	assert(ping(second) == 0);
	peer_free(second);
}

START_TEST(connections_are_bounded)
{
	on_one_loop((struct service_config){ .connections_max = 1 }, body_full);
}
END_TEST

UNIT_MAIN("wire_bounds", requests_wait_for_bulk_memory, who_waits_longest_for_bulk_memory_is_first,
	  bulk_is_refused_where_none_belongs, who_hoards_bulk_memory_is_cut_off, a_peer_that_does_not_read_is_cut_off,
	  who_reads_nothing_holds_up_nobody, nobody_takes_more_than_he_was_granted, a_peer_that_reads_late_is_read_late,
	  who_does_not_listen_is_told_no_more, two_thousand_idle_connections_are_cheap, connections_are_bounded)
