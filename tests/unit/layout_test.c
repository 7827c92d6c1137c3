#include "common/layout.h"
#include "tests/unit/unit.h"

#include <errno.h>

#define KIB UINT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)

static struct layout make(uint64_t stripe_size, uint32_t count)
{
	struct layout layout = { .stripe_size = stripe_size, .stripe_count = count, .ost_count = count };

	for (uint32_t i = 0; i < count && i < LAYOUT_STRIPES_MAX; i++)
		layout.ost_indices[i] = (uint16_t)(100 + 7 * i);
	return layout;
}

START_TEST(checks)
{
	static const struct {
		uint64_t stripe_size;
		uint32_t stripe_count;
		int err;
	} rows[] = {
		{ 64 * KIB, 1, 0 },
		{ 4 * MIB, 4, 0 },
		{ GIB, LAYOUT_STRIPES_MAX, 0 },
		{ 4 * MIB, 0, 0 },
		{ 0, 1, -EINVAL },
		{ 1, 1, -EINVAL },
		{ 32 * KIB, 1, -EINVAL },
		{ 64 * KIB - 1, 1, -EINVAL },
		{ 64 * KIB + 1, 1, -EINVAL },
		{ 96 * KIB, 1, -EINVAL },
		{ 3 * MIB, 1, -EINVAL },
		{ 2 * GIB, 1, -EINVAL },
		{ UINT64_C(1) << 63, 1, -EINVAL },
		{ UINT64_MAX, 1, -EINVAL },
		{ 4 * MIB, LAYOUT_STRIPES_MAX + 1, -EINVAL },
		{ 4 * MIB, UINT32_MAX, -EINVAL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct layout layout = make(rows[i].stripe_size, rows[i].stripe_count);

		ck_assert_int_eq(layout_check(&layout), rows[i].err);
		layout.ost_count = 0; /* not fixed yet: the same */
		ck_assert_int_eq(layout_check(&layout), rows[i].err);
	}
}
END_TEST

START_TEST(checks_indices)
{
	struct layout layout = make(4 * MIB, LAYOUT_STRIPES_MAX);

	ck_assert_int_eq(layout_check(&layout), 0);
	layout.ost_indices[LAYOUT_STRIPES_MAX - 1] = layout.ost_indices[0];
	ck_assert_int_eq(layout_check(&layout), -EINVAL);
	layout.ost_count--; /* what is beyond does not count */
	ck_assert_int_eq(layout_check(&layout), 0);
	layout.ost_count = LAYOUT_STRIPES_MAX + 1;
	ck_assert_int_eq(layout_check(&layout), -EINVAL);
}
END_TEST

START_TEST(pieces)
{
	static const struct {
		uint64_t offset, length, seq;
		uint32_t ost, in_object, piece;
	} rows[] = {
		{ 0, 1, 0, 100, 0, 1 },
		{ 0, 64 * KIB, 0, 100, 0, 64 * KIB },
		{ 0, UINT64_MAX, 0, 100, 0, 64 * KIB },
		{ 64 * KIB - 1, 2, 0, 100, 64 * KIB - 1, 1 },
		{ 64 * KIB, 2, 1, 107, 0, 2 },
		{ 3 * 64 * KIB + 5, MIB, 3, 100, 5, 64 * KIB - 5 },
		{ INT64_MAX, 1, (UINT64_C(1) << 47) - 1, 107, 64 * KIB - 1, 1 },
		{ UINT64_MAX, 9, (UINT64_C(1) << 48) - 1, 100, 64 * KIB - 1, 1 },
	};
	struct layout layout = make(64 * KIB, 3);

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct layout_piece piece = layout_piece_at(&layout, rows[i].offset, rows[i].length);

		ck_assert_uint_eq(piece.seq, rows[i].seq);
		ck_assert_uint_eq(piece.ost, layout.ost_indices[rows[i].seq % 3]);
		ck_assert_uint_eq(piece.ost, rows[i].ost);
		ck_assert_uint_eq(piece.offset, rows[i].in_object);
		ck_assert_uint_eq(piece.length, rows[i].piece);
		ck_assert_uint_eq(piece.file_offset, rows[i].offset);
	}
}
END_TEST

