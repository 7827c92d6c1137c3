/* READ, WRITE, COMMIT, GLIMPSE, SEEK of an OST, over the wire. */
#include "tests/unit/ost_fixture.h"

#include "oss/ost_object.h"
#include "tests/unit/unit.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <semaphore.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#define MIB (1024u * 1024)

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* of Linux 6.5; the same everywhere */
#endif

static const struct where a = { .ino = 100, .gen = 1 };

static uint8_t *pattern(size_t length, unsigned int seed)
{
	uint8_t *data = malloc(length);

	assert(data);
	for (size_t i = 0; i < length; i++)
		data[i] = (uint8_t)(rand_r(&seed) >> 8);

	return data;
}

static enum disk_op failing_op;
static int failing_err, failing_times;

static int fault(void *arg, enum disk_op op)
{
	(void)arg;
	if (op != failing_op || failing_times == 0)
		return 0;
	failing_times--;

	return failing_err;
}

static void set_fault(enum disk_op op, int err, int times)
{
	failing_op = op;
	failing_err = err;
	failing_times = times;
	disk_set_fault(ost->disk, fault, NULL);
}

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

/* --- without a copy ---------------------------------------------------------------------------------------------------- */

static const struct where large = { .ino = 8, .gen = 1, .stripe = 4 * MIB };

static bool read_is(uint32_t offset, const uint8_t *expected, size_t length)
{
	uint8_t *got = malloc(MIB);
	int result = read_options(large, offset, got, MIB, true);
	bool same = result == (int)length && memcmp(got, expected, length) == 0;

	free(got);

	return same;
}

/* A kernel that tells what is in the page cache, and a disk below it. */
static bool sendfile_is_possible(void)
{
	uint64_t range[2] = { 0, 1 }, counts[5];
	struct statfs fs;

	if (syscall(SYS_cachestat, ost->objects_dir, range, counts, 0) < 0 && errno == ENOSYS)
		printf("skipped: this kernel has no cachestat()\n");
	else if (fstatfs(ost->objects_dir, &fs) < 0 || fs.f_type == TMPFS_MAGIC)
		printf("skipped: tmpfs has everything in the page cache\n");
	else
		return true;

	return false;
}

/* By sendfile at the latest when it has been read: the system may have dropped it from the page cache meanwhile. */
static bool leaves_by_sendfile(uint32_t offset, const uint8_t *want, size_t length)
{
	uint64_t before = ost->reads_by_sendfile;

	for (int i = 0; i < 100 && ost->reads_by_sendfile == before; i++)
		assert(read_is(offset, want, length));

	return ost->reads_by_sendfile == before + 1;
}

static bool leaves_otherwise(uint32_t offset, const uint8_t *want, size_t length)
{
	uint64_t before = ost->reads_by_sendfile;

	return read_is(offset, want, length) && ost->reads_by_sendfile == before;
}

/* Only what is there, large, in the page cache, and nobody wants sums of. */
static void by_sendfile(void)
{
	uint8_t *data, *bytes, *got;

	if (!sendfile_is_possible())
		return;
	data = calloc(1, 2 * MIB);
	bytes = pattern(MIB, 11);
	got = malloc(MIB);
	assert(read_is(0, data, 0)); /* no object */
	memcpy(data, bytes, MIB);
	assert(write_at(large, 0, bytes, MIB) == 0 && leaves_otherwise(0, data, MIB)); /* from the disk */
	assert(leaves_by_sendfile(0, data, MIB));
	assert(read_at(large, 0, got, MIB) == MIB && ost->reads_by_sendfile == 1);
	/* Up to the end, from within a page, and too little. */
	assert(leaves_by_sendfile(300000, data + 300000, MIB - 300000));
	assert(leaves_otherwise(MIB - 5000, data + MIB - 5000, 5000));
	assert(leaves_otherwise(MIB, data, 0));
	/* A hole, and what is behind it; a range of one page more than a pipe has room for. */
	memcpy(data + MIB + MIB / 2, bytes, 1000);
	assert(write_at(large, MIB + MIB / 2, bytes, 1000) == 0);
	assert(leaves_by_sendfile(MIB, data + MIB, MIB / 2 + 1000));
	assert(leaves_otherwise(100, data + 100, MIB));
	set_fault(DISK_READ, -EIO, 2);
	assert(read_options(large, 0, got, MIB, true) == -EIO);
	assert(leaves_by_sendfile(0, data, MIB));
	assert(ost->pipes.count == 1);
	free(data);
	free(bytes);
	free(got);
}

START_TEST(reads_without_sums_leave_by_sendfile)
{
	fixture_format();
	fixture_run(by_sendfile);
	temp_dir_remove(fixture_dir);
}
END_TEST

#define READERS 24

