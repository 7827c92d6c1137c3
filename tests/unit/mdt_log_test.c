/* The log: what is appended comes back, whatever the segments and the stops; durable is told; a full filesystem. */
#include "common/fd_io.h"
#include "mds/mdt_log.h"

#include "mds/log_dir.h"
#include "tests/unit/held_disk.h"
#include "tests/unit/log_records.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEGMENT     (16 * 1024)
#define RECORDS_MAX 20000

static const struct uuid target = { { 1, 2, 3 } };

static char dir[PATH_MAX], path[PATH_MAX + 64];
static char error[512];
static struct loop *loop;

static uint64_t stop_at;

static void durable(void *owner, uint64_t index)
{
	assert(owner == &stop_at);
	if (index >= stop_at)
		loop_stop(loop);
}

static struct mdt_log_config config_make(uint64_t applied)
{
	replayed_first = replayed_last = 0;
	return (struct mdt_log_config){
		.dir = dir,
		.target = target,
		.applied = applied,
		.segment_size = SEGMENT,
		.owner = &stop_at,
		.replay = replay_record,
		.durable = durable,
	};
}

static struct mdt_log *open_with(const struct mdt_log_config *config)
{
	struct mdt_log *log;
	int err = mdt_log_open(loop, config, &log, error, sizeof(error));

	ck_assert_msg(err == 0, "%s", error);
	return log;
}

static struct mdt_log *open_good(uint64_t applied)
{
	struct mdt_log_config config = config_make(applied);

	return open_with(&config);
}

/* ... and it must end with that record, having replayed all above applied. */
static struct mdt_log *reopen(uint64_t applied, uint64_t last)
{
	struct mdt_log *log = open_good(applied);

	ck_assert_uint_eq(mdt_log_last(log), last);
	ck_assert_uint_eq(mdt_log_durable(log), last);
	ck_assert_uint_eq(replayed_last, applied < last ? last : 0);
	ck_assert_uint_eq(replayed_first, applied < last ? applied + 1 : 0);
	return log;
}

static void append(struct mdt_log *log, unsigned int count)
{
	uint8_t payload[PAYLOAD_MAX];

	while (count-- > 0) {
		uint64_t next = mdt_log_last(log) + 1;

		ck_assert_uint_eq(mdt_log_append(log, payload, payload_make(next, payload)), next);
	}
}

static void begin(void)
{
	ck_assert_int_eq(loop_new(&loop), 0);
	temp_dir_make(dir);
}

static void end(void)
{
	temp_dir_remove(dir);
	loop = loop_free(loop);
}

static const char *file_path(const char *name)
{
	snprintf(path, sizeof(path), "%s/log/%s", dir, name);
	return path;
}

static const char *segment_path(uint64_t first)
{
	char name[LOG_NAME_SIZE];

	return file_path(log_name(first, name));
}

/* Segments in the folder, next.seg not counted; the lowest first index. */
static unsigned int segments_count(uint64_t *ret_first)
{
	struct log_dir log_dir;
	uint64_t *firsts;
	size_t count;

	ck_assert_int_eq(log_dir_open(dir, &log_dir, error, sizeof(error)), 0);
	ck_assert_int_eq(log_dir_list(&log_dir, &firsts, &count, error, sizeof(error)), 0);
	if (ret_first)
		*ret_first = firsts[0];
	free(firsts);
	log_dir_close(&log_dir);
	return (unsigned int)count;
}

/* --- life ----------------------------------------------------------------------------------------------------------- */

START_TEST(what_was_appended_comes_back)
{
	struct mdt_log_stats stats;
	struct mdt_log *log;

	begin();
	log = reopen(0, 0);
	append(log, 10);
	ck_assert_uint_eq(mdt_log_last(log), 10);
	mdt_log_write(log);
	append(log, 5);
	mdt_log_stats(log, &stats);
	ck_assert_uint_eq(stats.records, 15);
	ck_assert_uint_eq(stats.writes, 1);
	ck_assert_uint_eq(stats.segments, 1);
	ck_assert_uint_eq(stats.dropped, 0);
	ck_assert_ptr_null(mdt_log_close(log));
	ck_assert_ptr_null(mdt_log_close(NULL));

	log = reopen(0, 15);
	append(log, 1);
	mdt_log_close(log);
	log = reopen(7, 16);
	mdt_log_close(log);
	log = reopen(16, 16);
	mdt_log_close(log);
	end();
}
END_TEST

START_TEST(starting_again_and_again_adds_no_files)
{
	begin();
	mdt_log_close(reopen(0, 0));
	mdt_log_close(reopen(0, 0));
	ck_assert_uint_eq(segments_count(NULL), 1);
	for (int i = 0; i < 5; i++) {
		struct mdt_log *log = reopen(0, (uint64_t)i);

		append(log, 1);
		mdt_log_close(log);
		mdt_log_close(reopen(0, (uint64_t)i + 1));
		mdt_log_close(reopen(0, (uint64_t)i + 1));
	}
	ck_assert_uint_eq(segments_count(NULL), 6);
	end();
}
END_TEST

