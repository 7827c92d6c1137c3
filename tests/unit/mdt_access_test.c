/* Who may do what: mode bits, sticky, ownership, groups; and what SETATTR makes of mode bits. */
#include "mdt_driver.h"
#include "unit.h"

#include "mds/xattr.h"

#include <stdio.h> /* RENAME_EXCHANGE */
#include <sys/xattr.h>

#define OWNER  1000
#define MEMBER 1001
#define OTHER  1002
#define GROUP  500

static uint32_t groups_of_member[] = { 7, GROUP };

static void become(struct driver *driver, uint32_t uid)
{
	strake__cred__init(&driver->cred);
	driver->cred.uid = uid;
	driver->cred.gid = uid == OWNER ? GROUP : uid;
	if (uid == MEMBER) {
		driver->cred.n_groups = 2;
		driver->cred.groups = groups_of_member;
	}
}

static int chmod_as(struct driver *driver, uint32_t uid, uint64_t ino, uint32_t mode)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	become(driver, uid);
	request.cred = &driver->cred;
	request.ino = ino;
	request.has_mode = 1;
	request.mode = mode;
	return driver_change(driver, OP_SETATTR, &request.base);
}

static int chown_as(struct driver *driver, uint32_t uid, uint64_t ino, int64_t new_uid, int64_t new_gid)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	become(driver, uid);
	request.cred = &driver->cred;
	request.ino = ino;
	request.has_uid = new_uid >= 0;
	request.uid = (uint32_t)new_uid;
	request.has_gid = new_gid >= 0;
	request.gid = (uint32_t)new_gid;
	return driver_change(driver, OP_SETATTR, &request.base);
}

/* A directory of the owner's with a file of the owner's, in a root that anybody may search. */
static struct driver *with_files(uint32_t dir_mode, uint32_t file_mode, uint64_t *ret_dir, uint64_t *ret_file)
{
	struct driver *driver = driver_new();

	*ret_dir = driver_mkdir(driver, DRIVER_ROOT, "dir");
	*ret_file = driver_create(driver, *ret_dir, "file");
	ck_assert_int_eq(chown_as(driver, 0, *ret_dir, OWNER, GROUP), 0);
	ck_assert_int_eq(chown_as(driver, 0, *ret_file, OWNER, GROUP), 0);
	ck_assert_int_eq(chmod_as(driver, 0, *ret_dir, dir_mode), 0);
	ck_assert_int_eq(chmod_as(driver, 0, *ret_file, file_mode), 0);
	return driver;
}

START_TEST(mode_bits)
{
	static const struct {
		uint32_t uid, mode;
		int mask, expected;
	} cases[] = {
		{ OWNER, 0400, R_OK, 0 },       { OWNER, 0400, W_OK, -EACCES },  { OWNER, 0077, R_OK, -EACCES },
		{ MEMBER, 0040, R_OK, 0 },      { MEMBER, 0707, R_OK, -EACCES }, { OTHER, 0004, R_OK, 0 },
		{ OTHER, 0770, R_OK, -EACCES }, { 0, 0000, R_OK | W_OK, 0 },     { 0, 0000, X_OK, -EACCES },
		{ 0, 0010, X_OK, 0 },           { OTHER, 0006, R_OK | W_OK, 0 }, { OTHER, 0004, R_OK | W_OK, -EACCES },
	};
	struct driver *driver;
	uint64_t dir, file;
	Strake__AccessRequest request = STRAKE__ACCESS_REQUEST__INIT;

	driver = with_files(0755, 0644, &dir, &file);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		ck_assert_int_eq(chmod_as(driver, 0, file, cases[i].mode), 0);
		become(driver, cases[i].uid);
		request.cred = &driver->cred;
		request.ino = file;
		request.mask = (uint32_t)cases[i].mask;
		ck_assert_msg(driver_query(driver, OP_ACCESS, &request.base) == cases[i].expected, "case %zu", i);
	}
	driver_free(driver);
}
END_TEST

