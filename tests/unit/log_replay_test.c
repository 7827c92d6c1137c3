/*
 * What is found in a log's files: what a crash leaves and what damage leaves are told apart, and no record comes back that
 * was not appended.
 */
#include "mds/log_replay.h"

#include "common/bulk_sums.h"
#include "tests/unit/held_disk.h"
#include "tests/unit/log_records.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define CRAFTED_SIZE 8192

static const struct uuid target = { { 1, 2, 3 } }, stranger = { { 4 } };

static char dir[PATH_MAX], path[PATH_MAX + 64];
static char error[512];

static void begin(void)
{
	temp_dir_make(dir);
}

static void end(void)
{
	temp_dir_remove(dir);
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

/* --- crafted segments ----------------------------------------------------------------------------------------------- */

/* A segment made by hand, of which all is known. */
struct crafted {
	uint8_t data[CRAFTED_SIZE];
	size_t offsets[32]; /* of the records, and the end */
	unsigned int count;
	struct log_header header;
};

/* Records from `first`; each says that what lies `lag` before it is synced. lag 0: nothing ever was. */
static void craft(struct crafted *crafted, uint64_t first, unsigned int count, uint64_t number, uint64_t lag)
{
	size_t offset = LOG_RECORDS;
	uint8_t payload[PAYLOAD_MAX];

	memset(crafted, 0, sizeof(*crafted));
	crafted->header = (struct log_header){
		.target = target,
		.first = first,
		.number = number,
		.salt = 77 * number,
		.size = CRAFTED_SIZE,
		.synced = lag ? first - 1 : 0,
	};
	log_header_encode(&crafted->header, crafted->data);
	for (uint64_t index = first; index < first + count; index++) {
		struct log_record record = { .index = index, .payload = { payload, payload_make(index, payload) } };

		record.synced = lag && index > lag ? index - lag : 0;
		ck_assert_uint_le(offset + log_record_size(record.payload.size), CRAFTED_SIZE);
		crafted->offsets[crafted->count++] = offset;
		log_record_encode(crafted->header.salt, &record, crafted->data + offset);
		offset += log_record_size(record.payload.size);
	}
	crafted->offsets[crafted->count] = offset;
}

static void note_set(struct crafted *crafted, uint64_t synced)
{
	log_note_encode(crafted->header.salt, synced, crafted->data + LOG_NOTE_OFFSET);
}

static void store_as(const char *name, const struct crafted *crafted, size_t size)
{
	int fd;

	snprintf(path, sizeof(path), "%s/log", dir);
	mkdir(path, 0700);
	fd = open(file_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, crafted->data, size), (ssize_t)size);
	close(fd);
}

static void store(const struct crafted *crafted, size_t size)
{
	char name[LOG_NAME_SIZE];

	store_as(log_name(crafted->header.first, name), crafted, size);
}

/* Read, without beginning anything new. Its last record, and what it dropped. */
static int replay(uint64_t applied, uint64_t *ret_last, uint64_t *ret_dropped)
{
	struct log_dir log_dir;
	struct log_replay replay = { .dir = &log_dir, .target = target, .applied = applied, .record = replay_record };
	int err;

	replayed_first = replayed_last = 0;
	error[0] = '\0';
	ck_assert_int_eq(log_dir_open(dir, &log_dir, error, sizeof(error)), 0);
	err = log_replay(&replay, error, sizeof(error));
	if (err == 0) {
		*ret_last = replay.last;
		*ret_dropped = replay.dropped;
		free(replay.firsts);
	} else {
		ck_assert_str_ne(error, "");
		ck_assert_ptr_null(replay.firsts);
	}
	log_dir_close(&log_dir);
	return err;
}

static int replay_all(uint64_t *ret_last)
{
	uint64_t dropped;

	return replay(0, ret_last, &dropped);
}

static void expect(int want_err, const char *want_words)
{
	uint64_t last;
	int err = replay_all(&last);

	ck_assert_int_eq(err, want_err);
	ck_assert_msg(strstr(error, want_words) != NULL, "%s", error);
}

/* The record that the offset lies in. */
static unsigned int record_at(const struct crafted *crafted, size_t offset)
{
	unsigned int i = 0;

	while (offset >= crafted->offsets[i + 1])
		i++;
	return i;
}

