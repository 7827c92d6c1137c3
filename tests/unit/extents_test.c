#include "client/data/extents.h"

#include "tests/unit/unit.h"

#include <string.h>

#define SPACE 4096u

/* A byte model of a set: which byte of the file stands where, 0 for none. */
static void model_of(const struct extent_set *set, uint8_t out[SPACE])
{
	uint64_t end = 0, bytes = 0;

	memset(out, 0, SPACE);
	for (size_t i = 0; i < set->count; i++) {
		const struct extent *extent = set->items[i];

		ck_assert_uint_ge(extent->offset, end); /* sorted, no overlap */
		ck_assert_uint_gt(extent->length, 0);
		end = extent_end(extent);
		bytes += extent->length;
		memcpy(out + extent->offset, extent_data(extent), extent->length);
	}
	ck_assert_uint_eq(bytes, set->bytes);
	ck_assert_uint_eq(end, extents_end(set));
}

/* The i-th byte of what was written as `value`: each tells where it stood. Never 0. */
static uint8_t byte_of(uint8_t value, uint32_t i)
{
	return (uint8_t)(1 + (value + i) % 255);
}

static struct extent *filled(uint64_t offset, uint32_t length, uint8_t value)
{
	uint8_t bytes[SPACE];

	for (uint32_t i = 0; i < length; i++)
		bytes[i] = byte_of(value, i);
	return extent_new(offset, bytes, length, length);
}

START_TEST(random_operations_match_a_byte_model)
{
	struct extent_set set = { 0 };
	uint8_t model[SPACE] = { 0 }, seen[SPACE];
	unsigned int seed = 20261121;

	for (int round = 0; round < 20000; round++) {
		uint64_t offset = (uint64_t)rand_r(&seed) % (SPACE - 64);
		uint32_t length = 1 + (uint32_t)rand_r(&seed) % 64;
		uint8_t value = (uint8_t)(round % 255);
		bool failed;

		switch (rand_r(&seed) % 4) {
		case 0: /* newer on top: what the answered writes do */
			extents_cut(&set, offset, offset + length, false, &failed);
			ck_assert(!failed);
			ck_assert_int_eq(extents_insert(&set, filled(offset, length, value)), 0);
			for (uint32_t i = 0; i < length; i++)
				model[offset + i] = byte_of(value, i);
			break;
		case 1: /* older underneath: what a resend does */
			ck_assert_int_eq(extents_insert_under(&set, filled(offset, length, value)), 0);
			for (uint32_t i = 0; i < length; i++)
				if (model[offset + i] == 0)
					model[offset + i] = byte_of(value, i);
			break;
		case 2: /* a punch */
			extents_cut(&set, offset, offset + length * 4, false, &failed);
			ck_assert(!failed);
			memset(model + offset, 0, offset + length * 4 > SPACE ? SPACE - offset : length * 4);
			break;
		default: /* a truncate, now and then */
			if (rand_r(&seed) % 50 != 0)
				break;
			extents_cut(&set, offset, UINT64_MAX, false, &failed);
			memset(model + offset, 0, SPACE - offset);
		}
		model_of(&set, seen);
		ck_assert_msg(memcmp(seen, model, SPACE) == 0, "round %d differs", round);
		ck_assert_int_eq(extents_overlap(&set, offset, offset + length),
				 memcmp(model + offset, (uint8_t[64]){ 0 }, length) != 0);
	}
	extents_clear(&set);
	ck_assert_uint_eq(set.bytes, 0);
}
END_TEST

START_TEST(a_cut_may_spare_what_was_never_answered)
{
	struct extent_set set = { 0 };
	struct extent *fresh = filled(0, 10, 1), *resent = filled(10, 10, 2);
	bool failed;

	resent->resend = true;
	ck_assert_int_eq(extents_insert(&set, fresh), 0);
	ck_assert_int_eq(extents_insert(&set, resent), 0);
	ck_assert_uint_eq(extents_cut(&set, 5, UINT64_MAX, true, &failed), 10);
	ck_assert_uint_eq(set.count, 1);
	ck_assert_uint_eq(set.items[0]->length, 10);
	extents_clear(&set);
}
END_TEST

static unsigned int released;
static void count_release(struct bulk *bulk)
{
	(void)bulk;
	released++;
}

START_TEST(adopted_memory_goes_with_its_last_part)
{
	static uint8_t memory[SPACE];
	struct bulk bulk = { .data = memory, .size = sizeof(memory), .release = count_release };
	struct extent_set set = { 0 };
	bool failed;

	released = 0;
	ck_assert_int_eq(extents_insert(&set, extent_adopt(100, &bulk, memory + 80, 1000)), 0);
	ck_assert_uint_eq(extents_cut(&set, 200, 300, false, &failed), 100);
	ck_assert_uint_eq(set.count, 2);
	ck_assert_ptr_eq(extent_data(set.items[1]), memory + 280);
	extents_cut(&set, 0, 200, false, &failed);
	ck_assert_uint_eq(released, 0);
	extents_clear(&set);
	ck_assert_uint_eq(released, 1);
}
END_TEST

UNIT_MAIN("extents", random_operations_match_a_byte_model, a_cut_may_spare_what_was_never_answered,
	  adopted_memory_goes_with_its_last_part)
