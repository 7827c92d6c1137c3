#include "client/fuse/daemon_log.h"

#include "client/run_dir.h"
#include "common/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#define SHARED_LOG "/var/log/strake-mount.log"

static int file_open(const char *path, int *ret_fd, char *error, size_t error_size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644), err = -errno;

	if (fd < 0) {
		snprintf(error, error_size, "%s: %s", path, strerror(-err));
		return err;
	}
	*ret_fd = fd;
	return 0;
}

/* A place that the user has not named. */
static int usual_open(const char *path, int *ret_fd, char *error, size_t error_size)
{
	char why[PATH_MAX + 64];
	int err = file_open(path, ret_fd, why, sizeof(why));

	if (err < 0)
		snprintf(error, error_size, "%s; to log elsewhere: -o log=FILE", why);
	return err;
}

int daemon_log_open(const char *path, int *ret_fd, char *error, size_t error_size)
{
	char own[PATH_MAX];
	int fd, err;

	if (path != NULL)
		return file_open(path, ret_fd, error, error_size);
	fd = sd_journal_stream_fd("mount.strake", LOGGER_INFO, 1);
	if (fd >= 0) {
		*ret_fd = fd;
		return 0;
	}
	if (geteuid() == 0)
		return usual_open(SHARED_LOG, ret_fd, error, error_size);
	err = run_dir("mounts", own, sizeof(own) - sizeof("/mount.log"));
	if (err < 0) {
		snprintf(error, error_size, "no place for a log: %s", strerror(-err));
		return err;
	}
	strcat(own, "/mount.log");
	return usual_open(own, ret_fd, error, error_size);
}

/* The logger recognizes the journal by what systemd would have put into the environment. */
static void name_journal(int fd)
{
	char stream[64];
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
		return;
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	(void)setenv("JOURNAL_STREAM", stream, 1);
}

void daemon_log_take_over(int fd)
{
	static char name[64];

	(void)dup2(fd, STDERR_FILENO);
	close(fd);
	name_journal(STDERR_FILENO);
	/* Several may write into one file. */
	snprintf(name, sizeof(name), "mount.strake[%d]", (int)getpid());
	logger_init(name, LOGGER_INFO);
}
