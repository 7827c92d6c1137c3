#include "mds/view.h"

#include "common/bulk_sums.h"
#include "common/fd_io.h"
#include "common/lmdb_file.h"
#include "common/logger.h"
#include "mds/memtable.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT_VERSION 3                 /* 2: data_version, cut_index, wait_index; 3: name_version */
#define MAP_SIZE       ((size_t)1 << 40) /* address space, not memory */
#define SUM_SIZE       sizeof(uint32_t)
#define RESERVE_MAX    ((uint64_t)64 << 20)

_Static_assert(VIEW_KEY_MAX <= MEMTABLE_KEY_MAX && VIEW_VALUE_MAX <= MEMTABLE_VALUE_MAX, "a row fits the memory table");

static const char *const table_names[TABLE_COUNT] = {
	[TABLE_META] = "meta",       [TABLE_INODE] = "inode", [TABLE_DIRENT] = "dirent", [TABLE_XATTR] = "xattr",
	[TABLE_SESSION] = "session", [TABLE_SLOT] = "slot",   [TABLE_ORPHAN] = "orphan", [TABLE_DESTROY] = "destroy",
	[TABLE_CUT] = "cut",         [TABLE_VOID] = "void",
};

static const struct bytes applied_key = { "applied", 7 };
static const struct bytes format_key = { "format", 6 };

/* Bits of view_cursor.here. */
enum { HERE_ACTIVE = 1, HERE_FROZEN = 2, HERE_STORED = 4 };

struct view {
	char path[PATH_MAX];
	MDB_env *env;
	MDB_dbi dbi[TABLE_COUNT];
	MDB_txn *snapshot;             /* NULL: there is no state to read */
	MDB_cursor *idle[TABLE_COUNT]; /* opened before and not in use */
	unsigned int cursors;          /* in use */

	uint8_t seed[SIPHASH_KEY_SIZE];
	struct memtable *active, *frozen, *retired;
	uint64_t frozen_index;
};

static _Noreturn void die(const struct view *view, const char *why)
{
	logger_die("the MDT's state in %s cannot be used any more: %s", view->path, why);
}

static void check(const struct view *view, int rc)
{
	if (rc != 0)
		die(view, mdb_strerror(rc));
}

/* --- rows in LMDB: value, then sum ---------------------------------------------------------------------------------- */

static MDB_val val(struct bytes bytes)
{
	/* LMDB does not write to what it is given; its type does not say so. */
	return (MDB_val){ .mv_size = bytes.size, .mv_data = (void *)(uintptr_t)bytes.data };
}

static struct bytes val_bytes(MDB_val v)
{
	return (struct bytes){ v.mv_data, v.mv_size };
}

/* The key's size is in it: else a byte could go from key to value unseen. */
static uint32_t row_sum(enum view_table table, struct bytes key, struct bytes value)
{
	uint8_t head[4] = { (uint8_t)table, (uint8_t)key.size, (uint8_t)(key.size >> 8), 0 };
	uint32_t sum = crc32c(head, sizeof(head));

	sum = crc32c_more(sum, key.data, key.size);
	return crc32c_more(sum, value.data, value.size);
}

static int row_check(enum view_table table, struct bytes key, struct bytes row, struct bytes *ret_value)
{
	struct bytes value;
	uint32_t sum;

	if (row.size < SUM_SIZE || row.size > VIEW_VALUE_MAX + SUM_SIZE)
		return -EBADMSG;
	value = (struct bytes){ row.data, row.size - SUM_SIZE };
	memcpy(&sum, (const uint8_t *)row.data + value.size, SUM_SIZE);
	if (le32toh(sum) != row_sum(table, key, value))
		return -EBADMSG;
	*ret_value = value;
	return 0;
}

static struct bytes row_value(const struct view *view, enum view_table table, struct bytes key, struct bytes row)
{
	struct bytes value;

	if (row_check(table, key, row, &value) < 0)
		logger_die(
			"the MDT's state in %s is damaged: a row of table %s fails its sum; restore it from a backup",
			view->path, table_names[table]);
	return value;
}

