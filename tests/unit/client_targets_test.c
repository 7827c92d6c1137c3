/* When a mount says that a target does not answer, and what it keeps of the cluster map. */
#include "client/targets.h"
#include "common/loop.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define S NSEC_PER_SEC

START_TEST(trouble_is_said_after_ten_seconds_and_then_each_minute)
{
	struct trouble trouble = { 0 };
	unsigned int seconds = 0, said = 0;

	/* A request from second 100 on, tried every other second. */
	for (uint64_t now = 102; now < 110; now += 2)
		ck_assert(!trouble_note(&trouble, 100 * S, now * S, &seconds));
	ck_assert(trouble_note(&trouble, 100 * S, 110 * S, &seconds));
	ck_assert_uint_eq(seconds, 10);
	for (uint64_t now = 112; now <= 232; now += 2)
		said += trouble_note(&trouble, 105 * S, now * S, &seconds);
	ck_assert_uint_eq(said, 2);
	ck_assert(trouble_end(&trouble, 233 * S));
	ck_assert(!trouble_end(&trouble, 233 * S));

	/* Another request that began in the trouble and failed in it hears of its end only now. */
	ck_assert(!trouble_note(&trouble, 200 * S, 234 * S, &seconds));
	ck_assert(trouble_note(&trouble, 200 * S, 243 * S, &seconds));
	ck_assert_uint_eq(seconds, 10);
}
END_TEST

START_TEST(trouble_that_nobody_saw_end_is_forgotten)
{
	struct trouble trouble = { 0 };
	unsigned int seconds;

	ck_assert(trouble_note(&trouble, 100 * S, 110 * S, &seconds));
	/* An hour later somebody asks again, in vain at first. */
	ck_assert(!trouble_note(&trouble, 3700 * S, 3702 * S, &seconds));
	ck_assert(!trouble_end(&trouble, 3703 * S));
}
END_TEST

START_TEST(one_long_attempt_is_said_at_once)
{
	struct trouble trouble = { 0 };
	unsigned int seconds;

	ck_assert(trouble_note(&trouble, 100 * S, 110 * S + 5, &seconds));
	ck_assert_uint_eq(seconds, 10);
}
END_TEST

static void note_state(void *arg, const struct target_state *state)
{
	char *text = arg;

	sprintf(text + strlen(text), " %s%u", role_name(state->role), state->index);
}

START_TEST(targets_are_told_in_order)
{
	struct targets *targets = targets_new();
	struct target_state *first = targets_state(targets, ROLE_OST, 3);
	char text[64] = "";

	ck_assert_ptr_nonnull(targets_state(targets, ROLE_OST, 10));
	ck_assert_ptr_nonnull(targets_state(targets, ROLE_MDT, 5));
	ck_assert_ptr_nonnull(targets_state(targets, ROLE_OST, 0));
	ck_assert_ptr_eq(targets_state(targets, ROLE_OST, 3), first);
	targets_each(targets, note_state, text);
	ck_assert_str_eq(text, " mdt5 ost0 ost3 ost10");
	targets_free(targets);
}
END_TEST

START_TEST(the_map_is_copied_and_outlives_its_replacement)
{
	Strake__ClusterMap wire = STRAKE__CLUSTER_MAP__INIT;
	Strake__Target mdt = STRAKE__TARGET__INIT, ost = STRAKE__TARGET__INIT, *list[] = { &mdt, &ost };
	struct targets *targets = targets_new();
	struct target_map *first, *second;
	const struct target *found;
	uint8_t uuid[UUID_SIZE] = { 1 };
	char address[] = "127.0.0.1:9400", *addresses[] = { address };

	wire.target = list;
	wire.n_target = 2;
	wire.epoch = 3;
	mdt.role = STRAKE__TARGET_ROLE__TARGET_MDT;
	ost.role = STRAKE__TARGET_ROLE__TARGET_OST;
	ost.index = 7;
	mdt.uuid = ost.uuid = (ProtobufCBinaryData){ .len = UUID_SIZE, .data = uuid };
	ost.address = addresses;
	ost.n_address = 1;
	ck_assert_ptr_null(targets_map(targets));
	ck_assert_int_eq(target_map_new(&wire, &first), 0);
	targets_set_map(targets, first);
	first = targets_map(targets);
	address[0] = 'X';
	found = target_map_find(first, ROLE_OST, 7);
	ck_assert_ptr_nonnull(found);
	ck_assert_str_eq(found->addresses[0], "127.0.0.1:9400");
	ck_assert_ptr_null(target_map_find(first, ROLE_OST, 0));
	ck_assert_uint_eq(target_map_find(first, ROLE_MDT, 0)->address_count, 0);

	ck_assert_int_eq(target_map_new(&wire, &second), 0);
	targets_set_map(targets, second);
	ck_assert_str_eq(found->addresses[0], "127.0.0.1:9400");
	target_map_put(first);

	mdt.uuid.len = 3;
	ck_assert_int_eq(target_map_new(&wire, &second), -EPROTO);
	ck_assert_ptr_eq(targets_state(targets, ROLE_OST, 7), targets_state(targets, ROLE_OST, 7));
	ck_assert_ptr_ne(targets_state(targets, ROLE_OST, 7), targets_state(targets, ROLE_MDT, 7));
	targets_free(targets);
}
END_TEST

UNIT_MAIN("client_targets", trouble_is_said_after_ten_seconds_and_then_each_minute,
	  trouble_that_nobody_saw_end_is_forgotten, one_long_attempt_is_said_at_once, targets_are_told_in_order,
	  the_map_is_copied_and_outlives_its_replacement)
