/* Names: their form, what each operation on them answers, and what it does to times and versions. */
#include "mdt_driver.h"
#include "unit.h"

#include <stdio.h> /* RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT */

START_TEST(forms)
{
	struct driver *driver = driver_new();
	Strake__UnlinkRequest request = STRAKE__UNLINK_REQUEST__INIT;
	Strake__CreateRequest symlink = STRAKE__CREATE_REQUEST__INIT;
	char longest[NAME_LEN_MAX + 2], target[INODE_TARGET_MAX + 2];
	uint64_t records;

	memset(longest, 'n', sizeof(longest));
	longest[NAME_LEN_MAX + 1] = '\0';
	records = driver->index;
	ck_assert_int_eq(driver_make(driver, OP_CREATE, DRIVER_ROOT, longest, 0644, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(driver_lookup(driver, DRIVER_ROOT, longest, NULL), -ENAMETOOLONG);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, DRIVER_ROOT, "", 0644, NULL), -EINVAL);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, DRIVER_ROOT, "a/b", 0644, NULL), -EINVAL);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, DRIVER_ROOT, ".", 0644, NULL), -EEXIST);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, DRIVER_ROOT, "..", 0755, NULL), -EEXIST);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "."), -EISDIR);
	ck_assert_int_eq(driver_rmdir(driver, DRIVER_ROOT, "."), -EINVAL);
	ck_assert_int_eq(driver_rmdir(driver, DRIVER_ROOT, ".."), -ENOTEMPTY);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, ".", DRIVER_ROOT, "x", 0), -EBUSY);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "x", DRIVER_ROOT, "..", 0), -EBUSY);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "x", DRIVER_ROOT, "y", 8), -EINVAL);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "x", DRIVER_ROOT, "y", RENAME_NOREPLACE | RENAME_EXCHANGE),
			 -EINVAL);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "x", DRIVER_ROOT, "y", RENAME_WHITEOUT | RENAME_EXCHANGE),
			 -EINVAL);
	request.cred = symlink.cred = &driver->cred;
	request.parent = symlink.parent = DRIVER_ROOT;
	request.name = (ProtobufCBinaryData){ .data = (uint8_t[]){ 'a', 0, 'b' }, .len = 3 };
	ck_assert_int_eq(driver_change(driver, OP_UNLINK, &request.base), -EINVAL);
	symlink.name = driver_name("link");
	ck_assert_int_eq(driver_change(driver, OP_SYMLINK, &symlink.base), -ENOENT);
	memset(target, 't', sizeof(target));
	target[INODE_TARGET_MAX + 1] = '\0';
	symlink.has_target = 1;
	symlink.target = driver_name(target);
	ck_assert_int_eq(driver_change(driver, OP_SYMLINK, &symlink.base), -ENAMETOOLONG);
	ck_assert_uint_eq(driver->index, records); /* none of them became a record */

	target[INODE_TARGET_MAX] = longest[NAME_LEN_MAX] = '\0';
	symlink.target = driver_name(target);
	ck_assert_int_eq(driver_change(driver, OP_SYMLINK, &symlink.base), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->size, INODE_TARGET_MAX);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, DRIVER_ROOT, longest, 0644, NULL), 0);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(targets_come_back)
{
	struct driver *driver = driver_new();
	Strake__ReadlinkRequest request = STRAKE__READLINK_REQUEST__INIT;
	uint64_t link, file = driver_create(driver, DRIVER_ROOT, "file");

	ck_assert_int_eq(driver_make(driver, OP_SYMLINK, DRIVER_ROOT, "link", 0, &link), 0);
	request.ino = link;
	ck_assert_int_eq(driver_query(driver, OP_READLINK, &request.base), 0);
	ck_assert_uint_eq(driver->answer.as.readlink.target.len, strlen("target"));
	ck_assert_mem_eq(driver->answer.as.readlink.target.data, "target", strlen("target"));
	request.ino = file;
	ck_assert_int_eq(driver_query(driver, OP_READLINK, &request.base), -EINVAL);
	request.ino = 4711;
	ck_assert_int_eq(driver_query(driver, OP_READLINK, &request.base), -ESTALE);
	driver_free(driver);
}
END_TEST

