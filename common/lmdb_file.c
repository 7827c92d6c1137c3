#include "common/lmdb_file.h"

#include "common/fd_io.h"

#include <errno.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <unistd.h>

static int write_empty(const char *path)
{
	MDB_env *env;
	int rc = mdb_env_create(&env);

	if (rc != 0)
		return rc;
	rc = mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK, 0600);
	if (rc == 0)
		rc = mdb_env_sync(env, 1);
	mdb_env_close(env);
	return rc;
}

int lmdb_file_make(const char *folder)
{
	char path[PATH_MAX], new_path[PATH_MAX];
	int rc;

	if (snprintf(path, sizeof(path), "%s/data.mdb", folder) >= PATH_MAX ||
	    snprintf(new_path, sizeof(new_path), "%s/data.mdb.new", folder) >= PATH_MAX)
		return ENAMETOOLONG;
	if (access(path, F_OK) == 0)
		return 0;
	if (errno != ENOENT || (unlink(new_path) < 0 && errno != ENOENT))
		return errno;
	rc = write_empty(new_path);
	if (rc == 0 && rename(new_path, path) < 0)
		rc = errno;
	return rc == 0 ? -fd_sync_folder(folder) : rc;
}
