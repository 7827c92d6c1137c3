#include "common/bulk_sums.h"
#include "common/frame.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

static const struct frame_header sample = {
	.version = FRAME_VERSION,
	.kind = FRAME_REPLY,
	.opcode = 0x0230,
	.flags = FRAME_RESENT | FRAME_SYNC,
	.credits = 0x0102,
	.status = 0x03040506,
	.xid = UINT64_C(0x1112131415161718),
	.session = UINT64_C(0x2122232425262728),
	.slot = 0x31323334,
	.seq = 0x41424344,
	.body_len = FRAME_BODY_MAX,
	.bulk_len = FRAME_BULK_MAX,
	.log_index = UINT64_C(0x5152535455565758),
	.durable_index = UINT64_C(0x6162636465666768),
	.body_sum = 0x71727374,
};

/* Make the sum right again after a change to the bytes. */
static void seal(uint8_t bytes[FRAME_HEADER_SIZE])
{
	uint32_t sum = crc32c(bytes, FRAME_HEADER_SIZE - 4);

	for (unsigned int i = 0; i < 4; i++)
		bytes[FRAME_HEADER_SIZE - 4 + i] = (uint8_t)(sum >> (8 * i));
}

static void put(uint8_t *at, uint64_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

/* Byte by byte as the header file says: an old and a new program must agree. */
START_TEST(bytes_are_those_of_the_header_file)
{
	uint8_t expected[FRAME_HEADER_SIZE], out[FRAME_HEADER_SIZE];

	memcpy(expected, "STRK", 4);
	expected[4] = FRAME_VERSION;
	expected[5] = FRAME_REPLY;
	put(expected + 6, sample.opcode, 2);
	put(expected + 8, sample.flags, 2);
	put(expected + 10, sample.credits, 2);
	put(expected + 12, sample.status, 4);
	put(expected + 16, sample.xid, 8);
	put(expected + 24, sample.session, 8);
	put(expected + 32, sample.slot, 4);
	put(expected + 36, sample.seq, 4);
	put(expected + 40, sample.body_len, 4);
	put(expected + 44, sample.bulk_len, 4);
	put(expected + 48, sample.log_index, 8);
	put(expected + 56, sample.durable_index, 8);
	put(expected + 64, sample.body_sum, 4);
	seal(expected);

	frame_encode(&sample, out);
	ck_assert_mem_eq(out, expected, FRAME_HEADER_SIZE);
}
END_TEST

START_TEST(comes_back_as_it_went)
{
	uint8_t bytes[FRAME_HEADER_SIZE];
	struct frame_header back;

	frame_encode(&sample, bytes);
	ck_assert_int_eq(frame_decode(bytes, &back), 0);
	ck_assert_uint_eq(back.version, sample.version);
	ck_assert_int_eq((int)back.kind, (int)sample.kind);
	ck_assert_uint_eq(back.opcode, sample.opcode);
	ck_assert_uint_eq(back.flags, sample.flags);
	ck_assert_uint_eq(back.credits, sample.credits);
	ck_assert_uint_eq(back.status, sample.status);
	ck_assert_uint_eq(back.xid, sample.xid);
	ck_assert_uint_eq(back.session, sample.session);
	ck_assert_uint_eq(back.slot, sample.slot);
	ck_assert_uint_eq(back.seq, sample.seq);
	ck_assert_uint_eq(back.body_len, sample.body_len);
	ck_assert_uint_eq(back.bulk_len, sample.bulk_len);
	ck_assert_uint_eq(back.log_index, sample.log_index);
	ck_assert_uint_eq(back.durable_index, sample.durable_index);
	ck_assert_uint_eq(back.body_sum, sample.body_sum);
}
END_TEST

/* Every single bit that flips is seen: as another magic, or by the sum. */
START_TEST(flipped_bits_are_seen)
{
	uint8_t bytes[FRAME_HEADER_SIZE];
	struct frame_header back = { .xid = 77 };

	for (unsigned int bit = 0; bit < 8 * FRAME_HEADER_SIZE; bit++) {
		frame_encode(&sample, bytes);
		bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
		ck_assert_int_eq(frame_decode(bytes, &back), bit < 32 ? -EPROTO : -EBADMSG);
	}
	ck_assert_uint_eq(back.xid, 77);
}
END_TEST

/* What is wrong first is told, in the order of the checks; sums are right. */
START_TEST(refusals)
{
	static const struct {
		size_t at;
		unsigned int size;
		uint64_t value;
		int err;
	} rows[] = {
		{ 0, 4, 0, -EPROTO },
		{ 0, 4, 0x20544547, -EPROTO }, /* "GET " */
		{ 4, 1, 0, -EPROTONOSUPPORT },
		{ 4, 1, FRAME_VERSION + 1, -EPROTONOSUPPORT },
		{ 4, 1, 255, -EPROTONOSUPPORT },
		{ 5, 1, 0, -EPROTO },
		{ 5, 1, 4, -EPROTO },
		{ 5, 1, 255, -EPROTO },
		{ 40, 4, FRAME_BODY_MAX + 1, -EMSGSIZE },
		{ 40, 4, UINT32_MAX, -EMSGSIZE },
		{ 44, 4, FRAME_BULK_MAX + 1, -EMSGSIZE },
		{ 44, 4, UINT32_MAX, -EMSGSIZE },
		{ 40, 8, 0, 0 },
		{ 5, 1, FRAME_REQUEST, 0 },
		{ 5, 1, FRAME_PUSH, 0 },
		{ 6, 2, 0xffff, 0 }, /* opcodes and flags are not the frame's business */
		{ 8, 2, 0xffff, 0 },
	};
	uint8_t bytes[FRAME_HEADER_SIZE];
	struct frame_header back;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		frame_encode(&sample, bytes);
		put(bytes + rows[i].at, rows[i].value, rows[i].size);
		seal(bytes);
		ck_assert_int_eq(frame_decode(bytes, &back), rows[i].err);
	}
	/* A foreign version's lengths and kind are not looked at. */
	frame_encode(&sample, bytes);
	bytes[4] = 9;
	bytes[5] = 99;
	put(bytes + 40, UINT32_MAX, 4);
	seal(bytes);
	ck_assert_int_eq(frame_decode(bytes, &back), -EPROTONOSUPPORT);
}
END_TEST

START_TEST(zeros_are_no_header)
{
	static const uint8_t zeros[FRAME_HEADER_SIZE];
	struct frame_header back;

	ck_assert_int_eq(frame_decode(zeros, &back), -EPROTO);
}
END_TEST

UNIT_MAIN("frame", bytes_are_those_of_the_header_file, comes_back_as_it_went, flipped_bits_are_seen, refusals,
	  zeros_are_no_header)
