/*
 * What stands in an MDT's log and in an OST's index: the header, the note and the records of a segment, the record in
 * such a record, a row. The first byte chooses, and says whether the sums are made right before.
 */
#include "common/bulk_sums.h"
#include "mds/log_segment.h"
#include "mds/pack.h"
#include "mds/record.h"
#include "oss/index_rows.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>

enum kind { KIND_HEADER, KIND_SEGMENT, KIND_RECORD, KIND_ROW, KINDS };
#define RIGHT_SUM 0x80
#define SALT      UINT64_C(0x1234567890abcdef)
#define FIRST     7 /* index of a segment's first record */

static void header_one(uint8_t *data, size_t size, bool right_sum)
{
	uint8_t note[LOG_NOTE_SIZE];
	struct log_header header;
	int err;

	if (size >= LOG_NOTE_SIZE) {
		uint64_t synced = log_note_decode(data, SALT);

		log_note_encode(SALT, synced, note);
		assert(synced == 0 || memcmp(note, data, 8 + 4) == 0);
	}
	if (size < LOG_HEADER_SIZE)
		return;
	if (right_sum) {
		uint32_t sum = htole32(crc32c(data, LOG_HEADER_SIZE - sizeof(sum)));

		memcpy(data + LOG_HEADER_SIZE - sizeof(sum), &sum, sizeof(sum));
	}
	err = log_header_decode(data, &header);
	assert(err == 0 || err == -ENODATA || err == -EBADMSG || err == -EPROTONOSUPPORT);
	if (err == 0)
		assert(header.first > 0 && header.size > LOG_RECORDS && header.size <= LOG_SIZE_MAX);
}

/* Each record's sum is made right if its length can be believed. */
static void segment_mend(uint8_t *data, size_t size)
{
	uint64_t index = FIRST;

	for (size_t at = LOG_RECORDS; at + LOG_RECORD_HEAD < size; index++) {
		struct unpack in = unpack_begin((struct bytes){ data + at, size - at });
		struct log_record record = { .index = index };
		uint32_t payload_size = unpack_u32(&in) % 256;
		uint8_t *payload;

		(void)unpack_u32(&in);
		(void)unpack_u64(&in);
		record.synced = unpack_u64(&in);
		if (payload_size == 0 || log_record_size(payload_size) > size - at)
			return;
		payload = fuzz_copy(data + at + LOG_RECORD_HEAD, payload_size);
		record.payload = (struct bytes){ payload, payload_size };
		log_record_encode(SALT, &record, data + at);
		free(payload);
		at += log_record_size(payload_size);
	}
}

/* Input: what comes behind the header's page. */
static void segment_one(const uint8_t *data, size_t size, bool right_sum)
{
	uint8_t *segment = calloc(1, LOG_RECORDS + size);
	struct log_scan scan = { segment, LOG_RECORDS + size, SALT, FIRST, LOG_RECORDS };
	struct log_record record;
	struct log_tail tail;

	assert(segment != NULL);
	memcpy(segment + LOG_RECORDS, data, size);
	if (right_sum)
		segment_mend(segment, scan.size);
	while (log_scan_next(&scan, &record) == 0) {
		assert(record.index == scan.next - 1 && record.payload.size > 0 && scan.offset <= scan.size);
		assert((const uint8_t *)record.payload.data + record.payload.size <= segment + scan.offset);
	}
	tail = log_scan_tail(&scan);
	assert(tail.size <= scan.size - scan.offset);
	free(segment);
}

static void record_one(const uint8_t *data, size_t size)
{
	static struct record_space space;
	struct record record;
	uint8_t *again;

	if (record_decode((struct bytes){ data, size }, &space, &record) < 0)
		return;
	assert(record.holder_count <= RECORD_HOLDERS_MAX && record.ost_count <= LAYOUT_STRIPES_MAX);
	assert(record_size(&record) == size);
	again = fuzz_copy(data, size);
	record_encode(&record, again, size);
	assert(memcmp(again, data, size) == 0);
	free(again);
}

