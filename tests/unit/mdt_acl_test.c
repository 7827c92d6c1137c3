/* POSIX ACLs: their bytes, their mode bits, who may do what by them, and what is made under a default one. */
#include "mdt_driver.h"
#include "unit.h"

#include "mds/xattr.h"

#include <sys/xattr.h>

#define OWNER  1000
#define MEMBER 1001
#define NAMED  1002
#define OTHER  1003
#define GROUP  500
#define TEAM   501

#define ACCESS_NAME  "system.posix_acl_access"
#define DEFAULT_NAME "system.posix_acl_default"

enum { U = 1, USER = 2, G = 4, GROUP_TAG = 8, M = 16, O = 32 };
#define NO_ID UINT32_MAX

struct value {
	uint8_t bytes[8192];
	size_t size;
};

static void put(struct value *value, uint64_t number, size_t size)
{
	for (size_t i = 0; i < size; i++)
		value->bytes[value->size++] = (uint8_t)(number >> (8 * i));
}

/* Rows of tag, permissions and id, as setfacl(1) would send them. */
static struct value value_of(const uint32_t (*rows)[3], size_t count)
{
	struct value value = { .size = 0 };

	put(&value, 2, 4);
	for (size_t i = 0; i < count; i++) {
		put(&value, rows[i][0], 2);
		put(&value, rows[i][1], 2);
		put(&value, rows[i][2], 4);
	}
	return value;
}
#define VALUE(...)                                     \
	value_of((const uint32_t[][3]){ __VA_ARGS__ }, \
		 sizeof((const uint32_t[][3]){ __VA_ARGS__ }) / sizeof(uint32_t[3]))
#define NONE ((struct value){ .bytes = { 2 }, .size = 4 })

static struct bytes bytes_of(const struct value *value)
{
	return (struct bytes){ value->bytes, value->size };
}

/* --- bytes --------------------------------------------------------------------------------------------------------- */

START_TEST(what_is_no_acl_is_refused)
{
	const struct {
		struct value value;
		int expected;
	} cases[] = {
		{ VALUE({ U, 7, NO_ID }, { G, 5, NO_ID }, { O, 0, NO_ID }), 0 },
		{ VALUE({ U, 7, 9 }, { G, 5, 9 }, { O, 0, 9 }), 0 }, /* ids of nobody are passed over */
		{ VALUE({ U, 7, NO_ID }, { USER, 6, 5 }, { USER, 4, 3 }, { G, 5, NO_ID }, { GROUP_TAG, 1, 8 },
			{ M, 7, NO_ID }, { O, 0, NO_ID }),
		  0 },
		{ VALUE({ U, 7, NO_ID }, { G, 5, NO_ID }, { M, 1, NO_ID }, { O, 0, NO_ID }), 0 },
		{ NONE, 0 },
		{ { .size = 0 }, -EINVAL },
		{ { .bytes = { 1 }, .size = 4 }, -EOPNOTSUPP },
		{ { .bytes = { 2 }, .size = 5 }, -EINVAL },
		{ VALUE({ G, 5, NO_ID }, { U, 7, NO_ID }, { O, 0, NO_ID }), -EINVAL },                  /* order */
		{ VALUE({ U, 7, NO_ID }, { U, 7, NO_ID }, { G, 5, NO_ID }, { O, 0, NO_ID }), -EINVAL }, /* twice */
		{ VALUE({ U, 7, NO_ID }, { G, 5, NO_ID }), -EINVAL },
		{ VALUE({ U, 7, NO_ID }, { O, 5, NO_ID }), -EINVAL },
		{ VALUE({ G, 5, NO_ID }, { O, 5, NO_ID }), -EINVAL },
		{ VALUE({ U, 7, NO_ID }, { USER, 6, 5 }, { G, 5, NO_ID }, { O, 0, NO_ID }), -EINVAL }, /* no mask */
		{ VALUE({ U, 7, NO_ID }, { G, 5, NO_ID }, { GROUP_TAG, 6, 5 }, { O, 0, NO_ID }), -EINVAL },
		{ VALUE({ U, 7, NO_ID }, { USER, 6, NO_ID }, { G, 5, NO_ID }, { M, 7, NO_ID }, { O, 0, NO_ID }),
		  -EINVAL },
		{ VALUE({ U, 8, NO_ID }, { G, 5, NO_ID }, { O, 0, NO_ID }), -EINVAL },
		{ VALUE({ U, 7, NO_ID }, { G, 5, NO_ID }, { 64, 0, NO_ID }), -EINVAL },
		{ VALUE({ U, 7, NO_ID }, { 3, 5, NO_ID }, { O, 0, NO_ID }), -EINVAL },
	};
	struct acl acl;
	uint8_t out[ACL_SIZE_MAX];
	struct bytes encoded;

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ck_assert_msg(acl_decode(bytes_of(&cases[i].value), &acl) == cases[i].expected, "case %zu", i);
		if (cases[i].expected != 0 || i == 1)
			continue;
		encoded = acl_encode(&acl, out);
		ck_assert_msg(encoded.size == cases[i].value.size &&
				      memcmp(encoded.data, cases[i].value.bytes, encoded.size) == 0,
			      "case %zu", i);
	}
}
END_TEST

