/* ATIMES: times of access that readers tell later, of many inodes at once. */
#include "mdt_driver.h"
#include "unit.h"

#define COUNT 3

static int tell(struct driver *driver, uint64_t *inos, int64_t *seen, int64_t *atimes, size_t count)
{
	Strake__AtimesRequest request = STRAKE__ATIMES_REQUEST__INIT;

	request.ino = inos;
	request.seen_ns = seen;
	request.atime_ns = atimes;
	request.n_ino = request.n_seen_ns = request.n_atime_ns = count;
	return driver_change(driver, OP_ATIMES, &request.base);
}

START_TEST(a_time_is_told_and_nothing_else)
{
	struct driver *driver = driver_new(), *restarted;
	uint64_t inos[COUNT] = { driver_create(driver, DRIVER_ROOT, "file"), 4711,
				 driver_mkdir(driver, DRIVER_ROOT, "d") };
	struct inode before[COUNT], after;
	int64_t seen[COUNT], atimes[COUNT];

	for (int i = 0; i < COUNT; i++) {
		if (i != 1)
			before[i] = driver_inode(driver, inos[i]);
		seen[i] = i == 1 ? 5 : before[i].atime_ns;
		atimes[i] = seen[i] + 1000 + i;
	}
	ck_assert_int_eq(tell(driver, inos, seen, atimes, COUNT), 0);
	for (int i = 0; i < COUNT; i += 2) {
		after = driver_inode(driver, inos[i]);
		ck_assert_int_eq(after.atime_ns, atimes[i]);
		ck_assert_int_eq(after.ctime_ns, before[i].ctime_ns);
		ck_assert_int_eq(after.mtime_ns, before[i].mtime_ns);
		ck_assert_uint_eq(after.version, before[i].version);
		ck_assert_uint_eq(after.data_version, before[i].data_version);
	}
	driver_check(driver);
	restarted = driver_replay(driver, driver->index, 0);
	driver_compare(driver, restarted);
	driver_free(restarted);
	driver_free(driver);
}
END_TEST

START_TEST(what_was_set_meanwhile_stays)
{
	struct driver *driver = driver_new();
	uint64_t file = driver_create(driver, DRIVER_ROOT, "file");
	int64_t made = driver_inode(driver, file).atime_ns, atime = made + 1000, later = made + 2000,
		older = made - 1000;
	Strake__SetattrRequest request = STRAKE__SETATTR_REQUEST__INIT;

	/* Two readers who have seen the same: the first one who tells. Told twice is told once. */
	ck_assert_int_eq(tell(driver, &file, &made, &atime, 1), 0);
	ck_assert_int_eq(tell(driver, &file, &made, &later, 1), 0);
	ck_assert_int_eq(driver_inode(driver, file).atime_ns, atime);
	/* It does not go back. */
	ck_assert_int_eq(tell(driver, &file, &atime, &older, 1), 0);
	ck_assert_int_eq(driver_inode(driver, file).atime_ns, atime);

	/* Who sets it back is not overruled by who has read before. */
	request.cred = &driver->cred;
	request.ino = file;
	request.has_atime_ns = 1;
	request.atime_ns = 5;
	ck_assert_int_eq(driver_change(driver, OP_SETATTR, &request.base), 0);
	ck_assert_int_eq(tell(driver, &file, &atime, &later, 1), 0);
	ck_assert_int_eq(driver_inode(driver, file).atime_ns, 5);
	driver_free(driver);
}
END_TEST

START_TEST(form)
{
	struct driver *driver = driver_new();
	Strake__AtimesRequest request = STRAKE__ATIMES_REQUEST__INIT;
	uint64_t inos[ADMIT_ATIMES_MAX + 1] = { 0 };
	int64_t times[ADMIT_ATIMES_MAX + 1] = { 0 };

	ck_assert_int_eq(tell(driver, inos, times, times, ADMIT_ATIMES_MAX), 0);
	ck_assert_int_eq(tell(driver, inos, times, times, ADMIT_ATIMES_MAX + 1), -EINVAL);
	request.ino = inos;
	request.n_ino = 2;
	request.seen_ns = request.atime_ns = times;
	request.n_seen_ns = 2;
	request.n_atime_ns = 1;
	ck_assert_int_eq(driver_change(driver, OP_ATIMES, &request.base), -EINVAL);
	driver_free(driver);
}
END_TEST

UNIT_MAIN("mdt_atime", a_time_is_told_and_nothing_else, what_was_set_meanwhile_stays, form)
