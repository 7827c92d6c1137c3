/* What an OST must not do: cuts, tombstones, sessions, leases and resends, over the wire. */
#include "tests/unit/ost_fixture.h"

#include "oss/index_internal.h"
#include "oss/operations.h"
#include "oss/ost_object.h"
#include "tests/unit/unit.h"

static const struct where a = { .ino = 100, .gen = 1 };

static struct where with_cut(struct where where, uint64_t number, uint64_t start, uint64_t end)
{
	where.cut = number;
	where.cut_start = start;
	where.cut_end = end;

	return where;
}

static struct where at_seq(struct where where, uint64_t seq)
{
	where.seq = seq;

	return where;
}

/* Run body on a fresh OST and, if there is one, after on the same one started again. */
static void run_bodies(void (*body)(void), void (*after)(void))
{
	fixture_format();
	fixture_run(body);
	if (after)
		fixture_run(after);
	temp_dir_remove(fixture_dir);
}

/* --- truncates ----------------------------------------------------------------------------------------------------------- */

static void truncate_body(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE + 3, UINT64_MAX), late = cut1;
	struct totals totals;

	for (uint64_t seq = 0; seq < 4; seq++)
		assert(write_text(at_seq(a, seq), 0, "0123456789") == 0);
	assert(cut(cut1) == 0);
	assert(text_is(a, 0, "0123456789") && text_is(at_seq(cut1, 1), 0, "012"));
	assert(text_is(at_seq(cut1, 2), 0, "") && text_is(at_seq(cut1, 3), 0, ""));
	assert(!object_file_exists(at_seq(a, 2)) && !object_file_exists(at_seq(a, 3)));
	assert(glimpse(cut1, &totals) == 0 && totals.end == STRIPE + 3 && totals.blocks == 16);

	/* Who has not heard of it may not write, but read. */
	assert(write_text(at_seq(a, 1), 5, "late") == -ESTALE);
	assert(text_is(at_seq(a, 1), 0, "012"));

	/* It grows again; the same cut, heard once more, takes nothing of that. */
	assert(write_text(at_seq(cut1, 2), 0, "new") == 0 && write_text(at_seq(cut1, 1), 3, "NEW") == 0);
	assert(cut(cut1) == 0);
	assert(text_is(at_seq(cut1, 1), 0, "012NEW") && text_is(at_seq(cut1, 2), 0, "new"));
	late.cut_start = 0;
	assert(cut(late) == 0 && text_is(at_seq(cut1, 2), 0, "new"));
	assert(commit(cut1, &totals) == 0 && totals.end == 2 * STRIPE + 3);
}

static void truncate_again(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE + 3, UINT64_MAX);

	assert(write_text(a, 0, "late") == -ESTALE);
	assert(cut(cut1) == 0);
	assert(text_is(at_seq(cut1, 1), 0, "012NEW") && text_is(at_seq(cut1, 2), 0, "new"));
	/* Past all there is: nothing goes, but it counts. */
	assert(cut(with_cut(a, 2, 100 * STRIPE, UINT64_MAX)) == 0);
	assert(write_text(cut1, 0, "late") == -ESTALE);
	assert(text_is(at_seq(cut1, 2), 0, "new"));
}

START_TEST(truncates_cut_once)
{
	run_bodies(truncate_body, truncate_again);
}
END_TEST

static void newer_cut_body(void)
{
	struct where cut1 = with_cut(a, 1, 4, UINT64_MAX), cut2 = with_cut(a, 2, 2, UINT64_MAX);
	struct where cut3 = with_cut(a, 3, 1, UINT64_MAX);
	struct totals totals;
	char got[16];

	assert(write_text(a, 0, "0123456789") == 0);
	assert(write_text(cut1, 6, "xy") == 0); /* brings its cut along */
	assert(read_at(a, 0, got, sizeof(got)) == 8 && memcmp(got, "0123\0\0xy", 8) == 0);
	assert(read_at(cut2, 0, got, sizeof(got)) == 2);
	assert(glimpse(cut3, &totals) == 0 && totals.end == 1);
	assert(write_text(cut2, 0, "x") == -ESTALE);
	assert(cut(cut2) == 0 && text_is(a, 0, "0"));
}

