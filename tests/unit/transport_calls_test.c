/* Requests and answers whose bulk moves by itself where the fabric can: whose memory it is when. */
#include "common/lasting.h"
#include "tests/unit/transport_fixture.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define CALLS         60
#define CALL_BULK_MAX 200000
#define LATE_FRAME_MS 400
#define CALL_OVER     0xdd /* what an answer's place is filled with once it is its owner's again */

/* A request, and the place of its answer's bulk. The end that answers has none but what the request's body says. */
struct test_call {
	uint64_t xid;
	uint32_t out_size, in_size; /* of the request's and the answer's bulk */
	uint8_t *out, *in;
	bool sending, answered;

	/* at the end that answers */
	uint8_t *come; /* the request's bulk */
	uint32_t wants;
};

static struct calls {
	struct test_call all[CALLS];
	unsigned int asked, answered;
	uint64_t waiting[CALLS]; /* xids that the other end has not answered yet */
	uint32_t wanted[CALLS];  /* of the answer to each */
	unsigned int waiting_count;
	unsigned int told, come;    /* requests, by their frames and by their messages */
	unsigned int replies_out;   /* whose `done` has not been called */
	unsigned int most, not_now; /* requests that it takes (0: no bound), and how often it said so */
	uint8_t *kept;              /* answers leave from here; NULL: from memory of their own */
	uint8_t *near;              /* likewise what is asked, and what is answered comes here: one at a time */
} calls;

/* It is over for its owner: no key reaches its memory any more, while the connection lives. */
static void is_fenced(const struct test_call *call)
{
	assert(!fake_reachable(call->out, call->out_size) && !fake_reachable(call->in, call->in_size));
}

static void call_done(void *arg)
{
	struct test_call *call = arg;

	assert(call->sending && !fake_reachable(call->out, call->out_size));
	call->sending = false;
	memset(call->out, CALL_OVER, call->out_size);
}

static uint32_t draw_size(struct end *end)
{
	static const uint32_t most[] = { 1, 3000, 40000, CALL_BULK_MAX };

	return (uint32_t)end_draw(end, most[end_draw(end, 4)] + 1);
}

static void call_ask(struct world *world, uint32_t out_size, uint32_t in_size)
{
	struct test_call *call = &calls.all[calls.asked];
	size_t part = out_size / 3;
	struct iovec bulk[2];
	struct transport_message message = {
		.header = { .kind = FRAME_REQUEST, .xid = ++calls.asked },
		.raw = (const uint8_t *)&in_size,
		.raw_len = sizeof(in_size),
		.bulk_in_size = in_size,
	};

	*call = (struct test_call){ .xid = calls.asked, .out_size = out_size, .in_size = in_size };
	call->out = calls.near != NULL ? calls.near : malloc(out_size + 1);
	call->in = calls.near != NULL ? calls.near + CALL_BULK_MAX : malloc(in_size + 1);
	for (size_t i = 0; i < out_size; i++)
		call->out[i] = traffic_byte((unsigned int)call->xid, i);
	memset(call->in, 0, in_size);
	message.bulk_in = call->in;
	if (out_size > 0) {
		bulk[0] = (struct iovec){ call->out, part };
		bulk[1] = (struct iovec){ call->out + part, out_size - part };
		message.bulk = bulk;
		message.bulk_count = 2;
		message.done = call_done;
		message.arg = call;
		call->sending = true;
	}
	assert(transport_send(world->near.conn, &message) == 0);
}

static void reply_done(void *arg)
{
	assert(calls.replies_out > 0);
	calls.replies_out--;
	if (arg != calls.kept)
		free(arg);
}

