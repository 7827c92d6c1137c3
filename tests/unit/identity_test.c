#include "common/bulk_sums.h"
#include "common/identity.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[PATH_MAX], path[PATH_MAX + 16], error[512];

static void make_dir(void)
{
	temp_dir_make(dir);
	snprintf(path, sizeof(path), "%s/identity", dir);
}

static struct identity make_identity(enum role role)
{
	struct identity identity = { .role = role, .index = 3, .format_version = 1, .fs_name = "demo fs" };

	uuid_make(&identity.fs);
	uuid_make(&identity.target);
	return identity;
}

static size_t file_read(char *out, size_t room)
{
	int fd = open(path, O_RDONLY);
	ssize_t size = read(fd, out, room);

	ck_assert_int_gt(size, 0);
	close(fd);
	return (size_t)size;
}

static void file_write(const char *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	ck_assert_int_eq(write(fd, text, size), (ssize_t)size);
	close(fd);
}

/* Lines without their sum. */
static void file_write_sealed(const char *lines)
{
	char text[8192];
	int length = snprintf(text, sizeof(text), "%scrc32c = %08x\n", lines, crc32c(lines, strlen(lines)));

	file_write(text, (size_t)length);
}

static void check_equal(const struct identity *a, const struct identity *b)
{
	ck_assert(uuid_equal(&a->fs, &b->fs));
	ck_assert(uuid_equal(&a->target, &b->target));
	ck_assert_int_eq((int)a->role, (int)b->role);
	ck_assert_uint_eq(a->index, b->index);
	ck_assert_uint_eq(a->format_version, b->format_version);
	ck_assert_str_eq(a->fs_name, b->fs_name);
}

static int entries(void)
{
	DIR *stream = opendir(dir);
	int count = -2; /* . and .. */

	while (readdir(stream))
		count++;
	closedir(stream);
	return count;
}

START_TEST(written_and_read)
{
	static const enum role roles[] = { ROLE_MGS, ROLE_MDT, ROLE_OST };
	struct stat stat_;

	for (size_t i = 0; i < sizeof(roles) / sizeof(*roles); i++) {
		struct identity identity = make_identity(roles[i]), back;
		int lock;

		make_dir();
		umask(077);
		ck_assert_int_eq(identity_write(dir, &identity), 0);
		ck_assert_int_eq(entries(), 1);
		ck_assert_int_eq(stat(path, &stat_), 0);
		ck_assert_uint_eq(stat_.st_mode, S_IFREG | 0644);
		ck_assert_uint_eq(stat_.st_nlink, 1);
		ck_assert_int_eq(identity_read(dir, &back, error, sizeof(error)), 0);
		check_equal(&identity, &back);
		ck_assert_int_eq(identity_open(dir, roles[i], &back, &lock, error, sizeof(error)), 0);
		check_equal(&identity, &back);
		ck_assert_int_ne(fcntl(lock, F_GETFD) & FD_CLOEXEC, 0);
		close(lock);
		temp_dir_remove(dir);
	}
}
END_TEST

/* The file as it is on disks out there. */
START_TEST(text_as_of_format_1)
{
	static const char lines[] = "format_version = 1\n"
				    "fs_name = demo\n"
				    "fs = 01234567-89ab-4def-8123-456789abcdef\n"
				    "target = fedcba98-7654-4210-8edc-ba9876543210\n"
				    "role = ost\n"
				    "index = 4294967295\n";
	struct identity identity = { .format_version = 1, .role = ROLE_OST, .index = UINT32_MAX, .fs_name = "demo" };
	struct identity back;
	char text[4096], expected[4096];
	size_t size;

	ck_assert_int_eq(uuid_parse("01234567-89ab-4def-8123-456789abcdef", &identity.fs), 0);
	ck_assert_int_eq(uuid_parse("fedcba98-7654-4210-8edc-ba9876543210", &identity.target), 0);
	make_dir();
	file_write_sealed(lines);
	ck_assert_int_eq(identity_read(dir, &back, error, sizeof(error)), 0);
	check_equal(&identity, &back);
	size = file_read(expected, sizeof(expected));
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(identity_write(dir, &identity), 0);
	ck_assert_uint_eq(file_read(text, sizeof(text)), size);
	ck_assert_mem_eq(text, expected, size);
	temp_dir_remove(dir);
}
END_TEST

