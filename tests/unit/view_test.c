/* The view against a model: three layers, cursors over them, checkpoints at random points, reopening; and damage. */
#include "mds/view.h"

#include "common/bulk_sums.h"
#include "tests/unit/synced_database.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ERROR_SIZE 512

static char dir[PATH_MAX];
static char error[ERROR_SIZE];
static bool die_after_commit;
static size_t map_size_most = SIZE_MAX;

/* In place of LMDB's: as where address space is limited, but to less than a state takes. */
int mdb_env_set_mapsize(MDB_env *env, size_t size)
{
	int (*set)(MDB_env * env, size_t size) =
		(int (*)(MDB_env *, size_t))(uintptr_t)dlsym(RTLD_NEXT, "mdb_env_set_mapsize");

	return set(env, size < map_size_most ? size : map_size_most);
}

/* In place of LMDB's: the process may end right after. */
int mdb_txn_commit(MDB_txn *txn)
{
	int (*commit)(MDB_txn * txn) = (int (*)(MDB_txn *))(uintptr_t)dlsym(RTLD_NEXT, "mdb_txn_commit");
	int rc = commit(txn);

	if (die_after_commit)
		_exit(0);
	return rc;
}

static struct view *open_good(uint64_t want_applied)
{
	struct view *view;
	uint64_t applied;
	int err = view_open(dir, &view, &applied, error, sizeof(error));

	ck_assert_msg(err == 0, "%s", error);
	ck_assert_uint_eq(applied, want_applied);
	return view;
}

static void checkpoint(struct view *view, uint64_t index)
{
	view_freeze(view, index);
	ck_assert(view_is_frozen(view));
	ck_assert_int_eq(view_write_frozen(view), 0);
	view_thaw(view);
	ck_assert(!view_is_frozen(view));
	view_release(view);
}

static struct bytes text(const char *string)
{
	return (struct bytes){ string, strlen(string) };
}

static void put(struct view *view, const char *key, const char *value)
{
	view_put(view, TABLE_INODE, text(key), text(value));
}

static bool has(struct view *view, const char *key, const char *value)
{
	struct bytes got;

	return view_get(view, TABLE_INODE, text(key), &got) == 0 && bytes_equal(got, text(value));
}

static bool has_not(struct view *view, const char *key)
{
	struct bytes got;

	return view_get(view, TABLE_INODE, text(key), &got) == -ENOENT;
}

/* --- layers --------------------------------------------------------------------------------------------------------- */

START_TEST(upper_layers_hide_lower_ones)
{
	struct view *view;

	temp_dir_make(dir);
	view = open_good(0);
	ck_assert_uint_eq(view_active_bytes(view), 0);
	put(view, "a", "stored");
	put(view, "b", "stored");
	put(view, "c", "stored");
	put(view, "d", "stored");
	ck_assert_uint_gt(view_active_bytes(view), 0);
	checkpoint(view, 7);
	ck_assert_uint_eq(view_active_bytes(view), 0);
	ck_assert(has(view, "a", "stored"));

	put(view, "b", "frozen");
	put(view, "c", "frozen");
	view_del(view, TABLE_INODE, text("d"));
	view_freeze(view, 8);
	ck_assert(has(view, "b", "frozen"));
	ck_assert(has_not(view, "d"));
	put(view, "c", "active");
	put(view, "d", "active");
	view_del(view, TABLE_INODE, text("b"));
	view_del(view, TABLE_INODE, text("never there"));
	ck_assert(has(view, "a", "stored"));
	ck_assert(has_not(view, "b"));
	ck_assert(has(view, "c", "active"));
	ck_assert(has(view, "d", "active"));

	ck_assert_int_eq(view_write_frozen(view), 0);
	ck_assert(has_not(view, "b"));
	view_thaw(view);
	ck_assert(has(view, "a", "stored"));
	ck_assert(has_not(view, "b"));
	ck_assert(has(view, "c", "active"));
	view_close(view);

	/* What was not checkpointed is forgotten. */
	view = open_good(8);
	ck_assert(has(view, "a", "stored"));
	ck_assert(has(view, "b", "frozen"));
	ck_assert(has(view, "c", "frozen"));
	ck_assert(has_not(view, "d"));
	view_close(view);
	ck_assert_ptr_null(view_close(NULL));
	temp_dir_remove(dir);
}
END_TEST

