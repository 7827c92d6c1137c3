/*
 * A connection's life: it is refused, ends by its owner's calls from within events at awkward moments, by deadlines and in
 * silence; and the plug-in that brings RDMA can be loaded.
 */
#include "tests/unit/transport_fixture.h"

#include <errno.h>

static void end_done(void *arg)
{
	struct end *end = arg;

	end->done++;
	if (end->close_in_done && end->conn != NULL) {
		struct transport_conn *conn = end->conn;

		end->conn = NULL;
		transport_close(conn);
	}
}

/* A message of so many bytes of body and of bulk. */
static void end_send(struct end *end, size_t body_len, size_t bulk_len)
{
	static const uint8_t bytes[512 * 1024];
	const struct iovec bulk = { (void *)(uintptr_t)bytes, bulk_len };
	struct transport_message message = {
		.header.kind = FRAME_PUSH,
		.raw = bytes,
		.raw_len = body_len,
	};

	if (bulk_len > 0) {
		message.bulk = &bulk;
		message.bulk_count = 1;
		message.done = end_done;
		message.arg = end;
	}
	assert(transport_send(end->conn, &message) == 0);
}

static void near_send(struct world *world, size_t body_len, size_t bulk_len)
{
	end_send(&world->near, body_len, bulk_len);
}

static void body_refused(struct world *world)
{
	world_connect(world);
	WAIT_FOR(world->near.conn == NULL);
	assert(world->far.conn == NULL);
	assert(world->fabric == TCP || world->near.closed == -ECONNREFUSED);
}

START_TEST(who_is_not_accepted_is_refused)
{
	in_world(_i, (struct world){ .accepts = false }, body_refused);
}
END_TEST

/* Both leave in one call; the first one's end takes the other along. */
static void body_close_in_done(struct world *world)
{
	world_connect(world);
	near_send(world, 10, 1000);
	near_send(world, 10, 1000);
	WAIT_FOR(world->near.conn == NULL);
	WAIT_FOR(world->far.conn == NULL && world->far.frames > 0);
	assert(world->near.done == 2 && world->far.messages == 2);
}

START_TEST(a_message_done_may_close_the_connection)
{
	in_world(_i, (struct world){ .accepts = true, .near.close_in_done = true }, body_close_in_done);
}
END_TEST

static void body_finish_in_frame(struct world *world)
{
	world_connect(world);
	near_send(world, 10, 300000);
	near_send(world, 10, 300000);
	WAIT_FOR(world->near.conn == NULL);
	assert(world->near.done == 2 && world->far.frames == 1 && world->far.messages == 0);
}

START_TEST(a_frame_may_finish_the_connection)
{
	in_world(_i, (struct world){ .accepts = true, .far.finish_in_frame = true }, body_finish_in_frame);
}
END_TEST

static int answer(void *owner, const struct frame_header *header)
{
	(void)header;
	end_send(owner, 10, 1000);
	return 0;
}

static const struct transport_events answering = { .frame = end_frame, .message = answer, .closed = end_closed };

/* It leaves when its answer has gone out, perhaps before it has heard that the connection stands (RoCE). */
static void body_answered_and_closed(struct world *world)
{
	fabric.third_us = 20000;
	world_connect(world);
	near_send(world, 10, 0);
	WAIT_FOR(world->near.conn == NULL);
	assert(world->near.frames == 1 && world->near.closed == -ECONNRESET);
}

START_TEST(what_was_said_before_the_end_is_heard)
{
	in_world(_i, (struct world){ .accepts = true, .events = &answering, .far.close_in_done = true },
		 body_answered_and_closed);
}
END_TEST

/* What waits for its owner is long, and more comes. */
static void body_finish_paused(struct world *world)
{
	world_connect(world);
	near_send(world, 200000, 300000);
	WAIT_FOR(world->far.frames == 1);
	transport_finish(world->far.conn);
	world->far.conn = NULL;
	WAIT_FOR(world->near.conn == NULL);
	assert(world->near.done == 1 && world->far.frames == 1);
}

START_TEST(a_paused_connection_may_be_finished)
{
	in_world(_i, (struct world){ .accepts = true, .far.frame_answer = -EAGAIN }, body_finish_paused);
}
END_TEST

