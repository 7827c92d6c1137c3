/* ALLOCATE: room that is really there, and what cuts leave of it; how much WRITE says that it took. */
#include "tests/unit/ost_fixture.h"

#include "oss/ost_object.h"
#include "tests/unit/unit.h"

#include <sys/mount.h>

#define PAGE 4096u

static const struct where a = { .ino = 100, .gen = 1 };

static uint64_t blocks_of(struct where where)
{
	struct totals totals;

	assert(glimpse(where, &totals) == 0);

	return totals.blocks;
}

/* --- room --------------------------------------------------------------------------------------------------------------- */

static void room_body(void)
{
	struct where b = { .ino = 100, .gen = 1, .seq = 1 }, cut;
	struct totals totals;
	uint8_t data[STRIPE] = { 1 };

	/* It is there, and nothing is to be seen of it but the blocks. */
	assert(allocate(a, 0, STRIPE) == 0 && allocate(b, 8192, 16384) == 0);
	assert(glimpse(a, &totals) == 0 && totals.end == 0 && totals.blocks == (STRIPE + 16384) / 512);
	assert(read_at(a, 0, data, STRIPE) == 0 && seek(a, 0, false) == -ENXIO);
	assert(allocate(a, 0, STRIPE) == 0 && blocks_of(a) == totals.blocks);

	/* What is written stays, and takes no more. */
	assert(write_text(a, 4096, "text") == 0 && allocate(a, 0, STRIPE) == 0 && text_is(a, 4096, "text"));
	assert(commit(a, NULL) == 0 && blocks_of(a) == totals.blocks);

	/* A punch takes room away, behind an object's end, too. */
	cut = with_cut(a, 1, STRIPE + 8192, STRIPE + 16384);
	assert(glimpse(cut, &totals) == 0 && totals.blocks == (STRIPE + 8192) / 512 && totals.end <= STRIPE + 24576);
	cut = with_cut(a, 2, 8192, STRIPE);
	assert(blocks_of(cut) == (8192 + 8192) / 512 && text_is(cut, 4096, "text") == false);
	assert(read_at(cut, 4096, data, 4) == 4 && memcmp(data, "text", 4) == 0);

	/* So does a truncate, also one that ends where the object does. */
	cut = with_cut(a, 3, 4100, UINT64_MAX);
	assert(glimpse(cut, &totals) == 0 && totals.end == 4100 && totals.blocks == 16);
	cut.seq = 0;
	assert(allocate(cut, 0, STRIPE) == 0 && blocks_of(cut) == STRIPE / 512);
	cut = with_cut(a, 4, 4100, UINT64_MAX);
	assert(blocks_of(cut) == 16 && text_is(cut, 4096, "text"));

	/* Nobody allocates in what is gone, or is no object. */
	assert(allocate(with_cut(a, 2, 8192, STRIPE), 0, 4096) == -ESTALE);
	assert(allocate(cut, 4096, STRIPE) == -EINVAL && allocate(cut, STRIPE + 1, 1) == -EINVAL);
	assert(destroy(&a.ino, &a.gen, 1, SESSION) == 0 && allocate(cut, 0, 4096) == -ESTALE);
}

START_TEST(room_is_there_and_goes_with_cuts)
{
	fixture_format();
	fixture_run(room_body);
	temp_dir_remove(fixture_dir);
}
END_TEST

static void room_killed(void)
{
	assert(allocate(a, 0, STRIPE) == 0 && write_text(a, 0, "text") == 0 && commit(a, NULL) == 0);
	kill_self();
}

static void room_after(void)
{
	assert(blocks_of(a) == STRIPE / 512 && text_is(a, 0, "text"));
}