START_TEST(never_over_another)
{
	struct identity first = make_identity(ROLE_OST), second = make_identity(ROLE_MGS), back;

	make_dir();
	ck_assert_int_eq(identity_write(dir, &first), 0);
	ck_assert_int_eq(identity_write(dir, &second), -EEXIST);
	ck_assert_int_eq(entries(), 1);
	ck_assert_int_eq(identity_read(dir, &back, error, sizeof(error)), 0);
	check_equal(&first, &back);
	file_write("", 0); /* nor over a damaged one */
	ck_assert_int_eq(identity_write(dir, &second), -EEXIST);
	temp_dir_remove(dir);
}
END_TEST

START_TEST(unsound_identities)
{
	static const char *const names[] = { "", " a", "a ", "a\nrole = mgs", "\x7f", "a\tb" };
	struct identity identity = make_identity(ROLE_OST);

	make_dir();
	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		strcpy(identity.fs_name, names[i]);
		ck_assert_int_eq(identity_write(dir, &identity), -EINVAL);
	}
	memset(identity.fs_name, 'x', sizeof(identity.fs_name)); /* no NUL */
	ck_assert_int_eq(identity_write(dir, &identity), -EINVAL);
	identity = make_identity(ROLE_CLIENT);
	ck_assert_int_eq(identity_write(dir, &identity), -EINVAL);
	identity = make_identity(ROLE_OST);
	identity.format_version = 2;
	ck_assert_int_eq(identity_write(dir, &identity), -EINVAL);
	ck_assert_int_eq(entries(), 0);
	identity = make_identity(ROLE_OST);
	memset(identity.fs_name, 'x', IDENTITY_NAME_MAX);
	ck_assert_int_eq(identity_write(dir, &identity), 0);
	ck_assert_int_eq(identity_read(dir, &identity, error, sizeof(error)), 0);
	temp_dir_remove(dir);
	ck_assert_int_eq(identity_write(dir, &identity), -ENOENT);
}
END_TEST

/* The classic loss: a server on an empty mount point. */
START_TEST(nothing_there)
{
	struct identity identity;
	char expected[2 * PATH_MAX + 200];
	int lock = 42;

	make_dir();
	ck_assert_int_eq(identity_open(dir, ROLE_OST, &identity, &lock, error, sizeof(error)), -ENOENT);
	snprintf(expected, sizeof(expected),
		 "%s holds no StrakeFS data (no file 'identity'): is its disk mounted? To make a new one: "
		 "strake format oss -d %s",
		 dir, dir);
	ck_assert_str_eq(error, expected);
	ck_assert_int_eq(identity_open(dir, ROLE_MDT, &identity, &lock, error, sizeof(error)), -ENOENT);
	ck_assert_ptr_nonnull(strstr(error, "strake format mds -d"));
	ck_assert_int_eq(entries(), 0);
	temp_dir_remove(dir);
	ck_assert_int_eq(identity_open(dir, ROLE_MGS, &identity, &lock, error, sizeof(error)), -ENOENT);
	snprintf(expected, sizeof(expected),
		 "%s is not there: is its disk mounted? To make a new one: strake format mgs -d %s", dir, dir);
	ck_assert_str_eq(error, expected);
	/* Who cannot look is not told to make one. */
	ck_assert_int_eq(identity_open("/dev/null/x", ROLE_MGS, &identity, &lock, error, sizeof(error)), -ENOTDIR);
	ck_assert_str_eq(error, "/dev/null/x: Not a directory");
	ck_assert_int_eq(lock, 42);
}
END_TEST

START_TEST(damaged)
{
	struct identity identity = make_identity(ROLE_OST), back;
	char text[4096], changed[8192];
	size_t size;

	make_dir();
	ck_assert_int_eq(identity_write(dir, &identity), 0);
	size = file_read(text, sizeof(text));
	for (size_t bit = 0; bit < 8 * size; bit++) {
		memcpy(changed, text, size);
		changed[bit / 8] = (char)(changed[bit / 8] ^ (1 << (bit % 8)));
		file_write(changed, size);
		ck_assert_int_eq(identity_read(dir, &back, error, sizeof(error)), -EINVAL);
	}
	ck_assert_ptr_nonnull(strstr(error, "damaged"));
	for (size_t length = 0; length < size; length++) {
		file_write(text, length);
		ck_assert_int_eq(identity_read(dir, &back, error, sizeof(error)), -EINVAL);
	}
	memcpy(changed, text, size);
	memset(changed + size, 'x', sizeof(changed) - size);
	file_write(changed, size + 1);
	ck_assert_int_eq(identity_read(dir, &back, error, sizeof(error)), -EINVAL);
	file_write(changed, sizeof(changed));
	ck_assert_int_eq(identity_read(dir, &back, error, sizeof(error)), -EINVAL);
	temp_dir_remove(dir);
}
END_TEST

