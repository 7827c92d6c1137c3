/* Data and holes of a local file. Where the filesystem below knows no holes, all is one range. */
#include "client/cli/sparse.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define MIB (1024 * 1024)

static int open_temporary(void)
{
	char path[] = "/tmp/strake-sparse-XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	unlink(path);
	return fd;
}

/* All ranges hold all the bytes at `at` (count of them), in order and without overlap; answers how many there are. */
static unsigned int walk(int fd, const uint64_t *at, size_t count)
{
	uint64_t from = 0, start, end;
	unsigned int ranges = 0;
	size_t seen = 0;
	int err;

	while ((err = sparse_next(fd, from, &start, &end)) == 0) {
		ck_assert_uint_ge(start, from);
		ck_assert_uint_gt(end, start);
		while (seen < count && at[seen] < end) {
			ck_assert_uint_ge(at[seen], start);
			seen++;
		}
		from = end;
		ranges++;
	}
	ck_assert_int_eq(err, -ENXIO);
	ck_assert_uint_eq(seen, count);
	return ranges;
}

START_TEST(ranges_of_data)
{
	const uint64_t at[] = { 0, 10 * MIB, 20 * MIB + 17 };
	int fd = open_temporary();
	struct stat st;

	for (size_t i = 0; i < sizeof(at) / sizeof(*at); i++)
		ck_assert_int_eq(pwrite(fd, "x", 1, (off_t)at[i]), 1);
	ck_assert_int_eq(ftruncate(fd, 30 * MIB), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	if (walk(fd, at, 3) > 1)
		ck_assert(sparse_is_likely(&st));
	close(fd);
}
END_TEST

START_TEST(only_a_hole)
{
	int fd = open_temporary();

	ck_assert_int_eq(ftruncate(fd, 5 * MIB), 0);
	ck_assert_uint_le(walk(fd, NULL, 0), 1);
	close(fd);
}
END_TEST

START_TEST(empty)
{
	int fd = open_temporary();
	struct stat st;

	ck_assert_uint_eq(walk(fd, NULL, 0), 0);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert(!sparse_is_likely(&st));
	close(fd);
}
END_TEST

START_TEST(full)
{
	const uint64_t at[] = { 0, 4095, 8191, 12287 };
	char data[12288] = { 1 };
	int fd = open_temporary();
	struct stat st;

	ck_assert_int_eq(pwrite(fd, data, sizeof(data), 0), sizeof(data));
	ck_assert_int_eq(fsync(fd), 0);
	ck_assert_uint_eq(walk(fd, at, 4), 1);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert(!sparse_is_likely(&st));
	st.st_mode = S_IFDIR;
	st.st_blocks = 0;
	ck_assert(!sparse_is_likely(&st));
	close(fd);
}
END_TEST

START_TEST(not_seekable)
{
	uint64_t start, end;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(sparse_next(fds[0], 0, &start, &end), -ESPIPE);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

UNIT_MAIN("cli_sparse", ranges_of_data, only_a_hole, empty, full, not_seekable)
