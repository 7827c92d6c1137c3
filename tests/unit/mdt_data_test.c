/* What the MDT knows of data: sizes, gens, cuts, layouts, and what it has destroyed. */
#include "mdt_driver.h"
#include "unit.h"

#include <sys/xattr.h> /* XATTR_CREATE */

static int punch(struct driver *driver, uint64_t ino, uint64_t start, uint64_t end)
{
	Strake__PunchRequest request = STRAKE__PUNCH_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.start = start;
	request.end = end;
	return driver_change(driver, OP_PUNCH, &request.base);
}

static int set_layout(struct driver *driver, uint64_t ino, uint64_t stripe_size, uint32_t stripe_count)
{
	Strake__LayoutRequest request = STRAKE__LAYOUT_REQUEST__INIT;
	Strake__Layout layout = STRAKE__LAYOUT__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	layout.stripe_size = stripe_size;
	layout.stripe_count = stripe_count;
	request.set = stripe_size ? &layout : NULL;
	return driver_change(driver, OP_LAYOUT, &request.base);
}

static int layout_like(struct driver *driver, uint64_t ino, uint64_t like)
{
	Strake__LayoutRequest request = STRAKE__LAYOUT_REQUEST__INIT;

	request.cred = &driver->cred;
	request.ino = ino;
	request.has_like = true;
	request.like = like;
	return driver_change(driver, OP_LAYOUT, &request.base);
}

static int destroys(struct driver *driver)
{
	struct destroy_row row = { 0 };
	int count = 0;

	for (; destroy_from(driver->state.view, row.ino, row.gen, &row) == 0; row.gen++)
		count++;
	return count;
}

START_TEST(truncate_to_nothing_is_new_content)
{
	struct driver *driver = driver_new();
	struct destroy_row row;
	struct inode before, after;
	uint64_t file;

	driver_set_osts(driver, 3);
	file = driver_create(driver, DRIVER_ROOT, "file");
	before = driver_inode(driver, file);
	ck_assert_uint_eq(before.layout.ost_count, 3);

	/* Nothing was ever written: nothing changes but the times. */
	ck_assert_int_eq(driver_truncate(driver, file, 0), 0);
	after = driver_inode(driver, file);
	ck_assert_uint_eq(after.gen, before.gen);
	ck_assert_int_gt(after.mtime_ns, before.mtime_ns);
	ck_assert_int_eq(destroys(driver), 0);

	ck_assert_int_eq(driver_size(driver, &before, 5000, true), 0);
	ck_assert_int_eq(driver_truncate(driver, file, 0), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, 0);
	ck_assert_uint_eq(driver->outcome.destroyed, 1);
	after = driver_inode(driver, file);
	ck_assert_uint_gt(after.gen, before.gen);
	ck_assert_uint_eq(after.size, 0);
	ck_assert_uint_eq(after.blocks, 0);
	ck_assert_uint_eq(after.cut, 0);
	ck_assert_int_eq(destroy_get(driver->state.view, file, before.gen, &row), 0);
	ck_assert_uint_eq(row.index, driver->index);
	ck_assert_uint_eq(row.ost_count, 3);

	/* A late report of what has gone. */
	ck_assert_int_eq(driver_size(driver, &before, 9000, true), -ESTALE);
	ck_assert_uint_eq(driver_inode(driver, file).size, 0);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(other_truncates_are_cuts)
{
	struct driver *driver = driver_new();
	struct inode inode, old;
	struct cut_row row;
	uint64_t file;

	driver_set_osts(driver, 2);
	file = driver_create(driver, DRIVER_ROOT, "file");
	inode = driver_inode(driver, file);
	ck_assert_int_eq(driver_size(driver, &inode, 100000, true), 0);
	ck_assert_int_eq(driver_truncate(driver, file, 50000), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, driver->index);
	ck_assert_uint_eq(driver->outcome.cuts, 1);
	old = inode;
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.gen, old.gen);
	ck_assert_uint_eq(inode.cut, 1);
	ck_assert_uint_eq(inode.cut_start, 50000);
	ck_assert_uint_eq(inode.cut_end, UINT64_MAX);
	ck_assert_uint_eq(inode.size, 50000);
	ck_assert_uint_eq(driver_attr_reply(driver)->attr->cut->number, 1);
	ck_assert_int_eq(driver_size(driver, &old, 100000, true), -ESTALE);

	/* One at a time. */
	ck_assert_int_eq(driver_truncate(driver, file, 40000), -EAGAIN);
	ck_assert_int_eq(punch(driver, file, 0, 4096), -EAGAIN);
	ck_assert_int_eq(driver_truncate(driver, file, 50000), 0); /* as it is */
	ck_assert_int_eq(cut_get(driver->state.view, file, &row), 0);
	cut_acknowledge(driver->state.view, file, row.gen, row.number, 0);
	ck_assert_int_eq(driver_truncate(driver, file, 40000), -EAGAIN);
	cut_acknowledge(driver->state.view, file, row.gen, row.number + 1, 1); /* not this one */
	cut_acknowledge(driver->state.view, file, row.gen + 1, row.number, 1);
	ck_assert(cut_is_pending(driver->state.view, file));
	driver_acknowledge_all(driver);
	ck_assert(!cut_is_pending(driver->state.view, file));

	ck_assert_int_eq(punch(driver, file, 4096, 8192), 0);
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.cut, 2);
	ck_assert_uint_eq(inode.cut_start, 4096);
	ck_assert_uint_eq(inode.cut_end, 8192);
	ck_assert_uint_eq(inode.size, 50000);
	ck_assert_int_eq(punch(driver, file, 8192, 8192), -EINVAL);

	/* New content while a cut is pending: the cut is forgotten with what it was to cut. */
	ck_assert_int_eq(driver_truncate(driver, file, 0), 0);
	ck_assert(!cut_is_pending(driver->state.view, file));
	ck_assert_uint_eq(driver_inode(driver, file).cut, 0);
	ck_assert_int_eq(driver_truncate(driver, file, UINT64_MAX), -EFBIG);

	/* Longer is a cut too, and the end of the file goes with it. */
	ck_assert_int_eq(driver_truncate(driver, file, 1 << 30), 0);
	ck_assert_uint_eq(driver_inode(driver, file).cut, 1);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "file"), 0);
	ck_assert(!cut_is_pending(driver->state.view, file));
	ck_assert_int_eq(destroys(driver), 2);
	driver_acknowledge_all(driver);
	ck_assert_int_eq(destroys(driver), 0);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* OSTs may have met cuts that an MDT which goes on from an older copy does not know of. */