START_TEST(as_long_as_a_page)
{
	struct value value = { .size = 0 };
	struct acl acl;

	put(&value, 2, 4);
	put(&value, U | 7 << 16 | (uint64_t)NO_ID << 32, 8);
	while (value.size < ACL_SIZE_MAX - 4 - 3 * 8)
		put(&value, USER | 6 << 16 | (uint64_t)value.size << 32, 8);
	put(&value, G | 5 << 16 | (uint64_t)NO_ID << 32, 8);
	put(&value, M | 7 << 16 | (uint64_t)NO_ID << 32, 8);
	put(&value, O | (uint64_t)NO_ID << 32, 8);
	ck_assert_uint_eq(value.size, ACL_SIZE_MAX - 4);
	ck_assert_int_eq(acl_decode(bytes_of(&value), &acl), 0);
	ck_assert_uint_eq(acl.count, ACL_ENTRIES_MAX);
	put(&value, O | (uint64_t)NO_ID << 32, 8);
	ck_assert_int_eq(acl_decode(bytes_of(&value), &acl), -E2BIG);
}
END_TEST

/* --- the scene ----------------------------------------------------------------------------------------------------- */

static uint32_t groups_of_member[] = { 7, GROUP }, groups_of_team[] = { TEAM };

/* The kernel of his mount has checked what he does. */
static void trust(struct driver *driver)
{
	driver->cred.has_trusted = driver->cred.trusted = 1;
}

static void become(struct driver *driver, uint32_t uid)
{
	strake__cred__init(&driver->cred);
	driver->cred.uid = uid;
	driver->cred.gid = uid == OWNER ? GROUP : uid;
	if (uid == MEMBER) {
		driver->cred.n_groups = 2;
		driver->cred.groups = groups_of_member;
	} else if (uid == OTHER) {
		driver->cred.n_groups = 1;
		driver->cred.groups = groups_of_team;
	}
}

static int change_attr(struct driver *driver, uint64_t ino, int64_t mode, int64_t uid, int64_t gid)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.has_mode = mode >= 0;
	request.mode = (uint32_t)mode;
	request.has_uid = uid >= 0;
	request.uid = (uint32_t)uid;
	request.has_gid = gid >= 0;
	request.gid = (uint32_t)gid;
	return driver_change(driver, OP_SETATTR, &request.base);
}

static int set_acl_as(struct driver *driver, uint64_t ino, const char *name, struct value value, bool kill_sgid)
{
	Strake__SetxattrRequest request = STRAKE__SETXATTR_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.name = (char *)(uintptr_t)name;
	request.value.data = value.bytes;
	request.value.len = value.size;
	request.has_kill_sgid = 1;
	request.kill_sgid = kill_sgid;
	return driver_change(driver, OP_SETXATTR, &request.base);
}

static int set_acl(struct driver *driver, uint64_t ino, const char *name, struct value value)
{
	return set_acl_as(driver, ino, name, value, false);
}

