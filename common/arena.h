/*
 * An arena: memory for one unpacked message, given out in order and freed at once. protobuf-c asks for a piece per
 * submessage and string; a message from a peer is bounded by it, however many pieces its bytes unfold into.
 *
 *   - first: memory of the caller's to begin with; more comes from malloc, up to max bytes in all.
 *   - No thread but one at a time.
 */
#ifndef STRAKE_COMMON_ARENA_H
#define STRAKE_COMMON_ARENA_H

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

struct arena_block;

struct arena {
	ProtobufCAllocator allocator; /* give &arena->allocator to protobuf-c; its free does nothing */
	uint8_t *next;                /* free memory: [next, end) */
	uint8_t *end;
	size_t left; /* of max */
	struct arena_block *blocks;
};

/*
 * Unpack a body that a peer sent: arena_init(), bounded by what so many bytes may unfold into. What it returns lies in
 * the arena. NULL: malformed, over the bound, or no memory; the arena is released then.
 */
ProtobufCMessage *arena_unpack(struct arena *arena, void *first, size_t first_size,
			       const ProtobufCMessageDescriptor *type, const uint8_t *data, size_t size);

/* The arena must not move from then on. first may be NULL with size 0; it is aligned for any type. */
void arena_init(struct arena *arena, void *first, size_t first_size, size_t max);
void arena_release(struct arena *arena); /* frees all that was given out; a second time is fine */

/* Aligned for any type. NULL: no memory, or over the bound. */
void *arena_alloc(struct arena *arena, size_t size);

#endif