START_TEST(committed_room_survives_a_kill)
{
	fixture_format();
	fixture_run_killed(room_killed);
	fixture_run(room_after);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- a full disk ---------------------------------------------------------------------------------------------------------- */

static void full_body(void)
{
	struct where other = { .ino = 200, .gen = 1 };
	uint8_t *data = calloc(1, STRIPE);
	const uint32_t objects = 80; /* 5 of 12 MiB */
	uint64_t room;
	int err = 0;

	assert(data);
	/* What cannot fit is refused with nothing taken; asking only takes nothing either. */
	room = blocks_of(a);
	assert(allocate_total(a, 0, STRIPE, 64u << 20) == -ENOSPC && allocate_total(a, 0, 0, 4u << 20) == 0);
	assert(blocks_of(a) == room && room == 0);

	for (uint32_t i = 0; i < objects; i++)
		assert(allocate((struct where){ .ino = 100, .gen = 1, .seq = i }, 0, STRIPE) == 0);
	for (other.seq = 0; err == 0; other.seq++)
		err = write_at(other, 0, data, STRIPE);
	assert(err == -ENOSPC);
	/* Again what it has: there is no more room, and none is needed. */
	assert(allocate_total(a, 0, STRIPE, objects * STRIPE) == 0);
	for (uint32_t i = 0; i < objects; i++)
		assert(write_at((struct where){ .ino = 100, .gen = 1, .seq = i }, 0, data, STRIPE) == 0);
	assert(commit(a, NULL) == 0);
	free(data);
}

static void run_on_a_small_disk(void (*body)(void))
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
	fixture_run(body);
	unsetenv("TMPDIR");
	ck_assert_int_eq(umount(saved), 0);
	temp_dir_remove(saved);
}

START_TEST(room_is_kept_on_a_full_disk)
{
	run_on_a_small_disk(full_body);
}
END_TEST

/* To the last page. */
static void fill_disk(void)
{
	static const uint8_t zeros[STRIPE];
	struct where filler = { .ino = 200, .gen = 1 };

	for (size_t length = STRIPE; length >= PAGE; filler.seq++) {
		if (write_at(filler, 0, zeros, length) < 0)
			length /= 2;
	}
}

static bool is_all(const uint8_t *data, size_t length, uint8_t byte)
{
	for (size_t i = 0; i < length; i++) {
		if (data[i] != byte)
			return false;
	}

	return true;
}

/* What a failed WRITE has stored behind the end is not there, and does not come up when the object grows. */
static void failed_body(void)
{
	struct where room = { .ino = 300, .gen = 1 };
	uint8_t data[STRIPE];
	struct totals totals;

	memset(data, 'f', sizeof(data));
	assert(write_text(a, 0, "text") == 0 && write_at(room, 0, data, 4 * PAGE) == 0);
	fill_disk();
	assert(cut(with_cut(room, 1, 2 * PAGE, UINT64_MAX)) == 0);
	assert(write_at(a, PAGE, data, 8 * PAGE) == -ENOSPC);
	assert(text_is(a, 0, "text") && glimpse(a, &totals) == 0 && totals.end == 4);
	assert(write_text(a, 8 * PAGE, "more") == 0);
	assert(read_at(a, 0, data, STRIPE) == 8 * PAGE + 4 && memcmp(data, "text", 4) == 0);
	assert(is_all(data + 4, 8 * PAGE - 4, 0));
}

START_TEST(what_failed_leaves_nothing_behind_the_end)
{
	run_on_a_small_disk(failed_body);
}
END_TEST

static struct where other_object(struct where where)
{
	where.seq++;

	return where;
}

