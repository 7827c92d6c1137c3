/*
 * Making a data directory (see common/identity.h): the keys first, the identity last, so that one which was interrupted
 * has no identity and can be made again, and nothing that holds data ever is.
 */
#ifndef STRAKE_CLIENT_CLI_DATA_DIR_H
#define STRAKE_CLIENT_CLI_DATA_DIR_H

#include "common/identity.h"
#include "common/key.h"

#include <stddef.h>

struct data_dir {
	const char *path; /* made where it is missing (not its parents) */
	enum role role;
	uint32_t index;
	struct uuid fs; /* zero, for an MGS: a new one */
	const char *fs_name;
	const struct key *key; /* NULL, for an MGS: a new one */
};

/* Checks that it could be made, and changes nothing. -ENOTEMPTY, -EEXIST, errors of opendir(3). */
int data_dir_check(const char *path, char *error, size_t error_size);

/* What was written comes back in *ret_identity. A sentence comes with every error. */
int data_dir_make(const struct data_dir *dir, struct identity *ret_identity, char *error, size_t error_size);

#endif
