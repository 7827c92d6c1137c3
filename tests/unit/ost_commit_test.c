/*
 * COMMIT and sizes: what is on the disk when, in which order, and what a sync that fails, a kill and a lost file make of
 * it.
 */
#include "oss/ost_object.h"
#include "tests/unit/ost_io.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <semaphore.h>

static void totals_body(void)
{
	struct where third = a;
	struct totals totals;
	uint64_t one = 3;

	third.seq = 3;
	assert(glimpse(a, &totals) == 0 && totals.end == 0 && totals.blocks == 0);
	assert(commit(a, &totals) == 0 && totals.end == 0 && totals.blocks == 0);
	assert(write_text(a, 100, "x") == 0);
	assert(glimpse(a, &totals) == 0 && totals.end == 101 && totals.blocks == 8);
	assert(write_text(third, 5000, "x") == 0);
	assert(glimpse(a, &totals) == 0 && totals.end == 3 * STRIPE + 5001 && totals.blocks == 16);
	assert(commit_seqs(a, &one, 1, &totals) == 0 && totals.end == 3 * STRIPE + 5001 && totals.blocks == 16);
	assert(totals.instance == ost->instance);
	assert(commit(a, &totals) == 0 && totals.blocks == 16);
}

static void totals_again(void)
{
	struct totals totals;

	assert(glimpse(a, &totals) == 0 && totals.end == 3 * STRIPE + 5001 && totals.blocks == 16);
	assert(write_text(a, 0, "y") == 0);
	assert(glimpse(a, &totals) == 0 && totals.end == 3 * STRIPE + 5001 && totals.blocks == 16);
}

