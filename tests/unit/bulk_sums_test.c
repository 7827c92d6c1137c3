#include "common/bulk_sums.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SIZE (5 * BULK_PIECE)

static uint8_t data[SIZE];

static void fill(void)
{
	for (size_t i = 0; i < SIZE; i++)
		data[i] = (uint8_t)(i * 2654435761u >> 13);
}

/* RFC 3720, appendix B.4, and the check value of every list of CRCs. */
START_TEST(vectors)
{
	uint8_t bytes[32];

	ck_assert_uint_eq(crc32c("123456789", 9), 0xe3069283);
	ck_assert_uint_eq(crc32c("", 0), 0);
	memset(bytes, 0, sizeof(bytes));
	ck_assert_uint_eq(crc32c(bytes, 32), 0x8a9136aa);
	memset(bytes, 0xff, sizeof(bytes));
	ck_assert_uint_eq(crc32c(bytes, 32), 0x62a8ab43);
	for (uint8_t i = 0; i < 32; i++)
		bytes[i] = i;
	ck_assert_uint_eq(crc32c(bytes, 32), 0x46dd794e);
	for (uint8_t i = 0; i < 32; i++)
		bytes[i] = (uint8_t)(31 - i);
	ck_assert_uint_eq(crc32c(bytes, 32), 0x113fdb5c);
}
END_TEST

/* One bit at a time, from the definition. */
static uint32_t reference(const uint8_t *at, size_t size)
{
	uint32_t sum = UINT32_MAX;

	while (size-- > 0) {
		sum ^= *at++;
		for (int bit = 0; bit < 8; bit++)
			sum = sum >> 1 ^ (sum & 1 ? 0x82f63b78 : 0);
	}
	return ~sum;
}

START_TEST(any_length_and_place)
{
	fill();
	for (size_t size = 0; size < 600; size++)
		ck_assert_uint_eq(crc32c(data + size % 17, size), reference(data + size % 17, size));
	ck_assert_uint_eq(crc32c(data, SIZE), reference(data, SIZE));
}
END_TEST

START_TEST(in_parts)
{
	uint32_t whole;

	fill();
	whole = crc32c(data, 1000);
	for (size_t cut = 0; cut <= 1000; cut++)
		ck_assert_uint_eq(crc32c_more(crc32c(data, cut), data + cut, 1000 - cut), whole);
	ck_assert_uint_eq(crc32c_more(0, data, 1000), whole);
}
END_TEST

START_TEST(counts)
{
	static const struct {
		uint64_t offset;
		size_t length, count;
	} rows[] = {
		{ 0, 0, 0 },         { 17, 0, 0 },        { 0, 1, 1 },          { 0, 4096, 1 },
		{ 0, 4097, 2 },      { 0, 8192, 2 },      { 4095, 1, 1 },       { 4095, 2, 2 },
		{ 4095, 4097, 2 },   { 4095, 4098, 3 },   { 1, 4095, 1 },       { 1, 4096, 2 },
		{ 1, 1 << 20, 257 }, { 0, 1 << 20, 256 }, { UINT64_MAX, 1, 1 }, { (UINT64_C(1) << 40) + 4096, 4096, 1 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_uint_eq(bulk_sums_count(rows[i].offset, rows[i].length), rows[i].count);
}
END_TEST

/* However the bytes lie in memory, the pieces are the same: those of the object. */
START_TEST(made_of_any_parts)
{
	const unsigned int first_seed = 4711;
	unsigned int seed = first_seed;

	fill();
	for (int round = 0; round < 3000; round++) {
		uint64_t offset = (uint64_t)rand_r(&seed) % (3 * BULK_PIECE);
		size_t length = (size_t)rand_r(&seed) % (SIZE - 1), count = bulk_sums_count(offset, length), at = 0;
		uint32_t sums[8], guard = 0xdeadbeef;
		struct iovec iov[40];
		int parts = 0;

		while (at < length && parts < 39) {
			size_t part = rand_r(&seed) % 3 == 0 ? 0 : 1 + (size_t)rand_r(&seed) % 2000;

			if (part > length - at)
				part = length - at;
			iov[parts++] = (struct iovec){ data + at, part };
			at += part;
		}
		iov[parts++] = (struct iovec){ data + at, length - at };

		sums[count] = guard;
		bulk_sums_make(offset, iov, parts, sums);
		ck_assert_msg(sums[count] == guard, "seed %u", first_seed);
		for (size_t i = 0, from = 0; i < count; i++) {
			size_t room = BULK_PIECE - (size_t)((offset + from) % BULK_PIECE);
			size_t size = length - from < room ? length - from : room;

			ck_assert_msg(sums[i] == reference(data + from, size), "seed %u", first_seed);
			from += size;
		}
		ck_assert_int_eq(bulk_sums_check(offset, data, length, sums, count, NULL), 0);
	}
}
END_TEST

START_TEST(finds_the_bad_piece)
{
	const uint64_t offset = 3 * BULK_PIECE + 1000;
	const size_t length = 2 * BULK_PIECE + 500; /* 3096, 4096, 1500 */
	const struct iovec iov = { data, length };
	static const struct {
		size_t byte;
		uint64_t bad;
	} rows[] = {
		{ 0, 3 * BULK_PIECE + 1000 }, { 3095, 3 * BULK_PIECE + 1000 }, { 3096, 4 * BULK_PIECE },
		{ 7191, 4 * BULK_PIECE },     { 7192, 5 * BULK_PIECE },        { 8691, 5 * BULK_PIECE },
	};
	uint64_t bad = 42;
	uint32_t sums[4];

	fill();
	bulk_sums_make(offset, &iov, 1, sums);
	ck_assert_uint_eq(bulk_sums_count(offset, length), 3);
	ck_assert_int_eq(bulk_sums_check(offset, data, length, sums, 3, &bad), 0);
	ck_assert_uint_eq(bad, 42);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		data[rows[i].byte] ^= 0x10;
		ck_assert_int_eq(bulk_sums_check(offset, data, length, sums, 3, &bad), -EBADMSG);
		ck_assert_uint_eq(bad, rows[i].bad);
		ck_assert_int_eq(bulk_sums_check(offset, data, length, sums, 3, NULL), -EBADMSG);
		data[rows[i].byte] ^= 0x10;
	}
}
END_TEST

START_TEST(wrong_counts)
{
	uint32_t sums[4] = { 0 };
	uint64_t bad = 42;

	ck_assert_int_eq(bulk_sums_check(0, data, 4096, sums, 0, &bad), -EINVAL);
	ck_assert_int_eq(bulk_sums_check(0, data, 4096, sums, 2, &bad), -EINVAL);
	ck_assert_int_eq(bulk_sums_check(1, data, 4096, sums, 1, &bad), -EINVAL);
	ck_assert_int_eq(bulk_sums_check(0, data, 0, sums, 1, &bad), -EINVAL);
	ck_assert_int_eq(bulk_sums_check(0, data, 0, NULL, 0, &bad), 0);
	ck_assert_uint_eq(bad, 42);
}
END_TEST

UNIT_MAIN("bulk_sums", vectors, any_length_and_place, in_parts, counts, made_of_any_parts, finds_the_bad_piece,
	  wrong_counts)