/* One of those that wait. */
static void call_answer(struct end *end)
{
	unsigned int i = (unsigned int)end_draw(end, calls.waiting_count);
	uint64_t xid = calls.waiting[i];
	uint32_t size = calls.wanted[i];
	uint8_t *bytes = calls.kept != NULL ? calls.kept : malloc(size + 1);
	struct iovec bulk[3] = { { bytes, size / 5 }, { bytes, 0 }, { bytes + size / 5, size - size / 5 } };
	struct transport_message message = { .header = { .kind = FRAME_REPLY, .xid = xid } };

	calls.waiting[i] = calls.waiting[--calls.waiting_count];
	calls.wanted[i] = calls.wanted[calls.waiting_count];
	for (size_t at = 0; at < size; at++)
		bytes[at] = traffic_byte((unsigned int)xid + 7, at);
	if (size > 0) {
		message.bulk = bulk;
		message.bulk_count = 3;
		message.done = reply_done;
		message.arg = bytes;
		calls.replies_out++;
	} else {
		free(bytes);
	}
	assert(transport_send(end->conn, &message) == 0);
}

static int calls_frame(void *owner, const struct frame_header *header, const uint8_t *body, void **ret_bulk)
{
	struct end *end = owner;
	struct test_call *call = &calls.all[header->xid - 1];

	if (header->kind == FRAME_REQUEST) {
		if (end_draw(end, 100) < end->busy) {
			loop_timer_set(loop_current(), &end->resume_timer, loop_now_ns(loop_current()));
			return -EAGAIN;
		}
		if (calls.most != 0 && calls.told == calls.most) {
			calls.not_now++;
			return -EAGAIN;
		}
		assert(header->xid == ++calls.told);
		assert(header->bulk_len == call->out_size && header->body_len == sizeof(uint32_t));
		memcpy(&call->wants, body, sizeof(call->wants));
		call->come = calls.kept != NULL ? end->bulk : malloc(call->out_size + 1);
		*ret_bulk = call->come;
		return 0;
	}
	assert(!call->sending && !call->answered && header->bulk_len == call->in_size);
	is_fenced(call);
	*ret_bulk = call->in;
	return 0;
}

static int calls_message(void *owner, const struct frame_header *header)
{
	struct end *end = owner;
	struct test_call *call = &calls.all[header->xid - 1];

	if (header->kind == FRAME_REQUEST) {
		assert(header->xid == ++calls.come && !fake_reachable(call->come, call->out_size));
		for (size_t i = 0; i < call->out_size; i++)
			assert(call->come[i] == traffic_byte((unsigned int)header->xid, i));
		calls.wanted[calls.waiting_count] = call->wants;
		calls.waiting[calls.waiting_count++] = header->xid;
		end->messages++;
		return 0;
	}
	for (size_t i = 0; i < call->in_size; i++)
		assert(call->in[i] == traffic_byte((unsigned int)header->xid + 7, i));
	memset(call->in, CALL_OVER, call->in_size);
	call->answered = true;
	calls.answered++;
	return 0;
}

static const struct transport_events calls_events = {
	.frame = calls_frame,
	.message = calls_message,
	.closed = end_closed,
};

/* Nothing has been written to what was its owner's again. */
static void calls_check(bool all_given_back)
{
	for (unsigned int n = 0; n < calls.asked; n++) {
		struct test_call *call = &calls.all[n];

		assert(!call->sending);
		for (size_t i = 0; i < call->in_size && (call->answered || all_given_back); i++)
			assert(call->in[i] == CALL_OVER);
		if (calls.kept == NULL)
			free(call->come);
		if (calls.near == NULL) {
			free(call->in);
			free(call->out);
		}
	}
	assert(calls.replies_out == 0);
}

