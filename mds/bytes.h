/* Bytes that belong to somebody else: keys, values, names. */
#ifndef STRAKE_MDS_BYTES_H
#define STRAKE_MDS_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
	const void *data;
	size_t size;
};

/* As memcmp() does; what is a prefix of the other comes first. */
static inline int bytes_compare(struct bytes a, struct bytes b)
{
	size_t size = a.size < b.size ? a.size : b.size;
	int order = size == 0 ? 0 : memcmp(a.data, b.data, size);

	if (order != 0)
		return order;
	return a.size < b.size ? -1 : a.size > b.size;
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
	return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

#endif
