/* What `strake client` makes of words, and of numbers for people: stripe options, progress lines, names of xattrs. */
#include "client/cli/progress.h"
#include "client/cli/stripe_options.h"
#include "client/cli/xattrs.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <string.h>

START_TEST(stripes_taken)
{
	struct stripe_options options = { 0 };
	char error[128];

	ck_assert(!stripe_options_given(&options));
	ck_assert_int_eq(stripe_options_set(&options, 'R', "1", error, sizeof(error)), 0);
	ck_assert(!stripe_options_given(&options));
	ck_assert_int_eq(stripe_options_set(&options, 'S', "64K", error, sizeof(error)), 0);
	ck_assert(options.has_size && !options.has_count);
	ck_assert_uint_eq(options.size, 65536);
	ck_assert_int_eq(stripe_options_set(&options, 'S', "1G", error, sizeof(error)), 0);
	ck_assert_uint_eq(options.size, 1u << 30);
	ck_assert_int_eq(stripe_options_set(&options, 'c', "0", error, sizeof(error)), 0);
	ck_assert(options.has_count);
	ck_assert_uint_eq(options.count, 0);
	ck_assert_int_eq(stripe_options_set(&options, 'c', "256", error, sizeof(error)), 0);
	ck_assert_uint_eq(options.count, 256);
}
END_TEST

START_TEST(stripes_refused)
{
	static const struct {
		int letter;
		const char *value, *says;
	} cases[] = {
		{ 'S', "32K", "power of two" }, { 'S', "2G", "power of two" },  { 'S', "3M", "power of two" },
		{ 'S', "big", "no size" },      { 'S', "0", "power of two" },   { 'c', "257", "from 0" },
		{ 'c', "-1", "from 0" },        { 'c', "x", "from 0" },         { 'R', "2", "does not exist yet" },
		{ 'R', "0", "does not exist" }, { 'R', "two", "is no number" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct stripe_options options = { 0 };
		char error[128] = "";

		ck_assert_int_eq(stripe_options_set(&options, cases[i].letter, cases[i].value, error, sizeof(error)),
				 -EINVAL);
		ck_assert_msg(strstr(error, cases[i].says) != NULL, "%s", error);
		ck_assert(!stripe_options_given(&options));
	}
}
END_TEST

START_TEST(progress_lines)
{
	struct progress_counts counts = { .files = 1234, .bytes = 5 << 20 };
	char line[PROGRESS_LINE_SIZE];

	ck_assert_str_eq(progress_format(&counts, 3 << 20, line), "1234 files  5.0 MiB  3.0 MiB/s");
	counts.bytes_total = 20 << 20;
	ck_assert_str_eq(progress_format(&counts, 512, line), "5.0 MiB  512 B/s  25%");
	counts.bytes = 30 << 20; /* the file has grown */
	ck_assert_str_eq(progress_format(&counts, 0, line), "30.0 MiB  0 B/s  100%");
	counts = (struct progress_counts){ .files = UINT64_MAX, .bytes = UINT64_MAX };
	ck_assert_uint_lt(strlen(progress_format(&counts, UINT64_MAX, line)), PROGRESS_LINE_SIZE - 1);
}
END_TEST

START_TEST(rate_lines)
{
	struct progress_counts counts = { .files = 500, .bytes = 3000000 };
	char line[PROGRESS_LINE_SIZE];

	ck_assert_str_eq(progress_format_rate(&counts, 2 * NSEC_PER_SEC, line), "in 2.0 s (250 files/s, 1.5 MB/s)");
	ck_assert_str_eq(progress_format_rate(&counts, 0, line), "in 0.0 s (0 files/s, 0.0 MB/s)");
}
END_TEST

START_TEST(xattr_names)
{
	ck_assert(xattrs_is_wanted("user.x", false));
	ck_assert(xattrs_is_wanted("user.x", true));
	ck_assert(!xattrs_is_wanted("trusted.x", false));
	ck_assert(xattrs_is_wanted("trusted.x", true));
	ck_assert(!xattrs_is_wanted("security.capability", false));
	ck_assert(xattrs_is_wanted("security.capability", true));
	ck_assert(xattrs_is_wanted("system.posix_acl_access", false));
	ck_assert(xattrs_is_wanted("system.posix_acl_default", true));
	ck_assert(!xattrs_is_wanted("system.other", true));
}
END_TEST

UNIT_MAIN("cli_options", stripes_taken, stripes_refused, progress_lines, rate_lines, xattr_names)