/* Piece after piece covers a range without a gap, each inside its object; the ranges of objects say the same. */
START_TEST(pieces_and_ranges_agree)
{
	static const uint64_t sizes[] = { 64 * KIB, MIB, GIB };
	unsigned int seed = 12345;

	for (int round = 0; round < 2000; round++) {
		struct layout layout = make(sizes[round % 3], 1 + (uint32_t)rand_r(&seed) % 5);
		uint64_t start = (uint64_t)rand_r(&seed) * 97 % (20 * layout.stripe_size);
		uint64_t end = start + 1 + (uint64_t)rand_r(&seed) % (5 * layout.stripe_size), at = start;

		while (at < end) {
			struct layout_piece piece = layout_piece_at(&layout, at, end - at);
			uint32_t first, last;

			ck_assert_uint_gt(piece.length, 0);
			ck_assert_uint_le((uint64_t)piece.offset + piece.length, layout.stripe_size);
			ck_assert_uint_eq(piece.seq * layout.stripe_size + piece.offset, at);
			ck_assert(layout_object_range(layout.stripe_size, piece.seq, start, end, &first, &last));
			ck_assert_uint_eq(first, piece.offset);
			ck_assert_uint_eq(last, piece.offset + piece.length);
			at += piece.length;
		}
		ck_assert_uint_eq(at, end);
	}
}
END_TEST

START_TEST(ranges)
{
	static const struct {
		uint64_t seq, start, end;
		bool covers;
		uint32_t first, last;
	} rows[] = {
		{ 0, 0, UINT64_MAX, true, 0, 64 * KIB },
		{ 5, 0, UINT64_MAX, true, 0, 64 * KIB },
		{ 0, 100, UINT64_MAX, true, 100, 64 * KIB },
		{ 1, 100, UINT64_MAX, true, 0, 64 * KIB },
		{ 1, 64 * KIB + 9, 64 * KIB + 10, true, 9, 10 },
		{ 1, 10, 64 * KIB + 10, true, 0, 10 },
		{ 1, 64 * KIB, 128 * KIB, true, 0, 64 * KIB },
		{ 1, 0, 64 * KIB, false, 0, 0 },
		{ 1, 128 * KIB, 256 * KIB, false, 0, 0 },
		{ 1, 128 * KIB, UINT64_MAX, false, 0, 0 },
		{ 1, 70 * KIB, 70 * KIB, false, 0, 0 },
		{ 1, 100 * KIB, 70 * KIB, false, 0, 0 },
		{ 0, 0, 0, false, 0, 0 },
		{ (UINT64_C(1) << 48) - 1, 0, UINT64_MAX, true, 0, 64 * KIB - 1 }, /* the last byte has no number */
		{ UINT64_C(1) << 48, 0, UINT64_MAX, false, 0, 0 },
		{ UINT64_MAX, 0, UINT64_MAX, false, 0, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint32_t first = 42, last = 42;

		ck_assert_int_eq(layout_object_range(64 * KIB, rows[i].seq, rows[i].start, rows[i].end, &first, &last),
				 rows[i].covers);
		ck_assert_uint_eq(first, rows[i].covers ? rows[i].first : 42);
		ck_assert_uint_eq(last, rows[i].covers ? rows[i].last : 42);
	}
}
END_TEST

START_TEST(chunks)
{
	struct layout layout = make(64 * KIB, 3);

	ck_assert_uint_eq(layout_chunk_count(&layout, 0), 0);
	ck_assert_uint_eq(layout_chunk_count(&layout, 1), 1);
	ck_assert_uint_eq(layout_chunk_count(&layout, 64 * KIB), 1);
	ck_assert_uint_eq(layout_chunk_count(&layout, 64 * KIB + 1), 2);
	ck_assert_uint_eq(layout_chunk_count(&layout, LAYOUT_FILE_SIZE_MAX), UINT64_C(1) << 47);
	ck_assert_uint_eq(layout_chunk_count(&layout, UINT64_MAX), UINT64_C(1) << 48);
}
END_TEST

UNIT_MAIN("layout", checks, checks_indices, pieces, pieces_and_ranges_agree, ranges, chunks)
