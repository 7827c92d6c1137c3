/*
 * Checkpoints: state and log together are whole at any moment. A tiny MDT appends records and applies them; it is killed
 * at random, and what the next one finds must equal a model of all that was written.
 */
#include "mds/checkpoint.h"

#include "mds/log_segment.h"
#include "tests/unit/held_disk.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS          1500
#define SEGMENT       (1024 * 1024)
#define SEGMENT_SMALL (8 * 1024)
#define VALUE_MAX     60000

static char dir[PATH_MAX];
static char error[512];
static size_t segment_size = SEGMENT;
static _Atomic time_t clock_ahead_s;

/* In place of the C library's: as if so much time had passed. */
int clock_gettime(clockid_t clock, struct timespec *time)
{
	int n = (int)syscall(SYS_clock_gettime, clock, time);

	time->tv_sec += clock_ahead_s;
	return n;
}

struct mdt {
	struct loop *loop;
	struct view *view;
	struct mdt_log *log;
	struct checkpoint *checkpoint;
	uint64_t applied, replayed;
	uint64_t notes; /* so many records are appended when one has begun */
};

/* --- what a record does: all of it follows from its index ----------------------------------------------------------- */

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 31)) * 0x9e3779b97f4a7c15;
	return x ^ (x >> 29);
}

static uint32_t key_number(uint64_t index)
{
	return (uint32_t)(mix(index) % KEYS);
}

static struct bytes key_make(uint32_t number, char out[16])
{
	return (struct bytes){ out, (size_t)snprintf(out, 16, "%06u", number) };
}

/* Size 0: the key is deleted. */
static struct bytes value_make(uint64_t index, uint8_t out[VALUE_MAX])
{
	uint64_t kind = mix(index + 1) % 8;
	size_t size = kind == 0 ? 0 : kind <= 4 ? 1 + mix(index + 2) % VALUE_MAX : 1 + mix(index + 2) % 3000;

	memset(out, (int)(index & 0xff), size);
	return (struct bytes){ out, size };
}

static void apply(struct view *view, uint64_t index)
{
	static uint8_t data[VALUE_MAX];
	struct bytes value = value_make(index, data);
	char key[16];

	if (value.size == 0)
		view_del(view, TABLE_INODE, key_make(key_number(index), key));
	else
		view_put(view, TABLE_INODE, key_make(key_number(index), key), value);
}

static void verify(struct view *view, uint64_t last)
{
	static uint64_t changed[KEYS];
	static uint8_t data[VALUE_MAX];
	struct view_cursor cursor;
	char key[16];
	int err;

	memset(changed, 0, sizeof(changed));
	for (uint64_t index = 1; index <= last; index++)
		changed[key_number(index)] = index;
	err = view_seek(view, TABLE_INODE, (struct bytes){ NULL, 0 }, &cursor);
	for (uint32_t i = 0; i < KEYS; i++) {
		struct bytes value = { NULL, 0 };

		if (changed[i])
			value = value_make(changed[i], data);
		if (value.size == 0)
			continue;
		ck_assert_int_eq(err, 0);
		ck_assert(bytes_equal(cursor.key, key_make(i, key)));
		ck_assert(bytes_equal(cursor.value, value));
		err = view_next(&cursor);
	}
	ck_assert_int_eq(err, -ENOENT);
}

/* --- the tiny MDT --------------------------------------------------------------------------------------------------- */

static int replay(void *owner, uint64_t index, const void *payload, size_t size)
{
	struct mdt *mdt = owner;

	assert(size == sizeof(index) && memcmp(payload, &index, size) == 0);
	apply(mdt->view, index);
	mdt->replayed++;
	return 0;
}

static void append(struct mdt *mdt)
{
	uint64_t index = mdt_log_last(mdt->log) + 1;

	mdt_log_append(mdt->log, &index, sizeof(index));
	apply(mdt->view, index);
}

static void begun(void *owner)
{
	struct mdt *mdt = owner;

	for (uint64_t i = 0; i < mdt->notes; i++)
		append(mdt);
}

