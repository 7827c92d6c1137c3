#include "mds/log_segment.h"

#include "common/bulk_sums.h"
#include "mds/pack.h"

#include <errno.h>

static const uint8_t magic[8] = { 'S', 't', 'r', 'k', 'L', 'o', 'g', '\n' };

static bool is_zero(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i++) {
		if (data[i] != 0)
			return false;
	}
	return true;
}

/* --- header and note ------------------------------------------------------------------------------------------------ */

void log_header_encode(const struct log_header *header, uint8_t out[LOG_HEADER_SIZE])
{
	struct pack pack = { out, out + LOG_HEADER_SIZE };

	memset(out, 0, LOG_HEADER_SIZE);
	pack_bytes(&pack, magic, sizeof(magic));
	pack_u32(&pack, LOG_VERSION);
	pack_u32(&pack, LOG_RECORDS);
	pack_bytes(&pack, header->target.bytes, UUID_SIZE);
	pack_u64(&pack, header->first);
	pack_u64(&pack, header->number);
	pack_u64(&pack, header->salt);
	pack_u64(&pack, header->size);
	pack_u64(&pack, header->synced);
	pack.at = out + LOG_HEADER_SIZE - sizeof(uint32_t);
	pack_u32(&pack, crc32c(out, LOG_HEADER_SIZE - sizeof(uint32_t)));
}

int log_header_decode(const uint8_t data[LOG_HEADER_SIZE], struct log_header *ret_header)
{
	struct unpack unpack = unpack_begin((struct bytes){ data, LOG_HEADER_SIZE });
	struct log_header header;
	uint32_t version, records, sum;

	if (is_zero(data, LOG_HEADER_SIZE))
		return -ENODATA;
	if (memcmp(unpack_bytes(&unpack, sizeof(magic)).data, magic, sizeof(magic)) != 0)
		return -EBADMSG;
	version = unpack_u32(&unpack);
	records = unpack_u32(&unpack);
	unpack_into(&unpack, header.target.bytes, UUID_SIZE);
	header.first = unpack_u64(&unpack);
	header.number = unpack_u64(&unpack);
	header.salt = unpack_u64(&unpack);
	header.size = unpack_u64(&unpack);
	header.synced = unpack_u64(&unpack);
	unpack.at = data + LOG_HEADER_SIZE - sizeof(uint32_t);
	sum = unpack_u32(&unpack);
	/* The sum first: a flipped bit is no new format. It stays where it is in every format. */
	if (sum != crc32c(data, LOG_HEADER_SIZE - sizeof(uint32_t)))
		return -EBADMSG;
	if (version != LOG_VERSION)
		return -EPROTONOSUPPORT;
	if (records != LOG_RECORDS || header.first == 0 || header.size <= LOG_RECORDS || header.size > LOG_SIZE_MAX)
		return -EBADMSG;
	*ret_header = header;
	return 0;
}

static uint32_t note_sum(uint64_t salt, uint64_t synced)
{
	uint8_t data[16];
	struct pack pack = { data, data + sizeof(data) };

	pack_u64(&pack, salt);
	pack_u64(&pack, synced);
	return crc32c(data, sizeof(data));
}

void log_note_encode(uint64_t salt, uint64_t synced, uint8_t out[LOG_NOTE_SIZE])
{
	struct pack pack = { out, out + LOG_NOTE_SIZE };

	pack_u64(&pack, synced);
	pack_u32(&pack, note_sum(salt, synced));
	pack_u32(&pack, 0);
}

uint64_t log_note_decode(const uint8_t data[LOG_NOTE_SIZE], uint64_t salt)
{
	struct unpack unpack = unpack_begin((struct bytes){ data, LOG_NOTE_SIZE });
	uint64_t synced = unpack_u64(&unpack);

	return unpack_u32(&unpack) == note_sum(salt, synced) ? synced : 0;
}

/* --- records -------------------------------------------------------------------------------------------------------- */

static uint32_t record_sum(uint64_t salt, const struct log_record *record)
{
	uint8_t head[32];
	struct pack pack = { head, head + sizeof(head) };

	pack_u64(&pack, salt);
	pack_u64(&pack, record->payload.size);
	pack_u64(&pack, record->index);
	pack_u64(&pack, record->synced);
	return crc32c_more(crc32c(head, sizeof(head)), record->payload.data, record->payload.size);
}

void log_record_encode(uint64_t salt, const struct log_record *record, uint8_t *out)
{
	size_t size = log_record_size(record->payload.size);
	struct pack pack = { out, out + size };

	assert(record->payload.size > 0 && record->payload.size < LOG_SIZE_MAX);
	pack_u32(&pack, (uint32_t)record->payload.size);
	pack_u32(&pack, record_sum(salt, record));
	pack_u64(&pack, record->index);
	pack_u64(&pack, record->synced);
	pack_bytes(&pack, record->payload.data, record->payload.size);
	memset(pack.at, 0, (size_t)(pack.end - pack.at));
}

/* Is there a good record at data, of which there are size bytes? */
static bool record_decode(const uint8_t *data, size_t size, uint64_t salt, struct log_record *ret_record)
{
	struct unpack unpack = unpack_begin((struct bytes){ data, size });
	struct log_record record;
	uint32_t payload_size, sum;
	const uint8_t *end;

	payload_size = unpack_u32(&unpack);
	sum = unpack_u32(&unpack);
	record.index = unpack_u64(&unpack);
	record.synced = unpack_u64(&unpack);
	if (unpack.bad || payload_size == 0 || payload_size > size || log_record_size(payload_size) > size)
		return false;
	record.payload = unpack_bytes(&unpack, payload_size);
	end = data + log_record_size(payload_size);
	if (sum != record_sum(salt, &record) || !is_zero(unpack.at, (size_t)(end - unpack.at)))
		return false;
	*ret_record = record;
	return true;
}

int log_scan_next(struct log_scan *scan, struct log_record *ret_record)
{
	struct log_record record;

	if (!record_decode(scan->data + scan->offset, scan->size - scan->offset, scan->salt, &record) ||
	    record.index != scan->next)
		return -ENODATA;
	scan->offset += log_record_size(record.payload.size);
	scan->next++;
	*ret_record = record;
	return 0;
}

/*
 * Records stand at multiples of 8. To be one further on, its index must be higher, but not by more than there is room;
 * so sums are made of next to nothing but records.
 */
static bool may_be_record(const uint8_t *data, size_t size, uint64_t next)
{
	struct unpack unpack = unpack_begin((struct bytes){ data, size });
	uint32_t payload_size = unpack_u32(&unpack);
	uint64_t index;

	if (payload_size == 0 || payload_size > size)
		return false;
	(void)unpack_u32(&unpack);
	index = unpack_u64(&unpack);
	return !unpack.bad && index >= next && index - next < LOG_SIZE_MAX / LOG_RECORD_HEAD;
}

struct log_tail log_scan_tail(const struct log_scan *scan)
{
	struct log_tail tail = { .synced = 0 };
	struct log_record record;
	size_t end = scan->size;

	while (end > scan->offset && scan->data[end - 1] == 0)
		end--;
	tail.size = end - scan->offset;
	for (size_t at = scan->offset; at < end;) {
		const uint8_t *data = scan->data + at;
		size_t size = scan->size - at;

		if (!may_be_record(data, size, scan->next) || !record_decode(data, size, scan->salt, &record)) {
			at += 8;
			continue;
		}
		if (record.synced > tail.synced)
			tail.synced = record.synced;
		at += log_record_size(record.payload.size);
	}
	return tail;
}