START_TEST(not_what_it_seems)
{
	struct driver *driver = driver_new();
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file"), dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), ino;

	ck_assert_int_eq(driver_lookup(driver, file, "x", NULL), -ENOTDIR);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, file, "x", 0644, NULL), -ENOTDIR);
	ck_assert_int_eq(driver_make(driver, OP_CREATE, 999999, "x", 0644, NULL), -ESTALE);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "dir"), -EISDIR);
	ck_assert_int_eq(driver_rmdir(driver, DRIVER_ROOT, "file"), -ENOTDIR);
	ck_assert_int_eq(driver_link(driver, dir, DRIVER_ROOT, "x"), -EPERM);
	ck_assert_int_eq(driver_link(driver, file, DRIVER_ROOT, "dir"), -EEXIST);
	ck_assert_int_eq(driver_truncate(driver, dir, 0), -EISDIR);
	ck_assert_int_eq(driver_lookup(driver, dir, "..", &ino), 0);
	ck_assert_uint_eq(ino, DRIVER_ROOT);
	ck_assert_int_eq(driver_lookup(driver, dir, ".", &ino), 0);
	ck_assert_uint_eq(ino, dir);
	driver_free(driver);
}
END_TEST

/* Who has its number, from a handle, finds what has a name; any type, and also where he may not search. */
START_TEST(a_number_leads_to_what_has_a_name)
{
	struct driver *driver = driver_new();
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file"), dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), ino;

	driver->cred.uid = driver->cred.gid = 4711;
	ck_assert_int_eq(driver_lookup(driver, file, ".", &ino), 0);
	ck_assert_uint_eq(ino, file);
	driver->cred.uid = driver->cred.gid = 0;
	ck_assert_int_eq(driver_link(driver, file, dir, "other"), 0);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "file"), 0);
	ck_assert_int_eq(driver_lookup(driver, file, ".", &ino), 0);

	/* Who has it open has it open; nobody finds it any more. */
	opens_add(driver->opens, driver->session, file, OPEN_READ);
	ck_assert_int_eq(driver_unlink(driver, dir, "other"), 0);
	ck_assert(orphan_is_held_by(driver->state.view, file, driver->session));
	ck_assert_int_eq(driver_lookup(driver, file, ".", &ino), -ESTALE);
	driver_release(driver, driver->session, file);
	ck_assert_int_eq(driver_lookup(driver, file, ".", &ino), -ESTALE);
	ck_assert_int_eq(driver_rmdir(driver, DRIVER_ROOT, "dir"), 0);
	ck_assert_int_eq(driver_lookup(driver, dir, ".", &ino), -ESTALE);
	ck_assert_int_eq(driver_lookup(driver, dir, "..", &ino), -ESTALE);
	driver_free(driver);
}
END_TEST

/*
 * a (dir) has f (file), e (empty dir), n (dir) with x (file); b (dir) is empty, g (file), h (another name of f).
 */