START_TEST(a_cursor_merges_and_ends)
{
	static const char *const keys[] = { "a", "b", "c", "e" };
	struct view_cursor cursor, other;
	struct view *view;
	int err;

	temp_dir_make(dir);
	view = open_good(0);
	ck_assert_int_eq(view_seek(view, TABLE_INODE, text(""), &cursor), -ENOENT);
	put(view, "a", "1");
	put(view, "c", "1");
	put(view, "d", "1");
	view_put(view, TABLE_DIRENT, text("a"), text("other table"));
	checkpoint(view, 1);
	put(view, "b", "2");
	put(view, "c", "2");
	view_freeze(view, 2);
	put(view, "c", "3");
	put(view, "e", "3");
	view_del(view, TABLE_INODE, text("d"));
	view_put(view, TABLE_META, text("z"), text("other table"));

	err = view_seek(view, TABLE_INODE, text(""), &cursor);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++, err = view_next(&cursor)) {
		ck_assert_int_eq(err, 0);
		ck_assert(bytes_equal(cursor.key, text(keys[i])));
	}
	ck_assert_int_eq(err, -ENOENT);
	ck_assert_int_eq(view_next(&cursor), -ENOENT);
	view_cursor_end(&cursor);

	/* Two of one table at a time. */
	ck_assert_int_eq(view_seek(view, TABLE_INODE, text("bb"), &cursor), 0);
	ck_assert_int_eq(view_seek(view, TABLE_INODE, text("b"), &other), 0);
	ck_assert(bytes_equal(cursor.key, text("c")) && bytes_equal(cursor.value, text("3")));
	ck_assert(bytes_equal(other.key, text("b")) && bytes_equal(other.value, text("2")));
	ck_assert_int_eq(view_next(&other), 0);
	ck_assert(bytes_equal(other.key, text("c")));
	view_cursor_end(&cursor);
	view_cursor_end(&other);
	view_cursor_end(&other);

	ck_assert_int_eq(view_seek(view, TABLE_INODE, text("f"), &cursor), -ENOENT);
	ck_assert_int_eq(view_write_frozen(view), 0);
	view_thaw(view);
	ck_assert_int_eq(view_seek(view, TABLE_INODE, text("d"), &cursor), 0);
	ck_assert(bytes_equal(cursor.key, text("e")));
	view_cursor_end(&cursor);
	view_close(view);
	temp_dir_remove(dir);
}
END_TEST

START_TEST(the_largest_rows_fit)
{
	static uint8_t key[VIEW_KEY_MAX], value[VIEW_VALUE_MAX];
	struct view *view;
	struct bytes got;

	temp_dir_make(dir);
	memset(key, 0xff, sizeof(key));
	memset(value, 0x55, sizeof(value));
	view = open_good(0);
	view_put(view, TABLE_XATTR, (struct bytes){ key, sizeof(key) }, (struct bytes){ value, sizeof(value) });
	view_put(view, TABLE_XATTR, (struct bytes){ key, 1 }, (struct bytes){ NULL, 0 });
	checkpoint(view, 1);
	ck_assert_int_eq(view_get(view, TABLE_XATTR, (struct bytes){ key, sizeof(key) }, &got), 0);
	ck_assert(bytes_equal(got, (struct bytes){ value, sizeof(value) }));
	ck_assert_int_eq(view_get(view, TABLE_XATTR, (struct bytes){ key, 1 }, &got), 0);
	ck_assert_uint_eq(got.size, 0);
	view_close(view);
	temp_dir_remove(dir);
}
END_TEST

/* --- against a model ------------------------------------------------------------------------------------------------ */

#define MODEL_KEYS 600
#define STEPS      30000

struct model {
	bool there;
	uint32_t stamp; /* the value is made from it */
};

static uint32_t random_state;

static uint32_t draw(uint32_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 17;
	random_state ^= random_state << 5;
	return random_state % below;
}

static struct bytes model_key(uint32_t number, char out[16])
{
	return (struct bytes){ out, (size_t)snprintf(out, 16, "%06u", number) };
}

static struct bytes model_value(uint32_t stamp, uint8_t out[512])
{
	size_t size = stamp % 512;

	memset(out, (int)(stamp & 0xff), size);
	return (struct bytes){ out, size };
}

static void model_change(struct view *view, struct model *model, uint32_t stamp)
{
	uint32_t number = draw(MODEL_KEYS);
	uint8_t value[512];
	char key[16];

	model[number] = (struct model){ .there = draw(3) != 0, .stamp = stamp };
	if (model[number].there)
		view_put(view, TABLE_SLOT, model_key(number, key), model_value(stamp, value));
	else
		view_del(view, TABLE_SLOT, model_key(number, key));
}

