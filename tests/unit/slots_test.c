/* Session slots: what slot_begin() says to every sequence of requests, resends, finishes and drops. */
#include "common/slots.h"

#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

#define SLOTS_MAX 16

enum action { BEGIN, FINISH, DROP };

/* One step of a story in slot 3 of session 7, and what must come of it. Waiters are numbers. */
struct step {
	enum action action;
	uint32_t seq;
	uintptr_t waiter; /* BEGIN: brought; FINISH: handed back, 0 for none */
	int result;       /* BEGIN: error, or else: */
	enum slot_verdict verdict;
	uintptr_t replaced; /* SLOT_RUNNING */
	int reply;          /* SLOT_RESENT: the stored error; FINISH: to store */
};

struct story {
	const char *name;
	struct step steps[10];
	size_t count;
};

static const struct story stories[] = {
	{ "one after the other",
	  { { BEGIN, 1, 1, 0, SLOT_NEW, 0, 0 },
	    { FINISH, 1, 1, 0, 0, 0, 0 },
	    { BEGIN, 2, 2, 0, SLOT_NEW, 0, 0 },
	    { FINISH, 2, 2, 0, 0, 0, -ENOSPC },
	    { BEGIN, 3, 3, 0, SLOT_NEW, 0, 0 } },
	  5 },
	{ "a resend gets the stored reply, as often as it comes",
	  { { BEGIN, 1, 1, 0, SLOT_NEW, 0, 0 },
	    { FINISH, 1, 1, 0, 0, 0, -ENOSPC },
	    { BEGIN, 1, 2, 0, SLOT_RESENT, 0, -ENOSPC },
	    { BEGIN, 1, 3, 0, SLOT_RESENT, 0, -ENOSPC } },
	  4 },
	{ "a resend of what runs takes its place",
	  { { BEGIN, 5, 1, 0, SLOT_NEW, 0, 0 },
	    { BEGIN, 5, 2, 0, SLOT_RUNNING, 1, 0 },
	    { BEGIN, 5, 3, 0, SLOT_RUNNING, 2, 0 },
	    { FINISH, 5, 3, 0, 0, 0, 0 },
	    { BEGIN, 5, 4, 0, SLOT_RESENT, 0, 0 } },
	  5 },
	{ "what is older than the last is stale, running or finished",
	  { { BEGIN, 10, 1, 0, SLOT_NEW, 0, 0 },
	    { BEGIN, 9, 2, -ESTALE, 0, 0, 0 },
	    { FINISH, 10, 1, 0, 0, 0, 0 },
	    { BEGIN, 9, 2, -ESTALE, 0, 0, 0 },
	    { BEGIN, 0, 2, -ESTALE, 0, 0, 0 } },
	  5 },
	{ "the next one waits for the one before",
	  { { BEGIN, 1, 1, 0, SLOT_NEW, 0, 0 },
	    { BEGIN, 2, 2, -EAGAIN, 0, 0, 0 },
	    { FINISH, 1, 1, 0, 0, 0, 0 },
	    { BEGIN, 2, 2, 0, SLOT_NEW, 0, 0 } },
	  4 },
	{ "numbers may be left out, and wrap",
	  { { BEGIN, UINT32_MAX - 1, 1, 0, SLOT_NEW, 0, 0 },
	    { FINISH, UINT32_MAX - 1, 1, 0, 0, 0, 0 },
	    { BEGIN, UINT32_MAX, 2, 0, SLOT_NEW, 0, 0 },
	    { FINISH, UINT32_MAX, 2, 0, 0, 0, 0 },
	    { BEGIN, 0, 3, 0, SLOT_NEW, 0, 0 },
	    { BEGIN, UINT32_MAX, 4, -ESTALE, 0, 0, 0 },
	    { FINISH, 0, 3, 0, 0, 0, 0 },
	    { BEGIN, 100, 5, 0, SLOT_NEW, 0, 0 } },
	  8 },
	{ "and nothing is at the middle of their range",
	  { { BEGIN, 0x7ffffffe, 1, 0, SLOT_NEW, 0, 0 },
	    { FINISH, 0x7ffffffe, 1, 0, 0, 0, 0 },
	    { BEGIN, 0x7fffffff, 2, 0, SLOT_NEW, 0, 0 },
	    { FINISH, 0x7fffffff, 2, 0, 0, 0, 0 },
	    { BEGIN, 0x80000000, 3, 0, SLOT_NEW, 0, 0 },
	    { BEGIN, 0x7fffffff, 4, -ESTALE, 0, 0, 0 },
	    { FINISH, 0x80000000, 3, 0, 0, 0, 0 },
	    { BEGIN, 0x80000000, 5, 0, SLOT_RESENT, 0, 0 },
	    { BEGIN, 0x80000001, 6, 0, SLOT_NEW, 0, 0 } },
	  9 },
	{ "a dropped session is forgotten; a late finish finds nobody",
	  { { BEGIN, 4, 1, 0, SLOT_NEW, 0, 0 },
	    { DROP, 0, 1, 0, 0, 0, 0 },
	    { FINISH, 4, 0, 0, 0, 0, 0 },
	    { BEGIN, 1, 2, 0, SLOT_NEW, 0, 0 },
	    { FINISH, 4, 0, 0, 0, 0, 0 },
	    { FINISH, 1, 2, 0, 0, 0, 0 },
	    { DROP, 0, 0, 0, 0, 0, 0 } },
	  7 },
};

