#include "common/address.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define HOST_255                                                                                                       \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aa"                                                                                                           \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
	"aa"                                                                                                           \
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

START_TEST(split)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} rows[] = {
		{ "node1", "node1", 9400 },
		{ "node1:1", "node1", 1 },
		{ "node1.example.org:65535", "node1.example.org", 65535 },
		{ "10.0.0.1", "10.0.0.1", 9400 },
		{ "10.0.0.1:0", "10.0.0.1", 0 },
		{ "[::1]", "::1", 9400 },
		{ "[::1]:9401", "::1", 9401 },
		{ "[fe80::1%eth0]:9401", "fe80::1%eth0", 9401 },
		{ "[::]:9400", "::", 9400 },
		{ "*", "*", 9400 },
		{ "*:7", "*", 7 },
		{ ":7", "", 7 },
		{ HOST_255 ":7", HOST_255, 7 },
		{ "rdma://node1:1", "node1", 1 },
		{ "rdma://[::1]", "::1", 9400 },
		{ "rdma:7", "rdma", 7 },
	};
	char host[256];
	uint16_t port;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		ck_assert_int_eq(address_split(rows[i].text, host, &port), 0);
		ck_assert_str_eq(host, rows[i].host);
		ck_assert_uint_eq(port, rows[i].port);
	}
}
END_TEST

START_TEST(split_malformed)
{
	static const char *const rows[] = {
		"",           ":",           "node1:",
		"node1:x",    "node1:65536", "node1:-1",
		"node1:+1",   "node1: 1",    "node1:1 ",
		"node1:1:2",  "::1",         "::1:9400",
		"[::1",       "::1]",        "[]",
		"[]:1",       "[node1]:1",   "[::1]x",
		"[::1]:",     "[::1]9400",   "[[::1]]:1",
		"[1.2.3.4]",  "a b",         "a,b",
		"a/b",        "a\tb",        "a\nb:1",
		"node1:0x10", "[:::1]",      "[%eth0]:1",
		"a]b",        "a" HOST_255,  "node1:99999999999999999999",
		"rdma://",    "rdma:/a",     "rdma://rdma://a",
		"tcp://a",    "RDMA://a",    "rdma//a",
	};
	char host[256] = "before";
	uint16_t port = 42;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		ck_assert_msg(address_split(rows[i], host, &port) == -EINVAL, "%s", rows[i]);
	ck_assert_str_eq(host, "before");
	ck_assert_uint_eq(port, 42);
}
END_TEST

START_TEST(join)
{
	char out[ADDRESS_SIZE];

	address_join("node1", 9400, out);
	ck_assert_str_eq(out, "node1:9400");
	address_join("::1", 1, out);
	ck_assert_str_eq(out, "[::1]:1");
	address_join(HOST_255, 65535, out);
	ck_assert_str_eq(out, HOST_255 ":65535");
	address_to_rdma(out, out);
	ck_assert_str_eq(out, "rdma://" HOST_255 ":65535");
}
END_TEST

START_TEST(kinds)
{
	char out[ADDRESS_SIZE];

	ck_assert(address_is_rdma("rdma://a:1") && !address_is_rdma("a:1") && !address_is_rdma("rdma:1"));
	ck_assert_str_eq(address_plain("rdma://a:1"), "a:1");
	ck_assert_str_eq(address_plain("a:1"), "a:1");
	ck_assert_int_eq(address_with_port("rdma://[::1]:5", 77, out), 0);
	ck_assert_str_eq(out, "rdma://[::1]:77");
	ck_assert_int_eq(address_with_port("node1", 77, out), 0);
	ck_assert_str_eq(out, "node1:77");
	ck_assert_int_eq(address_with_port("rdma://", 77, out), -EINVAL);
}
END_TEST