static unsigned int readers;

/* Whatever is cut away meanwhile: what comes is as long as promised, and the file's. */
static void reader_of_cut(void *arg)
{
	const uint8_t *data = arg;
	uint8_t *got = malloc(MIB);
	int length = read_options(large, 0, got, MIB, true);

	assert((length == MIB || length == MIB / 2) && memcmp(got, data, MIB / 2) == 0);
	for (int i = MIB / 2; i < length; i++)
		assert(got[i] == data[i] || got[i] == 0);
	free(got);
	readers--;
}

static void cut_meanwhile(void)
{
	const struct where half = {
		.ino = 8, .gen = 1, .stripe = 4 * MIB, .cut = 1, .cut_start = MIB / 2, .cut_end = UINT64_MAX
	};
	uint8_t *data;

	if (!sendfile_is_possible())
		return;
	data = pattern(MIB, 12);
	assert(write_at(large, 0, data, MIB) == 0 && read_is(0, data, MIB));
	for (readers = 0; readers < READERS; readers++)
		assert(fiber_start(loop, reader_of_cut, data) == 0);
	while (ost->reads_by_sendfile == 0)
		fiber_yield();
	assert(readers > 0 && cut(half) == 0);
	while (readers > 0)
		fiber_yield();
	assert(read_is(0, data, MIB / 2));
	free(data);
}

