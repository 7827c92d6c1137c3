/*
 * The cluster map: as an MGS sends it and a mount takes it, and as the MGS finds its rows on its disk. The first byte
 * chooses, and says whether a row's sum and key are made right before.
 */
#include "client/targets.h"
#include "common/arena.h"
#include "common/bulk_sums.h"
#include "mgs/map_store.h"
#include "mgs/registry.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/work_dir.h"

#include <endian.h>
#include <errno.h>
#include <lmdb.h>
#include <stdalign.h>
#include <stddef.h>

enum kind { KIND_MAP, KIND_ROW, KINDS };
#define RIGHT_SUM 0x80
#define SUM_SIZE  sizeof(uint32_t)

static void map_one(const uint8_t *data, size_t size)
{
	static alignas(max_align_t) uint8_t first[1024];
	const struct target *target;
	ProtobufCMessage *message;
	struct target_map *map;
	struct arena arena;

	message = arena_unpack(&arena, first, sizeof(first), &strake__cluster_map__descriptor, data, size);
	if (message != NULL && target_map_new((const Strake__ClusterMap *)message, &map) == 0) {
		for (size_t i = 0; i < map->count; i++) {
			target = target_map_find(map, map->targets[i].role, map->targets[i].index);
			assert(target != NULL && target <= &map->targets[i]);
		}
		target_map_put(map);
	}
	arena_release(&arena);
}

/* --- rows --------------------------------------------------------------------------------------------------------- */

/* The store's only row is put in its place past map_store.c, while that has it closed: LMDB may be open but once. */
static void row_put(const uint8_t *value, size_t size)
{
	uint8_t uuid[UUID_SIZE] = { 1 };
	MDB_val key = { sizeof(uuid), uuid }, row = { .mv_size = size };
	char path[4200];
	MDB_env *env;
	MDB_txn *txn;
	MDB_dbi table;

	snprintf(path, sizeof(path), "%s/map", work_dir());
	assert(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 2) == 0);
	assert(mdb_env_open(env, path, MDB_NOSYNC, 0600) == 0);
	assert(mdb_txn_begin(env, NULL, 0, &txn) == 0);
	assert(mdb_dbi_open(txn, "target", 0, &table) == 0);
	assert(mdb_put(txn, table, &key, &row, MDB_RESERVE) == 0);
	memcpy(row.mv_data, value, size);
	assert(mdb_txn_commit(txn) == 0);
	mdb_env_close(env);
}

static void store_make(void)
{
	static bool made;
	struct map_store *store;

	if (made)
		return;
	assert(map_store_open(work_dir(), &store) == 0);
	map_store_close(store);
	made = true;
}

static int restore(void *arg, const Strake__Target *target)
{
	return registry_restore(arg, target, 1);
}

static void row_one(uint8_t *data, size_t size, bool right_sum)
{
	const struct uuid fs = { { 2 } };
	struct registry *registry;
	struct map_store *store;
	uint32_t sum;
	int err;

	if (right_sum && size >= SUM_SIZE) {
		sum = htole32(crc32c(data + SUM_SIZE, size - SUM_SIZE));
		memcpy(data, &sum, sizeof(sum));
	}
	store_make();
	row_put(data, size);
	assert(map_store_open(work_dir(), &store) == 0);
	assert(registry_new(&fs, "strake", 1, &registry) == 0);
	err = map_store_load_targets(store, restore, registry);
	assert(err == 0 || err == -EBADMSG || err == -EINVAL);
	assert(registry_map(registry)->n_target == (err == 0));
	registry_free(registry);
	map_store_close(store);
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	uint8_t selector, *copy;

	if (size == 0)
		return;
	selector = *data++;
	size--;
	copy = fuzz_copy(data, size);
	if ((selector & ~RIGHT_SUM) % KINDS == KIND_MAP)
		map_one(copy, size);
	else
		row_one(copy, size, selector & RIGHT_SUM);
	free(copy);
}

static void fuzz_seeds(void)
{
	static uint8_t uuid[UUID_SIZE] = { 1 };
	static char text[] = "192.0.2.1:9402";
	char *addresses[] = { text, text };
	Strake__Target target = STRAKE__TARGET__INIT, *targets[] = { &target, &target };
	Strake__ClusterMap map = STRAKE__CLUSTER_MAP__INIT;
	uint8_t out[1024], selector = KIND_ROW | RIGHT_SUM;

	target.uuid = (ProtobufCBinaryData){ UUID_SIZE, uuid };
	target.role = STRAKE__TARGET_ROLE__TARGET_OST;
	target.state = STRAKE__TARGET_STATE__TARGET_UP;
	target.index = 3;
	target.address = addresses;
	target.n_address = 2;
	map.fs_uuid = target.uuid;
	map.epoch = 5;
	map.target = targets;
	map.n_target = 2;
	memset(out, 0, SUM_SIZE);
	fuzz_seed(&selector, 1, out, SUM_SIZE + strake__target__pack(&target, out + SUM_SIZE));
	selector = KIND_MAP;
	fuzz_seed(&selector, 1, out, strake__cluster_map__pack(&map, out));
}
