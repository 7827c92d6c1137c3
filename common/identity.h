/*
 * The identity of a data directory: the file "identity" in it, made by `strake format`, checked at every start, so that
 * no server ever runs on an empty mount point, on another server's disk or on a newer format.
 *
 *     DIR/identity      text, key = value lines and a sum (crc32c) as its last line, mode 0644
 *     DIR/cluster.key   mode 0600; DIR/admin.key too in the MGS's
 *
 * A running server holds an exclusive lock (flock) on DIR/identity.
 */
#ifndef STRAKE_COMMON_IDENTITY_H
#define STRAKE_COMMON_IDENTITY_H

#include "common/ops.h"
#include "common/uuid.h"

#include <stddef.h>

#define IDENTITY_FORMAT_VERSION 1
#define IDENTITY_NAME_MAX       63

struct identity {
	struct uuid fs;
	struct uuid target;
	enum role role; /* ROLE_MGS, ROLE_MDT, ROLE_OST */
	uint32_t index;
	uint32_t format_version;
	char fs_name[IDENTITY_NAME_MAX + 1];
};

/* Write a new one, synced; dir exists. -EEXIST where there is one. */
int identity_write(const char *dir, const struct identity *identity);

/*
 * Read, check for the role, and lock: *ret_lock is a descriptor to keep open while the server runs. Errors come with a
 * sentence that names the command to run in error (error_size bytes):
 * -ENOENT no identity here; -EINVAL damaged, or another role's; -EPROTONOSUPPORT a newer format; -EBUSY in use.
 */
int identity_open(const char *dir, enum role role, struct identity *ret_identity, int *ret_lock, char *error,
		  size_t error_size);

/*
 * The file's bytes as such. text has a NUL at text[size] and is changed. Pure. -EINVAL damaged; -EPROTONOSUPPORT a newer
 * format: then only format_version is set.
 */
int identity_parse(char *text, size_t size, struct identity *ret_identity);

/* Only read. */
int identity_read(const char *dir, struct identity *ret_identity, char *error, size_t error_size);

#endif
