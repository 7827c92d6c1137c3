/*
 * Rows and records as bytes: little-endian numbers one after the other. Keys are big-endian, so that they sort as the
 * numbers do.
 *
 * Packing into too small a buffer is a programmer's error. Unpacking past the end sets `bad` and yields zeros: the
 * caller checks it once, at the end.
 */
#ifndef STRAKE_MDS_PACK_H
#define STRAKE_MDS_PACK_H

#include "mds/view.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

struct pack {
	uint8_t *at, *end;
};

struct unpack {
	const uint8_t *at, *end;
	bool bad;
};

static inline struct unpack unpack_begin(struct bytes bytes)
{
	const uint8_t *data = bytes.data;

	return (struct unpack){ .at = data, .end = data + bytes.size };
}

static inline bool unpack_is_done(const struct unpack *unpack)
{
	return !unpack->bad && unpack->at == unpack->end;
}

static inline void pack_bytes(struct pack *pack, const void *data, size_t size)
{
	assert((size_t)(pack->end - pack->at) >= size);
	if (size > 0)
		memcpy(pack->at, data, size);
	pack->at += size;
}

static inline struct bytes unpack_bytes(struct unpack *unpack, size_t size)
{
	struct bytes bytes = { unpack->at, size };

	if (unpack->bad || (size_t)(unpack->end - unpack->at) < size) {
		unpack->bad = true;
		return (struct bytes){ "", 0 };
	}
	unpack->at += size;
	return bytes;
}

static inline bool unpack_into(struct unpack *unpack, void *out, size_t size)
{
	struct bytes bytes = unpack_bytes(unpack, size);

	if (unpack->bad) {
		memset(out, 0, size);
		return false;
	}
	memcpy(out, bytes.data, size);
	return true;
}

#define PACK_NUMBER(name, type, to_wire, from_wire)                   \
	static inline void pack_##name(struct pack *pack, type value) \
	{                                                             \
		type wire = to_wire(value);                           \
                                                                      \
		pack_bytes(pack, &wire, sizeof(wire));                \
	}                                                             \
	static inline type unpack_##name(struct unpack *unpack)       \
	{                                                             \
		type wire;                                            \
                                                                      \
		unpack_into(unpack, &wire, sizeof(wire));             \
		return from_wire(wire);                               \
	}
#define PACK_SAME(value) (value)
PACK_NUMBER(u8, uint8_t, PACK_SAME, PACK_SAME)
PACK_NUMBER(u16, uint16_t, htole16, le16toh)
PACK_NUMBER(u32, uint32_t, htole32, le32toh)
PACK_NUMBER(u64, uint64_t, htole64, le64toh)
PACK_NUMBER(key64, uint64_t, htobe64, be64toh)
PACK_NUMBER(key32, uint32_t, htobe32, be32toh)
#undef PACK_NUMBER
#undef PACK_SAME

static inline void pack_s64(struct pack *pack, int64_t value)
{
	pack_u64(pack, (uint64_t)value);
}

static inline int64_t unpack_s64(struct unpack *unpack)
{
	return (int64_t)unpack_u64(unpack);
}

/* A key of one or two numbers; `out` has 16 bytes. */
static inline struct bytes key_of(uint8_t *out, uint64_t number)
{
	number = htobe64(number);
	memcpy(out, &number, sizeof(number));
	return (struct bytes){ out, 8 };
}

static inline struct bytes key_of_two(uint8_t *out, uint64_t first, uint64_t second)
{
	key_of(out, first);
	key_of(out + 8, second);
	return (struct bytes){ out, 16 };
}

#endif
