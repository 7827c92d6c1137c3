/* An arena: pieces that are apart and aligned, and no more than its bound. */
#include "common/arena.h"

#include "tests/unit/unit.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

#define PIECES 2000

START_TEST(pieces_are_apart)
{
	static alignas(max_align_t) uint8_t first[100];
	static uint8_t *pieces[PIECES];
	struct arena arena;

	arena_init(&arena, first, sizeof(first), SIZE_MAX);
	for (size_t i = 0; i < PIECES; i++) {
		size_t size = i % 50 == 7 ? 5000 : i % 60;

		pieces[i] = arena_alloc(&arena, size);
		ck_assert_ptr_nonnull(pieces[i]);
		ck_assert_uint_eq((uintptr_t)pieces[i] % alignof(max_align_t), 0);
		memset(pieces[i], (int)i, size);
	}
	for (size_t i = 0; i < PIECES; i++) {
		for (size_t at = 0; at < (i % 50 == 7 ? 5000 : i % 60); at++)
			ck_assert_uint_eq(pieces[i][at], (uint8_t)i);
	}
	arena_release(&arena);
}
END_TEST

START_TEST(there_is_a_bound)
{
	struct arena arena;
	size_t taken = 0;

	arena_init(&arena, NULL, 0, 100000);
	ck_assert_ptr_null(arena_alloc(&arena, 100001));
	while (arena_alloc(&arena, 100) != NULL)
		taken += 100;
	ck_assert_uint_ge(taken, 80000);
	ck_assert_uint_le(taken, 100000);
	arena_release(&arena);

	arena_init(&arena, NULL, 0, 100000);
	ck_assert_ptr_nonnull(arena_alloc(&arena, 100000));
	ck_assert_ptr_null(arena_alloc(&arena, 16));
	arena_release(&arena);
}
END_TEST

UNIT_MAIN("arena", pieces_are_apart, there_is_a_bound)
