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
	return begins(name, "user.") || begins(name, "system.posix_acl_") ||
	       (root && (begins(name, "security.") || begins(name, "trusted.")));
}

static const char *const acls[2] = { "system.posix_acl_access", "system.posix_acl_default" };

/* Is that name in the list? */
static bool has(const char *names, size_t len, const char *name)
{
	for (size_t at = 0; at < len; at += strlen(names + at) + 1) {
		if (strcmp(names + at, name) == 0)
			return true;
	}
	return false;
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

/* The destination may not know the kind: noted, no error. */
static int note_refusal(struct xattrs *xattrs, int err)
{
	if (err != -EOPNOTSUPP)
		return err;
	xattrs->refused = true;
	return 0;
}

int xattrs_put(struct xattrs *xattrs, struct client *client, int fd, const char *path, const struct attr *made)
{
	struct buffers *buffers = malloc(sizeof(*buffers));
	ssize_t len;
	int err = 0;

	if (!buffers)
		return -ENOMEM;
	len = local_list(fd, path, buffers->names, sizeof(buffers->names));
	if (len < 0)
		err = len == -EOPNOTSUPP ? 0 : (int)len;
	for (int kind = 0; kind < 2 && err == 0; kind++) {
		if (!made->no_acl[kind] && !has(buffers->names, len < 0 ? 0 : (size_t)len, acls[kind]))
			err = fs_removexattr(client->fs, &client->ctx, made->ino, acls[kind]);
	}
	for (ssize_t at = 0; at < len && err == 0; at += (ssize_t)strlen(buffers->names + at) + 1) {
		const char *name = buffers->names + at;
		ssize_t size;

		if (!xattrs_is_wanted(name, xattrs->root))
			continue;
		size = local_get(fd, path, name, buffers->value, sizeof(buffers->value));
		if (size == -ENODATA)
			continue; /* removed meanwhile */
		err = size < 0 ? (int)size
			       : note_refusal(xattrs, fs_setxattr(client->fs, &client->ctx, made->ino, name,
								  buffers->value, (size_t)size, 0));
	}
	free(buffers);
	return err;
}

static int local_remove(int fd, const char *path, const char *name)
{
	int err = fd >= 0 ? fremovexattr(fd, name) : lremovexattr(path, name);

	return err < 0 && errno != ENODATA && errno != EOPNOTSUPP ? -errno : 0;
}

int xattrs_get(struct xattrs *xattrs, struct client *client, uint64_t ino, int fd, const char *path)
{
	struct buffers *buffers;
	size_t len = 0, size;
	int err;

	/* Few files have any. */
	err = fs_listxattr(client->fs, &client->ctx, ino, NULL, 0, &len);
	if (err == 0 && len == 0) {
		for (int kind = 0; kind < 2 && err == 0; kind++)
			err = local_remove(fd, path, acls[kind]);
	}
	if (err || len == 0)
		return err;
	buffers = malloc(sizeof(*buffers));
	if (!buffers)
		return -ENOMEM;
	err = fs_listxattr(client->fs, &client->ctx, ino, buffers->names, sizeof(buffers->names), &len);
	for (int kind = 0; kind < 2 && err == 0; kind++) {
		if (!has(buffers->names, len, acls[kind]))
			err = local_remove(fd, path, acls[kind]);
	}
	for (size_t at = 0; at < len && err == 0; at += strlen(buffers->names + at) + 1) {
		const char *name = buffers->names + at;

		if (!xattrs_is_wanted(name, xattrs->root))
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