START_TEST(lists)
{
	struct address_list list = { .count = 99 }, other;
	char text[1000] = "";

	ck_assert_int_eq(address_list_parse("a", ADDRESS_PORT_DEFAULT, &list), 0);
	ck_assert_uint_eq(list.count, 1);
	ck_assert_str_eq(list.text[0], "a:9400");
	ck_assert_int_eq(address_list_parse("a:1,[::1],10.0.0.1:2", ADDRESS_PORT_DEFAULT, &list), 0);
	ck_assert_uint_eq(list.count, 3);
	ck_assert_str_eq(list.text[0], "a:1");
	ck_assert_str_eq(list.text[1], "[::1]:9400");
	ck_assert_str_eq(list.text[2], "10.0.0.1:2");

	ck_assert_int_eq(address_list_parse("rdma://a:1,a:1,rdma://[::1]", ADDRESS_PORT_DEFAULT, &list), 0);
	ck_assert_uint_eq(list.count, 3);
	ck_assert_str_eq(list.text[0], "rdma://a:1");
	ck_assert_str_eq(list.text[1], "a:1");
	ck_assert_str_eq(list.text[2], "rdma://[::1]:9400");

	ck_assert_int_eq(address_list_parse("a,[::1]:9400", ADDRESS_PORT_DEFAULT, &other), 0);
	ck_assert(address_lists_meet(&list, &other));
	ck_assert_int_eq(address_list_parse("a,[::1]:9401", ADDRESS_PORT_DEFAULT, &other), 0);
	ck_assert(!address_lists_meet(&list, &other));

	ck_assert_int_eq(address_list_parse("a,b:2,rdma://[::1]", 9402, &other), 0);
	ck_assert_str_eq(other.text[0], "a:9402");
	ck_assert_str_eq(other.text[1], "b:2");
	ck_assert_str_eq(other.text[2], "rdma://[::1]:9402");

	ck_assert_int_eq(address_list_parse("", ADDRESS_PORT_DEFAULT, &list), -EINVAL);
	ck_assert_int_eq(address_list_parse(",", ADDRESS_PORT_DEFAULT, &list), -EINVAL);
	ck_assert_int_eq(address_list_parse("a,", ADDRESS_PORT_DEFAULT, &list), -EINVAL);
	ck_assert_int_eq(address_list_parse(",a", ADDRESS_PORT_DEFAULT, &list), -EINVAL);
	ck_assert_int_eq(address_list_parse("a,,b", ADDRESS_PORT_DEFAULT, &list), -EINVAL);
	ck_assert_int_eq(address_list_parse("a, b", ADDRESS_PORT_DEFAULT, &list), -EINVAL);
	ck_assert_int_eq(address_list_parse("a" HOST_255 ",b", ADDRESS_PORT_DEFAULT, &list), -EINVAL);
	ck_assert_uint_eq(list.count, 3);

	for (int i = 0; i < ADDRESS_LIST_MAX; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "%sh%d", i > 0 ? "," : "", i);
	ck_assert_int_eq(address_list_parse(text, ADDRESS_PORT_DEFAULT, &list), 0);
	ck_assert_uint_eq(list.count, ADDRESS_LIST_MAX);
	strcat(text, ",more");
	ck_assert_int_eq(address_list_parse(text, ADDRESS_PORT_DEFAULT, &list), -EINVAL);
}
END_TEST

START_TEST(sources)
{
	static const struct {
		const char *text, *first, *path;
		size_t count;
	} rows[] = {
		{ "mgs:/", "mgs:9400", "/", 1 },
		{ "mgs:9401:/data/a b", "mgs:9401", "/data/a b", 1 },
		{ "a,b:1:/x", "a:9400", "/x", 2 },
		{ "[::1]:/x", "[::1]:9400", "/x", 1 },
		{ "[::1]:5,b:/x:/y", "[::1]:5", "/x:/y", 2 },
		{ "rdma://a:9401:/x", "rdma://a:9401", "/x", 1 },
		{ "rdma://a:/x", "rdma://a:9400", "/x", 1 },
		{ "a:1,rdma://b:1:/x", "a:1", "/x", 2 },
		{ "rdma://b,a:/,rdma://", "rdma://b:9400", "/,rdma://", 2 },
		{ "a://x", "a:9400", "//x", 1 },
	};
	static const char *const wrong[] = { "",      "mgs",      "mgs:",    "/x",     ":/",    "rdma://a",
					     "mgs/x", "mgs:9400", "mgs,:/x", "::1:/x", "a b:/", "rdma:///" };
	struct address_list list;
	char path[16];

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		ck_assert_int_eq(address_source_parse(rows[i].text, &list, path, sizeof(path)), 0);
		ck_assert_uint_eq(list.count, rows[i].count);
		ck_assert_str_eq(list.text[0], rows[i].first);
		ck_assert_str_eq(path, rows[i].path);
	}
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		ck_assert_msg(address_source_parse(wrong[i], &list, path, sizeof(path)) == -EINVAL, "%s", wrong[i]);
	ck_assert_int_eq(address_source_parse("a:/23456789abcdef", &list, path, sizeof(path)), 0);
	ck_assert_int_eq(address_source_parse("a:/23456789abcdef0", &list, path, sizeof(path)), -ENAMETOOLONG);
}
END_TEST