static int row_put(MDB_cursor *cursor, enum view_table table, struct bytes key, struct bytes value)
{
	uint32_t sum = htole32(row_sum(table, key, value));
	MDB_val k = val(key), v = { .mv_size = value.size + SUM_SIZE };
	int rc = mdb_cursor_put(cursor, &k, &v, MDB_RESERVE);

	if (rc != 0)
		return rc;
	if (value.size > 0)
		memcpy(v.mv_data, value.data, value.size);
	memcpy((uint8_t *)v.mv_data + value.size, &sum, SUM_SIZE);
	return 0;
}

static int row_del(MDB_cursor *cursor, struct bytes key)
{
	MDB_val k = val(key);
	int rc = mdb_cursor_get(cursor, &k, NULL, MDB_SET);

	if (rc == MDB_NOTFOUND)
		return 0;
	return rc == 0 ? mdb_cursor_del(cursor, 0) : rc;
}

/* A number of the view's own. */
static int number_put(const struct view *view, MDB_txn *txn, struct bytes key, uint64_t number)
{
	uint64_t data = htole64(number);
	MDB_cursor *cursor;
	int rc = mdb_cursor_open(txn, view->dbi[TABLE_META], &cursor);

	if (rc != 0)
		return rc;
	rc = row_put(cursor, TABLE_META, key, (struct bytes){ &data, sizeof(data) });
	mdb_cursor_close(cursor);
	return rc;
}

/* MDB_NOTFOUND, MDB_CORRUPTED. */
static int number_get(const struct view *view, MDB_txn *txn, struct bytes key, uint64_t *ret_number)
{
	MDB_val k = val(key), v;
	struct bytes value;
	uint64_t data;
	int rc = mdb_get(txn, view->dbi[TABLE_META], &k, &v);

	if (rc != 0)
		return rc;
	if (row_check(TABLE_META, key, val_bytes(v), &value) < 0 || value.size != sizeof(data))
		return MDB_CORRUPTED;
	memcpy(&data, value.data, sizeof(data));
	*ret_number = le64toh(data);
	return 0;
}

/* --- opening -------------------------------------------------------------------------------------------------------- */

/* Take over what is there, or make it. */
static int open_tables(struct view *view, uint64_t *ret_version, uint64_t *ret_applied)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(view->env, NULL, 0, &txn);

	if (rc != 0)
		return rc;
	for (int table = 0; table < TABLE_COUNT && rc == 0; table++)
		rc = mdb_dbi_open(txn, table_names[table], MDB_CREATE, &view->dbi[table]);
	if (rc == 0)
		rc = number_get(view, txn, format_key, ret_version);
	if (rc == MDB_NOTFOUND) {
		*ret_version = FORMAT_VERSION;
		rc = number_put(view, txn, format_key, FORMAT_VERSION);
		if (rc == 0)
			rc = number_put(view, txn, applied_key, 0);
	}
	if (rc == 0) {
		rc = number_get(view, txn, applied_key, ret_applied);
		if (rc == MDB_NOTFOUND)
			rc = MDB_CORRUPTED;
	}
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}
	return mdb_txn_commit(txn);
}

/* Take over what is there. */
static int read_tables(struct view *view, uint64_t *ret_version, uint64_t *ret_applied)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(view->env, NULL, MDB_RDONLY, &txn);

	if (rc != 0)
		return rc;
	rc = mdb_dbi_open(txn, table_names[TABLE_META], 0, &view->dbi[TABLE_META]);
	if (rc == MDB_NOTFOUND) {
		mdb_txn_abort(txn);
		return ENOENT;
	}
	if (rc == 0)
		rc = number_get(view, txn, format_key, ret_version);
	if (rc == 0)
		rc = number_get(view, txn, applied_key, ret_applied);
	/* One of another format may have other tables. */
	for (int table = 0; table < TABLE_COUNT && rc == 0 && *ret_version == FORMAT_VERSION; table++)
		rc = mdb_dbi_open(txn, table_names[table], 0, &view->dbi[table]);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc == MDB_NOTFOUND ? MDB_CORRUPTED : rc;
	}
	return mdb_txn_commit(txn); /* what was opened stays open */
}

/* LMDB syncs its file, not the folders that lead to it. */
static int make_dir(const char *dir, const char *path)
{
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : fd_sync_folder(dir);
}

static int make_state(struct view *view, uint64_t *ret_version, uint64_t *ret_applied)
{
	int dead, rc = lmdb_file_open(view->path, TABLE_COUNT, MAP_SIZE, &view->env);

	if (rc == 0)
		rc = mdb_reader_check(view->env, &dead);
	if (rc == 0)
		rc = open_tables(view, ret_version, ret_applied);
	if (rc == 0)
		rc = -fd_sync_folder(view->path);
	return rc;
}

