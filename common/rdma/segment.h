/*
 * What one SEND carries: a segment, a small header and bytes of the connection's stream (the opening, then frames back to
 * back); and what both ends tell each other while they connect. Pure.
 *
 *     header (SEGMENT_HEADER_SIZE, little endian): kind 0 (u8), 0 (u8), returned 2 (u16), length 4 (u32) | bytes
 */
#ifndef STRAKE_COMMON_RDMA_SEGMENT_H
#define STRAKE_COMMON_RDMA_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SEGMENT_HEADER_SIZE 8
#define SEGMENT_SIZE        8192 /* of ours, header and all */
#define SEGMENT_SIZE_MIN    256
#define SEGMENT_SIZE_MAX    65536

enum segment_kind {
	SEGMENT_DATA = 1,
	SEGMENT_CREDIT = 2, /* only returns credits */
	SEGMENT_BYE = 3,    /* nothing comes after it */
};

struct segment_header {
	enum segment_kind kind;
	uint16_t returned; /* credits; credits.h */
	uint32_t length;   /* bytes that follow; none but in data */
};

void segment_encode(const struct segment_header *header, uint8_t out[SEGMENT_HEADER_SIZE]);

/* size: of the header and what came with it. -EPROTO: no such kind, or another length than there is. */
int segment_decode(const uint8_t *data, size_t size, struct segment_header *ret_header);

/* The private data of connecting and of accepting. */
#define GREETING_SIZE 16

struct greeting {
	uint16_t receives;     /* data segments that one may send before any credit is returned */
	uint32_t segment_size; /* the longest that may be sent to him */
	bool voids;            /* his answers void the keys of windows that requests show (preface.h) */
};

void greeting_encode(const struct greeting *greeting, uint8_t out[GREETING_SIZE]);

/*
 * -EPROTO           not ours, or numbers that nobody needs
 * -EPROTONOSUPPORT  of another version
 */
int greeting_decode(const void *data, size_t size, struct greeting *ret_greeting);

#endif