static void row_one(uint8_t *data, size_t size, bool right_sum)
{
	union index_value value;
	struct index_key key;
	uint8_t out[INDEX_VALUE_SIZE], key_out[INDEX_KEY_SIZE];

	for (enum index_kind kind = INDEX_OBJECT; kind < INDEX_KINDS; kind++) {
		int err = index_key_decode(kind, data, size < INDEX_KEY_SIZE ? size : INDEX_KEY_SIZE, &key);

		assert((err == 0) == (size >= INDEX_KEY_SIZE));
		if (err < 0)
			return;
		index_key_encode(&key, key_out);
		assert(memcmp(key_out, data, INDEX_KEY_SIZE) == 0 && index_key_compare(&key, &key) == 0);
		if (right_sum && size - INDEX_KEY_SIZE >= sizeof(uint32_t)) {
			const uint8_t head = (uint8_t)kind;
			size_t sum_at = size - sizeof(uint32_t);
			uint32_t sum = crc32c_more(crc32c(&head, 1), data, sum_at);

			sum = htobe32(sum);
			memcpy(data + sum_at, &sum, sizeof(sum));
		}
		if (index_value_decode(&key, data + INDEX_KEY_SIZE, size - INDEX_KEY_SIZE, &value) < 0)
			continue;
		assert(index_value_encode(&key, &value, out) == size - INDEX_KEY_SIZE);
	}
}

static void fuzz_one(const uint8_t *data, size_t size)
{
	uint8_t selector, *copy;

	if (size == 0)
		return;
	selector = *data++;
	size--;
	copy = fuzz_copy(data, size);
	switch ((selector & ~RIGHT_SUM) % KINDS) {
	case KIND_HEADER:
		header_one(copy, size, selector & RIGHT_SUM);
		break;
	case KIND_SEGMENT:
		segment_one(copy, size, selector & RIGHT_SUM);
		break;
	case KIND_RECORD:
		record_one(copy, size);
		break;
	default:
		row_one(copy, size, selector & RIGHT_SUM);
	}
	free(copy);
}

static void seed(uint8_t kind, const void *data, size_t size)
{
	fuzz_seed(&kind, 1, data, size);
	kind |= RIGHT_SUM;
	fuzz_seed(&kind, 1, data, size);
}

static void fuzz_seeds(void)
{
	static const uint64_t holders[] = { 3, 4 };
	static const uint16_t osts[] = { 0, 1 };
	const struct log_header header = { { { 1 } }, FIRST, 2, SALT, 65536, 3 };
	const struct record record = {
		.op = 0x235, .holder_count = 2, .ost_count = 2, .holders = holders, .osts = osts, .body = { "body", 4 }
	};
	const struct {
		struct index_key key;
		union index_value value;
	} rows[] = {
		{ index_object_key(1, 2, 3), { .object = { 65536 } } },
		{ index_file_key(1, 2), { .file = { .cut = 1, .stripe_size = 65536 } } },
		{ index_tombstone_key(1, 2, 3), { .file = { 0 } } },
		{ index_void_key(1), { .range = { 2, true } } },
	};
	uint8_t out[512];
	size_t size = 0;

	log_header_encode(&header, out);
	seed(KIND_HEADER, out, LOG_HEADER_SIZE);
	log_note_encode(SALT, 5, out);
	seed(KIND_HEADER, out, LOG_NOTE_SIZE);
	record_encode(&record, out, record_size(&record));
	seed(KIND_RECORD, out, record_size(&record));
	for (uint64_t index = FIRST; index < FIRST + 4; index++) { /* the last one is another's: a tail */
		const struct log_record logged = { index + index / 10, FIRST, { "payload", index - FIRST + 1 } };

		log_record_encode(SALT, &logged, out + size);
		size += log_record_size(logged.payload.size);
	}
	seed(KIND_SEGMENT, out, size);
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		index_key_encode(&rows[i].key, out);
		size = index_value_encode(&rows[i].key, &rows[i].value, out + INDEX_KEY_SIZE);
		seed(KIND_ROW, out, INDEX_KEY_SIZE + size);
	}
}