START_TEST(directories_want_search_and_write)
{
	struct driver *driver;
	uint64_t dir, file;

	driver = with_files(0700, 0644, &dir, &file);
	become(driver, OTHER);
	ck_assert_int_eq(driver_lookup(driver, dir, "file", NULL), -EACCES);
	ck_assert_int_eq(driver_unlink(driver, dir, "file"), -EACCES);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "new", 0644, NULL), -EACCES);
	/* The kernel of a trusted mount has looked at the bits already. */
	driver->cred.trusted = 1;
	ck_assert_int_eq(driver_lookup(driver, dir, "file", NULL), 0);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "new", 0644, NULL), 0);

	ck_assert_int_eq(chmod_as(driver, 0, dir, 0755), 0);
	become(driver, OTHER);
	ck_assert_int_eq(driver_lookup(driver, dir, "file", NULL), 0);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "file", 0644, NULL), -EEXIST);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, dir, "newer", 0755, NULL), -EACCES);
	ck_assert_int_eq(driver_link(driver, file, dir, "newer"), -EACCES);
	ck_assert_int_eq(driver_rename(driver, dir, "file", dir, "newer", 0), -EACCES);
	driver_free(driver);
}
END_TEST

/* Two directories that anybody may write, one that only root may, and a directory and a file of root's to move. */
START_TEST(renames_want_both_directories)
{
	struct driver *driver = driver_new();
	uint64_t open, other, closed, moved;

	ck_assert_int_eq(driver_make(driver, OP_MKDIR, DRIVER_ROOT, "open", 0777, &open), 0);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, DRIVER_ROOT, "other", 0777, &other), 0);
	closed = driver_mkdir(driver, DRIVER_ROOT, "closed");
	moved = driver_mkdir(driver, open, "moved");
	driver_create(driver, open, "file");
	driver_create(driver, closed, "there");
	become(driver, OTHER);
	ck_assert_int_eq(driver_rename(driver, open, "file", closed, "new", 0), -EACCES);
	ck_assert_int_eq(driver_rename(driver, open, "file", closed, "there", 0), -EACCES);
	ck_assert_int_eq(driver_rename(driver, closed, "there", open, "new", 0), -EACCES);
	ck_assert_int_eq(driver_rename(driver, open, "file", other, "file", 0), 0);
	/* A directory that changes its parent is written to. */
	ck_assert_int_eq(driver_rename(driver, open, "moved", other, "moved", 0), -EACCES);
	ck_assert_int_eq(driver_rename(driver, other, "file", open, "moved", RENAME_EXCHANGE), -EACCES);
	ck_assert_int_eq(driver_rename(driver, open, "moved", open, "renamed", 0), 0);
	ck_assert_int_eq(chmod_as(driver, 0, moved, 0777), 0);
	become(driver, OTHER);
	ck_assert_int_eq(driver_rename(driver, open, "renamed", other, "moved", 0), 0);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(sticky)
{
	struct driver *driver;
	uint64_t dir, file;

	driver = with_files(01777, 0666, &dir, &file);
	become(driver, OTHER);
	ck_assert_int_eq(driver_unlink(driver, dir, "file"), -EPERM);
	ck_assert_int_eq(driver_rename(driver, dir, "file", dir, "moved", 0), -EPERM);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "mine", 0644, NULL), 0);
	ck_assert_int_eq(driver_rename(driver, dir, "mine", dir, "file", 0), -EPERM);
	/* Ownership is looked at also where the kernel is trusted. */
	driver->cred.trusted = 1;
	ck_assert_int_eq(driver_unlink(driver, dir, "file"), -EPERM);
	ck_assert_int_eq(driver_unlink(driver, dir, "mine"), 0);
	become(driver, OWNER);
	ck_assert_int_eq(driver_unlink(driver, dir, "file"), 0);
	driver_free(driver);
}
END_TEST