START_TEST(segments_follow_each_other)
{
	struct mdt_log_stats stats;
	struct mdt_log *log;
	uint64_t last, first;

	begin();
	log = open_good(0);
	for (int i = 0; i < 200; i++) {
		append(log, 1 + draw(40));
		if (draw(3) == 0)
			mdt_log_write(log);
		if (draw(20) == 0)
			mdt_log_wait(log, mdt_log_durable(log));
	}
	mdt_log_stats(log, &stats);
	ck_assert_uint_gt(stats.segments, 10);
	last = mdt_log_last(log);
	mdt_log_close(log);
	ck_assert_uint_eq(segments_count(NULL), stats.segments);

	/* Trimmed, the records above are all still there. */
	log = reopen(last / 2, last);
	mdt_log_trim(log, last / 2);
	mdt_log_close(log);
	ck_assert_uint_gt(segments_count(&first), 3);
	ck_assert_uint_gt(first, 1);
	ck_assert_uint_le(first, last / 2 + 1);
	log = reopen(first - 1, last);

	/* Never the current one. */
	mdt_log_trim(log, last);
	mdt_log_close(log);
	ck_assert_uint_eq(segments_count(&first), 1);
	ck_assert_uint_eq(first, last + 1);
	log = reopen(last, last);
	append(log, 3);
	mdt_log_close(log);
	mdt_log_close(reopen(last, last + 3));
	end();
}
END_TEST

START_TEST(a_kept_log_is_not_trimmed)
{
	struct mdt_log_config config;
	struct mdt_log *log;
	uint64_t last;

	begin();
	config = config_make(0);
	config.keep = true;
	log = open_with(&config);
	append(log, 2000);
	last = mdt_log_last(log);
	mdt_log_trim(log, last);
	mdt_log_close(log);
	mdt_log_close(reopen(0, last));
	end();
}
END_TEST

START_TEST(a_record_fills_a_segment)
{
	static uint8_t payload[SEGMENT];
	struct mdt_log *log;

	begin();
	log = open_good(0);
	for (int i = 0; i < 3; i++)
		mdt_log_append(log, payload, SEGMENT - LOG_RECORDS - LOG_RECORD_HEAD);
	mdt_log_close(log);
	ck_assert_uint_eq(segments_count(NULL), 3);
	end();
}
END_TEST

/* --- durable -------------------------------------------------------------------------------------------------------- */

START_TEST(durable_is_told_on_the_loop)
{
	struct mdt_log *log;

	begin();
	log = open_good(0);
	append(log, 3);
	stop_at = 3;
	mdt_log_sync(log, 3);
	mdt_log_write(log);
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(mdt_log_durable(log), 3);

	/* Unasked too. */
	append(log, 2);
	mdt_log_write(log);
	stop_at = 5;
	ck_assert_int_eq(loop_run(loop), 0);
	ck_assert_uint_eq(mdt_log_durable(log), 5);

	/* Asked for after it was written. */
	append(log, 1);
	mdt_log_write(log);
	mdt_log_sync(log, 6);
	stop_at = 6;
	ck_assert_int_eq(loop_run(loop), 0);
	mdt_log_close(log);
	end();
}
END_TEST

static void *wait_for_it(void *arg)
{
	struct mdt_log *log = arg;

	for (uint64_t index = 1; index <= RECORDS_MAX; index += 97) {
		mdt_log_wait(log, index);
		assert(mdt_log_durable(log) >= index);
	}
	return NULL;
}

/* For the thread sanitizer as much: an appending loop, two who wait, trimming, small segments. */
START_TEST(threads_go_together)
{
	struct mdt_log_stats stats;
	pthread_t threads[2];
	struct mdt_log *log;
	uint64_t first;

	begin();
	log = open_good(0);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_for_it, log), 0);
	while (mdt_log_last(log) < RECORDS_MAX + 100) {
		append(log, 1 + draw(100));
		mdt_log_write(log);
		if (draw(10) == 0)
			mdt_log_sync(log, mdt_log_last(log));
		if (draw(30) == 0)
			mdt_log_trim(log, mdt_log_durable(log) / 2);
		mdt_log_stats(log, &stats);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	first = mdt_log_last(log);
	mdt_log_close(log);
	mdt_log_close(reopen(RECORDS_MAX, first));
	end();
}
END_TEST