static void mdt_start(struct mdt *mdt)
{
	const struct checkpoint_owner owner = { .owner = mdt, .begun = begun };
	struct mdt_log_config config = {
		.dir = dir,
		.target = { { 1 } },
		.segment_size = segment_size,
		.owner = mdt,
		.replay = replay,
	};
	int err;

	*mdt = (struct mdt){ .loop = NULL };
	assert(loop_new(&mdt->loop) == 0);
	err = view_open(dir, &mdt->view, &config.applied, error, sizeof(error));
	if (err == 0)
		err = mdt_log_open(mdt->loop, &config, &mdt->log, error, sizeof(error));
	ck_assert_msg(err == 0, "%s", error);
	mdt->applied = config.applied;
	ck_assert_int_eq(checkpoint_new(mdt->loop, mdt->view, mdt->log, &owner, &mdt->checkpoint), 0);
}

static void mdt_stop(struct mdt *mdt)
{
	ck_assert_ptr_null(checkpoint_free(mdt->checkpoint));
	mdt_log_close(mdt->log);
	view_close(mdt->view);
	loop_free(mdt->loop);
}

static void mdt_change(struct mdt *mdt, unsigned int count)
{
	while (count-- > 0)
		append(mdt);
	mdt_log_write(mdt->log);
	checkpoint_consider(mdt->checkpoint);
}

static void mdt_iterate(struct mdt *mdt)
{
	loop_stop(mdt->loop);
	assert(loop_run(mdt->loop) == 0);
}

/* --- tests ---------------------------------------------------------------------------------------------------------- */

START_TEST(a_run_leaves_nothing_to_replay)
{
	struct mdt mdt;

	temp_dir_make(dir);
	mdt_start(&mdt);
	checkpoint_run(mdt.checkpoint);
	mdt_change(&mdt, 500);
	ck_assert_uint_gt(view_active_bytes(mdt.view), 0);
	checkpoint_run(mdt.checkpoint);
	ck_assert_uint_eq(view_active_bytes(mdt.view), 0);
	ck_assert(!view_is_frozen(mdt.view));
	verify(mdt.view, 500);
	mdt_stop(&mdt);

	mdt_start(&mdt);
	ck_assert_uint_eq(mdt.applied, 500);
	ck_assert_uint_eq(mdt.replayed, 0);
	verify(mdt.view, 500);
	mdt_change(&mdt, 10);
	mdt_stop(&mdt); /* not a clean stop */

	mdt_start(&mdt);
	ck_assert_uint_eq(mdt.applied, 500);
	ck_assert_uint_eq(mdt.replayed, 10);
	verify(mdt.view, 510);
	mdt_iterate(&mdt);
	checkpoint_run(mdt.checkpoint);
	mdt_stop(&mdt);
	ck_assert_ptr_null(checkpoint_free(NULL));
	temp_dir_remove(dir);
}
END_TEST