static void body_calls(struct world *world)
{
	calls = (struct calls){ 0 };
	traffic_begin(world);
	call_ask(world, 10, 10);
	WAIT_FOR(world->far.conn != NULL);
	fabric.unpinned = world->unpinned;
	while (calls.answered < CALLS) {
		while (calls.asked < CALLS && calls.asked - calls.answered < 12)
			call_ask(world, draw_size(&world->near), draw_size(&world->near));
		for (unsigned int i = 0; i < 3 && calls.waiting_count > 0; i++)
			call_answer(&world->far);
		fiber_sleep_ms(1);
		assert(world->near.closed == 0 && world->far.closed == 0);
	}
	WAIT_FOR(calls.replies_out == 0);
	if (world->fabric != TCP && world->fabric != REAL)
		assert(fabric.refused == 0 && (world->unpinned > 0 || (fabric.reads > 0 && fabric.writes > 0)));
	assert(!fabric.windows || (fabric.voided > 0 && fabric.voided_from_afar > 0 &&
				   fabric.binds == fabric.voided + fabric.voided_from_afar));
	calls_check(true);
	traffic_end(world);
}

START_TEST(calls_get_their_bulk_and_give_it_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events, .far.busy = 20 }, body_calls);
}
END_TEST

/* At either end some of what calls want to register cannot be. */
START_TEST(calls_get_their_bulk_where_memory_is_short)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events, .far.busy = 20, .unpinned = 40 },
		 body_calls);
}
END_TEST

/*
 * Memory that lasts is registered once for all calls, and with no right for the other end; but where iWARP reads into, which needs
 * one. What is shown to the other end is registered for each call: two pieces and a place; where there are windows only
 * if it does not last, and for nobody else.
 */
static void body_lasting(struct world *world)
{
	const bool real = world->fabric == TCP || world->fabric == REAL;
	const bool near_lasts = seed_of(world->fabric) / 4 % 2 == 0; /* also what is shown */
	const unsigned int each = fabric.iwarp ? 4 : fabric.windows && near_lasts ? 0 : 3;
	uint8_t *kept = malloc(2 * CALL_BULK_MAX), *near = malloc(2 * CALL_BULK_MAX);
	uint32_t before = 0;

	calls = (struct calls){ .kept = kept + 1000, .near = near };
	traffic_begin(world);
	lasting_add(kept, 2 * CALL_BULK_MAX);
	lasting_add(world->far.bulk, TRAFFIC_BULK_MAX);
	if (near_lasts)
		lasting_add(near, 2 * CALL_BULK_MAX);
	for (unsigned int i = 0; i < 10; i++) {
		call_ask(world, 100000, 100000);
		WAIT_FOR(calls.waiting_count > 0);
		call_answer(&world->far);
		WAIT_FOR(calls.answered == calls.asked && calls.replies_out == 0);
		if (i == 1) /* the first was asked before the connection stood */
			before = fabric.keys;
	}
	assert(real || fabric.keys - before == 8 * each);
	for (unsigned int i = 0; i < REGIONS && !real; i++) {
		const struct ibv_mr *region = fabric.regions[i];

		assert(region == NULL || region->addr != kept ||
		       (region->length == 2 * CALL_BULK_MAX &&
			(fabric.access[i] & ~IBV_ACCESS_MW_BIND) == IBV_ACCESS_LOCAL_WRITE));
	}
	calls_check(true);
	transport_close(world->near.conn);
	world->near.conn = NULL;
	WAIT_FOR(world->far.conn == NULL);
	lasting_remove(kept);
	lasting_remove(near);
	free(kept);
	free(near);
	lasting_remove(world->far.bulk);
	traffic_end(world);
}

START_TEST(lasting_memory_is_registered_once)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_lasting);
}
END_TEST

