/*
 * Where the cluster map is kept: an LMDB environment DIR/map with
 *
 *     meta     "epoch"  -> u64, little endian
 *     target   uuid     -> crc32c of what follows (u32, little endian), then the packed Target
 *
 * One synced transaction per call of map_store_save(): all of it is on stable storage when that returns, or nothing.
 * Belongs to one thread.
 */
#ifndef STRAKE_MGS_MAP_STORE_H
#define STRAKE_MGS_MAP_STORE_H

#include "proto/mgs.pb-c.h"

#include <stddef.h>
#include <stdint.h>

struct map_store; /* opaque: map_store.c */

/* Makes DIR/map where it is not there yet. Errors of LMDB's files; -EBADMSG: damaged. */
int map_store_open(const char *dir, struct map_store **ret_store);
struct map_store *map_store_close(struct map_store *store);

/* 0 when nothing was ever stored. -EBADMSG. */
int map_store_load_epoch(struct map_store *store, uint64_t *ret_epoch);
/* A call of `each` per target; a result of its other than 0 ends it and is returned. -EBADMSG: a row is damaged. */
int map_store_load_targets(struct map_store *store, int (*each)(void *arg, const Strake__Target *target), void *arg);

/* These targets, new or in place of what was stored of them, and the epoch. */
int map_store_save(struct map_store *store, uint64_t epoch, const Strake__Target *const *targets, size_t count);

#endif