static void *waiter_of(uintptr_t number)
{
	return (void *)number;
}

static bool keep_none(uint64_t session, void *arg)
{
	(void)session;
	(void)arg;
	return false;
}

static void drop_note(void *waiter, void *arg)
{
	void **last = arg;

	ck_assert_ptr_null(*last);
	*last = waiter;
}

static void step_run(struct slot_table *table, const struct story *story, size_t index)
{
	const struct step *step = &story->steps[index];
	uint8_t body[3] = { (uint8_t)step->seq, 1, 2 };
	const struct slot_reply *reply = NULL;
	enum slot_verdict verdict = SLOT_NEW;
	void *dropped = NULL;
	int err;

	switch (step->action) {
	case BEGIN:
		err = slot_begin(table, 7, 3, step->seq, waiter_of(step->waiter), &verdict, &reply, &dropped);
		ck_assert_msg(err == step->result, "%s, step %zu: %d", story->name, index, err);
		if (err < 0)
			return;
		ck_assert_msg(verdict == step->verdict, "%s, step %zu: verdict %d", story->name, index, verdict);
		ck_assert_ptr_eq(dropped, waiter_of(step->replaced));
		if (verdict == SLOT_RESENT) {
			ck_assert_int_eq(reply->err, step->reply);
			ck_assert_uint_eq(reply->len, sizeof(body));
			ck_assert_mem_eq(reply->body, body, sizeof(body));
		}
		return;
	case FINISH:
		dropped = slot_finish(table, 7, 3, step->seq, step->reply, body, sizeof(body));
		ck_assert_msg(dropped == waiter_of(step->waiter), "%s, step %zu", story->name, index);
		return;
	case DROP:
		slots_keep_sessions(table, keep_none, drop_note, &dropped);
		ck_assert_msg(dropped == waiter_of(step->waiter), "%s, step %zu", story->name, index);
		return;
	}
}

START_TEST(stories_end_as_told)
{
	for (size_t i = 0; i < sizeof(stories) / sizeof(*stories); i++) {
		struct slot_table *table;

		ck_assert_int_eq(slot_table_new(SLOTS_MAX, &table), 0);
		for (size_t j = 0; j < stories[i].count; j++)
			step_run(table, &stories[i], j);
		slot_table_free(table);
	}
}
END_TEST

static enum slot_verdict begin(struct slot_table *table, uint64_t session, uint32_t slot, uint32_t seq)
{
	const struct slot_reply *reply;
	enum slot_verdict verdict;
	void *replaced;

	ck_assert_int_eq(slot_begin(table, session, slot, seq, waiter_of(slot + 1), &verdict, &reply, &replaced), 0);
	return verdict;
}

START_TEST(slots_are_bounded)
{
	const struct slot_reply *reply;
	enum slot_verdict verdict;
	struct slot_table *table;
	void *replaced;

	ck_assert_int_eq(slot_table_new(SLOTS_MAX, &table), 0);
	ck_assert_int_eq(slot_begin(table, 1, SLOTS_MAX, 1, NULL, &verdict, &reply, &replaced), -EINVAL);
	ck_assert_int_eq(slot_begin(table, 1, UINT32_MAX, 1, NULL, &verdict, &reply, &replaced), -EINVAL);
	ck_assert_uint_eq(slots_session_count(table), 0);
	ck_assert_int_eq(begin(table, 1, SLOTS_MAX - 1, 1), SLOT_NEW);
	ck_assert_int_eq(begin(table, 1, 0, 1), SLOT_NEW);
	ck_assert_int_eq(begin(table, 1, SLOTS_MAX - 1, 1), SLOT_RUNNING);
	slot_table_free(table);
}
END_TEST

static bool session_is_even(uint64_t session, void *arg)
{
	(void)arg;
	return session % 2 == 0;
}

static void drop_count(void *waiter, void *arg)
{
	(void)waiter;
	++*(unsigned int *)arg;
}

START_TEST(sessions_and_slots_are_apart)
{
	const uint32_t sessions = 1000;
	struct slot_table *table;
	unsigned int dropped = 0;

	ck_assert_int_eq(slot_table_new(SLOTS_MAX, &table), 0);
	for (uint32_t i = 0; i < sessions; i++) {
		for (uint32_t slot = 0; slot < SLOTS_MAX; slot++)
			ck_assert_int_eq(begin(table, i, slot, i + slot), SLOT_NEW);
	}
	ck_assert_uint_eq(slots_session_count(table), sessions);
	for (uint32_t i = 0; i < sessions; i++) {
		ck_assert_ptr_eq(slot_finish(table, i, 5, i + 5, 0, NULL, 0), waiter_of(6));
		ck_assert_int_eq(begin(table, i, 5, i + 5), SLOT_RESENT);
		ck_assert_int_eq(begin(table, i, 4, i + 4), SLOT_RUNNING);
	}

	slots_keep_sessions(table, session_is_even, drop_count, &dropped);
	ck_assert_uint_eq(dropped, sessions / 2 * (SLOTS_MAX - 1));
	ck_assert_uint_eq(slots_session_count(table), sessions / 2);
	ck_assert_int_eq(begin(table, 3, 5, 1), SLOT_NEW);
	ck_assert_int_eq(begin(table, 4, 5, 4 + 5), SLOT_RESENT);
	slot_table_free(table);
}
END_TEST

UNIT_MAIN("slots", stories_end_as_told, slots_are_bounded, sessions_and_slots_are_apart)