START_TEST(cuts_go_on_above_after_an_older_copy)
{
	Strake__ReserveRecord reserve = STRAKE__RESERVE_RECORD__INIT;
	struct driver *driver = driver_new();
	struct inode inode;
	uint64_t file;

	driver_set_osts(driver, 2);
	file = driver_create(driver, DRIVER_ROOT, "file");
	inode = driver_inode(driver, file);
	ck_assert_int_eq(driver_size(driver, &inode, 100000, true), 0);
	ck_assert_int_eq(driver_truncate(driver, file, 50000), 0);
	driver_acknowledge_all(driver);

	reserve.up_to = driver->state.meta.reserved + NUMBERS_LEAP;
	driver_own(driver, RECORD_RESERVE, 0, &reserve.base);
	ck_assert_uint_eq(driver_inode(driver, file).cut, 1);
	ck_assert_int_eq(driver_truncate(driver, file, 40000), 0);
	ck_assert_uint_eq(driver_inode(driver, file).cut, CUT_LEAP + 1);
	driver_acknowledge_all(driver);
	ck_assert_int_eq(punch(driver, file, 4096, 8192), 0);
	ck_assert_uint_eq(driver_inode(driver, file).cut, CUT_LEAP + 2);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(without_layout_no_cut)
{
	struct driver *driver = driver_new();
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file");
	struct inode inode;

	ck_assert_int_eq(driver_truncate(driver, file, 12345), 0);
	ck_assert_int_eq(punch(driver, file, 0, 100), 0);
	ck_assert_int_eq(driver_truncate(driver, file, 0), 0);
	ck_assert_int_eq(driver_truncate(driver, file, 777), 0);
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.size, 777);
	ck_assert_uint_eq(inode.cut, 0);
	ck_assert_uint_eq(inode.gen, file);
	ck_assert_int_eq(set_layout(driver, file, 0, 0), -EAGAIN);
	driver->chooser.osts[0] = (struct choose_ost){ .index = 0, .full = true };
	driver->chooser.count = 1;
	ck_assert_int_eq(set_layout(driver, file, 0, 0), -ENOSPC);
	driver_set_osts(driver, 2);
	ck_assert_int_eq(set_layout(driver, file, 0, 0), 0);
	ck_assert_uint_eq(driver_attr_reply(driver)->attr->layout->n_ost_indices, 2);
	ck_assert_uint_eq(driver_inode(driver, file).size, 777);
	driver_set_osts(driver, 4);
	ck_assert_int_eq(set_layout(driver, file, 0, 0), 0); /* it is fixed */
	ck_assert_uint_eq(driver_attr_reply(driver)->attr->layout->n_ost_indices, 2);
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "file"), 0);
	ck_assert_int_eq(destroys(driver), 1);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(layouts_are_inherited)
{
	struct driver *driver = driver_new();
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), sub, file;
	struct inode inode, old;

	driver_set_osts(driver, 4);
	ck_assert_int_eq(set_layout(driver, dir, 65536 + 1, 2), -EINVAL);
	ck_assert_int_eq(set_layout(driver, dir, 65536, 2), 0);
	sub = driver_mkdir(driver, dir, "sub");
	file = driver_create(driver, sub, "file");
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.layout.stripe_size, 65536);
	ck_assert_uint_eq(inode.layout.stripe_count, 2);
	ck_assert_uint_eq(inode.layout.ost_count, 2);
	ck_assert_uint_eq(driver_inode(driver, sub).layout.ost_count, 0);

	/* Unwritten, it may still be striped anew: as new content, so that who knows the old layout is told. */
	old = inode;
	ck_assert_int_eq(set_layout(driver, file, 1 << 20, 3), 0);
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.layout.ost_count, 3);
	ck_assert_uint_gt(inode.gen, old.gen);
	ck_assert_int_eq(destroys(driver), 1);
	ck_assert_int_eq(driver_size(driver, &inode, 1, true), 0);
	ck_assert_int_eq(set_layout(driver, file, 65536, 1), -EBUSY);
	driver->cred.uid = 1000;
	ck_assert_int_eq(set_layout(driver, dir, 65536, 1), -EPERM);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

