/*
 * Others wait for memory that a connection has: who takes nothing of what is in it, or sends nothing of what it is for, is cut
 * off; who is slow is not, nor is who has none. TCP's part is in wire_bounds_test.
 *
 * How long nobody has been idle is measured, not hoped for: a busy machine may let any time pass.
 */
#include "common/rdma/rdma_internal.h"
#include "tests/unit/transport_fixture.h"

#include <errno.h>
#include <unistd.h>

#define BULK    300000 /* of each request and answer; more than all credits carry */
#define SLOW_MS 20
#define IDLE_MS 50
#define DEAF    3 /* so many times as long has who does not take what is for him, as by TCP: 3 s, and 1 s */

static struct hoard {
	uint8_t out[BULK], in[BULK], kept[BULK]; /* the asker's, and where requests' bulk goes */
	struct loop *loop;
	unsigned int asked, answered, refused;
	bool one_by_one;  /* who takes an answer takes no more for now */
	uint64_t done_ns; /* the last answer's bulk was given back */
} hoard;

static int hoard_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct end *end = owner;

	(void)body;
	if (end->frame_answer < 0) {
		hoard.refused++;
		return end->frame_answer;
	}
	if (header->kind == FRAME_REPLY && hoard.one_by_one)
		end->frame_answer = -EAGAIN;
	end->frames++;
	if (header->bulk_len > 0)
		*ret_bulk = header->kind == FRAME_REPLY ? hoard.in : hoard.kept;
	return 0;
}

static const struct transport_events hoard_events = {
	.frame = hoard_frame,
	.message = end_message,
	.closed = end_closed,
};

/* Of the answer there may be a place. */
static void ask(struct world *world, bool placed)
{
	const struct transport_message message = {
		.header = { .kind = FRAME_REQUEST, .xid = ++hoard.asked },
		.bulk_in = placed ? hoard.in : NULL,
		.bulk_in_size = placed ? BULK : 0,
	};

	assert(transport_send(world->near.conn, &message) == 0);
	WAIT_FOR(world->far.messages == hoard.asked);
}

/* The first call goes unanswered: before the connection stands no memory can be shown. */
static void begin(struct world *world)
{
	hoard = (struct hoard){ .loop = world->loop, .answered = 1 };
	world_connect(world);
	ask(world, false);
}

static void answer_done(void *arg)
{
	((struct end *)arg)->done++;
	hoard.done_ns = loop_now_ns(hoard.loop);
}

static void answer(struct world *world)
{
	const struct iovec bulk = { hoard.out, BULK };
	const struct transport_message message = {
		.header = { .kind = FRAME_REPLY, .xid = ++hoard.answered },
		.bulk = &bulk,
		.bulk_count = 1,
		.done = answer_done,
		.arg = &world->far,
	};

	assert(transport_send(world->far.conn, &message) == 0);
}

/* Half of a request, whose bulk comes by the stream. */
static void ask_half(struct world *world)
{
	static const struct preface none;
	static uint8_t bytes[PREFACE_SIZE_MAX + FRAME_HEADER_SIZE + BULK / 2];
	const struct frame_header header = {
		.version = FRAME_VERSION,
		.kind = FRAME_REQUEST,
		.xid = ++hoard.asked,
		.bulk_len = BULK,
	};
	const size_t before = preface_encode(&none, bytes);

	frame_encode(&header, bytes + before);
	assert(transport_send_bytes(world->near.conn, bytes, before + FRAME_HEADER_SIZE + BULK / 2) == 0);
}

/* All that is under way has come, and been looked at. */
static void settle(void)
{
	WAIT_FOR(fabric.later == NULL);
	fiber_sleep_ms(SLOW_MS);
}

static void stands(const struct world *world)
{
	assert(world->near.closed == 0 && world->far.closed == 0);
}

/* It has done something since then, and nothing for long before: times as long as is asked for. */
static void is_let_be(struct world *world, uint64_t since_ns, unsigned int times)
{
	const uint64_t ms = (loop_now_ns(world->loop) - since_ns) / NSEC_PER_MSEC;

	transport_reclaim(world->server, (unsigned int)(ms / times) + 1);
	stands(world);
}

