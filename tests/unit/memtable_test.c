/* The memory table against a model: order, overwriting, deleting, and that it does not grow for nothing. */
#include "mds/memtable.h"

#include "tests/unit/unit.h"

#include <assert.h>
#include <stdio.h>

static const uint8_t seed[SIPHASH_KEY_SIZE] = { 1, 2, 3 };

static struct memtable_key key_of_bytes(uint8_t table, const void *data, size_t size)
{
	return memtable_key(seed, table, (struct bytes){ data, size });
}

static struct memtable_key key_of_text(uint8_t table, const char *text)
{
	return key_of_bytes(table, text, strlen(text));
}

static struct bytes bytes_of_text(const char *text)
{
	return (struct bytes){ text, strlen(text) };
}

static void put(struct memtable *table, uint8_t in, const char *key, const char *value)
{
	struct memtable_key k = key_of_text(in, key);

	memtable_put(table, &k, bytes_of_text(value));
}

static bool has(const struct memtable *table, uint8_t in, const char *key, const char *value)
{
	struct memtable_key k = key_of_text(in, key);
	const struct memtable_entry *entry = memtable_find(table, &k);

	return entry && !entry->deleted && bytes_equal(memtable_entry_value(entry), bytes_of_text(value));
}

START_TEST(what_was_put_is_found)
{
	struct memtable *table = memtable_new(0);
	struct memtable_key key = key_of_text(1, "a");

	ck_assert_uint_eq(memtable_bytes(table), 0);
	ck_assert_ptr_null(memtable_find(table, &key));
	put(table, 1, "a", "one");
	put(table, 2, "a", "two");
	put(table, 1, "", "empty key");
	put(table, 1, "b", "");
	ck_assert(has(table, 1, "a", "one"));
	ck_assert(has(table, 2, "a", "two"));
	ck_assert(has(table, 1, "", "empty key"));
	ck_assert(has(table, 1, "b", ""));
	ck_assert_uint_eq(memtable_count(table), 4);
	ck_assert_uint_gt(memtable_bytes(table), 0);
	ck_assert_ptr_null(memtable_free(table));
	ck_assert_ptr_null(memtable_free(NULL));
}
END_TEST

START_TEST(a_deleted_key_says_so_and_can_come_back)
{
	struct memtable *table = memtable_new(0);
	struct memtable_key key = key_of_text(1, "a"), unknown = key_of_text(1, "b");

	put(table, 1, "a", "one");
	memtable_delete(table, &key);
	memtable_delete(table, &unknown);
	ck_assert(memtable_find(table, &key)->deleted);
	ck_assert(memtable_find(table, &unknown)->deleted);
	put(table, 1, "a", "two");
	ck_assert(has(table, 1, "a", "two"));
	memtable_free(table);
}
END_TEST

START_TEST(a_value_may_be_made_of_itself)
{
	struct memtable *table = memtable_new(0);
	struct memtable_key key = key_of_text(1, "a");
	struct bytes value;

	put(table, 1, "a", "0123456789");
	value = memtable_entry_value(memtable_find(table, &key));
	memtable_put(table, &key, (struct bytes){ (const char *)value.data + 2, value.size - 2 });
	ck_assert(has(table, 1, "a", "23456789"));
	memtable_free(table);
}
END_TEST

START_TEST(order_is_table_then_bytes_then_length)
{
	static const struct {
		uint8_t table;
		const char *key;
	} sorted[] = { { 1, "a" }, { 1, "aa" }, { 1, "b" }, { 1, "\xff" }, { 2, "" }, { 2, "a" }, { 3, "a" } };
	static const size_t order[] = { 3, 6, 0, 5, 2, 4, 1 }, count = sizeof(order) / sizeof(*order);
	struct memtable *table = memtable_new(0);
	const struct memtable_entry *entry;

	for (size_t i = 0; i < count; i++)
		put(table, sorted[order[i]].table, sorted[order[i]].key, "");
	entry = memtable_seek(table, 0, bytes_of_text("z"));
	for (size_t i = 0; i < count; i++, entry = memtable_next(entry)) {
		ck_assert_uint_eq(entry->table, sorted[i].table);
		ck_assert(bytes_equal(memtable_entry_key(entry), bytes_of_text(sorted[i].key)));
		ck_assert_ptr_eq(memtable_seek(table, sorted[i].table, bytes_of_text(sorted[i].key)), entry);
	}
	ck_assert_ptr_null(entry);
	entry = memtable_seek(table, 1, bytes_of_text("ab"));
	ck_assert(bytes_equal(memtable_entry_key(entry), bytes_of_text("b")));
	ck_assert_ptr_null(memtable_seek(table, 3, bytes_of_text("b")));
	memtable_free(table);
}
END_TEST

