#include "client/data/buffers.h"

#include "tests/unit/unit.h"

#include <sys/mman.h>

#define MANY     200u
#define KEPT_MAX 100u
#define KEPT_MIN 64u /* whether they are needed or not */

static void take(struct buffers *buffers, struct bulk **out, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		out[i] = buffers_get(buffers);
		ck_assert_ptr_nonnull(out[i]);
		ck_assert_uint_eq(out[i]->size, BUFFERS_ROOM);
		*(char *)out[i]->data = 'x';
	}
}

static void give_back(struct bulk *const *out, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		out[i]->release(out[i]);
}

/* Of those places, how many have memory. */
static unsigned int mapped(char *const *places, unsigned int count)
{
	unsigned int there = 0;

	for (unsigned int i = 0; i < count; i++)
		there += msync(places[i], 4096, MS_ASYNC) == 0;
	return there;
}

START_TEST(memory_is_used_again_up_to_a_bound_and_given_back_when_it_is_not_needed)
{
	struct buffers *buffers = buffers_new(KEPT_MAX);
	struct bulk *out[MANY];
	char *places[MANY];

	take(buffers, out, MANY);
	for (unsigned int i = 0; i < MANY; i++)
		places[i] = out[i]->data;
	give_back(out, MANY);
	ck_assert_uint_eq(mapped(places, MANY), KEPT_MAX);

	/* What was needed since the last time stays. */
	buffers_trim(buffers);
	take(buffers, out, KEPT_MAX);
	give_back(out, KEPT_MAX);
	buffers_trim(buffers);
	ck_assert_uint_eq(mapped(places, MANY), KEPT_MAX);

	buffers_trim(buffers);
	ck_assert_uint_eq(mapped(places, MANY), KEPT_MAX - (KEPT_MAX - KEPT_MIN) / 2);
	for (unsigned int i = 0; i < 10; i++)
		buffers_trim(buffers);
	ck_assert_uint_eq(mapped(places, MANY), KEPT_MIN);
	buffers_free(buffers);
	ck_assert_uint_eq(mapped(places, MANY), 0);
}
END_TEST

START_TEST(what_is_idle_makes_room)
{
	struct buffers *buffers = buffers_new(KEPT_MAX);
	struct bulk *out[KEPT_MAX];
	char *places[KEPT_MAX];

	take(buffers, out, KEPT_MAX);
	for (unsigned int i = 0; i < KEPT_MAX; i++)
		places[i] = out[i]->data;
	buffers_limit(buffers, 0); /* those that are out stay */
	give_back(out, KEPT_MAX);
	buffers_limit(buffers, KEPT_MAX);
	ck_assert_uint_eq(mapped(places, KEPT_MAX), KEPT_MAX);
	buffers_limit(buffers, 10);
	ck_assert_uint_eq(mapped(places, KEPT_MAX), 10);
	take(buffers, out, KEPT_MAX);
	give_back(out, KEPT_MAX);
	buffers_limit(buffers, 0);
	buffers_trim(buffers);
	buffers_free(buffers);
}
END_TEST

UNIT_MAIN("buffers", memory_is_used_again_up_to_a_bound_and_given_back_when_it_is_not_needed, what_is_idle_makes_room)
