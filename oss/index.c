#include "oss/index_internal.h"

#include "common/container_of.h"
#include "common/fd_io.h"
#include "common/fiber.h"
#include "common/lmdb_file.h"
#include "common/logger.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT_VERSION 1
#define MAP_SIZE       ((size_t)128 << 30) /* address space, not memory: a thousand million objects */
#define RESERVE_MAX    ((uint64_t)16 << 20)
#define PENDING_MANY   8192
#define RETRY_MS       1000

static const char *const table_names[INDEX_KINDS] = { "object", "file", "tombstone", "void" };

#define index_of_timer(pointer) container_of(pointer, struct index, timer)
#define index_of_done(pointer)  container_of(pointer, struct index, done)

int index_errno(int rc)
{
	if (rc == 0)
		return 0;
	if (rc == MDB_NOTFOUND)
		return -ENOENT;
	if (rc == MDB_MAP_FULL)
		return -ENOSPC;

	return rc > 0 ? -rc : -EIO;
}

_Noreturn void index_die(const struct index *index, const char *why)
{
	logger_die("the index %s cannot be used any more: %s", index->path, why);
}

/* --- transactions --------------------------------------------------------------------------------------------------- */

MDB_val index_key_bytes(uint8_t bytes[INDEX_KEY_SIZE], const struct index_key *key)
{
	index_key_encode(key, bytes);

	return (MDB_val){ .mv_size = INDEX_KEY_SIZE, .mv_data = bytes };
}

int index_apply(struct index *index, MDB_txn *txn, const struct index_key *key, const union index_value *value)
{
	uint8_t key_data[INDEX_KEY_SIZE], value_data[INDEX_VALUE_SIZE];
	MDB_val k = index_key_bytes(key_data, key), v;
	int rc;

	if (!value) {
		rc = mdb_del(txn, index->dbi[key->kind], &k, NULL);
		return rc == MDB_NOTFOUND ? 0 : rc;
	}
	v = (MDB_val){ .mv_size = index_value_encode(key, value, value_data), .mv_data = value_data };

	return mdb_put(txn, index->dbi[key->kind], &k, &v, 0);
}

int index_read(struct index *index, MDB_txn *txn, const struct index_key *key, union index_value *ret_value)
{
	uint8_t key_data[INDEX_KEY_SIZE];
	MDB_val k = index_key_bytes(key_data, key), v;
	int rc;

	rc = mdb_get(txn, index->dbi[key->kind], &k, &v);
	if (rc != 0)
		return index_errno(rc);

	return index_value_decode(key, v.mv_data, v.mv_size, ret_value);
}

static int meta_put(struct index *index, MDB_txn *txn, const char *name, const void *data, size_t size)
{
	char key[16];
	uint8_t value[32];
	MDB_val k = { .mv_size = strlen(name), .mv_data = key }, v = { .mv_size = size, .mv_data = value };

	assert(strlen(name) < sizeof(key) && size <= sizeof(value));
	memcpy(key, name, strlen(name));
	memcpy(value, data, size);

	return mdb_put(txn, index->meta, &k, &v, 0);
}

static int meta_get(struct index *index, MDB_txn *txn, const char *name, void *out, size_t size)
{
	char key[16];
	MDB_val k = { .mv_size = strlen(name), .mv_data = key }, v;
	int rc;

	assert(strlen(name) < sizeof(key));
	memcpy(key, name, strlen(name));
	rc = mdb_get(txn, index->meta, &k, &v);
	if (rc != 0)
		return index_errno(rc);
	if (v.mv_size != size)
		return -EBADMSG;
	memcpy(out, v.mv_data, size);

	return 0;
}

