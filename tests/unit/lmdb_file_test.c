/* The file of a database is made whole, whatever a failure has left of an earlier attempt, and never made anew. */
#include "common/lmdb_file.h"

#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char dir[PATH_MAX], path[PATH_MAX + 16], new_path[PATH_MAX + 16];

/* In place of the C library's: what was synced when. */
static ino_t synced[16], named;
static unsigned int synced_count, synced_before_name;

static void note_synced(int fd)
{
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_lt(synced_count, 16);
	synced[synced_count++] = st.st_ino;
}

int fdatasync(int fd)
{
	note_synced(fd);
	return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
	note_synced(fd);
	return (int)syscall(SYS_fsync, fd);
}

int rename(const char *old, const char *new)
{
	struct stat st;

	ck_assert_int_eq(stat(old, &st), 0);
	named = st.st_ino;
	synced_before_name = synced_count;
	return (int)syscall(SYS_renameat2, AT_FDCWD, old, AT_FDCWD, new, 0);
}

static bool was_synced(unsigned int from, unsigned int to, ino_t ino)
{
	while (from < to && synced[from] != ino)
		from++;
	return from < to;
}

static void begin(void)
{
	temp_dir_make(dir);
	snprintf(path, sizeof(path), "%s/data.mdb", dir);
	snprintf(new_path, sizeof(new_path), "%s/data.mdb.new", dir);
	synced_count = 0;
}

/* A number under a name: stored if `store`, else returned, 0 for none. */
static int number(const char *name, int store)
{
	MDB_val key = { strlen(name), (void *)(uintptr_t)name }, value = { sizeof(store), &store };
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	int found = 0;

	ck_assert_int_eq(mdb_env_create(&env), 0);
	ck_assert_int_eq(mdb_env_open(env, dir, 0, 0600), 0);
	ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
	ck_assert_int_eq(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
	if (store != 0)
		ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
	else if (mdb_get(txn, dbi, &key, &value) == 0)
		memcpy(&found, value.mv_data, sizeof(found));
	ck_assert_int_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	return found;
}

START_TEST(it_gets_its_name_when_it_is_synced)
{
	struct stat st, folder;

	begin();
	ck_assert_int_eq(lmdb_file_make(dir), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(stat(dir, &folder), 0);
	ck_assert_uint_eq(named, st.st_ino);
	ck_assert_int_gt(st.st_size, 0);
	ck_assert(was_synced(0, synced_before_name, st.st_ino));
	ck_assert(was_synced(synced_before_name, synced_count, folder.st_ino));
	temp_dir_remove(dir);
}
END_TEST

START_TEST(what_was_half_made_is_made_anew)
{
	static const char zeros[8192];

	for (size_t size = 0; size <= sizeof(zeros); size += sizeof(zeros) / 2) {
		int fd;

		begin();
		fd = open(new_path, O_WRONLY | O_CREAT, 0600);
		ck_assert_int_eq(write(fd, zeros, size), (ssize_t)size);
		close(fd);
		ck_assert_int_eq(lmdb_file_make(dir), 0);
		ck_assert_int_lt(access(new_path, F_OK), 0);
		ck_assert_int_eq(number("seven", 0), 0);
		temp_dir_remove(dir);
	}
}
END_TEST

START_TEST(what_is_there_stays)
{
	begin();
	ck_assert_int_eq(lmdb_file_make(dir), 0);
	number("seven", 7);
	ck_assert_int_eq(lmdb_file_make(dir), 0);
	ck_assert_int_eq(number("seven", 0), 7);
	temp_dir_remove(dir);
}
END_TEST

START_TEST(errors_are_told)
{
	begin();
	temp_dir_remove(dir);
	ck_assert_int_eq(lmdb_file_make(dir), ENOENT);
}
END_TEST

#define ROWS     4096
#define ROW_SIZE 4000 /* a page each */

static void fill(MDB_env *env)
{
	static uint8_t row[ROW_SIZE];
	MDB_txn *txn;
	MDB_dbi dbi;

	ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
	ck_assert_int_eq(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
	for (uint32_t i = 0; i < ROWS; i++) {
		MDB_val key = { sizeof(i), &i }, value = { sizeof(row), row };

		memcpy(row, &i, sizeof(i));
		ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
	}
	ck_assert_int_eq(mdb_txn_commit(txn), 0);
}

static void read_all(MDB_txn *txn)
{
	MDB_dbi dbi;

	ck_assert_int_eq(mdb_dbi_open(txn, NULL, 0, &dbi), 0);
	for (uint32_t i = 0; i < ROWS; i++) {
		MDB_val key = { sizeof(i), &i }, value;

		ck_assert_int_eq(mdb_get(txn, dbi, &key, &value), 0);
		ck_assert_int_eq(memcmp(value.mv_data, &i, sizeof(i)), 0);
	}
}

/* KiB of files that this process has mapped and that count as its memory. */
static long mapped(void)
{
	FILE *status = fopen("/proc/self/status", "r");
	char line[256];
	long found = -1;

	while (fgets(line, sizeof(line), status) != NULL)
		if (sscanf(line, "RssFile: %ld", &found) == 1)
			break;
	fclose(status);
	return found;
}

START_TEST(what_was_read_is_let_go)
{
	const long rows = ROWS * 4;
	MDB_env *env;
	MDB_txn *txn;
	long before;

	begin();
	ck_assert_int_eq(mdb_env_create(&env), 0);
	ck_assert_int_eq(mdb_env_set_mapsize(env, 64u << 20), 0);
	ck_assert_int_eq(mdb_env_open(env, dir, 0, 0600), 0);
	fill(env);
	before = mapped();
	ck_assert_int_eq(mdb_txn_begin(env, NULL, MDB_RDONLY, &txn), 0);
	read_all(txn);
	ck_assert_int_gt(mapped(), before + rows / 2);
	lmdb_file_limit_mapped(env, (size_t)1 << 40); /* that is not much */
	ck_assert_int_gt(mapped(), before + rows / 2);
	lmdb_file_limit_mapped(env, (size_t)rows / 2 * 1024);
	ck_assert_int_lt(mapped(), before + rows / 2);
	read_all(txn);
	mdb_txn_abort(txn);
	mdb_env_close(env);
	temp_dir_remove(dir);
}
END_TEST

/*
 * Where address space is limited a database has a share of it. One that is longer already still gets room to grow; the
 * sanitizers need more address space themselves.
 */
START_TEST(what_is_longer_than_its_share_may_grow)
{
#ifndef STRAKE_SAN
	const struct rlimit limit = { (rlim_t)16 << 30, (rlim_t)16 << 30 }; /* a share is 4 GiB */
	const off_t length = (off_t)5 << 30;
	MDB_envinfo info;
	MDB_env *env;

	begin();
	ck_assert_int_eq(lmdb_file_make(dir), 0);
	ck_assert_int_eq(truncate(path, length), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	ck_assert_int_eq(lmdb_file_open(dir, 1, (size_t)1 << 40, &env), 0);
	ck_assert_int_eq(mdb_env_info(env, &info), 0);
	ck_assert_uint_gt(info.me_mapsize, (size_t)length);
	mdb_env_close(env);
	temp_dir_remove(dir);
#endif
}
END_TEST

UNIT_MAIN("lmdb_file", it_gets_its_name_when_it_is_synced, what_was_half_made_is_made_anew, what_is_there_stays,
	  errors_are_told, what_was_read_is_let_go, what_is_longer_than_its_share_may_grow)