/* --- against a model ------------------------------------------------------------------------------------------------ */

#define MODEL_KEYS  5000
#define MODEL_STEPS 100000

struct model {
	enum { ABSENT, DELETED, THERE } state;
	uint32_t size;
	uint8_t fill;
};

static uint32_t random_next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* Numbers as keys, big-endian and with a tail so that lengths differ. */
static size_t model_key(uint32_t number, char out[32])
{
	return (size_t)snprintf(out, 32, "%05u%.*s", number, (int)(number % 7), "zzzzzzz");
}

static void model_check(const struct memtable *table, const struct model *model)
{
	const struct memtable_entry *entry = memtable_seek(table, 1, (struct bytes){ NULL, 0 });
	static uint8_t data[4096];
	char key[32];

	for (uint32_t i = 0; i < MODEL_KEYS; i++) {
		if (model[i].state == ABSENT)
			continue;
		ck_assert_ptr_nonnull(entry);
		ck_assert(bytes_equal(memtable_entry_key(entry), (struct bytes){ key, model_key(i, key) }));
		ck_assert_int_eq(entry->deleted, model[i].state == DELETED);
		memset(data, model[i].fill, model[i].size);
		ck_assert(bytes_equal(memtable_entry_value(entry), (struct bytes){ data, model[i].size }));
		entry = memtable_next(entry);
	}
	ck_assert_ptr_null(entry);
}

START_TEST(random_changes_equal_the_model)
{
	static struct model model[MODEL_KEYS];
	static uint8_t data[4096];
	struct memtable *table = memtable_new(0);
	uint32_t random = 0x5eed;
	char text[32];

	for (int step = 0; step < MODEL_STEPS; step++) {
		uint32_t number = random_next(&random) % MODEL_KEYS;
		struct memtable_key key = key_of_bytes(1, text, model_key(number, text));
		struct model *m = &model[number];

		if (random_next(&random) % 5 == 0) {
			memtable_delete(table, &key);
			*m = (struct model){ .state = DELETED };
		} else {
			m->state = THERE;
			m->size =
				random_next(&random) % (random_next(&random) % 16 == 0 ? (uint32_t)sizeof(data) : 200);
			m->fill = (uint8_t)step;
			memset(data, m->fill, m->size);
			memtable_put(table, &key, (struct bytes){ data, m->size });
		}
		if (step % 20000 == 0)
			model_check(table, model);
	}
	model_check(table, model);
	memtable_free(table);
}
END_TEST

/* --- memory --------------------------------------------------------------------------------------------------------- */

START_TEST(overwriting_does_not_leak)
{
	static uint8_t data[MEMTABLE_VALUE_MAX];
	struct memtable *table = memtable_new(0);
	struct memtable_key key = key_of_text(1, "a");
	size_t after_first;

	for (uint32_t size = 0; size <= MEMTABLE_VALUE_MAX; size += 16)
		memtable_put(table, &key, (struct bytes){ data, size });
	after_first = memtable_bytes(table);
	/* Under AddressSanitizer every change moves, else it is less than four. */
	ck_assert_uint_le(after_first, 16 * MEMTABLE_VALUE_MAX);

	/* Up and down, deleting in between: the rooms are used again. */
	for (int round = 0; round < 20; round++) {
		memtable_delete(table, &key);
		for (uint32_t size = 0; size <= MEMTABLE_VALUE_MAX; size += 64)
			memtable_put(table, &key, (struct bytes){ data, size });
	}
	ck_assert_uint_le(memtable_bytes(table), after_first + 2 * MEMTABLE_VALUE_MAX);
	memtable_free(table);
}
END_TEST

START_TEST(every_size_fits_its_room)
{
	static uint8_t data[MEMTABLE_VALUE_MAX];
	struct memtable *table = memtable_new(100);

	memset(data, 7, sizeof(data));
	for (uint32_t size = 0; size <= MEMTABLE_VALUE_MAX; size += size < 5000 ? 1 : 997) {
		struct memtable_key key = key_of_bytes(1, &size, sizeof(size));
		const struct memtable_entry *entry;

		memtable_put(table, &key, (struct bytes){ data, size });
		entry = memtable_find(table, &key);
		ck_assert_uint_ge(entry->value_room, size);
		ck_assert_uint_le(entry->value_room, size < 32 ? 32 : size + size / 4 + 8);
	}
	memtable_free(table);
}
END_TEST

UNIT_MAIN("memtable", what_was_put_is_found, a_deleted_key_says_so_and_can_come_back, a_value_may_be_made_of_itself,
	  order_is_table_then_bytes_then_length, random_changes_equal_the_model, overwriting_does_not_leak,
	  every_size_fits_its_room)