/* A sync says nothing of what is written after it has begun. */
START_TEST(durable_is_what_was_synced)
{
	struct mdt_log *log;

	begin();
	log = open_good(0);
	disk_hold(true);
	append(log, 3);
	mdt_log_write(log);
	mdt_log_sync(log, 3);
	while (!disk_is_waited_for())
		sched_yield();
	append(log, 2);
	mdt_log_write(log);
	ck_assert_uint_eq(mdt_log_durable(log), 0);
	disk_pass_one();
	while (mdt_log_durable(log) == 0)
		sched_yield();
	ck_assert_uint_eq(mdt_log_durable(log), 3);
	disk_hold(false);
	mdt_log_wait(log, 5);
	mdt_log_close(log);
	end();
}
END_TEST

/* Files are there after a loss of power, whole, and under the names that they were given. */
START_TEST(names_come_after_what_they_name)
{
	char log_path[PATH_MAX + 64];
	struct mdt_log *log;
	unsigned int named = 0;
	ino_t folder;

	begin();
	disk_event_count = 0;
	log = open_good(0);
	append(log, 2000);
	mdt_log_close(log);
	snprintf(log_path, sizeof(log_path), "%s/log", dir);
	folder = disk_ino(log_path);
	for (size_t i = 0; i < disk_event_count; i++) {
		ino_t ino = disk_events[i].ino;
		bool is_new = disk_find(0, DISK_SYNCED, ino) == i;

		if (ino == folder)
			continue;
		/* New, or by another name: the folder is next. Before its name comes what it has, and first of all room. */
		if (is_new || disk_events[i].kind == DISK_NAMED) {
			ck_assert_uint_lt(i + 1, disk_event_count);
			ck_assert_uint_eq(disk_events[i + 1].ino, folder);
		}
		if (disk_events[i].kind == DISK_NAMED) {
			ck_assert_uint_lt(disk_find(disk_find(0, DISK_SYNCED, ino) + 1, DISK_SYNCED, ino), i);
			named++;
		}
	}
	ck_assert_uint_gt(named, 3);
	end();
}
END_TEST