static void model_check_one(struct view *view, const struct model *model, uint32_t number)
{
	uint8_t value[512];
	struct bytes got;
	char key[16];
	int err = view_get(view, TABLE_SLOT, model_key(number, key), &got);

	ck_assert_int_eq(err, model[number].there ? 0 : -ENOENT);
	if (err == 0)
		ck_assert(bytes_equal(got, model_value(model[number].stamp, value)));
}

/* All rows from `from` on, by a cursor. */
static void model_check_from(struct view *view, const struct model *model, uint32_t from)
{
	struct view_cursor cursor;
	uint8_t value[512];
	char key[16];
	int err = view_seek(view, TABLE_SLOT, model_key(from, key), &cursor);

	for (uint32_t i = from; i < MODEL_KEYS; i++) {
		if (!model[i].there)
			continue;
		ck_assert_int_eq(err, 0);
		ck_assert(bytes_equal(cursor.key, model_key(i, key)));
		ck_assert(bytes_equal(cursor.value, model_value(model[i].stamp, value)));
		err = view_next(&cursor);
	}
	ck_assert_int_eq(err, -ENOENT);
}

START_TEST(random_changes_equal_the_model)
{
	static struct model model[MODEL_KEYS], frozen[MODEL_KEYS];
	struct view *view;
	uint64_t applied = 0;
	bool is_frozen = false, is_written = false;

	random_state = 0x5eed;
	temp_dir_make(dir);
	view = open_good(0);
	for (uint32_t step = 1; step <= STEPS; step++) {
		model_change(view, model, step);
		model_check_one(view, model, draw(MODEL_KEYS));
		if (draw(200) == 0)
			model_check_from(view, model, draw(MODEL_KEYS));
		if (draw(300) != 0)
			continue;
		if (!is_frozen) {
			view_freeze(view, step);
			memcpy(frozen, model, sizeof(frozen));
			applied = step;
			is_frozen = true;
		} else if (!is_written) {
			ck_assert_int_eq(view_write_frozen(view), 0);
			is_written = true;
		} else {
			view_thaw(view);
			is_frozen = is_written = false;
			model_check_from(view, model, 0);
		}
		/* A crash now: the last thing that LMDB has. */
		if (is_written && draw(4) == 0) {
			view_close(view);
			view = open_good(applied);
			memcpy(model, frozen, sizeof(model));
			model_check_from(view, model, 0);
			is_frozen = is_written = false;
		}
	}
	view_close(view);
	temp_dir_remove(dir);
}
END_TEST

/* What was looked up stays where it is until it is released, though the table that lends it is stored and retired. */
START_TEST(what_is_lent_outlives_its_table)
{
	struct view *view;
	struct bytes lent;
	char value[301];

	temp_dir_make(dir);
	view = open_good(0);
	memset(value, 'v', 300);
	value[300] = '\0';
	put(view, "lent", value);
	view_freeze(view, 1);
	ck_assert_int_eq(view_get(view, TABLE_INODE, text("lent"), &lent), 0);
	ck_assert_int_eq(view_write_frozen(view), 0);
	view_thaw(view);
	ck_assert(bytes_equal(lent, text(value)));
	view_release(view);
	ck_assert(has(view, "lent", value));
	view_close(view);
	temp_dir_remove(dir);
}
END_TEST

/* A checkpoint that is cut short by the end of the process is there as a whole, or not at all. */
START_TEST(a_checkpoint_is_one_transaction)
{
	struct view *view;
	pid_t pid;

	temp_dir_make(dir);
	view = open_good(0);
	put(view, "key", "old");
	checkpoint(view, 5);
	view_close(view);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		view = open_good(5);
		put(view, "key", "new");
		view_freeze(view, 6);
		die_after_commit = true;
		view_write_frozen(view);
		abort();
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	view = open_good(6);
	ck_assert(has(view, "key", "new"));
	view_close(view);
	temp_dir_remove(dir);
}
END_TEST

/* Then the log is cut: it has nothing of that any more. */
START_TEST(a_checkpoint_is_on_the_disk)
{
	struct view *view;

	temp_dir_make(dir);
	view = open_good(0);
	ck_assert(database_is_synced());
	for (uint64_t index = 1; index <= 3; index++) {
		put(view, "key", "value");
		view_freeze(view, index);
		ck_assert_int_eq(view_write_frozen(view), 0);
		ck_assert(database_is_synced());
		view_thaw(view);
		view_release(view);
	}
	view_close(view);
	temp_dir_remove(dir);
}
END_TEST

/* --- damage --------------------------------------------------------------------------------------------------------- */

static const char *data_path(void)
{
	static char path[PATH_MAX + 32];

	snprintf(path, sizeof(path), "%s/state/data.mdb", dir);
	return path;
}

