/*
 * passthrough FOLDER MOUNTPOINT: the least that a FUSE filesystem can be: the files of one folder, to be read, whose pages and
 * attributes the kernel keeps. What scripts/bench.py compares rereads with. Is mounted when it returns; ends with its mount.
 */
#define FUSE_USE_VERSION 31

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEPT_S 1.0 /* as mount.strake has it */

static int folder;

/* "/" is the folder. */
static const char *name_of(const char *path)
{
	return path[1] == '\0' ? "." : path + 1;
}

static void *begin(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->kernel_cache = 1;
	config->attr_timeout = config->entry_timeout = KEPT_S;
	return NULL;
}

static int get_attr(const char *path, struct stat *ret_stat, struct fuse_file_info *info)
{
	(void)info;
	return fstatat(folder, name_of(path), ret_stat, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int open_file(const char *path, struct fuse_file_info *info)
{
	int fd = openat(folder, name_of(path), O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	info->fh = (uint64_t)fd;
	info->keep_cache = 1;
	return 0;
}

static int release_file(const char *path, struct fuse_file_info *info)
{
	(void)path;
	close((int)info->fh);
	return 0;
}

static int read_file(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *info)
{
	ssize_t n = pread((int)info->fh, buffer, size, offset);

	(void)path;
	return n < 0 ? -errno : (int)n;
}

int main(int argc, char **argv)
{
	static const struct fuse_operations operations = {
		.init = begin,
		.getattr = get_attr,
		.open = open_file,
		.release = release_file,
		.read = read_file,
	};
	char *arguments[] = { argv[0], argc == 3 ? argv[2] : NULL, NULL };

	if (argc != 3) {
		fprintf(stderr, "usage: passthrough FOLDER MOUNTPOINT\n");
		return 2;
	}
	folder = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (folder < 0) {
		fprintf(stderr, "passthrough: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	return fuse_main(2, arguments, &operations, NULL);
}