START_TEST(chmod_and_chown)
{
	struct driver *driver;
	uint64_t dir, file, made;

	driver = with_files(0755, 0644, &dir, &file);
	ck_assert_int_eq(chmod_as(driver, OTHER, file, 0600), -EPERM);
	ck_assert_int_eq(chmod_as(driver, OWNER, file, 06711), 0);
	ck_assert_uint_eq(driver_inode(driver, file).mode, S_IFREG | 06711);

	/* Giving away is root's; taking another group is the owner's, if a member. */
	ck_assert_int_eq(chown_as(driver, OWNER, file, OTHER, -1), -EPERM);
	ck_assert_int_eq(chown_as(driver, OTHER, file, -1, OTHER), -EPERM);
	ck_assert_int_eq(chown_as(driver, OWNER, file, -1, 7), -EPERM);
	ck_assert_int_eq(chown_as(driver, OWNER, file, OWNER, GROUP), 0);
	ck_assert_uint_eq(driver_inode(driver, file).mode, S_IFREG | 0711);

	/* A group that one is no member of gets no S_ISGID. */
	ck_assert_int_eq(chown_as(driver, 0, file, OWNER, 99), 0);
	ck_assert_int_eq(chmod_as(driver, OWNER, file, 02755), 0);
	ck_assert_uint_eq(driver_inode(driver, file).mode, S_IFREG | 0755);

	/* chown takes privileges away, root's too; without S_IXGRP S_ISGID is none. */
	ck_assert_int_eq(chmod_as(driver, 0, file, 06745), 0);
	ck_assert_int_eq(chown_as(driver, 0, file, -1, -1), 0);
	ck_assert_uint_eq(driver_inode(driver, file).mode, S_IFREG | 02745);

	/* Nobody, -1, owns nothing, and makes nothing. */
	ck_assert_int_eq(chown_as(driver, 0, dir, UINT32_MAX, -1), -EINVAL);
	ck_assert_int_eq(chown_as(driver, 0, dir, -1, UINT32_MAX), -EINVAL);
	become(driver, UINT32_MAX);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "of nobody's", 0644, &made), -EINVAL);

	/* Directories keep theirs. */
	ck_assert_int_eq(chmod_as(driver, 0, dir, 02775), 0);
	ck_assert_int_eq(chown_as(driver, 0, dir, OTHER, OTHER), 0);
	ck_assert_uint_eq(driver_inode(driver, dir).mode, S_IFDIR | 02775);
	driver_free(driver);
}
END_TEST

START_TEST(writers_lose_suid)
{
	Strake__SizeRequest size = STRAKE__SIZE_REQUEST__INIT;
	struct driver *driver;
	uint64_t dir, file;
	struct inode inode;

	driver = with_files(0755, 06777, &dir, &file);
	become(driver, OTHER);
	ck_assert_int_eq(driver_truncate(driver, file, 10), 0);
	ck_assert_uint_eq(driver_inode(driver, file).mode, S_IFREG | 0777);

	ck_assert_int_eq(chmod_as(driver, 0, file, 06777), 0);
	become(driver, 0);
	ck_assert_int_eq(driver_truncate(driver, file, 20), 0);
	ck_assert_uint_eq(driver_inode(driver, file).mode, S_IFREG | 06777);

	ck_assert_int_eq(driver_setxattr(driver, file, "security.capability", "x", 0), 0);
	inode = driver_inode(driver, file);
	size.ino = file;
	size.gen = inode.gen;
	size.cut = inode.cut;
	size.end = 30;
	size.has_wrote = size.wrote = 1;
	size.has_kill_suid = size.kill_suid = 1;
	ck_assert_int_eq(driver_change(driver, OP_SIZE, &size.base), 0);
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.mode, S_IFREG | 0777);
	ck_assert_uint_eq(inode.xattr_count, 0);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

static int truncate_as(struct driver *driver, uint32_t uid, uint64_t ino, uint64_t size, bool open_handle)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	become(driver, uid);
	request.cred = &driver->cred;
	request.ino = ino;
	request.has_size = 1;
	request.size = size;
	request.has_open_handle = request.open_handle = open_handle;
	return driver_change(driver, OP_SETATTR, &request.base);
}

static int punch_as(struct driver *driver, uint32_t uid, uint64_t ino)
{
	Strake__PunchRequest request = STRAKE__PUNCH_REQUEST__INIT;

	become(driver, uid);
	request.cred = &driver->cred;
	request.ino = ino;
	request.end = 4096;
	return driver_change(driver, OP_PUNCH, &request.base);
}