static bool has_acl(struct driver *driver, uint64_t ino, const char *name, struct value value)
{
	Strake__GetxattrRequest get = STRAKE__GETXATTR_REQUEST__INIT;
	int err;

	get.cred = &driver->cred;
	get.ino = ino;
	get.name = (char *)(uintptr_t)name;
	err = driver_query(driver, OP_GETXATTR, &get.base);
	if (value.size <= 4)
		return err == -ENODATA;
	return err == 0 && driver->answer.as.getxattr.value.len == value.size &&
	       memcmp(driver->answer.as.getxattr.value.data, value.bytes, value.size) == 0;
}

/* A directory and a file in it, of the owner's and his group's; root asks. */
static struct driver *with_files(uint64_t *ret_dir, uint64_t *ret_file)
{
	struct driver *driver = driver_new();

	*ret_dir = driver_mkdir(driver, DRIVER_ROOT, "dir");
	*ret_file = driver_create(driver, *ret_dir, "file");
	ck_assert_int_eq(change_attr(driver, *ret_dir, -1, OWNER, GROUP), 0);
	ck_assert_int_eq(change_attr(driver, *ret_file, -1, OWNER, GROUP), 0);
	return driver;
}

static uint32_t mode_of(struct driver *driver, uint64_t ino)
{
	return driver_inode(driver, ino).mode & 07777;
}

static uint32_t told_acls(struct driver *driver, uint64_t ino)
{
	Strake__GetattrRequest get = STRAKE__GETATTR_REQUEST__INIT;

	get.ino = ino;
	ck_assert_int_eq(driver_query(driver, OP_GETATTR, &get.base), 0);
	return driver->answer.as.attr.attr->acls;
}

#define NAMED_RW                                                                                             \
	VALUE({ U, 7, NO_ID }, { USER, 6, NAMED }, { G, 4, NO_ID }, { GROUP_TAG, 3, TEAM }, { M, 6, NO_ID }, \
	      { O, 1, NO_ID })

/* --- and mode bits --------------------------------------------------------------------------------------------------- */

