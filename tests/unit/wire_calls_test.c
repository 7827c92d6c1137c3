/* Calls and their answers: bodies and bulk of all sizes, many at once, errors, between two threads. */
#include "common/transport_tcp.h"
#include "tests/unit/wire_fixture.h"

#include <fcntl.h>
#include <netinet/tcp.h>

static void echo_all_sizes(struct loop *loop, const char *address)
{
	static const size_t sizes[] = { 0, 1, 4095, 4096, 64 * 1024, 512 * 1024, 1024 * 1024 };
	static const uint32_t sums[] = { 0, 100, 20000, 200000 };
	struct peer *peer = peer_to(loop, address);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		uint8_t *out = pattern(sizes[i], (unsigned int)i), *in = malloc(sizes[i] + 1);

		for (size_t j = 0; j < sizeof(sums) / sizeof(*sums); j++) {
			assert(echo(peer, i * 100 + j, out, in, sizes[i], sums[j]) == 0);
			memset(in, 0, sizes[i]);
		}
		free(out);
		free(in);
	}
	peer_free(peer);
}

static void body_echo(struct world *world)
{
	echo_all_sizes(world->loop, world->server.address);
}

START_TEST(bulk_and_bodies_of_all_sizes_go_both_ways)
{
	on_one_loop((struct service_config){ 0 }, body_echo);
}
END_TEST

/* Long request bodies: what they unfold into is summed up by the server. */
static void body_long_requests(struct world *world)
{
	static const uint32_t counts[] = { 0, 1, 100, 130, 8000, 16384, 262100 };
	struct peer *peer = peer_to(world->loop, world->server.address);
	uint32_t *sums = calloc(262144, sizeof(*sums));
	uint8_t *data = pattern(5000, 3);

	for (size_t i = 0; i < 262144; i++)
		sums[i] = (uint32_t)i * 7;
	for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++) {
		Strake__WriteRequest request = STRAKE__WRITE_REQUEST__INIT;
		const struct iovec iov = { data, 5000 };
		struct call call = {
			.opcode = OP_WRITE, .request = &request.base, .bulk_out = &iov, .bulk_out_count = 1
		};
		uint32_t expected = crc32c(data, 5000);

		request.object = OBJECT(1);
		request.sums = sums;
		request.n_sums = counts[i];
		for (uint32_t j = 0; j < counts[i]; j++)
			expected += sums[j];
		assert(peer_call(peer, &call) == 0);
		assert(((const Strake__WriteReply *)call.reply)->instance == expected);
		call_release(&call);
	}
	/* And one that is too long to be sent at all. */
	{
		Strake__WriteRequest request = STRAKE__WRITE_REQUEST__INIT;
		struct call call = { .opcode = OP_WRITE, .request = &request.base };

		request.object = OBJECT(1);
		request.sums = sums;
		request.n_sums = 262144;
		assert(peer_call(peer, &call) == -EMSGSIZE && !call.answered);
	}
	/* Likewise an answer. */
	assert(echo(peer, 1, NULL, NULL, 0, 262144) == -EOVERFLOW);
	assert(echo(peer, 1, NULL, NULL, 0, 0) == 0);
	free(sums);
	free(data);
	peer_free(peer);
}

START_TEST(long_bodies_arrive_whole)
{
	on_one_loop((struct service_config){ 0 }, body_long_requests);
}
END_TEST

/* --- many at once ------------------------------------------------------------------------------------------------- */

#define MANY_FIBERS 500

struct many {
	struct peer *peer;
	unsigned int running, each, done;
	struct fiber_queue over;
};

static void many_fiber(void *arg)
{
	struct many *many = arg;

	for (unsigned int i = 0; i < many->each; i++) {
		uint8_t out[100], in[100];

		memset(out, (int)i, sizeof(out));
		assert(echo(many->peer, many->done++, out, in, sizeof(out), i % 3) == 0);
	}
	if (--many->running == 0)
		fiber_wake_all(&many->over);
}