/* Its credits are used up, it asks for nothing, and says nothing. */
static void body_not_read(struct world *world)
{
	unsigned int sent = 0;

	world_connect(world);
	while (world->near.closed == 0) { /* a kernel takes some MiB */
		for (; transport_queued(world->near.conn) < 1000000; sent++)
			near_send(world, 100, 300000);
		fiber_sleep_ms(1);
	}
	assert(world->near.closed == -ETIMEDOUT && world->near.done == sent && world->far.frames == 1);
}

START_TEST(who_reads_nothing_is_given_up)
{
	in_world(_i, (struct world){ .accepts = true, .far.frame_answer = -EAGAIN, .limits = { .stall_ms = 300 } },
		 body_not_read);
}
END_TEST

static void body_nobody_answers(struct world *world)
{
	fabric_silence(true);
	world_connect(world);
	WAIT_FOR(world->near.closed != 0);
	assert(world->near.closed == -ETIMEDOUT && world->far.conn == NULL);
}

START_TEST(a_connection_must_stand_in_time)
{
	in_world(_i, (struct world){ .accepts = true, .limits = { .opening_ms = 100 } }, body_nobody_answers);
}
END_TEST

/* Who gives up one that was heard and not answered is not held up by it (iWARP's kernel would have him wait). */
static void body_never_answered(struct world *world)
{
	world_connect(world);
	WAIT_FOR(world->near.closed != 0);
	assert(world->near.closed == -ETIMEDOUT);
	if (fabric.iwarp) {
		WAIT_FOR(atomic_load(&fabric.leaving) == 1);
		WAIT_FOR(atomic_load(&fabric.leaving) == 0);
	}
}

START_TEST(who_is_not_answered_holds_up_nobody)
{
	in_world(_i, (struct world){ .accepts = true, .silence_in_incoming = true, .limits = { .opening_ms = 100 } },
		 body_never_answered);
}
END_TEST

/* The link is gone in the middle of a frame, which there are too few credits to have sent all of, and nobody says so. */
static void body_silence(struct world *world)
{
	world_connect(world);
	near_send(world, 100, 500000);
	WAIT_FOR(world->far.closed != 0);
	assert(world->far.closed == -ETIMEDOUT && world->far.messages == 0);
	WAIT_FOR(world->near.closed != 0);
	assert(world->near.closed == -ETIMEDOUT && world->near.done == 1);
}

START_TEST(silence_in_the_middle_of_a_frame_ends_it)
{
	in_world(_i,
		 (struct world){ .accepts = true,
				 .far.silence_in_frame = true,
				 .limits = { .frame_ms = 200, .stall_ms = 400 } },
		 body_silence);
}
END_TEST

static uint64_t calls_of(const struct transport *transport)
{
	struct transport_stats stats;

	transport_stats(transport, &stats);
	return stats.sends;
}

/* Neither end says anything: each asks whether the other is there, again and again, and is answered; until the link is gone. */
static void body_keepalive(struct world *world)
{
	uint64_t near, far;

	world_connect(world);
	near_send(world, 10, 0);
	WAIT_FOR(world->far.messages == 1);
	near = calls_of(world->client);
	far = calls_of(world->server);
	WAIT_FOR(calls_of(world->client) > near + 3 && calls_of(world->server) > far + 3);
	assert(world->near.conn != NULL && world->far.conn != NULL && world->far.frames == 1);
	fabric_silence(true);
	WAIT_FOR(world->near.closed != 0 && world->far.closed != 0);
	assert(world->near.closed == -ETIMEDOUT && world->far.closed == -ETIMEDOUT);
	assert(fabric.waits_for_the_silent == 0);
}

START_TEST(who_vanishes_while_nobody_says_anything_is_given_up)
{
	in_world(_i, (struct world){ .accepts = true, .limits = { .keepalive_ms = _i == REAL ? 500 : 50 } },
		 body_keepalive);
}
END_TEST

/* It is asked whether it is there, and closed before it has answered: on iWARP its word is not waited for. */
static void body_asked_and_closed(struct world *world)
{
	uint64_t before;

	world_connect(world);
	near_send(world, 10, 0);
	WAIT_FOR(world->far.messages == 1);
	fabric.silent = true;
	before = calls_of(world->client);
	WAIT_FOR(calls_of(world->client) > before);
	if (world->near.conn != NULL) /* on a busy machine its time may be over already */
		transport_close(world->near.conn);
	assert(fabric.waits_for_the_silent == 0);
}