static int report_blocks(struct driver *driver, const struct inode *inode, uint64_t end, int64_t grown, int64_t exact,
			 bool wrote)
{
	Strake__SizeRequest request = STRAKE__SIZE_REQUEST__INIT;

	request.ino = inode->ino;
	request.gen = inode->gen;
	request.cut = inode->cut;
	request.end = end;
	request.has_grown = true;
	request.grown = grown;
	request.has_exact = request.exact = exact >= 0;
	request.blocks = exact >= 0 ? (uint64_t)exact : 0;
	request.has_wrote = true;
	request.wrote = wrote;
	return driver_change(driver, OP_SIZE, &request.base);
}

START_TEST(a_new_file_may_lie_as_another)
{
	struct driver *driver = driver_new();
	struct inode inode, old, like;
	uint64_t source, file, dir;

	driver_set_osts(driver, 3);
	dir = driver_mkdir(driver, DRIVER_ROOT, "dir");
	source = driver_create(driver, DRIVER_ROOT, "source");
	ck_assert_int_eq(set_layout(driver, source, 1 << 20, 2), 0);
	like = driver_inode(driver, source);
	file = driver_create(driver, DRIVER_ROOT, "file");
	old = driver_inode(driver, file);
	ck_assert_uint_ne(old.layout.ost_indices[0], like.layout.ost_indices[0]);

	/* With another gen: by the old layout nobody writes any more. */
	ck_assert_int_eq(layout_like(driver, file, source), 0);
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.layout.stripe_size, like.layout.stripe_size);
	ck_assert_uint_eq(inode.layout.stripe_count, like.layout.stripe_count);
	ck_assert_uint_eq(inode.layout.ost_count, 2);
	ck_assert_uint_eq(like.layout.ost_count, 2);
	ck_assert_mem_eq(inode.layout.ost_indices, like.layout.ost_indices, 2 * sizeof(*like.layout.ost_indices));
	ck_assert_uint_gt(inode.gen, old.gen);
	ck_assert_int_eq(driver_size(driver, &old, 1, true), -ESTALE);

	ck_assert_int_eq(layout_like(driver, file, file), -EINVAL);
	ck_assert_int_eq(layout_like(driver, file, dir), -EINVAL);
	ck_assert_int_eq(layout_like(driver, dir, source), -EINVAL);
	ck_assert_int_eq(layout_like(driver, file, 999999), -ESTALE);
	/* Who may not write it. */
	driver->cred.uid = 1000;
	ck_assert_int_eq(layout_like(driver, file, source), -EACCES);
	driver->cred.uid = 0;
	/* Not where an OST takes no more, and not what is written. */
	driver_set_osts(driver, 1);
	ck_assert_int_eq(layout_like(driver, file, source), -EXDEV);
	driver_set_osts(driver, 3);
	ck_assert_int_eq(driver_size(driver, &inode, 1, true), 0);
	ck_assert_int_eq(layout_like(driver, file, source), -EBUSY);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(blocks_add_up)
{
	struct driver *driver = driver_new();
	struct inode inode;
	uint64_t file;

	driver_set_osts(driver, 2);
	file = driver_create(driver, DRIVER_ROOT, "file");
	inode = driver_inode(driver, file);
	/* Of all writers, up to what the file can have. */
	ck_assert_int_eq(report_blocks(driver, &inode, 1 << 20, 8, -1, true), 0);
	ck_assert_int_eq(report_blocks(driver, &inode, 1 << 20, 16, -1, true), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 24);
	ck_assert_int_eq(report_blocks(driver, &inode, 1 << 20, 1 << 20, -1, true), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 2048);
	ck_assert_int_eq(report_blocks(driver, &inode, 0, -40, -1, true), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 2008);
	ck_assert_int_eq(report_blocks(driver, &inode, 0, INT64_MIN, -1, true), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 0);

	/* All OSTs were asked. What was allocated behind the end goes with a truncate to what the size is. */
	ck_assert_int_eq(report_blocks(driver, &inode, 0, 8, 4096, true), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 4096);
	ck_assert_int_eq(report_blocks(driver, &inode, 0, 8, -1, true), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 4096);
	ck_assert_int_eq(driver_truncate(driver, file, 1 << 20), 0);
	ck_assert_uint_eq(driver->outcome.cuts, 1);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 2048);
	driver_acknowledge_all(driver);
	ck_assert_int_eq(driver_truncate(driver, file, 1 << 20), 0);
	ck_assert_uint_eq(driver->outcome.cuts, 0);
	inode = driver_inode(driver, file);
	ck_assert_int_eq(report_blocks(driver, &inode, 0, 0, 16, false), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 16);
	ck_assert_uint_eq(driver_inode(driver, file).data_version, inode.data_version);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* An OST's answer to one tells what another's WRITE beside it has taken, too; that one's report comes later. */