/* Nor does one take away room that was allocated there: on a full disk nobody gets that back. */
static void failed_room_body(void)
{
	struct where room = { .ino = 300, .gen = 1 }, other = { .ino = 400, .gen = 1 };
	uint8_t data[STRIPE];

	memset(data, 'f', sizeof(data));
	assert(allocate(a, 0, 8 * PAGE) == 0 && write_at(other, 0, data, 10 * PAGE) == 0);
	assert(write_at(room, 0, data, 4 * PAGE) == 0);
	fill_disk();
	assert(cut(with_cut(room, 1, 2 * PAGE, UINT64_MAX)) == 0);
	/* Behind the room; partly in it; by a copy. */
	assert(write_at(a, 9 * PAGE, data, 6 * PAGE) == -ENOSPC && blocks_of(a) >= 8 * PAGE / 512);
	assert(write_at(a, 4 * PAGE, data, 10 * PAGE) == -ENOSPC && blocks_of(a) >= 8 * PAGE / 512);
	assert(copy(other, 0, a, 9 * PAGE, 6 * PAGE) == -ENOSPC && blocks_of(a) >= 8 * PAGE / 512);
	fill_disk();
	assert(write_at(a, 0, data, 8 * PAGE) == 0 && commit(a, NULL) == 0);

	/* The same of an object that comes into memory with its room. */
	assert(cut(with_cut(other, 1, 0, UINT64_MAX)) == 0 && allocate(other_object(a), 0, 8 * PAGE) == 0);
	assert(commit(other_object(a), NULL) == 0);
	fill_disk();
	object_close_idle(ost);
	file_forget_idle(ost);
	assert(cut(with_cut(room, 2, PAGE, UINT64_MAX)) == 0);
	assert(write_at(other_object(a), 9 * PAGE, data, 6 * PAGE) == -ENOSPC);
	fill_disk();
	assert(write_at(other_object(a), 0, data, 8 * PAGE) == 0);
}

START_TEST(what_failed_takes_no_room_away)
{
	run_on_a_small_disk(failed_room_body);
}
END_TEST

#define WRITERS      5
#define WRITER_PAGES 3

struct writer {
	uint32_t number;
	struct where where;
	int err;
};
static unsigned int writers_left;

static uint32_t writer_offset(const struct writer *writer)
{
	return PAGE * (1 + WRITER_PAGES * writer->number);
}

static void writer_fiber(void *arg)
{
	struct writer *writer = arg;
	uint8_t data[WRITER_PAGES * PAGE];

	memset(data, (int)('a' + writer->number), sizeof(data));
	writer->err = write_call(&(struct write_call){
		.where = writer->where,
		.offset = writer_offset(writer),
		.data = data,
		.length = sizeof(data),
		.session = SESSION,
		.slot = 2 + writer->number,
		.seq = ++next_seq,
	});
	writers_left--;
}

/* Several at once, of which some fail: what the others have written stays, wherever it lies. */
static void beside_body(void)
{
	struct where room = { .ino = 300, .gen = 1 }, object = a;
	struct writer writers[WRITERS];
	uint8_t data[STRIPE] = { 0 };
	unsigned int mixed = 0;
	struct totals totals;
	uint64_t end;

	assert(write_text(object, 0, "x") == 0 && write_at(room, 0, data, STRIPE) == 0);
	fill_disk();
	for (unsigned int round = 1; round <= 30; round++) {
		unsigned int written = 0;

		room = with_cut(room, round, STRIPE - PAGE * (1 + round % (WRITERS * WRITER_PAGES)), UINT64_MAX);
		assert(cut(room) == 0);
		for (uint32_t i = 0; i < WRITERS; i++) {
			/* Also from the end to the beginning. */
			writers[i] = (struct writer){ .number = round % 2 ? i : WRITERS - 1 - i, .where = object };
			writers_left++;
			assert(fiber_start(loop, writer_fiber, &writers[i]) == 0);
		}
		while (writers_left > 0)
			fiber_sleep_ms(1);

		end = 1;
		assert(read_at(object, 0, data, STRIPE) >= 1);
		for (uint32_t i = 0; i < WRITERS; i++) {
			uint32_t offset = writer_offset(&writers[i]);

			assert(writers[i].err == 0 || writers[i].err == -ENOSPC);
			if (writers[i].err < 0)
				continue;
			written++;
			assert(is_all(data + offset, WRITER_PAGES * PAGE, (uint8_t)('a' + writers[i].number)));
			if (end < offset + WRITER_PAGES * PAGE)
				end = offset + WRITER_PAGES * PAGE;
		}
		mixed += written > 0 && written < WRITERS;
		/* Counted from what lies on the disk. */
		assert(commit(object, NULL) == 0);
		object_close_idle(ost);
		file_forget_idle(ost);
		assert(glimpse(object, &totals) == 0 && totals.end == end);

		object = with_cut(object, round, 1, UINT64_MAX);
		assert(cut(object) == 0);
		memset(data, 0, sizeof(data));
		assert(write_at(room, 0, data, STRIPE) == 0);
	}
	assert(mixed > 0);
}