static void make_state(void)
{
	struct view *view;
	char key[16];

	temp_dir_make(dir);
	view = open_good(0);
	for (uint32_t i = 0; i < 2000; i++)
		view_put(view, TABLE_INODE, model_key(i, key), text("a value that is easily found"));
	put(view, "damaged", "the value that will be damaged");
	checkpoint(view, 5);
	view_close(view);
}

static void expect_refused(int want_err, const char *words)
{
	struct view *view;
	uint64_t applied;

	ck_assert_int_eq(view_open(dir, &view, &applied, error, sizeof(error)), want_err);
	ck_assert_msg(strstr(error, words) != NULL, "%s", error);
	ck_assert_ptr_nonnull(strstr(error, "/state"));
}

START_TEST(a_state_cut_short_or_overwritten_is_refused)
{
	static uint8_t garbage[65536];
	struct stat stat_before;
	int fd;

	make_state();
	ck_assert_int_eq(stat(data_path(), &stat_before), 0);
	ck_assert_int_eq(truncate(data_path(), stat_before.st_size / 2), 0);
	expect_refused(-EBADMSG, "damaged");

	memset(garbage, 0xa5, sizeof(garbage));
	fd = open(data_path(), O_WRONLY | O_TRUNC);
	ck_assert_int_eq(write(fd, garbage, sizeof(garbage)), sizeof(garbage));
	close(fd);
	expect_refused(-EBADMSG, "damaged");
	temp_dir_remove(dir);
}
END_TEST

/* Change a byte of that text in LMDB's file, everywhere it stands. */
static void damage(const char *string)
{
	static uint8_t data[4 << 20];
	int fd = open(data_path(), O_RDWR), found = 0;
	ssize_t size = pread(fd, data, sizeof(data), 0);

	ck_assert_int_gt(size, 0);
	ck_assert_int_lt(size, sizeof(data));
	for (ssize_t i = 0; i + (ssize_t)strlen(string) <= size; i++) {
		if (memcmp(data + i, string, strlen(string)) != 0)
			continue;
		data[i + 3] ^= 4;
		found++;
	}
	ck_assert_int_gt(found, 0);
	ck_assert_int_eq(pwrite(fd, data, (size_t)size, 0), size);
	close(fd);
}

START_TEST(a_damaged_row_is_not_given_out)
{
	struct view *view;
	int status;
	pid_t pid;

	make_state();
	damage("the value that will be damaged");
	view = open_good(5);
	ck_assert(has(view, "000007", "a value that is easily found"));
	/* Written anew it is good again. */
	put(view, "damaged", "new");
	ck_assert(has(view, "damaged", "new"));
	view_close(view);

	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		view = open_good(5);
		has(view, "damaged", "");
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	temp_dir_remove(dir);
}
END_TEST

/* A table of the state, past the view. */
static MDB_txn *raw_begin(const char *table, MDB_env **ret_env, MDB_dbi *ret_dbi)
{
	char path[PATH_MAX + 16];
	MDB_txn *txn;

	snprintf(path, sizeof(path), "%s/state", dir);
	ck_assert_int_eq(mdb_env_create(ret_env), 0);
	ck_assert_int_eq(mdb_env_set_maxdbs(*ret_env, TABLE_COUNT), 0);
	ck_assert_int_eq(mdb_env_set_mapsize(*ret_env, (size_t)1 << 30), 0);
	ck_assert_int_eq(mdb_env_open(*ret_env, path, 0, 0600), 0);
	ck_assert_int_eq(mdb_txn_begin(*ret_env, NULL, 0, &txn), 0);
	ck_assert_int_eq(mdb_dbi_open(txn, table, 0, ret_dbi), 0);
	return txn;
}

