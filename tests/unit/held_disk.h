/*
 * A disk that can be held up, that can fail, and that tells what was done to it: in place of the C library's fdatasync(),
 * fsync() and renameat(). Only what concerns an MDT's log (DIR/log and its files) is touched; LMDB goes its way.
 * Included by one file of a test program.
 */
#ifndef STRAKE_TESTS_HELD_DISK_H
#define STRAKE_TESTS_HELD_DISK_H

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DISK_EVENTS_MAX 4096

enum disk_event_kind { DISK_SYNCED, DISK_NAMED };

struct disk_event {
	enum disk_event_kind kind;
	ino_t ino; /* of the file or folder */
};

static pthread_mutex_t disk_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t disk_open = PTHREAD_COND_INITIALIZER;
static bool disk_held;                         /* no fdatasync() ends, */
static unsigned int disk_passes, disk_waiting; /* but so many; so many wait */
static bool disk_failing;
static struct disk_event disk_events[DISK_EVENTS_MAX]; /* of what has ended, in order */
static _Atomic size_t disk_event_count;

static inline void disk_note(enum disk_event_kind kind, ino_t ino)
{
	pthread_mutex_lock(&disk_mutex);
	if (disk_event_count < DISK_EVENTS_MAX)
		disk_events[disk_event_count++] = (struct disk_event){ kind, ino };
	pthread_mutex_unlock(&disk_mutex);
}

/* Is it the log's? *ret_ino: which. */
static inline bool disk_is_log(int fd, ino_t *ret_ino)
{
	char link[32], path[PATH_MAX];
	struct stat st;
	ssize_t len;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	len = readlink(link, path, sizeof(path) - 1);
	if (len < 0 || fstat(fd, &st) < 0)
		return false;
	path[len] = '\0';
	*ret_ino = st.st_ino;
	return strstr(path, "/log/") || (len > 4 && strcmp(path + len - 4, "/log") == 0);
}

int fdatasync(int fd)
{
	ino_t ino;
	int n;

	if (!disk_is_log(fd, &ino))
		return (int)syscall(SYS_fdatasync, fd);
	pthread_mutex_lock(&disk_mutex);
	disk_waiting++;
	while (disk_held && disk_passes == 0)
		pthread_cond_wait(&disk_open, &disk_mutex);
	disk_waiting--;
	if (disk_held)
		disk_passes--;
	pthread_mutex_unlock(&disk_mutex);
	if (disk_failing) {
		errno = EIO;
		return -1;
	}
	n = (int)syscall(SYS_fdatasync, fd);
	disk_note(DISK_SYNCED, ino);
	return n;
}

int fsync(int fd)
{
	int n = (int)syscall(SYS_fsync, fd);
	ino_t ino;

	if (disk_is_log(fd, &ino))
		disk_note(DISK_SYNCED, ino);
	return n;
}

int renameat(int old_fd, const char *old, int new_fd, const char *new)
{
	int n = (int)syscall(SYS_renameat2, old_fd, old, new_fd, new, 0);
	struct stat st;
	ino_t ino;

	if (n == 0 && disk_is_log(new_fd, &ino) && fstatat(new_fd, new, &st, 0) == 0)
		disk_note(DISK_NAMED, st.st_ino);
	return n;
}

static inline void disk_hold(bool held)
{
	pthread_mutex_lock(&disk_mutex);
	disk_held = held;
	disk_passes = 0;
	pthread_cond_broadcast(&disk_open);
	pthread_mutex_unlock(&disk_mutex);
}

static inline void disk_pass_one(void)
{
	pthread_mutex_lock(&disk_mutex);
	disk_passes++;
	pthread_cond_broadcast(&disk_open);
	pthread_mutex_unlock(&disk_mutex);
}

static inline bool disk_is_waited_for(void)
{
	bool waited;

	pthread_mutex_lock(&disk_mutex);
	waited = disk_waiting > 0;
	pthread_mutex_unlock(&disk_mutex);
	return waited;
}

/* Where in disk_events from `from` on this is; DISK_EVENTS_MAX: nowhere. */
static inline size_t disk_find(size_t from, enum disk_event_kind kind, ino_t ino)
{
	pthread_mutex_lock(&disk_mutex);
	while (from < disk_event_count && (disk_events[from].kind != kind || disk_events[from].ino != ino))
		from++;
	if (from == disk_event_count)
		from = DISK_EVENTS_MAX;
	pthread_mutex_unlock(&disk_mutex);
	return from;
}

static inline ino_t disk_ino(const char *path)
{
	struct stat st;
	int n = stat(path, &st);

	assert(n == 0);
	return st.st_ino;
}

#endif
