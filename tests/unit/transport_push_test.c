/*
 * What the other end has not asked for goes by the stream that answers go by: neither keeps the other away, nor do requests that
 * nobody takes. A fabric in memory ends the program where a send meets no receive.
 */
#include "tests/unit/transport_fixture.h"

#include <errno.h>

#define PUSHES    600
#define PUSH_SIZE 3000 /* so many of them are more than all credits, and than what sockets hold of the other way */
#define CALLS     60
#define REQUEST   20000   /* bytes of body */
#define QUEUED    1000000 /* bytes: so much a flood has to send */

static struct floods {
	uint8_t bulk[QUEUED]; /* of answers, and their place */
	bool takes;           /* the server's end takes requests */
	uint32_t answer_bulk; /* of each answer */
	bool by_memory;       /* the asker tells of a place for it */
	unsigned int asked, came, answered, pushed, heard;
	unsigned int answered_at[PUSHES]; /* so many answers had been sent when it was pushed */
	unsigned int told;                /* answers that the asker has */
} floods;

static void ask(struct world *world)
{
	static const uint8_t body[REQUEST];
	const struct transport_message message = {
		.header = { .kind = FRAME_REQUEST, .xid = ++floods.asked },
		.raw = body,
		.raw_len = sizeof(body),
		.bulk_in = floods.by_memory ? floods.bulk : NULL,
		.bulk_in_size = floods.by_memory ? floods.answer_bulk : 0,
	};

	assert(transport_send(world->near.conn, &message) == 0);
}

static void answer(struct world *world)
{
	const struct iovec bulk = { floods.bulk, floods.answer_bulk };
	struct transport_message message = {
		.header = { .kind = FRAME_REPLY, .xid = ++floods.answered },
		.raw = floods.bulk,
		.raw_len = 100,
	};

	if (floods.answer_bulk > 0) {
		message.bulk = &bulk;
		message.bulk_count = 1;
	}
	assert(transport_send(world->far.conn, &message) == 0);
}

static void push(struct world *world)
{
	const struct transport_message message = {
		.header = { .kind = FRAME_PUSH, .xid = floods.pushed + 1 },
		.raw = floods.bulk,
		.raw_len = PUSH_SIZE,
	};

	floods.answered_at[floods.pushed++ % PUSHES] = floods.answered;
	assert(transport_send(world->far.conn, &message) == 0);
}

static int floods_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	(void)owner, (void)body;
	if (header->kind == FRAME_REQUEST && !floods.takes)
		return -EAGAIN;
	*ret_bulk = header->bulk_len > 0 ? floods.bulk : NULL;
	return 0;
}

/* All of the stream is in its order: nothing overtakes, and nothing is overtaken. */
static int floods_message(void *owner, const struct frame_header *header)
{
	(void)owner;
	if (header->kind == FRAME_REQUEST) {
		assert(header->xid == ++floods.came);
	} else if (header->kind == FRAME_REPLY) {
		assert(header->xid == ++floods.told && header->bulk_len == floods.answer_bulk);
	} else {
		assert(floods.told == floods.answered_at[floods.heard % PUSHES]);
		assert(header->xid == ++floods.heard);
	}
	return 0;
}

static const struct transport_events floods_events = {
	.frame = floods_frame,
	.message = floods_message,
	.closed = end_closed,
};

static void begin(struct world *world)
{
	world_connect(world);
	floods.takes = true;
	ask(world);
	WAIT_FOR(floods.came == 1);
	answer(world);
	WAIT_FOR(floods.told == 1);
}

static void stands(const struct world *world)
{
	assert(world->near.closed == 0 && world->far.closed == 0);
}

/* The asker has spent all that it may send; what is pushed to it comes, and when it is taken so do its requests. */
static void body_no_request_is_taken(struct world *world)
{
	begin(world);
	floods.takes = false;
	while (floods.asked < CALLS)
		ask(world);
	while (floods.pushed < PUSHES)
		push(world);
	while (floods.heard < PUSHES) {
		stands(world);
		fiber_sleep_ms(1);
	}
	assert(floods.came == 1);
	assert(world->fabric == TCP || transport_queued(world->near.conn) > 0);
	floods.takes = true;
	transport_resume(world->far.conn);
	WAIT_FOR(floods.came == CALLS);
	stands(world);
}

START_TEST(pushes_come_where_no_request_is_taken)
{
	floods = (struct floods){ 0 };
	in_world(_i, (struct world){ .accepts = true, .events = &floods_events }, body_no_request_is_taken);
}
END_TEST

/* Pushes without end, also while what they are behind is taken; each call is answered behind those that were there before. */
static void body_flood_of_pushes(struct world *world)
{
	begin(world);
	while (floods.told < CALLS) {
		while (floods.pushed - floods.heard < PUSHES && transport_queued(world->far.conn) < QUEUED)
			push(world);
		if (floods.asked == floods.told)
			ask(world);
		if (floods.answered < floods.came)
			answer(world);
		stands(world);
		fiber_sleep_ms(1);
	}
	assert(floods.heard > PUSHES);
	WAIT_FOR(floods.heard == floods.pushed);
}

START_TEST(answers_come_in_a_flood_of_pushes)
{
	floods = (struct floods){ .answer_bulk = 50000, .by_memory = _i / 2 % 2 == 0 };
	in_world(_i, (struct world){ .accepts = true, .events = &floods_events }, body_flood_of_pushes);
}
END_TEST

/* Answers whose bulk goes by the stream, as many as the queue may hold, and now and then a push. */
static void body_flood_of_answers(struct world *world)
{
	begin(world);
	while (floods.heard < CALLS) {
		while (floods.asked - floods.told < 10)
			ask(world);
		while (floods.answered < floods.came)
			answer(world);
		if (floods.heard == floods.pushed)
			push(world);
		stands(world);
		fiber_sleep_ms(1);
	}
	assert(floods.told >= CALLS);
	while (floods.told < floods.asked) {
		while (floods.answered < floods.came)
			answer(world);
		fiber_sleep_ms(1);
	}
}

START_TEST(pushes_come_in_a_flood_of_answers)
{
	floods = (struct floods){ .answer_bulk = 100000 };
	in_world(_i, (struct world){ .accepts = true, .events = &floods_events }, body_flood_of_answers);
}
END_TEST

TRANSPORT_MAIN("transport_push", { pushes_come_where_no_request_is_taken, EVERYWHERE },
	       { answers_come_in_a_flood_of_pushes, EVERYWHERE }, { pushes_come_in_a_flood_of_answers, EVERYWHERE })
