/* Files and folders that outlive a power failure: what is synced, and before what. */
#include "common/fd_io.h"

#include "client/cli/cluster_config.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[PATH_MAX], path[PATH_MAX + 16];

/* --- in place of the C library's calls: what is done, a letter each -------------------------------------------------- */

static char done[64]; /* File synced, folDer synced, Renamed, Linked, Made */

static void note(char what)
{
	size_t length = strlen(done);

	ck_assert_uint_lt(length + 1, sizeof(done));
	done[length] = what;
}

int fsync(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	note(S_ISDIR(st.st_mode) ? 'D' : 'F');
	return 0;
}

int rename(const char *from, const char *to)
{
	note('R');
	return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int link(const char *from, const char *to)
{
	note('L');
	return (int)syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int mkdir(const char *name, mode_t mode)
{
	int n = (int)syscall(SYS_mkdirat, AT_FDCWD, name, mode);

	if (n == 0)
		note('M');
	return n;
}

/* --------------------------------------------------------------------------------------------------------------------- */

static void begin(void)
{
	temp_dir_make(dir);
	snprintf(path, sizeof(path), "%s/file", dir);
	memset(done, 0, sizeof(done));
}

static void done_is(const char *what)
{
	ck_assert_str_eq(done, what);
	memset(done, 0, sizeof(done));
}

static void file_is(const char *text)
{
	char got[64] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fd_read_all(fd, got, sizeof(got) - 1), (ssize_t)strlen(text));
	ck_assert_str_eq(got, text);
	close(fd);
}

START_TEST(a_new_file_is_synced_before_it_has_its_name)
{
	begin();
	ck_assert_int_eq(fd_make_file(path, "one", 3, 0600), 0);
	done_is("FLD");
	ck_assert_int_eq(fd_make_file(path, "two", 3, 0600), -EEXIST);
	file_is("one");
	temp_dir_remove(dir);
}
END_TEST

START_TEST(one_that_replaces_another_is_synced_before)
{
	struct stat st;

	begin();
	ck_assert_int_eq(fd_replace_file(path, "one", 3, 0644), 0);
	done_is("FRD");
	ck_assert_int_eq(fd_replace_file(path, "two words", 9, 0640), 0);
	done_is("FRD");
	file_is("two words");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0640);

	/* What fails leaves nothing behind. */
	snprintf(path, sizeof(path), "%s/folder", dir);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	ck_assert_int_eq(fd_replace_file(path, "three", 5, 0644), -EISDIR);
	ck_assert_int_eq(rmdir(path), 0);
	snprintf(path, sizeof(path), "%s/file", dir);
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

START_TEST(folders_are_known_to_those_above_them)
{
	char deep[PATH_MAX + 32];

	begin();
	snprintf(deep, sizeof(deep), "%s/a/b//c/", dir);
	ck_assert_int_eq(fd_make_folders(deep), 0);
	done_is("MDMDMD");
	ck_assert_int_eq(access(deep, F_OK), 0);
	ck_assert_int_eq(fd_make_folders(deep), 0);
	done_is("");
	ck_assert_int_eq(fd_make_file(path, "", 0, 0600), 0);
	snprintf(deep, sizeof(deep), "%s/file/below", dir);
	ck_assert_int_eq(fd_make_folders(deep), -ENOTDIR);
	temp_dir_remove(dir);
}
END_TEST

/* In a child of its own: which of 0 to 2 are open (its bits) after a start without them, what they are, and what comes next. */
static void start_without(unsigned int closed)
{
	int status;
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid > 0) {
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(status == 0, "%#x: %#x", closed, (unsigned int)status);
		return;
	}
	for (int fd = 0; fd <= 2; fd++)
		if (closed & 1u << fd)
			close(fd);
	fd_open_standard();
	for (int fd = 0; fd <= 2; fd++) {
		struct stat st, null;

		if (fstat(fd, &st) < 0 || stat("/dev/null", &null) < 0)
			_exit(1);
		if ((closed & 1u << fd) && st.st_rdev != null.st_rdev)
			_exit(2);
	}
	if ((closed & 2u) && (write(1, "", 1) != -1 || errno != EBADF))
		_exit(3);
	_exit(open("/dev/null", O_RDONLY | O_CLOEXEC) > 2 ? 0 : 4);
}

START_TEST(nothing_is_opened_as_a_standard_descriptor)
{
	for (unsigned int closed = 0; closed < 8; closed++)
		start_without(closed);
}
END_TEST

START_TEST(the_configuration_of_a_cluster_is_synced)
{
	struct cluster_config config = { .name = "one", .listen = "127.0.0.1", .ost_count = 1, .mgs_port = 1 }, got;
	char error[PATH_MAX + 256];

	begin();
	ck_assert_int_eq(cluster_config_write(dir, &config, error, sizeof(error)), 0);
	done_is("FRD");
	config.mds_port = config.ost_ports[0] = 2;
	ck_assert_int_eq(cluster_config_write(dir, &config, error, sizeof(error)), 0);
	done_is("FRD");
	ck_assert_int_eq(cluster_config_read(dir, &got, error, sizeof(error)), 0);
	ck_assert_str_eq(got.name, "one");
	ck_assert_uint_eq(got.mds_port, 2);
	temp_dir_remove(dir);
}
END_TEST

UNIT_MAIN("fd_io", a_new_file_is_synced_before_it_has_its_name, one_that_replaces_another_is_synced_before,
	  folders_are_known_to_those_above_them, the_configuration_of_a_cluster_is_synced,
	  nothing_is_opened_as_a_standard_descriptor)