/* As if this process were a user's. */
static void may_lock(size_t size)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	struct rlimit limit;

	assert(getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	limit.rlim_cur = size;
	assert(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
	assert(syscall(SYS_capget, &header, data) == 0);
	data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &= ~CAP_TO_MASK(CAP_IPC_LOCK);
	assert(syscall(SYS_capset, &header, data) == 0);
}

/* Who may lock only so much memory has half of it left for what is not registered once. */
static void body_locked_memory(struct world *world)
{
	const size_t size = 2 * (size_t)CALL_BULK_MAX;
	uint8_t *kept = malloc(size), *near = malloc(size);
	size_t lasting = 0;

	may_lock(3 * size);
	calls = (struct calls){ .kept = kept, .near = near };
	traffic_begin(world);
	lasting_add(kept, size);
	lasting_add(near, size);
	lasting_add(world->far.bulk, TRAFFIC_BULK_MAX);
	for (unsigned int i = 0; i < 5; i++) {
		call_ask(world, 100000, 100000);
		WAIT_FOR(calls.waiting_count > 0);
		call_answer(&world->far);
		WAIT_FOR(calls.answered == calls.asked && calls.replies_out == 0);
	}
	for (unsigned int i = 0; i < REGIONS; i++) {
		const struct ibv_mr *region = fabric.regions[i];

		if (region != NULL && (region->addr == kept || region->addr == near || region->addr == world->far.bulk))
			lasting += region->length;
	}
	assert(lasting >= TRAFFIC_BULK_MAX && lasting <= 3 * size / 2);
	calls_check(true);
	transport_close(world->near.conn);
	world->near.conn = NULL;
	WAIT_FOR(world->far.conn == NULL);
	lasting_remove(kept);
	lasting_remove(near);
	lasting_remove(world->far.bulk);
	free(kept);
	free(near);
	traffic_end(world);
}

START_TEST(lasting_memory_leaves_half_of_what_may_be_locked)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_locked_memory);
}
END_TEST

/* Both ends know by a first call what the other can. */
static void begin_after_one(struct world *world)
{
	calls = (struct calls){ 0 };
	traffic_begin(world);
	call_ask(world, 10, 10);
	WAIT_FOR(calls.waiting_count == 1);
	call_answer(&world->far);
	WAIT_FOR(calls.answered == 1);
}

static void answer_the_rest(struct world *world)
{
	while (calls.waiting_count > 0)
		call_answer(&world->far);
	WAIT_FOR(calls.answered == calls.asked && calls.replies_out == 0);
	calls_check(true);
	traffic_end(world);
}

/* Bulk moves from memory to memory all the same, and every key is void in time. */
static void ask_five(struct world *world)
{
	for (unsigned int i = 0; i < 5; i++) {
		call_ask(world, 100000, 100000);
		WAIT_FOR(calls.waiting_count > 0 || world->near.conn == NULL);
		assert(world->near.conn != NULL);
		call_answer(&world->far);
		WAIT_FOR((calls.answered == calls.asked && calls.replies_out == 0) || world->near.conn == NULL);
		assert(world->near.conn != NULL);
	}
	assert(fabric.reads + fabric.writes == 5 * 3 && fabric.refused == 0);
	assert(fabric.voided_from_afar == 0 && fabric.voided == fabric.binds);
	calls_check(true);
	traffic_end(world);
}

/* The device has windows, and its library no SEND that voids one of another end. */
static void body_no_voiding(struct world *world)
{
	fabric.no_voiding = true;
	begin_after_one(world);
	ask_five(world);
	assert((fabric.binds > 0) == fabric.windows);
}

START_TEST(a_library_without_a_voiding_send_will_do)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_no_voiding);
}
END_TEST

/* The device has windows, and its library none. */
static void body_no_windows(struct world *world)
{
	fabric.no_windows = true;
	begin_after_one(world);
	ask_five(world);
	assert(fabric.binds == 0);
}

START_TEST(a_library_without_windows_will_do)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_no_windows);
}
END_TEST

