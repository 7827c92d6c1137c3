#include "common/rdma/segment.h"

#include "common/rdma/credits.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define GREETING_MAGIC   UINT32_C(0x524b5453) /* "STKR" */
#define GREETING_VERSION 1
#define GREETING_VOIDS   1

/* Offsets in a greeting: magic 0, version 4 (u8), receives 6 (u16), segment_size 8 (u32), flags 12 (u32). */

static void put16(uint8_t *out, uint16_t value)
{
	value = htole16(value);
	memcpy(out, &value, sizeof(value));
}

static void put32(uint8_t *out, uint32_t value)
{
	value = htole32(value);
	memcpy(out, &value, sizeof(value));
}

static uint16_t get16(const uint8_t *in)
{
	uint16_t value;

	memcpy(&value, in, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const uint8_t *in)
{
	uint32_t value;

	memcpy(&value, in, sizeof(value));
	return le32toh(value);
}

void segment_encode(const struct segment_header *header, uint8_t out[SEGMENT_HEADER_SIZE])
{
	out[0] = (uint8_t)header->kind;
	out[1] = 0;
	put16(out + 2, header->returned);
	put32(out + 4, header->length);
}

int segment_decode(const uint8_t *data, size_t size, struct segment_header *ret_header)
{
	struct segment_header header;

	if (size < SEGMENT_HEADER_SIZE)
		return -EPROTO;
	header = (struct segment_header){ data[0], get16(data + 2), get32(data + 4) };
	if (header.kind < SEGMENT_DATA || header.kind > SEGMENT_BYE || header.length != size - SEGMENT_HEADER_SIZE ||
	    (header.kind == SEGMENT_DATA) != (header.length > 0))
		return -EPROTO;
	*ret_header = header;
	return 0;
}

void greeting_encode(const struct greeting *greeting, uint8_t out[GREETING_SIZE])
{
	memset(out, 0, GREETING_SIZE);
	put32(out, GREETING_MAGIC);
	out[4] = GREETING_VERSION;
	put16(out + 6, greeting->receives);
	put32(out + 8, greeting->segment_size);
	put32(out + 12, greeting->voids ? GREETING_VOIDS : 0);
}

/* Fabrics pad what they carry: there may be more than we have sent. */
int greeting_decode(const void *data, size_t size, struct greeting *ret_greeting)
{
	const uint8_t *in = data;
	struct greeting greeting;

	if (data == NULL || size < GREETING_SIZE || get32(in) != GREETING_MAGIC)
		return -EPROTO;
	if (in[4] != GREETING_VERSION)
		return -EPROTONOSUPPORT;
	greeting = (struct greeting){ get16(in + 6), get32(in + 8), (get32(in + 12) & GREETING_VOIDS) != 0 };
	if (greeting.receives < CREDITS_MIN || greeting.receives > CREDITS_MAX ||
	    greeting.segment_size < SEGMENT_SIZE_MIN || greeting.segment_size > SEGMENT_SIZE_MAX)
		return -EPROTO;
	*ret_greeting = greeting;
	return 0;
}