START_TEST(mode_and_acl_are_in_step)
{
	struct driver *driver;
	struct inode before;
	uint64_t dir, file;

	driver = with_files(&dir, &file);
	become(driver, OWNER);
	ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME, NAMED_RW), 0);
	ck_assert_uint_eq(mode_of(driver, file), 0761);
	ck_assert_uint_eq(driver_attr_reply(driver)->attr->mode, S_IFREG | 0761);
	ck_assert_uint_eq(driver_attr_reply(driver)->attr->acls, 1);
	ck_assert(has_acl(driver, file, ACCESS_NAME, NAMED_RW));
	ck_assert_uint_eq(driver_inode(driver, file).xattr_count, 1);

	/* chmod: the group's bits are the mask; who is in no mask keeps his rights. */
	ck_assert_int_eq(change_attr(driver, file, 0610, -1, -1), 0);
	ck_assert(has_acl(driver, file, ACCESS_NAME,
			  VALUE({ U, 6, NO_ID }, { USER, 6, NAMED }, { G, 4, NO_ID }, { GROUP_TAG, 3, TEAM },
				{ M, 1, NO_ID }, { O, 0, NO_ID })));

	/* What mode bits can say is not kept. */
	ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME, VALUE({ U, 6, NO_ID }, { G, 4, NO_ID }, { O, 2, NO_ID })),
			 0);
	ck_assert_uint_eq(mode_of(driver, file), 0642);
	ck_assert(has_acl(driver, file, ACCESS_NAME, NONE));
	ck_assert_uint_eq(driver_inode(driver, file).xattr_count, 0);
	ck_assert_uint_eq(told_acls(driver, file), 0);

	/* Taken away: the mode stays. Nothing there: nothing to take away. */
	ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME, NAMED_RW), 0);
	ck_assert_int_eq(driver_removexattr(driver, file, ACCESS_NAME), 0);
	ck_assert_uint_eq(mode_of(driver, file), 0761);
	ck_assert_uint_eq(told_acls(driver, file), 0);
	before = driver_inode(driver, file);
	ck_assert_int_eq(driver_removexattr(driver, file, ACCESS_NAME), 0);
	ck_assert_int_eq(driver_inode(driver, file).ctime_ns, before.ctime_ns);
	ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME, NAMED_RW), 0);
	ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME, NONE), 0);
	ck_assert_uint_eq(mode_of(driver, file), 0761);
	ck_assert(has_acl(driver, file, ACCESS_NAME, NONE));
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(acls_are_the_owners)
{
	struct driver *driver;
	uint64_t dir, file, link;
	uint64_t before;

	driver = with_files(&dir, &file);
	ck_assert_int_eq(driver_make(driver, OP_SYMLINK, dir, "link", 0, &link), 0);
	ck_assert_int_eq(set_acl(driver, link, ACCESS_NAME, NAMED_RW), -EOPNOTSUPP);
	ck_assert_int_eq(set_acl(driver, file, DEFAULT_NAME, NAMED_RW), -EACCES);
	ck_assert_int_eq(set_acl(driver, file, DEFAULT_NAME, NONE), 0);
	ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME, (struct value){ .bytes = { 2 }, .size = 9 }), -EINVAL);
	become(driver, MEMBER);
	trust(driver); /* whoever has checked: the owner may have changed meanwhile */
	ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME, NAMED_RW), -EPERM);
	ck_assert_int_eq(driver_removexattr(driver, file, ACCESS_NAME), -EPERM);
	become(driver, OWNER);
	before = driver_inode(driver, file).version;
	driver->admission.disk_free = 0;
	ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME, NAMED_RW), -ENOSPC);
	ck_assert_uint_eq(driver_inode(driver, file).version, before);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(others_than_members_lose_setgid)
{
	static const struct {
		uint32_t uid;
		bool trusted, kill_sgid;
		uint32_t expected;
	} cases[] = {
		{ OWNER, false, false, 0761 }, /* the file is of another group here */
		{ 0, false, true, 02761 },     /* root is a member of all */
		{ OWNER, true, true, 0761 },   { OWNER, true, false, 02761 }, { 0, true, true, 0761 },
	};
	struct driver *driver;
	uint64_t dir, file;

	driver = with_files(&dir, &file);
	ck_assert_int_eq(change_attr(driver, file, -1, OWNER, TEAM), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		become(driver, 0);
		ck_assert_int_eq(change_attr(driver, file, 02755, -1, -1), 0);
		become(driver, cases[i].uid);
		if (cases[i].trusted)
			trust(driver);
		ck_assert_int_eq(set_acl_as(driver, file, ACCESS_NAME, NAMED_RW, cases[i].kill_sgid), 0);
		ck_assert_msg(mode_of(driver, file) == cases[i].expected, "case %zu", i);
	}
	/* Requests of before there were ACLs were refused. */
	ck_assert_int_eq(driver_setxattr(driver, file, ACCESS_NAME, "\2", 0), -EOPNOTSUPP);
	/* A default ACL is no right to anything that is there. */
	become(driver, 0);
	ck_assert_int_eq(change_attr(driver, dir, 02755, OWNER, TEAM), 0);
	become(driver, OWNER);
	ck_assert_int_eq(set_acl(driver, dir, DEFAULT_NAME, NAMED_RW), 0);
	ck_assert_uint_eq(mode_of(driver, dir), 02755);
	driver_free(driver);
}
END_TEST

/* --- who may do what ------------------------------------------------------------------------------------------------- */

static int may(struct driver *driver, uint32_t uid, uint64_t ino, int mask)
{
	Strake__AccessRequest request = STRAKE__ACCESS_REQUEST__INIT;

	become(driver, uid);
	request.cred = &driver->cred;
	request.ino = ino;
	request.mask = (uint32_t)mask;
	return driver_query(driver, OP_ACCESS, &request.base);
}

