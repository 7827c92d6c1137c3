#include "mds/memtable.h"

#include "common/logger.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#ifdef __has_feature
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif

/*
 * Under AddressSanitizer every change moves the value and the old room is poisoned, so that whoever goes on using what
 * was lent before the change is found.
 */
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
#include <sanitizer/asan_interface.h>
#define ALWAYS_MOVE          true
#define poison(data, size)   __asan_poison_memory_region(data, size)
#define unpoison(data, size) __asan_unpoison_memory_region(data, size)
#else
#define ALWAYS_MOVE          false
#define poison(data, size)   ((void)(data), (void)(size))
#define unpoison(data, size) ((void)(data), (void)(size))
#endif

#define CHUNK_SIZE ((size_t)1 << 20)
#define LEVELS_MAX 12 /* one in four goes a level up: enough for 16 million entries */
#define SLOTS_MIN  ((size_t)1 << 10)
#define ROOM_MIN   16u
/* Four sizes of rooms to each doubling, so that at most a fifth is wasted: 16, 24, 32, 40, 48, 56, 64, 80, ... */
#define ROOM_CLASSES 64

struct chunk {
	struct chunk *next;
	uint64_t data[];
};

struct slot {
	uint64_t hash;
	struct memtable_entry *entry; /* NULL: free */
};

struct free_room {
	struct free_room *next;
};

struct memtable {
	struct memtable_entry *first[LEVELS_MAX];
	struct slot *slots; /* open addressing; the place is the hash's upper bits, so growing keeps the order */
	unsigned int slots_shift;
	size_t slots_count;
	size_t count;

	struct chunk *chunks;
	uint8_t *free, *free_end; /* of the newest chunk */
	size_t handed_out;        /* of all chunks */
	struct free_room *rooms[ROOM_CLASSES];
};

/* --- memory --------------------------------------------------------------------------------------------------------- */

static _Noreturn void die(void)
{
	logger_die("out of memory for the MDT's state");
}

static void *map(size_t size)
{
	void *data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (data == MAP_FAILED)
		die();
	return data;
}

/* Aligned to 8. */
static void *take(struct memtable *table, size_t size)
{
	struct chunk *chunk;
	void *data;

	size = (size + 7) & ~(size_t)7;
	assert(size <= CHUNK_SIZE - sizeof(*chunk));
	if (size > (size_t)(table->free_end - table->free)) {
		chunk = map(CHUNK_SIZE);
		chunk->next = table->chunks;
		table->chunks = chunk;
		table->free = (uint8_t *)chunk->data;
		table->free_end = (uint8_t *)chunk + CHUNK_SIZE;
	}
	data = table->free;
	table->free += size;
	table->handed_out += size;
	return data;
}

/* The smallest room that takes size, and the number of its class. */
static uint32_t room_for(uint32_t size, unsigned int *ret_class)
{
	unsigned int power, quarter;
	uint32_t step;

	size = (size + 7) & ~(uint32_t)7;
	if (size <= ROOM_MIN) {
		*ret_class = 0;
		return ROOM_MIN;
	}
	power = 31 - (unsigned int)__builtin_clz(size - 1); /* 2^power < size <= 2^(power + 1) */
	step = (uint32_t)1 << (power - 2);
	quarter = (size - 1 - ((uint32_t)1 << power)) / step + 1;
	*ret_class = 4 * (power - 4) + quarter;
	return ((uint32_t)1 << power) + quarter * step;
}

static void room_take(struct memtable *table, struct memtable_entry *entry, uint32_t size)
{
	unsigned int class;
	uint32_t room = room_for(size, &class);

	assert(class < ROOM_CLASSES);
	if (table->rooms[class]) {
		entry->value = (uint8_t *)table->rooms[class];
		unpoison(entry->value, room);
		table->rooms[class] = table->rooms[class]->next;
	} else {
		entry->value = take(table, room);
	}
	entry->value_room = room;
}

static void room_release(struct memtable *table, uint8_t *value, uint32_t room)
{
	struct free_room *free_room = (struct free_room *)(void *)value;
	unsigned int class;

	if (!value)
		return;
	(void)room_for(room, &class);
	free_room->next = table->rooms[class];
	table->rooms[class] = free_room;
	poison(value, room);
}

struct memtable *memtable_new(size_t expected)
{
	struct memtable *table = calloc(1, sizeof(*table));

	if (!table)
		die();
	table->slots_count = SLOTS_MIN;
	while (table->slots_count / 4 * 3 < expected)
		table->slots_count *= 2;
	table->slots_shift = 64 - (unsigned int)__builtin_ctzll(table->slots_count);
	table->slots = map(table->slots_count * sizeof(*table->slots));
	return table;
}

struct memtable *memtable_free(struct memtable *table)
{
	struct chunk *chunk, *next;

	if (!table)
		return NULL;
	for (chunk = table->chunks; chunk; chunk = next) {
		next = chunk->next;
		unpoison(chunk, CHUNK_SIZE);
		munmap(chunk, CHUNK_SIZE);
	}
	munmap(table->slots, table->slots_count * sizeof(*table->slots));
	free(table);
	return NULL;
}

/* --- slots ---------------------------------------------------------------------------------------------------------- */

/* The slot that has the key, or the free one where it would be. */
static struct slot *slot_find(const struct memtable *table, const struct memtable_key *key)
{
	size_t mask = table->slots_count - 1;

