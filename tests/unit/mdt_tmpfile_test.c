/* TMPFILE: files that have no name yet. Who holds them, who may name them, and that nothing of them stays. */
#include "mdt_driver.h"
#include "unit.h"

static int tmpfile_in_slot(struct driver *driver, uint64_t dir, bool exclusive, uint32_t seq, uint64_t *ret_ino)
{
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	int err;

	request.cred = &driver->cred;
	request.parent = dir;
	request.name = driver_name("");
	request.mode = S_IFREG | 0666;
	request.has_umask = 1;
	request.umask = 027;
	request.has_exclusive = request.exclusive = exclusive;
	request.has_open_modes = 1;
	request.open_modes = OPEN_READ | OPEN_WRITE;
	err = driver_send(driver, OP_TMPFILE, &request.base, 1, seq, NULL);
	if (err == 0)
		*ret_ino = driver_entry(driver)->attr->ino;
	return err;
}

static uint64_t make(struct driver *driver, uint64_t dir, bool exclusive)
{
	uint64_t ino = 0;

	ck_assert_int_eq(tmpfile_in_slot(driver, dir, exclusive, driver->seq++, &ino), 0);
	return ino;
}

static struct driver *driver_with_osts(void)
{
	struct driver *driver = driver_new();

	driver_set_osts(driver, 2);
	return driver;
}

