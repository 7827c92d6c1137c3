#include "common/fd_io.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int fd_write_all(int fd, const void *data, size_t size)
{
	const char *at = data;

	while (size > 0) {
		ssize_t written = write(fd, at, size);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		at += written;
		size -= (size_t)written;
	}
	return 0;
}

int fd_pwrite_all(int fd, const void *data, size_t size, uint64_t offset)
{
	const char *at = data;

	while (size > 0) {
		ssize_t written = pwrite(fd, at, size, (off_t)offset);

		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0)
			return -errno;
		at += written;
		size -= (size_t)written;
		offset += (uint64_t)written;
	}
	return 0;
}

int fd_pread_all(int fd, void *out, size_t size, uint64_t offset)
{
	char *at = out;

	while (size > 0) {
		ssize_t more = pread(fd, at, size, (off_t)offset);

		if (more < 0 && errno == EINTR)
			continue;
		if (more <= 0)
			return more < 0 ? -errno : -ENODATA;
		at += more;
		size -= (size_t)more;
		offset += (uint64_t)more;
	}
	return 0;
}

ssize_t fd_read_all(int fd, void *out, size_t size)
{
	char *at = out;
	size_t got = 0;

	while (got < size) {
		ssize_t more = read(fd, at + got, size - got);

		if (more < 0 && errno == EINTR)
			continue;
		if (more < 0)
			return -errno;
		if (more == 0)
			break;
		got += (size_t)more;
	}
	return (ssize_t)got;
}

void fd_open_standard(void)
{
	/* The lowest that is free is the one that is looked at: those below are open by then. */
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY) < 0)
			return;
}

int fd_sync_folder(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (fsync(fd) < 0)
		err = -errno;
	close(fd);
	return err;
}

static int temporary_write(const char *path, const void *data, size_t size, mode_t mode)
{
	int err, fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);

	if (fd < 0)
		return -errno;
	err = fd_write_all(fd, data, size);
	if (err == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0)) /* whatever the umask says */
		err = -errno;
	if (close(fd) < 0 && err == 0)
		err = -errno;
	return err;
}

static int sync_folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char folder[PATH_MAX];

	if (!slash)
		return fd_sync_folder(".");
	snprintf(folder, sizeof(folder), "%.*s", slash == path ? 1 : (int)(slash - path), path);
	return fd_sync_folder(folder);
}

static int temporary_path(const char *path, char out[PATH_MAX])
{
	return snprintf(out, PATH_MAX, "%s.new.%d", path, (int)getpid()) >= PATH_MAX ? -ENAMETOOLONG : 0;
}

int fd_make_file(const char *path, const void *data, size_t size, mode_t mode)
{
	char temporary[PATH_MAX];
	int err = temporary_path(path, temporary);

	if (err < 0)
		return err;
	err = temporary_write(temporary, data, size, mode);
	if (err == 0 && link(temporary, path) < 0) /* never over another one */
		err = -errno;
	unlink(temporary);
	return err == 0 ? sync_folder_of(path) : err;
}

int fd_replace_file(const char *path, const void *data, size_t size, mode_t mode)
{
	char temporary[PATH_MAX];
	int err = temporary_path(path, temporary);

	if (err < 0)
		return err;
	err = temporary_write(temporary, data, size, mode);
	if (err == 0 && rename(temporary, path) < 0)
		err = -errno;
	if (err < 0)
		unlink(temporary);
	return err == 0 ? sync_folder_of(path) : err;
}

/* path is changed for a while only. */
static int make_folder(char *path)
{
	if (mkdir(path, 0777) < 0)
		return errno == EEXIST ? 0 : -errno;
	return sync_folder_of(path);
}

int fd_make_folders(const char *path)
{
	char part[PATH_MAX];
	int err = 0;

	if (snprintf(part, sizeof(part), "%s", path) >= (int)sizeof(part))
		return -ENAMETOOLONG;
	for (char *slash = strchr(part + 1, '/'); slash && err == 0; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		err = make_folder(part);
		*slash = '/';
	}
	return err == 0 ? make_folder(part) : err;
}