/* Permission is looked at when a file is opened: who has it open for writing may go on, whatever the mode is now. */
START_TEST(content_is_the_writers)
{
	struct driver *driver;
	uint64_t dir, file;

	driver = with_files(0755, 06744, &dir, &file);
	ck_assert_int_eq(truncate_as(driver, OTHER, file, 10, false), -EACCES);
	ck_assert_int_eq(punch_as(driver, OTHER, file), -EACCES);
	ck_assert_int_eq(truncate_as(driver, OTHER, file, 10, true), 0);
	ck_assert_int_eq(chmod_as(driver, 0, file, 06744), 0);
	opens_add(driver->opens, driver->session, file, OPEN_READ);
	ck_assert_int_eq(truncate_as(driver, OTHER, file, 20, false), -EACCES);
	ck_assert_int_eq(punch_as(driver, OTHER, file), -EACCES);
	opens_add(driver->opens, driver->session, file, OPEN_WRITE);
	ck_assert_int_eq(truncate_as(driver, OTHER, file, 20, false), 0);
	ck_assert_int_eq(chmod_as(driver, 0, file, 06744), 0);

	/* It loses its privileges by that, but not by root's hand. */
	ck_assert_int_eq(punch_as(driver, 0, file), 0);
	ck_assert_uint_eq(driver_inode(driver, file).mode, S_IFREG | 06744);
	ck_assert_int_eq(punch_as(driver, OTHER, file), 0);
	ck_assert_uint_eq(driver_inode(driver, file).mode, S_IFREG | 0744);
	driver_free(driver);
}
END_TEST

static int utimes_as(struct driver *driver, uint32_t uid, uint64_t ino, bool now)
{
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	become(driver, uid);
	request.cred = &driver->cred;
	request.ino = ino;
	request.has_atime_ns = request.has_mtime_ns = !now;
	request.atime_ns = 5;
	request.mtime_ns = -7;
	request.has_atime_now = request.atime_now = now;
	request.has_mtime_now = request.mtime_now = now;
	return driver_change(driver, OP_SETATTR, &request.base);
}

START_TEST(times)
{
	struct driver *driver;
	uint64_t dir, file;
	struct inode inode;

	driver = with_files(0755, 0600, &dir, &file);
	ck_assert_int_eq(utimes_as(driver, OTHER, file, false), -EPERM);
	ck_assert_int_eq(utimes_as(driver, OTHER, file, true), -EACCES);
	ck_assert_int_eq(utimes_as(driver, OWNER, file, false), 0);
	inode = driver_inode(driver, file);
	ck_assert_int_eq(inode.atime_ns, 5);
	ck_assert_int_eq(inode.mtime_ns, -7);
	ck_assert_int_gt(inode.ctime_ns, 0);

	ck_assert_int_eq(chmod_as(driver, 0, file, 0666), 0);
	ck_assert_int_eq(utimes_as(driver, OTHER, file, false), -EPERM);
	ck_assert_int_eq(utimes_as(driver, OTHER, file, true), 0);
	inode = driver_inode(driver, file);
	ck_assert_int_eq(inode.atime_ns, inode.ctime_ns);
	ck_assert_int_eq(inode.mtime_ns, inode.ctime_ns);
	driver_free(driver);
}
END_TEST

START_TEST(set_group_directories)
{
	struct driver *driver;
	uint64_t dir, file, ino;
	struct inode inode;

	driver = with_files(02777, 0644, &dir, &file);
	become(driver, OTHER);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, dir, "sub", 0755, &ino), 0);
	inode = driver_inode(driver, ino);
	ck_assert_uint_eq(inode.gid, GROUP);
	ck_assert_uint_eq(inode.mode, S_IFDIR | 02755);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "new", 02755, &ino), 0);
	inode = driver_inode(driver, ino);
	ck_assert_uint_eq(inode.gid, GROUP);
	ck_assert_uint_eq(inode.uid, OTHER);
	ck_assert_uint_eq(inode.mode, S_IFREG | 0755);
	become(driver, MEMBER);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "newer", 02755, &ino), 0);
	ck_assert_uint_eq(driver_inode(driver, ino).mode, S_IFREG | 02755);
	driver_free(driver);
}
END_TEST

