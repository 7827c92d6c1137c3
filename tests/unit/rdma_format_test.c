/* What RDMA's two ends tell each other: credits, segments, greetings and prefaces. */
#include "common/loop.h"
#include "common/rdma/credits.h"
#include "common/rdma/preface.h"
#include "common/rdma/segment.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

START_TEST(credits_bound_both_ends)
{
	struct credits credits = credits_begin(4);

	ck_assert_uint_eq(credits.may_send, 4);
	credits.may_send = 1;
	ck_assert_int_eq(credits_returned(&credits, 4), -EPROTO); /* one more than are out */
	ck_assert_int_eq(credits_returned(&credits, 3), 0);
	ck_assert(!credits_suffice(&credits, 1)); /* alone */
	ck_assert(credits_suffice(&credits, 2));

	for (int i = 0; i < CREDITS_OURS; i++) {
		ck_assert_int_eq(credits_received(&credits), 0);
		if (i + 1 == CREDITS_OURS / 2)
			credits_used(&credits);
	}
	ck_assert_int_eq(credits_received(&credits), -EPROTO);
	ck_assert(credits_due(&credits));
	ck_assert_uint_eq(credits_return(&credits), CREDITS_OURS / 2); /* the others are not used yet */
	ck_assert(!credits_due(&credits));
	credits_used(&credits);
	ck_assert_uint_eq(credits_return(&credits), CREDITS_OURS / 2);
	ck_assert_uint_eq(credits.granted, CREDITS_OURS);
}
END_TEST

START_TEST(segments_are_as_long_as_they_say)
{
	struct segment_header header = { SEGMENT_DATA, 17, 5 }, read;
	uint8_t bytes[SEGMENT_HEADER_SIZE + 5] = { 0 };

	segment_encode(&header, bytes);
	ck_assert_int_eq(segment_decode(bytes, sizeof(bytes), &read), 0);
	ck_assert(read.kind == SEGMENT_DATA && read.returned == 17 && read.length == 5);
	ck_assert_int_eq(segment_decode(bytes, sizeof(bytes) - 1, &read), -EPROTO);
	ck_assert_int_eq(segment_decode(bytes, SEGMENT_HEADER_SIZE - 1, &read), -EPROTO);
	bytes[0] = SEGMENT_CREDIT; /* which brings nothing */
	ck_assert_int_eq(segment_decode(bytes, sizeof(bytes), &read), -EPROTO);
	bytes[0] = SEGMENT_BYE + 1;
	ck_assert_int_eq(segment_decode(bytes, sizeof(bytes), &read), -EPROTO);
	segment_encode(&(struct segment_header){ SEGMENT_DATA, 0, 0 }, bytes);
	ck_assert_int_eq(segment_decode(bytes, SEGMENT_HEADER_SIZE, &read), -EPROTO);
}
END_TEST

START_TEST(greetings_have_bounds)
{
	const struct greeting right = { CREDITS_OURS, SEGMENT_SIZE, true };
	const struct greeting wrong[] = {
		{ CREDITS_MIN - 1, SEGMENT_SIZE, false },
		{ CREDITS_MAX + 1, SEGMENT_SIZE, false },
		{ CREDITS_OURS, SEGMENT_SIZE_MIN - 1, false },
		{ CREDITS_OURS, SEGMENT_SIZE_MAX + 1, false },
	};
	uint8_t bytes[GREETING_SIZE + 40] = { 0 };
	struct greeting read;

	greeting_encode(&right, bytes);
	ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), 0); /* padded by the fabric */
	ck_assert(read.receives == right.receives && read.segment_size == right.segment_size && read.voids);
	bytes[12] = 0;
	ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), 0);
	ck_assert(!read.voids);
	ck_assert_int_eq(greeting_decode(bytes, GREETING_SIZE - 1, &read), -EPROTO);
	ck_assert_int_eq(greeting_decode(NULL, 0, &read), -EPROTO);
	bytes[4]++;
	ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), -EPROTONOSUPPORT);
	bytes[0]++;
	ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), -EPROTO);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		greeting_encode(&wrong[i], bytes);
		ck_assert_int_eq(greeting_decode(bytes, sizeof(bytes), &read), -EPROTO);
	}
}
END_TEST

START_TEST(prefaces_tell_where_memory_is)
{
	const struct preface told = {
		.apart = true,
		.piece_count = 2,
		.pieces = { { UINT64_C(0x123456789abcdef0), 0xfedcba98, 1 }, { 7, 8, 1048576 } },
		.place = { 3, 4, 5 },
	};
	uint8_t bytes[PREFACE_SIZE_MAX];
	size_t size = preface_encode(&told, bytes), need;
	struct preface read;

	for (size_t come = 0; come < size; come++) {
		ck_assert_int_eq(preface_decode(bytes, come, &read, &need), 0);
		ck_assert_uint_gt(need, come);
	}
	ck_assert_int_eq(preface_decode(bytes, size, &read, &need), 0);
	ck_assert(need == size && read.apart && read.piece_count == 2);
	ck_assert(read.pieces[0].address == told.pieces[0].address && read.pieces[0].key == told.pieces[0].key);
	ck_assert(read.pieces[1].size == 1048576 && read.place.address == 3 && read.place.size == 5 && !read.voidable);

	bytes[0] |= 0x80; /* a flag that does not exist */
	ck_assert_int_eq(preface_decode(bytes, size, &read, &need), -EPROTO);
	preface_encode(&told, bytes);
	bytes[1] = PREFACE_PIECES + 1;
	ck_assert_int_eq(preface_decode(bytes, size, &read, &need), -EPROTO);
	preface_encode(&told, bytes);
	memset(bytes + PREFACE_SIZE_MIN + 12, 0, 4); /* an empty piece */
	ck_assert_int_eq(preface_decode(bytes, size, &read, &need), -EPROTO);
}
END_TEST

START_TEST(prefaces_tell_which_key_may_be_voided)
{
	struct preface told = { .piece_count = 1, .pieces = { { 1, 2, 3 } }, .place = { 3, 4, 5 }, .voidable = true },
		       read;
	uint8_t bytes[PREFACE_SIZE_MAX];
	size_t need;

	ck_assert_int_eq(preface_decode(bytes, preface_encode(&told, bytes), &read, &need), 0);
	ck_assert(read.voidable && preface_void_key(&read) == 4);
	told.place.size = 0;
	ck_assert_int_eq(preface_decode(bytes, preface_encode(&told, bytes), &read, &need), 0);
	ck_assert(read.voidable && preface_void_key(&read) == 2);
	told.piece_count = 0; /* there is none */
	ck_assert_int_eq(preface_decode(bytes, preface_encode(&told, bytes), &read, &need), -EPROTO);
}
END_TEST

UNIT_MAIN("rdma_format", credits_bound_both_ends, segments_are_as_long_as_they_say, greetings_have_bounds,
	  prefaces_tell_where_memory_is, prefaces_tell_which_key_may_be_voided)
