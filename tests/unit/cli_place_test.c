/* Paths within the filesystem, against a small tree that lives in a table. */
#include "client/cli/place.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#define ROOT 1

static const struct node {
	uint64_t parent;
	const char *name;
	uint64_t ino;
	mode_t mode;
	const char *target;
} nodes[] = {
	{ ROOT, "a", 10, S_IFDIR | 0755, NULL },      { 10, "b", 11, S_IFDIR | 0755, NULL },
	{ 11, "f", 12, S_IFREG | 0644, NULL },        { ROOT, "abs", 20, S_IFLNK | 0777, "/a/b" },
	{ 10, "rel", 21, S_IFLNK | 0777, "b/./" },    { 11, "up", 22, S_IFLNK | 0777, "../../a/b/f" },
	{ ROOT, "loop", 23, S_IFLNK | 0777, "loop" }, { ROOT, "dangling", 24, S_IFLNK | 0777, "a/new" },
	{ ROOT, "root", 25, S_IFLNK | 0777, "/" },    { ROOT, "empty", 26, S_IFLNK | 0777, "" },
};

static int find(uint64_t ino, struct attr *ret_attr, const struct node **ret_node)
{
	memset(ret_attr, 0, sizeof(*ret_attr));
	ret_attr->ino = ino;
	ret_attr->mode = S_IFDIR | 0755;
	if (ino == ROOT)
		return 0;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++) {
		if (nodes[i].ino == ino) {
			ret_attr->mode = nodes[i].mode;
			if (ret_node)
				*ret_node = &nodes[i];
			return 0;
		}
	}
	return -ESTALE;
}

static int lookup(void *arg, uint64_t parent, const char *name, size_t len, struct attr *ret_attr)
{
	(void)arg;
	for (size_t i = 0; i < sizeof(nodes) / sizeof(*nodes); i++)
		if (nodes[i].parent == parent && strlen(nodes[i].name) == len && memcmp(nodes[i].name, name, len) == 0)
			return find(nodes[i].ino, ret_attr, NULL);
	return -ENOENT;
}

static int read_link(void *arg, uint64_t ino, char *target, size_t size, size_t *ret_len)
{
	const struct node *node = NULL;
	struct attr attr;

	(void)arg;
	ck_assert_int_eq(find(ino, &attr, &node), 0);
	ck_assert_uint_lt(strlen(node->target), size);
	memcpy(target, node->target, strlen(node->target));
	*ret_len = strlen(node->target);
	return 0;
}

static int get_attr(void *arg, uint64_t ino, struct attr *ret_attr)
{
	(void)arg;
	return find(ino, ret_attr, NULL);
}

static int place_of(const char *path, bool follow, struct place *ret_place)
{
	const struct place_names names = { NULL, ROOT, lookup, read_link, get_attr };

	return place_find(&names, path, follow, ret_place);
}

START_TEST(leads_to)
{
	static const struct {
		const char *path;
		bool follow;
		uint64_t ino, parent;
		const char *name;
		bool slash;
	} cases[] = {
		{ "/", false, ROOT, ROOT, "", true },         { "//", false, ROOT, ROOT, "", true },
		{ "/a", false, 10, ROOT, "a", false },        { "/a/", false, 10, ROOT, "a", true },
		{ "//a//b///f", false, 12, 11, "f", false },  { "/a/./b/../b/f", false, 12, 11, "f", false },
		{ "/..", false, ROOT, ROOT, "", true },       { "/../../a", false, 10, ROOT, "a", false },
		{ "/a/b/..", false, 10, ROOT, "", true },     { "/a/b/.", false, 11, 10, "", true },
		{ "/abs/f", false, 12, 11, "f", false },      { "/abs", false, 20, ROOT, "abs", false },
		{ "/abs", true, 11, 10, "b", false },         { "/abs/", false, 11, 10, "b", true },
		{ "/a/rel/f", false, 12, 11, "f", false },    { "/a/rel/up", true, 12, 11, "f", false },
		{ "/a/rel/../b", false, 11, 10, "b", false }, { "/root/a", false, 10, ROOT, "a", false },
		{ "/root", true, ROOT, ROOT, "", true },
	};
	struct place place;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ck_assert_msg(place_of(cases[i].path, cases[i].follow, &place) == 0, "%s", cases[i].path);
		ck_assert_msg(place.exists, "%s", cases[i].path);
		ck_assert_msg(place.attr.ino == cases[i].ino, "%s", cases[i].path);
		ck_assert_msg(place.parent == cases[i].parent, "%s", cases[i].path);
		ck_assert_str_eq(place.name, cases[i].name);
		ck_assert_uint_eq(place.name_len, strlen(cases[i].name));
		ck_assert_msg(place.slash == cases[i].slash, "%s", cases[i].path);
	}
}
END_TEST