START_TEST(the_first_entry_that_speaks_of_one_decides)
{
	/* The owner 6; user NAMED 7; the group 4; group TEAM 3; others 6. */
	static const struct {
		uint32_t mask, uid;
		int asked, expected;
	} cases[] = {
		{ 7, OWNER, R_OK | W_OK, 0 },
		{ 0, OWNER, R_OK | W_OK, 0 }, /* the mask is not his */
		{ 7, OWNER, X_OK, -EACCES },
		{ 7, NAMED, R_OK | W_OK | X_OK, 0 },
		{ 5, NAMED, R_OK | X_OK, 0 },
		{ 5, NAMED, W_OK, -EACCES },
		{ 7, MEMBER, R_OK, 0 },
		{ 3, MEMBER, R_OK, -EACCES },
		{ 7, MEMBER, W_OK, -EACCES }, /* others might */
		{ 7, OTHER, W_OK | X_OK, 0 }, /* as one of the team */
		{ 7, OTHER, R_OK, -EACCES },
		{ 1, OTHER, X_OK, 0 },
		{ 1, OTHER, W_OK | X_OK, -EACCES },
		{ 0, 4711, R_OK | W_OK, 0 },
		{ 7, 4711, X_OK, -EACCES },
		{ 0, 0, R_OK | W_OK, 0 },
		{ 7, 0, X_OK, 0 },
		{ 0, 0, X_OK, -EACCES }, /* no x anywhere in the mode */
	};
	struct driver *driver;
	uint64_t dir, file;

	driver = with_files(&dir, &file);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		become(driver, OWNER);
		ck_assert_int_eq(set_acl(driver, file, ACCESS_NAME,
					 VALUE({ U, 6, NO_ID }, { USER, 7, NAMED }, { G, 4, NO_ID },
					       { GROUP_TAG, 3, TEAM }, { M, cases[i].mask, NO_ID }, { O, 6, NO_ID })),
				 0);
		ck_assert_msg(may(driver, cases[i].uid, file, cases[i].asked) == cases[i].expected, "case %zu", i);
	}
	/* Without any ACL the named one is one of the others. */
	become(driver, OWNER);
	ck_assert_int_eq(driver_removexattr(driver, file, ACCESS_NAME), 0);
	ck_assert_int_eq(change_attr(driver, file, 0604, -1, -1), 0);
	ck_assert_int_eq(may(driver, NAMED, file, W_OK), -EACCES);
	driver_free(driver);
}
END_TEST

/* Two groups of one's own: each may give what the other does not, but not each a part of it. */
START_TEST(groups_are_not_added_up)
{
	uint32_t both[] = { GROUP, TEAM };
	struct acl acl;
	struct value value =
		VALUE({ U, 0, NO_ID }, { G, 4, NO_ID }, { GROUP_TAG, 2, TEAM }, { M, 7, NO_ID }, { O, 7, NO_ID });
	Strake__Cred cred = STRAKE__CRED__INIT;

	ck_assert_int_eq(acl_decode(bytes_of(&value), &acl), 0);
	cred.uid = cred.gid = OTHER;
	cred.groups = both;
	cred.n_groups = 2;
	ck_assert_int_eq(acl_check(&acl, &cred, OWNER, GROUP, R_OK), 0);
	ck_assert_int_eq(acl_check(&acl, &cred, OWNER, GROUP, W_OK), 0);
	ck_assert_int_eq(acl_check(&acl, &cred, OWNER, GROUP, R_OK | W_OK), -EACCES);
	ck_assert_int_eq(acl_check(&acl, &cred, OWNER, GROUP, X_OK), -EACCES);
	cred.n_groups = 0;
	ck_assert_int_eq(acl_check(&acl, &cred, OWNER, GROUP, R_OK | W_OK | X_OK), 0);
}
END_TEST