START_TEST(whoever_brings_a_newer_cut_has_it_applied)
{
	run_bodies(newer_cut_body, NULL);
}
END_TEST

static uint64_t punch_blocks; /* what is left of a page that was emptied */

static void punch_body(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE + 4, 3 * STRIPE + 4), cut2 = with_cut(a, 2, 0, 4 * STRIPE);
	struct totals totals;
	char got[16];

	for (uint64_t seq = 0; seq < 4; seq++)
		assert(write_text(at_seq(a, seq), 0, "0123456789") == 0);
	assert(cut(cut1) == 0);
	assert(text_is(a, 0, "0123456789"));
	assert(read_at(at_seq(a, 1), 0, got, 16) == 10 && memcmp(got, "0123\0\0\0\0\0\0", 10) == 0);
	assert(!object_file_exists(at_seq(a, 2)));
	assert(read_at(at_seq(a, 3), 0, got, 16) == 10 && memcmp(got, "\0\0\0\000456789", 10) == 0);
	assert(write_text(a, 0, "x") == -ESTALE);
	/* All of it: the last object stays, empty, and says how far the file reaches. */
	assert(cut(cut2) == 0);
	assert(glimpse(cut2, &totals) == 0 && totals.end == 3 * STRIPE + 10 && totals.blocks == punch_blocks);
	assert(read_at(at_seq(a, 3), 0, got, 16) == 10 && memcmp(got, "\0\0\0\0\0\0\0\0\0\0", 10) == 0);
	assert(!object_file_exists(a) && !object_file_exists(at_seq(a, 1)));
}

static int cannot_punch(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_ALLOCATE ? -EOPNOTSUPP : 0;
}

/* On a filesystem that has no holes. */
static void written_punch_body(void)
{
	disk_set_fault(ost->disk, cannot_punch, NULL);
	punch_body();
}

START_TEST(punches_leave_holes)
{
	run_bodies(punch_body, NULL);
	punch_blocks = 8; /* one page of zeros */
	run_bodies(written_punch_body, NULL);
}
END_TEST

static int cannot_unlink(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_UNLINK ? -EIO : 0;
}

/* A file that could not be unlinked does not come back with its bytes. */
static void left_body(void)
{
	struct where cut1 = with_cut(a, 1, 0, UINT64_MAX);
	char got[16];

	assert(write_text(a, 0, "old bytes") == 0 && commit(a, NULL) == 0);
	disk_set_fault(ost->disk, cannot_unlink, NULL);
	assert(cut(cut1) == -EIO && object_file_exists(a));
	disk_set_fault(ost->disk, NULL, NULL);
	assert(text_is(cut1, 0, ""));
	assert(write_text(cut1, 4, "new") == 0);
	assert(read_at(cut1, 0, got, sizeof(got)) == 7 && memcmp(got, "\0\0\0\0new", 7) == 0);
}

START_TEST(what_an_unlink_left_behind_is_empty)
{
	run_bodies(left_body, NULL);
}
END_TEST

/* --- killed in the middle ---------------------------------------------------------------------------------------------- */

static enum disk_op deadly_op;
static int deadly_after;

static int die_at(void *arg, enum disk_op op)
{
	(void)arg;
	if (op == deadly_op && deadly_after-- == 0)
		kill_self();

	return 0;
}

static void write_four(void)
{
	for (uint64_t seq = 0; seq < 4; seq++)
		assert(write_text(at_seq(a, seq), 0, "0123456789") == 0);
	assert(commit(a, NULL) == 0);
}

static void killed_cut(void)
{
	write_four();
	disk_set_fault(ost->disk, die_at, NULL);
	(void)cut(with_cut(a, 1, STRIPE + 3, UINT64_MAX));
	abort();
}

