/*
 * An answer's RDMA WRITE that comes when its call is over: answered by TCP, cancelled, or given up for its time. It reaches no
 * memory. The fabric (fake_verbs.h) keeps WRITEs back until the test lets them go.
 */
#include "tests/unit/fabrics_fixture.h"

/* They are let go, and come where other bytes are by now. */
static void late_writes_miss(const uint8_t *in)
{
	fabric_let_late_writes_go();
	for (size_t i = 0; i < BULK_SIZE; i++)
		assert(in[i] == 77);
	assert(fabric.refused > 0);
}

/* An answer's WRITE comes when its call has long been answered by TCP: it reaches no memory. */
static void body_late(struct world *world)
{
	uint8_t *memory = malloc(2 * (size_t)BULK_SIZE), *in = memory + BULK_SIZE;

	begin_by_rdma(world);
	fabric.writes_are_late = true;
	echo(world, 0, 1, memory, in);
	assert(used(world) == FABRIC_TCP && world->executed == 1);
	memset(in, 77, BULK_SIZE);
	WAIT_FOR(served_by(world, FABRIC_RDMA) == 0);
	late_writes_miss(in);
	free(memory);
}

START_TEST(a_late_write_reaches_no_memory_that_was_given_back)
{
	in_world(_i, body_late);
}
END_TEST

/* One READ, asked once. */
struct asking {
	struct world *world;
	struct call call;
	int result;
	bool over;
};

static void asking_fiber(void *arg)
{
	struct asking *asking = arg;

	asking->result = peer_call(asking->world->peer, &asking->call);
	asking->over = true;
}

/* It is executed, and its answer's WRITE is on its way, when it is given up: then, or after so long. Returns with what. */
static int ask_and_give_up(struct world *world, uint32_t seq, unsigned int after_ms, uint8_t *out, uint8_t *in)
{
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	Strake__Object object = STRAKE__OBJECT__INIT;
	const struct iovec iov = { out, BULK_SIZE };
	struct asking asking = {
		.world = world,
		.call = { .opcode = OP_READ,
			  .request = &request.base,
			  .seq = seq,
			  .attempt_ms = after_ms,
			  .bulk_out = &iov,
			  .bulk_out_count = 1,
			  .bulk_in = in,
			  .bulk_in_size = BULK_SIZE },
	};
	const unsigned int executed = world->executed;

	request.object = &object;
	memset(out, 5, BULK_SIZE);
	memset(in, 0, BULK_SIZE);
	assert(fiber_start(world->loop, asking_fiber, &asking) == 0);
	WAIT_FOR(world->executed > executed || asking.over);
	if (after_ms == 0)
		call_cancel(&asking.call);
	WAIT_FOR(asking.over);
	assert(!asking.call.answered);
	call_release(&asking.call);
	return asking.result;
}

/* The call is over, and nobody answers it by TCP: its answer's WRITE reaches no memory. */
static void given_up(struct world *world, unsigned int after_ms, int expected)
{
	uint8_t *memory = malloc(2 * (size_t)BULK_SIZE), *in = memory + BULK_SIZE;

	begin_by_rdma(world);
	fabric.writes_are_late = true;
	for (uint32_t seq = 1; world->executed == 0; seq++) { /* on a busy machine the time may pass before */
		WAIT_FOR(uses(world, FABRIC_RDMA));
		assert(ask_and_give_up(world, seq, after_ms, memory, in) == expected);
	}
	memset(in, 77, BULK_SIZE);
	late_writes_miss(in);
	free(memory);
}

static void body_late_cancelled(struct world *world)
{
	given_up(world, 0, -ECANCELED);
}

START_TEST(a_late_write_of_a_cancelled_call_reaches_no_memory)
{
	in_world(_i, body_late_cancelled);
}
END_TEST

static void body_late_timed_out(struct world *world)
{
	given_up(world, 300, -ETIMEDOUT); /* before the other fabric is thought of */
}

START_TEST(a_late_write_of_a_call_that_took_too_long_reaches_no_memory)
{
	in_world(_i, body_late_timed_out);
}
END_TEST

FABRICS_MAIN("fabrics_late", a_late_write_reaches_no_memory_that_was_given_back,
	     a_late_write_of_a_cancelled_call_reaches_no_memory,
	     a_late_write_of_a_call_that_took_too_long_reaches_no_memory)