/* The mark of a clean stop; 0 takes it away. */
static int set_clean(struct index *index, uint64_t instance)
{
	char key[] = "clean";
	MDB_val k = { .mv_size = strlen(key), .mv_data = key };
	MDB_txn *txn;
	int rc;

	rc = mdb_txn_begin(index->env, NULL, 0, &txn);
	if (rc != 0)
		return index_errno(rc);
	if (instance != 0)
		rc = meta_put(index, txn, "clean", &instance, sizeof(instance));
	else
		rc = mdb_del(txn, index->meta, &k, NULL);
	if (rc == MDB_NOTFOUND) {
		mdb_txn_abort(txn);
		return 0;
	}
	if (rc != 0) {
		mdb_txn_abort(txn);
		return index_errno(rc);
	}

	return index_errno(mdb_txn_commit(txn));
}

/* --- opening and closing ---------------------------------------------------------------------------------------------- */

static int open_tables(struct index *index, MDB_txn *txn)
{
	int rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &index->meta);

	for (int kind = 0; kind < INDEX_KINDS && rc == 0; kind++)
		rc = mdb_dbi_open(txn, table_names[kind], MDB_CREATE, &index->dbi[kind]);

	return rc;
}

/* Ours, and of a format we know? Or new: then it becomes ours. */
static int check_meta(struct index *index, MDB_txn *txn, const struct uuid *target, bool make, bool *ret_clean,
		      char *error, size_t error_size)
{
	uint32_t version = FORMAT_VERSION;
	struct uuid owner;
	int err;

	err = meta_get(index, txn, "target", &owner, sizeof(owner));
	if (err == -ENOENT) {
		if (!make) {
			snprintf(error, error_size, "%s: there is no index", index->path);
			return -ENOENT;
		}
		*ret_clean = true;
		err = index_errno(meta_put(index, txn, "target", target, sizeof(*target)));
		if (err == 0)
			err = index_errno(meta_put(index, txn, "format", &version, sizeof(version)));
		if (err < 0)
			snprintf(error, error_size, "%s: cannot be written: %s", index->path, strerror(-err));
		return err;
	}
	if (err == 0)
		err = meta_get(index, txn, "format", &version, sizeof(version));
	if (err < 0) {
		snprintf(error, error_size, "%s: the index is damaged; restore it from a backup", index->path);
		return -EINVAL;
	}
	if (version != FORMAT_VERSION) {
		snprintf(error, error_size,
			 "%s: the index has format %u, this program knows %u; run a newer strake-oss", index->path,
			 version, FORMAT_VERSION);
		return -EINVAL;
	}
	if (!uuid_equal(&owner, target)) {
		snprintf(error, error_size, "%s: the index belongs to another target; restore the right folder",
			 index->path);
		return -EINVAL;
	}
	if (meta_get(index, txn, "clean", &index->clean_instance, sizeof(index->clean_instance)) < 0)
		index->clean_instance = 0;
	*ret_clean = index->clean_instance != 0;

	return 0;
}

static int open_env(struct index *index, const char *dir, const struct uuid *target, bool make, bool *ret_clean,
		    char *error, size_t error_size)
{
	MDB_txn *txn;
	int err, rc;

	if (mkdir(index->path, 0700) < 0 && errno != EEXIST) {
		err = -errno;
		snprintf(error, error_size, "%s: cannot be made: %s", index->path, strerror(-err));
		return err;
	}
	rc = lmdb_file_open(index->path, 1 + INDEX_KINDS, MAP_SIZE, &index->env);
	if (rc == 0)
		rc = mdb_txn_begin(index->env, NULL, 0, &txn);
	if (rc != 0) {
		snprintf(error, error_size, "%s: the index %s (%s)%s", index->path,
			 rc < 0 ? "is damaged" : "cannot be opened", lmdb_file_error(rc),
			 rc < 0 ? "; restore it from a backup" : "");
		return rc < 0 ? -EINVAL : -rc;
	}
	rc = open_tables(index, txn);
	if (rc != 0) {
		mdb_txn_abort(txn);
		snprintf(error, error_size, "%s: the index is damaged (%s); restore it from a backup", index->path,
			 mdb_strerror(rc));
		return -EINVAL;
	}
	err = check_meta(index, txn, target, make, ret_clean, error, error_size);
	if (err < 0) {
		mdb_txn_abort(txn);
		return err;
	}
	err = index_errno(mdb_txn_commit(txn));
	/* LMDB syncs its file, not the folders that lead to it. */
	if (err == 0)
		err = fd_sync_folder(index->path);
	if (err == 0)
		err = fd_sync_folder(dir);
	if (err < 0)
		snprintf(error, error_size, "%s: cannot be written: %s", index->path, strerror(-err));

	return err;
}