START_TEST(a_big_table_starts_one)
{
	unsigned int checkpoints = 0;
	bool was_frozen = false;
	struct mdt mdt;

	temp_dir_make(dir);
	mdt_start(&mdt);
	/* At once when it is big; there is none yet. */
	while (view_active_bytes(mdt.view) + 20 * VALUE_MAX < CHECKPOINT_BYTES) {
		mdt_change(&mdt, 10);
		ck_assert(!view_is_frozen(mdt.view));
	}
	while (!view_is_frozen(mdt.view)) {
		ck_assert_uint_lt(view_active_bytes(mdt.view), CHECKPOINT_BYTES);
		mdt_change(&mdt, 10);
	}
	while (checkpoints < 4) {
		mdt_change(&mdt, 20);
		mdt_iterate(&mdt);
		if (was_frozen && !view_is_frozen(mdt.view)) {
			checkpoints++;
			verify(mdt.view, mdt_log_last(mdt.log));
		}
		was_frozen = view_is_frozen(mdt.view);
		ck_assert_uint_le(checkpoint_delay_ms(mdt.checkpoint), CHECKPOINT_DELAY_MAX);
	}
	verify(mdt.view, mdt_log_last(mdt.log));
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

START_TEST(an_old_table_starts_one)
{
	struct mdt mdt;

	temp_dir_make(dir);
	mdt_start(&mdt);
	mdt_change(&mdt, 1);
	mdt_iterate(&mdt);
	ck_assert(!view_is_frozen(mdt.view));
	clock_ahead_s = CHECKPOINT_AGE_MS / 1000;
	mdt_iterate(&mdt);
	clock_ahead_s = 0;
	ck_assert(view_is_frozen(mdt.view));
	checkpoint_run(mdt.checkpoint);
	mdt_stop(&mdt);
	mdt_start(&mdt);
	ck_assert_uint_eq(mdt.applied, 1);
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

static void wait_for_age(struct mdt *mdt)
{
	clock_ahead_s = CHECKPOINT_AGE_MS / 1000;
	mdt_iterate(mdt);
	clock_ahead_s = 0;
}

static void wait_until_stored(struct mdt *mdt)
{
	while (view_is_frozen(mdt->view))
		mdt_iterate(mdt);
}

/* What lies behind one is worth none; any record after it is, also one by which the table does not grow. */
START_TEST(what_lies_behind_one_starts_none)
{
	struct mdt mdt;
	uint64_t index = 0;

	temp_dir_make(dir);
	mdt_start(&mdt);
	mdt.notes = 1;
	mdt_change(&mdt, 1);
	checkpoint_run(mdt.checkpoint);
	ck_assert_uint_eq(mdt_log_last(mdt.log), 2);
	wait_for_age(&mdt);
	ck_assert(!view_is_frozen(mdt.view));
	checkpoint_consider(mdt.checkpoint);
	wait_for_age(&mdt);
	ck_assert(!view_is_frozen(mdt.view));

	mdt_log_append(mdt.log, &index, sizeof(index));
	mdt_log_write(mdt.log);
	checkpoint_consider(mdt.checkpoint);
	wait_for_age(&mdt);
	ck_assert(view_is_frozen(mdt.view));
	checkpoint_run(mdt.checkpoint);
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

/* One begins while nothing can be synced: it would be stored in much less than this. */
static void wait_for_the_log(struct mdt *mdt)
{
	uint64_t until_ns;

	wait_for_age(mdt);
	ck_assert(view_is_frozen(mdt->view));
	for (until_ns = clock_ns() + 500 * NSEC_PER_MSEC; clock_ns() < until_ns;) {
		mdt_iterate(mdt);
		ck_assert(view_is_frozen(mdt->view));
		sched_yield();
	}
	disk_hold(false);
	wait_until_stored(mdt);
}

/* Nothing comes into the state that the log could still lose. */
START_TEST(the_log_is_synced_first)
{
	struct mdt mdt;

	temp_dir_make(dir);
	mdt_start(&mdt);
	disk_hold(true);
	mdt_change(&mdt, 1);
	wait_for_the_log(&mdt);
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

/* Nor is what was noted behind it lost when it is not. */
START_TEST(what_lies_behind_one_is_synced_first)
{
	struct mdt mdt;

	temp_dir_make(dir);
	mdt_start(&mdt);
	mdt.notes = 1;
	mdt_change(&mdt, 1);
	mdt_log_wait(mdt.log, 1);
	disk_hold(true);
	wait_for_the_log(&mdt);
	ck_assert_uint_eq(mdt_log_durable(mdt.log), 2);
	mdt_stop(&mdt);

	mdt_start(&mdt);
	ck_assert_uint_eq(mdt.applied, 1);
	ck_assert_uint_eq(mdt.replayed, 1);
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

/* A start that may not say anything yet could note nothing. */
START_TEST(none_begins_before_it_is_asked_for)
{
	struct mdt mdt;

	temp_dir_make(dir);
	mdt_start(&mdt);
	mdt_change(&mdt, 10);
	mdt_stop(&mdt);
	mdt_start(&mdt);
	ck_assert_uint_eq(mdt.replayed, 10);
	wait_for_age(&mdt);
	ck_assert(!view_is_frozen(mdt.view));
	checkpoint_consider(mdt.checkpoint);
	wait_for_age(&mdt);
	ck_assert(view_is_frozen(mdt.view));
	wait_until_stored(&mdt);
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

/* What came while the table was stored is in the log only, and stays there. */
START_TEST(the_log_keeps_what_the_state_lacks)
{
	struct mdt mdt;

	segment_size = SEGMENT_SMALL;
	temp_dir_make(dir);
	mdt_start(&mdt);
	mdt_change(&mdt, 1);
	clock_ahead_s = CHECKPOINT_AGE_MS / 1000;
	mdt_iterate(&mdt);
	clock_ahead_s = 0;
	ck_assert(view_is_frozen(mdt.view));
	mdt_change(&mdt, 600);
	mdt_log_wait(mdt.log, 601);
	while (view_is_frozen(mdt.view))
		mdt_iterate(&mdt);
	mdt_stop(&mdt);

	mdt_start(&mdt);
	ck_assert_uint_eq(mdt.applied, 1);
	ck_assert_uint_eq(mdt.replayed, 600);
	verify(mdt.view, 601);
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

/* One may have begun: with everything up to here. */
static void note_begun(const struct mdt *mdt, bool *was_frozen, uint64_t *began)
{
	bool is_frozen = view_is_frozen(mdt->view);

	if (is_frozen && !*was_frozen)
		*began = mdt_log_last(mdt->log);
	*was_frozen = is_frozen;
}

/* However much is changed: what is left of the log, and so what a restart replays, is what came after a checkpoint began. */
START_TEST(the_log_is_cut_behind_them)
{
	const uint64_t in_a_segment = (SEGMENT_SMALL - LOG_RECORDS) / log_record_size(sizeof(uint64_t));
	unsigned int checkpoints = 0;
	bool was_frozen = false;
	uint64_t began = 0, last;
	struct mdt_log_stats stats;
	struct mdt mdt;

	segment_size = SEGMENT_SMALL;
	temp_dir_make(dir);
	mdt_start(&mdt);
	while (checkpoints < 4) {
		mdt_change(&mdt, 20);
		note_begun(&mdt, &was_frozen, &began);
		mdt_iterate(&mdt);
		checkpoints += was_frozen && !view_is_frozen(mdt.view);
		note_begun(&mdt, &was_frozen, &began);
	}
	last = mdt_log_last(mdt.log);
	ck_assert_uint_gt(began, 8 * in_a_segment);
	do { /* the log's thread is at it */
		sched_yield();
		mdt_log_stats(mdt.log, &stats);
	} while (stats.segments > (last - began) / in_a_segment + 2);
	mdt_stop(&mdt);

	mdt_start(&mdt);
	ck_assert_uint_eq(mdt.applied, began);
	ck_assert_uint_eq(mdt.replayed, last - began);
	verify(mdt.view, last);
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

/* What is noted when one has begun is in no state: it stays in the log, though segments of it end before the last of that. */
START_TEST(the_log_keeps_what_was_noted_behind_one)
{
	const uint64_t in_a_segment = (SEGMENT_SMALL - LOG_RECORDS) / log_record_size(sizeof(uint64_t));
	struct mdt mdt;

	segment_size = SEGMENT_SMALL;
	temp_dir_make(dir);
	mdt_start(&mdt);
	mdt.notes = 3 * in_a_segment;
	mdt_change(&mdt, 5);
	checkpoint_run(mdt.checkpoint);
	ck_assert_uint_eq(mdt_log_last(mdt.log), 5 + 3 * in_a_segment);
	mdt_stop(&mdt);

	mdt_start(&mdt);
	ck_assert_uint_eq(mdt.applied, 5);
	ck_assert_uint_eq(mdt.replayed, 3 * in_a_segment);
	verify(mdt.view, 5 + 3 * in_a_segment);
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

/* Into the table, past the log. */
static void put_large(struct mdt *mdt)
{
	static uint8_t value[VIEW_VALUE_MAX];
	static uint32_t key;

	view_put(mdt->view, TABLE_XATTR, (struct bytes){ &key, sizeof(key) }, (struct bytes){ value, sizeof(value) });
	key++;
}

START_TEST(admission_is_slowed_when_it_lags)
{
	const size_t mib = 1024 * 1024;
	struct mdt mdt;
	size_t bytes;

	temp_dir_make(dir);
	mdt_start(&mdt);
	while (view_active_bytes(mdt.view) <= CHECKPOINT_SLOW_BYTES) {
		ck_assert_uint_eq(checkpoint_delay_ms(mdt.checkpoint), 0);
		put_large(&mdt);
	}
	ck_assert_uint_eq(checkpoint_delay_ms(mdt.checkpoint), 1);
	mdt_change(&mdt, 1);
	checkpoint_run(mdt.checkpoint);
	ck_assert_uint_eq(checkpoint_delay_ms(mdt.checkpoint), 0);

	/* A millisecond more for each MiB, up to a bound: it goes on, slowly. */
	while ((bytes = view_active_bytes(mdt.view)) < CHECKPOINT_SLOW_BYTES + (CHECKPOINT_DELAY_MAX + 2) * mib) {
		size_t want = bytes <= CHECKPOINT_SLOW_BYTES ? 0 : 1 + (bytes - CHECKPOINT_SLOW_BYTES) / mib;

		ck_assert_uint_eq(checkpoint_delay_ms(mdt.checkpoint),
				  want < CHECKPOINT_DELAY_MAX ? want : CHECKPOINT_DELAY_MAX);
		put_large(&mdt);
	}
	mdt_stop(&mdt);
	temp_dir_remove(dir);
}
END_TEST

/* Changes and checkpoints until it is killed, by itself; tells what it has written. */
static _Noreturn void run_killed(uint64_t *shared_written, unsigned int steps)
{
	struct mdt mdt;

	mdt_start(&mdt);
	for (unsigned int i = 0; i < steps; i++) {
		mdt_change(&mdt, 10);
		*shared_written = mdt_log_last(mdt.log);
		mdt_iterate(&mdt);
		if (mix(*shared_written) % 400 == 0)
			checkpoint_run(mdt.checkpoint);
	}
	kill(getpid(), SIGKILL);
	abort();
}

START_TEST(a_killed_one_goes_on_where_it_was)
{
	uint64_t *written = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t random = 0x5eed, applied = 0;
	struct mdt mdt;
	int status;

	ck_assert_ptr_ne(written, MAP_FAILED);
	temp_dir_make(dir);
	for (int round = 0; round < 10; round++) {
		pid_t pid = fork();

		random = mix(random + 1);
		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			run_killed(written, (unsigned int)(1 + random % 400));
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

		mdt_start(&mdt);
		ck_assert_uint_ge(mdt.applied, applied);
		applied = mdt.applied;
		ck_assert_uint_eq(mdt_log_last(mdt.log), *written);
		ck_assert_uint_eq(mdt.applied + mdt.replayed, *written);
		verify(mdt.view, *written);
		if (round % 3 == 0)
			checkpoint_run(mdt.checkpoint);
		mdt_stop(&mdt);
	}
	ck_assert_uint_gt(applied, 0);
	munmap(written, 4096);
	temp_dir_remove(dir);
}
END_TEST

/* Takes all the room there is. */
static void fill(const char *path)
{
	static uint8_t data[65536];
	int fd = open(path, O_WRONLY | O_CREAT, 0600);

	ck_assert_int_ge(fd, 0);
	for (size_t size = sizeof(data); size > 0;) {
		if (write(fd, data, size) < 0)
			size /= 2;
	}
	close(fd);
}

START_TEST(a_full_filesystem_is_waited_for)
{
	char filler[PATH_MAX + 16];
	struct mdt mdt;

	temp_dir_make(dir);
	if (temp_dir_limit(dir, "40m")) {
		snprintf(filler, sizeof(filler), "%s/filler", dir);
		mdt_start(&mdt);
		mdt_change(&mdt, 100);
		checkpoint_run(mdt.checkpoint);
		ck_assert(!checkpoint_space_low(mdt.checkpoint));
		/* The segment to come is there before the room goes. */
		mdt_change(&mdt, 1);
		mdt_log_wait(mdt.log, mdt_log_last(mdt.log));
		mdt_change(&mdt, 800);
		fill(filler);
		checkpoint_run(mdt.checkpoint);
		ck_assert(checkpoint_space_low(mdt.checkpoint));
		verify(mdt.view, 901);
		mdt_change(&mdt, 10);
		checkpoint_run(mdt.checkpoint);
		ck_assert(checkpoint_space_low(mdt.checkpoint));

		ck_assert_int_eq(unlink(filler), 0);
		checkpoint_run(mdt.checkpoint);
		ck_assert(!checkpoint_space_low(mdt.checkpoint));
		verify(mdt.view, 911);
		mdt_stop(&mdt);
		mdt_start(&mdt);
		ck_assert_uint_eq(mdt.applied, 911);
		verify(mdt.view, 911);
		mdt_stop(&mdt);
		ck_assert_int_eq(umount(dir), 0);
	}
	temp_dir_remove(dir);
}
END_TEST

UNIT_MAIN("checkpoint", a_run_leaves_nothing_to_replay, a_big_table_starts_one, an_old_table_starts_one,
	  what_lies_behind_one_starts_none, the_log_is_synced_first, what_lies_behind_one_is_synced_first,
	  none_begins_before_it_is_asked_for, the_log_keeps_what_the_state_lacks, the_log_is_cut_behind_them,
	  the_log_keeps_what_was_noted_behind_one, admission_is_slowed_when_it_lags, a_killed_one_goes_on_where_it_was,
	  a_full_filesystem_is_waited_for)
