#include "common/uuid.h"
#include "mgs/map_store.h"
#include "tests/unit/synced_database.h"
#include "tests/unit/temp_dir.h"
#include "tests/unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char dir[PATH_MAX];

static void make_dir(void)
{
	temp_dir_make(dir);
}

static void remove_dir(void)
{
	temp_dir_remove(dir);
}

struct row {
	Strake__Target target;
	uint8_t uuid[UUID_SIZE];
	char address[32];
	char *addresses[1];
};

static const Strake__Target *row_is(struct row *row, char name, uint32_t index, Strake__TargetState state)
{
	strake__target__init(&row->target);
	memset(row->uuid, name, sizeof(row->uuid));
	snprintf(row->address, sizeof(row->address), "10.0.0.%u:9402", index + 1);
	row->addresses[0] = row->address;
	row->target.uuid = (ProtobufCBinaryData){ .data = row->uuid, .len = sizeof(row->uuid) };
	row->target.role = STRAKE__TARGET_ROLE__TARGET_OST;
	row->target.index = index;
	row->target.state = state;
	row->target.n_address = 1;
	row->target.address = row->addresses;
	row->target.instance = 1;
	return &row->target;
}

struct seen {
	unsigned int count;
	Strake__TargetState states[16]; /* by index */
};

static int see(void *arg, const Strake__Target *target)
{
	struct seen *seen = arg;

	ck_assert_uint_lt(target->index, 16);
	ck_assert_uint_eq(target->n_address, 1);
	seen->states[target->index] = target->state;
	seen->count++;
	return 0;
}

static int stop(void *arg, const Strake__Target *target)
{
	(void)arg;
	(void)target;
	return -ECANCELED;
}

START_TEST(empty_at_first)
{
	struct map_store *store;
	struct seen seen = { 0 };
	uint64_t epoch = 99;

	make_dir();
	ck_assert_int_eq(map_store_open(dir, &store), 0);
	ck_assert_int_eq(map_store_load_epoch(store, &epoch), 0);
	ck_assert_uint_eq(epoch, 0);
	ck_assert_int_eq(map_store_load_targets(store, see, &seen), 0);
	ck_assert_uint_eq(seen.count, 0);
	map_store_close(store);
	remove_dir();
}
END_TEST

START_TEST(survives_reopening)
{
	struct map_store *store;
	struct seen seen = { 0 };
	struct row rows[2];
	const Strake__Target *targets[2];
	uint64_t epoch;

	make_dir();
	ck_assert_int_eq(map_store_open(dir, &store), 0);
	targets[0] = row_is(&rows[0], 'a', 0, STRAKE__TARGET_STATE__TARGET_UP);
	targets[1] = row_is(&rows[1], 'b', 1, STRAKE__TARGET_STATE__TARGET_FULL);
	ck_assert_int_eq(map_store_save(store, 2, targets, 2), 0);
	targets[0] = row_is(&rows[0], 'a', 0, STRAKE__TARGET_STATE__TARGET_DOWN);
	ck_assert_int_eq(map_store_save(store, 3, targets, 1), 0);
	map_store_close(store);

	ck_assert_int_eq(map_store_open(dir, &store), 0);
	ck_assert_int_eq(map_store_load_epoch(store, &epoch), 0);
	ck_assert_uint_eq(epoch, 3);
	ck_assert_int_eq(map_store_load_targets(store, see, &seen), 0);
	ck_assert_uint_eq(seen.count, 2);
	ck_assert_int_eq(seen.states[0], STRAKE__TARGET_STATE__TARGET_DOWN);
	ck_assert_int_eq(seen.states[1], STRAKE__TARGET_STATE__TARGET_FULL);
	ck_assert_int_eq(map_store_load_targets(store, stop, NULL), -ECANCELED);
	map_store_close(store);
	remove_dir();
}
END_TEST

