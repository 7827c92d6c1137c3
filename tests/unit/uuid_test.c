#include "common/uuid.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

START_TEST(random_and_of_version_4)
{
	struct uuid a, b;

	for (int i = 0; i < 100; i++) {
		uuid_make(&a);
		uuid_make(&b);
		ck_assert(!uuid_equal(&a, &b));
		ck_assert(!uuid_is_zero(&a));
		ck_assert_uint_eq(a.bytes[6] >> 4, 4);
		ck_assert_uint_eq(a.bytes[8] >> 6, 2);
	}
}
END_TEST

START_TEST(text_both_ways)
{
	struct uuid a, b;
	char text[UUID_STRING_SIZE];

	ck_assert_int_eq(uuid_parse("01234567-89ab-cdef-0123-456789ABCDEF", &a), 0);
	ck_assert_mem_eq(a.bytes, "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef", UUID_SIZE);
	ck_assert_ptr_eq(uuid_format(&a, text), text);
	ck_assert_str_eq(text, "01234567-89ab-cdef-0123-456789abcdef");

	for (int i = 0; i < 100; i++) {
		uuid_make(&a);
		ck_assert_int_eq(uuid_parse(uuid_format(&a, text), &b), 0);
		ck_assert(uuid_equal(&a, &b));
	}
}
END_TEST

START_TEST(malformed_text)
{
	static const char *const rows[] = {
		"",
		"0",
		"-",
		"01234567",
		"01234567-",
		"01234567-89ab-cdef-0123-456789abcde",
		"01234567-89ab-cdef-0123-456789abcdef0",
		"01234567-89ab-cdef-0123-456789abcdef ",
		" 01234567-89ab-cdef-0123-456789abcdef",
		"0123456789abcdef0123456789abcdef",
		"01234567089ab-cdef-0123-456789abcdef",
		"0123456-789ab-cdef-0123-456789abcdef",
		"01234567-89ab-cdef-0123-456789abcdeg",
		"0123456/-89ab-cdef-0123-456789abcdef",
		"0123456:-89ab-cdef-0123-456789abcdef",
		"+1234567-89ab-cdef-0123-456789abcdef",
		"0x234567-89ab-cdef-0123-456789abcdef",
		"{01234567-89ab-cdef-0123-456789abcdef}",
		"01234567-89ab-cdef-0123\x80zz456789ab",
	};
	struct uuid uuid = { .bytes = { 42 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_int_eq(uuid_parse(rows[i], &uuid), -EINVAL);
	ck_assert_uint_eq(uuid.bytes[0], 42);
}
END_TEST

START_TEST(bytes)
{
	uint8_t data[UUID_SIZE + 1] = { 1, 2, 3 };
	struct uuid uuid, zero = { 0 };

	ck_assert_int_eq(uuid_from_bytes(data, UUID_SIZE, &uuid), 0);
	ck_assert_mem_eq(uuid.bytes, data, UUID_SIZE);
	ck_assert_int_eq(uuid_from_bytes(data, UUID_SIZE - 1, &uuid), -EINVAL);
	ck_assert_int_eq(uuid_from_bytes(data, UUID_SIZE + 1, &uuid), -EINVAL);
	ck_assert_int_eq(uuid_from_bytes(NULL, 0, &uuid), -EINVAL);
	ck_assert(uuid_is_zero(&zero));
	for (size_t i = 0; i < UUID_SIZE; i++) {
		struct uuid one = { 0 };

		one.bytes[i] = 1;
		ck_assert(!uuid_is_zero(&one));
		ck_assert(!uuid_equal(&one, &zero));
	}
}
END_TEST

UNIT_MAIN("uuid", random_and_of_version_4, text_both_ways, malformed_text, bytes)