START_TEST(what_failed_takes_nothing_of_others_away)
{
	run_on_a_small_disk(beside_body);
}
END_TEST

static void failing_fiber(void *arg)
{
	struct writer *writer = arg;
	uint8_t data[8 * PAGE];

	memset(data, 'f', sizeof(data));
	writer->err = write_call(&(struct write_call){
		.where = writer->where,
		.offset = PAGE,
		.data = data,
		.length = sizeof(data),
		.session = SESSION,
		.slot = 3,
		.seq = ++next_seq,
	});
	writers_left--;
}

static bool is_text_and_zeros(struct where where)
{
	uint8_t data[STRIPE];
	int length = read_at(where, 0, data, STRIPE);

	return length >= 4 && memcmp(data, "text", 4) == 0 && is_all(data + 4, (size_t)length - 4, 0);
}

/* A hole is copied over what a WRITE has just failed to write: it comes after that, so nothing of that is in it. */
static void copy_after_body(void)
{
	struct where room = { .ino = 300, .gen = 1 }, nothing = { .ino = 400, .gen = 1 }, object = a;
	struct writer writer;
	uint8_t data[STRIPE] = { 0 };
	unsigned int failed = 0;

	assert(write_text(object, 0, "text") == 0 && write_at(room, 0, data, 4 * PAGE) == 0);
	fill_disk();
	for (unsigned int round = 1; round <= 20; round++) {
		room = with_cut(room, round, 2 * PAGE, UINT64_MAX);
		assert(cut(room) == 0);
		writer = (struct writer){ .where = object };
		writers_left = 1;
		assert(fiber_start(loop, failing_fiber, &writer) == 0);
		fiber_yield();
		assert(copy(nothing, 0, object, PAGE, 8 * PAGE) == 0);
		while (writers_left > 0)
			fiber_sleep_ms(1);
		failed += writer.err == -ENOSPC;
		assert(is_text_and_zeros(object));

		object = with_cut(object, round, 4, UINT64_MAX);
		assert(cut(object) == 0);
		memset(data, 0, sizeof(data));
		assert(write_at(room, 0, data, 4 * PAGE) == 0);
	}
	assert(failed > 0);
}

START_TEST(what_failed_is_not_in_a_copy_that_comes_after)
{
	run_on_a_small_disk(copy_after_body);
}
END_TEST

/* --- blocks --------------------------------------------------------------------------------------------------------------- */

static int64_t grown_by(struct where where, uint32_t offset, size_t length)
{
	static uint8_t data[STRIPE];
	Strake__WriteRequest request = STRAKE__WRITE_REQUEST__INIT;
	struct iovec iov = { .iov_base = data, .iov_len = length };
	uint32_t sums[STRIPE / BULK_PIECE + 2];
	struct object_message message;
	struct call rpc = {
		.opcode = OP_WRITE,
		.request = &request.base,
		.session = SESSION,
		.slot = 1,
		.seq = ++next_seq,
		.bulk_out = &iov,
		.bulk_out_count = 1,
	};
	int64_t grown;

	request.object = object_message(&message, where);
	request.offset = offset;
	request.sums = sums;
	request.n_sums = bulk_sums_count(offset, length);
	bulk_sums_make(offset, &iov, 1, sums);
	assert(peer_call(client, &rpc) == 0 && ((const Strake__WriteReply *)rpc.reply)->has_grown);
	grown = ((const Strake__WriteReply *)rpc.reply)->grown;
	call_release(&rpc);

	return grown;
}