static void after_killed_cut(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE + 3, UINT64_MAX);
	char got[16];

	assert(ost->recovered);
	for (uint64_t seq = 0; seq < 4; seq++)
		assert(read_at(at_seq(a, seq), 0, got, sizeof(got)) >= 0); /* all, or cut: nothing looks lost */
	assert(cut(cut1) == 0);                                            /* the MDT has no answer yet */
	assert(text_is(a, 0, "0123456789") && text_is(at_seq(a, 1), 0, "012"));
	assert(text_is(at_seq(a, 2), 0, "") && text_is(at_seq(a, 3), 0, ""));
	assert(!object_file_exists(at_seq(a, 2)) && !object_file_exists(at_seq(a, 3)));
	assert(write_text(a, 0, "x") == -ESTALE);
	assert(ost->io_errors == 0);
}

static void killed_destroy(void)
{
	const uint64_t gen = 1;

	write_four();
	disk_set_fault(ost->disk, die_at, NULL);
	(void)destroy(&a.ino, &gen, 1, SESSION);
	abort();
}

static void after_killed_destroy(void)
{
	const uint64_t gen = 1;

	assert(destroy(&a.ino, &gen, 1, SESSION) == 0);
	for (uint64_t seq = 0; seq < 4; seq++)
		assert(!object_file_exists(at_seq(a, seq)));
	assert(write_text(a, 0, "x") == -ESTALE);
	assert(ost->io_errors == 0);
}

static void kill_at(void (*body)(void), void (*after)(void), enum disk_op op, int times)
{
	deadly_op = op;
	deadly_after = times;
	fixture_format();
	fixture_run_killed(body);
	fixture_run(after);
	temp_dir_remove(fixture_dir);
}

START_TEST(a_kill_in_a_cut_or_a_destroy_is_survived)
{
	kill_at(killed_cut, after_killed_cut, DISK_SYNC, 0);
	kill_at(killed_cut, after_killed_cut, DISK_UNLINK, 0);
	kill_at(killed_cut, after_killed_cut, DISK_UNLINK, 1);
	kill_at(killed_cut, after_killed_cut, DISK_SYNC, 1); /* the folder's */
	kill_at(killed_destroy, after_killed_destroy, DISK_UNLINK, 0);
	kill_at(killed_destroy, after_killed_destroy, DISK_UNLINK, 2);
}
END_TEST

/* --- killed when it had just answered ------------------------------------------------------------------------------------ */

static void commit_and_die(void)
{
	assert(write_text(a, 0, "0123456789") == 0);
	assert(commit(a, NULL) == 0);
	kill_self();
}

static void after_commit(void)
{
	assert(ost->recovered && ost->recovery.known == 1 && ost->recovery.entered == 0);
}

static void cut_and_die(void)
{
	assert(text_is(a, 0, "0123456789"));
	assert(cut(with_cut(a, 1, 3, UINT64_MAX)) == 0);
	kill_self();
}

static void after_cut(void)
{
	assert(ost->recovered && write_text(a, 0, "x") == -ESTALE);
	assert(text_is(with_cut(a, 1, 3, UINT64_MAX), 0, "012"));
}

static void destroy_and_die(void)
{
	const uint64_t gen = 1;

	assert(destroy(&a.ino, &gen, 1, SESSION) == 0);
	kill_self();
}

static void after_destroy(void)
{
	assert(ost->recovered && write_text(with_cut(a, 1, 3, UINT64_MAX), 0, "x") == -ESTALE);
}

