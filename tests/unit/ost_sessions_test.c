/* Which sessions may write: tables, leases, verdicts. */
#include "oss/session_table.h"

#include "common/status.h"
#include "tests/unit/unit.h"

#include <errno.h>

#define SECOND UINT64_C(1000000000)
#define LEASE  (30 * SECOND)

static int update(struct session_table *table, uint64_t source, uint64_t epoch, const uint64_t *sessions, size_t count,
		  uint64_t newest, uint64_t now, bool *ret_revoked)
{
	return session_table_update(table, source, epoch, sessions, count, newest, now + LEASE, ret_revoked);
}

START_TEST(nobody_before_the_first_table)
{
	struct session_table table = { 0 };

	ck_assert_int_eq(session_table_check(&table, 1, 0), -EAGAIN);
	ck_assert_uint_eq(session_table_lowest(&table), 0);
	ck_assert(!session_table_has(&table, 0));
	session_table_release(&table);
}
END_TEST

START_TEST(verdicts)
{
	const uint64_t sessions[] = { 9, 3, 7 };
	struct session_table table = { 0 };

	ck_assert_int_eq(update(&table, 1, 1, sessions, 3, 10, SECOND, NULL), 0);
	ck_assert_int_eq(session_table_check(&table, 3, SECOND), 0);
	ck_assert_int_eq(session_table_check(&table, 9, SECOND), 0);
	ck_assert_int_eq(session_table_check(&table, 8, SECOND), -ENOSESSION);
	ck_assert_int_eq(session_table_check(&table, 10, SECOND), -ENOSESSION);
	ck_assert_int_eq(session_table_check(&table, 11, SECOND), -EAGAIN);
	ck_assert_int_eq(session_table_check(&table, 0, SECOND), -ENOSESSION);
	ck_assert_uint_eq(session_table_lowest(&table), 3);
	session_table_release(&table);
}
END_TEST

START_TEST(the_lease_ends_and_is_renewed)
{
	const uint64_t sessions[] = { 5 };
	struct session_table table = { 0 };

	ck_assert_int_eq(update(&table, 1, 1, sessions, 1, 5, SECOND, NULL), 0);
	ck_assert_int_eq(session_table_check(&table, 5, SECOND + LEASE - 1), 0);
	ck_assert_int_eq(session_table_check(&table, 5, SECOND + LEASE), -EAGAIN);
	/* Evicted or not: without a lease nobody can tell. */
	ck_assert_int_eq(session_table_check(&table, 4, SECOND + LEASE), -EAGAIN);
	ck_assert_int_eq(update(&table, 1, 1, sessions, 1, 5, 40 * SECOND, NULL), 0);
	ck_assert_int_eq(session_table_check(&table, 5, 40 * SECOND), 0);
	session_table_release(&table);
}
END_TEST

/* A table that is newer, and was longer on its way. */
START_TEST(a_lease_is_not_shortened)
{
	const uint64_t sessions[] = { 5 };
	struct session_table table = { 0 };

	ck_assert_int_eq(update(&table, 1, 1, sessions, 1, 5, 9 * SECOND, NULL), 0);
	ck_assert_int_eq(session_table_update(&table, 2, 1, sessions, 1, 5, 0, NULL), 0);
	ck_assert_int_eq(session_table_check(&table, 5, 9 * SECOND + LEASE - 1), 0);
	ck_assert_int_eq(session_table_check(&table, 5, 9 * SECOND + LEASE), -EAGAIN);
	session_table_release(&table);
}
END_TEST

START_TEST(tells_who_was_revoked)
{
	const uint64_t first[] = { 1, 2 }, second[] = { 2, 3 }, third[] = { 2, 3, 4 };
	struct session_table table = { 0 };
	bool revoked;

	ck_assert_int_eq(update(&table, 1, 1, first, 2, 2, 0, &revoked), 0);
	ck_assert(!revoked);
	ck_assert_int_eq(update(&table, 1, 2, second, 2, 3, 0, &revoked), 0);
	ck_assert(revoked);
	ck_assert_int_eq(update(&table, 1, 3, third, 3, 4, 0, &revoked), 0);
	ck_assert(!revoked);
	ck_assert_int_eq(update(&table, 1, 4, NULL, 0, 4, 0, &revoked), 0);
	ck_assert(revoked);
	ck_assert_uint_eq(session_table_lowest(&table), 5);
	session_table_release(&table);
}
END_TEST

START_TEST(older_tables_are_refused)
{
	const uint64_t old[] = { 1 }, new[] = { 2 };
	struct session_table table = { 0 };

	ck_assert_int_eq(update(&table, 2, 7, new, 1, 2, 0, NULL), 0);
	ck_assert_int_eq(update(&table, 2, 6, old, 1, 2, 0, NULL), -ESTALE);
	ck_assert_int_eq(update(&table, 1, 9, old, 1, 2, 0, NULL), -ESTALE);
	ck_assert_int_eq(session_table_check(&table, 2, 0), 0);
	/* An MDT that came back with a shorter log. */
	ck_assert_int_eq(update(&table, 3, 5, old, 1, 2, 0, NULL), 0);
	ck_assert_int_eq(session_table_check(&table, 1, 0), 0);
	session_table_release(&table);
}
END_TEST

START_TEST(too_many_are_refused)
{
	struct session_table table = { 0 };
	uint64_t *many = calloc(SESSION_TABLE_MAX + 1, sizeof(*many));

	ck_assert_int_eq(update(&table, 1, 1, many, SESSION_TABLE_MAX + 1, 1, 0, NULL), -EINVAL);
	free(many);
	session_table_release(&table);
}
END_TEST

UNIT_MAIN("ost_sessions", nobody_before_the_first_table, verdicts, the_lease_ends_and_is_renewed,
	  a_lease_is_not_shortened, tells_who_was_revoked, older_tables_are_refused, too_many_are_refused)