static void grown_body(void)
{
	int64_t sum = grown_by(a, 0, 10000);

	assert(sum > 0 && sum <= 24 && grown_by(a, 0, 10000) == 0 && grown_by(a, 4096, 1) == 0);
	sum += grown_by(a, 40000, 1);
	/* What the disk says later is told with the next one. */
	assert(commit(a, NULL) == 0);
	sum += grown_by(a, 40000, 1);
	assert(sum == 32 && blocks_of(a) == 32);
	/* What a cut took is nobody's. */
	assert(grown_by(with_cut(a, 1, 0, 8192), 60000, 1) == 8);
}

START_TEST(writes_tell_what_they_take)
{
	fixture_format();
	fixture_run(grown_body);
	temp_dir_remove(fixture_dir);
}
END_TEST

/* --- data and holes ------------------------------------------------------------------------------------------------------- */

static struct where at(uint64_t seq)
{
	return (struct where){ .ino = 100, .gen = 1, .seq = seq };
}

static void seek_body(void)
{
	const uint64_t far = UINT64_C(1) << 40;
	uint8_t *full = calloc(1, STRIPE);
	uint64_t seq = 0;

	/* Data: across whatever is not there, in memory or on the disk, in one request. */
	assert(full && seek_on(at(0), 0, false, 4, far, 1, &seq) == -ENXIO);
	assert(write_at(at(far - 4), 8192, full, 4096) == 0);
	assert(seek_on(at(0), 0, false, 4, far, 1, &seq) == 8192 && seq == far - 4);
	assert(commit(a, NULL) == 0 && seek_on(at(4), 5, false, 4, far, 1, &seq) == 8192 && seq == far - 4);
	assert(seek_on(at(4), 20000, false, 4, far, 1, &seq) == 8192 && seq == far - 4);
	assert(seek_on(at(far - 4), 12288, false, 4, far, 1, &seq) == -ENXIO);
	assert(seek_on(at(0), 0, false, 4, far - 4, 1, &seq) == -ENXIO);
	/* What has no data in it costs a look each. */
	for (uint64_t i = 4; i <= 40; i += 4)
		assert(allocate(at(i), 0, 4096) == 0);
	assert(seek_on(at(0), 0, false, 4, far, 4, &seq) == -EAGAIN && seq == 20);
	assert(seek_on(at(0), 0, false, 4, far, 11, &seq) == 8192 && seq == far - 4);

	/* Holes: an object that is not there, or not to its end. */
	assert(seek_on(at(0), 5, true, 4, far, 1, &seq) == 5 && seq == 0);
	for (uint64_t i = 100; i < 120; i += 4)
		assert(write_at(at(i), 0, full, STRIPE) == 0);
	assert(seek_on(at(100), 5, true, 4, far, 5, &seq) == -EAGAIN && seq == 120);
	assert(seek_on(at(100), 5, true, 4, far, 6, &seq) == 0 && seq == 120);
	assert(seek_on(at(100), 5, true, 4, 117, 6, &seq) == -ENXIO);
	assert(write_at(at(120), 0, full, 8192) == 0 && seek_on(at(100), 5, true, 4, far, 6, &seq) == 8192 &&
	       seq == 120);
	assert(seek_on(at(0), 0, true, 4, far, 0, &seq) == -EINVAL &&
	       seek_on(at(0), 0, true, 1000, far, 1, &seq) == -EINVAL);
	free(full);
}

START_TEST(what_is_sought_is_found_from_object_to_object)
{
	fixture_format();
	fixture_run(seek_body);
	temp_dir_remove(fixture_dir);
}
END_TEST

UNIT_MAIN("ost_space", room_is_there_and_goes_with_cuts, committed_room_survives_a_kill, room_is_kept_on_a_full_disk,
	  what_failed_leaves_nothing_behind_the_end, what_failed_takes_no_room_away,
	  what_failed_takes_nothing_of_others_away, what_failed_is_not_in_a_copy_that_comes_after,
	  writes_tell_what_they_take, what_is_sought_is_found_from_object_to_object)
