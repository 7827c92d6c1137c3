/*
 * The bytes of a log segment: how they are made, checked and walked. Pure: memory in, memory out.
 *
 *     0     header: what file this is, with a sum; written before the first record
 *     512   note: "synced up to here", with a sum; rewritten now and then while nothing is appended
 *     4096  record | record | ... | zeros up to the header's size
 *
 *     record: u32 payload size (never 0), u32 sum, u64 index, u64 synced, payload, zeros to a multiple of 8
 *
 *   - All numbers are little-endian. Sums are CRC32C. A record's goes over the segment's salt, payload size, index,
 *     synced and payload: so a record of another segment or another place is none, and what a client sends cannot look
 *     like one.
 *   - `synced`: the index known to be on stable storage when this was written. What is broken at or below the highest
 *     that can be found is damage, what is broken above it a torn tail (the caller decides).
 */
#ifndef STRAKE_MDS_LOG_SEGMENT_H
#define STRAKE_MDS_LOG_SEGMENT_H

#include "common/uuid.h"
#include "mds/bytes.h"

#define LOG_VERSION     1
#define LOG_HEADER_SIZE 128 /* of it as encoded */
#define LOG_NOTE_OFFSET 512 /* in a sector of its own: a torn note does not tear the header */
#define LOG_NOTE_SIZE   16
#define LOG_RECORDS     4096 /* the first record's offset */
#define LOG_RECORD_HEAD 24
#define LOG_SIZE_MAX    ((uint64_t)1 << 31) /* of a segment */

struct log_header {
	struct uuid target;
	uint64_t first;  /* index of the first record */
	uint64_t number; /* of the segment: the one before has this less 1 */
	uint64_t salt;   /* random */
	uint64_t size;   /* of the file */
	uint64_t synced; /* when the segment was begun */
};

void log_header_encode(const struct log_header *header, uint8_t out[LOG_HEADER_SIZE]);
/* -ENODATA nothing but zeros, -EBADMSG damaged or no segment's at all, -EPROTONOSUPPORT of a newer format. */
int log_header_decode(const uint8_t data[LOG_HEADER_SIZE], struct log_header *ret_header);

void log_note_encode(uint64_t salt, uint64_t synced, uint8_t out[LOG_NOTE_SIZE]);
uint64_t log_note_decode(const uint8_t data[LOG_NOTE_SIZE], uint64_t salt); /* 0: none that is whole */

struct log_record {
	uint64_t index, synced;
	struct bytes payload;
};

/* Of a record with this payload, padding and all. */
static inline size_t log_record_size(size_t payload_size)
{
	return LOG_RECORD_HEAD + ((payload_size + 7) & ~(size_t)7);
}

void log_record_encode(uint64_t salt, const struct log_record *record, uint8_t *out);

/* A walk through the records of one segment. Set data, size (of the file), salt and next = the header's first. */
struct log_scan {
	const uint8_t *data;
	size_t size;
	uint64_t salt;
	uint64_t next; /* index of the record that must stand at offset */
	size_t offset; /* set to LOG_RECORDS */
};

/* -ENODATA: no good record with that index stands there. ret_record borrows from data. */
int log_scan_next(struct log_scan *scan, struct log_record *ret_record);

/* What lies behind the last good record, after -ENODATA. */
struct log_tail {
	uint64_t synced; /* the highest in a good record further on; 0: there is none */
	size_t size;     /* up to the last byte that is not 0 */
};
struct log_tail log_scan_tail(const struct log_scan *scan);

#endif
