/*
 * The rows of an OST's index: their keys, their values, and their form on disk.
 *
 *     object     (ino, gen, seq)             there is such an object; its stripe size
 *     file       (ino, gen)                  the cut applied last, or the tombstone; absent: neither
 *     tombstone  (newest session, ino, gen)  nothing: the tombstones in the order in which they may go
 *     void       (first)                     no content has a gen of [first, end); is what there was here destroyed?
 *
 * Keys are numbers in big-endian order; every value ends with a CRC32C over key and value. Pure.
 */
#ifndef STRAKE_OSS_INDEX_ROWS_H
#define STRAKE_OSS_INDEX_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum index_kind { INDEX_OBJECT, INDEX_FILE, INDEX_TOMBSTONE, INDEX_VOID, INDEX_KINDS };

struct index_key {
	enum index_kind kind;
	uint64_t part[3]; /* those that a kind has not are 0 */
};

struct index_object {
	uint64_t stripe_size;
};

struct index_file {
	uint64_t cut, cut_start, cut_end; /* cut 0: none yet */
	uint64_t stripe_size;             /* of the cut; 0 where there is none */
	bool destroyed;
	uint64_t newest_session; /* of the tombstone */
};

struct index_void {
	uint64_t end;
	bool swept;
};

union index_value {
	struct index_object object;
	struct index_file file;
	struct index_void range;
};

#define INDEX_KEY_SIZE   24
#define INDEX_VALUE_SIZE 44 /* the largest */

static inline struct index_key index_object_key(uint64_t ino, uint64_t gen, uint64_t seq)
{
	return (struct index_key){ INDEX_OBJECT, { ino, gen, seq } };
}
static inline struct index_key index_file_key(uint64_t ino, uint64_t gen)
{
	return (struct index_key){ INDEX_FILE, { ino, gen, 0 } };
}
static inline struct index_key index_tombstone_key(uint64_t newest_session, uint64_t ino, uint64_t gen)
{
	return (struct index_key){ INDEX_TOMBSTONE, { newest_session, ino, gen } };
}

static inline struct index_key index_void_key(uint64_t first)
{
	return (struct index_key){ INDEX_VOID, { first, 0, 0 } };
}

/* < 0, 0, > 0: by kind, then by the parts. */
int index_key_compare(const struct index_key *a, const struct index_key *b);

void index_key_encode(const struct index_key *key, uint8_t out[INDEX_KEY_SIZE]);
/* -EBADMSG when size is wrong. */
int index_key_decode(enum index_kind kind, const void *data, size_t size, struct index_key *ret_key);

/* How many bytes. */
size_t index_value_encode(const struct index_key *key, const union index_value *value, uint8_t out[INDEX_VALUE_SIZE]);
/* -EBADMSG: damaged. */
int index_value_decode(const struct index_key *key, const void *data, size_t size, union index_value *ret_value);

#endif
