/*
 * Where a path leads: names looked up one after the other from the root, "." and ".." and symbolic links dealt with as
 * the kernel does. Knows the filesystem only by three calls, which may wait.
 */
#ifndef STRAKE_CLIENT_CLI_PLACE_H
#define STRAKE_CLIENT_CLI_PLACE_H

#include "client/fs.h"

#define PLACE_LINKS_MAX 40
#define PLACE_NAME_MAX  255

struct place_names {
	void *arg;
	uint64_t root;
	int (*lookup)(void *arg, uint64_t parent, const char *name, size_t len, struct attr *ret_attr);
	int (*readlink)(void *arg, uint64_t ino, char *target, size_t size, size_t *ret_len);
	int (*getattr)(void *arg, uint64_t ino, struct attr *ret_attr);
};

struct place {
	uint64_t parent;               /* the directory that has, or could have, the name */
	char name[PLACE_NAME_MAX + 1]; /* "": a directory known without a name: "/", or the path ended with . or .. */
	size_t name_len;
	bool exists; /* attr is of what is there */
	bool slash;  /* the path ended with a slash: a directory is meant */
	struct attr attr;
};

/*
 * Only the last name may be missing (*ret_place then says where it would be). follow: also a symbolic link that the
 * path ends with; one with a slash behind it is always followed.
 *
 * -EINVAL        the path does not begin with a slash
 * -ENOENT, -ENOTDIR, -ELOOP, -ENAMETOOLONG, and what the calls answer
 */
int place_find(const struct place_names *names, const char *path, bool follow, struct place *ret_place);

/* The last name in a path, without slashes: "" for "/", "x" for "/a/x//". *ret_len is its length. */
const char *path_base(const char *path, size_t *ret_len);
/* It is no name that could be given: "", "." or "..". */
bool path_base_is_special(const char *base, size_t len);

#endif