START_TEST(rename_cases)
{
	static const struct {
		const char *from_dir, *from, *to_dir, *to;
		unsigned int flags;
		int expected;
	} cases[] = {
		{ "a", "f", "/", "new", 0, 0 },
		{ "a", "none", "/", "new", 0, -ENOENT },
		{ "a", "f", "/", "g", 0, 0 },
		{ "a", "f", "/", "g", RENAME_NOREPLACE, -EEXIST },
		{ "a", "f", "/", "new", RENAME_NOREPLACE, 0 },
		{ "a", "f", "/", "new", RENAME_EXCHANGE, -ENOENT },
		{ "a", "f", "/", "b", 0, -EISDIR },
		{ "a", "e", "/", "g", 0, -ENOTDIR },
		{ "a", "e", "/", "b", 0, 0 },
		{ "a", "n", "/", "b", 0, 0 },
		{ "/", "b", "a", "n", 0, -ENOTEMPTY },
		{ "/", "a", "a", "x", 0, -EINVAL },
		{ "/", "a", "n", "x", 0, -EINVAL },
		{ "/", "a", "/", "a", 0, 0 },
		{ "a", "n", "/", "a", 0, -ENOTEMPTY },
		{ "a", "f", "/", "a", 0, -ENOTEMPTY },
		{ "a", "n", "/", "a", RENAME_EXCHANGE, -EINVAL },
		{ "/", "a", "a", "n", RENAME_EXCHANGE, -EINVAL },
		{ "a", "f", "/", "h", 0, 0 },
		{ "a", "f", "a", "f", 0, 0 },
		{ "a", "f", "/", "h", RENAME_NOREPLACE, -EEXIST },
		{ "a", "f", "/", "g", RENAME_EXCHANGE, 0 },
		{ "a", "f", "/", "b", RENAME_EXCHANGE, 0 },
		{ "a", "n", "/", "g", RENAME_EXCHANGE, 0 },
		{ "a", "n", "/", "b", RENAME_EXCHANGE, 0 },
		{ "n", "x", "a", "x", 0, 0 },
		{ "a", "f", "/", "new", RENAME_WHITEOUT, 0 },
		{ "a", "f", "/", "g", RENAME_WHITEOUT, 0 },
		{ "a", "f", "/", "g", RENAME_WHITEOUT | RENAME_NOREPLACE, -EEXIST },
		{ "a", "f", "/", "h", RENAME_WHITEOUT, 0 },
		{ "a", "none", "/", "new", RENAME_WHITEOUT, -ENOENT },
		{ "a", "n", "/", "b", RENAME_WHITEOUT, 0 },
		{ "/", "a", "n", "x", RENAME_WHITEOUT, -EINVAL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct driver *driver = driver_new();
		uint64_t a = driver_mkdir(driver, DRIVER_ROOT, "a"), n = driver_mkdir(driver, a, "n"),
			 f = driver_create(driver, a, "f"), from, to;

		driver_mkdir(driver, a, "e");
		driver_mkdir(driver, DRIVER_ROOT, "b");
		driver_create(driver, n, "x");
		driver_create(driver, DRIVER_ROOT, "g");
		ck_assert_int_eq(driver_link(driver, f, DRIVER_ROOT, "h"), 0);
		from = cases[i].from_dir[0] == 'a' ? a : cases[i].from_dir[0] == 'n' ? n : DRIVER_ROOT;
		to = cases[i].to_dir[0] == 'a' ? a : cases[i].to_dir[0] == 'n' ? n : DRIVER_ROOT;
		ck_assert_msg(driver_rename(driver, from, cases[i].from, to, cases[i].to, cases[i].flags) ==
				      cases[i].expected,
			      "case %zu", i);
		driver_check(driver);
		driver_free(driver);
	}
}
END_TEST

START_TEST(rename_onto_itself_keeps_both_names)
{
	struct driver *driver = driver_new();
	uint64_t file = driver_create(driver, DRIVER_ROOT, "one");

	ck_assert_int_eq(driver_link(driver, file, DRIVER_ROOT, "two"), 0);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "one", DRIVER_ROOT, "two", 0), 0);
	ck_assert_int_eq(driver_lookup(driver, DRIVER_ROOT, "one", NULL), 0);
	ck_assert_int_eq(driver_lookup(driver, DRIVER_ROOT, "two", NULL), 0);
	ck_assert_uint_eq(driver_inode(driver, file).nlink, 2);
	driver_free(driver);
}
END_TEST

