/* Messages both ways, of all sizes, to owners who are busy: each arrives once and whole, or all is given back. */
#include "tests/unit/transport_fixture.h"

#include <errno.h>

#ifdef STRAKE_SAN
#define ROUNDS 40
#else
#define ROUNDS 150
#endif

/* What the n-th message is, from the same numbers at both ends. */
static struct frame_header traffic_header(unsigned int n)
{
	struct end draw = { .random = (n + 1) * UINT64_C(0x9e3779b97f4a7c15) };
	bool large = end_draw(&draw, 4) == 0;
	uint32_t body_len = (uint32_t)end_draw(&draw, large ? TRAFFIC_BODY_MAX : 300);

	return (struct frame_header){
		.kind = FRAME_PUSH,
		.xid = n,
		.body_len = body_len,
		.bulk_len = (uint32_t)(end_draw(&draw, 2) == 0 ? 0 : end_draw(&draw, large ? TRAFFIC_BULK_MAX : 9000)),
	};
}

struct traffic_bulk {
	struct end *end;
	struct iovec iov[3];
	uint8_t bytes[];
};

/* Whoever has it back may do with it what he likes. */
static void traffic_done(void *arg)
{
	struct traffic_bulk *bulk = arg;

	memset(bulk->bytes, 0xee, bulk->iov[0].iov_len + bulk->iov[1].iov_len + bulk->iov[2].iov_len);
	assert(bulk->end->sending > 0);
	bulk->end->sending--;
	if (bulk->end->last_bulk == bulk)
		bulk->end->last_bulk = NULL;
	free(bulk);
}

static void traffic_send(struct end *end)
{
	const unsigned int n = end->sent++;
	struct frame_header header = traffic_header(n);
	uint8_t body[TRAFFIC_BODY_MAX];
	struct transport_message message = { .header = header, .raw = body, .raw_len = header.body_len };
	struct traffic_bulk *bulk;

	for (size_t i = 0; i < header.body_len; i++)
		body[i] = traffic_byte(n, i);
	if (header.bulk_len > 0) {
		size_t part = end_draw(end, header.bulk_len);

		bulk = malloc(sizeof(*bulk) + header.bulk_len);
		assert(bulk != NULL);
		for (size_t i = 0; i < header.bulk_len; i++)
			bulk->bytes[i] = traffic_byte(n + 1, i);
		bulk->end = end;
		bulk->iov[0] = (struct iovec){ bulk->bytes, part };
		bulk->iov[1] = (struct iovec){ bulk->bytes + part, 0 };
		bulk->iov[2] = (struct iovec){ bulk->bytes + part, header.bulk_len - part };
		message.bulk = bulk->iov;
		message.bulk_count = 3;
		message.done = traffic_done;
		message.arg = bulk;
		end->last_bulk = bulk;
		end->sending++;
	}
	assert(transport_send(end->conn, &message) == 0);
}

static int traffic_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct end *end = owner;
	struct frame_header right = traffic_header(end->messages);

	assert(header->xid == end->messages && header->body_len == right.body_len);
	assert(header->bulk_len == right.bulk_len);
	if (end_draw(end, 100) < end->busy) {
		loop_timer_set(loop_current(), &end->resume_timer,
			       loop_now_ns(loop_current()) + end_draw(end, 2) * NSEC_PER_MSEC);
		return -EAGAIN;
	}
	for (size_t i = 0; i < header->body_len; i++)
		assert(body[i] == traffic_byte(end->messages, i));
	memset(end->bulk, 0, TRAFFIC_BULK_MAX);
	*ret_bulk = end->bulk;
	return 0;
}

static int traffic_message(void *owner, const struct frame_header *header)
{
	struct end *end = owner;

	for (size_t i = 0; i < header->bulk_len; i++)
		assert(end->bulk[i] == traffic_byte(end->messages + 1, i));
	end->messages++;
	return 0;
}

static const struct transport_events traffic_events = {
	.frame = traffic_frame,
	.message = traffic_message,
	.closed = end_closed,
};

