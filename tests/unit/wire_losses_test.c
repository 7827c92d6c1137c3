/* Calls whose connection, server or time is lost, and those that are cancelled. */
#include "tests/unit/wire_fixture.h"

struct repeat {
	struct peer *peer;
	unsigned int succeeded, reset;
	bool stop, over;
};

static void repeat_fiber(void *arg)
{
	struct repeat *repeat = arg;
	uint8_t out[3000] = { 1 }, in[3000];

	while (!repeat->stop) {
		int err = echo(repeat->peer, 1, out, in, sizeof(out), 0);

		assert(err == 0 || err == -ECONNRESET);
		if (err == 0)
			repeat->succeeded++;
		else
			repeat->reset++;
	}
	repeat->over = true;
}

static void body_restart(struct world *world)
{
	struct client client = client_of(world->loop, (const char *[]){ world->server.address }, 1);
	struct repeat repeats[8];
	struct hold hold = { 0 };
	struct peer_stats stats;

	for (size_t i = 0; i < 8; i++) {
		repeats[i] = (struct repeat){ .peer = client.peer };
		assert(fiber_start(world->loop, repeat_fiber, &repeats[i]) == 0);
	}
	for (unsigned int round = 0; round < 5; round++) {
		unsigned int before = repeats[7].succeeded;

		hold = (struct hold){ 0 };
		hold_start(&hold, world->loop, client.peer);
		WAIT_FOR(repeats[7].succeeded > before + 10 && world->server.held_count == 1);
		server_stop(&world->server);
		hold_wait(&hold);
		assert(hold.result == -ECONNRESET && !hold.call.answered);
		server_release(&world->server); /* its connection and its service are gone, which is fine */
		server_start(&world->server);
	}
	for (size_t i = 0; i < 8; i++) {
		unsigned int before = repeats[i].succeeded;

		WAIT_FOR(repeats[i].succeeded > before);
		repeats[i].stop = true;
		WAIT_FOR(repeats[i].over);
	}
	peer_stats(client.peer, &stats);
	assert(stats.connects == 6 && peer_is_connected(client.peer));
	peer_free(client.peer);
}

START_TEST(calls_survive_restarts_of_the_server)
{
	on_one_loop((struct service_config){ 0 }, body_restart);
}
END_TEST

static void body_deadline(struct world *world)
{
	struct peer *peer = peer_to(world->loop, world->server.address);
	uint8_t memory[1000] = { 0 };
	struct hold late = { .call = { .attempt_ms = 1000, .bulk_in = memory, .bulk_in_size = sizeof(memory) } };
	struct hold other = { 0 }, next = { 0 };
	struct peer_stats stats;

	hold_start(&late, world->loop, peer);
	hold_start(&other, world->loop, peer);
	WAIT_FOR(world->server.held_count == 2);
	hold_wait(&late);
	hold_wait(&other);
	assert(late.result == -ETIMEDOUT && !late.call.answered);
	assert(other.result == -ECONNRESET && !other.call.answered);

	/* The late answer has bulk, and nowhere to go. */
	for (unsigned int i = 0; i < 2; i++) {
		static uint8_t bulk[1000] = { 0xff, 0xff };

		service_reply(world->server.held[i],
			      &(struct reply){ .bulk = { { bulk, sizeof(bulk) } }, .bulk_count = 1 });
	}
	world->server.held_count = 0;
	hold_start(&next, world->loop, peer);
	WAIT_FOR(world->server.held_count == 1);
	server_release(&world->server);
	hold_wait(&next);
	assert(next.result == 0);
	for (size_t i = 0; i < sizeof(memory); i++)
		assert(memory[i] == 0);
	peer_stats(peer, &stats);
	assert(stats.connects == 2);
	peer_free(peer);
}

START_TEST(a_passed_deadline_gives_the_connection_up)
{
	on_one_loop((struct service_config){ 0 }, body_deadline);
}
END_TEST