#define FS     "fs = 01234567-89ab-4def-8123-456789abcdef\n"
#define TARGET "target = fedcba98-7654-4210-8edc-ba9876543210\n"

/* The sum is right and the lines are not. */
START_TEST(malformed)
{
	static const struct {
		const char *lines;
		int err;
	} rows[] = {
		{ "format_version = 1\nfs_name = a\n" FS TARGET "role = ost\nindex = 0\n", 0 },
		{ "", -EINVAL },
		{ "\n", -EINVAL },
		{ "format_version = 1\n", -EINVAL },
		{ "format_version = 0\nfs_name = a\n" FS TARGET "role = ost\nindex = 0\n", -EINVAL },
		{ "format_version = x\nfs_name = a\n" FS TARGET "role = ost\nindex = 0\n", -EINVAL },
		{ "format_version = 2\nanything = else\n", -EPROTONOSUPPORT },
		{ "format_version = 4294967295\n", -EPROTONOSUPPORT },
		{ "format_version = 4294967296\n", -EINVAL },
		{ "fs_name = a\nformat_version = 1\n" FS TARGET "role = ost\nindex = 0\n", -EINVAL },
		{ "format_version = 1\nfs_name = \n" FS TARGET "role = ost\nindex = 0\n", -EINVAL },
		{ "format_version = 1\nfs_name=a\n" FS TARGET "role = ost\nindex = 0\n", -EINVAL },
		{ "format_version = 1\nfs_name = a\nfs = 1\n" TARGET "role = ost\nindex = 0\n", -EINVAL },
		{ "format_version = 1\nfs_name = a\n" FS TARGET "role = client\nindex = 0\n", -EINVAL },
		{ "format_version = 1\nfs_name = a\n" FS TARGET "role = ost\nindex = -1\n", -EINVAL },
		{ "format_version = 1\nfs_name = a\n" FS TARGET "role = ost\nindex = 4294967296\n", -EINVAL },
		{ "format_version = 1\nfs_name = a\n" FS TARGET "role = ost\nindex = 0\nmore = 1\n", -EINVAL },
		{ "format_version = 1\nfs_name = a\n" FS TARGET "role = ost\n", -EINVAL },
		{ "format_version = 1\nfs_name = "
		  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n" FS TARGET
		  "role = ost\nindex = 0\n",
		  -EINVAL },
	};
	struct identity identity;

	make_dir();
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		file_write_sealed(rows[i].lines);
		ck_assert_msg(identity_read(dir, &identity, error, sizeof(error)) == rows[i].err, "row %zu", i);
		if (rows[i].err == -EPROTONOSUPPORT)
			ck_assert_ptr_nonnull(strstr(error, "newer"));
	}
	temp_dir_remove(dir);
}
END_TEST

START_TEST(another_role)
{
	struct identity identity = make_identity(ROLE_MDT);
	int lock = 42;

	make_dir();
	ck_assert_int_eq(identity_write(dir, &identity), 0);
	ck_assert_int_eq(identity_open(dir, ROLE_OST, &identity, &lock, error, sizeof(error)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error, "mdt3"));
	ck_assert_ptr_nonnull(strstr(error, "strake-mds"));
	ck_assert_ptr_nonnull(strstr(error, "strake format oss"));
	ck_assert_int_eq(lock, 42);
	temp_dir_remove(dir);
}
END_TEST

/* A second server is refused as long as the first one runs; reading is always allowed. */
START_TEST(locked)
{
	struct identity identity = make_identity(ROLE_OST);
	int first, second, status;
	pid_t child;

	make_dir();
	ck_assert_int_eq(identity_write(dir, &identity), 0);
	ck_assert_int_eq(identity_open(dir, ROLE_OST, &identity, &first, error, sizeof(error)), 0);
	ck_assert_int_eq(identity_open(dir, ROLE_OST, &identity, &second, error, sizeof(error)), -EBUSY);
	ck_assert_ptr_nonnull(strstr(error, "in use"));
	ck_assert_int_eq(identity_read(dir, &identity, error, sizeof(error)), 0);
	child = fork();
	if (child == 0) {
		close(first);
		_exit(identity_open(dir, ROLE_OST, &identity, &second, error, sizeof(error)) == -EBUSY ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	close(first);
	ck_assert_int_eq(identity_open(dir, ROLE_OST, &identity, &second, error, sizeof(error)), 0);
	close(second);
	temp_dir_remove(dir);
}
END_TEST

UNIT_MAIN("identity", written_and_read, text_as_of_format_1, never_over_another, unsound_identities, nothing_there,
	  damaged, malformed, another_role, locked)
