#include "common/units.h"
#include "tests/unit/unit.h"

#include <errno.h>

START_TEST(sizes)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} rows[] = {
		{ "0", 0 },
		{ "65536", 65536 },
		{ "512B", 512 },
		{ "512b", 512 },
		{ "1k", 1024 },
		{ "4M", 4u << 20 },
		{ "4MB", 4u << 20 },
		{ "4MiB", 4u << 20 },
		{ "4mib", 4u << 20 },
		{ "1g", 1u << 30 },
		{ "2T", UINT64_C(2) << 40 },
		{ "3PiB", UINT64_C(3) << 50 },
		{ "16383P", UINT64_C(16383) << 50 },
		{ "18446744073709551615", UINT64_MAX },
		{ "0P", 0 },
		{ "007", 7 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint64_t bytes = 42;

		ck_assert_msg(units_parse_size(rows[i].text, &bytes) == 0, "%s", rows[i].text);
		ck_assert_uint_eq(bytes, rows[i].bytes);
	}
}
END_TEST

START_TEST(sizes_malformed)
{
	static const struct {
		const char *text;
		int err;
	} rows[] = {
		{ "", -EINVAL },
		{ "M", -EINVAL },
		{ "-1", -EINVAL },
		{ "+1", -EINVAL },
		{ " 1", -EINVAL },
		{ "1 ", -EINVAL },
		{ "1 M", -EINVAL },
		{ "1.5M", -EINVAL },
		{ "1MM", -EINVAL },
		{ "1Mi", -EINVAL },
		{ "1iB", -EINVAL },
		{ "1MiBB", -EINVAL },
		{ "1BM", -EINVAL },
		{ "1E", -EINVAL },
		{ "1X", -EINVAL },
		{ "0x10", -EINVAL },
		{ "1\n", -EINVAL },
		{ "1\x0bM", -EINVAL },
		{ "1\xcb", -EINVAL },
		{ "1BB", -EINVAL },
		{ "16384P", -ERANGE },
		{ "18446744073709551616", -ERANGE },
		{ "99999999999999999999999M", -ERANGE },
		{ "18446744073709551615k", -ERANGE },
	};
	uint64_t bytes = 42;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_msg(units_parse_size(rows[i].text, &bytes) == rows[i].err, "%s", rows[i].text);
	ck_assert_uint_eq(bytes, 42);
}
END_TEST

START_TEST(format)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} rows[] = {
		{ 0, "0 B" },
		{ 512, "512 B" },
		{ 1023, "1023 B" },
		{ 1024, "1.0 KiB" },
		{ 1536, "1.5 KiB" },
		{ (1u << 20) - 1, "1.0 MiB" }, /* not 1024.0 KiB */
		{ 4u << 20, "4.0 MiB" },
		{ UINT64_C(1) << 30, "1.0 GiB" },
		{ UINT64_C(3) << 40, "3.0 TiB" },
		{ UINT64_C(1000) << 40, "1000.0 TiB" },
		{ UINT64_C(5) << 50, "5.0 PiB" },
		{ UINT64_MAX, "16.0 EiB" },
	};
	char out[16];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		ck_assert_ptr_eq(units_format_size(rows[i].bytes, out), out);
		ck_assert_str_eq(out, rows[i].text);
	}
}
END_TEST

START_TEST(numbers)
{
	static const struct {
		const char *text;
		uint64_t min, max;
		int err;
		uint64_t number;
	} rows[] = {
		{ "0", 0, UINT64_MAX, 0, 0 },
		{ "5", 5, 5, 0, 5 },
		{ "010", 0, 100, 0, 10 },
		{ "18446744073709551615", 0, UINT64_MAX, 0, UINT64_MAX },
		{ "4", 5, 10, -ERANGE, 0 },
		{ "11", 5, 10, -ERANGE, 0 },
		{ "18446744073709551616", 0, UINT64_MAX, -ERANGE, 0 },
		{ "", 0, 10, -EINVAL, 0 },
		{ "-1", 0, 10, -EINVAL, 0 },
		{ "+1", 0, 10, -EINVAL, 0 },
		{ " 1", 0, 10, -EINVAL, 0 },
		{ "1 ", 0, 10, -EINVAL, 0 },
		{ "1k", 0, 10, -EINVAL, 0 },
		{ "1.0", 0, 10, -EINVAL, 0 },
		{ "0x1", 0, 10, -EINVAL, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		uint64_t number = 42;

		ck_assert_int_eq(units_parse_number(rows[i].text, rows[i].min, rows[i].max, &number), rows[i].err);
		ck_assert_uint_eq(number, rows[i].err ? 42 : rows[i].number);
	}
}
END_TEST

UNIT_MAIN("units", sizes, sizes_malformed, format, numbers)
