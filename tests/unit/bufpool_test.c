#include "common/bufpool.h"
#include "common/lasting.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define SIZE (512 * 1024)

START_TEST(arguments)
{
	struct bufpool *pool = NULL;

	ck_assert_int_eq(bufpool_new(0, 4096, 1, &pool), -EINVAL);
	ck_assert_int_eq(bufpool_new(SIZE, 0, 1, &pool), -EINVAL);
	ck_assert_int_eq(bufpool_new(SIZE, 3, 1, &pool), -EINVAL);
	ck_assert_int_eq(bufpool_new(SIZE, 4096, 0, &pool), -EINVAL);
	ck_assert_int_eq(bufpool_new(SIZE_MAX, 4096, 1, &pool), -ENOMEM);
	ck_assert_int_eq(bufpool_new(SIZE, (SIZE_MAX >> 1) + 1, 1, &pool), -ENOMEM);
	ck_assert_ptr_null(pool);
	ck_assert_ptr_null(bufpool_free(NULL));
}
END_TEST

/* All of each buffer is there, at the alignment asked for, and none lies in another. */
START_TEST(buffers)
{
	static const struct {
		size_t size, alignment;
	} rows[] = {
		{ SIZE, 4096 }, { 1, 1 }, { 5000, 512 }, { SIZE + 4096, 4096 }, { 100000, 65536 }, { 2 << 20, 2 << 20 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct bulk *bulks[8];
		struct bufpool *pool;

		ck_assert_int_eq(bufpool_new(rows[i].size, rows[i].alignment, 8, &pool), 0);
		for (int k = 0; k < 8; k++) {
			bulks[k] = bufpool_get(pool);
			ck_assert_ptr_nonnull(bulks[k]);
			ck_assert_uint_eq(bulks[k]->size, rows[i].size);
			ck_assert_uint_eq((uintptr_t)bulks[k]->data % rows[i].alignment, 0);
			ck_assert_uint_eq((uintptr_t)bulks[k]->data % 4096, 0);
			memset(bulks[k]->data, k + 1, rows[i].size);
		}
		for (int k = 0; k < 8; k++) {
			const uint8_t *bytes = bulks[k]->data;

			ck_assert_uint_eq(bytes[0], (unsigned int)k + 1);
			ck_assert_uint_eq(bytes[rows[i].size - 1], (unsigned int)k + 1);
			bulks[k]->release(bulks[k]);
		}
		ck_assert_ptr_null(bufpool_free(pool));
	}
}
END_TEST

START_TEST(last_in_first_out)
{
	struct bufpool *pool;
	struct bulk *a, *b, *c;

	ck_assert_int_eq(bufpool_new(SIZE, 4096, 3, &pool), 0);
	a = bufpool_get(pool);
	b = bufpool_get(pool);
	ck_assert_uint_eq(bufpool_count_out(pool), 2);
	a->release(a);
	b->release(b);
	ck_assert_uint_eq(bufpool_count_out(pool), 0);
	ck_assert_ptr_eq(bufpool_get(pool), b);
	ck_assert_ptr_eq(bufpool_get(pool), a);
	c = bufpool_get(pool);
	ck_assert_ptr_nonnull(c);
	ck_assert_ptr_null(bufpool_get(pool));
	b->release(b);
	ck_assert_ptr_eq(bufpool_get(pool), b);
	a->release(a);
	b->release(b);
	c->release(c);
	bufpool_free(pool);
}
END_TEST

struct waiter {
	struct bufpool *pool;
	struct bulk *got;
	int calls;
	bool takes;
};

static void available(void *owner)
{
	struct waiter *waiter = owner;

	waiter->calls++;
	if (waiter->takes)
		waiter->got = bufpool_get(waiter->pool);
}

/* Told once after a get in vain, with the buffer already back; not told when nobody had asked. */
START_TEST(tells_when_available)
{
	struct waiter waiter = { 0 };
	struct bulk *a, *b;

	ck_assert_int_eq(bufpool_new(SIZE, 4096, 2, &waiter.pool), 0);
	bufpool_set_available(waiter.pool, available, &waiter);
	a = bufpool_get(waiter.pool);
	b = bufpool_get(waiter.pool);
	a->release(a);
	ck_assert_int_eq(waiter.calls, 0);
	ck_assert_ptr_eq(bufpool_get(waiter.pool), a);

	ck_assert_ptr_null(bufpool_get(waiter.pool));
	ck_assert_ptr_null(bufpool_get(waiter.pool));
	a->release(a);
	ck_assert_int_eq(waiter.calls, 1);
	b->release(b);
	ck_assert_int_eq(waiter.calls, 1);

	a = bufpool_get(waiter.pool);
	b = bufpool_get(waiter.pool);
	ck_assert_ptr_null(bufpool_get(waiter.pool));
	waiter.takes = true;
	b->release(b);
	ck_assert_int_eq(waiter.calls, 2);
	ck_assert_ptr_eq(waiter.got, b);
	ck_assert_uint_eq(bufpool_count_out(waiter.pool), 2);
	a->release(a);
	ck_assert_int_eq(waiter.calls, 2);
	waiter.got->release(waiter.got);
	bufpool_free(waiter.pool);
}
END_TEST

/* Connections may still hold buffers when their service goes. */
START_TEST(freed_with_buffers_out)
{
	struct waiter waiter = { 0 };
	struct bulk *a, *b;

	ck_assert_int_eq(bufpool_new(SIZE, 4096, 2, &waiter.pool), 0);
	bufpool_set_available(waiter.pool, available, &waiter);
	a = bufpool_get(waiter.pool);
	b = bufpool_get(waiter.pool);
	ck_assert_ptr_null(bufpool_get(waiter.pool));
	ck_assert_ptr_null(bufpool_free(waiter.pool));
	memset(a->data, 1, a->size);
	a->release(a);
	memset(b->data, 1, b->size);
	b->release(b);
	ck_assert_int_eq(waiter.calls, 0);
}
END_TEST

static unsigned int marks_freed;

static void count_freed(struct lasting_mark *mark)
{
	marks_freed++;
	free(mark);
}

/* A mark that says of which memory it is. */
struct mark {
	struct lasting_mark base; /* first */
	struct iovec piece;
};

static struct lasting_mark *make_mark(const void *owner, void *piece, size_t piece_size)
{
	struct mark *mark = calloc(1, sizeof(*mark));

	(void)owner;
	mark->base.free = count_freed;
	mark->piece = (struct iovec){ piece, piece_size };
	return &mark->base;
}

START_TEST(their_memory_lasts_until_it_is_given_back)
{
	const int owner = 0;
	const struct lasting_mark *mark;
	struct bufpool *pool;
	struct bulk *first, *second;

	ck_assert_int_eq(bufpool_new(5000, 512, 2, &pool), 0);
	first = bufpool_get(pool);
	second = bufpool_get(pool);
	mark = lasting_mark(&owner, (uint8_t *)first->data + 10, 100, make_mark);
	ck_assert_ptr_eq(((const struct mark *)mark)->piece.iov_base, first->data);
	ck_assert_uint_eq(((const struct mark *)mark)->piece.iov_len, 8192);
	ck_assert_ptr_ne(lasting_mark(&owner, second->data, 1, make_mark), mark);
	first->release(first);
	first = bufpool_get(pool);
	ck_assert_ptr_eq(lasting_mark(&owner, first->data, 1, make_mark), mark);
	first->release(first);
	bufpool_free(pool);
	ck_assert_uint_eq(marks_freed, 0);
	second->release(second);
	ck_assert_uint_eq(marks_freed, 2);
}
END_TEST

UNIT_MAIN("bufpool", arguments, buffers, last_in_first_out, tells_when_available, freed_with_buffers_out,
	  their_memory_lasts_until_it_is_given_back)