START_TEST(a_torn_tail_is_dropped)
{
	static struct crafted crafted, torn;

	begin();
	craft(&crafted, 1, 12, 1, 0);
	/* Written up to any byte: what is whole comes back. */
	for (size_t end_at = LOG_RECORDS; end_at < crafted.offsets[12]; end_at++) {
		unsigned int whole = record_at(&crafted, end_at);
		uint64_t last, dropped;

		torn = crafted;
		memset(torn.data + end_at, 0, CRAFTED_SIZE - end_at);
		store(&torn, CRAFTED_SIZE);
		ck_assert_msg(replay(0, &last, &dropped) == 0, "%s", error);
		/* A record whose last bytes are zeros anyway may be whole earlier. */
		if (last != whole)
			ck_assert_int_eq(memcmp(torn.data, crafted.data, crafted.offsets[last]), 0);
		ck_assert_uint_ge(last, whole);
		ck_assert_uint_eq(replayed_last, last);
		ck_assert_uint_le(dropped, end_at - crafted.offsets[whole]);
	}
	end();
}
END_TEST

START_TEST(sectors_lost_at_random_leave_a_prefix)
{
	static struct crafted crafted, torn;

	begin();
	for (int round = 0; round < 300; round++) {
		uint64_t synced = 1 + draw(20), last, dropped;
		size_t from;

		craft(&crafted, 1, 24, 1, 0);
		note_set(&crafted, synced);
		from = crafted.offsets[synced];
		torn = crafted;
		for (size_t at = from; at < crafted.offsets[24];) {
			size_t step = 512 - at % 512;

			if (draw(2) == 0)
				memset(torn.data + at, 0, step);
			at += step;
		}
		store(&torn, CRAFTED_SIZE);
		ck_assert_msg(replay(0, &last, &dropped) == 0, "round %d: %s", round, error);
		ck_assert_uint_ge(last, synced);
		ck_assert_uint_eq(replayed_last, last);
	}
	end();
}
END_TEST

/* Every bit of what was synced, by record, by note and by header. */
START_TEST(a_flipped_bit_is_damage_or_a_torn_tail)
{
	static struct crafted crafted, damaged;
	char where[64];

	begin();
	craft(&crafted, 1, 10, 1, 3);
	for (size_t offset = LOG_RECORDS; offset < crafted.offsets[10]; offset++) {
		unsigned int record = record_at(&crafted, offset);
		uint64_t last;
		int err;

		damaged = crafted;
		damaged.data[offset] = (uint8_t)(damaged.data[offset] ^ 1u << (offset % 8));
		store(&damaged, CRAFTED_SIZE);
		err = replay_all(&last);
		/* Record 10 knows that 7 was synced, and so on; but when it is 10 itself, only 9 is left to say it of 6. */
		if (record + 1 <= 7) {
			ck_assert_int_eq(err, -EBADMSG);
			snprintf(where, sizeof(where), "record %u at offset %zu", record + 1, crafted.offsets[record]);
			ck_assert_msg(strstr(error, where) != NULL, "%s", error);
			ck_assert_ptr_nonnull(strstr(error, "0000000000000001.seg"));
		} else {
			ck_assert_msg(err == 0, "%s", error);
			ck_assert_uint_eq(last, record);
		}

		/* With a note that all is synced there is no torn tail. */
		note_set(&damaged, 10);
		store(&damaged, CRAFTED_SIZE);
		ck_assert_int_eq(replay_all(&last), -EBADMSG);
	}
	for (size_t offset = 0; offset < LOG_HEADER_SIZE; offset++) {
		damaged = crafted;
		damaged.data[offset] = (uint8_t)(damaged.data[offset] ^ 1u << (offset % 8));
		store(&damaged, CRAFTED_SIZE);
		expect(-EBADMSG, "header");
	}
	/* A note that is not whole says nothing. */
	for (size_t offset = LOG_NOTE_OFFSET; offset < LOG_NOTE_OFFSET + 12; offset++) {
		uint64_t last;

		damaged = crafted;
		note_set(&damaged, 10);
		damaged.data[offset] ^= 1;
		store(&damaged, CRAFTED_SIZE);
		ck_assert_int_eq(replay_all(&last), 0);
		ck_assert_uint_eq(last, 10);
	}
	end();
}
END_TEST

START_TEST(a_checkpoint_knows_what_was_synced)
{
	static struct crafted crafted;
	uint64_t last, dropped;

	begin();
	craft(&crafted, 1, 10, 1, 0);
	crafted.data[crafted.offsets[5] + LOG_RECORD_HEAD] ^= 1;
	store(&crafted, CRAFTED_SIZE);
	ck_assert_int_eq(replay(5, &last, &dropped), 0);
	ck_assert_uint_eq(last, 5);
	ck_assert_uint_gt(dropped, 0);
	ck_assert_int_eq(replay(6, &last, &dropped), -EBADMSG);
	ck_assert_int_eq(replay(10, &last, &dropped), -EBADMSG);
	/* A log that ends below it. */
	craft(&crafted, 1, 10, 1, 0);
	store(&crafted, CRAFTED_SIZE);
	ck_assert_int_eq(replay(10, &last, &dropped), 0);
	ck_assert_int_eq(replay(11, &last, &dropped), -EBADMSG);
	end();
}
END_TEST