START_TEST(operations_go_by_acls)
{
	struct driver *driver;
	uint64_t dir, file;
	Strake__ReaddirRequest list = STRAKE__READDIR_REQUEST__INIT;

	driver = with_files(&dir, &file);
	become(driver, OWNER);
	ck_assert_int_eq(change_attr(driver, dir, 0700, -1, -1), 0);
	become(driver, NAMED);
	ck_assert_int_eq(driver_lookup(driver, dir, "file", NULL), -EACCES);
	become(driver, OWNER);
	ck_assert_int_eq(set_acl(driver, dir, ACCESS_NAME,
				 VALUE({ U, 7, NO_ID }, { USER, 1, NAMED }, { USER, 7, OTHER }, { G, 0, NO_ID },
				       { M, 7, NO_ID }, { O, 0, NO_ID })),
			 0);
	become(driver, NAMED);
	ck_assert_int_eq(driver_lookup(driver, dir, "file", NULL), 0);
	list.cred = &driver->cred;
	list.ino = dir;
	list.max_bytes = 4096;
	ck_assert_int_eq(driver_query(driver, OP_READDIR, &list.base), -EACCES);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "new", 0644, NULL), -EACCES);
	ck_assert_int_eq(driver_unlink(driver, dir, "file"), -EACCES);
	become(driver, OTHER);
	ck_assert_int_eq(driver_query(driver, OP_READDIR, &list.base), 0);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "new", 0644, NULL), 0);
	ck_assert_int_eq(driver_rename(driver, dir, "new", dir, "newer", 0), 0);
	ck_assert_int_eq(driver_unlink(driver, dir, "newer"), 0);
	driver_free(driver);
}
END_TEST

/* --- what is made under a default ACL ---------------------------------------------------------------------------------- */

static uint64_t make(struct driver *driver, uint16_t op, uint64_t dir, const char *name, uint32_t mode)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;

	request.cred = &driver->cred;
	request.parent = dir;
	request.name = driver_name(name);
	request.mode = mode;
	request.has_umask = 1;
	request.umask = 077;
	if (op == OP_SYMLINK) {
		request.has_target = 1;
		request.target = driver_name("target");
	}
	ck_assert_int_eq(driver_change(driver, op, &request.base), 0);
	return driver_entry(driver)->attr->ino;
}

START_TEST(default_acls_are_inherited)
{
	const struct value defaults = NAMED_RW;
	struct driver *driver;
	uint64_t dir, file, ino;

	driver = with_files(&dir, &file);
	become(driver, OWNER);
	ck_assert_uint_eq(mode_of(driver, make(driver, OP_CREATE, dir, "before", 0666)), 0600);
	ck_assert_int_eq(set_acl(driver, dir, DEFAULT_NAME, defaults), 0);
	ck_assert_uint_eq(mode_of(driver, dir), 0755);
	ck_assert_uint_eq(told_acls(driver, dir), 2);

	/* The umask has no say; the mode asked for restricts owner, mask and others. */
	ino = make(driver, OP_CREATE, dir, "f", 0664);
	ck_assert_uint_eq(mode_of(driver, ino), 0660);
	ck_assert_uint_eq(driver_entry(driver)->attr->mode, S_IFREG | 0660);
	ck_assert_uint_eq(driver_entry(driver)->attr->acls, 1);
	ck_assert(has_acl(driver, ino, ACCESS_NAME,
			  VALUE({ U, 6, NO_ID }, { USER, 6, NAMED }, { G, 4, NO_ID }, { GROUP_TAG, 3, TEAM },
				{ M, 6, NO_ID }, { O, 0, NO_ID })));
	ck_assert(has_acl(driver, ino, DEFAULT_NAME, NONE));

	ino = make(driver, OP_MKNOD, dir, "fifo", S_IFIFO | 0601);
	ck_assert_uint_eq(mode_of(driver, ino), 0601);
	ck_assert(has_acl(driver, ino, ACCESS_NAME,
			  VALUE({ U, 6, NO_ID }, { USER, 6, NAMED }, { G, 4, NO_ID }, { GROUP_TAG, 3, TEAM },
				{ M, 0, NO_ID }, { O, 1, NO_ID })));

	ino = make(driver, OP_MKDIR, dir, "d", 01777);
	ck_assert_uint_eq(mode_of(driver, ino), 01761);
	ck_assert_uint_eq(told_acls(driver, ino), 3);
	ck_assert(has_acl(driver, ino, ACCESS_NAME, defaults));
	ck_assert(has_acl(driver, ino, DEFAULT_NAME, defaults));
	ck_assert_uint_eq(told_acls(driver, make(driver, OP_MKDIR, ino, "deeper", 0700)), 3);

	ino = make(driver, OP_SYMLINK, dir, "s", 0);
	ck_assert_uint_eq(mode_of(driver, ino), 0777);
	ck_assert_uint_eq(told_acls(driver, ino), 0);

	/* One that says no more than mode bits leaves only those. */
	ck_assert_int_eq(set_acl(driver, dir, DEFAULT_NAME, VALUE({ U, 7, NO_ID }, { G, 5, NO_ID }, { O, 4, NO_ID })),
			 0);
	ck_assert(has_acl(driver, dir, DEFAULT_NAME, VALUE({ U, 7, NO_ID }, { G, 5, NO_ID }, { O, 4, NO_ID })));
	ino = make(driver, OP_CREATE, dir, "plain", 0666);
	ck_assert_uint_eq(mode_of(driver, ino), 0644);
	ck_assert_uint_eq(told_acls(driver, ino), 0);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* chown(-1, -1), which Linux lets everybody call; and the same from a kernel that lets somebody write. */
START_TEST(nothing_is_changed_by_others)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;
	struct driver *driver;
	uint64_t dir, file;

	driver = with_files(&dir, &file);
	ck_assert_int_eq(change_attr(driver, file, 04777, -1, -1), 0);
	become(driver, OTHER);
	trust(driver);
	request.cred = &driver->cred;
	request.ino = file;
	request.has_kill_suid = request.kill_suid = 1;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &request.base), -EPERM);
	ck_assert_uint_eq(mode_of(driver, file), 04777);
	request.has_open_handle = request.open_handle = 1;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &request.base), 0);
	ck_assert_uint_eq(mode_of(driver, file), 0777);
	request.open_handle = 0;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &request.base), 0);
	become(driver, OWNER);
	ck_assert_int_eq(change_attr(driver, file, 04777, -1, -1), 0);
	trust(driver);
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &request.base), 0);
	ck_assert_uint_eq(mode_of(driver, file), 0777);
	driver_free(driver);
}
END_TEST