/* What is left over as next.seg becomes zeros: nothing of it is taken for a segment once more. */
START_TEST(a_left_over_next_is_zeroed)
{
	static uint8_t garbage[SEGMENT], data[SEGMENT];
	struct log_dir log_dir;
	int fd;

	begin();
	ck_assert_int_eq(log_dir_open(dir, &log_dir, error, sizeof(error)), 0);
	memset(garbage, 0x77, sizeof(garbage));
	for (size_t size = SEGMENT - 1; size <= SEGMENT; size++) {
		fd = open(file_path("next.seg"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
		ck_assert_int_eq(write(fd, garbage, size), (ssize_t)size);
		close(fd);
		ck_assert_int_eq(log_dir_make_next(&log_dir, SEGMENT, &fd), 0);
		ck_assert_int_eq(fd_pread_all(fd, data, SEGMENT, 0), 0);
		close(fd);
		for (size_t i = 0; i < SEGMENT; i++)
			ck_assert_uint_eq(data[i], 0);
	}
	log_dir_close(&log_dir);
	end();
}
END_TEST

/* --- a disk that fails ---------------------------------------------------------------------------------------------- */

/* The process ends with a last word: nobody is answered after it. */
static void expect_death(void (*break_disk)(void))
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct mdt_log *log = open_good(0);

		append(log, 1);
		mdt_log_write(log);
		mdt_log_wait(log, 1);
		break_disk();
		append(log, 1);
		mdt_log_write(log);
		mdt_log_wait(log, 2);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void fail_syncs(void)
{
	disk_failing = true;
}

static void fail_writes(void)
{
	const struct rlimit limit = { LOG_RECORDS, LOG_RECORDS };

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

START_TEST(a_disk_that_fails_ends_the_process)
{
	begin();
	expect_death(fail_syncs);
	expect_death(fail_writes);
	end();
}
END_TEST

/* --- a crash -------------------------------------------------------------------------------------------------------- */

/* Append and write in a process that is killed. */
static void append_killed(unsigned int count, bool sync)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct mdt_log *log = open_good(0);

		append(log, count);
		mdt_log_write(log);
		if (sync)
			mdt_log_wait(log, mdt_log_last(log));
		append(log, 10); /* not written: never answered */
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

START_TEST(a_killed_process_loses_nothing_written)
{
	uint64_t last = 0;

	begin();
	for (unsigned int i = 0; i < 8; i++) {
		append_killed(1 + 150 * i, i % 2 == 0);
		last += 1 + 150 * i;
		/* All the segments it went through count, and so does one that had no name yet. */
		mdt_log_close(reopen(0, last));
	}
	end();
}
END_TEST

START_TEST(a_segment_without_its_name_gets_it)
{
	char next[PATH_MAX + 64];
	struct mdt_log *log;
	ino_t segment;

	begin();
	log = open_good(0);
	append(log, 4);
	mdt_log_close(log);
	snprintf(next, sizeof(next), "%s", file_path("next.seg"));
	ck_assert_int_eq(rename(segment_path(1), next), 0);
	disk_event_count = 0;
	log = reopen(0, 4);
	segment = disk_ino(segment_path(1));
	ck_assert_uint_lt(disk_find(0, DISK_SYNCED, segment), disk_find(0, DISK_NAMED, segment));
	append(log, 4);
	mdt_log_close(log);

	/* A start that was cut short before it replaced a segment without records: such a next.seg is void. */
	log = reopen(0, 8);
	mdt_log_close(log);
	snprintf(next, sizeof(next), "%s", file_path("next.seg"));
	unlink(next);
	ck_assert_int_eq(link(segment_path(9), next), 0);
	mdt_log_close(reopen(0, 8));
	end();
}
END_TEST

/* --- without a crash ------------------------------------------------------------------------------------------------- */

static void flip_byte(const char *file, off_t offset)
{
	int fd = open(file, O_RDWR);
	uint8_t byte;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, &byte, 1, offset), 1);
	byte ^= 1;
	ck_assert_int_eq(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

/* Damage to what was synced is found even where no record came after it to say so. */
START_TEST(a_pause_is_noted)
{
	struct mdt_log_config config;
	struct mdt_log *log;

	begin();
	log = open_good(0);
	append(log, 5);
	mdt_log_close(log);
	flip_byte(segment_path(1), LOG_RECORDS + LOG_RECORD_HEAD);
	config = config_make(0);
	ck_assert_int_eq(mdt_log_open(loop, &config, &log, error, sizeof(error)), -EBADMSG);
	ck_assert_msg(strstr(error, "0000000000000001.seg: record 1 at offset 4096") != NULL, "%s", error);
	end();
}
END_TEST

/* While it is appended to, the records themselves say what is synced. */
START_TEST(records_say_what_is_synced)
{
	struct mdt_log_config config;
	struct mdt_log *log;
	pid_t pid;
	int status;

	begin();
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		log = open_good(0);
		append(log, 5);
		mdt_log_write(log);
		mdt_log_wait(log, 5);
		append(log, 1);
		mdt_log_write(log);
		kill(getpid(), SIGKILL);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	flip_byte(segment_path(1), LOG_RECORDS + LOG_RECORD_HEAD);
	config = config_make(0);
	ck_assert_int_eq(mdt_log_open(loop, &config, &log, error, sizeof(error)), -EBADMSG);
	end();
}
END_TEST

/* --- a full filesystem ---------------------------------------------------------------------------------------------- */

static void fill_segment(struct mdt_log *log)
{
	struct mdt_log_stats before, now;

	mdt_log_stats(log, &before);
	do {
		append(log, 1);
		mdt_log_write(log);
		mdt_log_stats(log, &now);
	} while (now.segments == before.segments);
}

static void low_until(struct mdt_log *log, bool low)
{
	while (mdt_log_space_low(log) != low)
		sched_yield();
}

START_TEST(a_full_filesystem_is_told_before_it_ends)
{
	struct mdt_log *log;
	uint64_t last;

	begin();
	if (temp_dir_limit(dir, "52k")) { /* room for three segments and a bit */
		log = open_good(0);
		fill_segment(log);
		ck_assert(!mdt_log_space_low(log));
		fill_segment(log); /* the third one: there is no fourth */
		low_until(log, true);

		/* Room again: tried at once. */
		last = mdt_log_last(log);
		mdt_log_wait(log, last);
		mdt_log_trim(log, last);
		low_until(log, false);
		fill_segment(log);
		last = mdt_log_last(log);
		mdt_log_close(log);

		/* A restart finds room in what was prepared. */
		log = open_good(last);
		ck_assert_uint_eq(mdt_log_last(log), last);
		mdt_log_close(log);
		ck_assert_int_eq(umount(dir), 0);
	}
	end();
}
END_TEST

START_TEST(full_and_no_next_ends_the_process)
{
	int status;
	pid_t pid;

	begin();
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		struct mdt_log *log;

		if (!temp_dir_limit(dir, "52k"))
			abort(); /* as if */
		log = open_good(0);
		for (int i = 0; i < 4; i++)
			fill_segment(log);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	end();
}
END_TEST

UNIT_MAIN("mdt_log", what_was_appended_comes_back, starting_again_and_again_adds_no_files, segments_follow_each_other,
	  a_kept_log_is_not_trimmed, a_record_fills_a_segment, durable_is_told_on_the_loop, threads_go_together,
	  durable_is_what_was_synced, names_come_after_what_they_name, a_left_over_next_is_zeroed,
	  a_disk_that_fails_ends_the_process, a_killed_process_loses_nothing_written,
	  a_segment_without_its_name_gets_it, a_pause_is_noted, records_say_what_is_synced,
	  a_full_filesystem_is_told_before_it_ends, full_and_no_next_ends_the_process)
