/*
 * The frame: what stands before every message on a connection.
 *
 *     header (FRAME_HEADER_SIZE, little endian) | body (protobuf) | bulk
 *
 *   - The header's own sum is checked before any length in it is believed;
 *     lengths are bounded before memory is taken. Bulk carries its sums in the
 *     body (see bulk_sums.h).
 *   - Pure: bytes in, decision out.
 */
#ifndef STRAKE_COMMON_FRAME_H
#define STRAKE_COMMON_FRAME_H

#include <stddef.h>
#include <stdint.h>

#define FRAME_MAGIC       UINT32_C(0x4b525453) /* "STRK" */
#define FRAME_VERSION     1
#define FRAME_HEADER_SIZE 72
#define FRAME_BODY_MAX    (1024u * 1024u)
#define FRAME_BULK_MAX    (1024u * 1024u)

enum frame_kind {
	FRAME_REQUEST = 1,
	FRAME_REPLY = 2,
	FRAME_PUSH = 3,
};

enum frame_flags {
	FRAME_RESENT = 1 << 0, /* this request was sent before, on another connection or in vain */
	FRAME_SYNC = 1 << 1,   /* answer only when the change is on stable storage */
};

/*
 * Offsets: magic 0, version 4 (u8), kind 5 (u8), opcode 6 (u16), flags 8 (u16), credits 10 (u16), status 12, xid 16,
 * session 24, slot 32, seq 36, body_len 40, bulk_len 44, log_index 48, durable_index 56, body_sum 64, header_sum 68.
 */
struct frame_header {
	uint8_t version;
	enum frame_kind kind;
	uint16_t opcode;
	uint16_t flags;
	uint16_t credits; /* reply: how many requests the server takes at a time on this connection */
	uint32_t status;  /* wire status of a reply; 0 = done */
	uint64_t xid;     /* chosen by the asker; the reply has the same */
	uint64_t session; /* 0: none */
	uint32_t slot, seq;
	uint32_t body_len, bulk_len;
	uint64_t log_index;     /* MDT replies: of the record that made this change, else of the last applied */
	uint64_t durable_index; /* MDT replies: up to here the log is on stable storage */
	uint32_t body_sum;      /* CRC32C */
};

/* Encode; computes the header's sum. body_sum is the caller's. */
void frame_encode(const struct frame_header *header, uint8_t out[FRAME_HEADER_SIZE]);

/*
 * Decode and check one header.
 * -EPROTO   not our magic, or a kind that does not exist
 * -EPROTONOSUPPORT  another version
 * -EBADMSG  the sum is wrong
 * -EMSGSIZE a length is over its bound
 */
int frame_decode(const uint8_t in[FRAME_HEADER_SIZE], struct frame_header *ret_header);

#endif