static void many_calls(struct loop *loop, const char *address, unsigned int calls)
{
	struct many many = { .peer = peer_to(loop, address), .running = MANY_FIBERS, .each = calls / MANY_FIBERS };
	struct peer_stats stats;

	for (unsigned int i = 0; i < MANY_FIBERS; i++)
		assert(fiber_start(loop, many_fiber, &many) == 0);
	while (many.running > 0)
		fiber_wait(&many.over, NULL);
	peer_stats(many.peer, &stats);
	assert(stats.calls == many.done && stats.connects == 1);
	assert(stats.sends < stats.calls / 4);
	peer_free(many.peer);
}

static void body_many(struct world *world)
{
	struct service_stats stats;

	many_calls(world->loop, world->server.address, 10000);
	service_stats(world->server.service, &stats);
	/* All that came together is answered together. */
	assert(stats.requests == 10000 && stats.replies == 10000);
	assert(stats.sends < 10000 / 50 && stats.receives < 10000 / 20);
}

START_TEST(ten_thousand_calls_leave_in_few_sends)
{
	on_one_loop((struct service_config){ 0 }, body_many);
}
END_TEST

static void body_credits(struct world *world)
{
	struct peer *peer = peer_to(world->loop, world->server.address);
	struct hold holds[32] = { 0 };

	for (size_t i = 0; i < 32; i++)
		hold_start(&holds[i], world->loop, peer);
	for (unsigned int left = 32; left > 0; left -= 4) {
		WAIT_FOR(world->server.held_count == 4);
		server_release(&world->server);
	}
	for (size_t i = 0; i < 32; i++) {
		hold_wait(&holds[i]);
		assert(holds[i].result == 0);
	}
	assert(world->server.held_most == 4);
	peer_free(peer);
}

START_TEST(no_more_calls_than_credits_are_under_way)
{
	on_one_loop((struct service_config){ .credits = 4 }, body_credits);
}
END_TEST

/* --- two threads -------------------------------------------------------------------------------------------------- */

static void client_fiber(void *arg)
{
	struct client_run *run = arg;

	echo_all_sizes(run->loop, run->address);
	many_calls(run->loop, run->address, 10000);
	loop_stop(run->loop);
}

START_TEST(two_threads_agree)
{
	struct server server = { 0 };
	struct client_run run;

	server_thread_start(&server);
	run.address = server.address;
	ck_assert_int_eq(loop_new(&run.loop), 0);
	ck_assert_int_eq(fiber_start(run.loop, client_fiber, &run), 0);
	ck_assert_int_eq(loop_run(run.loop), 0);
	loop_free(run.loop);
	server_thread_stop(&server);
}
END_TEST

/* --- what the server says ----------------------------------------------------------------------------------------- */

static void body_errors(struct world *world)
{
	struct peer *peer = peer_to(world->loop, world->server.address);
	Strake__SeekRequest seek = STRAKE__SEEK_REQUEST__INIT;
	Strake__SessionTable table = STRAKE__SESSION_TABLE__INIT;
	Strake__GlimpseRequest glimpse = STRAKE__GLIMPSE_REQUEST__INIT;
	struct call call = { .opcode = OP_SEEK, .request = &seek.base };
	uint8_t small[10];
	struct hold hold = { .call = { .bulk_in = small, .bulk_in_size = sizeof(small) } };
	static uint8_t bulk[11];

	seek.object = OBJECT(1);
	assert(peer_call(peer, &call) == -ENXIO && call.answered && call.reply == NULL);
	/* Another role's operation; one for MDTs only. */
	call = (struct call){ .opcode = OP_STATFS };
	assert(peer_call(peer, &call) == -EOPNOTSUPP && call.answered);
	call = (struct call){ .opcode = OP_SESSIONS, .request = &table.base };
	assert(peer_call(peer, &call) == -EPERM && call.answered);
	/* The wrong body for it: required fields are missing. */
	call = (struct call){ .opcode = OP_READ, .request = &glimpse.base };
	assert(peer_call(peer, &call) == -EBADMSG && call.answered);
	/* The server closes within the handler, then answers. */
	call = (struct call){ .opcode = OP_COMMIT, .request = &glimpse.base };
	{
		Strake__CommitRequest commit = STRAKE__COMMIT_REQUEST__INIT;

		call.request = &commit.base;
		assert(peer_call(peer, &call) == -ECONNRESET && !call.answered);
	}
	/* More bulk than there is room for. */
	hold_start(&hold, world->loop, peer);
	WAIT_FOR(world->server.held_count == 1);
	{
		Strake__GlimpseReply body = STRAKE__GLIMPSE_REPLY__INIT;

		service_reply(
			world->server.held[0],
			&(struct reply){ .body = &body.base, .bulk = { { bulk, sizeof(bulk) } }, .bulk_count = 1 });
		world->server.held_count = 0;
	}
	hold_wait(&hold);
	assert(hold.result == -EPROTO && !hold.call.answered);
	assert(ping(peer) == 0);
	peer_free(peer);
}

