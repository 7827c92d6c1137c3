#include "common/lasting.h"
#include "tests/unit/unit.h"

#include <stdbool.h>
#include <stdint.h>

struct mark {
	struct lasting_mark base; /* first */
	const void *of;
	size_t size;
};

static uint8_t memory[3000];
static const int one, other; /* owners */
static unsigned int living;
static bool refuses;

static void mark_free(struct lasting_mark *mark)
{
	living--;
	free(mark);
}

static struct lasting_mark *mark_make(const void *owner, void *piece, size_t piece_size)
{
	struct mark *mark = refuses ? NULL : calloc(1, sizeof(*mark));

	(void)owner;
	if (mark == NULL)
		return NULL;
	*mark = (struct mark){ { .free = mark_free }, piece, piece_size };
	living++;
	return &mark->base;
}

static const struct mark *mark_at(const void *owner, size_t offset, size_t size)
{
	return (const struct mark *)lasting_mark(owner, memory + offset, size, mark_make);
}

START_TEST(a_piece_is_marked_once_by_each)
{
	const struct mark *mark;

	lasting_add(memory + 2000, 1000);
	lasting_add(memory, 1000);
	mark = mark_at(&one, 2100, 900);
	ck_assert(mark->of == memory + 2000 && mark->size == 1000);
	ck_assert_ptr_eq(mark_at(&one, 2000, 1000), mark);
	ck_assert_ptr_ne(mark_at(&other, 2000, 1000), mark);
	ck_assert_ptr_ne(mark_at(&one, 0, 1), mark);
	ck_assert_uint_eq(living, 3);

	lasting_forget(&one);
	ck_assert_uint_eq(living, 1);
	lasting_remove(memory + 2000);
	ck_assert_uint_eq(living, 0);
	lasting_remove(memory);
}
END_TEST

START_TEST(only_what_lies_in_one_piece_lasts)
{
	lasting_add(memory + 1000, 1000);
	ck_assert_ptr_null(mark_at(&one, 999, 2));
	ck_assert_ptr_null(mark_at(&one, 1999, 2));
	ck_assert_ptr_null(mark_at(&one, 0, 3000));
	ck_assert_ptr_null(mark_at(&one, 2000, 1));
	ck_assert_ptr_null(mark_at(&one, 1500, SIZE_MAX));
	lasting_add(memory + 2000, 1000);
	ck_assert_ptr_null(mark_at(&one, 1999, 2)); /* each of which is registered for itself */
	ck_assert_uint_eq(living, 0);

	lasting_remove(memory + 1000);
	ck_assert_ptr_null(mark_at(&one, 1500, 1));
	lasting_remove(memory + 1000); /* which is not there */
	ck_assert_ptr_nonnull(mark_at(&one, 2500, 1));
	lasting_remove(memory + 2000);
	ck_assert_uint_eq(living, 0);
}
END_TEST

START_TEST(what_cannot_be_marked_is_tried_again)
{
	lasting_add(memory, 1000);
	refuses = true;
	ck_assert_ptr_null(mark_at(&one, 0, 1));
	refuses = false;
	ck_assert_ptr_nonnull(mark_at(&one, 0, 1));
	lasting_remove(memory);
	ck_assert_uint_eq(living, 0);
}
END_TEST

START_TEST(many)
{
	enum { COUNT = 1000 };

	for (size_t i = 0; i < COUNT; i++) /* in no order */
		lasting_add(memory + 3 * (i * 7 % COUNT), 3);
	for (size_t i = 0; i < COUNT; i++)
		ck_assert_ptr_eq(mark_at(&one, 3 * i + 1, 2)->of, memory + 3 * i);
	for (size_t i = 0; i < COUNT; i++)
		lasting_remove(memory + 3 * (i * 13 % COUNT));
	ck_assert_uint_eq(living, 0);
}
END_TEST

UNIT_MAIN("lasting", a_piece_is_marked_once_by_each, only_what_lies_in_one_piece_lasts,
	  what_cannot_be_marked_is_tried_again, many)