/* The asker's memory is not what the request says: whose connection that ends is told why. A source, or a place. */
static void body_memory_is_not_there(struct world *world)
{
	const bool source = seed_of(world->fabric) / 2 % 2 == 0;
	uint32_t key = 0;

	begin_after_one(world);

	call_ask(world, source ? 100000 : 10, source ? 10 : 100000);
	for (unsigned int i = 0; i < REGIONS; i++) {
		struct ibv_mr *region = fabric.regions[i];

		if (region != NULL && (region->addr == calls.all[1].out || region->addr == calls.all[1].in)) {
			region->rkey += REGIONS;
			key = region->rkey;
		}
	}
	fabric.binds_wrongly = true;
	assert(key != 0);
	if (!source) {
		WAIT_FOR(calls.waiting_count == 1);
		call_answer(&world->far);
	}
	WAIT_FOR(world->far.conn == NULL && world->near.conn == NULL);
	assert(world->far.closed == -EIO && world->near.closed == -ECONNRESET && fabric.refused == 1);
	memset(calls.all[1].in, CALL_OVER, calls.all[1].in_size);
	calls_check(true);
	traffic_end(world);
}

START_TEST(memory_that_is_not_there_ends_it_and_is_told)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_memory_is_not_there);
}
END_TEST

/*
 * One after the other: each is one send and one receive at each end, which bring the credits back, too; and with what an end
 * hears of it is not looked for more that there is not.
 */
static void body_small_calls(struct world *world)
{
	unsigned int before = 0, delivered;

	calls = (struct calls){ 0 };
	traffic_begin(world);
	for (unsigned int i = 0; i < CALLS; i++) {
		delivered = fabric.delivered;
		call_ask(world, 10, 10);
		WAIT_FOR(calls.waiting_count == 1);
		call_answer(&world->far);
		WAIT_FOR(calls.answered == calls.asked);
		assert(fabric.delivered == delivered + 2);
		if (i == 9)
			before = fabric.looks_in_vain;
	}
	assert(fabric.delivered == 2 * CALLS); /* nor between them */
	assert(fabric.looks_in_vain - before <= 2 * (CALLS - 10) / 4);
	calls_check(true);
	traffic_end(world);
}

START_TEST(small_calls_cost_one_send_each_way_and_no_needless_looks)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_small_calls);
}
END_TEST

/* More at a time than there are windows for, or places for what is written: the others come by the stream. */
static void body_plenty(struct world *world)
{
	begin_after_one(world);
	while (calls.asked < CALLS)
		call_ask(world, 100000, 50000);
	WAIT_FOR(calls.waiting_count == CALLS - 1);
	while (calls.waiting_count > 0)
		call_answer(&world->far);
	WAIT_FOR(calls.answered == CALLS && calls.replies_out == 0);
	assert(!fabric.windows || (fabric.binds > 0 && fabric.binds < CALLS * 3));
	calls_check(true);
	traffic_end(world);
}

START_TEST(calls_in_plenty_get_their_bulk)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_plenty);
}
END_TEST

/* Bulk that is asked along is read for several requests at a time, of one connection; and they are told of in their order. */
static void body_several_reads(struct world *world)
{
	begin_after_one(world);
	while (calls.asked < 20)
		call_ask(world, calls.asked % 5 == 4 ? 10 : 50000, 10);
	WAIT_FOR(calls.waiting_count == 19);
	assert(fabric.reads_at_once > 4 * 2); /* each has two pieces */
	answer_the_rest(world);
}

START_TEST(several_requests_have_their_bulk_read_at_a_time)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_several_reads);
}
END_TEST

/*
 * The end that answers can register nothing any more, as beyond RLIMIT_MEMLOCK: what it was asked along is read all the same, by 8 KiB
 * and one at a time, and its answers bring their bulk by the stream.
 */
static void body_none_pinned(struct world *world)
{
	unsigned int reads, writes;

	begin_after_one(world);
	reads = fabric.reads;
	writes = fabric.writes;
	while (calls.asked < 9)
		call_ask(world, calls.asked % 4 == 3 ? 10 : 50000, 50000);
	fabric.regions_end = fabric.keys + 1;
	fabric.reads_at_once = 0;
	WAIT_FOR(calls.waiting_count == 8 || world->far.conn == NULL);
	assert(world->far.conn != NULL);
	while (calls.waiting_count > 0)
		call_answer(&world->far);
	WAIT_FOR(calls.answered == calls.asked && calls.replies_out == 0);
	assert(fabric.reads - reads == 6 * (3 + 5) && fabric.reads_at_once == 1); /* of 16,666 and 33,334 bytes */
	assert(fabric.writes == writes);
	fabric.regions_end = 0;
	reads = fabric.reads;
	call_ask(world, 50000, 50000);
	WAIT_FOR(calls.waiting_count == 1);
	answer_the_rest(world);
	assert(fabric.reads - reads == 2 && fabric.writes == writes + 1);
}