START_TEST(a_file_cut_short_is_refused)
{
	static struct crafted crafted;

	begin();
	craft(&crafted, 1, 10, 1, 0);
	for (size_t size = 0; size < CRAFTED_SIZE; size += size < crafted.offsets[10] ? 1 : 100) {
		if (size == LOG_HEADER_SIZE + 1)
			size = LOG_RECORDS - 1;
		store(&crafted, size);
		expect(-EBADMSG, "cut short");
	}
	end();
}
END_TEST

/* --- several segments ----------------------------------------------------------------------------------------------- */

static struct crafted three[3];

static void store_three(void)
{
	begin();
	for (unsigned int i = 0; i < 3; i++) {
		craft(&three[i], 1 + 10 * i, 10, 1 + i, 2);
		store(&three[i], CRAFTED_SIZE);
	}
}

START_TEST(a_later_segment_says_where_one_ends)
{
	uint64_t last;

	store_three();
	ck_assert_int_eq(replay_all(&last), 0);
	ck_assert_uint_eq(last, 30);

	/* After a torn tail the next segment took up the number: what is left of the tail does not count. */
	craft(&three[0], 1, 13, 1, 0);
	three[0].data[three[0].offsets[10] + 5] ^= 1;
	store(&three[0], CRAFTED_SIZE);
	ck_assert_int_eq(replay_all(&last), 0);
	ck_assert_uint_eq(last, 30);
	craft(&three[0], 1, 13, 1, 0);
	store(&three[0], CRAFTED_SIZE);
	ck_assert_int_eq(replay_all(&last), 0);
	ck_assert_uint_eq(last, 30);

	/* But up to there it must be whole, synced or not. */
	three[0].data[three[0].offsets[9] + 5] ^= 1;
	store(&three[0], CRAFTED_SIZE);
	expect(-EBADMSG, "record 10 at offset");
	end();
}
END_TEST

/* The power fails when the next segment has begun: of either any sector may be lost. */
START_TEST(a_segment_that_had_begun_goes_with_the_end_of_the_one_before)
{
	uint64_t last, dropped;

	/* All is there: it gets its name. */
	store_three();
	ck_assert_int_eq(unlink(segment_path(21)), 0);
	store_as("next.seg", &three[2], CRAFTED_SIZE);
	ck_assert_int_eq(replay_all(&last), 0);
	ck_assert_uint_eq(last, 30);
	ck_assert_int_eq(access(segment_path(21), F_OK), 0);

	/* The end of the one before is lost, and nothing says that it was synced. */
	ck_assert_int_eq(unlink(segment_path(21)), 0);
	craft(&three[2], 21, 10, 3, 0);
	craft(&three[1], 11, 10, 2, 0);
	memset(three[1].data + three[1].offsets[7], 0, CRAFTED_SIZE - three[1].offsets[7]);
	store(&three[1], CRAFTED_SIZE);
	store_as("next.seg", &three[2], CRAFTED_SIZE);
	ck_assert_msg(replay(0, &last, &dropped) == 0, "%s", error);
	ck_assert_uint_eq(last, 17);
	ck_assert_uint_eq(replayed_last, 17);
	ck_assert_int_eq(access(segment_path(21), F_OK), -1);

	/* A record there, or the header, says that it was. */
	craft(&three[2], 21, 10, 3, 12);
	store_as("next.seg", &three[2], CRAFTED_SIZE);
	expect(-EBADMSG, "record 18 at offset");
	craft(&three[2], 21, 0, 3, 1);
	store_as("next.seg", &three[2], CRAFTED_SIZE);
	expect(-EBADMSG, "record 18 at offset");

	/* Its name does. */
	craft(&three[2], 21, 10, 3, 0);
	store(&three[2], CRAFTED_SIZE);
	expect(-EBADMSG, "record 18 at offset");
	end();
}
END_TEST

START_TEST(missing_segments_are_missed)
{
	uint64_t last, dropped;

	store_three();
	ck_assert_int_eq(unlink(segment_path(11)), 0);
	expect(-ENOENT, "segments are missing");
	ck_assert_int_eq(replay(20, &last, &dropped), 0);
	ck_assert_uint_eq(last, 30);
	ck_assert_int_eq(replay(19, &last, &dropped), -ENOENT);

	ck_assert_int_eq(unlink(segment_path(1)), 0);
	expect(-ENOENT, "begins with record 21");
	ck_assert_int_eq(unlink(segment_path(21)), 0);
	ck_assert_int_eq(replay(1, &last, &dropped), -ENOENT);
	ck_assert_int_eq(replay(0, &last, &dropped), 0);
	ck_assert_uint_eq(last, 0);
	end();
}
END_TEST

