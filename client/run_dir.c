#include "client/run_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int base_path(char *out, size_t size)
{
	const char *chosen = getenv("STRAKE_RUN_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");
	int length;

	if (chosen && chosen[0] != '\0')
		length = snprintf(out, size, "%s", chosen);
	else if (geteuid() == 0)
		length = snprintf(out, size, "/run/strake");
	else if (runtime && runtime[0] == '/')
		length = snprintf(out, size, "%s/strake", runtime);
	else
		length = snprintf(out, size, "/tmp/strake-%u", (unsigned int)geteuid());
	return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

/* In /tmp anybody may have been there first. */
static int make_own_dir(const char *path)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return -errno;
	if (lstat(path, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		return -ENOTDIR;
	return st.st_uid == geteuid() && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0 ? 0 : -EPERM;
}

int run_dir(const char *sub, char *ret_path, size_t size)
{
	char base[PATH_MAX];
	int length, err = base_path(base, sizeof(base));

	if (err == 0)
		err = make_own_dir(base);
	if (err)
		return err;
	length = snprintf(ret_path, size, "%s/%s", base, sub);
	if (length < 0 || (size_t)length >= size)
		return -ENAMETOOLONG;
	return make_own_dir(ret_path);
}

static int temporary_path(const char *path, char *out, size_t size)
{
	int length = snprintf(out, size, "%s.%d.tmp", path, (int)getpid());

	return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
}

static int rename_or_remove(const char *temporary, const char *path)
{
	int err;

	if (rename(temporary, path) == 0)
		return 0;
	err = -errno;
	unlink(temporary);
	return err;
}

int run_dir_write(const char *path, const char *text)
{
	char temporary[PATH_MAX];
	FILE *file;
	int err = temporary_path(path, temporary, sizeof(temporary));

	if (err)
		return err;
	file = fopen(temporary, "we");
	if (!file)
		return -errno;
	err = fputs(text, file) < 0 ? -EIO : 0;
	if (fclose(file) != 0 && err == 0)
		err = -errno;
	if (err) {
		unlink(temporary);
		return err;
	}
	return rename_or_remove(temporary, path);
}

int run_dir_link(const char *path, const char *target)
{
	char temporary[PATH_MAX];
	int err = temporary_path(path, temporary, sizeof(temporary));

	if (err)
		return err;
	unlink(temporary);
	if (symlink(target, temporary) < 0)
		return -errno;
	return rename_or_remove(temporary, path);
}