START_TEST(refusals_and_errors_reach_the_caller)
{
	on_one_loop((struct service_config){ 0 }, body_errors);
}
END_TEST

static void pipe_released(struct bulk *bulk)
{
	((struct server *)(void *)((char *)bulk - offsetof(struct server, pipe_owner)))->pipes_released++;
}

static void body_pipe(struct world *world)
{
	struct peer *peer = peer_to(world->loop, world->server.address);
	uint8_t *data = pattern(700000, 5), *in = malloc(700000);
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	struct call call = { .opcode = OP_READ, .request = &request.base, .bulk_in = in, .bulk_in_size = 700000 };
	int ends[2];

	assert(pipe2(ends, O_NONBLOCK) == 0 && fcntl(ends[1], F_SETPIPE_SZ, 1024 * 1024) == 1024 * 1024);
	world->server.pipe = ends[0];
	world->server.pipe_owner.release = pipe_released;
	request.object = OBJECT(1);
	request.length = 700000;
	request.has_no_sums = request.no_sums = true;
	for (unsigned int i = 1; i <= 3; i++) {
		memset(in, 0, 700000);
		assert(write(ends[1], data, 700000) == 700000);
		assert(peer_call(peer, &call) == 0 && call.bulk_in_len == 700000);
		assert(memcmp(in, data, 700000) == 0 && world->server.pipes_released == i);
		call_release(&call);
		assert(echo(peer, 1, data, in, 1000, 5) == 0);
	}
	/* It holds less than was promised: no answer is better than a wrong one. */
	assert(write(ends[1], data, 1000) == 1000);
	close(ends[1]);
	assert(peer_call(peer, &call) == -ECONNRESET && world->server.pipes_released == 4);
	close(ends[0]);
	free(data);
	free(in);
	peer_free(peer);
}

START_TEST(bulk_leaves_from_pipes)
{
	on_one_loop((struct service_config){ 0 }, body_pipe);
}
END_TEST

START_TEST(sockets_do_not_pace)
{
	static const char *const choices[][2] = { { "bbr", "cubic" }, { "reno", "reno" } };

	for (size_t i = 0; i < 2; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		char now[16] = "";
		socklen_t size = sizeof(now) - 1;

		if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, choices[i][0], (socklen_t)strlen(choices[i][0])) == 0) {
			transport_tcp_unpaced(fd);
			ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, now, &size), 0);
			ck_assert_str_eq(now, choices[i][1]);
		} else {
			printf("skipped: no %s here: %s\n", choices[i][0], strerror(errno));
		}
		close(fd);
	}
}
END_TEST

UNIT_MAIN("wire_calls", bulk_and_bodies_of_all_sizes_go_both_ways, long_bodies_arrive_whole,
	  ten_thousand_calls_leave_in_few_sends, no_more_calls_than_credits_are_under_way, two_threads_agree,
	  refusals_and_errors_reach_the_caller, bulk_leaves_from_pipes, sockets_do_not_pace)