START_TEST(last_name_may_be_missing)
{
	struct place place;

	ck_assert_int_eq(place_of("/a/new", false, &place), 0);
	ck_assert(!place.exists && !place.slash);
	ck_assert_uint_eq(place.parent, 10);
	ck_assert_str_eq(place.name, "new");

	ck_assert_int_eq(place_of("/a/new//", false, &place), 0);
	ck_assert(!place.exists && place.slash);

	ck_assert_int_eq(place_of("/dangling", true, &place), 0);
	ck_assert(!place.exists);
	ck_assert_uint_eq(place.parent, 10);
	ck_assert_str_eq(place.name, "new");
}
END_TEST

START_TEST(refused)
{
	char name[300], path[PATH_MAX + 10];
	struct place place;

	ck_assert_int_eq(place_of("a", false, &place), -EINVAL);
	ck_assert_int_eq(place_of("", false, &place), -EINVAL);
	ck_assert_int_eq(place_of("/x/y", false, &place), -ENOENT);
	ck_assert_int_eq(place_of("/a/b/f/x", false, &place), -ENOTDIR);
	ck_assert_int_eq(place_of("/a/b/f/", false, &place), -ENOTDIR);
	ck_assert_int_eq(place_of("/loop/x", false, &place), -ELOOP);
	ck_assert_int_eq(place_of("/loop", true, &place), -ELOOP);
	ck_assert_int_eq(place_of("/loop", false, &place), 0);
	ck_assert_int_eq(place_of("/empty", true, &place), -ENOENT);

	memset(name, 'x', sizeof(name));
	name[0] = '/';
	name[1 + PLACE_NAME_MAX] = '\0';
	ck_assert_int_eq(place_of(name, false, &place), 0);
	name[1 + PLACE_NAME_MAX] = 'x';
	name[2 + PLACE_NAME_MAX] = '\0';
	ck_assert_int_eq(place_of(name, false, &place), -ENAMETOOLONG);

	memset(path, '/', sizeof(path));
	path[PATH_MAX] = '\0';
	ck_assert_int_eq(place_of(path, false, &place), -ENAMETOOLONG);
	for (size_t i = 0; i + 2 < PATH_MAX; i += 2)
		memcpy(path + i, "/.", 2);
	path[PATH_MAX - 2] = '\0';
	ck_assert_int_eq(place_of(path, false, &place), 0);
}
END_TEST

START_TEST(base_of_a_path)
{
	static const struct {
		const char *path, *base;
		bool special;
	} cases[] = {
		{ "/", "", true },      { "", "", true },    { "x", "x", false },        { "/a/x//", "x", false },
		{ "a/..", "..", true }, { "./", ".", true }, { "/a/...", "...", false },
	};
	size_t len;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *base = path_base(cases[i].path, &len);

		ck_assert_uint_eq(len, strlen(cases[i].base));
		ck_assert_int_eq(memcmp(base, cases[i].base, len), 0);
		ck_assert(path_base_is_special(base, len) == cases[i].special);
	}
}
END_TEST

UNIT_MAIN("cli_place", leads_to, last_name_may_be_missing, refused, base_of_a_path)