START_TEST(it_is_open_and_nowhere)
{
	struct driver *driver = driver_with_osts();
	struct inode before, after, inode;
	uint64_t ino;

	before = driver_inode(driver, DRIVER_ROOT);
	ino = make(driver, DRIVER_ROOT, false);
	after = driver_inode(driver, DRIVER_ROOT);
	inode = driver_inode(driver, ino);
	ck_assert_uint_eq(driver_entry(driver)->attr->nlink, 0);
	ck_assert_uint_eq(inode.nlink, 0);
	ck_assert_uint_eq(inode.mode, S_IFREG | 0640);
	ck_assert_uint_gt(inode.layout.ost_count, 0);
	ck_assert_uint_eq(after.version, before.version); /* the directory knows nothing of it */
	ck_assert_uint_eq(after.entries, 0);
	ck_assert_uint_eq(driver->state.meta.orphans, 1);
	ck_assert_uint_eq(driver->state.meta.inodes, 2);
	ck_assert(orphan_is_held_by(driver->state.view, ino, driver->session));
	ck_assert_uint_eq(opens_modes(driver->opens, driver->session, ino), OPEN_READ | OPEN_WRITE);
	ck_assert_int_eq(driver_truncate(driver, ino, 4096), 0);
	driver_check(driver);

	/* With its last close it goes, and its content. */
	driver_release(driver, driver->session, ino);
	ck_assert_uint_eq(driver->outcome.destroyed, 1);
	ck_assert_uint_eq(driver->state.meta.orphans, 0);
	ck_assert_uint_eq(driver->state.meta.inodes, 1);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(a_link_gives_it_a_name)
{
	struct driver *driver = driver_with_osts();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), ino = make(driver, DRIVER_ROOT, false), found;

	ck_assert_int_eq(driver_link(driver, ino, dir, "named"), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->nlink, 1);
	ck_assert(driver_entry(driver)->has_name_version_before);
	ck_assert_int_eq(driver_lookup(driver, dir, "named", &found), 0);
	ck_assert_uint_eq(found, ino);
	ck_assert_uint_eq(driver->state.meta.orphans, 0);
	ck_assert(!orphan_is_held_by(driver->state.view, ino, driver->session));
	driver_check(driver);

	/* Any other file from now on: closed it stays, and what has lost its last name gets none. */
	driver_release(driver, driver->session, ino);
	ck_assert_uint_eq(driver_inode(driver, ino).nlink, 1);
	ck_assert_int_eq(driver_link(driver, ino, DRIVER_ROOT, "other"), 0);
	ck_assert_int_eq(driver_unlink(driver, dir, "named"), 0);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "other"), 0);
	ck_assert(orphan_is_held_by(driver->state.view, ino, driver->session));
	ck_assert_int_eq(driver_link(driver, ino, DRIVER_ROOT, "again"), -ENOENT);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(not_everybody_may_name_it)
{
	struct driver *driver = driver_with_osts();
	uint64_t one = driver->session, two = driver_open_session(driver), exclusive, ino;

	driver->session = one;
	exclusive = make(driver, DRIVER_ROOT, true);
	ino = make(driver, DRIVER_ROOT, false);
	ck_assert_int_eq(driver_link(driver, exclusive, DRIVER_ROOT, "name"), -ENOENT);
	driver->session = two;
	ck_assert_int_eq(driver_link(driver, ino, DRIVER_ROOT, "name"), -ENOENT);
	driver_check(driver);

	/* It goes with the session that has it open. */
	driver_evict(driver, two);
	ck_assert_uint_eq(driver->state.meta.orphans, 2);
	driver_evict(driver, one);
	ck_assert_uint_eq(driver->state.meta.orphans, 0);
	ck_assert_uint_eq(driver->state.meta.inodes, 1);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(it_needs_what_a_name_needs)
{
	struct driver *driver = driver_with_osts();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), file = driver_create(driver, DRIVER_ROOT, "file"), ino;
	Strake__CreateRequest request = STRAKE__CREATE_REQUEST__INIT;
	Strake__SetattrRequest setattr = STRAKE__SETATTR_REQUEST__INIT;

	ck_assert_int_eq(tmpfile_in_slot(driver, file, false, driver->seq++, &ino), -ENOTDIR);
	ck_assert_int_eq(tmpfile_in_slot(driver, 4711, false, driver->seq++, &ino), -ESTALE);
	driver->cred.uid = driver->cred.gid = 4711;
	ck_assert_int_eq(tmpfile_in_slot(driver, dir, false, driver->seq++, &ino), -EACCES);
	driver->cred.uid = driver->cred.gid = 0;
	driver->admission.disk_free = ADMIT_RESERVE - 1;
	ck_assert_int_eq(tmpfile_in_slot(driver, dir, false, driver->seq++, &ino), -ENOSPC);
	driver->admission.disk_free = UINT64_MAX;

	/* It has no name, and is open. */
	request.cred = &driver->cred;
	request.parent = dir;
	request.mode = S_IFREG | 0600;
	request.name = driver_name("x");
	request.has_open_modes = 1;
	request.open_modes = OPEN_READ;
	ck_assert_int_eq(driver_change(driver, OP_TMPFILE, &request.base), -EINVAL);
	request.name = driver_name("");
	request.open_modes = 0;
	ck_assert_int_eq(driver_change(driver, OP_TMPFILE, &request.base), -EINVAL);
	request.open_modes = OPEN_READ;
	ck_assert_int_eq(driver_change(driver, OP_CREATE, &request.base), -EINVAL);

	/* The group of a directory that gives it on. */
	setattr.cred = &driver->cred;
	setattr.ino = dir;
	setattr.has_mode = setattr.has_gid = 1;
	setattr.mode = 02777;
	setattr.gid = 77;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &setattr.base), 0);
	ck_assert_uint_eq(driver_inode(driver, make(driver, dir, false)).gid, 77);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(once_also_when_asked_again)
{
	struct driver *driver = driver_with_osts(), *restarted;
	uint64_t ino = 0, again = 0, orphans;

	ck_assert_int_eq(tmpfile_in_slot(driver, DRIVER_ROOT, false, 500, &ino), 0);
	ck_assert_int_eq(tmpfile_in_slot(driver, DRIVER_ROOT, false, 500, &again), 0);
	ck_assert_uint_eq(ino, again);
	orphans = driver->state.meta.orphans;
	ck_assert_uint_eq(orphans, 1);

	/* The log says all of it. */
	restarted = driver_replay(driver, driver->index, 0);
	driver_compare(driver, restarted);
	ck_assert_int_eq(tmpfile_in_slot(restarted, DRIVER_ROOT, false, 500, &again), 0);
	ck_assert_uint_eq(ino, again);
	ck_assert_int_eq(driver_link(restarted, ino, DRIVER_ROOT, "named"), 0);
	ck_assert_uint_eq(restarted->state.meta.orphans, 0);
	driver_check(restarted);
	driver_free(restarted);
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_tmpfile", it_is_open_and_nowhere, a_link_gives_it_a_name, not_everybody_may_name_it,
	  it_needs_what_a_name_needs, once_also_when_asked_again)
