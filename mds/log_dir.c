#include "mds/log_dir.h"

#include "common/fd_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEXT_NAME "next.seg"

const char *log_name(uint64_t first, char out[LOG_NAME_SIZE])
{
	snprintf(out, LOG_NAME_SIZE, "%016" PRIx64 ".seg", first);
	return out;
}

static int log_name_parse(const char *name, uint64_t *ret_first)
{
	char again[LOG_NAME_SIZE];
	uint64_t first = strtoull(name, NULL, 16);

	if (first == 0 || strcmp(log_name(first, again), name) != 0)
		return -EINVAL;
	*ret_first = first;
	return 0;
}

/* --- file contents -------------------------------------------------------------------------------------------------- */

/* For filesystems that cannot preallocate. */
static int write_zeros(int fd, size_t size)
{
	static const uint8_t zeros[64 * 1024];
	size_t at = 0;
	int err = 0;

	while (err == 0 && at < size) {
		size_t step = size - at < sizeof(zeros) ? size - at : sizeof(zeros);

		err = fd_pwrite_all(fd, zeros, step, at);
		at += step;
	}
	return err;
}

static int allocate(int fd, size_t size)
{
	int n;

	do
		n = fallocate(fd, 0, 0, (off_t)size);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		return 0;
	return errno == EOPNOTSUPP ? write_zeros(fd, size) : -errno;
}

/* --- the folder ----------------------------------------------------------------------------------------------------- */

static int make_folder(const char *dir, const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : fd_sync_folder(dir);
}

static int open_folder(const char *dir, bool to_read, struct log_dir *ret_log_dir, char *error, size_t error_size)
{
	int err = 0;

	ret_log_dir->fd = -1;
	ret_log_dir->begun = 0;
	ret_log_dir->read_only = to_read;
	if ((size_t)snprintf(ret_log_dir->path, PATH_MAX, "%s/log", dir) >= PATH_MAX)
		err = -ENAMETOOLONG;
	else if (!to_read)
		err = make_folder(dir, ret_log_dir->path);
	if (err == 0) {
		ret_log_dir->fd = open(ret_log_dir->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (ret_log_dir->fd < 0 && !(to_read && errno == ENOENT))
			err = -errno;
	}
	if (err < 0)
		snprintf(error, error_size, "%s/log: cannot be opened: %s", dir, strerror(-err));
	return err;
}

int log_dir_open(const char *dir, struct log_dir *ret_log_dir, char *error, size_t error_size)
{
	return open_folder(dir, false, ret_log_dir, error, error_size);
}

int log_dir_open_to_read(const char *dir, struct log_dir *ret_log_dir, char *error, size_t error_size)
{
	return open_folder(dir, true, ret_log_dir, error, error_size);
}

void log_dir_close(struct log_dir *dir)
{
	if (dir->fd >= 0)
		close(dir->fd);
	dir->fd = -1;
}

/* If next.seg was in use when we were stopped, its header says which segment it is; whole or not, that is seen later. */
static int find_begun(struct log_dir *dir)
{
	uint8_t data[LOG_HEADER_SIZE];
	char name[LOG_NAME_SIZE];
	struct log_header header;
	int err, fd = openat(dir->fd, NEXT_NAME, O_RDONLY | O_CLOEXEC);

	dir->begun = 0;
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	err = fd_pread_all(fd, data, sizeof(data), 0);
	if (err == 0)
		err = log_header_decode(data, &header);
	close(fd);
	/* Without a whole header it was never synced in use: nothing in it has been called durable. */
	if (err == -ENODATA || err == -EBADMSG)
		return 0;
	/* One of that name has no records, and a start that was to replace it was cut short: so neither has this one. */
	if (err == 0 && faccessat(dir->fd, log_name(header.first, name), F_OK, 0) < 0)
		dir->begun = header.first;
	return err;
}

static int compare_firsts(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? -1 : x > y;
}

static int add_first(uint64_t first, uint64_t **firsts, size_t *count)
{
	uint64_t *more = reallocarray(*firsts, *count + 1, sizeof(**firsts));

	if (!more)
		return -ENOMEM;
	*firsts = more;
	more[(*count)++] = first;
	return 0;
}

static int list(struct log_dir *dir, DIR *stream, uint64_t **ret_firsts, size_t *ret_count, char *error,
		size_t error_size)
{
	struct dirent *entry;
	uint64_t *firsts = NULL, first;
	size_t count = 0;
	int err = dir->begun ? add_first(dir->begun, &firsts, &count) : 0;

	while (err == 0 && (errno = 0, entry = readdir(stream)) != NULL) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
		    strcmp(entry->d_name, NEXT_NAME) == 0)
			continue;
		if (log_name_parse(entry->d_name, &first) < 0) {
			snprintf(error, error_size, "%s/%s: is no segment of the log; move it away", dir->path,
				 entry->d_name);
			free(firsts);
			return -EINVAL;
		}
		err = add_first(first, &firsts, &count);
	}
	if (err == 0)
		err = -errno;
	if (err < 0) {
		snprintf(error, error_size, "%s: cannot be read: %s", dir->path, strerror(-err));
		free(firsts);
		return err;
	}
	if (count > 0)
		qsort(firsts, count, sizeof(*firsts), compare_firsts);
	*ret_firsts = firsts;
	*ret_count = count;
	return 0;
}