/* Messages each way at once, of all sizes, to owners who often cannot take them just now. */
static void body_traffic(struct world *world)
{
	struct end *ends[] = { &world->near, &world->far };
	unsigned int bound = 8;

	traffic_begin(world);
	traffic_send(&world->near); /* who has connected begins */
	WAIT_FOR(world->far.conn != NULL);
	while (world->near.messages < ROUNDS || world->far.messages < ROUNDS) {
		for (int i = 0; i < 2; i++) {
			while (ends[i]->sent < ROUNDS && ends[i]->sent < ends[1 - i]->messages + bound)
				traffic_send(ends[i]);
		}
		bound = 1 + (unsigned int)end_draw(&world->near, 40);
		fiber_sleep_ms(1);
		assert(world->near.closed == 0 && world->far.closed == 0);
	}
	WAIT_FOR(world->near.sending == 0 && world->far.sending == 0);
	assert(transport_queued(world->near.conn) == 0 && transport_queued(world->far.conn) == 0);
	traffic_end(world);
}

START_TEST(what_is_sent_arrives_once_and_in_order)
{
	in_world(_i, (struct world){ .accepts = true, .events = &traffic_events, .near.busy = 10, .far.busy = 20 },
		 body_traffic);
}
END_TEST

/* Above so much to send nothing is taken; the other one reads on. */
START_TEST(who_has_too_much_to_send_goes_on)
{
	in_world(_i,
		 (struct world){
			 .accepts = true,
			 .events = &traffic_events,
			 .near.busy = 5,
			 .limits = { .queue_max = 200000, .stall_ms = 600000 },
		 },
		 body_traffic);
}
END_TEST

/* Somewhere in the middle, by an owner, or by the fabric where it can. */
static void body_broken(struct world *world)
{
	struct end *ends[] = { &world->near, &world->far };
	unsigned int until = 1 + (unsigned int)(seed_of(world->fabric) * 7 % 20);

	traffic_begin(world);
	if (world->fabric != TCP && world->fabric != REAL && world->fabric % 3 != 0) {
		fabric.break_in = until * 8;
		until = ROUNDS;
	}
	traffic_send(&world->near);
	WAIT_FOR(world->far.conn != NULL || world->near.closed != 0);
	while (world->near.conn != NULL && world->far.conn != NULL && world->far.messages < until) {
		for (int i = 0; i < 2; i++) {
			while (ends[i]->sent < ends[1 - i]->messages + 20)
				traffic_send(ends[i]);
		}
		fiber_sleep_ms(1);
	}
	if (world->near.conn != NULL && world->far.conn != NULL) {
		transport_close(world->near.conn);
		world->near.conn = NULL;
	}
	WAIT_FOR(world->near.conn == NULL && world->far.conn == NULL);
	assert(world->near.sending == 0 && world->far.sending == 0);
	traffic_end(world);
}

START_TEST(a_connection_that_breaks_gives_everything_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &traffic_events, .near.busy = 10 }, body_broken);
}
END_TEST

/* What was sent with it arrives as it was, whatever becomes of the memory. */
static void body_forget(struct world *world)
{
	traffic_begin(world);
	for (int i = 0; i < 30; i++)
		traffic_send(&world->near);
	assert(world->near.last_bulk != NULL);
	assert(transport_forget(world->near.conn, world->near.last_bulk, NULL) == 0);
	assert(world->near.last_bulk == NULL && world->near.sending > 0);
	WAIT_FOR(world->far.messages == 30);
	WAIT_FOR(world->near.sending == 0);
	traffic_end(world);
}

START_TEST(what_is_forgotten_arrives_all_the_same)
{
	in_world(_i, (struct world){ .accepts = true, .events = &traffic_events, .far.busy = 30 }, body_forget);
}
END_TEST

TRANSPORT_MAIN("transport_traffic", { what_is_sent_arrives_once_and_in_order, EVERYWHERE },
	       { who_has_too_much_to_send_goes_on, EVERYWHERE },
	       { a_connection_that_breaks_gives_everything_back, EVERYWHERE },
	       { what_is_forgotten_arrives_all_the_same, EVERYWHERE })