/* A whiteout is a device 0:0 of who has moved what was there; the directory has as many entries as before. */
START_TEST(a_whiteout_stays)
{
	struct driver *driver = driver_new();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), file = driver_create(driver, dir, "file"), found;
	struct inode inode = driver_inode(driver, dir);

	driver->cred.uid = driver->cred.gid = 1000;
	ck_assert_int_eq(driver_rename(driver, dir, "file", dir, "moved", RENAME_WHITEOUT), -EACCES);
	inode.mode = S_IFDIR | S_ISGID | 0777;
	inode.gid = 77;
	inode_store(driver->state.view, &inode);
	ck_assert_int_eq(driver_rename(driver, dir, "file", dir, "moved", RENAME_WHITEOUT), 0);
	ck_assert_int_eq(driver_lookup(driver, dir, "moved", &found), 0);
	ck_assert_uint_eq(found, file);
	ck_assert_int_eq(driver_lookup(driver, dir, "file", &found), 0);
	inode = driver_inode(driver, found);
	ck_assert_uint_eq(inode.mode, S_IFCHR);
	ck_assert_uint_eq(inode.rdev, 0);
	ck_assert_uint_eq(inode.nlink, 1);
	ck_assert_uint_eq(inode.uid, 1000);
	ck_assert_uint_eq(inode.gid, 77);
	ck_assert_uint_eq(driver_inode(driver, dir).entries, 2);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* As if it had so many already. */
static void set_links(struct driver *driver, uint64_t ino, uint32_t nlink)
{
	struct inode inode = driver_inode(driver, ino);

	inode.nlink = nlink;
	inode_store(driver->state.view, &inode);
}

START_TEST(links_are_bounded)
{
	struct driver *driver = driver_new();
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file"), full = driver_mkdir(driver, DRIVER_ROOT, "full");

	driver_mkdir(driver, DRIVER_ROOT, "dir");
	driver_mkdir(driver, full, "sub");
	set_links(driver, file, INODE_LINKS_MAX - 1);
	ck_assert_int_eq(driver_link(driver, file, DRIVER_ROOT, "last"), 0);
	ck_assert_int_eq(driver_link(driver, file, DRIVER_ROOT, "more"), -EMLINK);
	set_links(driver, full, INODE_LINKS_MAX);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, full, "more", 0755, NULL), -EMLINK);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "dir", full, "more", 0), -EMLINK);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "dir", full, "sub", 0), 0);
	driver_create(driver, full, "file");
	ck_assert_int_eq(driver_rmdir(driver, full, "sub"), 0);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, full, "more", 0755, NULL), 0);
	driver_free(driver);
}
END_TEST

