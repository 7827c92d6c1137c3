/* Who may not write to an OST: sessions, leases, evictions; and a write that is sent again, over the wire. */
#include "tests/unit/ost_fence.h"

#include "oss/ost_object.h"

/* --- sessions ------------------------------------------------------------------------------------------------------------ */

static void lease_body(void)
{
	const uint64_t sessions[] = { SESSION, 9 };
	struct write_call late = { .where = at_seq(a, 1), .data = "x", .length = 1, .seq = 1 };
	struct peer *other;
	char got[8];

	assert(write_as(SESSION) == 0);
	assert(write_as(SESSION + 1) == -EAGAIN); /* not heard of yet */
	assert(write_as(SESSION - 1) == -ENOSESSION);
	assert(write_as(0) == -ENOSESSION);
	late.session = SESSION - 1;
	assert(write_call(&late) == -ENOSESSION && !object_file_exists(late.where));
	fake_clock_ns += 30 * NSEC_PER_SEC;
	assert(write_as(SESSION) == -EAGAIN);
	assert(read_at(a, 0, got, sizeof(got)) == 1);
	assert(push_sessions(client, 2, sessions, 2, 9) == -EPERM); /* not the MDT's to say */
	assert(push_sessions(mdt, 2, sessions, 2, 9) == 0);
	assert(write_as(SESSION) == 0 && write_as(9) == 0 && write_as(8) == -ENOSESSION);
	assert(push_sessions(mdt, 1, sessions, 1, 9) == -ESTALE);
	assert(push_sessions(mdt, 3, sessions + 1, 1, 9) == 0);
	assert(write_as(SESSION) == -ENOSESSION && write_as(9) == 0);
	/* Another MDT, or the same with a shorter log: the newer connection counts. */
	other = fixture_connect(ROLE_MDT);
	assert(push_sessions(other, 1, sessions, 1, 9) == 0);
	assert(write_as(SESSION) == 0 && write_as(9) == -ENOSESSION);
	assert(push_sessions(mdt, 4, sessions + 1, 1, 9) == -ESTALE);
	peer_free(other);
}

START_TEST(sessions_and_leases)
{
	run_bodies(lease_body, NULL);
}
END_TEST

/* A table that lay in a buffer for longer than the MDT waits, since nobody here ran, or nothing came through. */
static void late_table_body(void)
{
	const uint64_t sessions[] = { SESSION };
	uint64_t heard = 0, late;

	assert(push_table(mdt, 2, sessions, 1, SESSION, &heard) == 0);
	late = heard;
	fake_clock_ns += 31 * NSEC_PER_SEC;
	assert(push_table(mdt, 3, sessions, 1, SESSION, &heard) == 0);
	assert(write_as(SESSION) == -EAGAIN);
	assert(push_table(mdt, 4, sessions, 1, SESSION, &heard) == 0);
	assert(write_as(SESSION) == 0);
	/* Another OST's clock, or ours before a restart. */
	fake_clock_ns += 31 * NSEC_PER_SEC;
	late = late + (UINT64_C(1) << 62);
	assert(push_table(mdt, 5, sessions, 1, SESSION, &late) == 0);
	assert(write_as(SESSION) == -EAGAIN);
}

START_TEST(a_late_table_grants_no_lease)
{
	run_bodies(late_table_body, NULL);
}
END_TEST

static int push_result;
static bool push_over;

static bool again_over;

/* As an MDT does that was not answered in time. */
static void evict_again_fiber(void *arg)
{
	struct peer *other = fixture_connect(ROLE_MDT);

	(void)arg;
	assert(push_sessions(other, 2, &(const uint64_t){ 9 }, 1, 9) == 0);
	peer_free(other);
	again_over = true;
}

static void evict_fiber(void *arg)
{
	(void)arg;
	push_result = push_sessions(mdt, 2, &(const uint64_t){ 9 }, 1, 9);
	push_over = true;
}

/* A write that is on its way to the disk ends before the eviction is answered. */
static void running_write_body(void)
{
	gate_closed = true;
	disk_set_fault(ost->disk, wait_at_gate, NULL);
	assert(fiber_start(loop, write_fiber, NULL) == 0);
	wait_for(&in_gate);
	assert(fiber_start(loop, evict_fiber, NULL) == 0);
	while (ost->sessions.epoch != 2)
		fiber_sleep_ms(1);
	wait_for(&write_over);
	assert(write_result == -ENOSESSION && !push_over);
	assert(fiber_start(loop, evict_again_fiber, NULL) == 0);
	while (ost->sessions_source != 2)
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_yield();
	assert(!push_over && !again_over);
	/* The answer does not come too late for the lease of all others. */
	fake_clock_ns += 31 * NSEC_PER_SEC;
	while (session_table_check(&ost->sessions, 9, fake_clock_ns) < 0)
		fiber_sleep_ms(10);
	assert(push_runs > 0 && !again_over);
	open_gate();
	wait_for(&push_over);
	wait_for(&again_over);
	assert(push_result == 0 || push_result == -ESTALE); /* the other connection is newer */
}