int index_open(const char *dir, const struct uuid *target, bool make, struct index **ret_index, bool *ret_clean,
	       char *error, size_t error_size)
{
	struct index *index = calloc(1, sizeof(*index));
	int err;

	if (!index) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}
	snprintf(index->path, sizeof(index->path), "%s/index", dir);
	err = open_env(index, dir, target, make, ret_clean, error, error_size);
	if (err < 0) {
		mdb_env_close(index->env);
		free(index);
		return err;
	}
	lmdb_file_reserve(index->env, RESERVE_MAX);
	*ret_index = index;

	return 0;
}

static int open_snapshot(struct index *index)
{
	int rc = mdb_txn_begin(index->env, NULL, MDB_RDONLY, &index->snapshot);

	for (int kind = 0; kind < INDEX_KINDS && rc == 0; kind++)
		rc = mdb_cursor_open(index->snapshot, index->dbi[kind], &index->cursor[kind]);

	return index_errno(rc);
}

static void close_snapshot(struct index *index)
{
	for (int kind = 0; kind < INDEX_KINDS; kind++) {
		if (index->cursor[kind])
			mdb_cursor_close(index->cursor[kind]);
		index->cursor[kind] = NULL;
	}
	if (index->snapshot)
		mdb_txn_abort(index->snapshot);
	index->snapshot = NULL;
}

uint64_t index_clean_instance(const struct index *index)
{
	return index->clean_instance;
}

int index_close(struct index *index, uint64_t clean_instance)
{
	int err = 0;

	if (!index)
		return 0;
	if (index->loop) {
		/* Its post must not arrive when we are gone. */
		while (index->committing)
			fiber_wait(&index->waiters, NULL);
		pthread_mutex_lock(&index->lock);
		index->stop = true;
		pthread_cond_signal(&index->work);
		pthread_mutex_unlock(&index->lock);
		pthread_join(index->thread, NULL);
		pthread_mutex_destroy(&index->lock);
		pthread_cond_destroy(&index->work);
		loop_timer_cancel(&index->timer);
	}
	close_snapshot(index);
	if (clean_instance != 0) {
		assert(index->durable_last == index->last);
		err = set_clean(index, clean_instance);
	}
	index_changes_free(index->announced);
	index_changes_free(index->pending);
	index_changes_free(index->frozen);
	mdb_env_close(index->env);
	free(index);

	return err;
}

/* --- commits ---------------------------------------------------------------------------------------------------------- */

static int write_frozen(struct index *index)
{
	const struct index_change *change;
	MDB_txn *txn;
	int rc;

	rc = mdb_txn_begin(index->env, NULL, 0, &txn);
	if (rc != 0)
		return rc;
	for (change = index->frozen->first[0]; change && rc == 0; change = change->next[0])
		rc = index_apply(index, txn, &change->key, change->deleted ? NULL : &change->value);
	if (rc != 0) {
		mdb_txn_abort(txn);
		return rc;
	}

	return mdb_txn_commit(txn);
}

static int commit(struct index *index)
{
	int rc = write_frozen(index);

	if (rc == 0) {
		index->map_full_said = false;
		lmdb_file_reserve(index->env, RESERVE_MAX);
		return 0;
	}
	if (rc == MDB_MAP_FULL && !index->map_full_said) {
		index->map_full_said = true;
		log_error("the index %s cannot be stored: %s", index->path, lmdb_file_error(rc));
	}
	if (rc == EIO || rc == EROFS) {
		log_error("the index %s cannot be stored: %s; this OST reads on, and writes no more", index->path,
			  strerror(rc));
		return -EIO;
	}
	if (!lmdb_file_is_full(index->env, rc))
		index_die(index, mdb_strerror(rc));

	return rc == EDQUOT ? -EDQUOT : -ENOSPC;
}

