#include "common/ops.h"
#include "common/status.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <string.h>

static const struct {
	int err;
	uint32_t number;
} table[] = {
#define STATUS(name, number) { name, number },
#include "proto/status.def"
#undef STATUS
};
#define TABLE (sizeof(table) / sizeof(*table))

static bool has_errno(int err)
{
	for (size_t i = 0; i < TABLE; i++)
		if (table[i].err == err)
			return true;
	return false;
}

static bool has_number(uint32_t number)
{
	for (size_t i = 0; i < TABLE; i++)
		if (table[i].number == number)
			return true;
	return false;
}

START_TEST(zero_is_zero)
{
	ck_assert_uint_eq(status_from_errno(0), 0);
	ck_assert_int_eq(status_to_errno(0), 0);
	ck_assert(!has_number(0));
}
END_TEST

START_TEST(every_row_both_ways)
{
	for (size_t i = 0; i < TABLE; i++) {
		ck_assert_uint_eq(status_from_errno(-table[i].err), table[i].number);
		ck_assert_int_eq(status_to_errno(table[i].number), -table[i].err);
	}
}
END_TEST

/* Anything else is EIO; a positive errno is nobody's. */
START_TEST(the_rest_is_eio)
{
	for (int err = 1; err < 4096; err++) {
		if (!has_errno(err))
			ck_assert_uint_eq(status_from_errno(-err), status_from_errno(-EIO));
		ck_assert_uint_eq(status_from_errno(err), status_from_errno(-EIO));
	}
	for (uint32_t number = 1; number < 4096; number++)
		if (!has_number(number))
			ck_assert_int_eq(status_to_errno(number), -EIO);
	ck_assert_uint_eq(status_from_errno(INT_MIN), 5);
	ck_assert_uint_eq(status_from_errno(INT_MAX), 5);
	ck_assert_int_eq(status_to_errno(UINT32_MAX), -EIO);
}
END_TEST

/* Numbers are for ever: some of them, as they were. */
START_TEST(numbers_do_not_move)
{
	ck_assert_uint_eq(status_from_errno(-ENOENT), 2);
	ck_assert_uint_eq(status_from_errno(-EIO), 5);
	ck_assert_uint_eq(status_from_errno(-EEXIST), 17);
	ck_assert_uint_eq(status_from_errno(-ENOSPC), 28);
	ck_assert_uint_eq(status_from_errno(-EOPNOTSUPP), 95);
	ck_assert_uint_eq(status_from_errno(-ESTALE), 116);
	ck_assert_uint_eq(status_from_errno(-EKEYREJECTED), 129);
	ck_assert_uint_eq(status_from_errno(-ENOSESSION), 200);
	ck_assert_int_eq(status_to_errno(200), -ENOSESSION);
}
END_TEST

START_TEST(second_names)
{
	ck_assert_uint_eq(status_from_errno(-ENOTSUP), status_from_errno(-EOPNOTSUPP));
	ck_assert_uint_eq(status_from_errno(-EDEADLOCK), status_from_errno(-EDEADLK));
	ck_assert_uint_eq(status_from_errno(-EWOULDBLOCK), status_from_errno(-EAGAIN));
	ck_assert_int_eq(status_to_errno(status_from_errno(-EDEADLOCK)), -EDEADLK);
}
END_TEST

/* The other table of the wire: each operation is found by its number, and its messages exist. */
START_TEST(operations)
{
	static const struct {
		uint16_t number;
		const char *name;
		enum role role;
		const char *request, *reply;
	} rows[] = {
#define OP(name, number, role, request, reply, flags) { number, #name, ROLE_##role, #request, #reply },
#include "proto/ops.def"
#undef OP
	};
	size_t found = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		const struct op *op = op_find(rows[i].number);

		ck_assert_ptr_nonnull(op);
		ck_assert_uint_eq(op->number, rows[i].number);
		ck_assert_str_eq(op->name, rows[i].name);
		ck_assert_str_eq(op_name(op->number), rows[i].name);
		ck_assert_int_eq((int)op->role, (int)rows[i].role);
		ck_assert_str_eq(op->request->short_name, rows[i].request);
		ck_assert_str_eq(op->reply->short_name, rows[i].reply);
	}
	for (uint32_t number = 0; number <= UINT16_MAX; number++) {
		const struct op *op = op_find((uint16_t)number);

		found += op != NULL;
		ck_assert_int_eq(strcmp(op_name((uint16_t)number), "?") == 0, op == NULL);
	}
	ck_assert_uint_eq(found, sizeof(rows) / sizeof(*rows));
}
END_TEST

START_TEST(roles)
{
	ck_assert_str_eq(role_name(ROLE_MGS), "mgs");
	ck_assert_str_eq(role_name(ROLE_MDT), "mdt");
	ck_assert_str_eq(role_name(ROLE_OST), "ost");
	ck_assert_str_eq(role_name(ROLE_CLIENT), "client");
	ck_assert_str_eq(role_name(ROLE_ADMIN), "admin");
	ck_assert_str_eq(role_name((enum role)200), "?");
}
END_TEST

UNIT_MAIN("status", zero_is_zero, every_row_both_ways, the_rest_is_eio, numbers_do_not_move, second_names, operations,
	  roles)