/* ENOENT: there is none; nor when the first start was cut short before it had tables. */
static int read_state(struct view *view, uint64_t *ret_version, uint64_t *ret_applied)
{
	int rc = lmdb_file_open_to_read(view->path, TABLE_COUNT, MAP_SIZE, &view->env);

	return rc == 0 ? read_tables(view, ret_version, ret_applied) : rc;
}

/* An LMDB error, or that of another format, to a sentence. */
static int state_refused(const struct view *view, int rc, uint64_t version, char *error, size_t error_size)
{
	if (rc == 0) {
		snprintf(error, error_size,
			 "%s: the state has format %llu, this program knows only %d; run the strake-mds that made it",
			 view->path, (unsigned long long)version, FORMAT_VERSION);
		return -EINVAL;
	}
	if (rc > 0) {
		snprintf(error, error_size, "%s: the state cannot be opened: %s", view->path, lmdb_file_error(rc));
		return -rc;
	}
	snprintf(error, error_size, "%s: the state is damaged (%s); restore it from a backup", view->path,
		 mdb_strerror(rc));
	return -EBADMSG;
}

static int open_state(struct view *view, const char *dir, bool to_read, uint64_t *ret_applied, char *error,
		      size_t error_size)
{
	uint64_t version = FORMAT_VERSION;
	int rc, err = to_read ? 0 : make_dir(dir, view->path);

	if (err < 0) {
		snprintf(error, error_size, "%s: cannot be made: %s", view->path, strerror(-err));
		return err;
	}
	*ret_applied = 0;
	rc = to_read ? read_state(view, &version, ret_applied) : make_state(view, &version, ret_applied);
	if (to_read && rc == ENOENT)
		return 0;
	if (rc == 0 && version == FORMAT_VERSION)
		rc = mdb_txn_begin(view->env, NULL, MDB_RDONLY, &view->snapshot);
	if (rc != 0 || version != FORMAT_VERSION)
		return state_refused(view, rc, version, error, error_size);
	if (!to_read)
		lmdb_file_reserve(view->env, RESERVE_MAX);
	return 0;
}

static int open_view(const char *dir, bool to_read, struct view **ret_view, uint64_t *ret_applied, char *error,
		     size_t error_size)
{
	struct view *view = calloc(1, sizeof(*view));
	int err;

	if (!view) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	while (getrandom(view->seed, sizeof(view->seed), 0) != sizeof(view->seed))
		assert(errno == EINTR);
	if ((size_t)snprintf(view->path, sizeof(view->path), "%s/state", dir) >= sizeof(view->path)) {
		snprintf(error, error_size, "%s: the path is too long", dir);
		err = -ENAMETOOLONG;
	} else {
		err = open_state(view, dir, to_read, ret_applied, error, error_size);
	}
	if (err < 0) {
		view_close(view);
		return err;
	}
	view->active = memtable_new(0);
	*ret_view = view;
	return 0;
}

int view_open(const char *dir, struct view **ret_view, uint64_t *ret_applied, char *error, size_t error_size)
{
	return open_view(dir, false, ret_view, ret_applied, error, error_size);
}

int view_open_to_read(const char *dir, struct view **ret_view, uint64_t *ret_applied, char *error, size_t error_size)
{
	return open_view(dir, true, ret_view, ret_applied, error, error_size);
}

struct view *view_close(struct view *view)
{
	if (!view)
		return NULL;
	assert(view->cursors == 0);
	for (int table = 0; table < TABLE_COUNT; table++) {
		if (view->idle[table])
			mdb_cursor_close(view->idle[table]);
	}
	if (view->snapshot)
		mdb_txn_abort(view->snapshot);
	if (view->env)
		mdb_env_close(view->env);
	memtable_free(view->active);
	memtable_free(view->frozen);
	memtable_free(view->retired);
	free(view);
	return NULL;
}

/* --- rows ----------------------------------------------------------------------------------------------------------- */

static void check_key(enum view_table table, struct bytes key)
{
	assert(table < TABLE_COUNT && key.size > 0 && key.size <= VIEW_KEY_MAX);
}

