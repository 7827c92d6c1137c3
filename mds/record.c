#include "mds/record.h"

#include "mds/pack.h"

#include <errno.h>

#define RECORD_VERSION 1
#define RECORD_FIXED   (2 + 2 + 2 + 2 + 8 + 8 + 4 + 4 + 8 + 4 + 4)

size_t record_size(const struct record *record)
{
	return RECORD_FIXED + record->holder_count * sizeof(uint64_t) + record->ost_count * sizeof(uint16_t) +
	       record->body.size;
}

void record_encode(const struct record *record, void *out, size_t size)
{
	struct pack pack = { out, (uint8_t *)out + size };

	assert(record->holder_count <= RECORD_HOLDERS_MAX && record->ost_count <= LAYOUT_STRIPES_MAX);
	pack_u16(&pack, RECORD_VERSION);
	pack_u16(&pack, record->op);
	pack_u16(&pack, record->facts);
	pack_u16(&pack, (uint16_t)record->ost_count);
	pack_s64(&pack, record->time_ns);
	pack_u64(&pack, record->session);
	pack_u32(&pack, record->slot);
	pack_u32(&pack, record->seq);
	pack_u64(&pack, record->number);
	pack_u32(&pack, record->holder_count);
	pack_u32(&pack, (uint32_t)record->body.size);
	for (uint32_t i = 0; i < record->holder_count; i++)
		pack_u64(&pack, record->holders[i]);
	for (uint32_t i = 0; i < record->ost_count; i++)
		pack_u16(&pack, record->osts[i]);
	pack_bytes(&pack, record->body.data, record->body.size);
	assert(pack.at == pack.end);
}

int record_decode(struct bytes payload, struct record_space *space, struct record *ret_record)
{
	struct unpack unpack = unpack_begin(payload);
	struct record record = { 0 };
	uint32_t body_size;
	uint16_t version;

	version = unpack_u16(&unpack);
	record.op = unpack_u16(&unpack);
	record.facts = unpack_u16(&unpack);
	record.ost_count = unpack_u16(&unpack);
	record.time_ns = unpack_s64(&unpack);
	record.session = unpack_u64(&unpack);
	record.slot = unpack_u32(&unpack);
	record.seq = unpack_u32(&unpack);
	record.number = unpack_u64(&unpack);
	record.holder_count = unpack_u32(&unpack);
	body_size = unpack_u32(&unpack);
	if (unpack.bad || version != RECORD_VERSION || record.holder_count > RECORD_HOLDERS_MAX ||
	    record.ost_count > LAYOUT_STRIPES_MAX)
		return -EBADMSG;

	for (uint32_t i = 0; i < record.holder_count; i++)
		space->holders[i] = unpack_u64(&unpack);
	for (uint32_t i = 0; i < record.ost_count; i++)
		space->osts[i] = unpack_u16(&unpack);
	record.holders = space->holders;
	record.osts = space->osts;
	record.body = unpack_bytes(&unpack, body_size);
	if (!unpack_is_done(&unpack))
		return -EBADMSG;

	*ret_record = record;
	return 0;
}