START_TEST(a_cut_does_not_disturb_what_is_being_sent)
{
	fixture_format();
	fixture_run(cut_meanwhile);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void reader_that_goes(void *arg)
{
	uint8_t *got = malloc(MIB);
	struct object_message message;
	Strake__ReadRequest request = STRAKE__READ_REQUEST__INIT;
	struct call rpc = { .opcode = OP_READ, .request = &request.base, .bulk_in = got, .bulk_in_size = MIB };

	(void)arg;
	request.object = object_message(&message, large);
	request.length = MIB;
	request.has_no_sums = request.no_sums = true;
	(void)peer_call(client, &rpc);
	call_release(&rpc);
	free(got);
	readers--;
}

/* What a peer that went did not take must not be the beginning of another's answer. */
static void gone_meanwhile(void)
{
	unsigned int most;
	uint8_t *data;

	if (!sendfile_is_possible())
		return;
	data = pattern(MIB, 13);
	assert(write_at(large, 0, data, MIB) == 0 && read_is(0, data, MIB));
	for (readers = 0; readers < READERS; readers++)
		assert(fiber_start(loop, reader_that_goes, NULL) == 0);
	while (ost->reads_by_sendfile == 0)
		fiber_yield();
	most = ost->pipes.count;
	assert(most > 1);
	client = peer_free(client);
	while (readers > 0)
		fiber_yield();
	client = fixture_connect(ROLE_CLIENT);
	for (int i = 0; i < READERS; i++)
		assert(read_is(0, data, MIB));
	assert(ost->pipes.count < most);
	free(data);
}

START_TEST(what_a_gone_peer_left_is_thrown_away)
{
	fixture_format();
	fixture_run(gone_meanwhile);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- many at once ------------------------------------------------------------------------------------------------------ */

#define WRITERS 24

static unsigned int writers;

static void writer(void *arg)
{
	uint32_t slot = (uint32_t)(uintptr_t)arg;
	uint8_t *data = malloc(STRIPE);

	for (uint32_t round = 1; round <= 20; round++) {
		struct write_call call = {
			.where = a, .data = data, .length = STRIPE, .session = SESSION, .slot = slot, .seq = round
		};

		memset(data, (int)(slot * 8 + round), STRIPE);
		assert(write_call(&call) == 0);
	}
	free(data);
	writers--;
}

static void check_uniform(void)
{
	uint8_t *got = malloc(STRIPE);

	assert(read_at(a, 0, got, STRIPE) == STRIPE);
	for (size_t i = 1; i < STRIPE; i++)
		assert(got[i] == got[0]);
	free(got);
}

/* Writes of the same range never mix, nor does a read see half of one. */
static void overlapping(void)
{
	for (uintptr_t i = 10; i < 10 + WRITERS; i++) {
		writers++;
		assert(fiber_start(loop, writer, (void *)i) == 0);
	}
	while (writers > 0) {
		fiber_sleep_ms(1);
		if (object_file_exists(a))
			check_uniform();
	}
	check_uniform();
}

START_TEST(overlapping_writes_do_not_mix)
{
	fixture_format();
	fixture_run(overlapping);
	temp_dir_remove(fixture_dir);
}
END_TEST

static struct where new_object(uint64_t number)
{
	return (struct where){ .ino = 1000 + number, .gen = 1, .seq = number % 3 };
}

static void maker(void *arg)
{
	uint32_t slot = (uint32_t)(uintptr_t)arg;
	uint8_t *data = malloc(STRIPE);

	for (uint32_t round = 1; round <= 20; round++) {
		struct write_call call = { .where = new_object(round * WRITERS + slot / 2),
					   .data = data + slot % 2 * (STRIPE / 2),
					   .offset = slot % 2 * (STRIPE / 2),
					   .length = STRIPE / 2,
					   .session = SESSION,
					   .slot = slot,
					   .seq = round };

		memset(data, (int)(slot / 2 + round), STRIPE);
		assert(write_call(&call) == 0);
	}
	free(data);
	writers--;
}

/* Objects that are not there yet, many of them at once, each by two who want it. */
static void new_ones(void)
{
	uint8_t *got = malloc(STRIPE), *wanted = malloc(STRIPE);

	for (uintptr_t slot = 10; slot < 10 + WRITERS; slot++) {
		writers++;
		assert(fiber_start(loop, maker, (void *)slot) == 0);
	}
	while (writers > 0)
		fiber_sleep_ms(1);
	for (uint32_t round = 1; round <= 20; round++) {
		for (uint32_t half = 5; half < (10 + WRITERS) / 2; half++) {
			struct totals totals;

			memset(wanted, (int)(half + round), STRIPE);
			assert(read_at(new_object(round * WRITERS + half), 0, got, STRIPE) == STRIPE);
			assert(memcmp(got, wanted, STRIPE) == 0);
			assert(commit(new_object(round * WRITERS + half), &totals) == 0);
			assert(totals.blocks == STRIPE / 512);
		}
	}
	free(got);
	free(wanted);
}

START_TEST(new_objects_are_made_once)
{
	fixture_format();
	fixture_run(new_ones);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* Descriptors are few, dirty ones are synced before they are closed. */
static void many_objects(void)
{
	char text[32], got[64];
	struct totals totals;

	for (uint64_t seq = 0; seq < 100; seq++) {
		snprintf(text, sizeof(text), "object %d", (int)seq);
		assert(write_text((struct where){ .ino = 9, .gen = 1, .seq = seq }, 0, text) == 0);
		assert(ost->object_count <= 9);
	}
	for (uint64_t seq = 0; seq < 100; seq++) {
		snprintf(text, sizeof(text), "object %d", (int)seq);
		assert(read_at((struct where){ .ino = 9, .gen = 1, .seq = seq }, 0, got, sizeof(got)) ==
		       (int)strlen(text));
		assert(memcmp(got, text, strlen(text)) == 0);
	}
	assert(commit((struct where){ .ino = 9, .gen = 1 }, &totals) == 0);
	assert(totals.end == 99 * STRIPE + strlen("object 99") && totals.blocks == 100 * 8);
}

static unsigned int syncs;

static int count_syncs(void *arg, enum disk_op op)
{
	(void)arg;
	syncs += op == DISK_SYNC;

	return 0;
}

static int refuse_syncs(void *arg, enum disk_op op)
{
	(void)arg;
	return op == DISK_SYNC ? -EIO : 0;
}

static int touch(uint64_t seq)
{
	return write_text((struct where){ .ino = 9, .gen = 1, .seq = seq }, 0, "x");
}

/* What the index knows as well as what is new: a descriptor with bytes that no sync has seen stays open. */
static void dirty_objects(void)
{
	char got[64];

	for (uint64_t seq = 0; seq < 16; seq++)
		assert(touch(seq) == 0 && commit((struct where){ .ino = 9, .gen = 1 }, NULL) == 0);
	/* Seven that are dirty, and a clean one, which goes first though it was used last. */
	for (uint64_t seq = 0; seq < 7; seq++)
		assert(touch(seq) == 0);
	assert(read_at((struct where){ .ino = 9, .gen = 1, .seq = 15 }, 0, got, sizeof(got)) > 0);
	syncs = 0;
	disk_set_fault(ost->disk, count_syncs, NULL);
	assert(touch(7) == 0 && ost->object_count == 8 && syncs == 0);
	assert(touch(8) == 0 && ost->object_count == 8 && syncs > 0);
	for (uint64_t seq = 1; seq < 9; seq++)
		assert(touch(seq) == 0);
	disk_set_fault(ost->disk, refuse_syncs, NULL);
	assert(touch(9) == 0 && ost->object_count > 8);
	disk_set_fault(ost->disk, NULL, NULL);
	assert(touch(10) == 0 && ost->object_count <= 8);
}

static void no_descriptors(void)
{
	for (uint64_t seq = 0; seq < 8; seq++)
		assert(touch(seq) == 0);
	set_fault(DISK_OPEN, -EMFILE, 1);
	assert(touch(8) == 0 && ost->object_count == 4);
}

START_TEST(few_descriptors_suffice)
{
	fixture_format();
	fixture_config.objects_open = 8;
	fixture_run(many_objects);
	fixture_run(dirty_objects);
	fixture_config.objects_open = 100;
	fixture_run(no_descriptors);
	temp_dir_remove(fixture_dir);
}
END_TEST

static bool read_over;

static void read_fiber(void *arg)
{
	(void)arg;
	assert(text_is(a, 0, "x"));
	read_over = true;
}

/* Buffers are bounded; who gets none waits for one. */
static void bounded_buffers(void)
{
	static const size_t sizes[] = { 1, 512 * 1024, DATA_POOL_MAX };
	struct bulk *held[1000];
	size_t count = 0, bytes = 0;

	assert(write_text(a, 0, "x") == 0);
	for (size_t i = 0; i < 3; i++) {
		while ((held[count] = data_pool_get(ost->buffers, sizes[i]))) {
			bytes += held[count++]->size;
			assert(bytes <= 72 * MIB && count < 1000);
		}
	}
	assert(fiber_start(loop, read_fiber, NULL) == 0);
	while (ost->running == 0)
		fiber_sleep_ms(1);
	for (int i = 0; i < 20; i++)
		fiber_yield();
	assert(!read_over);
	for (size_t i = 0; i < count; i++)
		held[i]->release(held[i]);
	while (!read_over)
		fiber_sleep_ms(1);
}

START_TEST(buffers_are_bounded_and_waited_for)
{
	fixture_format();
	fixture_run(bounded_buffers);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- commit and glimpse -------------------------------------------------------------------------------------------------- */

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

/* --- what a commit does ------------------------------------------------------------------------------------------------- */

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

START_TEST(a_commit_covers_what_came_before_it)
{
	fixture_format();
	fixture_run(commit_steps);
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

START_TEST(disk_errors_are_the_objects)
{
	fixture_format();
	fixture_run(disk_errors);
	fixture_run(direct_refused);
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

/* --- opening and stopping ------------------------------------------------------------------------------------------------ */

static void refused_to_open(const char *words)
{
	char error[512] = "";
	struct ost *opened;

	ck_assert_int_eq(ost_open(&fixture_config, &opened, error, sizeof(error)), -EINVAL);
	ck_assert_msg(strstr(error, words) != NULL, "%s", error);
}

static void write_one(void)
{
	assert(write_text(a, 0, "x") == 0 && commit(a, NULL) == 0);
}

START_TEST(another_osts_or_a_broken_directory_is_refused)
{
	char path[PATH_MAX + 16];

	fixture_format();
	fixture_run(write_one);
	fixture_config.index = 4;
	refused_to_open("is OST 3, not 4");
	fixture_config.index = 3;
	fixture_run(write_one);
	/* Without its index nobody knows what was destroyed. */
	snprintf(path, sizeof(path), "%s/index/data.mdb", fixture_dir);
	ck_assert_int_eq(unlink(path), 0);
	refused_to_open("although there are objects");
	temp_dir_remove(fixture_dir);
}
END_TEST

static bool request_over;

/* A request that takes its time. */
static void late_request(void *arg)
{
	(void)arg;
	while (!ost->stopping)
		fiber_yield();
	for (int i = 0; i < 100; i++) {
		fiber_sleep_ms(1);
		assert(ost && ost->index); /* not stopped under its feet */
	}
	request_over = true;
	if (--ost->running == 0)
		fiber_wake_all(&ost->idle);
}

static void stop_meanwhile(void)
{
	ost->running++;
	assert(fiber_start(loop, late_request, NULL) == 0);
}

START_TEST(stopping_waits_for_what_runs)
{
	fixture_format();
	fixture_run(stop_meanwhile);
	ck_assert(request_over);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- seek ----------------------------------------------------------------------------------------------------------------- */

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

/* --- a full disk ---------------------------------------------------------------------------------------------------------- */

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
	if (mount("none", fixture_dir, "tmpfs", 0, "size=12m") < 0) {
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
	  reads_without_sums_leave_by_sendfile, a_cut_does_not_disturb_what_is_being_sent,
	  what_a_gone_peer_left_is_thrown_away, overlapping_writes_do_not_mix, new_objects_are_made_once,
	  few_descriptors_suffice, buffers_are_bounded_and_waited_for, sizes_are_told, all_files_are_committed,
	  committed_survives_a_kill, what_is_committed_is_on_the_disk, a_row_comes_when_its_file_is_durable,
	  a_commit_covers_what_came_before_it, a_failed_sync_changes_the_instance, disk_errors_are_the_objects,
	  a_lost_object_is_an_error, another_osts_or_a_broken_directory_is_refused, stopping_waits_for_what_runs,
	  holes_are_found, a_full_disk_is_an_ordinary_answer)