START_TEST(umask_and_kinds)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	struct driver *driver = driver_new();
	uint64_t ino;

	request.cred = &driver->cred;
	request.parent = DRIVER_ROOT;
	request.name = driver_name("masked");
	request.mode = S_IFREG | 0666;
	request.has_umask = 1;
	request.umask = 027;
	ck_assert_int_eq(driver_change(driver, OP_CREATE, &request.base), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->mode, S_IFREG | 0640);
	ck_assert(driver_entry(driver)->created);

	ck_assert_int_eq(driver_make(driver, OP_MKDIR, DRIVER_ROOT, "d", 07777, &ino), 0);
	ck_assert_uint_eq(driver_inode(driver, ino).mode, S_IFDIR | 01777);
	ck_assert_int_eq(driver_make(driver, OP_MKNOD, DRIVER_ROOT, "dev", S_IFBLK | 0600, &ino), 0);
	ck_assert_int_eq(driver_make(driver, OP_MKNOD, DRIVER_ROOT, "bad", S_IFDIR | 0600, NULL), -EPERM);
	ck_assert_int_eq(driver_make(driver, OP_MKNOD, DRIVER_ROOT, "bad", 0170000, NULL), -EINVAL);
	ck_assert_int_eq(chmod_as(driver, 0, DRIVER_ROOT, 0777), 0);
	become(driver, OTHER);
	ck_assert_int_eq(driver_make(driver, OP_MKNOD, DRIVER_ROOT, "bad", S_IFBLK | 0600, NULL), -EPERM);
	ck_assert_int_eq(driver_make(driver, OP_MKNOD, DRIVER_ROOT, "fifo", S_IFIFO | 0600, NULL), 0);
	driver_free(driver);
}
END_TEST

START_TEST(xattr_namespaces)
{
	Strake__GetxattrRequest get = STRAKE__GETXATTR_REQUEST__INIT;
	Strake__ListxattrRequest list = STRAKE__LISTXATTR_REQUEST__INIT;
	struct driver *driver;
	uint64_t dir, file, link;
	char trusted_name[] = "trusted.x", user_name[] = "user.x";

	driver = with_files(0755, 0644, &dir, &file);
	become(driver, OTHER);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.x", "v", 0), -EACCES);
	ck_assert_int_eq(driver_setxattr(driver, file, "trusted.x", "v", 0), -EPERM);
	ck_assert_int_eq(driver_setxattr(driver, file, "security.x", "v", 0), -EPERM);
	ck_assert_int_eq(driver_setxattr(driver, file, "system.x", "v", 0), -EOPNOTSUPP);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.", "v", 0), -EINVAL);
	ck_assert_int_eq(driver_setxattr(driver, file, "usr.x", "v", 0), -EOPNOTSUPP);
	ck_assert_int_eq(driver_setxattr(driver, file, "", "v", 0), -ERANGE);
	become(driver, OWNER);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.x", "v", XATTR_REPLACE), -ENODATA);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.x", "v", 0), 0);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.x", "w", XATTR_CREATE), -EEXIST);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.x", "ww", XATTR_REPLACE), 0);
	get.cred = &driver->cred;
	get.ino = file;
	get.name = user_name;
	ck_assert_int_eq(driver_query(driver, OP_GETXATTR, &get.base), 0);
	ck_assert_uint_eq(driver->answer.as.getxattr.value.len, 2);
	get.name = trusted_name;
	ck_assert_int_eq(driver_query(driver, OP_GETXATTR, &get.base), -ENODATA);
	become(driver, 0);
	ck_assert_int_eq(driver_setxattr(driver, file, "trusted.x", "v", 0), 0);
	list.cred = &driver->cred;
	list.ino = file;
	ck_assert_int_eq(driver_query(driver, OP_LISTXATTR, &list.base), 0);
	ck_assert_uint_eq(driver->answer.as.listxattr.n_name, 2);
	become(driver, OWNER);
	ck_assert_int_eq(driver_query(driver, OP_LISTXATTR, &list.base), 0);
	ck_assert_uint_eq(driver->answer.as.listxattr.n_name, 1);
	ck_assert_str_eq(driver->answer.as.listxattr.name[0], "user.x");
	become(driver, 0);
	ck_assert_int_eq(driver_make(driver, OP_SYMLINK, DRIVER_ROOT, "link", 0, &link), 0);
	ck_assert_int_eq(driver_setxattr(driver, link, "user.x", "v", 0), -EPERM);
	ck_assert_int_eq(driver_setxattr(driver, link, "trusted.x", "v", 0), 0);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "link"), 0);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* As many names as listxattr(2) can tell, as long as Linux lets them be. */