START_TEST(an_eviction_waits_for_what_runs)
{
	run_bodies(running_write_body, NULL);
}
END_TEST

/* Holds every sync. */
static int wait_to_sync(void *arg, enum disk_op op)
{
	(void)arg;
	in_gate |= op == DISK_SYNC;
	while (op == DISK_SYNC && gate_closed)
		fiber_wait(&gate, NULL);

	return 0;
}

/* One that makes a new object, and waits until others are synced so that it may have a descriptor, is not on its way yet. */
static void making_write_body(void)
{
	struct where other = { .ino = 101, .gen = 1 };
	unsigned int before = ost->config.objects_open;

	assert(write_text(other, 0, "dirty") == 0);
	ost->config.objects_open = 1;
	write_over = push_over = in_gate = false;
	gate_closed = true;
	disk_set_fault(ost->disk, wait_to_sync, NULL);
	assert(fiber_start(loop, write_fiber, NULL) == 0);
	wait_for(&in_gate);
	assert(fiber_start(loop, evict_fiber, NULL) == 0);
	wait_for(&push_over);
	wait_for(&write_over);
	assert(push_result == 0 && write_result == -ENOSESSION);
	ost->config.objects_open = before;
	open_gate();
}

START_TEST(an_eviction_does_not_wait_for_descriptors)
{
	run_bodies(making_write_body, NULL);
}
END_TEST

/* One that waits for its turn does not get it any more. */
static void waiting_write_body(void)
{
	struct ost_object *object;
	struct object_turn turn;
	struct ost_file *file;
	char got[8];

	assert(write_text(a, 0, "A") == 0);
	assert(file_get(ost, a.ino, a.gen, &file) == 0 && object_get(file, 0, false, &object) == 0);
	object_begin(object, &turn, 0, 1, true, false);
	assert(fiber_start(loop, write_fiber, NULL) == 0);
	while (object->queue.first == object->queue.last)
		fiber_sleep_ms(1);
	assert(push_sessions(mdt, 2, &(const uint64_t){ 9 }, 1, 9) == 0);
	object_end(object, &turn);
	object_put(object);
	file_put(file);
	wait_for(&write_over);
	assert(write_result == -ENOSESSION);
	assert(read_at(a, 0, got, sizeof(got)) == 1 && got[0] == 'A');
}

START_TEST(an_evicted_write_never_lands)
{
	run_bodies(waiting_write_body, NULL);
}
END_TEST

/* --- resends ------------------------------------------------------------------------------------------------------------- */

static void resend_body(void)
{
	struct write_call first = {
		.where = a, .data = "first", .length = 5, .session = SESSION, .slot = 4, .seq = 10
	};
	struct write_call again = first, old = first, late = first;

	assert(write_call(&first) == 0);
	again.data = "AGAIN";
	assert(write_call(&again) == 0 && again.instance == first.instance);
	assert(text_is(a, 0, "first"));
	old.seq = 9;
	assert(write_call(&old) == -ESTALE);
	/* An error is kept as well. */
	assert(cut(with_cut(a, 1, 3, UINT64_MAX)) == 0);
	late.seq = 11;
	assert(write_call(&late) == -ESTALE);
	late.where = with_cut(a, 1, 3, UINT64_MAX);
	assert(write_call(&late) == -ESTALE);
	late.seq = 12;
	assert(write_call(&late) == 0);
	late.slot = 5000;
	assert(write_call(&late) == -EINVAL);
}

START_TEST(a_resend_gets_the_first_answer)
{
	run_bodies(resend_body, NULL);
}
END_TEST

static int second_result;
static bool second_over;

static void second_fiber(void *arg)
{
	second_result = write_call(arg);
	second_over = true;
}

/* A resend over another connection takes the place of the first copy, which still runs. */
static void replace_body(void)
{
	struct write_call call = { .where = a, .data = "X", .length = 1, .session = SESSION, .slot = 0, .seq = 1 };
	struct peer *first = client;

	gate_closed = true;
	disk_set_fault(ost->disk, wait_at_gate, NULL);
	assert(fiber_start(loop, write_fiber, NULL) == 0); /* "x" as seq 1 of slot 0 */
	wait_for(&in_gate);
	client = fixture_connect(ROLE_CLIENT);
	assert(fiber_start(loop, second_fiber, &call) == 0);
	wait_for(&write_over);
	assert(write_result == -ECANCELED && !second_over);
	open_gate();
	wait_for(&second_over);
	assert(second_result == 0 && call.instance == ost->instance);
	assert(text_is(a, 0, "x"));
	peer_free(first);
}

START_TEST(a_resend_takes_the_place_of_what_runs)
{
	run_bodies(replace_body, NULL);
}
END_TEST

UNIT_MAIN("ost_fence", sessions_and_leases, a_late_table_grants_no_lease, an_eviction_waits_for_what_runs,
	  an_eviction_does_not_wait_for_descriptors, an_evicted_write_never_lands, a_resend_gets_the_first_answer,
	  a_resend_takes_the_place_of_what_runs)