/* It does nothing any more since then, or a little later. */
static void is_cut_off(struct world *world, uint64_t since_ns, unsigned int times)
{
	while (world->far.conn != NULL) {
		assert(loop_now_ns(world->loop) - since_ns < KEEPALIVE_MS * NSEC_PER_MSEC);
		fiber_sleep_ms(1);
		transport_reclaim(world->server, IDLE_MS);
	}
	assert(world->far.closed == -ETIMEDOUT);
	assert(loop_now_ns(world->loop) - since_ns >= times * IDLE_MS * NSEC_PER_MSEC);
}

/* Its machine vanishes while an answer is written to its memory, which is late, and before another one. */
static void vanishes(struct world *world, bool placed)
{
	begin(world);
	ask(world, true);
	ask(world, placed);
	answer(world);
	is_let_be(world, loop_now_ns(world->loop), DEAF);
	fabric.silent = true;
	answer(world);
	usleep(SLOW_MS * 1000); /* this thread does not come round */
	WAIT_FOR(world->far.done > 0);
	is_let_be(world, hoard.done_ns, DEAF);
	assert(world->far.done == 1);
	is_cut_off(world, hoard.done_ns, DEAF);
	assert(world->far.done == 2 && fabric.waits_for_the_silent == 0);
}

/* The other one is to be written, too. */
static void body_vanishes(struct world *world)
{
	vanishes(world, true);
}

START_TEST(who_vanishes_while_he_is_written_to_is_cut_off)
{
	in_world(_i, (struct world){ .accepts = true, .events = &hoard_events }, body_vanishes);
}
END_TEST

/* The other one goes by the stream. */
static void body_vanishes_behind(struct world *world)
{
	vanishes(world, false);
}

START_TEST(what_is_behind_a_late_write_is_late)
{
	in_world(_i, (struct world){ .accepts = true, .events = &hoard_events }, body_vanishes_behind);
}
END_TEST

/* It asks for what goes by the stream, takes a part of that, and then returns no credits. */
static void body_takes_none(struct world *world)
{
	uint64_t since_ns;
	size_t queued;

	begin(world);
	for (unsigned int i = 0; i < 3; i++) {
		ask(world, false);
		answer(world);
	}
	WAIT_FOR(hoard.refused > 0);
	settle();
	queued = transport_queued(world->far.conn);
	since_ns = loop_now_ns(world->loop);
	hoard.one_by_one = true;
	world->near.frame_answer = 0;
	transport_resume(world->near.conn);
	WAIT_FOR(world->near.messages == 1 && transport_queued(world->far.conn) < queued);
	is_let_be(world, since_ns, DEAF);
	is_cut_off(world, since_ns, DEAF);
	assert(world->far.done == 3 && world->near.messages == 1);
}

START_TEST(who_returns_no_credits_is_cut_off)
{
	in_world(_i, (struct world){ .accepts = true, .events = &hoard_events, .near.frame_answer = -EAGAIN },
		 body_takes_none);
}
END_TEST

/* It has returned credits, and the loop has not come round to look. */
static void body_unseen(struct world *world)
{
	const struct rdma_conn *far;
	const struct fake_cq *receives;

	begin(world);
	ask(world, false);
	answer(world);
	WAIT_FOR(hoard.refused > 0);
	settle();
	far = rdma_conn_of(world->far.conn);
	receives = (const struct fake_cq *)far->receive_cq;
	assert(far->blocked);
	((struct fake_cq *)far->receive_cq)->armed = false;
	world->near.frame_answer = 0;
	transport_resume(world->near.conn);
	WAIT_FOR(receives->count > receives->first);
	fiber_sleep_ms(SLOW_MS);
	assert(far->blocked);
	transport_reclaim(world->server, 0);
	stands(world);
	WAIT_FOR(world->near.messages == 1 && world->far.done == 1);
}

START_TEST(what_was_taken_and_not_looked_at_counts)
{
	in_world(_i, (struct world){ .accepts = true, .events = &hoard_events, .near.frame_answer = -EAGAIN },
		 body_unseen);
}
END_TEST

