#include "client/key_find.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], error[512];
static struct key key;

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void make_dir(void)
{
	strcpy(dir, "/tmp/strake-key-find-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(setenv("STRAKE_RUN_DIR", dir, 1), 0);
	ck_assert_int_eq(unsetenv("STRAKE_KEY"), 0);
}

static void remove_dir(void)
{
	ck_assert_int_eq(nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

static const char *make_key(const char *name, struct key *ret_key)
{
	static char path[4][PATH_MAX];
	static unsigned int next;
	char *out = path[next++ % 4];

	snprintf(out, PATH_MAX, "%s/%s", dir, name);
	key_make(ret_key);
	ck_assert_int_eq(key_write(out, ret_key), 0);
	return out;
}

static struct address_list list_of(const char *text)
{
	struct address_list list;

	ck_assert_int_eq(address_list_parse(text, ADDRESS_PORT_DEFAULT, &list), 0);
	return list;
}

static void assert_key(const struct key *wanted)
{
	ck_assert_mem_eq(key.bytes, wanted->bytes, KEY_SIZE);
}

START_TEST(option_beats_environment)
{
	struct address_list mgs = list_of("127.0.0.1:4711");
	struct key one, two;
	const char *first, *second;

	make_dir();
	first = make_key("one", &one);
	second = make_key("two", &two);
	ck_assert_int_eq(setenv("STRAKE_KEY", second, 1), 0);
	ck_assert_int_eq(key_find(first, &mgs, &key, error, sizeof(error)), 0);
	assert_key(&one);
	ck_assert_int_eq(key_find(NULL, &mgs, &key, error, sizeof(error)), 0);
	assert_key(&two);
	remove_dir();
}
END_TEST

START_TEST(what_is_named_must_be_there)
{
	struct address_list mgs = list_of("127.0.0.1:4711");
	struct key one;
	const char *path;

	make_dir();
	ck_assert_int_eq(key_find("/nonexistent/key", &mgs, &key, error, sizeof(error)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, "/nonexistent/key"));
	ck_assert_int_eq(setenv("STRAKE_KEY", "/nonexistent/too", 1), 0);
	ck_assert_int_eq(key_find(NULL, &mgs, &key, error, sizeof(error)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, "/nonexistent/too"));
	path = make_key("one", &one);
	ck_assert_int_eq(chmod(path, 0644), 0);
	ck_assert_int_eq(key_find(path, &mgs, &key, error, sizeof(error)), -EPERM);
	ck_assert_ptr_nonnull(strstr(error, "chmod 600"));
	remove_dir();
}
END_TEST

START_TEST(local_cluster_by_itself)
{
	struct address_list mgs = list_of("127.0.0.1:4711"), other = list_of("127.0.0.1:4712,127.0.0.1:4711");
	struct address_list by_name = list_of("localhost:4711"), unknown = list_of("127.0.0.1:4713"), found;
	struct address_list by_rdma = list_of("rdma://127.0.0.1:4711");
	struct key one;

	if (access(KEY_FIND_ETC, F_OK) == 0)
		return; /* this machine is a client of a real cluster, whose key comes first */
	make_dir();
	ck_assert_int_eq(key_find(NULL, &mgs, &key, error, sizeof(error)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, "--key"));
	ck_assert_ptr_null(strstr(error, "started here"));
	ck_assert_int_eq(key_find_record(&mgs, make_key("one", &one)), 0);
	ck_assert_int_eq(key_find_record(&mgs, make_key("again", &one)), 0);
	ck_assert_int_eq(key_find(NULL, &mgs, &key, error, sizeof(error)), 0);
	assert_key(&one);
	ck_assert_int_eq(key_find(NULL, &other, &key, error, sizeof(error)), 0);
	ck_assert_int_eq(key_find(NULL, &by_name, &key, error, sizeof(error)), 0);
	ck_assert_int_eq(key_find(NULL, &by_rdma, &key, error, sizeof(error)), 0);
	ck_assert_int_eq(key_find(NULL, &unknown, &key, error, sizeof(error)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, "; or name a cluster that was started here: -m 127.0.0.1:4711"));

	ck_assert_int_eq(key_find_clusters(&found), 0);
	ck_assert_uint_eq(found.count, 1);
	ck_assert_str_eq(found.text[0], "127.0.0.1:4711");
	key_find_forget(&mgs);
	ck_assert_int_eq(key_find(NULL, &mgs, &key, error, sizeof(error)), -ENOENT);
	ck_assert_int_eq(key_find_clusters(&found), 0);
	ck_assert_uint_eq(found.count, 0);
	remove_dir();
}
END_TEST

START_TEST(a_cluster_is_found_by_rdma)
{
	struct address_list mgs = list_of("rdma://127.0.0.1:4711"), by_tcp = list_of("127.0.0.1:4711"), found;
	struct key one;

	if (access(KEY_FIND_ETC, F_OK) == 0)
		return;
	make_dir();
	ck_assert_int_eq(key_find_record(&mgs, make_key("one", &one)), 0);
	ck_assert_int_eq(key_find(NULL, &mgs, &key, error, sizeof(error)), 0);
	assert_key(&one);
	ck_assert_int_eq(key_find(NULL, &by_tcp, &key, error, sizeof(error)), 0);
	ck_assert_int_eq(key_find_clusters(&found), 0);
	ck_assert_uint_eq(found.count, 1);
	ck_assert_str_eq(found.text[0], "rdma://127.0.0.1:4711");
	key_find_forget(&mgs);
	ck_assert_int_eq(key_find_clusters(&found), 0);
	ck_assert_uint_eq(found.count, 0);
	remove_dir();
}
END_TEST

START_TEST(a_vanished_cluster_is_none)
{
	struct address_list mgs = list_of("127.0.0.1:4711"), found;
	struct key one;
	const char *path;

	make_dir();
	path = make_key("one", &one);
	ck_assert_int_eq(key_find_record(&mgs, path), 0);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(key_find_clusters(&found), 0);
	ck_assert_uint_eq(found.count, 0);
	remove_dir();
}
END_TEST

UNIT_MAIN("key_find", option_beats_environment, what_is_named_must_be_there, local_cluster_by_itself,
	  a_cluster_is_found_by_rdma, a_vanished_cluster_is_none)
