/*
 * What becomes of the fabric that is used: when it falls silent, breaks or loses its device the other one is, and it again
 * when it is over; nothing is done twice. A server that takes its time keeps it.
 */
#include "tests/unit/fabrics_fixture.h"

#define PUSHES 20000 /* more than the credits of a connection carry */

/* The fabric falls silent while calls run: TCP soon, and RDMA when it can be used again. */
static void body_falls_silent(struct world *world)
{
	struct peer_stats stats;
	uint64_t began_ns;

	serve(world, "127.0.0.1:0");
	reach_all(world);
	work_begins(world);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	work_goes_on(world);
	fabric.silent = true;
	began_ns = clock_ns();
	WAIT_FOR(uses(world, FABRIC_TCP));
	work_goes_on(world);
	assert(clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	fabric.silent = false;
	WAIT_FOR(uses(world, FABRIC_RDMA));
	work_goes_on(world);
	work_ends(world);
	peer_stats(world->peer, &stats);
	assert(stats.connects_by[FABRIC_RDMA] == 2 && stats.connects == world->lost + 1);
	assert(world->tally.switches == stats.connects - 1 && world->tally.silences == 1);
	assert(world->tally.bulk[FABRIC_RDMA] > 0 && world->tally.bulk[FABRIC_TCP] > 0);
	assert(world->tally.connections[FABRIC_RDMA] == 1 && world->tally.connections[FABRIC_TCP] == 0);
	assert(times_said(BY_TCP) == 1 && times_said(": silent") == 1 && times_said(BY_RDMA) == 1);
	assert(fabric.waits_for_the_silent == 0);
}

START_TEST(silence_leads_to_tcp_and_back)
{
	in_world(_i, body_falls_silent);
}
END_TEST

/* A call with bulk has no answer in its time, before another fabric is thought of. */
static void body_given_up(struct world *world)
{
	static uint8_t in[BULK_SIZE];
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	Strake__Object object = STRAKE__OBJECT__INIT;
	struct call call = {
		.opcode = OP_READ,
		.request = &request.base,
		.seq = 1,
		.attempt_ms = 300,
		.bulk_in = in,
		.bulk_in_size = BULK_SIZE,
	};

	request.object = &object;
	begin_by_rdma(world);
	fabric.silent = true;
	assert(peer_call(world->peer, &call) < 0);
	assert(fabric.waits_for_the_silent == 0);
	call_release(&call);
}

START_TEST(who_is_given_up_is_not_waited_for)
{
	in_world(_i, body_given_up);
}
END_TEST

/* Two peers of one server, as those of two workers. */
static void body_two_fall_silent(struct world *world)
{
	struct peer *both[2];

	serve(world, "127.0.0.1:0");
	for (int i = 0; i < 2; i++) {
		reach_all(world);
		both[i] = world->peer;
		assert(ping(world) == 0);
	}
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 2);
	fabric.silent = true;
	for (int i = 0; i < 2; i++) {
		world->peer = both[i];
		while (ping(world) < 0)
			;
	}
	assert(world->tally.connections[FABRIC_TCP] == 2);
	assert(times_said(BY_TCP) == 1 && times_said(BY_RDMA) == 0);
	fabric.silent = false;
	WAIT_FOR(world->tally.connections[FABRIC_RDMA] == 2 && peer_is_connected(both[0]) &&
		 peer_is_connected(both[1]));
	assert(times_said(BY_TCP) == 1 && times_said(BY_RDMA) == 1);
	peer_free(both[0]);
}

START_TEST(an_outage_is_told_once)
{
	in_world(_i, body_two_fall_silent);
}
END_TEST

/* Twice: what was made at its first coming is not used at the second. */
static void body_device_goes(struct world *world)
{
	char why[512];

	serve(world, "127.0.0.1:0");
	snprintf(why, sizeof(why), BY_TCP "%s: the device is gone", world->reachable.text[1]);
	reach_all(world);
	work_begins(world);
	for (unsigned int i = 0; i < 2; i++) {
		WAIT_FOR(uses(world, FABRIC_RDMA));
		world->pause_ms = 1;
		work_goes_on(world);
		fabric_device_goes(true);
		WAIT_FOR(uses(world, FABRIC_TCP));
		assert(times_said(why) == i + 1);
		work_goes_on(world);
		fabric_device_comes();
		world->pause_ms = 20; /* it rests for seconds */
	}
	WAIT_FOR(uses(world, FABRIC_RDMA));
	world->pause_ms = 1;
	work_goes_on(world);
	work_ends(world);
}

