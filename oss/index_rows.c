#include "oss/index_rows.h"

#include "common/bulk_sums.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define SUM_SIZE       4
#define OBJECT_SIZE    (8 + SUM_SIZE)
#define FILE_SIZE      (5 * 8 + SUM_SIZE)
#define TOMBSTONE_SIZE SUM_SIZE
#define VOID_SIZE      (2 * 8 + SUM_SIZE)
#define DESTROYED      1u /* in the low bits of a file's stripe size, which is a multiple of 64 KiB */

_Static_assert(FILE_SIZE == INDEX_VALUE_SIZE, "the largest value");

static void put_u64(uint8_t *out, uint64_t value)
{
	value = htobe64(value);
	memcpy(out, &value, sizeof(value));
}

static uint64_t get_u64(const uint8_t *in)
{
	uint64_t value;

	memcpy(&value, in, sizeof(value));
	return be64toh(value);
}

int index_key_compare(const struct index_key *a, const struct index_key *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	for (int i = 0; i < 3; i++) {
		if (a->part[i] != b->part[i])
			return a->part[i] < b->part[i] ? -1 : 1;
	}

	return 0;
}

void index_key_encode(const struct index_key *key, uint8_t out[INDEX_KEY_SIZE])
{
	for (int i = 0; i < 3; i++)
		put_u64(out + 8 * i, key->part[i]);
}

int index_key_decode(enum index_kind kind, const void *data, size_t size, struct index_key *ret_key)
{
	if (size != INDEX_KEY_SIZE)
		return -EBADMSG;
	ret_key->kind = kind;
	for (int i = 0; i < 3; i++)
		ret_key->part[i] = get_u64((const uint8_t *)data + 8 * i);

	return 0;
}

static uint32_t row_sum(const struct index_key *key, const uint8_t *value, size_t size)
{
	uint8_t bytes[1 + INDEX_KEY_SIZE];

	bytes[0] = (uint8_t)key->kind;
	index_key_encode(key, bytes + 1);

	return crc32c_more(crc32c(bytes, sizeof(bytes)), value, size);
}

static size_t value_size(enum index_kind kind)
{
	switch (kind) {
	case INDEX_OBJECT:
		return OBJECT_SIZE;
	case INDEX_FILE:
		return FILE_SIZE;
	case INDEX_VOID:
		return VOID_SIZE;
	default:
		return TOMBSTONE_SIZE;
	}
}

size_t index_value_encode(const struct index_key *key, const union index_value *value, uint8_t out[INDEX_VALUE_SIZE])
{
	size_t size = value_size(key->kind) - SUM_SIZE;
	uint32_t sum;

	if (key->kind == INDEX_OBJECT) {
		put_u64(out, value->object.stripe_size);
	} else if (key->kind == INDEX_FILE) {
		put_u64(out, value->file.cut);
		put_u64(out + 8, value->file.cut_start);
		put_u64(out + 16, value->file.cut_end);
		put_u64(out + 24, value->file.stripe_size | (value->file.destroyed ? DESTROYED : 0));
		put_u64(out + 32, value->file.newest_session);
	} else if (key->kind == INDEX_VOID) {
		put_u64(out, value->range.end);
		put_u64(out + 8, value->range.swept);
	}
	sum = htobe32(row_sum(key, out, size));
	memcpy(out + size, &sum, SUM_SIZE);

	return size + SUM_SIZE;
}

int index_value_decode(const struct index_key *key, const void *data, size_t size, union index_value *ret_value)
{
	const uint8_t *in = data;
	uint32_t sum;

	if (size != value_size(key->kind))
		return -EBADMSG;
	size -= SUM_SIZE;
	memcpy(&sum, in + size, SUM_SIZE);
	if (be32toh(sum) != row_sum(key, in, size))
		return -EBADMSG;
	memset(ret_value, 0, sizeof(*ret_value));
	if (key->kind == INDEX_OBJECT) {
		ret_value->object.stripe_size = get_u64(in);
	} else if (key->kind == INDEX_FILE) {
		ret_value->file.cut = get_u64(in);
		ret_value->file.cut_start = get_u64(in + 8);
		ret_value->file.cut_end = get_u64(in + 16);
		ret_value->file.stripe_size = get_u64(in + 24) & ~(uint64_t)DESTROYED;
		ret_value->file.destroyed = get_u64(in + 24) & DESTROYED;
		ret_value->file.newest_session = get_u64(in + 32);
	} else if (key->kind == INDEX_VOID) {
		ret_value->range.end = get_u64(in);
		ret_value->range.swept = get_u64(in + 8) != 0;
	}

	return 0;
}