START_TEST(who_does_not_answer_when_asked_is_not_waited_for)
{
	in_world(_i, (struct world){ .accepts = true, .limits = { .keepalive_ms = 300 } }, body_asked_and_closed);
}
END_TEST

/* Messages for so many keepalives, a fifth of one apart. Returns the longest pause between two. */
static uint64_t talk(struct world *world, unsigned int keepalives)
{
	uint64_t last = clock_ns(), longest = 0;

	for (unsigned int i = 0; i < 5 * keepalives; i++) {
		near_send(world, 10, 0);
		end_send(&world->far, 10, 0);
		fiber_sleep_ms(world->limits.keepalive_ms / 5);
		longest = clock_ns() - last > longest ? clock_ns() - last : longest;
		last = clock_ns();
	}
	return longest;
}

/* Nobody is asked of whom messages come. */
static void body_heard(struct world *world)
{
	const uint64_t keepalive_ns = world->limits.keepalive_ms * NSEC_PER_MSEC;
	unsigned int before;

	world_connect(world);
	near_send(world, 10, 0);
	WAIT_FOR(world->far.messages == 1);
	do /* until this thread always came round in time */
		before = fabric.probes;
	while (talk(world, 4) > keepalive_ns / 2);
	assert(fabric.probes == before);
	WAIT_FOR(fabric.probes > before);
}

START_TEST(who_is_heard_is_not_asked)
{
	in_world(_i, (struct world){ .accepts = true, .limits = { .keepalive_ms = 50 } }, body_heard);
}
END_TEST

/* A device may refuse a receive because the other end has gone: what that had sent before has come all the same. */
static void body_refused_receive(struct world *world)
{
	world_connect(world);
	near_send(world, 10, 0);
	WAIT_FOR(world->far.messages == 1);
	fabric.delay_us = fabric.notice_us = 0; /* all of it comes at once */
	fabric.refuses_receives = true;
	for (int i = 0; i < 3; i++)
		near_send(world, 5000, 0);
	WAIT_FOR(world->far.conn == NULL);
	assert(world->far.messages == 4 && world->far.closed == -EIO);
}

START_TEST(what_came_before_a_receive_is_refused_counts)
{
	in_world(_i, (struct world){ .accepts = true }, body_refused_receive);
}
END_TEST

/* EFA's devices are in libibverbs' list, and connect nobody reliably. */
static void body_unreliable(struct world *world)
{
	struct transport *transport;

	fabric.device.transport_type = IBV_TRANSPORT_UNSPECIFIED;
	assert(transport_make(world, &transport) == -ENODEV);
}

START_TEST(a_device_that_connects_nobody_reliably_is_none)
{
	in_world(_i, (struct world){ .accepts = true }, body_unreliable);
}
END_TEST

/* The queues of both transports, as those of several loops, have interrupts of their own. */
static void body_vectors(struct world *world)
{
	world_connect(world);
	WAIT_FOR(world->far.conn != NULL);
	assert(__builtin_popcount(fabric.vectors) == 2);
}

START_TEST(transports_share_out_the_device_s_interrupts)
{
	in_world(_i, (struct world){ .accepts = true }, body_vectors);
}
END_TEST

/* A wildcard's are heard, of either family, also where devices hear only one. */
static void body_wildcard(struct world *world)
{
	assert(transport_listen(world->server, "[::]:0", &world_listener, world, &world->port) == 0);
	world_connect(world);
	near_send(world, 10, 1000);
	WAIT_FOR(world->far.messages == 1 || world->near.conn == NULL);
	assert(world->near.conn != NULL);
}

START_TEST(who_listens_at_a_wildcard_hears_both_families)
{
	in_world(_i, (struct world){ .accepts = true }, body_wildcard);
}
END_TEST

/* Somebody comes through, however often he has to try. */
static void connect_at_last(struct world *world)
{
	while (world->far.conn == NULL) {
		world->near.closed = 0;
		world_connect(world);
		WAIT_FOR(world->near.closed != 0 || world->far.conn != NULL);
	}
}

