#include "common/lmdb_file.h"

#include "common/fd_io.h"
#include "common/logger.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define MAP_SIZE_MIN    ((size_t)1 << 30)
#define MAP_SHARE       4  /* of the address space, where it is limited: there may be more databases, and all else */
#define DISK_FULL_BELOW 16 /* blocks */

_Static_assert(sizeof(size_t) == 8, "LMDB's maps are larger than 32 bits can address");

/* --- its beginning ---------------------------------------------------------------------------------------------- */

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

/* --- opening ------------------------------------------------------------------------------------------------------ */

static int open_mapped(const char *folder, unsigned int tables, size_t map_size, unsigned int flags, MDB_env **ret_env)
{
	MDB_env *env;
	int rc = mdb_env_create(&env);

	if (rc != 0)
		return rc;
	rc = mdb_env_set_maxdbs(env, tables);
	if (rc == 0)
		rc = mdb_env_set_mapsize(env, map_size);
	if (rc == 0)
		rc = mdb_env_open(env, folder, MDB_NOTLS | MDB_NORDAHEAD | flags, 0600);
	if (rc != 0) {
		mdb_env_close(env);
		return rc;
	}
	*ret_env = env;
	return 0;
}

/* What the limit leaves for a map that may have this size: a part of it, or what a database that is there needs to grow. */
static size_t map_size_allowed(const char *folder, size_t wanted)
{
	struct rlimit limit;
	size_t size = wanted;
	char path[PATH_MAX];
	struct stat st;

	if (getrlimit(RLIMIT_AS, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
		return wanted;
	while (size > MAP_SIZE_MIN && size > limit.rlim_cur / MAP_SHARE)
		size /= 2;
	snprintf(path, sizeof(path), "%s/data.mdb", folder);
	if (stat(path, &st) == 0)
		while (size < wanted && size < 2 * (size_t)st.st_size)
			size *= 2;
	return size;
}

/* Bytes up to the end of the last page in use. */
static int used_bytes(MDB_env *env, uint64_t *ret_used)
{
	MDB_envinfo info;
	MDB_stat stat;

	if (mdb_env_info(env, &info) != 0 || mdb_env_stat(env, &stat) != 0)
		return EIO;
	*ret_used = (uint64_t)(info.me_last_pgno + 1) * stat.ms_psize;
	return 0;
}

/* LMDB maps the file and believes it: a short one would end us by SIGBUS later. */
static int check_length(MDB_env *env)
{
	mdb_filehandle_t fd;
	struct stat st;
	uint64_t used;

	if (mdb_env_get_fd(env, &fd) != 0 || used_bytes(env, &used) != 0 || fstat(fd, &st) < 0)
		return EIO;
	return (uint64_t)st.st_size < used ? MDB_CORRUPTED : 0;
}

static int open_checked(const char *folder, unsigned int tables, size_t map_size, unsigned int flags, MDB_env **ret_env)
{
	size_t allowed = map_size_allowed(folder, map_size);
	MDB_env *env;
	int rc;

	while ((rc = open_mapped(folder, tables, allowed, flags, &env)) == ENOMEM && allowed > MAP_SIZE_MIN)
		allowed /= 2;
	if (rc != 0)
		return rc;
	rc = check_length(env);
	if (rc != 0) {
		mdb_env_close(env);
		return rc;
	}
	if (allowed < map_size && !(flags & MDB_RDONLY))
		log_warning("%s: address space is limited, so it can grow to %zu GiB and no more; "
			    "raise the limit (ulimit -v, LimitAS=)",
			    folder, allowed >> 30);
	*ret_env = env;
	return 0;
}

int lmdb_file_open(const char *folder, unsigned int tables, size_t map_size, struct MDB_env **ret_env)
{
	int rc = lmdb_file_make(folder);

	return rc == 0 ? open_checked(folder, tables, map_size, 0, ret_env) : rc;
}

int lmdb_file_open_to_read(const char *folder, unsigned int tables, size_t map_size, struct MDB_env **ret_env)
{
	return open_checked(folder, tables, map_size, MDB_RDONLY | MDB_NOLOCK, ret_env);
}

const char *lmdb_file_error(int rc)
{
	if (rc == ENOMEM)
		return "there is not enough address space; raise its limit (ulimit -v, LimitAS=)";
	if (rc == MDB_MAP_FULL)
		return "it has grown to all the address space it may take; raise the limit (ulimit -v, LimitAS=)";
	return mdb_strerror(rc);
}

/* --- room on the disk --------------------------------------------------------------------------------------------- */

void lmdb_file_reserve(struct MDB_env *env, uint64_t most)
{
	mdb_filehandle_t fd;
	struct statvfs vfs;
	struct stat st;
	uint64_t used;

	if (mdb_env_get_fd(env, &fd) != 0 || used_bytes(env, &used) != 0 || fstatvfs(fd, &vfs) < 0 ||
	    fstat(fd, &st) < 0)
		return;
	if (most > vfs.f_blocks * vfs.f_frsize / 64)
		most = vfs.f_blocks * vfs.f_frsize / 64;
	if ((uint64_t)st.st_blocks * 512 >= used + most / 2)
		return;
	(void)fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)used, (off_t)most);
}

bool lmdb_file_is_full(struct MDB_env *env, int rc)
{
	mdb_filehandle_t fd;
	struct statvfs vfs;

	if (rc == ENOSPC || rc == EDQUOT || rc == MDB_MAP_FULL)
		return true;
	/* LMDB calls a short write EIO; on a full disk that is what it was. */
	return rc == EIO && mdb_env_get_fd(env, &fd) == 0 && fstatvfs(fd, &vfs) == 0 && vfs.f_bavail < DISK_FULL_BELOW;
}

/* --- memory --------------------------------------------------------------------------------------------------------- */

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