START_TEST(what_was_answered_is_known_after_a_kill)
{
	fixture_format();
	fixture_run_killed(commit_and_die);
	fixture_run(after_commit);
	fixture_run_killed(cut_and_die);
	fixture_run(after_cut);
	fixture_run_killed(destroy_and_die);
	fixture_run(after_destroy);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- tombstones ---------------------------------------------------------------------------------------------------------- */

static void destroy_body(void)
{
	const uint64_t inos[] = { 100, 101, 102 }, gens[] = { 1, 1, 1 };
	const struct where next_gen = { .ino = 100, .gen = 2 };
	struct totals totals;
	char got[8];

	assert(write_text(a, 0, "old") == 0 && write_text(at_seq(a, 9), 0, "old") == 0);
	assert(write_text(next_gen, 0, "new") == 0);
	assert(write_text((struct where){ .ino = 101, .gen = 1 }, 0, "old") == 0);
	assert(destroy(inos, gens, 3, SESSION) == 0);
	assert(!object_file_exists(a) && !object_file_exists(at_seq(a, 9)));
	assert(write_text(a, 0, "late") == -ESTALE && !object_file_exists(a));
	assert(write_text((struct where){ .ino = 102, .gen = 1 }, 0, "late") == -ESTALE);
	assert(read_at(a, 0, got, sizeof(got)) == -ESTALE && glimpse(a, &totals) == -ESTALE);
	assert(commit(a, &totals) == 0 && totals.end == 0 && totals.blocks == 0);
	assert(cut(with_cut(a, 5, 0, UINT64_MAX)) == 0);
	assert(text_is(next_gen, 0, "new"));
	assert(destroy(inos, gens, 3, SESSION) == 0);
}

static int cannot_sync(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_SYNC ? -EIO : 0;
}

static void destroy_again(void)
{
	const uint64_t others[] = { SESSION + 1 }, both[] = { SESSION, SESSION + 1 };
	const uint64_t ino = 101, gen = 1;
	struct index_file row;
	char got[8];

	assert(write_text(a, 0, "late") == -ESTALE);
	assert(text_is((struct where){ .ino = 100, .gen = 2 }, 0, "new"));
	/* Sessions of that time live: it stays. */
	assert(push_sessions(mdt, 2, both, 2, SESSION + 1) == 0);
	ost_sweep_tombstones(ost);
	assert(write_text(a, 0, "late") == -ESTALE);
	/* Told of again in the time of a later session: it stays for that one, too. */
	assert(destroy(&ino, &gen, 1, SESSION + 1) == 0);
	assert(push_sessions(mdt, 3, others, 1, SESSION + 1) == 0);
	/* Not before the folders are synced: what was unlinked must not come back without it. */
	disk_set_fault(ost->disk, cannot_sync, NULL);
	ost_sweep_tombstones(ost);
	assert(read_at(a, 0, got, sizeof(got)) == -ESTALE);
	disk_set_fault(ost->disk, NULL, NULL);
	ost_sweep_tombstones(ost);
	assert(index_get_file(ost->index, a.ino, a.gen, &row) == -ENOENT);
	assert(index_get_file(ost->index, 102, 1, &row) == -ENOENT);
	assert(index_get_file(ost->index, 101, 1, &row) == 0 && row.destroyed);
	assert(read_at(a, 0, got, sizeof(got)) == 0);
}

START_TEST(the_destroyed_stay_dead_while_somebody_may_write)
{
	run_bodies(destroy_body, destroy_again);
}
END_TEST

#define BIG 3000

static void destroy_big(void)
{
	struct where big = { .ino = 500, .gen = 1 };
	const uint64_t gen = 1;
	unsigned int before = ost->object_count;

	for (uint64_t seq = 0; seq < BIG; seq++)
		assert(write_at(at_seq(big, seq), 0, "x", 1) == 0);
	assert(destroy(&big.ino, &gen, 1, SESSION) == 0);
	assert(ost->object_count == before);
	for (uint64_t seq = 0; seq < BIG; seq += 97)
		assert(!object_file_exists(at_seq(big, seq)));
}

START_TEST(big_files_go_too)
{
	run_bodies(destroy_big, NULL);
}
END_TEST

/* --- sessions ------------------------------------------------------------------------------------------------------------ */

static int write_as(uint64_t session)
{
	static uint32_t seq;

	return write_call(&(struct write_call){
		.where = a,
		.data = "x",
		.length = 1,
		.session = session,
		.slot = 0,
		.seq = ++seq,
	});
}

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

static struct fiber_queue gate;
static bool gate_closed;
static bool in_gate;

/* Holds every write just before the disk. */
static int wait_at_gate(void *arg, enum disk_op op)
{
	(void)arg;
	in_gate |= op == DISK_WRITE;
	while (op == DISK_WRITE && gate_closed)
		fiber_wait(&gate, NULL);

	return 0;
}

static void open_gate(void)
{
	gate_closed = false;
	fiber_wake_all(&gate);
}

static int write_result, push_result;
static bool write_over, push_over;

static void write_fiber(void *arg)
{
	(void)arg;
	write_result = write_as(SESSION);
	write_over = true;
}

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

static void wait_for(const bool *flag)
{
	while (!*flag)
		fiber_sleep_ms(1);
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

/* --- void numbers -------------------------------------------------------------------------------------------------------- */

static struct where content(uint64_t ino, uint64_t gen)
{
	return (struct where){ .ino = ino, .gen = gen };
}

/* As often as it takes. */
static int void_numbers(uint64_t first, uint64_t end)
{
	int err;

	while ((err = void_once(first, end)) == -EAGAIN)
		;

	return err;
}

static bool is_refused(struct where where)
{
	struct totals totals;
	char got[8];

	return write_text(where, 0, "late") == -ESTALE && read_at(where, 0, got, sizeof(got)) == -ESTALE &&
	       glimpse(where, &totals) == -ESTALE && seek(where, 0, false) == -ESTALE &&
	       commit(where, NULL) == -ESTALE && !object_file_exists(where);
}

static void void_body(void)
{
	const struct where made = content(2000, 2000), truncated = content(100, 2001), grown = content(2150, 2150);
	const struct where live[] = { content(100, 1), content(100, 2300), content(1999, 1999), content(2200, 2200) };

	for (int i = 0; i < 4; i++)
		assert(write_text(live[i], 0, "live") == 0);
	assert(write_text(made, 0, "old") == 0 && write_text(at_seq(made, 7), 0, "old") == 0);
	assert(commit(made, NULL) == 0);
	assert(write_text(truncated, 0, "old") == 0 && write_text(grown, 0, "old") == 0);
	assert(read_at(content(2002, 2002), 0, (char[8]){ 0 }, 8) == 0); /* in memory, without an object */
	assert(ost_void_end(ost) == 0);
	assert(void_numbers(2000, 2100) == 0);
	assert(is_refused(made) && !object_file_exists(at_seq(made, 7)));
	assert(is_refused(truncated) && is_refused(content(2002, 2002)) && is_refused(content(2099, 2099)));
	assert(ost_void_end(ost) == 2100);
	/* Again, and a part of it. */
	assert(void_once(2000, 2100) == 0 && void_once(2000, 2050) == 0 && ost_void_end(ost) == 2100);
	assert(text_is(grown, 0, "old"));
	assert(void_numbers(2000, 2200) == 0 && is_refused(grown));
	for (int i = 0; i < 4; i++)
		assert(text_is(live[i], 0, "live") && write_text(live[i], 0, "LIVE") == 0);

	/* What makes no sense. */
	assert(void_once(5, 5) == -EINVAL && void_once(6, 5) == -EINVAL);
	assert(void_numbers(3000, 3001) == 0 && void_numbers(10, 11) == 0);
	assert(is_refused(content(1, 10)) && is_refused(content(1, 3000)) && text_is(live[0], 0, "LIVE"));
}

/* The MDT has gone on from an older copy: what it tells now lies over what it told before. */
static void overlap_body(void)
{
	const struct where kept[] = { content(100, 99), content(100, 600) };
	const struct where gone[] = { content(100, 100), content(100, 299), content(100, 301), content(100, 599) };

	assert(void_numbers(200, 210) == 0 && void_numbers(300, 301) == 0 && void_numbers(550, 560) == 0);
	for (int i = 0; i < 2; i++)
		assert(write_text(kept[i], 0, "kept") == 0);
	for (int i = 0; i < 4; i++)
		assert(write_text(gone[i], 0, "gone") == 0);
	/* Between two, from the middle of one, to that of another, and over all. */
	assert(void_once(205, 208) == 0 && text_is(gone[0], 0, "gone"));
	assert(void_numbers(205, 300) == 0 && is_refused(gone[1]) && text_is(gone[2], 0, "gone"));
	assert(void_numbers(150, 205) == 0 && text_is(gone[0], 0, "gone"));
	assert(void_numbers(100, 600) == 0 && ost_void_end(ost) == 600);
	for (int i = 0; i < 4; i++)
		assert(is_refused(gone[i]));
	assert(is_refused(content(1, 205)) && is_refused(content(1, 300)) && is_refused(content(1, 555)));
	for (int i = 0; i < 2; i++)
		assert(text_is(kept[i], 0, "kept"));
	assert(void_once(100, 600) == 0 && void_once(120, 590) == 0);
}

static void overlap_again(void)
{
	assert(ost_void_end(ost) == 600 && is_refused(content(100, 100)) && is_refused(content(100, 599)));
	assert(void_once(100, 600) == 0 && text_is(content(100, 600), 0, "kept"));
}

START_TEST(void_numbers_lie_over_others)
{
	run_bodies(overlap_body, overlap_again);
}
END_TEST

static void void_again(void)
{
	const struct where made = content(2000, 2000);

	assert(!ost->recovered && ost_void_end(ost) == 3001);
	assert(is_refused(made) && is_refused(content(2150, 2150)) && is_refused(content(1, 10)));
	assert(void_once(2000, 2200) == 0 && void_once(3000, 3001) == 0);
	assert(text_is(content(2200, 2200), 0, "LIVE"));
	/* No session of that time lives: the tombstone goes, the range stays. */
	assert(push_sessions(mdt, 2, &(const uint64_t){ SESSION + 1 }, 1, SESSION + 1) == 0);
	ost_sweep_tombstones(ost);
	assert(read_at(made, 0, (char[8]){ 0 }, 8) == -ESTALE);
	file_forget_idle(ost);
	assert(read_at(made, 0, (char[8]){ 0 }, 8) == -ESTALE);
}

START_TEST(void_numbers_make_nothing)
{
	run_bodies(void_body, void_again);
}
END_TEST

#define VOID_FILES 700

/* What is only in the index, nothing in memory. */
static void forget_all(void)
{
	assert(object_commit_all(ost) == 0);
	object_close_idle(ost);
	file_forget_idle(ost);
}

static void void_many(void)
{
	const struct where other = content(1, 1);
	int pieces = 1, err;

	for (uint64_t i = 0; i < VOID_FILES; i++) {
		assert(write_text(content(2 + i, 2 + i), 0, "live") == 0);
		assert(write_text(content(2 + i, 5000 + i), 0, "lost") == 0);
		if (i % 100 == 0)
			assert(commit(content(0, 0), NULL) == 0);
	}
	forget_all();
	for (; (err = void_once(5000, 6000)) == -EAGAIN; pieces++)
		assert(write_text(other, 0, "goes on") == 0 && ost_void_end(ost) == 0);
	assert(err == 0 && pieces > 2 && ost_void_end(ost) == 6000);
	for (uint64_t i = 0; i < VOID_FILES; i++) {
		assert(text_is(content(2 + i, 2 + i), 0, "live"));
		assert(!object_file_exists(content(2 + i, 5000 + i)));
	}
	/* Ranges that come while others are under way are swept from the beginning. */
	for (uint64_t i = 0; i < VOID_FILES; i++)
		assert(write_text(content(2 + i, 7000 + i), 0, "lost") == 0);
	forget_all();
	assert(void_once(7000, 8000) == -EAGAIN);
	assert(void_numbers(2, 3) == 0 && is_refused(content(2, 2)) && is_refused(content(2, 7000)));
	assert(!object_file_exists(content(2 + VOID_FILES - 1, 7000 + VOID_FILES - 1)));
}

START_TEST(void_numbers_go_a_piece_at_a_time)
{
	run_bodies(void_many, NULL);
}
END_TEST

static int void_result;
static bool void_over;

static void void_fiber(void *arg)
{
	(void)arg;
	void_result = void_numbers(a.gen, a.gen + 1);
	void_over = true;
}

/* A write that is inside the content, on its way to the disk, and has made its object. */
static void void_beside_write(void)
{
	gate_closed = true;
	disk_set_fault(ost->disk, wait_at_gate, NULL);
	assert(fiber_start(loop, write_fiber, NULL) == 0);
	wait_for(&in_gate);
	assert(fiber_start(loop, void_fiber, NULL) == 0);
	while (!ost_is_void(ost, a.gen))
		fiber_sleep_ms(1);
	open_gate();
	wait_for(&write_over);
	wait_for(&void_over);
	assert(void_result == 0 && !object_file_exists(a) && is_refused(a));
}

START_TEST(void_numbers_wait_for_what_runs)
{
	run_bodies(void_beside_write, NULL);
}
END_TEST

static void void_killed(void)
{
	write_four();
	disk_set_fault(ost->disk, die_at, NULL);
	(void)void_numbers(1, 2);
	abort();
}

static void after_void_killed(void)
{
	/* Nobody need tell it again for it to know. */
	assert(ost->recovered && write_text(at_seq(a, 9), 0, "x") == -ESTALE);
	assert(write_text(content(101, 1), 0, "x") == -ESTALE);
	assert(ost_void_end(ost) == 0 && void_numbers(1, 2) == 0 && ost_void_end(ost) == 2);
	for (uint64_t seq = 0; seq < 4; seq++)
		assert(!object_file_exists(at_seq(a, seq)));
	assert(ost->io_errors == 0);
}

static void void_and_die(void)
{
	write_four();
	assert(void_numbers(1, 2) == 0);
	kill_self();
}

static void after_void(void)
{
	assert(ost->recovered && ost_void_end(ost) == 2 && is_refused(a));
}

START_TEST(void_numbers_survive_a_kill)
{
	kill_at(void_killed, after_void_killed, DISK_UNLINK, 0);
	kill_at(void_killed, after_void_killed, DISK_UNLINK, 2);
	fixture_format();
	fixture_run_killed(void_and_die);
	fixture_run(after_void);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- commits beside a cut ------------------------------------------------------------------------------------------------ */

static int cut_result;
static bool cut_over;

static void cut_fiber(void *arg)
{
	cut_result = cut(*(const struct where *)arg);
	cut_over = true;
}

/* A commit of all objects ends while a cut waits for the index: what the cut takes stays out of it. */
static void commit_in_cut_body(void)
{
	struct where cut1 = with_cut(a, 1, STRIPE, UINT64_MAX);
	struct index_object row;
	MDB_txn *txn;

	for (uint64_t seq = 0; seq < 4; seq++)
		assert(write_text(at_seq(a, seq), 0, "0123456789") == 0);
	assert(mdb_txn_begin(ost->index->env, NULL, 0, &txn) == 0); /* nobody else commits to it */
	assert(fiber_start(loop, cut_fiber, &cut1) == 0);
	while (index_get_object(ost->index, a.ino, a.gen, 3, &row) == 0)
		fiber_sleep_ms(1);
	assert(object_commit_all(ost) == 0);
	mdb_txn_abort(txn);
	wait_for(&cut_over);
	assert(cut_result == 0);
	for (uint64_t seq = 1; seq < 4; seq++)
		assert(text_is(at_seq(cut1, seq), 0, ""));
	assert(write_text(at_seq(cut1, 2), 0, "new") == 0 && text_is(at_seq(cut1, 2), 0, "new"));
}

START_TEST(a_commit_brings_back_nothing_that_a_cut_takes)
{
	run_bodies(commit_in_cut_body, NULL);
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

UNIT_MAIN("ost_fence", truncates_cut_once, whoever_brings_a_newer_cut_has_it_applied, punches_leave_holes,
	  what_an_unlink_left_behind_is_empty, a_kill_in_a_cut_or_a_destroy_is_survived,
	  what_was_answered_is_known_after_a_kill, the_destroyed_stay_dead_while_somebody_may_write, big_files_go_too,
	  sessions_and_leases, a_late_table_grants_no_lease, an_eviction_waits_for_what_runs,
	  an_eviction_does_not_wait_for_descriptors, an_evicted_write_never_lands, void_numbers_make_nothing,
	  void_numbers_lie_over_others, void_numbers_go_a_piece_at_a_time, void_numbers_wait_for_what_runs,
	  void_numbers_survive_a_kill, a_commit_brings_back_nothing_that_a_cut_takes, a_resend_gets_the_first_answer,
	  a_resend_takes_the_place_of_what_runs)
