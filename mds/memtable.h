/*
 * An ordered map in memory, from (table, key) to a value or to "deleted": what has changed since the last checkpoint.
 *
 *     slots: hash -> entry          finds a key that is there: two or three cache misses
 *     skip list over the entries    keeps them in order, for cursors and the checkpoint
 *     chunks                        all memory; dropping a table unmaps them
 *
 *   - Entries are never taken out (a deleted key is an entry that says so) and never move. A value is overwritten in
 *     place where it fits; else it moves and its room serves another of that size.
 *   - A value is good until its key is changed; entries and keys as long as the table.
 *   - One thread at a time; any number once nobody changes it any more (frozen).
 *   - Memory shortage ends the process.
 */
#ifndef STRAKE_MDS_MEMTABLE_H
#define STRAKE_MDS_MEMTABLE_H

#include "common/siphash.h"
#include "mds/bytes.h"

#define MEMTABLE_KEY_MAX   512
#define MEMTABLE_VALUE_MAX (128u * 1024)

struct memtable; /* opaque: memtable.c */

/* What to look for. The hash is keyed: keys contain names that clients choose. */
struct memtable_key {
	uint64_t hash;
	struct bytes bytes;
	uint8_t table;
};

/* Read it by the functions below. The key's bytes stand behind the links. */
struct memtable_entry {
	uint32_t value_size, value_room;
	uint8_t *value; /* NULL: no room */
	uint16_t key_size;
	uint8_t table, levels;
	bool deleted;
	struct memtable_entry *next[];
};

static inline struct bytes memtable_entry_key(const struct memtable_entry *entry)
{
	return (struct bytes){ entry->next + entry->levels, entry->key_size };
}

static inline struct bytes memtable_entry_value(const struct memtable_entry *entry)
{
	return (struct bytes){ entry->value, entry->value_size };
}

static inline struct memtable_key memtable_key(const uint8_t seed[SIPHASH_KEY_SIZE], uint8_t table, struct bytes bytes)
{
	/* One key in two tables is rare; their hashes may well be neighbours. */
	return (struct memtable_key){ siphash(seed, bytes.data, bytes.size) + table, bytes, table };
}

/* expected: how many entries it will have, as far as is known. */
struct memtable *memtable_new(size_t expected);
struct memtable *memtable_free(struct memtable *table); /* NULL is fine */

/* NULL: nothing is known of the key here. */
const struct memtable_entry *memtable_find(const struct memtable *table, const struct memtable_key *key);

void memtable_put(struct memtable *table, const struct memtable_key *key, struct bytes value);
void memtable_delete(struct memtable *table, const struct memtable_key *key);

/* In order of table, then key: the first entry at or above it, and the one after. NULL: no more. */
const struct memtable_entry *memtable_seek(const struct memtable *table, uint8_t from_table, struct bytes from);
static inline const struct memtable_entry *memtable_next(const struct memtable_entry *entry)
{
	return entry->next[0];
}

size_t memtable_count(const struct memtable *table);
size_t memtable_bytes(const struct memtable *table); /* memory in use, 0 when there is no entry */

#endif