int view_get(struct view *view, enum view_table table, struct bytes key, struct bytes *ret_value)
{
	struct memtable_key memory_key = memtable_key(view->seed, (uint8_t)table, key);
	const struct memtable_entry *entry;
	MDB_val k = val(key), v;
	int rc;

	check_key(table, key);
	entry = memtable_find(view->active, &memory_key);
	if (!entry && view->frozen)
		entry = memtable_find(view->frozen, &memory_key);
	if (entry) {
		if (entry->deleted)
			return -ENOENT;
		*ret_value = memtable_entry_value(entry);
		return 0;
	}
	rc = view->snapshot ? mdb_get(view->snapshot, view->dbi[table], &k, &v) : MDB_NOTFOUND;
	if (rc == MDB_NOTFOUND)
		return -ENOENT;
	check(view, rc);
	*ret_value = row_value(view, table, key, val_bytes(v));
	return 0;
}

void view_put(struct view *view, enum view_table table, struct bytes key, struct bytes value)
{
	struct memtable_key memory_key = memtable_key(view->seed, (uint8_t)table, key);

	check_key(table, key);
	assert(value.size <= VIEW_VALUE_MAX);
	memtable_put(view->active, &memory_key, value);
}

void view_del(struct view *view, enum view_table table, struct bytes key)
{
	struct memtable_key memory_key = memtable_key(view->seed, (uint8_t)table, key);

	check_key(table, key);
	memtable_delete(view->active, &memory_key);
}

void view_limit_mapped(struct view *view)
{
	lmdb_file_limit_mapped(view->env, VIEW_MAPPED_MAX);
}

/* --- cursors -------------------------------------------------------------------------------------------------------- */

static const struct memtable_entry *in_table(const struct memtable_entry *entry, enum view_table table)
{
	return entry && entry->table == table ? entry : NULL;
}

static void stored_take(struct view_cursor *cursor)
{
	struct view *view = cursor->view;

	if (!view->snapshot)
		return;
	cursor->stored = view->idle[cursor->table];
	view->idle[cursor->table] = NULL;
	if (!cursor->stored)
		check(view, mdb_cursor_open(view->snapshot, view->dbi[cursor->table], &cursor->stored));
	view->cursors++;
}

static void stored_move(struct view_cursor *cursor, MDB_cursor_op op, struct bytes from)
{
	MDB_val k = val(from), v;
	int rc = cursor->stored ? mdb_cursor_get(cursor->stored, &k, &v, op) : MDB_NOTFOUND;

	if (rc == MDB_NOTFOUND) {
		cursor->stored_key = (struct bytes){ NULL, 0 };
		return;
	}
	check(cursor->view, rc);
	cursor->stored_key = val_bytes(k);
	cursor->stored_row = val_bytes(v);
}

/* Does this layer's key come first, or is it the same as those found first? */
static void meet(struct view_cursor *cursor, unsigned int layer, struct bytes key)
{
	int order = cursor->here == 0 ? -1 : bytes_compare(key, cursor->key);

	if (order > 0)
		return;
	if (order < 0) {
		cursor->key = key;
		cursor->here = 0;
	}
	cursor->here |= layer;
}

/* Put it on the first key that any layer has; false when none has any. */
static bool choose(struct view_cursor *cursor)
{
	cursor->here = 0;
	if (cursor->active)
		meet(cursor, HERE_ACTIVE, memtable_entry_key(cursor->active));
	if (cursor->frozen)
		meet(cursor, HERE_FROZEN, memtable_entry_key(cursor->frozen));
	if (cursor->stored_key.data)
		meet(cursor, HERE_STORED, cursor->stored_key);
	return cursor->here != 0;
}

/* Take the value from the uppermost layer that has the key; false: it is deleted there. */
static bool take_value(struct view_cursor *cursor)
{
	const struct memtable_entry *entry = (cursor->here & HERE_ACTIVE)   ? cursor->active
					     : (cursor->here & HERE_FROZEN) ? cursor->frozen
									    : NULL;

	if (!entry)
		cursor->value = row_value(cursor->view, cursor->table, cursor->key, cursor->stored_row);
	else
		cursor->value = memtable_entry_value(entry);
	return !entry || !entry->deleted;
}

