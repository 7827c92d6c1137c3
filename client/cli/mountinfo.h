/* The mounts as this process, or another one, sees them: /proc/PID/mountinfo (proc(5)). */
#ifndef STRAKE_CLIENT_CLI_MOUNTINFO_H
#define STRAKE_CLIENT_CLI_MOUNTINFO_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

struct mountinfo {
	char path[PATH_MAX];
	char type[64];         /* "fuse.strake" */
	char source[PATH_MAX]; /* as mount(8) shows it */
	unsigned int major, minor;
};

/* Calls fn for each mount of pid (0: ours), in the kernel's order, until it answers false. Errors of open(2). */
int mountinfo_each(pid_t pid, bool (*fn)(void *arg, const struct mountinfo *info), void *arg);

/* What pid (0: we) sees mounted on top at an absolute path. -ENOENT: nothing. */
int mountinfo_find(pid_t pid, const char *path, struct mountinfo *ret_info);

/*
 * The absolute path, without symlinks, of what may be the root of a mount that does not answer: only the folders above
 * it are touched.
 */
int mount_path(const char *text, char ret_path[PATH_MAX]);

#endif
