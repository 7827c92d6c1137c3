#include "client/cli/xattrs.h"

#include <errno.h>
#include <linux/limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

static bool begins(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

bool xattrs_is_wanted(const char *name, bool root)
{
	return begins(name, "user.") || (root && (begins(name, "security.") || begins(name, "trusted.")));
}

bool xattrs_is_acl(const char *name)
{
	return begins(name, "system.posix_acl_");
}

/* --- the local side ---------------------------------------------------------------------------------------------- */

static ssize_t local_list(int fd, const char *path, char *list, size_t size)
{
	ssize_t len = fd >= 0 ? flistxattr(fd, list, size) : llistxattr(path, list, size);

	return len < 0 ? -errno : len;
}

static ssize_t local_get(int fd, const char *path, const char *name, void *value, size_t size)
{
	ssize_t len = fd >= 0 ? fgetxattr(fd, name, value, size) : lgetxattr(path, name, value, size);

	return len < 0 ? -errno : len;
}

static int local_set(int fd, const char *path, const char *name, const void *value, size_t size)
{
	int err = fd >= 0 ? fsetxattr(fd, name, value, size, 0) : lsetxattr(path, name, value, size, 0);

	return err < 0 ? -errno : 0;
}

bool xattrs_present(int fd, const char *path)
{
	return local_list(fd, path, NULL, 0) > 0;
}

/* --- both ways --------------------------------------------------------------------------------------------------- */

/* Names with their NULs, then room for a value. */
struct buffers {
	char names[XATTR_LIST_MAX];
	char value[XATTR_SIZE_MAX];
};

/* One that exists and is wanted. */
static bool is_for_us(struct xattrs *xattrs, const char *name)
{
	if (xattrs_is_acl(name))
		xattrs->acl_left_out = true;
	return xattrs_is_wanted(name, xattrs->root);
}

/* The destination may not know the kind: noted, no error. */
static int note_refusal(struct xattrs *xattrs, int err)
{
	if (err != -EOPNOTSUPP)
		return err;
	xattrs->refused = true;
	return 0;
}

int xattrs_put(struct xattrs *xattrs, struct client *client, int fd, const char *path, uint64_t ino)
{
	struct buffers *buffers = malloc(sizeof(*buffers));
	ssize_t len;
	int err = 0;

	if (!buffers)
		return -ENOMEM;
	len = local_list(fd, path, buffers->names, sizeof(buffers->names));
	if (len < 0)
		err = len == -EOPNOTSUPP ? 0 : (int)len;
	for (ssize_t at = 0; at < len && err == 0; at += (ssize_t)strlen(buffers->names + at) + 1) {
		const char *name = buffers->names + at;
		ssize_t size;

		if (!is_for_us(xattrs, name))
			continue;
		size = local_get(fd, path, name, buffers->value, sizeof(buffers->value));
		if (size == -ENODATA)
			continue; /* removed meanwhile */
		err = size < 0 ? (int)size
			       : note_refusal(xattrs, fs_setxattr(client->fs, &client->ctx, ino, name, buffers->value,
								  (size_t)size, 0));
	}
	free(buffers);
	return err;
}

int xattrs_get(struct xattrs *xattrs, struct client *client, uint64_t ino, int fd, const char *path)
{
	struct buffers *buffers;
	size_t len = 0, size;
	int err;

	/* Few files have any. */
	err = fs_listxattr(client->fs, &client->ctx, ino, NULL, 0, &len);
	if (err || len == 0)
		return err;
	buffers = malloc(sizeof(*buffers));
	if (!buffers)
		return -ENOMEM;
	err = fs_listxattr(client->fs, &client->ctx, ino, buffers->names, sizeof(buffers->names), &len);
	for (size_t at = 0; at < len && err == 0; at += strlen(buffers->names + at) + 1) {
		const char *name = buffers->names + at;

		if (!is_for_us(xattrs, name))
			continue;
		err = fs_getxattr(client->fs, &client->ctx, ino, name, buffers->value, sizeof(buffers->value), &size);
		if (err == -ENODATA)
			err = 0; /* removed meanwhile */
		else if (err == 0)
			err = note_refusal(xattrs, local_set(fd, path, name, buffers->value, size));
	}
	free(buffers);
	return err;
}