	for (size_t i = key->hash >> table->slots_shift;; i = (i + 1) & mask) {
		struct slot *slot = &table->slots[i];

		if (!slot->entry)
			return slot;
		if (slot->hash == key->hash && slot->entry->table == key->table &&
		    bytes_equal(memtable_entry_key(slot->entry), key->bytes))
			return slot;
	}
}

static void slots_grow(struct memtable *table)
{
	struct slot *old = table->slots;
	size_t old_count = table->slots_count, mask = 2 * old_count - 1;

	table->slots_count *= 2;
	table->slots_shift--;
	table->slots = map(table->slots_count * sizeof(*table->slots));
	for (size_t i = 0; i < old_count; i++) {
		size_t to = old[i].hash >> table->slots_shift;

		if (!old[i].entry)
			continue;
		while (table->slots[to].entry)
			to = (to + 1) & mask;
		table->slots[to] = old[i];
	}
	munmap(old, old_count * sizeof(*old));
}

/* --- order ---------------------------------------------------------------------------------------------------------- */

static int compare(const struct memtable_entry *entry, uint8_t table, struct bytes key)
{
	if (entry->table != table)
		return entry->table < table ? -1 : 1;
	return bytes_compare(memtable_entry_key(entry), key);
}

/* The links, one per level, to the first entry that is not below the key. */
static void links_find(struct memtable *table, uint8_t in_table, struct bytes key, struct memtable_entry **links[])
{
	struct memtable_entry **at = table->first, *known = NULL;

	for (int level = LEVELS_MAX - 1; level >= 0; level--) {
		/* What was not below the key one level up is not below it here either. */
		while (at[level] && at[level] != known && compare(at[level], in_table, key) < 0)
			at = at[level]->next;
		known = at[level];
		links[level] = &at[level];
	}
}

const struct memtable_entry *memtable_seek(const struct memtable *table, uint8_t from_table, struct bytes from)
{
	struct memtable_entry *const *at = table->first, *known = NULL;

	for (int level = LEVELS_MAX - 1; level >= 0; level--) {
		while (at[level] && at[level] != known && compare(at[level], from_table, from) < 0)
			at = at[level]->next;
		known = at[level];
	}
	return at[0];
}

/* The hash is as good as a die, and nobody can foresee it. Its lower bits: the upper ones choose the slot. */
static uint8_t draw_levels(uint64_t hash)
{
	unsigned int pairs = (unsigned int)__builtin_ctzll(hash | (uint64_t)1 << (2 * (LEVELS_MAX - 1))) / 2;

	return (uint8_t)(1 + pairs);
}

static struct memtable_entry *entry_add(struct memtable *table, struct slot *slot, const struct memtable_key *key)
{
	struct memtable_entry **links[LEVELS_MAX], *entry;
	uint8_t levels = draw_levels(key->hash);

	assert(key->bytes.size <= MEMTABLE_KEY_MAX);
	links_find(table, key->table, key->bytes, links);
	entry = take(table, sizeof(*entry) + levels * sizeof(entry->next[0]) + key->bytes.size);
	*entry = (struct memtable_entry){
		.key_size = (uint16_t)key->bytes.size,
		.table = key->table,
		.levels = levels,
	};
	if (key->bytes.size > 0)
		memcpy(entry->next + levels, key->bytes.data, key->bytes.size);
	for (int level = 0; level < levels; level++) {
		entry->next[level] = *links[level];
		*links[level] = entry;
	}
	*slot = (struct slot){ key->hash, entry };
	table->count++;
	if (table->count > table->slots_count / 4 * 3)
		slots_grow(table);
	return entry;
}

/* --- the map -------------------------------------------------------------------------------------------------------- */

const struct memtable_entry *memtable_find(const struct memtable *table, const struct memtable_key *key)
{
	return slot_find(table, key)->entry;
}

static struct memtable_entry *entry_make(struct memtable *table, const struct memtable_key *key)
{
	struct slot *slot = slot_find(table, key);

	return slot->entry ? slot->entry : entry_add(table, slot, key);
}

/* A value that grows gets room to grow on: the rooms it leaves behind stay less than twice what it has. */
static uint32_t size_to_take(uint32_t room, uint32_t size)
{
	uint32_t more = room + room / 2;

	if (room == 0 || size <= room || size >= more)
		return size;
	return more < MEMTABLE_VALUE_MAX ? more : MEMTABLE_VALUE_MAX;
}

void memtable_put(struct memtable *table, const struct memtable_key *key, struct bytes value)
{
	struct memtable_entry *entry = entry_make(table, key);
	uint8_t *old = entry->value;
	uint32_t old_room = entry->value_room, size = (uint32_t)value.size;

	assert(value.size <= MEMTABLE_VALUE_MAX);
	if (!old || size > old_room || ALWAYS_MOVE) {
		room_take(table, entry, size_to_take(old_room, size));
	} else {
		old = NULL;
	}
	/* The new value may be a part of the old one. */
	if (size > 0)
		memmove(entry->value, value.data, size);
	entry->value_size = size;
	entry->deleted = false;
	room_release(table, old, old_room);
}

void memtable_delete(struct memtable *table, const struct memtable_key *key)
{
	struct memtable_entry *entry = entry_make(table, key);

	room_release(table, entry->value, entry->value_room);
	entry->value = NULL;
	entry->value_size = entry->value_room = 0;
	entry->deleted = true;
}

size_t memtable_count(const struct memtable *table)
{
	return table->count;
}

size_t memtable_bytes(const struct memtable *table)
{
	/* The slots are half full on average. */
	return table->handed_out + 2 * sizeof(struct slot) * table->count;
}
