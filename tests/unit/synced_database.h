/*
 * Whether what a database has committed is on the disk: in place of the C library's calls by which LMDB writes and syncs.
 * A transaction is valid by the page that is written last, through a descriptor of its own that syncs (O_DSYNC), when all
 * else of it has been synced. Included by one file of a test program.
 */
#ifndef STRAKE_TESTS_SYNCED_DATABASE_H
#define STRAKE_TESTS_SYNCED_DATABASE_H

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic bool database_unsynced;                      /* something that was written */
static _Atomic int database_error;                          /* by which its syncs fail; 0: they do not */
static _Atomic unsigned int database_valid, database_early; /* pages that make valid; of these before all was synced */

static inline bool is_database(int fd)
{
	static const char name[] = "/data.mdb";
	char link[32], path[PATH_MAX];
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path));
	return len >= (ssize_t)strlen(name) && memcmp(path + len - strlen(name), name, strlen(name)) == 0;
}

static inline void database_written(int fd)
{
	if (!is_database(fd))
		return;
	if (!(fcntl(fd, F_GETFL) & O_DSYNC)) {
		database_unsynced = true;
		return;
	}
	database_valid++;
	database_early += database_unsynced;
}

/* The names that LMDB calls, whatever off_t is here. */
ssize_t database_pwrite(int fd, const void *data, size_t size, off_t offset) __asm__("pwrite");
ssize_t database_pwrite(int fd, const void *data, size_t size, off_t offset)
{
	database_written(fd);
	return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t writev(int fd, const struct iovec *iov, int count)
{
	database_written(fd);
	return syscall(SYS_writev, fd, iov, count);
}

int fdatasync(int fd)
{
	int n;

	if (database_error != 0 && is_database(fd)) {
		errno = database_error;
		return -1;
	}
	n = (int)syscall(SYS_fdatasync, fd);
	if (n == 0 && is_database(fd))
		database_unsynced = false;
	return n;
}

/* Since this was asked last, something has been committed, and all of it is on the disk, in the right order. */
static inline bool database_is_synced(void)
{
	bool synced = database_valid > 0 && database_early == 0 && !database_unsynced;

	database_valid = database_early = 0;
	return synced;
}

#endif