START_TEST(bulk_is_read_where_no_memory_can_be_pinned)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_none_pinned);
}
END_TEST

/* A thread that does not come round for longer than a frame may take does not take it for the other end's silence. */
static void body_late_thread(struct world *world)
{
	unsigned int before;

	begin_after_one(world);
	before = fabric.reads;
	fabric.delay_us = 20000;
	call_ask(world, 50000, 10);
	WAIT_FOR(fabric.reads == before + 2);
	usleep((LATE_FRAME_MS + 200) * 1000);
	WAIT_FOR(calls.waiting_count == 1 || world->far.conn == NULL);
	assert(world->far.conn != NULL);
	call_answer(&world->far);
	WAIT_FOR(calls.answered == calls.asked);
	calls_check(true);
	traffic_end(world);
}

START_TEST(who_was_late_himself_cuts_nobody_off)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events, .limits.frame_ms = LATE_FRAME_MS },
		 body_late_thread);
}
END_TEST

/* The owner has no memory for a request just now, while the bulk of those before it is being read: these are told of. */
static void body_reads_while_busy(struct world *world)
{
	begin_after_one(world);
	calls.most = 4;
	while (calls.asked < 10)
		call_ask(world, 50000, 10);
	WAIT_FOR(calls.waiting_count == 3);
	assert(calls.not_now == 1); /* nobody asks again before */
	calls.most = 0;
	transport_resume(world->far.conn);
	WAIT_FOR(calls.waiting_count == 9);
	answer_the_rest(world);
}

START_TEST(who_takes_no_more_requests_is_told_of_those_he_took)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_reads_while_busy);
}
END_TEST

/* An answer that says it has voided what was never shown. */
static void body_voids_another(struct world *world)
{
	begin_after_one(world);
	fabric.tells_wrongly = true;
	call_ask(world, 10, 100000);
	WAIT_FOR(calls.waiting_count == 1);
	call_answer(&world->far);
	WAIT_FOR(fabric.windows ? world->near.conn == NULL : calls.answered == 2);
	assert(!fabric.windows || (world->near.closed == -EPROTO && calls.answered == 1));
	if (fabric.windows)
		memset(calls.all[1].in, CALL_OVER, calls.all[1].in_size);
	else
		transport_close(world->near.conn);
	world->near.conn = NULL;
	WAIT_FOR(world->far.conn == NULL);
	calls_check(true);
	traffic_end(world);
}

START_TEST(who_voids_what_was_not_shown_is_cut_off)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_voids_another);
}
END_TEST

/* Somewhere among calls: everything is given back, then or by the connection's end, and stays as it is. */
static void body_calls_broken(struct world *world)
{
	unsigned int until = (unsigned int)(seed_of(world->fabric) * 5 % 25);

	calls = (struct calls){ 0 };
	traffic_begin(world);
	call_ask(world, 10, 10);
	WAIT_FOR(world->far.conn != NULL);
	fabric.unpinned = world->unpinned;
	if (world->fabric != TCP && world->fabric != REAL && world->fabric % 2 == 0)
		fabric.break_in = 20 + until;
	while (world->near.conn != NULL && world->far.conn != NULL && calls.answered < 30 + until) {
		while (calls.asked < CALLS && calls.asked - calls.answered < 12)
			call_ask(world, draw_size(&world->near), draw_size(&world->near));
		for (unsigned int i = 0; i < 3 && calls.waiting_count > 0; i++)
			call_answer(&world->far);
		fiber_sleep_ms(1);
	}
	if (world->near.conn != NULL) {
		transport_close(world->near.conn);
		world->near.conn = NULL;
	}
	for (unsigned int n = 0; n < calls.asked; n++) { /* the caller's again */
		assert(!calls.all[n].sending);
		is_fenced(&calls.all[n]);
		memset(calls.all[n].in, CALL_OVER, calls.all[n].in_size);
	}
	WAIT_FOR(world->far.conn == NULL);
	fiber_sleep_ms(5);
	calls_check(true);
	traffic_end(world);
}