/* Whole, and another key's. */
START_TEST(a_row_of_another_key_is_not_given_out)
{
	MDB_val from = { 6, (char[]){ "000008" } }, to = { 6, (char[]){ "000007" } }, row;
	struct view *view;
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;
	int status;
	pid_t pid;

	make_state();
	txn = raw_begin("inode", &env, &dbi);
	ck_assert_int_eq(mdb_get(txn, dbi, &from, &row), 0);
	ck_assert_int_eq(mdb_put(txn, dbi, &to, &row, 0), 0);
	ck_assert_int_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(env);

	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (pid == 0) {
		view = open_good(5);
		has(view, "000007", "");
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	temp_dir_remove(dir);
}
END_TEST

START_TEST(another_format_is_refused)
{
	const uint8_t head[] = { TABLE_META, 6, 0, 0 };
	const uint64_t format = htole64(99);
	struct {
		uint64_t number;
		uint32_t sum;
	} __attribute__((packed)) row = { .number = format };
	MDB_val key = { 6, (char[]){ "format" } }, value = { sizeof(row), &row };
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	make_state();
	row.sum = htole32(crc32c_more(crc32c_more(crc32c(head, sizeof(head)), "format", 6), &format, sizeof(format)));
	txn = raw_begin("meta", &env, &dbi);
	ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
	ck_assert_int_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
	expect_refused(-EINVAL, "format 99");
	temp_dir_remove(dir);
}
END_TEST

START_TEST(reading_changes_nothing)
{
	char path[PATH_MAX + 16];
	struct view_cursor cursor;
	struct view *view;
	uint64_t applied;

	temp_dir_make(dir);
	ck_assert_int_eq(view_open_to_read(dir, &view, &applied, error, sizeof(error)), 0);
	ck_assert_uint_eq(applied, 0);
	ck_assert(has_not(view, "key"));
	ck_assert_int_eq(view_seek(view, TABLE_INODE, text("k"), &cursor), -ENOENT);
	put(view, "key", "in memory");
	put(view, "key 2", "in memory, too");
	ck_assert_int_eq(view_seek(view, TABLE_INODE, text("k"), &cursor), 0);
	ck_assert(bytes_equal(cursor.value, text("in memory")));
	ck_assert_int_eq(view_next(&cursor), 0);
	ck_assert(bytes_equal(cursor.value, text("in memory, too")));
	ck_assert_int_eq(view_next(&cursor), -ENOENT);
	ck_assert_int_eq(view_next(&cursor), -ENOENT);
	view_close(view);
	snprintf(path, sizeof(path), "%s/state", dir);
	ck_assert_int_lt(access(path, F_OK), 0);

	view = open_good(0);
	put(view, "key", "stored");
	checkpoint(view, 5);
	view_close(view);
	ck_assert_int_eq(view_open_to_read(dir, &view, &applied, error, sizeof(error)), 0);
	ck_assert_uint_eq(applied, 5);
	ck_assert(has(view, "key", "stored"));
	put(view, "key", "in memory");
	ck_assert(has(view, "key", "in memory"));
	ck_assert_int_eq(view_seek(view, TABLE_INODE, text("k"), &cursor), 0);
	view_cursor_end(&cursor);
	view_close(view);
	view = open_good(5);
	ck_assert(has(view, "key", "stored"));
	view_close(view);
	temp_dir_remove(dir);
}
END_TEST

/* Without room in its map a checkpoint waits, as it does for a full disk: nothing is written, nothing forgotten. */
START_TEST(a_full_map_is_waited_for)
{
	static char much[VIEW_VALUE_MAX];
	struct view *view;
	char key[16];

	temp_dir_make(dir);
	map_size_most = 64 * 4096;
	view = open_good(0);
	put(view, "key", "old");
	checkpoint(view, 5);
	put(view, "key", "new");
	for (int i = 0; i < 10; i++) {
		snprintf(key, sizeof(key), "much%d", i);
		view_put(view, TABLE_INODE, text(key), (struct bytes){ much, sizeof(much) });
	}
	view_freeze(view, 6);
	ck_assert_int_eq(view_write_frozen(view), -ENOMEM);
	ck_assert_int_eq(view_write_frozen(view), -ENOMEM);
	ck_assert(has(view, "key", "new"));
	view_close(view);

	view = open_good(5);
	ck_assert(has(view, "key", "old"));
	put(view, "key", "newer");
	checkpoint(view, 6);
	view_close(view);
	temp_dir_remove(dir);
}
END_TEST

/* A shorter map will do where address space is short; the sanitizers need more of it themselves. */
START_TEST(little_address_space_is_enough)
{
#ifndef STRAKE_SAN
	struct rlimit limit = { (rlim_t)8 << 30, (rlim_t)8 << 30 };
	struct view *view;

	ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
	make_state();
	view = open_good(5);
	ck_assert(has(view, "000007", "a value that is easily found"));
	view_close(view);
	temp_dir_remove(dir);
#endif
}
END_TEST

UNIT_MAIN("view", upper_layers_hide_lower_ones, a_cursor_merges_and_ends, the_largest_rows_fit,
	  random_changes_equal_the_model, what_is_lent_outlives_its_table, a_checkpoint_is_one_transaction,
	  a_checkpoint_is_on_the_disk, a_state_cut_short_or_overwritten_is_refused, a_damaged_row_is_not_given_out,
	  a_row_of_another_key_is_not_given_out, another_format_is_refused, reading_changes_nothing,
	  a_full_map_is_waited_for, little_address_space_is_enough)