/* What is written by those who may not keep it, by the word of a mount whose kernel knows. */
START_TEST(a_mount_says_who_keeps_setgid)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;
	Strake__SizeRequest size = STRAKE__SIZE_REQUEST__INIT;
	static const struct {
		bool suid, sgid;
		uint32_t before, expected;
	} cases[] = {
		{ false, false, 06777, 06777 }, { true, false, 06777, 0777 }, { true, false, 06666, 02666 },
		{ true, true, 06666, 0666 },    { true, true, 02755, 0755 },
	};
	struct driver *driver;
	uint64_t dir, file, end = 0;

	driver = with_files(&dir, &file);
	driver_set_osts(driver, 1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		become(driver, 0);
		ck_assert_int_eq(change_attr(driver, file, cases[i].before, -1, -1), 0);
		trust(driver);
		request.cred = &driver->cred;
		request.ino = size.ino = file;
		request.has_size = 1;
		request.size = ++end;
		request.has_kill_suid = request.has_kill_sgid = 1;
		request.kill_suid = cases[i].suid;
		request.kill_sgid = cases[i].sgid;
		ck_assert_int_eq(driver_change(driver, OP_SETATTR, &request.base), 0);
		ck_assert_msg(mode_of(driver, file) == cases[i].expected, "SETATTR, case %zu: %o", i,
			      mode_of(driver, file));

		ck_assert_int_eq(change_attr(driver, file, cases[i].before, -1, -1), 0);
		size.gen = driver_inode(driver, file).gen;
		size.cut = driver_inode(driver, file).cut;
		size.end = ++end;
		size.has_wrote = size.wrote = 1;
		size.has_kill_suid = size.has_kill_sgid = 1;
		size.kill_suid = cases[i].suid;
		size.kill_sgid = cases[i].sgid;
		ck_assert_int_eq(driver_change(driver, OP_SIZE, &size.base), 0);
		ck_assert_msg(mode_of(driver, file) == cases[i].expected, "SIZE, case %zu", i);
		driver_acknowledge_all(driver);
	}
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_acl", what_is_no_acl_is_refused, as_long_as_a_page, mode_and_acl_are_in_step, acls_are_the_owners,
	  others_than_members_lose_setgid, the_first_entry_that_speaks_of_one_decides, groups_are_not_added_up,
	  operations_go_by_acls, default_acls_are_inherited, nothing_is_changed_by_others,
	  a_mount_says_who_keeps_setgid)