START_TEST(times_and_versions)
{
	struct driver *driver = driver_new();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), other = driver_mkdir(driver, DRIVER_ROOT, "other"),
		 file;
	struct inode before = driver_inode(driver, dir), after, inode;
	const Strake__RenameReply *renamed;

	file = driver_create(driver, dir, "file");
	after = driver_inode(driver, dir);
	ck_assert_uint_eq(after.version, driver->index);
	ck_assert_uint_eq(driver_entry(driver)->parent_version_before, before.version);
	ck_assert_uint_eq(driver_entry(driver)->parent_attr->version, driver->index);
	ck_assert_int_gt(after.mtime_ns, before.mtime_ns);
	ck_assert_int_eq(after.mtime_ns, after.ctime_ns);
	ck_assert_int_eq(after.atime_ns, before.atime_ns);
	inode = driver_inode(driver, file);
	ck_assert_int_eq(inode.ctime_ns, after.ctime_ns);
	ck_assert_int_eq(inode.btime_ns, after.ctime_ns);

	/* Though the clock is turned back. */
	driver->clock_ns -= 3600 * UINT64_C(1000000000);
	ck_assert_int_eq(driver_rename(driver, dir, "file", other, "file", 0), 0);
	renamed = driver_rename_reply(driver);
	ck_assert_int_gt(renamed->attr->ctime_ns, inode.ctime_ns);
	ck_assert_int_eq(renamed->attr->mtime_ns, inode.mtime_ns);
	ck_assert_int_eq(renamed->parent_attr->mtime_ns, renamed->attr->ctime_ns);
	ck_assert_int_eq(renamed->new_parent_attr->mtime_ns, renamed->attr->ctime_ns);
	ck_assert_ptr_null(renamed->replaced);
	ck_assert_int_eq(driver_rename(driver, other, "file", other, "moved", 0), 0);
	ck_assert_int_eq(driver_rename(driver, other, "moved", other, "file", 0), 0);
	renamed = driver_rename_reply(driver);
	ck_assert_int_eq(renamed->parent_attr->mtime_ns, renamed->attr->ctime_ns);
	ck_assert_ptr_null(renamed->new_parent_attr);

	before = driver_inode(driver, file);
	ck_assert_int_eq(driver_link(driver, file, dir, "again"), 0);
	after = driver_inode(driver, file);
	ck_assert_int_gt(after.ctime_ns, before.ctime_ns);
	ck_assert_uint_eq(after.nlink, 2);
	ck_assert_int_eq(driver_unlink(driver, dir, "again"), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->nlink, 1);
	ck_assert_int_eq(driver_unlink(driver, other, "file"), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->nlink, 0);
	driver_free(driver);
}
END_TEST

START_TEST(create_opens_what_is_there)
{
	struct driver *driver = driver_new();
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file");

	driver_mkdir(driver, DRIVER_ROOT, "dir");
	request.cred = &driver->cred;
	request.parent = DRIVER_ROOT;
	request.name = driver_name("file");
	request.mode = 0600;
	request.has_open_modes = 1;
	request.open_modes = OPEN_WRITE;
	ck_assert_int_eq(driver_change(driver, OP_CREATE, &request.base), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->ino, file);
	ck_assert(!driver_entry(driver)->created);
	ck_assert_uint_eq(opens_modes(driver->opens, driver->session, file), OPEN_WRITE);
	request.has_exclusive = request.exclusive = 1;
	ck_assert_int_eq(driver_change(driver, OP_CREATE, &request.base), -EEXIST);
	request.exclusive = 0;
	request.name = driver_name("dir");
	ck_assert_int_eq(driver_change(driver, OP_CREATE, &request.base), -EISDIR);
	driver->cred.uid = 1000;
	request.name = driver_name("file");
	ck_assert_int_eq(driver_change(driver, OP_CREATE, &request.base), -EACCES);
	request.open_modes = OPEN_READ;
	ck_assert_int_eq(driver_change(driver, OP_CREATE, &request.base), 0);
	driver_free(driver);
}
END_TEST

START_TEST(no_space_leaves_room_to_remove)
{
	struct driver *driver = driver_new();
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file");

	driver->admission.disk_free = ADMIT_RESERVE - 1;
	ck_assert_int_eq(driver_make(driver, OP_CREATE, DRIVER_ROOT, "new", 0644, NULL), -ENOSPC);
	ck_assert_int_eq(driver_make(driver, OP_MKDIR, DRIVER_ROOT, "new", 0755, NULL), -ENOSPC);
	ck_assert_int_eq(driver_link(driver, file, DRIVER_ROOT, "new"), -ENOSPC);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.x", "v", 0), -ENOSPC);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "file", DRIVER_ROOT, "moved", RENAME_WHITEOUT), -ENOSPC);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "file", DRIVER_ROOT, "moved", 0), 0);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "moved"), 0);
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_names", forms, targets_come_back, not_what_it_seems, a_number_leads_to_what_has_a_name, rename_cases,
	  rename_onto_itself_keeps_both_names, a_whiteout_stays, links_are_bounded, times_and_versions,
	  create_opens_what_is_there, no_space_leaves_room_to_remove)