START_TEST(blocks_of_two_writers_add_up)
{
	struct driver *driver = driver_new();
	uint64_t one = driver->session, two = driver_open_session(driver), file;
	struct inode inode;

	driver_set_osts(driver, 1);
	file = driver_create(driver, DRIVER_ROOT, "file");
	inode = driver_inode(driver, file);
	opens_add(driver->opens, one, file, OPEN_WRITE);
	opens_add(driver->opens, two, file, OPEN_WRITE);
	driver->session = one;
	ck_assert_int_eq(report_blocks(driver, &inode, 4096, 16, -1, true), 0);
	driver->session = two;
	ck_assert_int_eq(report_blocks(driver, &inode, 8192, 0, -1, true), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 16);

	/* Alone again, nobody else's can be in it. */
	opens_remove(driver->opens, one, file, OPEN_WRITE);
	ck_assert_int_eq(report_blocks(driver, &inode, 8192, 80, -1, true), 0);
	ck_assert_uint_eq(driver_inode(driver, file).blocks, 16);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(reports_merge)
{
	struct driver *driver = driver_new();
	Strake__SizeRequest size = STRAKE__SIZE_REQUEST__INIT;
	Strake__SetattrRequest set = STRAKE__SETATTR_REQUEST__INIT;
	struct inode inode;
	uint64_t file;
	int64_t written;

	driver_set_osts(driver, 1);
	file = driver_create(driver, DRIVER_ROOT, "file");
	inode = driver_inode(driver, file);
	ck_assert_int_eq(driver_size(driver, &inode, 5000, true), 0);
	ck_assert_int_eq(driver_size(driver, &inode, 3000, true), 0);
	ck_assert_int_eq(driver_size(driver, &inode, (uint64_t)LAYOUT_FILE_SIZE_MAX + 1, true), -EFBIG);
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.size, 5000);
	ck_assert_uint_eq(inode.blocks, 10);

	/* The time is that of the write, but for one set since. */
	driver->clock_ns += 100000000;
	size.ino = file;
	size.gen = inode.gen;
	size.end = 6000;
	size.age_ns = 50000000;
	size.has_wrote = size.wrote = 1;
	ck_assert_int_eq(driver_change(driver, OP_SIZE, &size.base), 0);
	written = (int64_t)driver->clock_ns - 50000000;
	inode = driver_inode(driver, file);
	ck_assert_int_eq(inode.mtime_ns, written);
	ck_assert_int_eq(inode.ctime_ns, written);
	ck_assert_int_lt(driver_attr_reply(driver)->mtime_before_ns, written);

	set.cred = &driver->cred;
	set.ino = file;
	set.has_mtime_ns = 1;
	set.mtime_ns = 42;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &set.base), 0);
	ck_assert_int_eq(driver_change(driver, OP_SIZE, &size.base), 0);
	ck_assert_int_eq(driver_inode(driver, file).mtime_ns, 42);
	/* A client that knows that says so, since nobody knows how long its report is on its way. */
	inode = driver_inode(driver, file);
	driver->clock_ns += 100000000;
	size.end = 7000;
	size.age_ns = UINT64_MAX;
	ck_assert_int_eq(driver_change(driver, OP_SIZE, &size.base), 0);
	ck_assert_uint_eq(driver_inode(driver, file).size, 7000);
	ck_assert_uint_ne(driver_inode(driver, file).data_version, inode.data_version);
	ck_assert_int_eq(driver_inode(driver, file).mtime_ns, 42);
	ck_assert_int_eq(driver_inode(driver, file).ctime_ns, inode.ctime_ns);
	size.age_ns = 0;
	ck_assert_int_eq(driver_change(driver, OP_SIZE, &size.base), 0);
	ck_assert_int_eq(driver_inode(driver, file).mtime_ns, (int64_t)driver->clock_ns);
	driver_free(driver);
}
END_TEST

