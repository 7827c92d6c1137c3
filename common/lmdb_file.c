#include "common/lmdb_file.h"

#include "common/fd_io.h"

#include <errno.h>
#include <limits.h>
#include <lmdb.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
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

/* Bytes of files that are mapped in this process and in memory; 0 where the system does not say. */
static size_t mapped_bytes(void)
{
	FILE *file = fopen("/proc/self/statm", "re");
	unsigned long pages;
	int found;

	if (file == NULL)
		return 0;
	found = fscanf(file, "%*u %*u %lu", &pages);
	fclose(file);
	return found == 1 ? pages * (size_t)sysconf(_SC_PAGESIZE) : 0;
}

/* Have no page of this file mapped, wherever it is. */
static void let_go(const struct stat *wanted)
{
	FILE *file = fopen("/proc/self/maps", "re");
	uintptr_t start, end;
	unsigned int major_number, minor_number;
	unsigned long ino;
	char line[PATH_MAX + 128];

	if (file == NULL)
		return;
	while (fgets(line, sizeof(line), file) != NULL) {
		if (sscanf(line, "%lx-%lx %*s %*x %x:%x %lu", &start, &end, &major_number, &minor_number, &ino) != 5 ||
		    ino != wanted->st_ino || makedev(major_number, minor_number) != wanted->st_dev)
			continue;
		/* Shared, and of a file: nothing is lost. */
		(void)madvise((void *)start, end - start, MADV_DONTNEED);
	}
	fclose(file);
}

void lmdb_file_limit_mapped(struct MDB_env *env, size_t most)
{
	mdb_filehandle_t fd;
	struct stat st;

	if (mapped_bytes() > most && mdb_env_get_fd(env, &fd) == 0 && fstat(fd, &st) == 0)
		let_go(&st);
}