/* What connects when it is there again has it, also who listens at an address of its own. */
static void body_device_goes(struct world *world)
{
	world_connect(world);
	near_send(world, 10, 50000);
	WAIT_FOR(world->far.messages == 1);
	fabric_device_goes(true);
	WAIT_FOR(world->near.conn == NULL && world->far.conn == NULL);
	assert(world->near.closed == -ENODEV && world->far.closed == -ENODEV);
	fabric_device_comes();
	connect_at_last(world);
	near_send(world, 10, 50000);
	WAIT_FOR(world->far.messages == 2);
}

START_TEST(a_device_that_goes_and_comes_back_is_used_again)
{
	in_world(_i, (struct world){ .accepts = true }, body_device_goes);
}
END_TEST

/*
 * It goes, and comes as another, while one that was not answered waits for its leave (iWARP). That has the first until it has
 * ended, and is in nobody's way.
 */
static void body_goes_beside_leaving(struct world *world)
{
	if (!fabric.iwarp)
		return;
	world_connect(world);
	WAIT_FOR(atomic_load(&fabric.leaving) == 1);
	fabric_device_goes(true);
	WAIT_FOR(world->far.conn == NULL);
	world->silence_in_incoming = false;
	fabric_device_comes();
	connect_at_last(world);
	near_send(world, 10, 50000);
	WAIT_FOR(world->far.messages == 1 && atomic_load(&fabric.leaving) == 0);
}

START_TEST(a_device_may_go_while_somebody_leaves)
{
	in_world(_i, (struct world){ .accepts = true, .silence_in_incoming = true, .limits = { .opening_ms = 100 } },
		 body_goes_beside_leaving);
}
END_TEST

/* Nor does who has heard nothing look again and again for what it has to tell. */
static void body_device_is_dead(struct world *world)
{
	unsigned int looks;

	world_connect(world);
	near_send(world, 10, 50000);
	WAIT_FOR(world->far.messages == 1 && world->near.done == 1);
	fabric_device_goes(false);
	WAIT_FOR(world->near.conn == NULL && world->far.conn == NULL);
	assert(world->near.closed == -ENODEV && world->far.closed == -ENODEV);
	looks = fabric.looks_in_vain;
	fiber_sleep_ms(20);
	assert(fabric.looks_in_vain == looks);
}

START_TEST(a_device_that_is_gone_wakes_nobody)
{
	in_world(_i, (struct world){ .accepts = true }, body_device_is_dead);
}
END_TEST

/* Where there is no device it can still be loaded: nothing that it uses of a program is missing in this one. */
START_TEST(the_plugin_can_be_loaded)
{
	const struct transport_limits limits = { 0 };
	struct transport *transport = NULL;
	struct loop *loop;
	int err;

	ck_assert_int_eq(loop_new(&loop), 0);
	err = transport_rdma_new(loop, &limits, &transport);
	ck_assert_msg(err != -ENOENT && err != -ELIBBAD, "%s", transport_rdma_reason());
	transport_free(transport);
	loop_free(loop);
}
END_TEST

TRANSPORT_MAIN("transport_life", { who_is_not_accepted_is_refused, EVERYWHERE },
	       { a_message_done_may_close_the_connection, EVERYWHERE },
	       { what_was_said_before_the_end_is_heard, EVERYWHERE }, { a_frame_may_finish_the_connection, EVERYWHERE },
	       { a_paused_connection_may_be_finished, EVERYWHERE }, { who_reads_nothing_is_given_up, EVERYWHERE },
	       { silence_in_the_middle_of_a_frame_ends_it, SILENT }, { a_connection_must_stand_in_time, SILENT },
	       { who_vanishes_while_nobody_says_anything_is_given_up, SILENT },
	       { who_does_not_answer_when_asked_is_not_waited_for, IN_MEMORY },
	       { who_is_heard_is_not_asked, IN_MEMORY }, { what_came_before_a_receive_is_refused_counts, IN_MEMORY },
	       { who_is_not_answered_holds_up_nobody, IN_MEMORY },
	       { a_device_that_connects_nobody_reliably_is_none, IN_MEMORY },
	       { transports_share_out_the_device_s_interrupts, IN_MEMORY },
	       { who_listens_at_a_wildcard_hears_both_families, IN_MEMORY },
	       { a_device_that_goes_and_comes_back_is_used_again, IN_MEMORY },
	       { a_device_may_go_while_somebody_leaves, IN_MEMORY }, { a_device_that_is_gone_wakes_nobody, IN_MEMORY },
	       { the_plugin_can_be_loaded, ONCE })