static bool getattr_is_unsure(struct driver *driver, uint64_t session, uint64_t ino)
{
	Strake__GetattrRequest request = STRAKE__GETATTR_REQUEST__INIT;

	driver->session = session;
	request.ino = ino;
	ck_assert_int_eq(driver_query(driver, OP_GETATTR, &request.base), 0);
	return driver->answer.as.attr.attr->size_unsure;
}

static int tell_what_osts_say(struct driver *driver, const struct inode *inode, uint64_t end, uint64_t asked)
{
	Strake__SizeRequest request = STRAKE__SIZE_REQUEST__INIT;

	request.ino = inode->ino;
	request.gen = inode->gen;
	request.cut = inode->cut;
	request.end = end;
	request.has_wrote = request.has_asked_data_version = 1;
	request.asked_data_version = asked;
	return driver_change(driver, OP_SIZE, &request.base);
}

START_TEST(sizes_are_unsure_while_others_write)
{
	struct driver *driver = driver_new(), *restarted;
	Strake__UnsureRecord unsure = STRAKE__UNSURE_RECORD__INIT;
	uint64_t one = driver->session, two = driver_open_session(driver), file;
	struct inode inode;

	driver_set_osts(driver, 1);
	file = driver_create(driver, DRIVER_ROOT, "file");
	inode = driver_inode(driver, file);
	ck_assert_int_eq(driver_size(driver, &inode, 100, true), 0);
	opens_add(driver->opens, one, file, OPEN_WRITE);
	ck_assert(!getattr_is_unsure(driver, one, file));
	ck_assert(getattr_is_unsure(driver, two, file));
	ck_assert(getattr_is_unsure(driver, 0, file));

	/* To the size it is thought to have: the only writer knows, others do not. */
	driver->session = one;
	ck_assert_int_eq(driver_truncate(driver, file, 100), 0);
	ck_assert(!driver_attr_reply(driver)->attr->size_unsure);
	ck_assert_uint_eq(driver_inode(driver, file).cut, 0);
	driver->session = two;
	ck_assert_int_eq(driver_truncate(driver, file, 100), 0);
	ck_assert_uint_eq(driver_inode(driver, file).cut, 1);
	driver_acknowledge_all(driver);

	/* The writer is lost: unsure until somebody has asked the OSTs. */
	unsure.n_ino = 1;
	unsure.ino = &file;
	driver_own(driver, RECORD_UNSURE, one, &unsure.base);
	driver_evict(driver, one);
	ck_assert(getattr_is_unsure(driver, two, file));
	inode = driver_inode(driver, file);
	ck_assert_int_eq(driver_size(driver, &inode, 150, true), 0);
	ck_assert(getattr_is_unsure(driver, two, file));
	/* ... after every OST has heard that it is: before, it may write on. */
	driver->admission.unfenced = true;
	ck_assert_int_eq(driver_size(driver, &inode, 170, false), -EBUSY);
	ck_assert(getattr_is_unsure(driver, two, file));
	ck_assert(driver->answer.as.attr.attr->unfenced);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.a", "b", 0), 0);
	ck_assert(driver_attr_reply(driver)->attr->unfenced);
	driver->admission.unfenced = false;
	/* ... and not by who has asked the OSTs before that, or before another was lost. */
	ck_assert_int_eq(tell_what_osts_say(driver, &inode, 170, 0), -EBUSY);
	ck_assert_int_eq(tell_what_osts_say(driver, &inode, 170, inode.data_version), -EBUSY);
	ck_assert(getattr_is_unsure(driver, two, file));
	ck_assert(!driver->answer.as.attr.attr->unfenced);
	inode = driver_inode(driver, file);
	ck_assert_int_eq(tell_what_osts_say(driver, &inode, 180, inode.data_version), 0);
	ck_assert(!getattr_is_unsure(driver, two, file));
	ck_assert_uint_eq(driver_inode(driver, file).size, 180);

	/* After a restart any session may be writing anything, until it has told. */
	driver->session = two;
	driver_open_session(driver);
	restarted = driver_replay(driver, driver->index, 0);
	ck_assert(getattr_is_unsure(restarted, two, file));
	leases_reclaim(restarted->leases, leases_find(restarted->leases, driver->session));
	ck_assert(!getattr_is_unsure(restarted, two, file));
	ck_assert(getattr_is_unsure(restarted, driver->session, file));
	driver_free(restarted);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* Until when must the answer to a query wait? */
static uint64_t asked_waits(struct driver *driver, uint64_t ino)
{
	Strake__GetattrRequest request = STRAKE__GETATTR_REQUEST__INIT;

	request.ino = ino;
	ck_assert_int_eq(driver_query(driver, OP_GETATTR, &request.base), 0);
	return driver->answer.cut_index;
}

START_TEST(whoever_tells_of_a_cut_waits)
{
	struct driver *driver = driver_new();
	Strake__CreateRequest create = STRAKE__CREATE_REQUEST__INIT;
	Strake__ReaddirRequest readdir = STRAKE__READDIR_REQUEST__INIT;
	struct slot_row row;
	struct inode inode;
	uint64_t dir = driver_mkdir(driver, DRIVER_ROOT, "dir"), file, other, cut;
	bool resent;

	driver_set_osts(driver, 2);
	file = driver_create(driver, dir, "file");
	other = driver_create(driver, DRIVER_ROOT, "other");
	ck_assert_int_eq(driver_truncate(driver, file, 5000), 0);
	cut = driver->index;
	ck_assert_uint_eq(asked_waits(driver, file), cut);
	ck_assert_uint_eq(asked_waits(driver, other), 0);
	ck_assert_int_eq(driver_lookup(driver, dir, "file", NULL), 0);
	ck_assert_uint_eq(driver->answer.cut_index, cut);
	ck_assert_int_eq(driver_lookup(driver, DRIVER_ROOT, "other", NULL), 0);
	ck_assert_uint_eq(driver->answer.cut_index, 0);

	readdir.cred = &driver->cred;
	readdir.ino = dir;
	readdir.max_bytes = 4096;
	ck_assert_int_eq(driver_query(driver, OP_READDIR, &readdir.base), 0);
	ck_assert_uint_eq(driver->answer.cut_index, 0);
	readdir.has_attrs = readdir.attrs = 1;
	ck_assert_int_eq(driver_query(driver, OP_READDIR, &readdir.base), 0);
	ck_assert_uint_eq(driver->answer.cut_index, cut);

	/* Changes that make none, and what is sent again: until the cut, and no longer. */
	ck_assert_int_eq(driver_setxattr(driver, file, "user.a", "b", 0), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, cut);
	ck_assert_int_eq(driver_setxattr(driver, file, "user.a", "b", XATTR_CREATE), -EEXIST);
	ck_assert_uint_eq(driver->outcome.wait_index, 0);
	ck_assert_int_eq(driver_link(driver, file, DRIVER_ROOT, "link"), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, cut);
	ck_assert_int_eq(slot_judge(driver->state.view, driver->session, 0, driver->seq - 1, OP_LINK, &resent, &row),
			 0);
	ck_assert(resent);
	ck_assert_uint_eq(row.wait_index, cut);
	ck_assert_uint_gt(row.index, cut);
	inode = driver_inode(driver, file);
	ck_assert_int_eq(driver_size(driver, &inode, 6000, true), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, cut);
	ck_assert_int_eq(driver_setxattr(driver, other, "user.a", "b", 0), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, 0);
	create.cred = &driver->cred;
	create.parent = dir;
	create.name = driver_name("file");
	ck_assert_int_eq(driver_change(driver, OP_CREATE, &create.base), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, cut);

	/* Also when no OST need hear of it any more, because the file goes. */
	ck_assert_int_eq(driver_unlink(driver, DRIVER_ROOT, "link"), 0);
	ck_assert_int_eq(driver_rename(driver, DRIVER_ROOT, "other", dir, "file", 0), 0);
	ck_assert(!cut_is_pending(driver->state.view, file));
	ck_assert_uint_eq(driver->outcome.wait_index, cut);

	/* A new gen begins without cuts. */
	ck_assert_int_eq(punch(driver, other, 0, 4096), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, driver->index);
	inode = driver_inode(driver, other);
	ck_assert_int_eq(driver_size(driver, &inode, 6000, true), 0);
	ck_assert_int_eq(driver_truncate(driver, other, 0), 0);
	ck_assert_uint_eq(driver->outcome.wait_index, 0);
	ck_assert_uint_eq(asked_waits(driver, other), 0);
	driver_check(driver);
	driver_free(driver);
}
END_TEST

/* The last change's reply: did it change the content, and is what it was told right? */
static bool content_changed(struct driver *driver, uint64_t ino, struct inode *before)
{
	const Strake__AttrReply *reply = driver_attr_reply(driver);
	struct inode now = driver_inode(driver, ino);
	bool changed = now.data_version != before->data_version;

	ck_assert_uint_eq(reply->attr->data_version, now.data_version);
	ck_assert(reply->has_data_version_before);
	ck_assert_uint_eq(reply->data_version_before, before->data_version);
	ck_assert_uint_eq(reply->version_before, before->version);
	ck_assert_int_eq(reply->mtime_before_ns, before->mtime_ns);
	if (changed)
		ck_assert_uint_eq(now.data_version, driver->index);
	*before = now;
	return changed;
}

START_TEST(data_version_follows_content)
{
	struct driver *driver = driver_new();
	Strake__SetattrRequest set = STRAKE__SETATTR_REQUEST__INIT;
	Strake__SizeRequest late = STRAKE__SIZE_REQUEST__INIT;
	struct inode inode;
	uint64_t file;

	driver_set_osts(driver, 2);
	file = driver_create(driver, DRIVER_ROOT, "file");
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.data_version, driver->index);
	ck_assert_uint_eq(driver_entry(driver)->attr->data_version, driver->index);

	ck_assert_int_eq(driver_size(driver, &inode, 5000, true), 0);
	ck_assert(content_changed(driver, file, &inode));
	ck_assert_int_eq(driver_size(driver, &inode, 5000, false), 0);
	ck_assert(!content_changed(driver, file, &inode));

	/* Times, owners, modes, xattrs, names: no. */
	set.cred = &driver->cred;
	set.ino = file;
	set.has_mtime_ns = 1;
	set.mtime_ns = 42;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &set.base), 0);
	ck_assert(!content_changed(driver, file, &inode));
	set.has_mtime_ns = 0;
	set.has_mode = 1;
	set.mode = 0600;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &set.base), 0);
	ck_assert(!content_changed(driver, file, &inode));
	ck_assert_int_eq(driver_setxattr(driver, file, "user.a", "b", 0), 0);
	ck_assert(!content_changed(driver, file, &inode));
	ck_assert_int_eq(driver_truncate(driver, file, 5000), 0); /* as it is */
	ck_assert(!content_changed(driver, file, &inode));
	ck_assert_int_eq(driver_link(driver, file, DRIVER_ROOT, "link"), 0);
	ck_assert_uint_eq(driver_entry(driver)->attr->data_version, inode.data_version);
	inode = driver_inode(driver, file);

	/* A late report of an earlier write leaves mtime alone. */
	driver->clock_ns += 1000000;
	set.has_mode = 0;
	set.has_mtime_now = set.mtime_now = 1;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &set.base), 0);
	ck_assert(!content_changed(driver, file, &inode));
	late.ino = file;
	late.gen = inode.gen;
	late.end = 4096;
	late.age_ns = 900000;
	late.has_wrote = late.wrote = 1;
	set.mtime_ns = inode.mtime_ns;
	ck_assert_int_eq(driver_change(driver, OP_SIZE, &late.base), 0);
	ck_assert(content_changed(driver, file, &inode));
	ck_assert_int_eq(inode.mtime_ns, set.mtime_ns);

	ck_assert_int_eq(driver_truncate(driver, file, 100), 0);
	ck_assert(content_changed(driver, file, &inode));
	driver_acknowledge_all(driver);
	ck_assert_int_eq(punch(driver, file, 0, 50), 0);
	ck_assert(content_changed(driver, file, &inode));
	ck_assert_int_eq(driver_truncate(driver, file, 0), 0);
	ck_assert(content_changed(driver, file, &inode));
	ck_assert_int_eq(set_layout(driver, file, 1 << 20, 1), 0);
	ck_assert(content_changed(driver, file, &inode));
	driver_check(driver);
	driver_free(driver);
}
END_TEST