START_TEST(wildcards)
{
	ck_assert(address_host_is_wildcard(""));
	ck_assert(address_host_is_wildcard("*"));
	ck_assert(address_host_is_wildcard("0.0.0.0"));
	ck_assert(address_host_is_wildcard("::"));
	ck_assert(!address_host_is_wildcard("::1"));
	ck_assert(!address_host_is_wildcard("127.0.0.1"));
	ck_assert(!address_host_is_wildcard("node1"));
}
END_TEST

/* Whatever interfaces the machine has: each once, with our port, never the wildcard. */
static void check_reachable(const struct address_list *list, const char *port, bool v4_only)
{
	ck_assert_uint_gt(list->count, 0);
	ck_assert_uint_le(list->count, ADDRESS_LIST_MAX);
	for (size_t i = 0; i < list->count; i++) {
		char host[256];
		uint16_t number;

		ck_assert_int_eq(address_split(list->text[i], host, &number), 0);
		ck_assert_str_eq(strrchr(list->text[i], ':') + 1, port);
		ck_assert(!address_host_is_wildcard(host));
		ck_assert(!(v4_only && strchr(host, ':')));
		for (size_t k = 0; k < i; k++)
			ck_assert_str_ne(list->text[i], list->text[k]);
	}
}

static bool list_has(const struct address_list *list, const char *text)
{
	for (size_t i = 0; i < list->count; i++)
		if (strcmp(list->text[i], text) == 0)
			return true;
	return false;
}

START_TEST(reachable)
{
	static const char *const all[] = { "", "*", "0.0.0.0", "::" };
	struct address_list list;

	ck_assert_int_eq(address_reachable("node1", 9400, "10.0.0.1", &list), 0);
	ck_assert_uint_eq(list.count, 1);
	ck_assert_str_eq(list.text[0], "node1:9400");
	ck_assert_int_eq(address_reachable("::1", 9400, NULL, &list), 0);
	ck_assert_str_eq(list.text[0], "[::1]:9400");
	ck_assert_int_eq(address_reachable("a" HOST_255, 9400, NULL, &list), -EINVAL);

	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++) {
		bool v4_only = strcmp(all[i], "0.0.0.0") == 0;

		ck_assert_int_eq(address_reachable(all[i], 77, "192.0.2.1", &list), 0);
		ck_assert_str_eq(list.text[0], "192.0.2.1:77");
		check_reachable(&list, "77", v4_only);
		ck_assert(!list_has(&list, "127.0.0.1:77"));

		/* A preferred loopback lets the loopbacks in. */
		ck_assert_int_eq(address_reachable(all[i], 77, "127.0.0.1", &list), 0);
		ck_assert_str_eq(list.text[0], "127.0.0.1:77");
		check_reachable(&list, "77", v4_only);

		/* What nobody can connect to is not preferred. */
		ck_assert_int_eq(address_reachable(all[i], 77, "0.0.0.0", &list), 0);
		check_reachable(&list, "77", v4_only);
		ck_assert_int_eq(address_reachable(all[i], 77, "fe80::1%eth0", &list), 0);
		check_reachable(&list, "77", v4_only);
		ck_assert_int_eq(address_reachable(all[i], 77, NULL, &list), 0);
		check_reachable(&list, "77", v4_only);
	}

	ck_assert_int_eq(address_reachable("::", 77, "2001:db8::1", &list), 0);
	ck_assert_str_eq(list.text[0], "[2001:db8::1]:77");
	ck_assert_int_eq(address_reachable("0.0.0.0", 77, "2001:db8::1", &list), 0);
	check_reachable(&list, "77", true);
}
END_TEST

UNIT_MAIN("address", split, split_malformed, join, kinds, lists, sources, wildcards, reachable)
