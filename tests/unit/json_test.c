#include "common/json.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* What is written between begin() and end_is(). */
static struct json json;
static char *text;
static size_t size;

static void begin(void)
{
	json_begin(&json, open_memstream(&text, &size));
}

static void end_is(const char *expected)
{
	ck_assert_int_eq(json_end(&json), 0);
	fclose(json.file);
	ck_assert_str_eq(text, expected);
	free(text);
}

START_TEST(empty)
{
	begin();
	json_object_begin(&json, NULL);
	json_object_end(&json);
	end_is("{}\n");
	begin();
	json_array_begin(&json, NULL);
	json_array_end(&json);
	end_is("[]\n");
}
END_TEST

START_TEST(nested)
{
	begin();
	json_object_begin(&json, NULL);
	json_string(&json, "name", "demo");
	json_array_begin(&json, "osts");
	for (unsigned int i = 0; i < 2; i++) {
		json_object_begin(&json, NULL);
		json_unsigned(&json, "index", i);
		json_bool(&json, "up", i == 0);
		json_object_end(&json);
	}
	json_array_begin(&json, NULL);
	json_array_end(&json);
	json_null(&json, NULL);
	json_array_end(&json);
	json_object_begin(&json, "none");
	json_object_end(&json);
	json_signed(&json, "last", -1);
	json_object_end(&json);
	end_is("{\n"
	       "  \"name\": \"demo\",\n"
	       "  \"osts\": [\n"
	       "    {\n"
	       "      \"index\": 0,\n"
	       "      \"up\": true\n"
	       "    },\n"
	       "    {\n"
	       "      \"index\": 1,\n"
	       "      \"up\": false\n"
	       "    },\n"
	       "    [],\n"
	       "    null\n"
	       "  ],\n"
	       "  \"none\": {},\n"
	       "  \"last\": -1\n"
	       "}\n");
}
END_TEST

START_TEST(strings)
{
	static const struct {
		const char *value, *expected;
	} rows[] = {
		{ NULL, "null\n" },
		{ "", "\"\"\n" },
		{ "a b/c", "\"a b/c\"\n" },
		{ "\"\\", "\"\\\"\\\\\"\n" },
		{ "\b\t\n\f\r", "\"\\b\\t\\n\\f\\r\"\n" },
		{ "\x01\x0b\x1f\x7f", "\"\\u0001\\u000b\\u001f\\u007f\"\n" },
		{ "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80", "\"\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80\"\n" },
		/* Not UTF-8: a lone continuation, a cut end, an overlong slash, a surrogate, beyond U+10FFFF. */
		{ "a\x80z", "\"a\\ufffdz\"\n" },
		{ "\xe2\x82", "\"\\ufffd\\ufffd\"\n" },
		{ "\xe2\x82z", "\"\\ufffd\\ufffdz\"\n" },
		{ "\xc3", "\"\\ufffd\"\n" },
		{ "\xc0\xaf", "\"\\ufffd\\ufffd\"\n" },
		{ "\xe0\x80\xaf", "\"\\ufffd\\ufffd\\ufffd\"\n" },
		{ "\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\"\n" },
		{ "\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\"\n" },
		{ "\xff\xfe", "\"\\ufffd\\ufffd\"\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		begin();
		json_string(&json, NULL, rows[i].value);
		end_is(rows[i].expected);
	}
	begin();
	json_object_begin(&json, NULL);
	json_null(&json, "a\"\n");
	json_object_end(&json);
	end_is("{\n  \"a\\\"\\n\": null\n}\n");
}
END_TEST

START_TEST(numbers)
{
	static const struct {
		double value;
		const char *expected;
	} rows[] = {
		{ 0, "0\n" },
		{ 0.1, "0.1\n" },
		{ -2.5, "-2.5\n" },
		{ 1e300, "1e+300\n" },
		{ 1.0 / 3, "0.33333333333333331\n" },
		{ NAN, "null\n" },
		{ INFINITY, "null\n" },
		{ -INFINITY, "null\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		begin();
		json_real(&json, NULL, rows[i].value);
		end_is(rows[i].expected);
	}
	begin();
	json_unsigned(&json, NULL, UINT64_MAX);
	end_is("18446744073709551615\n");
	begin();
	json_signed(&json, NULL, INT64_MIN);
	end_is("-9223372036854775808\n");
}
END_TEST

START_TEST(deep)
{
	begin();
	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		json_array_begin(&json, NULL);
	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		json_array_end(&json);
	ck_assert_int_eq(json_end(&json), 0);
	fclose(json.file);
	free(text);
}
END_TEST

START_TEST(errors_of_the_stream)
{
	FILE *full = fopen("/dev/full", "w");

	ck_assert_ptr_nonnull(full);
	json_begin(&json, full);
	json_bool(&json, NULL, true);
	ck_assert_int_eq(json_end(&json), -EIO);
	fclose(full);
}
END_TEST

UNIT_MAIN("json", empty, nested, strings, numbers, deep, errors_of_the_stream)