START_TEST(lost_writers_may_have_changed_content)
{
	struct driver *driver = driver_new();
	Strake__UnsureRecord unsure = STRAKE__UNSURE_RECORD__INIT;
	struct inode inode;
	uint64_t file;

	driver_set_osts(driver, 1);
	file = driver_create(driver, DRIVER_ROOT, "file");
	unsure.n_ino = 1;
	unsure.ino = &file;
	driver_own(driver, RECORD_UNSURE, driver->session, &unsure.base);
	inode = driver_inode(driver, file);
	ck_assert_uint_eq(inode.data_version, driver->index);
	/* The doubt ends; and bytes are found that nobody reported. */
	ck_assert_int_eq(driver_size(driver, &inode, 0, false), 0);
	ck_assert(content_changed(driver, file, &inode));
	ck_assert_int_eq(driver_size(driver, &inode, 100, false), 0);
	ck_assert(content_changed(driver, file, &inode));
	ck_assert_int_eq(driver_size(driver, &inode, 100, false), 0);
	ck_assert(!content_changed(driver, file, &inode));
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_data", truncate_to_nothing_is_new_content, other_truncates_are_cuts,
	  cuts_go_on_above_after_an_older_copy, without_layout_no_cut, layouts_are_inherited,
	  a_new_file_may_lie_as_another, blocks_add_up, blocks_of_two_writers_add_up, reports_merge,
	  sizes_are_unsure_while_others_write, whoever_tells_of_a_cut_waits, data_version_follows_content,
	  lost_writers_may_have_changed_content)
