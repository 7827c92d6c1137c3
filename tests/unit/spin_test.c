/* When a thread looks for more before it sleeps. */
#include "common/spin.h"
#include "tests/unit/unit.h"

static struct spin after(unsigned int times, bool spun, bool came, uint64_t waited_ns)
{
	struct spin spin = { 0 };

	for (unsigned int i = 0; i < times; i++)
		spin_learn(&spin, spun, came, waited_ns);
	return spin;
}

START_TEST(who_gets_quick_answers_looks_for_the_next)
{
	struct spin spin = { 0 };

	ck_assert(!spin_wanted(&spin));
	spin = after(3, false, true, SPIN_NS);
	ck_assert(!spin_wanted(&spin)); /* a few are not yet a rule */
	spin = after(100, false, true, SPIN_NS + SPIN_NS / 2);
	ck_assert(spin_wanted(&spin)); /* a sleeper is told late */
	spin_learn(&spin, true, true, SPIN_NS - 1);
	ck_assert(spin_wanted(&spin));
}
END_TEST

START_TEST(who_looks_in_vain_stops)
{
	struct spin spin = after(100, false, true, 1000);
	unsigned int times;

	for (times = 0; spin_wanted(&spin); times++) {
		ck_assert_uint_lt(times, 4);
		spin_learn(&spin, true, true, SPIN_NS + SPIN_NS / 2);
	}
	ck_assert_uint_gt(times, 1); /* but not for a single pause */

	/* Half in vain is too much. */
	spin = after(100, false, true, 1000);
	for (unsigned int i = 0; i < 16; i++)
		spin_learn(&spin, true, true, i % 2 ? 1000 : 10 * SPIN_NS);
	ck_assert(!spin_wanted(&spin));
}
END_TEST

START_TEST(who_is_asked_now_and_then_sleeps)
{
	struct spin spin = after(100, false, true, 3 * SPIN_NS);

	ck_assert(!spin_wanted(&spin));
	spin = after(100, false, false, 1000); /* its own timers */
	ck_assert(!spin_wanted(&spin));
}
END_TEST

UNIT_MAIN("spin", who_gets_quick_answers_looks_for_the_next, who_looks_in_vain_stops, who_is_asked_now_and_then_sleeps)