/* A request's bulk comes by the stream, more and more seldom, and stops in the middle. */
static void body_stops(struct world *world)
{
	static const uint8_t more[1000];
	const struct rdma_conn *far;
	uint64_t since_ns;
	size_t left;

	begin(world);
	ask_half(world);
	WAIT_FOR(world->far.frames == 2);
	settle();
	far = rdma_conn_of(world->far.conn);
	left = far->bulk_left;
	since_ns = loop_now_ns(world->loop);
	assert(transport_send_bytes(world->near.conn, more, sizeof(more)) == 0);
	WAIT_FOR(far->bulk_left < left);
	is_let_be(world, since_ns, 1);
	is_cut_off(world, since_ns, 1);
	assert(world->far.messages == 1);
}

START_TEST(who_stops_in_the_middle_of_bulk_is_cut_off)
{
	in_world(_i, (struct world){ .accepts = true, .events = &hoard_events }, body_stops);
}
END_TEST

/* A request's bulk is being read from its memory, which does not answer. */
static void body_is_not_read(struct world *world)
{
	const struct iovec bulk = { hoard.out, BULK };
	const struct transport_message message = {
		.header = { .kind = FRAME_REQUEST, .xid = 2 },
		.bulk = &bulk,
		.bulk_count = 1,
	};
	uint64_t since_ns;

	begin(world);
	fabric.bulk_is_lost = true;
	since_ns = loop_now_ns(world->loop);
	assert(transport_send(world->near.conn, &message) == 0);
	WAIT_FOR(world->far.frames == 2);
	assert(conn_is_pulling(rdma_conn_of(world->far.conn)));
	is_cut_off(world, since_ns, 1);
	assert(world->far.messages == 1);
}

START_TEST(whose_memory_cannot_be_read_is_cut_off)
{
	in_world(_i, (struct world){ .accepts = true, .events = &hoard_events }, body_is_not_read);
}
END_TEST

/* Who asks for nothing; who does not listen to what is told unasked; who waits himself for memory for his request, or has just got it. */
static void body_has_none(struct world *world)
{
	const struct transport_message told = {
		.header.kind = FRAME_PUSH,
		.raw = hoard.out,
		.raw_len = BULK,
	};
	uint64_t since_ns;

	begin(world);
	transport_reclaim(world->server, 0);
	stands(world);
	for (unsigned int i = 0; i < 2; i++)
		assert(transport_send(world->far.conn, &told) == 0);
	WAIT_FOR(hoard.refused > 0 && rdma_conn_of(world->far.conn)->blocked);
	transport_reclaim(world->server, 0);
	stands(world);
	hoard.refused = 0;
	world->far.frame_answer = -EAGAIN;
	ask_half(world);
	WAIT_FOR(hoard.refused > 0);
	transport_reclaim(world->server, 0);
	stands(world);
	fiber_sleep_ms(IDLE_MS);
	world->far.frame_answer = 0;
	since_ns = loop_now_ns(world->loop);
	transport_resume(world->far.conn);
	WAIT_FOR(world->far.frames == 2);
	is_let_be(world, since_ns, 1);
	is_cut_off(world, since_ns, 1);
}

START_TEST(who_has_no_memory_of_others_is_let_be)
{
	in_world(_i, (struct world){ .accepts = true, .events = &hoard_events, .near.frame_answer = -EAGAIN },
		 body_has_none);
}
END_TEST

TRANSPORT_MAIN("transport_reclaim", { who_vanishes_while_he_is_written_to_is_cut_off, IN_MEMORY },
	       { what_is_behind_a_late_write_is_late, IN_MEMORY }, { who_returns_no_credits_is_cut_off, IN_MEMORY },
	       { what_was_taken_and_not_looked_at_counts, IN_MEMORY },
	       { who_stops_in_the_middle_of_bulk_is_cut_off, IN_MEMORY },
	       { whose_memory_cannot_be_read_is_cut_off, IN_MEMORY },
	       { who_has_no_memory_of_others_is_let_be, IN_MEMORY })