START_TEST(xattr_limits)
{
	enum { NAMES = XATTR_NAMES_LEN_MAX / (XATTR_NAME_LEN_MAX + 1) };
	static char value[XATTR_VALUE_LEN_MAX + 2], name[XATTR_NAME_LEN_MAX + 2];
	Strake__ListxattrRequest list = STRAKE__LISTXATTR_REQUEST__INIT;
	struct driver *driver = driver_new();
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file"), other = driver_create(driver, DRIVER_ROOT, "other");

	memset(value, 'v', XATTR_VALUE_LEN_MAX + 1);
	ck_assert_int_eq(driver_setxattr(driver, other, "user.x", value, 0), -E2BIG);
	value[XATTR_VALUE_LEN_MAX] = '\0';
	ck_assert_int_eq(driver_setxattr(driver, other, "user.x", value, 0), 0);

	memset(name, 'n', XATTR_NAME_LEN_MAX + 1);
	memcpy(name, "user.", 5);
	ck_assert_int_eq(driver_setxattr(driver, file, name, "", 0), -ERANGE);
	name[XATTR_NAME_LEN_MAX] = '\0';
	for (int i = 0; i < NAMES; i++) {
		snprintf(name + 5, 4, "%03d", i);
		name[8] = 'n';
		ck_assert_int_eq(driver_setxattr(driver, file, name, "", 0), 0);
	}
	ck_assert_int_eq(driver_setxattr(driver, file, name, "again", 0), 0);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.x", "", 0), -ENOSPC);
	list.ino = file;
	ck_assert_int_eq(driver_query(driver, OP_LISTXATTR, &list.base), 0);
	ck_assert_uint_eq(driver->answer.as.listxattr.n_name, NAMES);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* Root is nobody, in a replay too, whoever has checked what he does; others are who they are. */
START_TEST(root_squash)
{
	struct driver *driver, *again;
	uint64_t dir, file, ino;
	Strake__LookupRequest lookup = STRAKE__LOOKUP_REQUEST__INIT;

	driver = with_files(0700, 0600, &dir, &file);
	ck_assert_int_eq(chmod_as(driver, 0, DRIVER_ROOT, 0777), 0);
	driver->admission.root_squash = true;
	for (int i = 0; i < 4; i++) { /* with the message and without it: driver_submit() */
		become(driver, 0);
		driver->cred.has_trusted = driver->cred.trusted = 1;
		ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "new", 0644, NULL), -EACCES);
		ck_assert_int_eq(driver_unlink(driver, dir, "file"), -EACCES);
		ck_assert_int_eq(driver_setxattr(driver, file, "trusted.x", "v", 0), -EPERM);
		ck_assert_int_eq(driver_make(driver, OP_MKNOD, DRIVER_ROOT, "dev", S_IFBLK | 0600, NULL), -EPERM);
		ck_assert_int_eq(driver_make(driver, OP_CREATE, DRIVER_ROOT, "nobodys", 0644, &ino), 0);
		ck_assert_uint_eq(driver_inode(driver, ino).uid, ACCESS_NOBODY);
		ck_assert_uint_eq(driver_inode(driver, ino).gid, ACCESS_NOBODY);
		ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "nobodys"), 0);
		ck_assert_int_eq(chmod_as(driver, 0, file, 0644), -EPERM);
		become(driver, OWNER);
		ck_assert_int_eq(driver_make(driver, OP_CREATE, dir, "own", 0644, NULL), i == 0 ? 0 : -EEXIST);
	}
	become(driver, 0);
	driver->cred.n_groups = 2;
	driver->cred.groups = groups_of_member;
	lookup.cred = &driver->cred;
	lookup.parent = dir;
	lookup.name = driver_name("file");
	access_squash(&lookup.base);
	ck_assert_uint_eq(driver->cred.uid, ACCESS_NOBODY);
	ck_assert(!access_in_group(&driver->cred, GROUP) && !driver->cred.trusted);
	groups_of_member[0] = 7;
	groups_of_member[1] = GROUP;

	again = driver_replay(driver, driver->index, 0);
	ck_assert_int_eq(driver_lookup(again, DRIVER_ROOT, "nobodys", NULL), -ENOENT);
	ck_assert_uint_eq(again->state.meta.inodes, driver->state.meta.inodes);
	driver_check(again);
	driver_free(again);
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_access", mode_bits, directories_want_search_and_write, renames_want_both_directories, sticky,
	  chmod_and_chown, writers_lose_suid, content_is_the_writers, times, set_group_directories, umask_and_kinds,
	  xattr_namespaces, xattr_limits, root_squash)