START_TEST(foreign_files_are_refused)
{
	static struct crafted foreign;
	uint32_t sum;

	store_three();
	foreign = three[1];
	foreign.header.target = stranger;
	log_header_encode(&foreign.header, foreign.data);
	store(&foreign, CRAFTED_SIZE);
	expect(-EINVAL, "belongs to target");

	/* A newer format: its sum is right. */
	foreign = three[1];
	foreign.data[8]++;
	sum = htole32(crc32c(foreign.data, LOG_HEADER_SIZE - sizeof(sum)));
	memcpy(foreign.data + LOG_HEADER_SIZE - sizeof(sum), &sum, sizeof(sum));
	store(&foreign, CRAFTED_SIZE);
	expect(-EPROTONOSUPPORT, "newer format");

	store(&three[1], CRAFTED_SIZE);
	close(open(file_path("core.1234"), O_WRONLY | O_CREAT, 0600));
	expect(-EINVAL, "core.1234: is no segment of the log");
	ck_assert_int_eq(unlink(file_path("core.1234")), 0);

	/* A copy under another name. */
	foreign = three[1];
	foreign.header.first = 15;
	store(&foreign, CRAFTED_SIZE);
	expect(-EBADMSG, "000000000000000f.seg: begins at record 11");
	end();
}
END_TEST

/* A record of another place is none, however good it is. */
START_TEST(records_stand_in_order)
{
	static struct crafted crafted;
	struct log_record record = { .payload = { "x", 1 } };
	struct log_scan scan = {
		.data = crafted.data, .size = CRAFTED_SIZE, .salt = 77, .next = 1, .offset = LOG_RECORDS
	};

	craft(&crafted, 1, 0, 1, 0);
	for (uint64_t index = 0; index < 4; index++) {
		record.index = index;
		log_record_encode(77, &record, crafted.data + LOG_RECORDS);
		scan.next = 1;
		scan.offset = LOG_RECORDS;
		ck_assert_int_eq(log_scan_next(&scan, &record), index == 1 ? 0 : -ENODATA);
	}
}
END_TEST

/* A kill -9 leaves what was written in memory only: it is synced before anybody hears that it is there. */
START_TEST(what_is_read_is_synced)
{
	char log_path[PATH_MAX + 64];
	uint64_t last;

	store_three();
	disk_event_count = 0;
	ck_assert_int_eq(replay_all(&last), 0);
	ck_assert_uint_eq(last, 30);
	for (uint64_t first = 1; first <= 21; first += 10)
		ck_assert_uint_lt(disk_find(0, DISK_SYNCED, disk_ino(segment_path(first))), disk_event_count);
	snprintf(log_path, sizeof(log_path), "%s/log", dir);
	ck_assert_uint_lt(disk_find(0, DISK_SYNCED, disk_ino(log_path)), disk_event_count);
	end();
}
END_TEST

START_TEST(what_a_client_sends_is_no_record)
{
	static struct crafted crafted;
	uint8_t payload[64];
	struct log_record inner = { .index = 9, .synced = 9, .payload = { "x", 1 } };
	struct log_record outer = { .index = 1, .payload = { payload, log_record_size(1) } };
	struct log_scan scan = {
		.data = crafted.data, .size = CRAFTED_SIZE, .salt = 77, .next = 1, .offset = LOG_RECORDS
	};

	/* Inside of a torn record there is one that claims that it all was synced, made without knowing the salt. */
	craft(&crafted, 1, 0, 1, 0);
	log_record_encode(76, &inner, payload);
	log_record_encode(77, &outer, crafted.data + LOG_RECORDS);
	crafted.data[LOG_RECORDS + 4] ^= 1;
	ck_assert_uint_eq(log_scan_tail(&scan).synced, 0);
	ck_assert_uint_gt(log_scan_tail(&scan).size, 0);
	/* With it, it is found. */
	log_record_encode(77, &inner, payload);
	log_record_encode(77, &outer, crafted.data + LOG_RECORDS);
	crafted.data[LOG_RECORDS + 4] ^= 1;
	ck_assert_uint_eq(log_scan_tail(&scan).synced, 9);
}
END_TEST

UNIT_MAIN("log_replay", a_torn_tail_is_dropped, sectors_lost_at_random_leave_a_prefix,
	  a_flipped_bit_is_damage_or_a_torn_tail, a_checkpoint_knows_what_was_synced, a_file_cut_short_is_refused,
	  a_later_segment_says_where_one_ends, a_segment_that_had_begun_goes_with_the_end_of_the_one_before,
	  missing_segments_are_missed, foreign_files_are_refused, what_a_client_sends_is_no_record,
	  records_stand_in_order, what_is_read_is_synced)