START_TEST(sizes_are_told)
{
	fixture_format();
	fixture_run(totals_body);
	fixture_run(totals_again);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* With ino 0: all files, one by one or, when they are many, with the whole filesystem. */
static void commit_everything(void)
{
	static const uint64_t counts[] = { 3, 100 };
	struct totals totals;

	for (int i = 0; i < 2; i++) {
		for (uint64_t ino = 1; ino <= counts[i]; ino++)
			assert(write_text((struct where){ .ino = ino, .gen = 1 + (uint64_t)i }, 0, "x") == 0);
		assert(commit((struct where){ .ino = 0 }, &totals) == 0 && totals.instance == ost->instance);
		for (size_t bucket = 0; bucket < OST_OBJECT_BUCKETS; bucket++) {
			if (ost->object_buckets[bucket])
				assert(!object_is_dirty(ost->object_buckets[bucket]));
		}
	}
	kill_self();
}

static void after_commit_everything(void)
{
	assert(ost->recovery.known == 103 && ost->recovery.entered == 0);
}

START_TEST(all_files_are_committed)
{
	fixture_format();
	fixture_run_killed(commit_everything);
	fixture_run(after_commit_everything);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void write_commit_and_die(void)
{
	const struct where b = { .ino = 200, .gen = 1 };
	struct write_call call = { .where = { .ino = 300, .gen = 1 },
				   .data = "synced",
				   .length = 6,
				   .session = SESSION,
				   .slot = 9,
				   .seq = 1,
				   .sync = true };

	assert(write_text(a, 0, "committed") == 0);
	assert(commit(a, NULL) == 0);
	assert(write_text(b, 0, "not committed") == 0);
	assert(write_call(&call) == 0);
	kill_self();
}

static void after_kill(void)
{
	assert(ost->recovered);
	assert(text_is(a, 0, "committed"));
	assert(text_is((struct where){ .ino = 300, .gen = 1 }, 0, "synced"));
	/* The kernel lived: this one is there too. */
	assert(ost->recovery.known == 2 && ost->recovery.entered == 1);
	assert(text_is((struct where){ .ino = 200, .gen = 1 }, 0, "not committed"));
}

static void fail_to_stop(void)
{
	assert(write_text(a, 0, "uncommitted") == 0);
	set_fault(DISK_SYNC, -EIO, 1000);
	fixture_stop_err = -EIO;
}

static void after_failed_stop(void)
{
	fixture_stop_err = 0;
	assert(ost->recovered);
}

static void after_clean(void)
{
	assert(!ost->recovered);
	assert(text_is(a, 0, "committed"));
}

START_TEST(committed_survives_a_kill)
{
	fixture_format();
	fixture_run_killed(write_commit_and_die);
	fixture_run(after_kill);
	fixture_run(after_clean);
	fixture_run(fail_to_stop);
	fixture_run(after_failed_stop);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* Pages of the object that the kernel has not written yet; -1 where it does not tell. */
static int64_t dirty_pages(struct where where)
{
	struct {
		uint64_t offset, length;
	} range = { 0, 0 };
	struct {
		uint64_t cache, dirty, writeback, evicted, recently_evicted;
	} stat = { 0 };
	char path[OBJECT_PATH_SIZE], full[PATH_MAX + OBJECT_PATH_SIZE + 16];
	int fd;
	long result;

	object_path(where.ino, where.gen, where.seq, path);
	snprintf(full, sizeof(full), "%s/objects/%s", fixture_dir, path);
	fd = open(full, O_RDONLY);
	assert(fd >= 0);
	result = syscall(SYS_cachestat, fd, &range, &stat, 0);
	close(fd);

	return result < 0 ? -1 : (int64_t)(stat.dirty + stat.writeback);
}

/* Write `count` files, and commit them by a COMMIT for `ino`. */
static void check_written(uint64_t gen, uint64_t count, uint64_t ino)
{
	int64_t before = 0;

	for (uint64_t i = 1; i <= count; i++)
		assert(write_text((struct where){ .ino = i, .gen = gen }, 0, "x") == 0);
	for (uint64_t i = 1; i <= count; i++)
		before += dirty_pages((struct where){ .ino = i, .gen = gen });
	if (before <= 0)
		printf("left out: this kernel or filesystem does not tell what is dirty\n");
	assert(commit((struct where){ .ino = ino, .gen = gen }, NULL) == 0);
	for (uint64_t i = 1; i <= count; i++)
		assert(dirty_pages((struct where){ .ino = i, .gen = gen }) <= 0);
}

static void committed_pages(void)
{
	check_written(1, 1, 1);
	check_written(2, 3, 0);
	check_written(3, 100, 0);
	assert(write_text(a, 0, "x") == 0); /* stopping commits it */
}

START_TEST(what_is_committed_is_on_the_disk)
{
	fixture_format();
	fixture_run(committed_pages);
	ck_assert_int_le(dirty_pages(a), 0);
	temp_dir_remove(fixture_dir);
}
END_TEST

static unsigned int syncs_before_row;

static int row_is_not_yet_there(void *arg, enum disk_op op)
{
	const uint64_t *change = arg;

	if (op == DISK_SYNC) {
		assert(index_last_change(ost->index) == *change);
		syncs_before_row++;
	}
	return 0;
}

/* The index knows what is durable, and its thread commits what it knows at any time: after a crash no row lacks its file. */
static void row_comes_last(void)
{
	uint64_t change = index_last_change(ost->index);

	assert(write_text(a, 0, "x") == 0);
	disk_set_fault(ost->disk, row_is_not_yet_there, &change);
	assert(commit(a, NULL) == 0 && syncs_before_row == 2);
	disk_set_fault(ost->disk, NULL, NULL);
	assert(index_last_change(ost->index) == change + 1);
}

static int written_meanwhile(void *arg, enum disk_op op)
{
	struct ost_object *object = arg;

	object->writes += op == DISK_SYNC;

	return 0;
}

static struct ost_object *object_of(struct where where)
{
	struct ost_file *file = file_find(ost, where.ino, where.gen);

	return file ? object_find(file, where.seq) : NULL;
}

static int wait_for_post(void *arg)
{
	while (sem_wait(arg) < 0) {
	}
	return 0;
}

static sem_t busy;
static bool all_committed;

static void occupy_syncer(void *arg)
{
	(void)arg;
	(void)helper_run(ost->syncer, wait_for_post, &busy);
}

static void commit_all_fiber(void *arg)
{
	(void)arg;
	assert(commit((struct where){ .ino = 0 }, NULL) == 0);
	all_committed = true;
}

/* A new object's folder is synced with it, once; what is written while a sync runs waits for the next. */
static void commit_steps(void)
{
	struct where many = { .gen = 5 };
	uint64_t change;

	syncs = 0;
	assert(write_text(a, 0, "x") == 0);
	disk_set_fault(ost->disk, count_syncs, NULL);
	assert(commit(a, NULL) == 0 && syncs == 2);
	assert(write_text(a, 0, "y") == 0 && commit(a, NULL) == 0 && syncs == 3);
	assert(commit(a, NULL) == 0 && syncs == 3);

	assert(write_text(a, 0, "z") == 0);
	disk_set_fault(ost->disk, written_meanwhile, object_of(a));
	assert(commit(a, NULL) == 0 && object_is_dirty(object_of(a)));
	disk_set_fault(ost->disk, NULL, NULL);
	assert(commit(a, NULL) == 0 && !object_is_dirty(object_of(a)));

	for (many.ino = 1; many.ino <= 100; many.ino++)
		assert(write_text(many, 0, "x") == 0);
	many.ino = 1;
	change = index_last_change(ost->index);
	sem_init(&busy, 0, 0);
	assert(fiber_start(loop, occupy_syncer, NULL) == 0);
	assert(fiber_start(loop, commit_all_fiber, NULL) == 0);
	while (!ost->all_sync.running)
		fiber_sleep_ms(1);
	assert(write_text(many, 0, "y") == 0);
	assert(index_last_change(ost->index) == change);
	sem_post(&busy);
	while (!all_committed)
		fiber_sleep_ms(1);
	assert(index_last_change(ost->index) == change + 100);
	assert(object_is_dirty(object_of(many)));
	many.ino = 2;
	assert(!object_is_dirty(object_of(many)));
}

START_TEST(a_row_comes_when_its_file_is_durable)
{
	fixture_format();
	fixture_run(row_comes_last);
	temp_dir_remove(fixture_dir);
}
END_TEST

static struct fiber_queue held;
static unsigned int commits_over;
static bool first_is_held;

static int hold_the_first(void *arg, enum disk_op op)
{
	(void)arg;
	if (op == DISK_SYNC && ++syncs == 1)
		while (first_is_held)
			fiber_wait(&held, NULL);

	return 0;
}

static void commit_fiber(void *arg)
{
	(void)arg;
	assert(commit(a, NULL) == 0);
	commits_over++;
}

/* Who comes while a sync runs is not answered by it, but by one that begins after he has come. */
static void two_commits(void)
{
	char got[8];

	assert(write_text(a, 0, "x") == 0 && commit(a, NULL) == 0 && write_text(a, 0, "y") == 0);
	syncs = 0;
	first_is_held = true;
	disk_set_fault(ost->disk, hold_the_first, NULL);
	assert(fiber_start(loop, commit_fiber, NULL) == 0);
	while (syncs == 0)
		fiber_sleep_ms(1);
	assert(write_text(a, 1, "z") == 0);
	assert(fiber_start(loop, commit_fiber, NULL) == 0);
	fiber_yield();
	assert(read_at(a, 0, got, sizeof(got)) == 2); /* the OST has met the second, too */
	first_is_held = false;
	fiber_wake_all(&held);
	while (commits_over < 2)
		fiber_sleep_ms(1);
	assert(syncs == 2 && !object_is_dirty(object_of(a)));
}

START_TEST(a_commit_covers_what_came_before_it)
{
	fixture_format();
	fixture_run(commit_steps);
	fixture_run(two_commits);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void failed_sync(void)
{
	struct write_call call = { .where = a, .data = "x", .length = 1, .session = SESSION, .slot = 3, .seq = 1 };
	struct mgs_capacity capacity;
	struct totals totals;

	assert(write_call(&call) == 0);
	ost_capacity(ost, &capacity);
	assert(capacity.state == STRAKE__TARGET_STATE__TARGET_UP && capacity.bytes_total > 0);
	set_fault(DISK_SYNC, -EIO, 1);
	assert(commit(a, &totals) == -EIO);
	/* What may be lost is sent again: its instance is gone, whatever the next commit says. */
	assert(commit(a, &totals) == 0 && totals.instance != call.instance);
	ost_capacity(ost, &capacity);
	assert(capacity.state == STRAKE__TARGET_STATE__TARGET_DEGRADED);
	/* Its folder is synced only once, its bytes with each commit. */
	assert(write_text(a, 0, "y") == 0);
	set_fault(DISK_SYNC, -EIO, 1);
	assert(commit(a, &totals) == -EIO);
}

/* Of many at once likewise. */
static void failed_syncfs(void)
{
	uint64_t before = ost->instance;
	int dir = ost->objects_dir;

	for (uint64_t ino = 1; ino <= 100; ino++)
		assert(write_text((struct where){ .ino = ino, .gen = 6 }, 0, "x") == 0);
	ost->objects_dir = -1;
	assert(commit((struct where){ .ino = 0 }, NULL) == -EIO && ost->instance != before);
	ost->objects_dir = dir;
	assert(object_is_dirty(object_of((struct where){ .ino = 1, .gen = 6 })));
	assert(commit((struct where){ .ino = 0 }, NULL) == 0);
}

static int sync_fails_meanwhile(void *arg, enum disk_op op)
{
	if (op == DISK_WRITE)
		ost_new_instance(arg);
	return 0;
}

/* What a sync that failed meanwhile may have lost must not look like the new instance's. */
static void instance_before(void)
{
	struct write_call call = { .where = a, .data = "x", .length = 1, .session = SESSION, .slot = 3, .seq = 1 };
	uint64_t before = ost->instance;

	disk_set_fault(ost->disk, sync_fails_meanwhile, ost);
	assert(write_call(&call) == 0);
	assert(ost->instance != before && call.instance == before);
}

START_TEST(a_failed_sync_changes_the_instance)
{
	fixture_format();
	fixture_run(failed_sync);
	fixture_run(failed_syncfs);
	fixture_run(instance_before);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void lose_a_file(void)
{
	char path[OBJECT_PATH_SIZE];

	assert(write_text(a, 0, "x") == 0 && commit(a, NULL) == 0);
	object_path(a.ino, a.gen, a.seq, path);
	assert(unlinkat(ost->objects_dir, path, 0) == 0);
}

static void lost_file(void)
{
	struct where half = a;
	struct totals totals;
	char got[8];

	assert(read_at(a, 0, got, sizeof(got)) == -EIO);
	assert(write_text(a, 0, "x") == -EIO);
	assert(glimpse(a, &totals) == 0 && totals.end == 0);

	/* It has nothing left to cut: a truncate within it must not stay undone for ever. */
	half.cut = 1;
	half.cut_start = 4096;
	half.cut_end = UINT64_MAX;
	assert(cut(half) == 0);
	assert(read_at(half, 0, got, sizeof(got)) == -EIO);
	half.cut = 2;
	half.cut_start = 0;
	assert(cut(half) == 0);
	assert(read_at(half, 0, got, sizeof(got)) == 0);
}

/* Nor anything to unlink. */
static void lost_and_destroyed(void)
{
	const uint64_t ino = 78, gen = 1;
	struct where where = { .ino = ino, .gen = gen };
	char path[OBJECT_PATH_SIZE];

	assert(write_text(where, 0, "x") == 0 && commit(where, NULL) == 0);
	object_path(ino, gen, 0, path);
	assert(unlinkat(ost->objects_dir, path, 0) == 0);
	assert(destroy(&ino, &gen, 1, SESSION) == 0 && ost->io_errors == 0);
}

START_TEST(a_lost_object_is_an_error)
{
	fixture_format();
	fixture_run(lose_a_file);
	fixture_run(lost_file);
	fixture_run(lost_and_destroyed);
	temp_dir_remove(fixture_dir);
}
END_TEST

UNIT_MAIN("ost_commit", sizes_are_told, all_files_are_committed, committed_survives_a_kill,
	  what_is_committed_is_on_the_disk, a_row_comes_when_its_file_is_durable, a_commit_covers_what_came_before_it,
	  a_failed_sync_changes_the_instance, a_lost_object_is_an_error)