static void advance(struct view_cursor *cursor)
{
	if (cursor->here & HERE_ACTIVE)
		cursor->active = in_table(memtable_next(cursor->active), cursor->table);
	if (cursor->here & HERE_FROZEN)
		cursor->frozen = in_table(memtable_next(cursor->frozen), cursor->table);
	if (cursor->here & HERE_STORED)
		stored_move(cursor, MDB_NEXT, (struct bytes){ NULL, 0 });
}

static int settle(struct view_cursor *cursor)
{
	while (choose(cursor)) {
		if (take_value(cursor))
			return 0;
		advance(cursor);
	}
	view_cursor_end(cursor);
	return -ENOENT;
}

int view_seek(struct view *view, enum view_table table, struct bytes from, struct view_cursor *ret_cursor)
{
	struct view_cursor *cursor = ret_cursor;

	assert(table < TABLE_COUNT && from.size <= VIEW_KEY_MAX);
	*cursor = (struct view_cursor){ .view = view, .table = table };
	cursor->active = in_table(memtable_seek(view->active, (uint8_t)table, from), table);
	if (view->frozen)
		cursor->frozen = in_table(memtable_seek(view->frozen, (uint8_t)table, from), table);
	stored_take(cursor);
	stored_move(cursor, from.size == 0 ? MDB_FIRST : MDB_SET_RANGE, from);
	return settle(cursor);
}

int view_next(struct view_cursor *cursor)
{
	if (cursor->here == 0) /* it has ended */
		return -ENOENT;
	advance(cursor);
	return settle(cursor);
}

void view_cursor_end(struct view_cursor *cursor)
{
	struct view *view = cursor->view;

	if (!cursor->stored)
		return;
	if (view->idle[cursor->table])
		mdb_cursor_close(cursor->stored);
	else
		view->idle[cursor->table] = cursor->stored;
	cursor->stored = NULL;
	view->cursors--;
}

/* --- checkpoints ---------------------------------------------------------------------------------------------------- */

size_t view_active_bytes(const struct view *view)
{
	return memtable_bytes(view->active);
}

bool view_is_frozen(const struct view *view)
{
	return view->frozen != NULL;
}

void view_freeze(struct view *view, uint64_t index)
{
	assert(!view->frozen);
	view->frozen = view->active;
	view->frozen_index = index;
	view->active = memtable_new(memtable_count(view->frozen));
}

/* The entries come in order, so one cursor per table seldom has to go down from the root. */
static int write_rows(struct view *view, MDB_txn *txn)
{
	const struct memtable_entry *entry = memtable_seek(view->frozen, 0, (struct bytes){ NULL, 0 });
	MDB_cursor *cursor = NULL;
	int table = -1, rc = 0;

	for (; entry && rc == 0; entry = memtable_next(entry)) {
		struct bytes key = memtable_entry_key(entry);

		if (table != entry->table) {
			if (cursor)
				mdb_cursor_close(cursor);
			cursor = NULL;
			table = entry->table;
			rc = mdb_cursor_open(txn, view->dbi[table], &cursor);
			if (rc != 0)
				break;
		}
		rc = entry->deleted ? row_del(cursor, key)
				    : row_put(cursor, entry->table, key, memtable_entry_value(entry));
	}
	if (cursor)
		mdb_cursor_close(cursor);
	return rc;
}

int view_write_frozen(struct view *view)
{
	MDB_txn *txn;
	int rc;

	check(view, mdb_txn_begin(view->env, NULL, 0, &txn));
	rc = write_rows(view, txn);
	if (rc == 0)
		rc = number_put(view, txn, applied_key, view->frozen_index);
	if (rc == 0)
		rc = mdb_txn_commit(txn);
	else
		mdb_txn_abort(txn);
	if (lmdb_file_is_full(view->env, rc))
		return rc == MDB_MAP_FULL ? -ENOMEM : -ENOSPC;
	check(view, rc);
	lmdb_file_reserve(view->env, RESERVE_MAX);
	return 0;
}

void view_thaw(struct view *view)
{
	assert(view->frozen && view->cursors == 0);
	mdb_txn_reset(view->snapshot);
	check(view, mdb_txn_renew(view->snapshot));
	for (int table = 0; table < TABLE_COUNT; table++) {
		if (view->idle[table])
			check(view, mdb_cursor_renew(view->snapshot, view->idle[table]));
	}
	view_release(view);
	view->retired = view->frozen;
	view->frozen = NULL;
}

void view_release(struct view *view)
{
	view->retired = memtable_free(view->retired);
}
