#include "common/frame.h"

#include "common/bulk_sums.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define HEADER_SUM_AT (FRAME_HEADER_SIZE - 4)

static void put16(uint8_t *at, uint16_t value)
{
	value = htole16(value);
	memcpy(at, &value, sizeof(value));
}

static void put32(uint8_t *at, uint32_t value)
{
	value = htole32(value);
	memcpy(at, &value, sizeof(value));
}

static void put64(uint8_t *at, uint64_t value)
{
	value = htole64(value);
	memcpy(at, &value, sizeof(value));
}

static uint16_t get16(const uint8_t *at)
{
	uint16_t value;

	memcpy(&value, at, sizeof(value));
	return le16toh(value);
}

static uint32_t get32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, sizeof(value));
	return le32toh(value);
}

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, sizeof(value));
	return le64toh(value);
}

void frame_encode(const struct frame_header *header, uint8_t out[FRAME_HEADER_SIZE])
{
	put32(out, FRAME_MAGIC);
	out[4] = header->version;
	out[5] = (uint8_t)header->kind;
	put16(out + 6, header->opcode);
	put16(out + 8, header->flags);
	put16(out + 10, header->credits);
	put32(out + 12, header->status);
	put64(out + 16, header->xid);
	put64(out + 24, header->session);
	put32(out + 32, header->slot);
	put32(out + 36, header->seq);
	put32(out + 40, header->body_len);
	put32(out + 44, header->bulk_len);
	put64(out + 48, header->log_index);
	put64(out + 56, header->durable_index);
	put32(out + 64, header->body_sum);
	put32(out + HEADER_SUM_AT, crc32c(out, HEADER_SUM_AT));
}

int frame_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame_header *ret_header)
{
	const uint32_t body_len = get32(in + 40), bulk_len = get32(in + 44);
	const uint8_t version = in[4], kind = in[5];

	if (get32(in) != FRAME_MAGIC)
		return -EPROTO;
	if (get32(in + HEADER_SUM_AT) != crc32c(in, HEADER_SUM_AT))
		return -EBADMSG;
	if (version != FRAME_VERSION)
		return -EPROTONOSUPPORT;
	if (kind < FRAME_REQUEST || kind > FRAME_PUSH)
		return -EPROTO;
	if (body_len > FRAME_BODY_MAX || bulk_len > FRAME_BULK_MAX)
		return -EMSGSIZE;

	*ret_header = (struct frame_header){
		.version = version,
		.kind = (enum frame_kind)kind,
		.opcode = get16(in + 6),
		.flags = get16(in + 8),
		.credits = get16(in + 10),
		.status = get32(in + 12),
		.xid = get64(in + 16),
		.session = get64(in + 24),
		.slot = get32(in + 32),
		.seq = get32(in + 36),
		.body_len = body_len,
		.bulk_len = bulk_len,
		.log_index = get64(in + 48),
		.durable_index = get64(in + 56),
		.body_sum = get32(in + 64),
	};
	return 0;
}