int log_dir_list(struct log_dir *dir, uint64_t **ret_firsts, size_t *ret_count, char *error, size_t error_size)
{
	DIR *stream;
	int err;

	if (dir->fd < 0) {
		*ret_firsts = NULL;
		*ret_count = 0;
		return 0;
	}
	err = find_begun(dir);
	if (err < 0) {
		snprintf(error, error_size, "%s/" NEXT_NAME ": %s", dir->path,
			 err == -EPROTONOSUPPORT ? "is of a newer format; run a newer strake-mds" : strerror(-err));
		return err;
	}
	stream = opendir(dir->path);
	if (!stream) {
		err = -errno;
		snprintf(error, error_size, "%s: cannot be read: %s", dir->path, strerror(-err));
		return err;
	}
	err = list(dir, stream, ret_firsts, ret_count, error, error_size);
	closedir(stream);
	return err;
}

int log_dir_open_segment(const struct log_dir *dir, uint64_t first, int *ret_fd)
{
	char name[LOG_NAME_SIZE];
	int fd = openat(dir->fd, first == dir->begun ? NEXT_NAME : log_name(first, name),
			(dir->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	*ret_fd = fd;
	return 0;
}

/* One that was left over: its blocks are used again, all zero, so that a restart on a full filesystem finds room. */
static int renew_next(int fd, size_t size)
{
	struct stat stat;

	if (fstat(fd, &stat) < 0)
		return -errno;
	if (!S_ISREG(stat.st_mode) || stat.st_size != (off_t)size)
		return -EINVAL;
	if (fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, (off_t)size) < 0)
		return -errno;
	return 0;
}

static int open_next(struct log_dir *dir, size_t size, int *ret_fd)
{
	int fd = openat(dir->fd, NEXT_NAME, O_RDWR | O_CLOEXEC | O_NOFOLLOW), err;

	if (fd >= 0) {
		if (renew_next(fd, size) == 0) {
			*ret_fd = fd;
			return 0;
		}
		close(fd);
		if (unlinkat(dir->fd, NEXT_NAME, 0) < 0)
			return -errno;
	}
	fd = openat(dir->fd, NEXT_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = allocate(fd, size);
	if (err < 0) {
		close(fd);
		unlinkat(dir->fd, NEXT_NAME, 0);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

int log_dir_make_next(struct log_dir *dir, size_t size, int *ret_fd)
{
	int fd = -1, err = open_next(dir, size, &fd);

	if (err < 0)
		return err;
	if (fsync(fd) < 0 || fsync(dir->fd) < 0) {
		err = -errno;
		close(fd);
		unlinkat(dir->fd, NEXT_NAME, 0);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

int log_dir_name_next(struct log_dir *dir, uint64_t first)
{
	char name[LOG_NAME_SIZE];

	if (renameat(dir->fd, NEXT_NAME, dir->fd, log_name(first, name)) < 0 || fsync(dir->fd) < 0)
		return -errno;
	return 0;
}

int log_dir_remove(struct log_dir *dir, uint64_t first)
{
	char name[LOG_NAME_SIZE];

	return unlinkat(dir->fd, log_name(first, name), 0) < 0 ? -errno : 0;
}
