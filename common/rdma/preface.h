/*
 * What stands before each frame in a connection's stream: where the memory is that belongs to its bulk. Pure.
 *
 *     flags 0 (u8): 1 apart, 2 an answer's place, 4 voidable; pieces 1 (u8); 0 (u16); 0 (u32) | pieces | place, if flags say so
 *     each of them: address 0 (u64), key 8 (u32), size 12 (u32); all little endian
 *
 * A request tells, in pieces, where its bulk can be read, and then does not bring it along (apart); and in what place the bulk
 * of its answer may be written. An answer that is apart has been written there, before it was sent. Voidable: the key of the place
 * or, if there is none, of the first piece is a window's, and is to be voided by the SEND that brings the answer, or one
 * before; whoever cannot do that has not said that he could (segment.h), or leaves it to who asked.
 */
#ifndef STRAKE_COMMON_RDMA_PREFACE_H
#define STRAKE_COMMON_RDMA_PREFACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PREFACE_PIECES   4
#define PREFACE_SIZE_MIN 8
#define PREFACE_SIZE_MAX (PREFACE_SIZE_MIN + 16 * (PREFACE_PIECES + 1))

struct remote_piece {
	uint64_t address;
	uint32_t key;
	uint32_t size; /* 0: there is none */
};

struct preface {
	bool apart, voidable;
	unsigned int piece_count;
	struct remote_piece pieces[PREFACE_PIECES];
	struct remote_piece place;
};

/* Returns its size. */
size_t preface_encode(const struct preface *preface, uint8_t out[PREFACE_SIZE_MAX]);

/* Of one that is voidable: the key. */
uint32_t preface_void_key(const struct preface *preface);

/* Of size bytes that have come. *ret_size: its size; ret_preface is right when that is not above size. -EPROTO. */
int preface_decode(const uint8_t *data, size_t size, struct preface *ret_preface, size_t *ret_size);

#endif