START_TEST(what_was_saved_is_on_the_disk)
{
	struct map_store *store;
	struct row row;
	const Strake__Target *target = row_is(&row, 'a', 0, STRAKE__TARGET_STATE__TARGET_UP);

	make_dir();
	ck_assert_int_eq(map_store_open(dir, &store), 0);
	ck_assert(database_is_synced());
	for (uint64_t epoch = 1; epoch <= 3; epoch++) {
		ck_assert_int_eq(map_store_save(store, epoch, &target, 1), 0);
		ck_assert(database_is_synced());
	}
	map_store_close(store);
	remove_dir();
}
END_TEST

/* Flip one byte of the address that the row holds, in every copy that the file has. */
static void damage(void)
{
	static const char text[] = "10.0.0.1:9402";
	char path[PATH_MAX + 16];
	uint8_t page[65536];
	ssize_t count;
	unsigned int hits = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/map/data.mdb", dir);
	fd = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	count = pread(fd, page, sizeof(page), 0);
	ck_assert_int_gt(count, 0);
	for (size_t i = 0; i + sizeof(text) - 1 <= (size_t)count; i++) {
		if (memcmp(page + i, text, sizeof(text) - 1) != 0)
			continue;
		page[i] ^= 1;
		hits++;
	}
	ck_assert_uint_gt(hits, 0);
	ck_assert_int_eq(pwrite(fd, page, (size_t)count, 0), count);
	close(fd);
}

START_TEST(damage_is_seen)
{
	struct map_store *store;
	struct seen seen = { 0 };
	struct row row;
	const Strake__Target *target;

	make_dir();
	ck_assert_int_eq(map_store_open(dir, &store), 0);
	target = row_is(&row, 'a', 0, STRAKE__TARGET_STATE__TARGET_UP);
	ck_assert_int_eq(map_store_save(store, 1, &target, 1), 0);
	map_store_close(store);
	damage();
	ck_assert_int_eq(map_store_open(dir, &store), 0);
	ck_assert_int_eq(map_store_load_targets(store, see, &seen), -EBADMSG);
	ck_assert_uint_eq(seen.count, 0);
	map_store_close(store);
	remove_dir();
}
END_TEST

/* Store a target's row a second time, under the key of another one. */
static void copy_row(char from, char to)
{
	uint8_t from_key[UUID_SIZE], to_key[UUID_SIZE];
	MDB_val key = { UUID_SIZE, from_key }, value;
	char path[PATH_MAX + 16];
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi dbi;

	memset(from_key, from, UUID_SIZE);
	memset(to_key, to, UUID_SIZE);
	snprintf(path, sizeof(path), "%s/map", dir);
	ck_assert_int_eq(mdb_env_create(&env), 0);
	ck_assert_int_eq(mdb_env_set_maxdbs(env, 2), 0);
	ck_assert_int_eq(mdb_env_open(env, path, 0, 0600), 0);
	ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
	ck_assert_int_eq(mdb_dbi_open(txn, "target", 0, &dbi), 0);
	ck_assert_int_eq(mdb_get(txn, dbi, &key, &value), 0);
	key.mv_data = to_key;
	ck_assert_int_eq(mdb_put(txn, dbi, &key, &value, 0), 0);
	ck_assert_int_eq(mdb_txn_commit(txn), 0);
	mdb_env_close(env);
}

START_TEST(a_row_has_its_own_key)
{
	struct map_store *store;
	struct seen seen = { 0 };
	struct row row;
	const Strake__Target *target;

	make_dir();
	ck_assert_int_eq(map_store_open(dir, &store), 0);
	target = row_is(&row, 'a', 0, STRAKE__TARGET_STATE__TARGET_UP);
	ck_assert_int_eq(map_store_save(store, 1, &target, 1), 0);
	map_store_close(store);
	copy_row('a', 'b');
	ck_assert_int_eq(map_store_open(dir, &store), 0);
	ck_assert_int_eq(map_store_load_targets(store, see, &seen), -EBADMSG);
	map_store_close(store);
	remove_dir();
}
END_TEST

START_TEST(no_folder_is_an_error)
{
	struct map_store *store;

	ck_assert_int_eq(map_store_open("/nonexistent/strake", &store), -ENOENT);
}
END_TEST

UNIT_MAIN("map_store", empty_at_first, survives_reopening, what_was_saved_is_on_the_disk, damage_is_seen,
	  a_row_has_its_own_key, no_folder_is_an_error)