START_TEST(calls_of_a_broken_connection_give_everything_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events, .far.busy = 10 }, body_calls_broken);
}
END_TEST

START_TEST(calls_where_memory_is_short_give_everything_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events, .far.busy = 10, .unpinned = 40 },
		 body_calls_broken);
}
END_TEST

/* The answer's bulk is on its way when the call is given up; whoever has its memory then never sees it. */
static void body_late_write(struct world *world)
{
	begin_after_one(world);

	fabric.writes_are_late = true;
	call_ask(world, 100000, 150000);
	WAIT_FOR(calls.waiting_count == 1);
	{
		/* In one piece: a WRITE of one. */
		uint8_t *bytes = malloc(150000);
		const struct iovec bulk = { bytes, 150000 };
		struct transport_message message = {
			.header = { .kind = FRAME_REPLY, .xid = 2 },
			.bulk = &bulk,
			.bulk_count = 1,
			.done = reply_done,
			.arg = bytes,
		};

		memset(bytes, 0x11, 150000);
		calls.replies_out++;
		assert(transport_send(world->far.conn, &message) == 0);
	}
	fiber_sleep_ms(5);
	assert(transport_forget(world->near.conn, &calls.all[1], calls.all[1].in) <
	       0); /* not while it may be written */
	transport_close(world->near.conn);
	world->near.conn = NULL;
	assert(!calls.all[1].sending);
	is_fenced(&calls.all[1]);
	memset(calls.all[1].in, CALL_OVER, 150000);
	WAIT_FOR(world->far.conn == NULL);
	fabric_let_late_writes_go();
	assert(fabric.refused == 1);
	calls_check(true);
	traffic_end(world);
}

START_TEST(a_late_write_reaches_no_memory_that_was_given_back)
{
	in_world(_i, (struct world){ .accepts = true, .events = &calls_events }, body_late_write);
}
END_TEST

TRANSPORT_MAIN("transport_calls", { calls_get_their_bulk_and_give_it_back, EVERYWHERE },
	       { small_calls_cost_one_send_each_way_and_no_needless_looks, IN_MEMORY },
	       { lasting_memory_is_registered_once, EVERYWHERE },
	       { lasting_memory_leaves_half_of_what_may_be_locked, IN_MEMORY },
	       { several_requests_have_their_bulk_read_at_a_time, IN_MEMORY },
	       { bulk_is_read_where_no_memory_can_be_pinned, IN_MEMORY },
	       { calls_get_their_bulk_where_memory_is_short, IN_MEMORY },
	       { who_was_late_himself_cuts_nobody_off, IN_MEMORY },
	       { who_takes_no_more_requests_is_told_of_those_he_took, EVERYWHERE },
	       { calls_in_plenty_get_their_bulk, EVERYWHERE }, { who_voids_what_was_not_shown_is_cut_off, IN_MEMORY },
	       { a_library_without_a_voiding_send_will_do, IN_MEMORY },
	       { a_library_without_windows_will_do, IN_MEMORY },
	       { memory_that_is_not_there_ends_it_and_is_told, IN_MEMORY },
	       { calls_of_a_broken_connection_give_everything_back, EVERYWHERE },
	       { calls_where_memory_is_short_give_everything_back, IN_MEMORY },
	       { a_late_write_reaches_no_memory_that_was_given_back, IN_MEMORY })