static void *index_main(void *arg)
{
	struct index *index = arg;

	pthread_mutex_lock(&index->lock);
	while (!index->stop) {
		if (!index->wanted) {
			pthread_cond_wait(&index->work, &index->lock);
			continue;
		}
		index->wanted = false;
		pthread_mutex_unlock(&index->lock);
		index->done_err = commit(index);
		loop_post(index->loop, &index->done);
		pthread_mutex_lock(&index->lock);
	}
	pthread_mutex_unlock(&index->lock);

	return NULL;
}

/* Have the thread commit what there is, unless it is at it. */
static void kick(struct index *index)
{
	if (index->committing || index->broken)
		return;
	if (!index->frozen) {
		struct index_changes *fresh;

		if (index->pending->count == 0)
			return;
		fresh = index_changes_new();
		if (!fresh)
			index_die(index, "out of memory");
		index->frozen = index->pending;
		index->frozen_last = index->last;
		index->pending = fresh;
	}
	index->committing = true;
	loop_timer_cancel(&index->timer);
	pthread_mutex_lock(&index->lock);
	index->wanted = true;
	pthread_cond_signal(&index->work);
	pthread_mutex_unlock(&index->lock);
}

static void timer_expired(struct loop_timer *timer)
{
	kick(index_of_timer(timer));
}

static void set_timer(struct index *index, uint64_t ms)
{
	if (!index->timer.loop && !index->committing && !index->broken)
		loop_timer_set(index->loop, &index->timer, clock_ns() + ms * NSEC_PER_MSEC);
}

static void renew_snapshot(struct index *index)
{
	int rc;

	mdb_txn_reset(index->snapshot);
	rc = mdb_txn_renew(index->snapshot);
	for (int kind = 0; kind < INDEX_KINDS && rc == 0; kind++)
		rc = mdb_cursor_renew(index->snapshot, index->cursor[kind]);
	if (rc != 0)
		index_die(index, mdb_strerror(rc));
}

static void commit_done(struct loop_post *post)
{
	struct index *index = index_of_done(post);

	index->committing = false;
	if (index->done_err < 0) {
		index->failures++;
		index->err = index->done_err;
		index->broken = index->err == -EIO;
		set_timer(index, RETRY_MS);
	} else {
		renew_snapshot(index);
		index->frozen = index_changes_free(index->frozen);
		index->durable_last = index->frozen_last;
		if (index->pending->count > 0)
			set_timer(index, INDEX_COMMIT_MS);
	}
	fiber_wake_all(&index->waiters);
}

int index_start(struct index *index, struct loop *loop)
{
	sigset_t all, before;
	int err;

	err = set_clean(index, 0);
	if (err < 0)
		return err;
	index->announced = index_changes_new();
	index->pending = index_changes_new();
	if (!index->announced || !index->pending)
		return -ENOMEM;
	err = open_snapshot(index);
	if (err < 0)
		return err;
	index->timer = (struct loop_timer){ .expired = timer_expired };
	index->done = (struct loop_post){ .run = commit_done };
	pthread_mutex_init(&index->lock, NULL);
	pthread_cond_init(&index->work, NULL);
	index->loop = loop;
	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	err = -pthread_create(&index->thread, NULL, index_main, index);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err < 0)
		index->loop = NULL;

	return err;
}

void index_changed(struct index *index)
{
	index->last++;
	if (index->pending->count >= PENDING_MANY)
		kick(index);
	else
		set_timer(index, INDEX_COMMIT_MS);
}

uint64_t index_last_change(const struct index *index)
{
	return index->last;
}

int index_sync(struct index *index, uint64_t change)
{
	uint64_t failures = index->failures;

	assert(change <= index->last);
	while (index->durable_last < change) {
		if (index->failures != failures || index->broken)
			return index->err;
		kick(index);
		fiber_wait(&index->waiters, NULL);
	}

	return 0;
}

bool index_is_broken(const struct index *index)
{
	return index->broken;
}
