/*
 * READ, WRITE and SEEK of an OST, over the wire: what is written is read, what is wrong is refused, and a disk that fails or
 * is full.
 */
#include "tests/unit/ost_io.h"
#include "tests/unit/synced_database.h"
#include "tests/unit/unit.h"

#include <sys/mount.h>

static void read_write(void)
{
	char got[64];

	assert(read_at(a, 0, got, sizeof(got)) == 0); /* absent: a hole */
	assert(write_text(a, 10, "hello") == 0);
	assert(read_at(a, 0, got, sizeof(got)) == 15);
	assert(memcmp(got, "\0\0\0\0\0\0\0\0\0\0hello", 15) == 0);
	assert(text_is(a, 12, "llo"));
	assert(read_at(a, 15, got, sizeof(got)) == 0);
	assert(write_text(a, 8, "HEAVEN") == 0);
	assert(text_is(a, 8, "HEAVENo"));
	assert(read_at((struct where){ .ino = 100, .gen = 1, .seq = 1 }, 0, got, sizeof(got)) == 0);
	assert(read_at((struct where){ .ino = 100, .gen = 2 }, 0, got, sizeof(got)) == 0);
	assert(read_at(a, STRIPE - 4, got, 4) == 0);
}

START_TEST(writes_are_read_back)
{
	fixture_format();
	fixture_run(read_write);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void refusals(void)
{
	uint8_t *data = pattern(STRIPE + 1, 1);
	struct where bad = a;
	char got[8];

	assert(write_at(a, 1, data, STRIPE) == -EINVAL);
	assert(write_at(a, STRIPE, data, 1) == -EINVAL);
	assert(write_at(a, UINT32_MAX, data, 1) == -EINVAL);
	assert(write_at(a, 0, data, 0) == -EINVAL);
	assert(read_at(a, 1, data, STRIPE) == -EINVAL);
	assert(read_at(a, UINT32_MAX, got, 4) == -EINVAL);
	bad.stripe = STRIPE + 1;
	assert(write_text(bad, 0, "x") == -EINVAL);
	bad.stripe = UINT64_C(1) << 40;
	assert(read_at(bad, 0, got, 4) == -EINVAL);
	bad = (struct where){ .ino = 0, .gen = 1 };
	assert(write_text(bad, 0, "x") == -EINVAL);
	bad = (struct where){ .ino = 5, .gen = 1, .seq = UINT64_MAX / 2 };
	assert(write_text(bad, 0, "x") == -EINVAL);
	assert(write_text(a, 0, "x") == 0);
	bad = a;
	bad.stripe = 2 * STRIPE; /* not what the file has */
	assert(write_text(bad, 0, "x") == -EINVAL);
	bad = a;
	bad.cut = 1;
	bad.cut_start = 5;
	bad.cut_end = 5;
	assert(read_at(bad, 0, got, 4) == -EINVAL);
	free(data);
}

START_TEST(nonsense_is_refused)
{
	fixture_format();
	fixture_run(refusals);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void bad_sums(void)
{
	struct write_call call = {
		.where = a, .data = "hello", .length = 5, .session = SESSION, .slot = 2, .seq = 1, .bad_sum = true
	};

	assert(write_call(&call) == -EBADMSG);
	assert(!object_file_exists(a));
	call.bad_sum = false; /* the same request, whole this time */
	assert(write_call(&call) == 0);
	assert(text_is(a, 0, "hello"));
}

START_TEST(wrong_sums_store_nothing)
{
	fixture_format();
	fixture_run(bad_sums);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* Large and small, aligned and not, direct and buffered: what was written last is read. */
static void random_io(void)
{
	const struct where big = { .ino = 7, .gen = 1, .stripe = 4 * MIB };
	unsigned int seed = 12345;
	uint8_t *model = calloc(1, 4 * MIB), *data = pattern(MIB + 4096, 3), *got = malloc(MIB);
	size_t end = 0;

	for (int round = 0; round < 300; round++) {
		bool aligned = rand_r(&seed) % 2 == 0;
		size_t length = 1 + (size_t)rand_r(&seed) % MIB;
		size_t offset = (size_t)rand_r(&seed) % (4 * MIB - MIB), from = (size_t)rand_r(&seed) % 4096;

		if (aligned) {
			length = (length + 4095) & ~(size_t)4095;
			offset &= ~(size_t)4095;
		}
		if (rand_r(&seed) % 2) {
			assert(write_at(big, (uint32_t)offset, data + from, length) == 0);
			memcpy(model + offset, data + from, length);
			end = offset + length > end ? offset + length : end;
		} else {
			size_t want = offset >= end ? 0 : end - offset < length ? end - offset : length;

			assert(read_options(big, (uint32_t)offset, got, length, rand_r(&seed) % 2) == (int)want);
			assert(memcmp(got, model + offset, want) == 0);
		}
	}
	assert(!ost->direct_refused || fixture_config.direct == OST_DIRECT_NO);
	free(model);
	free(data);
	free(got);
}

START_TEST(random_reads_and_writes)
{
	static const enum ost_direct modes[] = { OST_DIRECT_AUTO, OST_DIRECT_NO, OST_DIRECT_YES };

	for (size_t i = 0; i < 3; i++) {
		fixture_format();
		fixture_config.direct = modes[i];
		fixture_run(random_io);
		temp_dir_remove(fixture_dir);
	}
}
END_TEST

/* A filesystem that refuses O_DIRECT after all: the write is made the other way. */
static void direct_refused(void)
{
	uint8_t *data = pattern(MIB, 7), *got = malloc(MIB);
	struct where big = { .ino = 8, .gen = 1, .stripe = MIB };

	set_fault(DISK_WRITE, -EINVAL, 1);
	assert(write_at(big, 0, data, MIB) == 0 && ost->direct_refused && ost->io_errors == 0);
	assert(read_at(big, 0, got, MIB) == MIB && memcmp(got, data, MIB) == 0);
	free(data);
	free(got);
}

static void disk_errors(void)
{
	char got[8];

	assert(write_text(a, 0, "good") == 0);
	set_fault(DISK_READ, -EIO, 1);
	assert(read_at(a, 0, got, sizeof(got)) == -EIO);
	assert(text_is(a, 0, "good"));
	set_fault(DISK_WRITE, -EIO, 1);
	assert(write_text(a, 0, "GOOD") == -EIO);
	set_fault(DISK_WRITE, -ENOSPC, 1);
	assert(write_text(a, 0, "GOOD") == -ENOSPC);
	set_fault(DISK_OPEN, -EIO, 1);
	assert(write_text((struct where){ .ino = 77, .gen = 1 }, 0, "x") == -EIO);
	assert(write_text((struct where){ .ino = 77, .gen = 1 }, 0, "x") == 0);
}

/* A disk that has become read-only, or whose filesystem is damaged: it gets no new files, and the error is one of I/O. */
static void disk_refuses(void)
{
	static const int refusals[] = { -EROFS, -EUCLEAN, -EACCES };
	struct mgs_capacity capacity;
	char got[8];

	ost_capacity(ost, &capacity);
	assert(capacity.state == STRAKE__TARGET_STATE__TARGET_UP);
	set_fault(DISK_OPEN, -EROFS, 1);
	assert(read_at(a, 0, got, sizeof(got)) == -EIO);
	ost_capacity(ost, &capacity);
	assert(capacity.state == STRAKE__TARGET_STATE__TARGET_DEGRADED);
	assert(text_is(a, 0, "good"));
	for (uint64_t i = 0; i < sizeof(refusals) / sizeof(*refusals); i++) {
		set_fault(DISK_OPEN, refusals[i], 1);
		assert(write_text((struct where){ .ino = 80 + i, .gen = 1 }, 0, "x") == -EIO);
		assert(ost->io_errors == 2 + i);
	}
	set_fault(DISK_OPEN, -EDQUOT, 1);
	assert(write_text((struct where){ .ino = 90, .gen = 1 }, 0, "x") == -EDQUOT && ost->io_errors == 4);
}

START_TEST(disk_errors_are_the_objects)
{
	fixture_format();
	fixture_run(disk_errors);
	fixture_run(disk_refuses);
	fixture_run(direct_refused);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void seeking(void)
{
	uint8_t *data = pattern(8192, 5);
	struct where full = { .ino = 101, .gen = 1 }, odd = { .ino = 102, .gen = 1 };

	assert(seek(a, 10, false) == -ENXIO && seek(a, 10, true) == 10);
	assert(write_at(a, 16384, data, 8192) == 0 && commit(a, NULL) == 0);
	assert(seek(a, 0, false) == 16384 && seek(a, 20000, false) == 20000);
	assert(seek(a, 24576, false) == -ENXIO && seek(a, STRIPE, false) == -ENXIO);
	assert(seek(a, 0, true) == 0 && seek(a, 16384, true) == 24576 && seek(a, 30000, true) == 30000);
	for (uint32_t offset = 0; offset < STRIPE; offset += 8192)
		assert(write_at(full, offset, data, 8192) == 0);
	assert(seek(full, 0, true) == -ENXIO && seek(full, 5, false) == 5);
	/* The block that it ends in is data as a whole. */
	assert(write_at(odd, 8192, data, 100) == 0 && commit(odd, NULL) == 0);
	assert(seek(odd, 8192, true) == 12288 && seek(odd, 8292, true) == 12288 && seek(odd, 12287, true) == 12288);
	assert(seek(odd, 8292, false) == 8292 && seek(odd, 12287, false) == 12287 && seek(odd, 12288, false) == -ENXIO);
	assert(seek(odd, 0, true) == 0 && seek(odd, 12288, true) == 12288);
	free(data);
}

START_TEST(holes_are_found)
{
	fixture_format();
	fixture_run(seeking);
	temp_dir_remove(fixture_dir);
}
END_TEST

static unsigned int lines_of(FILE *file, char last[256])
{
	unsigned int count = 0;

	rewind(file);
	while (fgets(last, 256, file))
		count++;

	return count;
}

/* The log has the first error, and then how many there were, once a minute. */
static void errors_are_said(void)
{
	struct where where = { .ino = 80, .gen = 1 };
	FILE *said = tmpfile();
	int saved = dup(STDERR_FILENO);
	char line[256] = "";

	assert(said && saved >= 0 && dup2(fileno(said), STDERR_FILENO) >= 0);
	set_fault(DISK_OPEN, -EROFS, 5);
	for (; where.ino < 83; where.ino++)
		assert(write_text(where, 0, "x") == -EIO);
	assert(lines_of(said, line) == 1 && strstr(line, fixture_dir) && strstr(line, strerror(EROFS)));
	assert(strstr(line, "so far: 1;"));
	ost->io_error_said_ns -= 61 * NSEC_PER_SEC;
	for (; where.ino < 85; where.ino++)
		assert(write_text(where, 0, "x") == -EIO);
	assert(lines_of(said, line) == 2 && strstr(line, "so far: 4;"));
	dup2(saved, STDERR_FILENO);
	close(saved);
	fclose(said);
}

START_TEST(the_log_has_few_words_for_many_errors)
{
	fixture_format();
	fixture_run(errors_are_said);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* The disk has become read-only: that is found by a commit of the index, whoever waits for it. */
static void index_fails(void)
{
	struct where b = { .ino = 200, .gen = 1 };
	struct mgs_capacity capacity;
	uint64_t gen = 1;

	assert(write_text(a, 0, "good") == 0 && commit(a, NULL) == 0 && database_is_synced());
	assert(write_text(b, 0, "late") == 0);
	database_error = EROFS;
	assert(commit(b, NULL) == -EIO);
	ost_capacity(ost, &capacity);
	assert(capacity.state == STRAKE__TARGET_STATE__TARGET_DEGRADED);

	/* What is there is read, and nothing else done, also when the disk is a disk again. */
	database_error = 0;
	assert(text_is(a, 0, "good") && text_is(b, 0, "late"));
	assert(write_text(a, 0, "more") == -EIO &&
	       write_text((struct where){ .ino = 201, .gen = 1 }, 0, "new") == -EIO);
	assert(commit(a, NULL) == -EIO && destroy(&a.ino, &gen, 1, SESSION) == -EIO);
	assert(text_is(a, 0, "good"));
	fixture_stop_err = -EIO;
}

static void index_is_there_again(void)
{
	fixture_stop_err = 0;
	assert(text_is(a, 0, "good") && write_text(a, 0, "more") == 0 && commit(a, NULL) == 0);
}

START_TEST(an_index_that_cannot_be_stored_is_read_on)
{
	fixture_format();
	fixture_run(index_fails);
	fixture_run(index_is_there_again);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void fill_up(void)
{
	uint8_t *data = pattern(STRIPE, 9);
	struct mgs_capacity capacity;
	struct where where = { .ino = 1, .gen = 1 };
	uint64_t seq, gen = 1;
	int err = 0;

	for (seq = 0; seq < 10000 && err == 0; seq++) {
		where.seq = seq;
		err = write_at(where, 0, data, STRIPE);
	}
	assert(err == -ENOSPC);
	ost_capacity_refresh(ost);
	ost_capacity(ost, &capacity);
	assert(capacity.state == STRAKE__TARGET_STATE__TARGET_FULL);
	/* What is there can be read, committed and destroyed; then there is room again. */
	where.seq = 0;
	assert(read_at(where, 0, data, STRIPE) == STRIPE);
	assert(commit(where, NULL) == 0);
	assert(destroy(&where.ino, &gen, 1, SESSION) == 0);
	where.ino = 2;
	while ((err = write_at(where, 0, data, STRIPE)) == -ENOSPC)
		fiber_sleep_ms(1); /* until the descriptors of what was unlinked are closed */
	assert(err == 0 && commit(where, NULL) == 0);
	free(data);
}

START_TEST(a_full_disk_is_an_ordinary_answer)
{
	char saved[PATH_MAX];

	temp_dir_make(fixture_dir);
	if (!temp_dir_limit(fixture_dir, "12m")) {
		printf("skipped: cannot mount a small tmpfs: %s\n", strerror(errno));
		temp_dir_remove(fixture_dir);
		return;
	}
	setenv("TMPDIR", fixture_dir, 1);
	memcpy(saved, fixture_dir, sizeof(saved));
	fixture_format();
	fixture_run(fill_up);
	unsetenv("TMPDIR");
	ck_assert_int_eq(umount(saved), 0);
	temp_dir_remove(saved);
}
END_TEST

UNIT_MAIN("ost_io", writes_are_read_back, nonsense_is_refused, wrong_sums_store_nothing, random_reads_and_writes,
	  disk_errors_are_the_objects, the_log_has_few_words_for_many_errors, an_index_that_cannot_be_stored_is_read_on,
	  holes_are_found, a_full_disk_is_an_ordinary_answer)