START_TEST(a_device_may_go_and_come)
{
	in_world(_i, body_device_goes);
}
END_TEST

/* Connections break all the time. */
static void body_breaks(struct world *world)
{
	serve(world, "127.0.0.1:0");
	reach_all(world);
	work_begins(world);
	for (int i = 0; i < 10; i++) {
		work_goes_on(world);
		fabric.break_in = 1 + (unsigned int)fake_draw(20);
	}
	fabric.break_in = 0;
	work_goes_on(world);
	WAIT_FOR(uses(world, FABRIC_RDMA));
	work_ends(world);
	assert(world->lost > 0);
}

START_TEST(a_broken_connection_is_made_anew)
{
	in_world(_i, body_breaks);
}
END_TEST

/* A server that takes its time, but lives, is left alone. */
static void body_slow(struct world *world)
{
	unsigned int lost;

	begin_by_rdma(world);
	lost = world->lost;
	hold_calls(world, 1);
	WAIT_FOR(world->held_count == 1);
	fiber_sleep_ms(WITHIN_MS);
	assert(uses(world, FABRIC_RDMA) && world->lost == lost);
	answer_held(world);
	WAIT_FOR(world->workers == 0);
}

START_TEST(a_slow_server_keeps_its_connection)
{
	in_world(_i, body_slow);
}
END_TEST

/* ... and one that has no memory for what it is asked, behind which it reads nothing more; but not when it is silent, too. */
static void body_starves(struct world *world)
{
	unsigned int lost;

	begin_by_rdma(world);
	lost = world->lost;
	world->no_memory = true;
	work_begins(world);
	fiber_sleep_ms(WITHIN_MS);
	assert(uses(world, FABRIC_RDMA) && world->lost == lost && world->asked == 0);
	fabric.silent = true;
	WAIT_FOR(uses(world, FABRIC_TCP));
	world->no_memory = false;
	service_bulk_available(world->service);
	work_ends(world);
}

START_TEST(a_server_without_memory_keeps_its_connection)
{
	in_world(_i, body_starves);
}
END_TEST

/* ... and one that grants a single call, which it holds: it cannot be asked for a sign of life. */
static void body_one_credit(struct world *world)
{
	world->credits = 1;
	body_slow(world);
}

START_TEST(who_grants_one_call_is_not_left_while_he_has_it)
{
	in_world(_i, body_one_credit);
}
END_TEST

/* All that the server grants is under way: it can be asked for a sign of life all the same. */
static void body_full(struct world *world)
{
	unsigned int lost;
	uint64_t began_ns;

	world->credits = 2;
	begin_by_rdma(world);
	lost = world->lost;
	hold_calls(world, 3);
	WAIT_FOR(world->held_count > 0);
	fiber_sleep_ms(WITHIN_MS);
	assert(uses(world, FABRIC_RDMA) && world->lost == lost);
	fabric.silent = true;
	began_ns = clock_ns();
	WAIT_FOR(uses(world, FABRIC_TCP));
	assert(clock_ns() - began_ns < AT_MOST_MS * NSEC_PER_MSEC);
	do {
		answer_held(world);
		fiber_sleep_ms(1);
	} while (world->workers > 0);
}

START_TEST(who_has_used_up_his_credits_is_not_left_alone)
{
	in_world(_i, body_full);
}
END_TEST

/* All that the server grants is under way, and more waits behind it: what it tells by itself comes all the same. */
static void body_pushes(struct world *world)
{
	world->credits = 2;
	begin_by_rdma(world);
	hold_calls(world, 3);
	WAIT_FOR(world->held_count > 0);
	for (uint64_t i = 1; i <= PUSHES; i++)
		service_each_conn(world->service, push_one, &i);
	WAIT_FOR(world->pushed == PUSHES);
	assert(world->workers == 3 && uses(world, FABRIC_RDMA));
	do {
		answer_held(world);
		fiber_sleep_ms(1);
	} while (world->workers > 0);
}

START_TEST(pushes_come_where_no_more_may_be_asked)
{
	in_world(_i, body_pushes);
}
END_TEST

FABRICS_MAIN("fabrics_change", silence_leads_to_tcp_and_back, who_is_given_up_is_not_waited_for, an_outage_is_told_once,
	     a_device_may_go_and_come, a_broken_connection_is_made_anew, a_slow_server_keeps_its_connection,
	     a_server_without_memory_keeps_its_connection, who_grants_one_call_is_not_left_while_he_has_it,
	     who_has_used_up_his_credits_is_not_left_alone, pushes_come_where_no_more_may_be_asked)