static void body_nobody(struct world *world)
{
	struct hold hold = { .call = { .attempt_ms = 60 } }, cancelled = { 0 }, freed = { 0 };
	struct peer *peer = peer_to(world->loop, world->server.address);

	server_stop(&world->server);
	hold_start(&hold, world->loop, peer);
	hold_start(&cancelled, world->loop, peer);
	hold_wait(&hold);
	assert(hold.result == -ETIMEDOUT && !hold.call.answered);
	WAIT_FOR(peer_last_error(peer)[0] != 0);
	assert(strstr(peer_last_error(peer), "refused") != NULL);
	assert(strstr(peer_last_error(peer), world->server.address) != NULL);
	assert(!cancelled.over && !peer_is_connected(peer));
	call_cancel(&cancelled.call);
	hold_wait(&cancelled);
	assert(cancelled.result == -ECANCELED);

	/* It goes on trying by itself. */
	server_start(&world->server);
	assert(ping(peer) == 0);
	assert(peer_last_error(peer)[0] == 0);

	hold_start(&freed, world->loop, peer);
	WAIT_FOR(world->server.held_count == 1);
	peer_free(peer);
	hold_wait(&freed);
	assert(freed.result == -ECANCELED);
	WAIT_FOR(world->server.closed == 1);
	server_release(&world->server);
}

START_TEST(a_call_waits_for_the_server_within_its_deadline)
{
	on_one_loop((struct service_config){ 0 }, body_nobody);
}
END_TEST

static void body_cancel(struct world *world)
{
	struct peer *peer = peer_to(world->loop, world->server.address);
	uint8_t *in = calloc(1, 1000), *out = pattern(1024 * 1024, 1);
	struct iovec iov = { out, 1024 * 1024 };
	struct hold waits = { .call = { .bulk_in = in, .bulk_in_size = 1000 } }, sends[4] = { 0 };
	static uint8_t bulk[1000] = { 0xff };
	struct peer_stats stats;
	uint32_t sum = crc32c(out, 1024 * 1024);

	/* One that waits for its answer. */
	hold_start(&waits, world->loop, peer);
	WAIT_FOR(world->server.held_count == 1);
	call_cancel(&waits.call);
	hold_wait(&waits);
	assert(waits.result == -ECANCELED);
	free(in);
	service_reply(world->server.held[0], &(struct reply){ .bulk = { { bulk, sizeof(bulk) } }, .bulk_count = 1 });
	world->server.held_count = 0;
	assert(ping(peer) == 0);

	/* Some whose bulk is not all sent, since the server has no room for it. */
	world->server.bulk_bounded = true;
	world->server.bulks_left = 0;
	for (size_t i = 0; i < 4; i++) {
		sends[i].call.bulk_out = &iov;
		sends[i].call.bulk_out_count = 1;
		hold_start(&sends[i], world->loop, peer);
	}
	fiber_sleep_ms(20);
	for (size_t i = 0; i < 4; i++) {
		call_cancel(&sends[i].call);
		hold_wait(&sends[i]);
		assert(sends[i].result == -ECANCELED);
	}
	memset(out, 0, 1024 * 1024);
	free(out);
	world->server.bulks_left = 10;
	service_bulk_available(world->server.service);
	WAIT_FOR(world->server.held_count == 4);
	for (size_t i = 0; i < 4; i++)
		assert(crc32c(world->server.held[i]->bulk->data, 1024 * 1024) == sum);
	server_release(&world->server);
	assert(ping(peer) == 0);
	peer_stats(peer, &stats);
	assert(stats.connects == 1);
	peer_free(peer);
}

START_TEST(a_cancelled_call_leaves_its_memory_at_once)
{
	on_one_loop((struct service_config){ 0 }, body_cancel);
}
END_TEST

UNIT_MAIN("wire_losses", calls_survive_restarts_of_the_server, a_passed_deadline_gives_the_connection_up,
	  a_call_waits_for_the_server_within_its_deadline, a_cancelled_call_leaves_its_memory_at_once)
