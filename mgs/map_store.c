#include "mgs/map_store.h"
#include "common/bulk_sums.h"
#include "common/fd_io.h"
#include "common/lmdb_file.h"
#include "common/uuid.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAP_SIZE  (256ul * 1024 * 1024) /* sparse; 4096 targets are some MiB */
#define EPOCH_KEY "epoch"

struct map_store {
	MDB_env *env;
	MDB_dbi meta, target;
};

/* LMDB has error numbers of its own besides errno's. */
static int store_error(int rc)
{
	switch (rc) {
	case 0:
		return 0;
	case MDB_NOTFOUND:
		return -ENOENT;
	case MDB_MAP_FULL:
	case MDB_TXN_FULL:
	case MDB_DBS_FULL:
		return -ENOSPC;
	case MDB_CORRUPTED:
	case MDB_PAGE_NOTFOUND:
	case MDB_PANIC:
	case MDB_VERSION_MISMATCH:
	case MDB_INVALID:
	case MDB_INCOMPATIBLE:
		return -EBADMSG;
	default:
		return rc > 0 ? -rc : -EIO;
	}
}

static int store_open_tables(struct map_store *store)
{
	MDB_txn *txn;
	int rc = mdb_txn_begin(store->env, NULL, 0, &txn);

	if (rc)
		return store_error(rc);
	rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &store->meta);
	if (rc == 0)
		rc = mdb_dbi_open(txn, "target", MDB_CREATE, &store->target);
	if (rc) {
		mdb_txn_abort(txn);
		return store_error(rc);
	}
	return store_error(mdb_txn_commit(txn));
}

int map_store_open(const char *dir, struct map_store **ret_store)
{
	struct map_store *store = calloc(1, sizeof(*store));
	char *path = NULL;
	int err;

	if (!store || asprintf(&path, "%s/map", dir) < 0) {
		free(store);
		return -ENOMEM;
	}
	err = mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
	if (err == 0)
		err = store_error(lmdb_file_make(path));
	if (err == 0)
		err = store_error(mdb_env_create(&store->env));
	if (err == 0)
		err = store_error(mdb_env_set_mapsize(store->env, MAP_SIZE));
	if (err == 0)
		err = store_error(mdb_env_set_maxdbs(store->env, 2));
	if (err == 0)
		err = store_error(mdb_env_open(store->env, path, 0, 0600));
	if (err == 0)
		err = store_open_tables(store);
	/* LMDB syncs its file, not the folders that lead to it. */
	if (err == 0)
		err = fd_sync_folder(path);
	if (err == 0)
		err = fd_sync_folder(dir);
	free(path);
	if (err) {
		map_store_close(store);
		return err;
	}
	*ret_store = store;
	return 0;
}

struct map_store *map_store_close(struct map_store *store)
{
	if (!store)
		return NULL;
	if (store->env)
		mdb_env_close(store->env);
	free(store);
	return NULL;
}

/* --- reading ---------------------------------------------------------------------------------------------------- */

static int load_epoch(struct map_store *store, MDB_txn *txn, uint64_t *ret_epoch)
{
	char name[] = EPOCH_KEY;
	MDB_val key = { .mv_size = sizeof(name) - 1, .mv_data = name }, value;
	uint64_t epoch;
	int rc = mdb_get(txn, store->meta, &key, &value);

	if (rc == MDB_NOTFOUND) {
		*ret_epoch = 0;
		return 0;
	}
	if (rc)
		return store_error(rc);
	if (value.mv_size != sizeof(epoch))
		return -EBADMSG;
	memcpy(&epoch, value.mv_data, sizeof(epoch));
	*ret_epoch = le64toh(epoch);
	return 0;
}

static Strake__Target *row_decode(const MDB_val *key, const MDB_val *value)
{
	const uint8_t *bytes = value->mv_data;
	Strake__Target *target;
	uint32_t sum;

	if (value->mv_size < sizeof(sum))
		return NULL;
	memcpy(&sum, bytes, sizeof(sum));
	if (crc32c(bytes + sizeof(sum), value->mv_size - sizeof(sum)) != le32toh(sum))
		return NULL;
	target = strake__target__unpack(NULL, value->mv_size - sizeof(sum), bytes + sizeof(sum));
	if (target &&
	    (target->uuid.len != key->mv_size || memcmp(target->uuid.data, key->mv_data, key->mv_size) != 0)) {
		strake__target__free_unpacked(target, NULL);
		return NULL;
	}
	return target;
}

static int load_targets(struct map_store *store, MDB_txn *txn, int (*each)(void *arg, const Strake__Target *target),
			void *arg)
{
	MDB_cursor *cursor;
	MDB_val key, value;
	int err = 0, rc = mdb_cursor_open(txn, store->target, &cursor);

	if (rc)
		return store_error(rc);
	while (err == 0 && (rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0) {
		Strake__Target *target = row_decode(&key, &value);

		err = target ? each(arg, target) : -EBADMSG;
		if (target)
			strake__target__free_unpacked(target, NULL);
	}
	mdb_cursor_close(cursor);
	if (err == 0 && rc != MDB_NOTFOUND)
		err = store_error(rc);
	return err;
}

int map_store_load_epoch(struct map_store *store, uint64_t *ret_epoch)
{
	MDB_txn *txn;
	int err = store_error(mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn));

	if (err)
		return err;
	err = load_epoch(store, txn, ret_epoch);
	mdb_txn_abort(txn);
	return err;
}

int map_store_load_targets(struct map_store *store, int (*each)(void *arg, const Strake__Target *target), void *arg)
{
	MDB_txn *txn;
	int err = store_error(mdb_txn_begin(store->env, NULL, MDB_RDONLY, &txn));

	if (err)
		return err;
	err = load_targets(store, txn, each, arg);
	mdb_txn_abort(txn);
	return err;
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

static int save_epoch(struct map_store *store, MDB_txn *txn, uint64_t epoch)
{
	char name[] = EPOCH_KEY;
	uint64_t number = htole64(epoch);
	MDB_val key = { .mv_size = sizeof(name) - 1, .mv_data = name };
	MDB_val value = { .mv_size = sizeof(number), .mv_data = &number };

	return store_error(mdb_put(txn, store->meta, &key, &value, 0));
}

static int save_target(struct map_store *store, MDB_txn *txn, const Strake__Target *target)
{
	size_t size = strake__target__get_packed_size(target);
	MDB_val key = { .mv_size = target->uuid.len, .mv_data = target->uuid.data };
	MDB_val value = { .mv_size = sizeof(uint32_t) + size };
	uint32_t sum;
	uint8_t *bytes = malloc(value.mv_size);
	int err;

	assert(target->uuid.len == UUID_SIZE);
	if (!bytes)
		return -ENOMEM;
	strake__target__pack(target, bytes + sizeof(sum));
	sum = htole32(crc32c(bytes + sizeof(sum), size));
	memcpy(bytes, &sum, sizeof(sum));
	value.mv_data = bytes;
	err = store_error(mdb_put(txn, store->target, &key, &value, 0));
	free(bytes);
	return err;
}

int map_store_save(struct map_store *store, uint64_t epoch, const Strake__Target *const *targets, size_t count)
{
	MDB_txn *txn;
	int err = store_error(mdb_txn_begin(store->env, NULL, 0, &txn));

	if (err)
		return err;
	err = save_epoch(store, txn, epoch);
	for (size_t i = 0; i < count && err == 0; i++)
		err = save_target(store, txn, targets[i]);
	if (err) {
		mdb_txn_abort(txn);
		return err;
	}
	return store_error(mdb_txn_commit(txn));
}
